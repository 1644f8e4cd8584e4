//! What happened and was worth telling: the log, the last word and later the event stream and the post-mortem are
//! renderings of these.

use crate::exit::{ExitStatus, Verdict};
use crate::name::{Incarnation, NodeId, QueueId};
use crate::signal::Signal;
use crate::spec::QueueEnd;
use crate::start::StartError;
use crate::supervisor::event::Tie;
use crate::supervisor::node::Main;
use crate::time::{Duration, Monotonic};

#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub at: Monotonic,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The process was created.
    Spawned {
        inc: Incarnation,
        pid: u32,
    },
    /// Its program runs.
    Started {
        inc: Incarnation,
        pid: u32,
    },
    StartFailed {
        inc: Incarnation,
        error: StartError,
    },
    /// The stop plan of a process began: the signal went to its main process, or to its leftovers if that has gone.
    Stopping {
        inc: Incarnation,
        signal: Signal,
        main: Main,
    },
    /// The main process has ended. `age`: since its start. Without a pid it was stopped before it was created.
    Exited {
        inc: Incarnation,
        pid: Option<u32>,
        status: ExitStatus,
        age: Duration,
        leftovers: bool,
    },
    /// SIGKILL was sent. `overdue`: because the stop timeout had passed; else because the plan has no patience.
    Killing {
        inc: Incarnation,
        overdue: bool,
    },
    /// Nothing of the process is left after leftovers had been.
    Emptied {
        inc: Incarnation,
    },
    /// What could not be killed within the bound is given up.
    Unkillable {
        inc: Incarnation,
    },
    /// A group begins to fall.
    GroupFalling {
        group: NodeId,
        because: Cause,
    },
    GroupEnded {
        group: NodeId,
    },
    /// Strays are asked to stop or killed at the tree's end.
    StraysStopping {
        signal: Signal,
    },
    StraysKilled,
    StraysUnkillable,
    QueueClosed {
        queue: QueueId,
        end: QueueEnd,
    },
    /// A signal that means nothing here was received.
    SignalIgnored {
        signal: Signal,
    },
    /// A signal was passed on to the command.
    SignalPassed {
        signal: Signal,
    },
    /// A repeated interrupt shortened every stop timeout, or killed.
    Hastened {
        killing: bool,
    },
    TreeEnded(Summary),
}

/// Why something ended or was ended: the head of a fall.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    pub at: Monotonic,
    /// The node that it happened to; the root for what came from outside.
    pub node: NodeId,
    pub how: How,
}

#[derive(Clone, Debug, PartialEq)]
pub enum How {
    /// A process ended by itself. `age`: since its start.
    Exited {
        status: ExitStatus,
        age: Duration,
    },
    StartFailed(StartError),
    /// The node's lifetime ran out.
    Lifetime {
        limit: Duration,
    },
    /// A signal to fated asked for it.
    Requested {
        signal: Signal,
    },
    TieBroken(Tie),
    /// A group's members have all ended.
    AllEnded,
}

/// The whole life of a tree, told at its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// From the tree's start to its end.
    pub lasted: Duration,
    pub cause: Cause,
    /// From the cause to the end.
    pub fall: Duration,
    /// Processes other than the cause that were stopped because of it.
    pub stopped: u32,
    /// Of these (and the cause's own leftovers), how many were killed after their stop timeout.
    pub killed: u32,
    /// Whether strays had to be stopped.
    pub strays: bool,
    /// Nodes that could not be killed.
    pub unkillable: Vec<NodeId>,
    pub verdict: Verdict,
}
