//! Who is started again, when, and with whom.
//!
//! A restart is *drawn* when it is known how a member has ended: it counts in the member's window and in its group's,
//! or it is one too many, and the group ends. Between two lives a member *backs off*. Under the strategy `one` it is
//! alone in that. Under `rest` and `all` its restart begins a *round*: those behind it in the order of start, or all,
//! are stopped in the order of a fall; when the last of them has come to rest and the delay is over, all of the round
//! wait to be started as they did in the beginning. What has ended for good stays so: the group goes on without it.
//! The own end of a member means the same in a round as else, but a restart of it is not counted a second time.
//!
//! A group that is started again begins a new life: with all that is in it, with no restart counted inside, and with
//! new queues where all users of a queue are in it.
//!
//! The delay doubles from `delay` to `delay_max` and begins anew after a run of `healthy_after`. Up to a tenth of it is
//! taken off, by a generator with the seed of the core, so that what has failed together does not come back together.

use std::collections::VecDeque;

use crate::name::NodeId;
use crate::spec::{Consequence, Intensity, NodeKind, QueueEnd, RestartPolicy, Strategy};
use crate::supervisor::agenda::Todo;
use crate::supervisor::command::Command;
use crate::supervisor::node::{GroupState, History, LastLife, Outcome, ProcessState, Round, State};
use crate::supervisor::record::{GaveUp, How, What};
use crate::supervisor::{QueueUsers, Supervisor};
use crate::time::{Duration, Monotonic};

/// What becomes of a node of which nothing is left.
pub(super) enum Next {
    Over(Outcome),
    BackingOff { until: Option<Monotonic> },
}

impl Supervisor {
    /// Decides for a node that began to live at `since`, of which nothing is left, or what is left was given up.
    pub(super) fn next(
        &mut self,
        id: NodeId,
        outcome: Outcome,
        since: Monotonic,
        given_up: bool,
        now: Monotonic,
    ) -> Next {
        if !self.would_return(id, &outcome) {
            return Next::Over(match outcome {
                Outcome::Again { .. } => Outcome::Collateral,
                Outcome::Success(_) | Outcome::Failure(_) | Outcome::Collateral => outcome,
            });
        }
        if given_up {
            // It would not be alone in its next life.
            return Next::Over(Outcome::Failure(self.cause(id, How::Unkillable, now)));
        }
        match outcome {
            Outcome::Again { until } => Next::BackingOff { until },
            Outcome::Collateral => Next::BackingOff { until: None },
            Outcome::Success(_) | Outcome::Failure(_) => match self.draw_restart(id, outcome, since, now) {
                Outcome::Again { until } => Next::BackingOff { until },
                outcome @ (Outcome::Success(_) | Outcome::Failure(_) | Outcome::Collateral) => Next::Over(outcome),
            },
        }
    }

    /// Whether a node that ends like this is started again, limits aside.
    fn would_return(&self, id: NodeId, outcome: &Outcome) -> bool {
        let parent = self.spec.node(id).parent.and_then(|parent| self.group_state(parent));
        if !matches!(parent, Some(GroupState::Active { .. })) {
            return false;
        }
        match outcome {
            Outcome::Again { .. } => true,
            Outcome::Collateral => self.in_round(id),
            Outcome::Success(_) | Outcome::Failure(_) => self.consequence(id, outcome) == Some(Consequence::Restart),
        }
    }

    /// Whether something in the group was given up.
    pub(super) fn has_unkillable(&self, group: NodeId) -> bool {
        self.processes_in(group).into_iter().any(|process| {
            matches!(self.process_state(process), Some(ProcessState::Ended(ended)) if ended.last == LastLife::Unkillable)
        })
    }

    /// Counts a restart of a member: `Again`, or the outcome that its group has to draw the end from.
    pub(super) fn draw_restart(&mut self, id: NodeId, outcome: Outcome, since: Monotonic, now: Monotonic) -> Outcome {
        let Some(parent) = self.spec.node(id).parent else { return outcome };
        let Some(mut because) = outcome.cause().cloned() else { return outcome };
        if self.in_round(id) {
            return Outcome::Again { until: None };
        }
        let RestartPolicy { intensity, healthy_after, .. } = self.spec.node(id).restart;
        let (strategy, shared) = match &self.spec.node(parent).kind {
            NodeKind::Group(group) => (group.strategy, group.intensity),
            NodeKind::Process(_) => (Strategy::One, None),
        };
        if because.at - since >= healthy_after {
            self.nodes[id.index()].history.doublings = 0;
        }
        let own_full = is_full(&mut self.nodes[id.index()].history.own, intensity, now);
        let shared_full =
            shared.filter(|shared| is_full(&mut self.nodes[parent.index()].history.members, *shared, now));
        let gave_up = match (own_full, shared_full) {
            (true, _) => Some(GaveUp { node: id, of: id, limit: intensity }),
            (false, Some(limit)) => Some(GaveUp { node: id, of: parent, limit }),
            (false, None) => None,
        };
        if let Some(gave_up) = gave_up {
            because.gave_up = Some(gave_up);
            self.record(now, What::LimitPassed { because: because.clone(), gave_up });
            return Outcome::Failure(because);
        }
        if shared.is_some() {
            self.nodes[parent.index()].history.members.push_back(now);
        }
        let delay = self.delay(id);
        let history = &mut self.nodes[id.index()].history;
        history.own.push_back(now);
        history.doublings = history.doublings.saturating_add(1);
        let count = history.own.len() as u32;
        let until = now + delay;
        let from = match strategy {
            Strategy::One => None,
            Strategy::Rest => Some(self.order.place(id)),
            Strategy::All => Some(0),
        };
        let taken = from.map_or(0, |from| self.begin_round(parent, id, from, until));
        self.record(now, What::Restarting { node: id, because, delay, count, taken });
        Outcome::Again { until: if from.is_some() { None } else { Some(until) } }
    }

    /// The delay before the next start of a node.
    fn delay(&mut self, id: NodeId) -> Duration {
        let RestartPolicy { delay, delay_max, .. } = self.spec.node(id).restart;
        let factor = 1_u32.checked_shl(self.nodes[id.index()].history.doublings).unwrap_or(u32::MAX);
        let nominal = delay.saturating_mul(factor).min(delay_max.max(delay));
        let tenth = u64::try_from((nominal / 10).as_nanos()).unwrap_or(u64::MAX);
        nominal - Duration::from_nanos(self.random() % tenth.saturating_add(1))
    }

    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Whether the node is taken along by a restart in its group, itself included.
    pub(super) fn in_round(&self, id: NodeId) -> bool {
        let parent = self.spec.node(id).parent.and_then(|parent| self.group_state(parent));
        matches!(parent, Some(GroupState::Active { round: Some(round), .. }) if self.order.place(id) >= round.from)
    }

    /// How many others than `id` are taken along.
    fn begin_round(&mut self, group: NodeId, id: NodeId, from: u32, until: Monotonic) -> u32 {
        let Some(GroupState::Active { since, expires, round }) = self.group_state(group).cloned() else { return 0 };
        let (from, until) = match round {
            Some(round) => (round.from.min(from), round.until.max(Some(until))),
            None => (from, Some(until)),
        };
        let members = self.order.members_from(group, from);
        let pending = members.iter().filter(|member| !self.is_at_rest(**member)).count() as u32;
        let taken = members.iter().filter(|member| **member != id && !self.has_ended(**member)).count() as u32;
        let round = Some(Round { from, until, pending });
        self.set_group(group, GroupState::Active { since, expires, round });
        self.agenda.push(Todo::TakeAlong(group));
        taken
    }

    /// Stops those whom the round of the group takes along, in the order of a fall.
    pub(super) fn take_along(&mut self, group: NodeId, now: Monotonic) {
        let Some(GroupState::Active { round: Some(round), .. }) = self.group_state(group) else { return };
        let mut living = Vec::new();
        let mut groups = Vec::new();
        for member in self.order.members_from(group, round.from) {
            match &self.nodes[member.index()].state {
                State::Process(state) if state.life().is_some() => living.push(*member),
                State::Process(_) => {}
                State::Group(GroupState::Active { .. }) => groups.push((*member, Outcome::Collateral)),
                State::Group(_) => {}
            }
        }
        self.fall_and_stop(groups, living, now);
    }

    /// Lets the round of the group wait to be started, once all of it has come to rest and the delay is over.
    pub(super) fn regroup(&mut self, group: NodeId, now: Monotonic) {
        let Some(GroupState::Active { since, expires, round: Some(round) }) = self.group_state(group) else { return };
        if round.pending > 0 || round.until.is_some() {
            return;
        }
        let (since, expires, from) = (*since, *expires, round.from);
        for member in self.order.members_from(group, from).to_vec() {
            self.come_back(member, now);
            self.consider_start(member);
        }
        self.set_group(group, GroupState::Active { since, expires, round: None });
    }

    /// The delay of a round is over.
    pub(super) fn end_delay(&mut self, group: NodeId) {
        if let State::Group(GroupState::Active { round: Some(round), .. }) = &mut self.nodes[group.index()].state {
            round.until = None;
            if round.pending == 0 {
                self.agenda.push(Todo::Regroup(group));
            }
        }
    }

    /// A node that backs off waits as it did in the beginning.
    pub(super) fn come_back(&mut self, id: NodeId, now: Monotonic) {
        match &self.nodes[id.index()].state {
            State::Process(ProcessState::BackingOff { .. }) => self.set_process(id, ProcessState::Waiting),
            State::Group(GroupState::BackingOff { .. }) => self.renew(id, now),
            State::Process(_) | State::Group(_) => {}
        }
    }

    /// A group and all that is in it wait as they did in the beginning.
    fn renew(&mut self, group: NodeId, now: Monotonic) {
        let inside = self.nodes_in(group);
        self.renew_queues(&inside, now);
        for id in &inside {
            if *id != group {
                self.nodes[id.index()].history = History::default();
            }
            self.nodes[id.index()].history.members.clear();
            self.nodes[id.index()].open_members = self.order.members(*id).len() as u32;
            match &self.nodes[id.index()].state {
                State::Process(_) => self.set_process(*id, ProcessState::Waiting),
                State::Group(_) => self.set_group(*id, GroupState::Waiting),
            }
        }
    }

    fn renew_queues(&mut self, inside: &[NodeId], now: Monotonic) {
        self.close_queues(now);
        let groups = inside.iter().filter(|id| self.process_spec(**id).is_none());
        let queues: Vec<_> = groups.flat_map(|group| self.order.queues(*group)).copied().collect();
        for queue in &queues {
            self.queue_users[queue.index()] = QueueUsers::default();
            self.commands.push_back(Command::RenewQueue { queue: *queue });
            self.record(now, What::QueueRenewed { queue: *queue });
        }
        let renewed: std::collections::HashSet<_> = queues.iter().copied().collect();
        for id in inside {
            let Some(process) = self.spec.node(*id).process() else { continue };
            for (index, usage) in process.queues.iter().enumerate().filter(|(_, usage)| renewed.contains(&usage.queue))
            {
                self.nodes[id.index()].holds[index] = true;
                self.queue_users[usage.queue.index()].putters += u32::from(usage.put);
                self.queue_users[usage.queue.index()].getters += u32::from(usage.get);
            }
        }
        queues.into_iter().for_each(|queue| self.close_unused(queue, now));
    }

    /// Whether a group that falls, backs off or has ended, or one around it, is started again.
    pub(super) fn is_returning(&self, id: NodeId) -> bool {
        let mut id = id;
        while let Some(parent) = self.spec.node(id).parent {
            match self.group_state(parent) {
                Some(GroupState::Active { .. }) => {
                    return match self.group_state(id) {
                        Some(GroupState::BackingOff { .. }) => true,
                        Some(GroupState::Falling { outcome, .. }) => self.would_return(id, outcome),
                        Some(GroupState::Waiting | GroupState::Active { .. } | GroupState::Ended(_)) | None => false,
                    };
                }
                Some(GroupState::Falling { .. } | GroupState::BackingOff { .. } | GroupState::Ended(_)) => id = parent,
                Some(GroupState::Waiting) | None => return false,
            }
        }
        false
    }

    /// Whether a group brings back nothing that could use a queue which others outside of it share.
    fn is_gone(&self, group: NodeId) -> bool {
        match self.group_state(group) {
            Some(GroupState::Ended(_)) => true,
            Some(GroupState::Falling { .. }) => {
                let parent_falls = self.spec.node(group).parent.is_some_and(|parent| self.is_falling(parent));
                parent_falls || !self.is_returning(group)
            }
            Some(GroupState::Waiting | GroupState::Active { .. } | GroupState::BackingOff { .. }) | None => false,
        }
    }

    /// Whether a process may use the queue of that entry of its plan now or in a later life.
    pub(super) fn may_use(&self, id: NodeId, index: usize) -> bool {
        let keeper = self.order.keepers(id)[index];
        !self.has_ended(id) || keeper.is_some_and(|group| !self.is_gone(group))
    }

    /// A process that will not run again: a queue end that nobody else may use is closed.
    pub(super) fn leave_queues(&mut self, id: NodeId) {
        for index in 0..self.nodes[id.index()].holds.len() {
            if !self.nodes[id.index()].holds[index] || self.may_use(id, index) {
                continue;
            }
            self.nodes[id.index()].holds[index] = false;
            let Some(usage) = self.process_spec(id).map(|process| process.queues[index]) else { continue };
            let users = &mut self.queue_users[usage.queue.index()];
            let (put, get) = (usage.put && users.putters == 1, usage.get && users.getters == 1);
            users.putters -= u32::from(usage.put);
            users.getters -= u32::from(usage.get);
            self.closing.extend(put.then_some((usage.queue, QueueEnd::Put)));
            self.closing.extend(get.then_some((usage.queue, QueueEnd::Get)));
        }
    }

    /// Whether the process gets from queues, and all of these have come to their end: its success is then final.
    pub(super) fn is_drained(&self, id: NodeId) -> bool {
        let Some(process) = self.process_spec(id) else { return false };
        let mut gets = process.queues.iter().filter(|usage| usage.get).peekable();
        gets.peek().is_some() && gets.all(|usage| self.queue_users[usage.queue.index()].putters == 0)
    }
}

/// Forgets what lies before the window; whether one restart more is one too many. A restart just as old as the window
/// still counts.
fn is_full(restarts: &mut VecDeque<Monotonic>, intensity: Intensity, now: Monotonic) -> bool {
    while restarts.front().is_some_and(|first| *first + intensity.window < now) {
        restarts.pop_front();
    }
    restarts.len() >= intensity.limit as usize
}
