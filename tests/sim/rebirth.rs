//! The shadow's rules for who is started again, when, and with whom.

use fated::name::{NodeId, QueueId};
use fated::spec::{Consequence, NodeKind, Strategy, TreeSpec};
use fated::supervisor::command::Command;
use fated::supervisor::record::{GaveUp, How};
use fated::time::{Duration, Monotonic};

use crate::shadow::{Node, Own, Phase, Shadow};

/// A restart that takes others along.
#[derive(Clone, Debug)]
pub struct Round {
    pub taken: Vec<usize>,
    /// `None` once the delay is over.
    pub until: Option<Monotonic>,
}

impl Shadow {
    /// What an end that was not brought about from outside means to the group around.
    pub fn meaning(&self, id: usize, own: &Own) -> Consequence {
        let fate = self.spec.nodes[id].fate;
        let written = if own.success { fate.on_success } else { fate.on_failure };
        let cause = &own.cause;
        if cause.gave_up.is_some_and(|gave_up| gave_up.node.index() == id) {
            return Consequence::End;
        }
        match (&cause.how, written) {
            (How::Unkillable, _) if cause.node.index() == id => Consequence::End,
            (How::Unkillable, Consequence::Restart) => Consequence::End,
            (_, Consequence::Restart) if own.success && self.has_drained(id) => Consequence::Ignore,
            (_, written) => written,
        }
    }

    /// It gets from queues, and nobody may put to them any more.
    fn has_drained(&self, id: usize) -> bool {
        let Some(process) = self.process(id) else { return false };
        let gets: Vec<QueueId> = process.queues.iter().filter(|usage| usage.get).map(|usage| usage.queue).collect();
        let done = |queue: &QueueId| !(0..self.nodes.len()).any(|id| self.may_use(id, queue.index(), true));
        !gets.is_empty() && gets.iter().all(done)
    }

    pub fn is_taken(&self, id: usize) -> bool {
        let round = self.parent(id).and_then(|parent| self.nodes[parent].round.as_ref());
        round.is_some_and(|round| round.taken.contains(&id))
    }

    /// Nothing of the node is left: whether it is to live again, limits looked at.
    pub fn comes_back(
        &mut self,
        id: usize,
        since: Monotonic,
        given_up: bool,
        now: Monotonic,
    ) -> Option<Option<Monotonic>> {
        if self.nodes[self.parent(id)?].phase != Phase::Live {
            return None;
        }
        let restarts = match &self.nodes[id].own {
            _ if self.nodes[id].again.is_some() => true,
            Some(own) => self.meaning(id, own) == Consequence::Restart,
            None => self.is_taken(id),
        };
        if !restarts {
            return None;
        }
        if given_up {
            self.nodes[id].own = Some(self.own(false, id, How::Unkillable, now));
            self.nodes[id].again = None;
            return None;
        }
        if let Some(until) = self.nodes[id].again {
            return Some(until);
        }
        if self.nodes[id].own.is_none() {
            return Some(None);
        }
        self.draw(id, since, now);
        self.nodes[id].again
    }

    /// Counts a restart: `again` is set, or it is one too many and the own end says so.
    pub fn draw(&mut self, id: usize, since: Monotonic, now: Monotonic) {
        let (Some(parent), Some(own)) = (self.parent(id), self.nodes[id].own.clone()) else { return };
        if self.is_taken(id) {
            self.nodes[id].again = Some(None);
            return;
        }
        let policy = self.spec.nodes[id].restart.clone();
        let NodeKind::Group(group) = self.spec.nodes[parent].kind.clone() else { return };
        if own.cause.at - since >= policy.healthy_after {
            self.nodes[id].doublings = 0;
        }
        let in_window =
            |restarts: &[Monotonic], window: Duration| restarts.iter().filter(|at| **at + window >= now).count() as u32;
        let of = NodeId(id as u32);
        let full = in_window(&self.nodes[id].restarts, policy.intensity.window) >= policy.intensity.limit;
        let shared = group
            .intensity
            .filter(|shared| in_window(&self.nodes[parent].member_restarts, shared.window) >= shared.limit);
        let gave_up = match (full, shared) {
            (true, _) => Some(GaveUp { node: of, of, limit: policy.intensity }),
            (false, Some(limit)) => Some(GaveUp { node: of, of: NodeId(parent as u32), limit }),
            (false, None) => None,
        };
        if gave_up.is_some() {
            let node = self.nodes[id].own.as_mut().expect("looked at above");
            (node.success, node.cause.gave_up) = (false, gave_up);
            return;
        }
        let delay = self.told_delay(id, policy.delay, policy.delay_max);
        self.nodes[id].doublings += 1;
        self.nodes[id].restarts.push(now);
        self.nodes[parent].member_restarts.push(now);
        let until = Some(now + delay);
        let taken: Vec<usize> = match group.strategy {
            Strategy::One => {
                self.nodes[id].again = Some(until);
                return;
            }
            Strategy::All => self.members[parent].clone(),
            Strategy::Rest => {
                let order = start_order(&self.spec, &self.members[parent]);
                order.into_iter().skip_while(|member| *member != id).collect()
            }
        };
        let round = self.nodes[parent].round.get_or_insert(Round { taken: Vec::new(), until: None });
        round.taken.extend(taken);
        round.until = round.until.max(until);
        self.nodes[id].again = Some(None);
    }

    /// The delay that the core has chosen: at most a tenth shorter than the rule says.
    fn told_delay(&mut self, id: usize, delay: Duration, delay_max: Duration) -> Duration {
        let mut nominal = delay;
        for _ in 0..self.nodes[id].doublings {
            nominal = (nominal * 2).min(delay_max);
        }
        let told = self.told_delays.iter().position(|(node, _)| node.index() == id);
        let Some(told) = told.map(|told| self.told_delays.remove(told).1) else {
            self.wrong.get_or_insert(format!("node {id} is not restarted"));
            return nominal;
        };
        if told > nominal || told < nominal - nominal / 10 {
            self.wrong.get_or_insert(format!("node {id} is restarted in {told:?}, not {nominal:?}"));
        }
        told
    }

    /// The members that a round takes along are brought to their end.
    pub fn take_along(&mut self, now: Monotonic) -> bool {
        for group in 0..self.nodes.len() {
            let Some(round) = &self.nodes[group].round else { continue };
            let mut groups = round.taken.iter().filter(|member| self.process(**member).is_none());
            if let Some(member) = groups.find(|member| self.nodes[**member].phase == Phase::Live).copied() {
                self.begin_fall(member, None, now);
                return true;
            }
        }
        false
    }

    /// A round is over once its delay is and nothing of it lives.
    pub fn end_rounds(&mut self) -> bool {
        for group in 0..self.nodes.len() {
            let Some(round) = &self.nodes[group].round else { continue };
            let rests = |member: &usize| !matches!(self.nodes[*member].phase, Phase::Live | Phase::Falling);
            if round.until.is_none() && round.taken.iter().all(rests) {
                let taken = round.taken.clone();
                self.nodes[group].round = None;
                taken.into_iter().for_each(|member| self.wake(member));
                return true;
            }
        }
        false
    }

    /// What backs off waits to be started as it did in the beginning.
    pub fn wake(&mut self, id: usize) {
        if !matches!(self.nodes[id].phase, Phase::Off(_)) {
            return;
        }
        if self.process(id).is_none() {
            self.renew(id);
        }
        self.nodes[id].phase = Phase::Idle;
    }

    /// All that is in a group begins anew.
    fn renew(&mut self, group: usize) {
        // What happens in one step is said nevertheless.
        self.close_queues();
        let inside: Vec<usize> =
            (0..self.nodes.len()).filter(|id| self.ancestors(*id).any(|above| above == group)).collect();
        for queue in 0..self.spec.queues.len() {
            let home = self.home(queue);
            if home == Some(group) || home.is_some_and(|home| inside.contains(&home)) {
                self.closed.retain(|(closed, _)| *closed != queue);
                self.expected.push(Command::RenewQueue { queue: QueueId(queue as u32) });
            }
        }
        self.nodes[group].member_restarts.clear();
        inside.into_iter().for_each(|id| self.nodes[id] = Node::new());
    }

    /// Whether the node, which does not live, comes back with a group around it (or itself, if it is a group).
    pub fn is_returning(&self, id: usize) -> bool {
        let Some(parent) = self.parent(id) else { return false };
        match (&self.nodes[parent].phase, &self.nodes[id].phase) {
            (Phase::Live, Phase::Off(_)) => true,
            (Phase::Live, Phase::Falling) => match &self.nodes[id].own {
                Some(own) => self.meaning(id, own) == Consequence::Restart,
                None => self.is_taken(id),
            },
            (Phase::Live, _) | (Phase::Idle, _) => false,
            (Phase::Falling | Phase::Off(_) | Phase::Over, _) => self.is_returning(parent),
        }
    }

    /// Whether a process may use an end of a queue now or later.
    pub fn may_use(&self, id: usize, queue: usize, put: bool) -> bool {
        let mut uses = self.process(id).into_iter().flat_map(|process| &process.queues);
        if !uses.any(|usage| usage.queue.index() == queue && if put { usage.put } else { usage.get }) {
            return false;
        }
        if self.nodes[id].phase != Phase::Over {
            return true;
        }
        let home = self.home(queue);
        let around = self.ancestors(id).take_while(|group| Some(*group) != home);
        around.filter(|group| self.can_restart(*group)).any(|group| match self.nodes[group].phase {
            Phase::Idle | Phase::Live | Phase::Off(_) => true,
            Phase::Falling => {
                let parent_lives = self.parent(group).is_some_and(|parent| self.nodes[parent].phase == Phase::Live);
                parent_lives && self.is_returning(group)
            }
            Phase::Over => false,
        })
    }

    /// The innermost group that all users of a queue are in.
    fn home(&self, queue: usize) -> Option<usize> {
        let uses = |id: &usize| {
            self.process(*id).is_some_and(|process| process.queues.iter().any(|usage| usage.queue.index() == queue))
        };
        let users: Vec<usize> = (0..self.nodes.len()).filter(uses).collect();
        let holds_all = |group: &usize| users.iter().all(|user| self.ancestors(*user).any(|around| around == *group));
        self.ancestors(*users.first()?).find(holds_all)
    }

    /// Whether a group can be started again, by its own fate or taken along.
    fn can_restart(&self, group: usize) -> bool {
        let restarts = |id: usize| {
            let fate = self.spec.nodes[id].fate;
            fate.on_success == Consequence::Restart || fate.on_failure == Consequence::Restart
        };
        let Some(parent) = self.parent(group) else { return false };
        let NodeKind::Group(kind) = &self.spec.nodes[parent].kind else { return false };
        let others = match kind.strategy {
            Strategy::One => Vec::new(),
            Strategy::All => self.members[parent].clone(),
            Strategy::Rest => {
                let order = start_order(&self.spec, &self.members[parent]);
                order.into_iter().take_while(|member| *member != group).collect()
            }
        };
        restarts(group) || others.into_iter().any(|other| other != group && restarts(other))
    }
}

/// The members of a group as they start: again and again the first of the file that is after none of the rest, or just
/// the first where each is.
pub fn start_order(spec: &TreeSpec, members: &[usize]) -> Vec<usize> {
    let is_in = |id: usize, member: usize| {
        core::iter::successors(Some(id), |node| spec.nodes[*node].parent.map(NodeId::index)).any(|node| node == member)
    };
    let is_after = |later: usize, earlier: usize| {
        (0..spec.nodes.len()).any(|id| {
            is_in(id, later) && spec.nodes[id].after.iter().any(|dependency| is_in(dependency.index(), earlier))
        })
    };
    let mut rest = members.to_vec();
    let mut order = Vec::new();
    while !rest.is_empty() {
        let waits = |member: &usize| rest.iter().any(|other| other != member && is_after(*member, *other));
        let next = rest.iter().position(|member| !waits(member)).unwrap_or(0);
        order.push(rest.remove(next));
    }
    order
}
