//! What transitions have brought about and is still to be done in this step.
//!
//! First what has happened is carried up to where it matters, then what may stop is stopped, then groups open, and
//! processes start last. So a fall is complete before the order of its stops is asked for, and nothing is started in
//! the step in which its group begins to fall.

use std::collections::VecDeque;

use crate::name::NodeId;

/// A transition that another one has brought about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Todo {
    /// The node has ended: the group draws the consequence.
    Ended(NodeId),
    /// The outcome of a node is known while something of it still lives.
    Consequence(NodeId),
    /// Members of the group are taken along by a restart.
    TakeAlong(NodeId),
    /// Whoever was taken along in the group has come to rest: the round is over if its delay is.
    Regroup(NodeId),
    /// What is after the node has gone: the processes in it that are to stop may stop.
    Unblocked(NodeId),
    /// The process that is not to run ends if its group is active and nothing is awaited.
    Skip(NodeId),
    /// The group begins if its group is active and nothing is awaited.
    Open(NodeId),
    /// The process starts if its group is active and nothing is awaited.
    Start(NodeId),
}

#[derive(Debug, Default)]
pub(super) struct Agenda {
    queues: [VecDeque<Todo>; 5],
}

impl Agenda {
    pub(super) fn push(&mut self, todo: Todo) {
        let rank = match todo {
            Todo::Ended(_) | Todo::Consequence(_) => 0,
            Todo::TakeAlong(_) | Todo::Unblocked(_) | Todo::Regroup(_) => 1,
            Todo::Skip(_) => 2,
            Todo::Open(_) => 3,
            Todo::Start(_) => 4,
        };
        self.queues[rank].push_back(todo);
    }

    /// The oldest of the first kind that there is.
    pub(super) fn pop(&mut self) -> Option<Todo> {
        self.queues.iter_mut().find_map(VecDeque::pop_front)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }
}
