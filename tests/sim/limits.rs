//! The laws of restarts: no more than the limits allow, no sooner than the delay, and not beside what is left.

use fated::name::{Incarnation, NodeId};
use fated::spec::{NodeKind, Strategy};
use fated::supervisor::record::GaveUp;
use fated::time::{Duration, Monotonic};

use crate::laws::{Laws, Verdicts, ancestors, law};
use crate::rebirth::start_order;

impl Laws {
    pub(super) fn on_restarting(&mut self, node: NodeId, delay: Duration, now: Monotonic) -> Verdicts {
        let policy = self.spec.node(node).restart.clone();
        let short = policy.delay - policy.delay / 10;
        let fits = delay >= short && delay <= policy.delay_max.max(policy.delay);
        law(fits, || format!("{node:?} is restarted in {delay:?}, not {short:?} at least"))?;
        self.has_new_life(node)?;
        self.restarts[node.index()].push(now);
        let own = GaveUp { node, of: node, limit: policy.intensity };
        let count = self.counted(own, now);
        law(count <= policy.intensity.limit, || format!("{node:?} is restarted {count} times"))?;
        let Some(parent) = self.spec.node(node).parent else { return Err("the root is restarted".into()) };
        if let NodeKind::Group(group) = &self.spec.node(parent).kind {
            if let Some(limit) = group.intensity {
                let count = self.counted(GaveUp { node, of: parent, limit }, now);
                law(count <= limit.limit, || format!("members of {parent:?} are restarted {count} times"))?;
            }
            let members: Vec<usize> = self.spec.members(parent).map(NodeId::index).collect();
            let taken: Vec<usize> = match group.strategy {
                Strategy::One => Vec::new(),
                Strategy::Rest => {
                    start_order(&self.spec, &members).into_iter().skip_while(|id| *id != node.index()).collect()
                }
                Strategy::All => members,
            };
            // Groups that are taken along fall, with their budgets.
            let inside: Vec<NodeId> = taken.iter().flat_map(|id| self.inside(NodeId(*id as u32))).collect();
            for id in inside {
                let NodeKind::Group(group) = &self.spec.node(id).kind else { continue };
                let until = group.stop_budget.and_then(|budget| budget.from(now));
                self.budgets.extend(until.map(|until| (id.index(), until)));
            }
            if !taken.is_empty() {
                self.rounds.push((parent.index(), taken));
            }
        }
        self.not_before[node.index()] = Some(now + delay);
        for id in self.inside(node) {
            if id != node {
                self.forget(id);
            } else if let Some(life) = &mut self.lives[id.index()] {
                life.passed = false;
            }
            self.budgets.retain(|(group, _)| *group != id.index());
        }
        self.falling.remove(&node.index());
        self.rounds.retain(|(group, _)| *group != node.index());
        Ok(())
    }

    /// Something happens to a node in a group that was taken along and in which nothing lives: it is back, although no
    /// process of it has been started yet.
    pub(super) fn has_new_life(&mut self, node: NodeId) -> Verdicts {
        let mut around: Vec<NodeId> = ancestors(&self.spec, node).collect();
        around.reverse();
        for group in around {
            if !self.inside(group).into_iter().any(|id| self.is_live(id)) {
                self.end_round_around(group, None)?;
            }
        }
        Ok(())
    }

    /// Whether a group that is to be started again holds all users of the queue, which is made anew then.
    pub(super) fn will_be_new(&self, queue: u32) -> bool {
        let users: Vec<NodeId> = [true, false].into_iter().flat_map(|put| self.users(queue, put)).collect();
        let holds_all =
            |group: NodeId| users.iter().all(|user| ancestors(&self.spec, *user).any(|around| around == group));
        self.spec.ids().any(|id| self.not_before[id.index()].is_some() && holds_all(id))
    }

    /// The restarts in a window: of the node, or of all members of its group.
    pub(super) fn counted(&self, gave_up: GaveUp, now: Monotonic) -> u32 {
        let counts = |id: &NodeId| match gave_up.of == gave_up.node {
            true => *id == gave_up.node,
            false => self.spec.node(*id).parent == Some(gave_up.of),
        };
        let restarts = self.spec.ids().filter(counts).flat_map(|id| &self.restarts[id.index()]);
        restarts.filter(|at| **at + gave_up.limit.window >= now).count() as u32
    }

    /// A life begins: neither it nor a group around it is to wait any longer, and a round of all has come to rest.
    pub(super) fn check_restart(&mut self, inc: Incarnation, now: Monotonic) -> Verdicts {
        let mut chain: Vec<NodeId> = core::iter::once(inc.node).chain(ancestors(&self.spec, inc.node)).collect();
        // From the outside in: what a group's new life makes forgotten is not asked for.
        chain.reverse();
        for id in chain {
            self.end_round_around(id, Some(inc))?;
            if let Some(not_before) = self.not_before[id.index()].take() {
                law(now >= not_before, || format!("{inc:?} is started before the delay of {id:?} is over"))?;
            }
        }
        Ok(())
    }

    /// A life begins in a member that was taken along: the round is over, and has come to rest before.
    fn end_round_around(&mut self, member: NodeId, inc: Option<Incarnation>) -> Verdicts {
        let Some(parent) = self.spec.node(member).parent.map(NodeId::index) else { return Ok(()) };
        if !self.is_taken(member) || self.falling.contains(&parent) {
            return Ok(());
        }
        let rounds: Vec<_> = self.rounds.extract_if(.., |(group, _)| *group == parent).collect();
        for taken in rounds.into_iter().flat_map(|(_, taken)| taken).map(|id| NodeId(id as u32)) {
            let inside = self.inside(taken);
            let living = inside.iter().find(|id| self.is_live(**id));
            law(living.is_none(), || format!("{inc:?} is started again beside {living:?}"))?;
            // What has ended for good stays so.
            if !self.over.contains(&taken.index()) {
                inside.into_iter().filter(|id| *id != taken).for_each(|id| self.forget(id));
                self.falling.remove(&taken.index());
            }
        }
        Ok(())
    }

    /// The node begins anew with a group around it.
    fn forget(&mut self, id: NodeId) {
        self.restarts[id.index()].clear();
        self.not_before[id.index()] = None;
        self.rounds.retain(|(group, _)| *group != id.index());
        self.falling.remove(&id.index());
        self.over.remove(&id.index());
        if let Some(life) = &mut self.lives[id.index()] {
            life.passed = false;
        }
    }

    /// Whether a round in its group takes the node along.
    fn is_taken(&self, id: NodeId) -> bool {
        let parent = self.spec.node(id).parent.map(NodeId::index);
        self.rounds.iter().any(|(group, taken)| Some(*group) == parent && taken.contains(&id.index()))
    }

    /// Whether a round takes along the node or a group around it.
    pub(super) fn in_round(&self, id: NodeId) -> bool {
        core::iter::once(id).chain(ancestors(&self.spec, id)).any(|id| self.is_taken(id))
    }

    /// A node and all that is in it.
    fn inside(&self, node: NodeId) -> Vec<NodeId> {
        let is_inside = |id: &NodeId| *id == node || ancestors(&self.spec, *id).any(|above| above == node);
        self.spec.ids().filter(is_inside).collect()
    }
}
