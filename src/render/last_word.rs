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
    // What is stopped because of a process's end are others; what is stopped on request is everything.
    let others = match summary.cause.how {
        How::Exited { .. } | How::StartFailed(_) | How::Lifetime { .. } => true,
        How::Requested { .. } | How::TieBroken(_) | How::AllEnded => false,
    };
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
