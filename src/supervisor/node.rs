//! The states of a process and of a group.
//!
//! A process *waits* until its group is active and what it is `after` is ready. It is *starting* from the clone until
//! its exec is done, then *running*. When its main process ends by itself and `leftovers = "wait"`, it is *lingering*
//! until the last descendant has gone. It is *stopping* once a stop signal was sent, to it or to its leftovers; when the
//! patience is over everything of it is killed, and when even that does not end it within a bound it is given up. When
//! nothing of it is left it *backs off*, to wait again after that, or has *ended* for as long as its group lives.
//!
//! A group *waits* for what it is `after`, is *active* while its members live by their own rules, is *falling* once it
//! was decided that it ends (by a member's fate, its lifetime, or a fall above it). When each of its members has ended
//! it *backs off* as a process does, or has *ended*.

use std::collections::VecDeque;

use crate::exit::ExitStatus;
use crate::name::Incarnation;
use crate::supervisor::record::Cause;
use crate::time::{Duration, Monotonic};

/// How long something that was sent SIGKILL may take to go before it is given up as unkillable.
pub const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// One life of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    pub inc: Incarnation,
    /// `None` until the clone was reported.
    pub pid: Option<u32>,
    pub since: Monotonic,
    /// When its lifetime is over.
    pub expires: Option<Monotonic>,
    /// Whether it has been ready, in the way that its plan says.
    pub ready: bool,
    /// When it has to be ready; `None` where nothing is waited for (any longer).
    pub ready_by: Option<Monotonic>,
    pub watchdog: Option<Watchdog>,
}

/// How long a process may keep silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog {
    pub every: Duration,
    /// `None` until it is ready: then the silence begins to count.
    pub until: Option<Monotonic>,
}

impl Life {
    /// The earliest deadline of a life whose main process runs.
    pub fn deadline(&self) -> Option<Monotonic> {
        let watchdog = self.watchdog.and_then(|watchdog| watchdog.until);
        [self.expires, self.ready_by, watchdog].into_iter().flatten().min()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum ProcessState {
    Waiting,
    Starting {
        life: Life,
    },
    Running {
        life: Life,
    },
    /// The main process has ended by itself with this outcome; its descendants are waited for.
    Lingering {
        life: Life,
        main: ExitStatus,
        outcome: Outcome,
    },
    Stopping {
        life: Life,
        main: Main,
        patience: Patience,
        outcome: Outcome,
    },
    /// It has no life and gets one at `until`; `None`: together with the others of its round.
    BackingOff {
        until: Option<Monotonic>,
    },
    Ended(Ended),
}

/// Whether the main process of a stopping process still lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Main {
    Alive,
    Gone(ExitStatus),
}

/// How far a stop has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Asked to stop; killed at `until`. `by_command`: its stop command runs, and the signal follows if that fails.
    Asked { until: Option<Monotonic>, by_command: bool },
    /// Sent SIGKILL; given up at `until`. `overdue`: because the stop timeout had passed.
    Killed { until: Monotonic, overdue: bool },
}

/// What an end will mean to the group around: known before the end is complete.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Success(Cause),
    Failure(Cause),
    /// It ends because something else does, or was never started: no consequence.
    Collateral,
    /// Its fate was drawn while something of it still lived: it is started again, at `until` or with its round.
    Again {
        until: Option<Monotonic>,
    },
}

impl Outcome {
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Success(cause) | Self::Failure(cause) => Some(cause),
            Self::Collateral | Self::Again { .. } => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    pub at: Monotonic,
    pub outcome: Outcome,
    pub last: LastLife,
}

/// What became of the last life.
#[derive(Clone, Debug, PartialEq)]
pub enum LastLife {
    /// There was none.
    None,
    /// It could not begin.
    StartFailed,
    /// It ended; `killed`: something of it had to be killed after its stop timeout.
    Over { status: ExitStatus, killed: bool },
    /// It was given up, its main process with or without a status.
    Unkillable,
}

impl ProcessState {
    /// The life that it is in; `None` before the first, between two and after the last.
    pub fn life(&self) -> Option<&Life> {
        match self {
            Self::Starting { life }
            | Self::Running { life }
            | Self::Lingering { life, .. }
            | Self::Stopping { life, .. } => Some(life),
            Self::Waiting | Self::BackingOff { .. } | Self::Ended(_) => None,
        }
    }

    pub fn life_mut(&mut self) -> Option<&mut Life> {
        match self {
            Self::Starting { life }
            | Self::Running { life }
            | Self::Lingering { life, .. }
            | Self::Stopping { life, .. } => Some(life),
            Self::Waiting | Self::BackingOff { .. } | Self::Ended(_) => None,
        }
    }

    /// The instant at which this state must change if nothing else happens.
    pub fn deadline(&self) -> Option<Monotonic> {
        match self {
            Self::Starting { life } | Self::Running { life } => life.deadline(),
            Self::Lingering { life, .. } => life.expires,
            Self::Stopping { patience, .. } => match patience {
                Patience::Asked { until, .. } => *until,
                Patience::Killed { until, .. } => Some(*until),
            },
            Self::BackingOff { until } => *until,
            Self::Waiting | Self::Ended(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum GroupState {
    Waiting,
    Active {
        since: Monotonic,
        expires: Option<Monotonic>,
        round: Option<Round>,
    },
    Falling {
        /// What its end will mean one level up.
        outcome: Outcome,
        budget: Budget,
    },
    /// All that is in it has ended, and all is started again at `until`; `None`: together with the others of its round.
    BackingOff {
        until: Option<Monotonic>,
    },
    Ended(Outcome),
}

/// A restart that takes others along: they are stopped, and when nothing of them is left and the delay is over, all are
/// started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// The place in the order of start of the first member that it takes along; it takes all that follow.
    pub from: u32,
    /// `None` once the delay is over.
    pub until: Option<Monotonic>,
    /// Members in it that have not come to rest.
    pub pending: u32,
}

/// How long the whole fall of a group may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// Whatever is left is killed then; `None`: its members' own timeouts bound it.
    Until(Option<Monotonic>),
    Spent,
}

impl GroupState {
    pub fn deadline(&self) -> Option<Monotonic> {
        match self {
            Self::Active { expires, round, .. } => {
                [*expires, round.and_then(|round| round.until)].into_iter().flatten().min()
            }
            Self::BackingOff { until } => *until,
            Self::Falling { budget: Budget::Until(until), .. } => *until,
            Self::Falling { budget: Budget::Spent, .. } | Self::Waiting | Self::Ended(_) => None,
        }
    }
}

/// A node as the core keeps it: its state, and counts that are derived from its neighbours' states and kept beside
/// them so that one death costs the same among ten nodes and ten thousand.
#[derive(Clone, Debug)]
pub struct Node {
    pub state: State,
    /// It is ready, or has ended for good: nothing that is `after` it waits for it.
    pub passed: bool,
    /// When the last cause that names it arose, by the core's count of causes.
    pub caused: u64,
    /// Entries of its `after` that have not passed.
    pub awaited: u32,
    /// Processes in it (itself included) that have a life.
    pub live: u32,
    /// Nodes `after` it with `live` above zero.
    pub live_dependants: u32,
    /// Groups in it (itself included) that fall or are in a round: something in it may be waiting to be stopped.
    pub unquiet: u32,
    /// Group: direct members that have not ended.
    pub open_members: u32,
    /// Group: direct members that have not passed.
    pub unpassed_members: u32,
    /// Process: for each entry of its `queues` whether it may still use it.
    pub holds: Vec<bool>,
    pub history: History,
}

/// The restarts of a node in the life of its group.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Its own, in its window.
    pub own: VecDeque<Monotonic>,
    /// Group: those of its members, in the window of the group.
    pub members: VecDeque<Monotonic>,
    /// How often the delay was doubled.
    pub doublings: u32,
}

#[derive(Clone, Debug)]
pub enum State {
    Process(ProcessState),
    Group(GroupState),
}

impl State {
    pub fn deadline(&self) -> Option<Monotonic> {
        match self {
            Self::Process(process) => process.deadline(),
            Self::Group(group) => group.deadline(),
        }
    }
}
