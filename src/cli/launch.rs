//! `fated run` and `fated up`: from the arguments to a running tree.

use std::io::{self, Write};

use log::LevelFilter;

use crate::cli::args::{RunArgs, UpArgs};
use crate::cli::plan::{self, Entry, Options};
use crate::config::diagnostic::Diagnostics;
use crate::daemon::{self, log_buffer};
use crate::exit::Verdict;
use crate::spec::{Session, TreeSpec};
use crate::sys::{entry, stdio, tty};

/// Runs one command to its end.
pub fn run(args: RunArgs) -> Verdict {
    // On a terminal the command stays in its session, so that it keeps the keyboard.
    let on_terminal = [stdio::stdin(), stdio::stdout(), stdio::stderr()].into_iter().any(tty::is_tty);
    let session = if on_terminal && tty::has_controlling_terminal() { Session::Terminal } else { Session::Own };
    let (spec, options) = plan::of_run(args, session, std::env::vars_os().collect(), entry::ignored_at_entry());
    launch(spec, options)
}

/// Runs a declared tree to its end.
pub fn up(args: &UpArgs) -> Verdict {
    let planned = Entry::of_this_process().and_then(|entry| plan::of_up(args, entry));
    match planned {
        Ok((resolved, options)) => {
            for warning in &resolved.warnings {
                complain(&format!("fated: warning: {warning}\n"));
            }
            launch(resolved.spec, options)
        }
        Err(errors) => refuse(&errors),
    }
}

fn refuse(errors: &Diagnostics) -> Verdict {
    complain(&format!("{errors}\nfated: nothing was started\n"));
    Verdict::FAILED
}

fn launch(spec: TreeSpec, options: Options) -> Verdict {
    log_buffer::init(level(options.verbosity));
    let options = daemon::Options {
        die_with_parent: options.die_with_parent,
        watch_pids: options.watch_pids,
        watch_fds: options.watch_fds,
        guard: options.guard,
    };
    let verdict = daemon::run(spec, &options).unwrap_or_else(|error| {
        log::error!("{error}");
        Verdict::FAILED
    });
    log_buffer::flush();
    verdict
}

/// How much is logged, from the steps that `-q` and `-v` count.
fn level(verbosity: i16) -> LevelFilter {
    match verbosity {
        ..=-2 => LevelFilter::Error,
        -1 => LevelFilter::Warn,
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        2.. => LevelFilter::Trace,
    }
}

fn complain(text: &str) {
    // Where stderr takes nothing the exit status still tells.
    let _ = io::stderr().write_all(text.as_bytes());
}
