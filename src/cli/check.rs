//! `fated check`.

use std::io::{self, Write};

use crate::cli::args::CheckArgs;
use crate::cli::plan::{Entry, default_file, of_file};
use crate::config::diagnostic::{Diagnostics, quoted, visible};
use crate::config::keys;
use crate::config::resolve::Overrides;
use crate::exit::Verdict;
use crate::render::check::Check;
use crate::spec::{QueueSpec, Transport};
use crate::sys::socket;

/// Checks every file, or explains a key; plans and explanations go to `out`, errors and warnings to `err`.
///
/// # Errors
/// Writing failed.
pub fn check(args: &CheckArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Verdict> {
    if let Some(key) = &args.explain {
        return explain(key, out, err);
    }
    // What is ignored makes no difference to what is printed.
    let entry = match Entry::of_this_process() {
        Ok(entry) => entry,
        Err(errors) => return failed(&errors, err),
    };
    let files = match (args.files.is_empty(), default_file(&entry.directory)) {
        (false, _) => args.files.clone(),
        (true, Ok(file)) => vec![file],
        (true, Err(errors)) => return failed(&errors, err),
    };
    let mut verdict = Verdict::SUCCESS;
    for (index, path) in files.iter().enumerate() {
        match of_file(path, entry.clone(), &Overrides::default()) {
            Err(errors) => verdict = failed(&errors, err)?,
            Ok(resolved) => {
                for warning in &resolved.warnings {
                    writeln!(err, "{warning} (warning)")?;
                }
                if index > 0 {
                    writeln!(out)?;
                }
                let granted = resolved.spec.queues.iter().map(granted).collect::<Vec<_>>();
                write!(out, "{}", Check { file: &path.to_string_lossy(), resolved: &resolved, granted: &granted })?;
            }
        }
    }
    Ok(verdict)
}

/// What the kernel makes of a queue's capacity for this user, found out by asking it for one.
fn granted(queue: &QueueSpec) -> Option<u64> {
    let ends = match queue.transport {
        Transport::Seqpacket => socket::queue_seqpacket(queue.capacity),
        Transport::Pipe => socket::queue_pipe(queue.capacity),
    };
    ends.ok().map(|ends| ends.capacity)
}

fn failed(errors: &Diagnostics, err: &mut dyn Write) -> io::Result<Verdict> {
    writeln!(err, "{errors}")?;
    Ok(Verdict::FAILED)
}

fn explain(key: &str, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Verdict> {
    match keys::explain(key) {
        Ok(text) => {
            out.write_all(text.as_bytes())?;
            Ok(Verdict::SUCCESS)
        }
        Err(nearest) => {
            write!(err, "fated: no key of the tree file is called {}", quoted(key))?;
            match nearest {
                Some(nearest) => writeln!(err, "; did you mean `{}`?", visible(nearest))?,
                None => writeln!(err)?,
            }
            Ok(Verdict::FAILED)
        }
    }
}
