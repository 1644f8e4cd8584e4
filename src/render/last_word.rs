//! The last word on a tree: the first cause and what followed from it.

use core::fmt::Write;

use crate::signal::Signal;
use crate::spec::{Door, TreeSpec};
use crate::supervisor::event::Tie;
use crate::supervisor::record::{Cause, How, Summary};
use crate::time::Span;

/// One sentence, without a full stop: `pipeline ended after 3.2s: pool/worker.2 was killed by SIGSEGV; 5 others stopped
/// in 41ms, 1 of them killed after its stop timeout`.
pub fn sentence(spec: &TreeSpec, summary: &Summary) -> String {
    let mut text = format!("{} ended after {}: {}", spec.name, Span(summary.lasted), cause(spec, &summary.cause));
    let fall = Span(summary.fall);
    // What is stopped because of a process are others; what is stopped because of anything else is everything.
    let others = spec.node(summary.cause.node).process().is_some();
    let noun = match (others, summary.stopped) {
        (true, 1) => "other",
        (true, _) => "others",
        (false, 1) => "process",
        (false, _) => "processes",
    };
    match (summary.stopped, summary.killed) {
        (0, 0) => {}
        (0, _) => {
            let _ = write!(text, "; what was left of it was killed after its stop timeout, {fall} later");
        }
        (stopped, 0) => {
            let _ = write!(text, "; {stopped} {noun} stopped in {fall}");
        }
        (stopped, killed) => {
            let its = if killed == 1 { "its" } else { "their" };
            let _ =
                write!(text, "; {stopped} {noun} stopped in {fall}, {killed} of them killed after {its} stop timeout");
        }
    }
    if summary.strays {
        text.push_str("; descendants that had left their process were ended with the tree");
    }
    for node in &summary.unkillable {
        let _ = write!(text, "; {} could not be killed", spec.node(*node).path);
    }
    text
}

/// Whether the end is worth a line of its own by default: for `run`, not when the command just ended, or could not be
/// started, which was said already.
pub fn is_notable(spec: &TreeSpec, summary: &Summary) -> bool {
    let plain = matches!(summary.cause.how, How::Exited { .. } | How::StartFailed(_))
        && summary.stopped == 0
        && summary.killed == 0
        && !summary.strays
        && summary.unkillable.is_empty();
    match spec.door {
        Door::Run(_) => !plain,
        Door::Up => true,
    }
}

/// A clause: `pool/worker.2 was killed by SIGSEGV`, `the lifetime of 8h was over`.
pub fn cause(spec: &TreeSpec, cause: &Cause) -> String {
    let path = &spec.node(cause.node).path;
    match &cause.how {
        How::Exited { status, .. } => format!("{path} {status}"),
        How::StartFailed(error) => format!("{path} {error}"),
        How::Lifetime { limit } if path.is_empty() => format!("its lifetime of {} was over", Span(*limit)),
        How::Lifetime { limit } => format!("the lifetime of {path}, {}, was over", Span(*limit)),
        How::Requested { signal: Signal::INT } => "interrupted (SIGINT)".to_owned(),
        How::Requested { signal } => format!("{signal} asked for it"),
        How::TieBroken(tie) => broken(tie),
        How::AllEnded if path.is_empty() => "all of its processes have ended".to_owned(),
        How::AllEnded => format!("all processes of {path} have ended"),
    }
}

fn broken(tie: &Tie) -> String {
    match tie {
        Tie::Launcher { pid } => format!("its launcher (process {pid}) has ended"),
        Tie::Guard => "its guard was killed".to_owned(),
        Tie::Pid { pid } => format!("the watched process {pid} has ended"),
        Tie::Descriptor { fd } => format!("the watched descriptor {fd} was hung up"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::resolve::{Overrides, Surroundings, resolve};
    use crate::config::tree_file::TreeFile;
    use crate::exit::{ExitStatus, Verdict};
    use crate::name::{Name, NodeId};
    use crate::start::{Errno, Stage, StartError};
    use crate::time::{Duration, Monotonic};

    fn plan() -> TreeSpec {
        let text = "[process.web]\ncommand = 'web'\n[group.pool]\n[process.worker]\ncommand = 'w'\ngroup = 'pool'\n";
        let surroundings = Surroundings {
            env: Vec::new(),
            directory: "/".into(),
            default_name: Name::lossy("pipeline"),
            env_files: BTreeMap::new(),
        };
        let file = TreeFile::parse("t.toml", text).unwrap();
        resolve(&file, &surroundings, &Overrides::default()).unwrap().spec
    }

    fn summary(spec: &TreeSpec, path: &str, how: How) -> Summary {
        let node = spec.ids().find(|id| spec.node(*id).path == path).unwrap_or(NodeId::ROOT);
        Summary {
            lasted: Duration::from_millis(3_240),
            cause: Cause { at: Monotonic::ORIGIN, node, how },
            fall: Duration::from_millis(41),
            stopped: 0,
            killed: 0,
            strays: false,
            unkillable: Vec::new(),
            verdict: Verdict::SUCCESS,
        }
    }

    #[test]
    fn the_last_word_names_the_first_cause_and_what_followed() {
        let spec = plan();
        let segv = How::Exited {
            status: ExitStatus::Signaled { signal: Signal::SEGV, core_dumped: false },
            age: Duration::from_secs(3),
        };
        let missing = StartError { stage: Stage::Exec, errno: Errno::NOENT, object: "web".into() };
        let hour = Duration::from_secs(3_600);
        let table: [(&str, How, u32, u32, &str); 9] = [
            ("pool/worker", segv.clone(), 0, 0, "pool/worker was killed by SIGSEGV"),
            ("pool/worker", segv.clone(), 1, 0, "pool/worker was killed by SIGSEGV; 1 other stopped in 41ms"),
            (
                "pool/worker",
                segv.clone(),
                5,
                1,
                "pool/worker was killed by SIGSEGV; 5 others stopped in 41ms, 1 of them killed after its stop timeout",
            ),
            (
                "web",
                segv,
                0,
                1,
                "web was killed by SIGSEGV; what was left of it was killed after its stop timeout, 41ms later",
            ),
            ("web", How::StartFailed(missing), 0, 0, "web cannot execute web: no such file or directory"),
            ("", How::Lifetime { limit: hour }, 2, 0, "its lifetime of 1h was over; 2 processes stopped in 41ms"),
            ("pool", How::Lifetime { limit: hour }, 0, 0, "the lifetime of pool, 1h, was over"),
            ("", How::Requested { signal: Signal::TERM }, 1, 0, "SIGTERM asked for it; 1 process stopped in 41ms"),
            (
                "",
                How::TieBroken(Tie::Launcher { pid: 7 }),
                2,
                2,
                "its launcher (process 7) has ended; 2 processes stopped in 41ms, 2 of them killed after their stop timeout",
            ),
        ];
        for (path, how, stopped, killed, expected) in table {
            let summary = Summary { stopped, killed, ..summary(&spec, path, how) };
            assert_eq!(sentence(&spec, &summary), format!("pipeline ended after 3.2s: {expected}"));
            assert!(is_notable(&spec, &summary));
        }
    }

    #[test]
    fn strays_and_what_cannot_be_killed_are_named() {
        let spec = plan();
        let mut summary = summary(&spec, "", How::AllEnded);
        summary.strays = true;
        summary.unkillable = vec![NodeId(1)];
        let expected = "pipeline ended after 3.2s: all of its processes have ended; descendants that had left their \
                        process were ended with the tree; web could not be killed";
        assert_eq!(sentence(&spec, &summary), expected);
    }
}
