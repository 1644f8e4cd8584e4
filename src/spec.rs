//! The plan: what was asked for, parsed and already valid. Nothing below or beside checks it again.
//!
//! A plan comes from one of three doors: `fated run` makes a tree of one process in code, `fated up` reads a file,
//! `fated daemon` a folder of files. All floors above the core and the core itself see the same `TreeSpec`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use crate::name::{Name, NodeId, QueueId};
use crate::signal::Signal;
use crate::time::{Duration, Limit};

/// The stop timeout where nothing is written.
pub const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The start timeout where nothing is written.
pub const DEFAULT_START_TIMEOUT: Duration = Duration::from_secs(90);

/// The largest number of process nodes in one tree.
pub const PROCESSES_MAX: usize = 100_000;

/// The largest number of instances of one process.
pub const INSTANCES_MAX: u32 = 10_000;

/// The deepest nesting of groups, the root not counted.
pub const GROUP_DEPTH_MAX: usize = 32;

/// The longest message that a packet-mode pipe takes whole, in bytes (PIPE_BUF on Linux).
pub const PIPE_MESSAGE_MAX: usize = 4096;

/// One tree. `nodes[0]` is the root group; a parent stands before its children, and siblings in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeSpec {
    pub name: Name,
    pub door: Door,
    pub nodes: Vec<NodeSpec>,
    pub queues: Vec<QueueSpec>,
    /// What becomes of descendants that match no node, once all nodes have ended.
    pub strays: Leftovers,
    /// How strays are asked to stop, under `Leftovers::Stop`.
    pub stray_stop: StopPlan,
    /// Received signals that are rewritten before they are acted on; `None` drops one. At most one entry a signal.
    pub signal_map: Vec<(Signal, Option<Signal>)>,
}

impl TreeSpec {
    pub fn node(&self, id: NodeId) -> &NodeSpec {
        &self.nodes[id.index()]
    }

    pub fn root(&self) -> &NodeSpec {
        &self.nodes[0]
    }

    /// Ids of all nodes, parents first.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// The process nodes with their specifications.
    pub fn processes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &ProcessSpec)> {
        self.ids().filter_map(|id| self.node(id).process().map(|process| (id, process)))
    }

    /// Direct members of a group, in the order of the file.
    pub fn members(&self, group: NodeId) -> impl DoubleEndedIterator<Item = NodeId> + '_ {
        self.ids().filter(move |id| self.node(*id).parent == Some(group))
    }
}

/// Which command made the tree; the meaning of signals and of the exit status follows from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Door {
    Run(RunDoor),
    Up,
}

/// What only `fated run` knows.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RunDoor {
    /// Pass signals to the command's whole process group.
    pub signal_group: bool,
    /// After a lifetime ended the command, exit with its own status.
    pub preserve_status: bool,
}

/// One group or process (or one instance of a process).
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSpec {
    /// `pool/worker.2`; the root group's is empty.
    pub path: String,
    /// `None` for the root alone.
    pub parent: Option<NodeId>,
    /// What has to be ready before it starts and to outlive it in a stop. Never an ancestor or a descendant; no cycle.
    pub after: Vec<NodeId>,
    pub fate: Fate,
    pub restart: RestartPolicy,
    /// The longest life of one incarnation.
    pub lifetime: Option<Duration>,
    pub kind: NodeKind,
}

impl NodeSpec {
    pub fn process(&self) -> Option<&ProcessSpec> {
        match &self.kind {
            NodeKind::Process(process) => Some(process),
            NodeKind::Group(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum NodeKind {
    Group(GroupSpec),
    Process(Box<ProcessSpec>),
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct GroupSpec {
    /// A written `stop_timeout`: once the group is being stopped for so long, whatever is left of it is killed.
    /// Unwritten, its members' own timeouts bound the stop.
    pub stop_budget: Option<Limit>,
    pub strategy: Strategy,
    /// Restarts of direct members, counted together; `None`: each counts for itself alone.
    pub intensity: Option<Intensity>,
}

/// What the end of a node means to the group that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    pub on_success: Consequence,
    pub on_failure: Consequence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Consequence {
    /// The group ends: its other members are stopped, then the group itself has ended.
    End,
    /// The group goes on without it.
    Ignore,
    /// It is started again, after a delay, within its limits; past them this is `End`.
    Restart,
}

/// How a node is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Before the first restart; doubled for each one that follows, up to `delay_max`.
    pub delay: Duration,
    pub delay_max: Duration,
    /// The node's own restarts within its window.
    pub intensity: Intensity,
    /// A run this long resets the delay.
    pub healthy_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(100),
            delay_max: Duration::from_secs(30),
            intensity: Intensity { limit: 5, window: Duration::from_secs(30) },
            healthy_after: Duration::from_secs(10),
        }
    }
}

/// So many restarts in so long a time are tolerated; one more is one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    pub limit: u32,
    pub window: Duration,
}

/// What a restart of a member takes along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Nothing.
    #[default]
    One,
    /// The members that stand after it in the order of start.
    Rest,
    /// All members.
    All,
}

/// When what is `after` a process may start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// Its program runs.
    #[default]
    Started,
    /// It has ended with success: a one-shot step.
    Exited,
    /// It sent READY=1 to NOTIFY_SOCKET.
    Notify,
    /// It wrote a newline to this descriptor, which it is given as a pipe.
    Descriptor(i32),
    /// A connection to this address is taken.
    Tcp(core::net::SocketAddr),
    /// This command ends with success; tried again until it does.
    Exec(Vec<OsString>),
}

/// The clock that a lifetime is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LifetimeClock {
    /// Stands still while the machine sleeps.
    #[default]
    Monotonic,
    /// Goes on while the machine sleeps.
    Boottime,
}

/// Everything that is needed to start one process, except what differs from one life of it to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessSpec {
    /// The program and its arguments; not empty; no NUL byte in any.
    pub command: Vec<OsString>,
    /// The variables that it shares with others, in the order in which they came.
    pub shared_env: Arc<Vec<EnvVar>>,
    /// Its own variables; they win over the shared ones.
    pub own_env: Vec<EnvVar>,
    /// `None`: fated's own.
    pub cwd: Option<PathBuf>,
    /// From 1.
    pub instance: u32,
    /// Started with its group; else only on request.
    pub autostart: bool,
    /// Exit codes that count as success.
    pub success: Vec<u8>,
    pub stop: StopPlan,
    pub parent_death_signal: Option<Signal>,
    pub ready: Readiness,
    /// How long readiness may be waited for, where there is one to wait for.
    pub start_timeout: Limit,
    /// The longest silence of a process that said it would speak; `None`: it need not.
    pub watchdog: Option<Duration>,
    /// Run to stop it, instead of the stop signal.
    pub stop_command: Option<Vec<OsString>>,
    pub lifetime_clock: LifetimeClock,
    pub leftovers: Leftovers,
    pub stdin: Input,
    pub stdout: Output,
    pub stderr: Output,
    /// In the order of their names; the descriptors are numbered in this order.
    pub queues: Vec<QueueUse>,
    pub session: Session,
    /// Signals that stay ignored in it.
    pub ignored_signals: Vec<Signal>,
}

impl ProcessSpec {
    /// Whether this way of ending counts as success.
    pub fn is_success(&self, status: crate::exit::ExitStatus) -> bool {
        match status {
            crate::exit::ExitStatus::Code(code) => self.success.contains(&code),
            crate::exit::ExitStatus::Signaled { .. } => false,
        }
    }

    /// The descriptors that a life of it has beyond 0, 1 and 2, numbered from 3: the supervisor's pidfd, then for each
    /// queue the end to put to, then the end to get from. The one that readiness is written to has the number that was
    /// asked for; the others leave it out, and have no gap besides.
    pub fn descriptors(&self) -> impl Iterator<Item = (i32, Descriptor)> + '_ {
        let ends = self.queues.iter().flat_map(|usage| {
            let put = usage.put.then_some(Descriptor::Queue(usage.queue, QueueEnd::Put));
            let get = usage.get.then_some(Descriptor::Queue(usage.queue, QueueEnd::Get));
            put.into_iter().chain(get)
        });
        let ready = match self.ready {
            Readiness::Descriptor(number) => Some(number),
            Readiness::Started | Readiness::Exited | Readiness::Notify | Readiness::Tcp(_) | Readiness::Exec(_) => None,
        };
        let numbers = (3..).filter(move |number| Some(*number) != ready);
        numbers
            .zip(core::iter::once(Descriptor::SupervisorPidfd).chain(ends))
            .chain(ready.map(|number| (number, Descriptor::Readiness)))
    }

    /// Whether it is told where to send notifications.
    pub fn notifies(&self) -> bool {
        self.ready == Readiness::Notify || self.watchdog.is_some()
    }
}

/// A descriptor that a process is given beyond 0, 1 and 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptor {
    SupervisorPidfd,
    Queue(QueueId, QueueEnd),
    /// A pipe that a newline is written to once it is ready.
    Readiness,
}

/// A variable and its value; neither has a NUL byte, the name no `=`.
pub type EnvVar = (OsString, OsString);

/// How a process is stopped: the signal, and SIGKILL for everything left of it after the timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopPlan {
    pub signal: Signal,
    /// For the main process and its leftovers together; zero kills at once.
    pub timeout: Limit,
}

/// What becomes of descendants that outlive the main process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leftovers {
    /// They are asked to stop, then killed.
    Stop,
    /// Their end is waited for.
    Wait,
    /// They are left to the tree; at the tree's end: left alone.
    Ignore,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Null,
    Inherit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Inherit,
    Null,
    /// Whole lines, the node's name before each, through fated to its own stdout or stderr.
    Prefix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// A session of its own.
    Own,
    /// fated's session; a process group of its own, in the terminal's foreground if fated was.
    Terminal,
}

/// The queue ends that a process is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueUse {
    pub queue: QueueId,
    pub put: bool,
    pub get: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueEnd {
    /// Where messages go in.
    Put,
    /// Where they come out.
    Get,
}

/// A kernel queue that processes share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    pub name: Name,
    pub transport: Transport,
    /// Kernel buffer in bytes, as asked for; the kernel may clamp it.
    pub capacity: u64,
    /// The longest message in bytes; at least 1.
    pub message_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// An AF_UNIX SOCK_SEQPACKET pair.
    Seqpacket,
    /// A pipe in packet mode.
    Pipe,
}
