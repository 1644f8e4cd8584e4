//! Everything that the core asks of the kernel side.

use crate::exit::Verdict;
use crate::name::{Incarnation, QueueId};
use crate::signal::Signal;
use crate::spec::QueueEnd;
use crate::supervisor::record::Record;

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start a new life. Answered by `Spawned` then `Started`, or by `StartFailed`.
    Start { inc: Incarnation },
    /// Find out when the process is ready in the way its plan says (descriptor, connection, command); answered by `Ready`.
    /// Withdrawn by the end of the life or of its main process.
    AwaitReady { inc: Incarnation },
    /// Run the stop command of the plan beside the process, with the process's environment and `MAINPID`; answered by
    /// `StopCommandEnded`. Its end is waited for no longer than the life lasts.
    RunStopCommand { inc: Incarnation },
    /// Send a signal; a process that has gone meanwhile is no error.
    Signal { inc: Incarnation, signal: Signal, scope: Scope },
    /// SIGCONT for those in the scope that are stopped, so that they can act on a stop signal.
    Wake { inc: Incarnation, scope: Scope },
    /// SIGKILL: `Scope::Everything` goes on until no descendant is found, `Scope::Main` is the main process alone.
    Kill { inc: Incarnation, scope: Scope },
    /// Look for descendants that belong to no node (an incarnation that was `release`d belongs to none). Answered by `Strays`.
    FindStrays,
    /// Send a signal to every stray; SIGCONT follows for those that are stopped.
    SignalStrays { signal: Signal },
    /// SIGKILL for every stray, until none is found. `Strays { any: false }` follows once none is left.
    KillStrays,
    /// The node counts as ended while descendants of this incarnation live on: from now on they are strays.
    Release { inc: Incarnation },
    /// No process will use this end of the queue any more: let the other end see it.
    CloseQueue { queue: QueueId, end: QueueEnd },
    /// Make the queue anew, empty and with both ends open: whoever used it has ended, and is about to be started again.
    RenewQueue { queue: QueueId },
    /// Follow the tree into a job-control stop: stop fated itself as well.
    Suspend,
    /// Something worth telling; log, event stream and post-mortem are made from these.
    Record(Record),
    /// The tree has ended; the last command.
    End { verdict: Verdict },
}

/// Whom a signal goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The main process.
    Main,
    /// The main process's whole process group.
    Group,
    /// What has outlived the main process.
    Leftovers,
    /// The main process and all its descendants.
    Everything,
}
