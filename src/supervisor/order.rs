//! Who belongs to whom, who comes after whom and whom a restart takes along: the plan's edges, indexed once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::name::{NodeId, QueueId};
use crate::spec::{Consequence, NodeKind, Strategy, TreeSpec};

/// Indexes over a `TreeSpec` that never change while it runs.
#[derive(Clone, Debug)]
pub struct Order {
    /// Direct members of each group, in the order of the file; empty for a process.
    members: Vec<Vec<NodeId>>,
    /// The same in the order of start: the order of the file, but what is after another behind that.
    by_start: Vec<Vec<NodeId>>,
    /// The place of each node in its group's order of start.
    place: Vec<u32>,
    /// The nodes that name this one in `after`.
    dependants: Vec<Vec<NodeId>>,
    /// Some dependant lies outside of the node's parent, so that the parent's fall does not imply the dependant's.
    crosses: Vec<bool>,
    /// Groups that can be started again, by their own fate or taken along by a sibling.
    restartable: Vec<bool>,
    /// By group: the queues whose users are all in it, and not all in one group of it.
    queues: Vec<Vec<QueueId>>,
    /// By process, for each entry of its `queues`: the outermost group that can be started again while the queue stays
    /// the same. As long as it can, the process can use the queue again although it has ended.
    keepers: Vec<Vec<Option<NodeId>>>,
}

impl Order {
    pub fn new(spec: &TreeSpec) -> Self {
        let count = spec.nodes.len();
        let mut order = Self {
            members: vec![Vec::new(); count],
            by_start: vec![Vec::new(); count],
            place: vec![0; count],
            dependants: vec![Vec::new(); count],
            crosses: vec![false; count],
            restartable: vec![false; count],
            queues: vec![Vec::new(); count],
            keepers: vec![Vec::new(); count],
        };
        for id in spec.ids() {
            let node = spec.node(id);
            if let Some(parent) = node.parent {
                order.members[parent.index()].push(id);
            }
            for dependency in &node.after {
                order.dependants[dependency.index()].push(id);
                let scope = spec.node(*dependency).parent;
                order.crosses[dependency.index()] |= !ancestors(spec, id).any(|ancestor| Some(ancestor) == scope);
            }
        }
        order.sort_by_start(spec);
        for group in spec.ids() {
            order.find_restartable(spec, group);
        }
        order.find_homes(spec);
        order
    }

    pub fn members(&self, group: NodeId) -> &[NodeId] {
        &self.members[group.index()]
    }

    /// The direct members of a group from a place in its order of start on.
    pub fn members_from(&self, group: NodeId, place: u32) -> &[NodeId] {
        self.by_start[group.index()].get(place as usize..).unwrap_or_default()
    }

    pub fn place(&self, node: NodeId) -> u32 {
        self.place[node.index()]
    }

    pub fn dependants(&self, node: NodeId) -> &[NodeId] {
        &self.dependants[node.index()]
    }

    pub fn crosses(&self, node: NodeId) -> bool {
        self.crosses[node.index()]
    }

    pub fn restartable(&self, group: NodeId) -> bool {
        self.restartable[group.index()]
    }

    /// The queues that a restart of the group makes anew.
    pub fn queues(&self, group: NodeId) -> &[QueueId] {
        &self.queues[group.index()]
    }

    pub fn keepers(&self, process: NodeId) -> &[Option<NodeId>] {
        &self.keepers[process.index()]
    }

    /// Sorts the members of each group: of those that are after nothing unsorted the first of the file comes next. Edges
    /// between what lies deeper count for the members around them; where these close a circle, the file decides.
    fn sort_by_start(&mut self, spec: &TreeSpec) {
        let mut waits = vec![0_usize; spec.nodes.len()];
        let mut followers: Vec<Vec<NodeId>> = vec![Vec::new(); spec.nodes.len()];
        for id in spec.ids() {
            for dependency in &spec.node(id).after {
                let (later, earlier) = siblings(spec, id, *dependency);
                waits[later.index()] += 1;
                followers[earlier.index()].push(later);
            }
        }
        let mut free: BinaryHeap<Reverse<NodeId>> =
            spec.ids().filter(|id| waits[id.index()] == 0).map(Reverse).collect();
        let mut sorted = vec![false; spec.nodes.len()];
        for next in spec.ids() {
            if free.is_empty() && !sorted[next.index()] {
                free.push(Reverse(next));
            }
            while let Some(Reverse(id)) = free.pop() {
                if core::mem::replace(&mut sorted[id.index()], true) {
                    continue;
                }
                if let Some(parent) = spec.node(id).parent {
                    self.place[id.index()] = self.by_start[parent.index()].len() as u32;
                    self.by_start[parent.index()].push(id);
                }
                for follower in &followers[id.index()] {
                    waits[follower.index()] -= 1;
                    if waits[follower.index()] == 0 {
                        free.push(Reverse(*follower));
                    }
                }
            }
        }
    }

    fn find_restartable(&mut self, spec: &TreeSpec, group: NodeId) {
        let NodeKind::Group(kind) = &spec.node(group).kind else { return };
        let members = &self.by_start[group.index()];
        let restarts: Vec<bool> = members.iter().map(|member| can_restart(spec, *member)).collect();
        let all = restarts.iter().filter(|restarts| **restarts).count();
        let mut before = 0;
        for (member, own) in members.iter().zip(restarts) {
            let others = match kind.strategy {
                Strategy::One => 0,
                Strategy::Rest => before,
                Strategy::All => all - usize::from(own),
            };
            before += usize::from(own);
            self.restartable[member.index()] = spec.node(*member).process().is_none() && (own || others > 0);
        }
    }

    /// The innermost group around all users of each queue, and what keeps each of them from being done with it.
    fn find_homes(&mut self, spec: &TreeSpec) {
        let mut homes: Vec<Option<NodeId>> = vec![None; spec.queues.len()];
        for (id, process) in spec.processes() {
            for usage in &process.queues {
                let home = &mut homes[usage.queue.index()];
                *home = match *home {
                    None => spec.node(id).parent,
                    Some(home) => core::iter::once(home)
                        .chain(ancestors(spec, home))
                        .find(|group| ancestors(spec, id).any(|around| around == *group)),
                };
            }
        }
        for (index, home) in homes.iter().enumerate() {
            if let Some(home) = home {
                self.queues[home.index()].push(QueueId(index as u32));
            }
        }
        for (id, process) in spec.processes() {
            let keeper = |home: Option<NodeId>| {
                let inside = ancestors(spec, id).take_while(|group| Some(*group) != home);
                inside.filter(|group| self.restartable[group.index()]).last()
            };
            let keepers = process.queues.iter().map(|usage| keeper(homes[usage.queue.index()])).collect();
            self.keepers[id.index()] = keepers;
        }
    }
}

fn can_restart(spec: &TreeSpec, id: NodeId) -> bool {
    let fate = spec.node(id).fate;
    fate.on_success == Consequence::Restart || fate.on_failure == Consequence::Restart
}

/// The members of one group that two nodes, neither of which is in the other, are or lie in.
fn siblings(spec: &TreeSpec, one: NodeId, other: NodeId) -> (NodeId, NodeId) {
    let (mut one, mut other) = (one, other);
    let depth = |id| ancestors(spec, id).count();
    let (deep_one, deep_other) = (depth(one), depth(other));
    let up = |id: NodeId| spec.node(id).parent.unwrap_or(NodeId::ROOT);
    (deep_other..deep_one).for_each(|_| one = up(one));
    (deep_one..deep_other).for_each(|_| other = up(other));
    while up(one) != up(other) {
        (one, other) = (up(one), up(other));
    }
    (one, other)
}

/// The groups that a node is in, the innermost first, the root last.
pub fn ancestors(spec: &TreeSpec, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
    core::iter::successors(spec.node(node).parent, |group| spec.node(*group).parent)
}
