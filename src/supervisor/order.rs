//! Who belongs to whom and who comes after whom: the plan's edges, indexed once.

use crate::name::NodeId;
use crate::spec::TreeSpec;

/// Indexes over a `TreeSpec` that never change while it runs.
#[derive(Clone, Debug)]
pub struct Order {
    /// Direct members of each group, in the order of the file; empty for a process.
    members: Vec<Vec<NodeId>>,
    /// The nodes that name this one in `after`.
    dependants: Vec<Vec<NodeId>>,
    /// Some dependant lies outside of the node's parent, so that the parent's fall does not imply the dependant's.
    crosses: Vec<bool>,
}

impl Order {
    pub fn new(spec: &TreeSpec) -> Self {
        let mut order = Self {
            members: vec![Vec::new(); spec.nodes.len()],
            dependants: vec![Vec::new(); spec.nodes.len()],
            crosses: vec![false; spec.nodes.len()],
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
        order
    }

    pub fn members(&self, group: NodeId) -> &[NodeId] {
        &self.members[group.index()]
    }

    pub fn dependants(&self, node: NodeId) -> &[NodeId] {
        &self.dependants[node.index()]
    }

    pub fn crosses(&self, node: NodeId) -> bool {
        self.crosses[node.index()]
    }
}

/// The groups that a node is in, the innermost first, the root last.
pub fn ancestors(spec: &TreeSpec, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
    core::iter::successors(spec.node(node).parent, |group| spec.node(*group).parent)
}
