//! The tree as it is at one instant, for whoever asks.

use crate::name::{Incarnation, NodeId};
use crate::spec::TreeSpec;
use crate::supervisor::node::{GroupState, Node, ProcessState, State};
use crate::time::{Duration, Monotonic};

#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// How long the tree has run.
    pub age: Duration,
    pub nodes: Vec<NodeView>,
}

/// One node, in the order of `TreeSpec::nodes`.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    pub id: NodeId,
    pub path: String,
    pub phase: Phase,
    /// The life that it is in.
    pub inc: Option<Incarnation>,
    pub pid: Option<u32>,
    /// The time until its state must change, if nothing else happens.
    pub deadline: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Waiting,
    Starting,
    Running,
    /// A process whose main process has ended and whose descendants are waited for.
    Lingering,
    /// A process that is being stopped, a group that falls.
    Stopping,
    /// Between two lives.
    BackingOff,
    Ended,
}

pub(super) fn take(spec: &TreeSpec, nodes: &[Node], born: Monotonic, now: Monotonic) -> Snapshot {
    let view = |(id, node): (NodeId, &Node)| NodeView {
        id,
        path: spec.node(id).path.clone(),
        phase: phase(&node.state),
        inc: process(&node.state).and_then(ProcessState::life).map(|life| life.inc),
        pid: process(&node.state).and_then(ProcessState::life).and_then(|life| life.pid),
        deadline: node.state.deadline().map(|deadline| deadline - now),
    };
    Snapshot { age: now - born, nodes: spec.ids().zip(nodes).map(view).collect() }
}

fn process(state: &State) -> Option<&ProcessState> {
    match state {
        State::Process(process) => Some(process),
        State::Group(_) => None,
    }
}

fn phase(state: &State) -> Phase {
    match state {
        State::Process(ProcessState::Waiting) | State::Group(GroupState::Waiting) => Phase::Waiting,
        State::Process(ProcessState::Starting { .. }) => Phase::Starting,
        State::Process(ProcessState::Running { .. }) | State::Group(GroupState::Active { .. }) => Phase::Running,
        State::Process(ProcessState::Lingering { .. }) => Phase::Lingering,
        State::Process(ProcessState::Stopping { .. }) | State::Group(GroupState::Falling { .. }) => Phase::Stopping,
        State::Process(ProcessState::BackingOff { .. }) | State::Group(GroupState::BackingOff { .. }) => {
            Phase::BackingOff
        }
        State::Process(ProcessState::Ended(_)) | State::Group(GroupState::Ended(_)) => Phase::Ended,
    }
}
