//! Log lines from records.

use super::last_word;
use crate::exit::Verdict;
use crate::name::Incarnation;
use crate::spec::{Door, QueueEnd, TreeSpec};
use crate::supervisor::node::Main;
use crate::supervisor::record::{Record, What};
use crate::time::Span;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// The line for a record, and how much it matters; `None` for what is only for machines.
pub fn line(spec: &TreeSpec, record: &Record) -> Option<(Level, String)> {
    let path = |inc: &Incarnation| spec.node(inc.node).path.as_str();
    let is_run = matches!(spec.door, Door::Run(_));
    let info = if is_run { Level::Debug } else { Level::Info };
    Some(match &record.what {
        What::Spawned { .. } => return None,
        What::Started { inc, pid } => (Level::Debug, format!("{} runs as process {pid}", path(inc))),
        What::StartFailed { inc, error } => (Level::Error, format!("{}: {error}", path(inc))),
        What::Stopping { inc, signal, main: Main::Alive } => {
            (Level::Debug, format!("{signal} was sent to {}", path(inc)))
        }
        What::Stopping { inc, signal, main: Main::Gone(_) } => {
            (info, format!("{signal} was sent to what {} has left behind", path(inc)))
        }
        What::Exited { inc, pid: None, .. } => (Level::Debug, format!("{} was stopped before it ran", path(inc))),
        What::Exited { inc, pid: Some(pid), status, age, leftovers } => {
            let left = if *leftovers { ", leaving descendants behind" } else { "" };
            (info, format!("{} (process {pid}) {status} after {}{left}", path(inc), Span(*age)))
        }
        What::Killing { inc, overdue: true } => {
            (Level::Warn, format!("{} outlived its stop timeout and was sent SIGKILL", path(inc)))
        }
        What::Killing { inc, overdue: false } => (Level::Debug, format!("SIGKILL was sent to {}", path(inc))),
        What::Emptied { inc } => (Level::Debug, format!("nothing is left of {}", path(inc))),
        What::Unkillable { inc } => {
            (Level::Error, format!("{} was sent SIGKILL and does not end; giving it up", path(inc)))
        }
        What::GroupFalling { group, because } => {
            let name = match spec.node(*group).path.as_str() {
                "" => spec.name.as_str(),
                path => path,
            };
            (info, format!("stopping {name}: {}", last_word::cause(spec, because)))
        }
        What::GroupEnded { group } => match spec.node(*group).path.as_str() {
            "" => return None,
            path => (Level::Debug, format!("group {path} has ended")),
        },
        What::StraysStopping { signal } => {
            (Level::Warn, format!("{signal} was sent to descendants that belong to no node"))
        }
        What::StraysKilled => (Level::Warn, "SIGKILL was sent to descendants that belong to no node".to_owned()),
        What::StraysUnkillable => {
            (Level::Error, "descendants that belong to no node were sent SIGKILL and do not end".to_owned())
        }
        What::QueueClosed { queue, end } => {
            let way = match end {
                QueueEnd::Put => "writing",
                QueueEnd::Get => "reading",
            };
            (Level::Debug, format!("queue {} is closed for {way}", spec.queues[queue.index()].name))
        }
        What::SignalIgnored { signal } => (Level::Info, format!("{signal} has no meaning here and was dropped")),
        What::SignalPassed { signal } => (Level::Debug, format!("{signal} was passed on")),
        What::Hastened { killing: false } => {
            (Level::Info, "every stop timeout is shortened to 1s; once more kills".to_owned())
        }
        What::Hastened { killing: true } => (Level::Info, "killing what is left".to_owned()),
        What::TreeEnded(summary) => {
            let level = match (last_word::is_notable(spec, summary), summary.verdict) {
                (_, Verdict::UNKILLABLE) => Level::Error,
                (true, _) => Level::Info,
                (false, _) => Level::Debug,
            };
            (level, last_word::sentence(spec, summary))
        }
    })
}
