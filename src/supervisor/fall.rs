//! The transitions of a group, and the order in which a fall stops what is in it.
//!
//! A process of a falling group (or of a round of restarts) is stopped once nothing that is `after` it, or after a group
//! around it, still lives and is itself to end. What lives on elsewhere holds nothing up.

use crate::name::NodeId;
use crate::spec::{Consequence, NodeKind};
use crate::supervisor::Supervisor;
use crate::supervisor::agenda::Todo;
use crate::supervisor::node::{Budget, GroupState, Outcome, ProcessState, State};
use crate::supervisor::order::ancestors;
use crate::supervisor::record::{How, What};
use crate::supervisor::restart::Next;
use crate::time::{Limit, Monotonic};

impl Supervisor {
    /// A group begins to live, and those of its members that wait for nothing.
    pub(super) fn activate(&mut self, id: NodeId, now: Monotonic) {
        let expires = self.spec.node(id).lifetime.map(|lifetime| now + lifetime);
        self.set_group(id, GroupState::Active { since: now, expires, round: None });
        for index in 0..self.order.members(id).len() {
            self.consider_start(self.order.members(id)[index]);
        }
        if self.order.members(id).is_empty() {
            self.end_group(id, now);
        }
    }

    pub(super) fn on_group_deadline(&mut self, id: NodeId, now: Monotonic) {
        match self.group_state(id) {
            Some(GroupState::Active { expires, .. }) if expires.is_some_and(|expires| expires <= now) => {
                let cause = self.lifetime_cause(id, now);
                self.fall(id, Outcome::Failure(cause), now);
            }
            Some(GroupState::Active { .. }) => self.end_delay(id),
            Some(GroupState::BackingOff { .. }) => {
                self.come_back(id, now);
                self.consider_start(id);
            }
            Some(GroupState::Falling { .. }) => self.spend_budget(id, now),
            Some(GroupState::Waiting | GroupState::Ended(_)) | None => {}
        }
    }

    /// The budget of a fall is over: whatever is left in the group is killed.
    fn spend_budget(&mut self, id: NodeId, now: Monotonic) {
        if let State::Group(GroupState::Falling { budget, .. }) = &mut self.nodes[id.index()].state {
            *budget = Budget::Spent;
        }
        for process in self.processes_in(id) {
            self.kill_process(process, true, now);
        }
    }

    /// A member has ended: its group draws the consequence, and ends with its last member.
    pub(super) fn on_node_ended(&mut self, id: NodeId, now: Monotonic) {
        self.draw_consequence(id, now);
        let Some(parent) = self.spec.node(id).parent else { return };
        let node = &mut self.nodes[parent.index()];
        node.open_members -= 1;
        if node.open_members == 0 {
            self.end_group(parent, now);
        }
    }

    /// Lets the group fall if that is what the member's end means to it. Harmless when it falls already.
    pub(super) fn draw_consequence(&mut self, id: NodeId, now: Monotonic) {
        let Some(parent) = self.spec.node(id).parent else { return };
        let Some(outcome) = self.outcome_of(id).cloned() else { return };
        if !matches!(self.group_state(parent), Some(GroupState::Active { .. })) {
            return;
        }
        match self.consequence(id, &outcome) {
            Some(Consequence::End) => self.fall(parent, outcome, now),
            Some(Consequence::Restart) => self.draw_early(id, outcome, now),
            Some(Consequence::Ignore) | None => {}
        }
    }

    /// The restart of a process of which something still lives is decided: its group does not wait for that.
    fn draw_early(&mut self, id: NodeId, outcome: Outcome, now: Monotonic) {
        let Some(since) = self.process_state(id).and_then(ProcessState::life).map(|life| life.since) else { return };
        let drawn = self.draw_restart(id, outcome, since, now);
        if let Some(ProcessState::Stopping { life, main, patience, .. }) = self.process_state(id).cloned() {
            self.set_process(id, ProcessState::Stopping { life, main, patience, outcome: drawn });
            self.agenda.push(Todo::Consequence(id));
        }
    }

    /// What the end of a node means to its group; `None` for an end that was brought about from outside.
    pub(super) fn consequence(&self, id: NodeId, outcome: &Outcome) -> Option<Consequence> {
        let fate = self.spec.node(id).fate;
        let (cause, written) = match outcome {
            Outcome::Success(cause) => (cause, fate.on_success),
            Outcome::Failure(cause) => (cause, fate.on_failure),
            Outcome::Collateral | Outcome::Again { .. } => return None,
        };
        let unkillable = cause.how == How::Unkillable;
        let gave_up = cause.gave_up.is_some_and(|gave_up| gave_up.node == id) || (unkillable && cause.node == id);
        Some(match written {
            Consequence::End | Consequence::Ignore | Consequence::Restart if gave_up => Consequence::End,
            Consequence::Restart if unkillable => Consequence::End,
            Consequence::Restart if matches!(outcome, Outcome::Success(_)) && self.is_drained(id) => {
                Consequence::Ignore
            }
            Consequence::End | Consequence::Ignore | Consequence::Restart => written,
        })
    }

    /// The outcome of a node that has ended or is about to.
    fn outcome_of(&self, id: NodeId) -> Option<&Outcome> {
        match &self.nodes[id.index()].state {
            State::Process(ProcessState::Ended(ended)) => Some(&ended.outcome),
            State::Process(ProcessState::Stopping { outcome, .. } | ProcessState::Lingering { outcome, .. }) => {
                Some(outcome)
            }
            State::Process(
                ProcessState::Waiting
                | ProcessState::Starting { .. }
                | ProcessState::Running { .. }
                | ProcessState::BackingOff { .. },
            ) => None,
            State::Group(GroupState::Ended(outcome) | GroupState::Falling { outcome, .. }) => Some(outcome),
            State::Group(GroupState::Waiting | GroupState::Active { .. } | GroupState::BackingOff { .. }) => None,
        }
    }

    /// Begins the end of a group and of everything in it.
    pub(super) fn fall(&mut self, id: NodeId, outcome: Outcome, now: Monotonic) {
        let outcome = self.earliest_cause_in(id, outcome);
        let Some(cause) = outcome.cause().cloned() else { return };
        self.record(now, What::GroupFalling { group: id, because: cause });
        self.fall_and_stop(vec![(id, outcome)], Vec::new(), now);
    }

    /// Lets groups fall with all that is in them, and stops those of the living that nothing has to go before.
    pub(super) fn fall_and_stop(
        &mut self,
        mut groups: Vec<(NodeId, Outcome)>,
        mut living: Vec<NodeId>,
        now: Monotonic,
    ) {
        let heads: Vec<NodeId> = groups.iter().map(|(group, _)| *group).collect();
        while let Some((group, outcome)) = groups.pop() {
            self.begin_fall(group, outcome, now);
            for index in 0..self.order.members(group).len() {
                let member = self.order.members(group)[index];
                match &self.nodes[member.index()].state {
                    State::Process(ProcessState::Waiting | ProcessState::BackingOff { .. }) => {
                        self.end_unstarted(member, now);
                    }
                    State::Process(ProcessState::Ended(_)) => {}
                    State::Process(_) => living.push(member),
                    State::Group(GroupState::Waiting | GroupState::Active { .. } | GroupState::BackingOff { .. }) => {
                        groups.push((member, Outcome::Collateral));
                    }
                    State::Group(GroupState::Falling { .. } | GroupState::Ended(_)) => {}
                }
            }
        }
        heads.into_iter().for_each(|head| self.look_inside(head));
        living.sort_unstable();
        for process in living.into_iter().rev() {
            self.stop_if_unblocked(process, now);
        }
    }

    /// What has ended in a group is ended for good, or not, depending on what becomes of the group.
    pub(super) fn look_inside(&mut self, group: NodeId) {
        for id in self.nodes_in(group) {
            self.refresh_passed(id);
            if self.has_ended(id) {
                self.leave_queues(id);
            }
        }
    }

    fn begin_fall(&mut self, id: NodeId, outcome: Outcome, now: Monotonic) {
        let limit = match &self.spec.node(id).kind {
            NodeKind::Group(group) => group.stop_budget.unwrap_or(Limit::Never),
            NodeKind::Process(_) => Limit::Never,
        };
        let budget = Budget::Until(limit.from(now));
        let age = self.group_age(id, now);
        if age >= self.spec.node(id).restart.healthy_after {
            self.nodes[id.index()].history.doublings = 0;
        }
        self.set_group(id, GroupState::Falling { outcome, budget });
        if self.nodes[id.index()].open_members == 0 {
            self.end_group(id, now);
        }
    }

    /// Something in the group may have begun to end earlier, in a way that would have brought the group down as well:
    /// then that is the first cause. A member whose end was drawn already has brought the group down or never will.
    fn earliest_cause_in(&self, id: NodeId, outcome: Outcome) -> Outcome {
        let mut first = outcome;
        for member in self.order.members(id) {
            let pending = match &self.nodes[member.index()].state {
                State::Group(GroupState::Active { .. }) => self.pending_in(*member),
                State::Process(_) | State::Group(_) => self.outcome_of(*member).cloned(),
            };
            if let Some(pending) = pending
                && self.consequence(*member, &pending) == Some(Consequence::End)
                && self.is_earlier(&pending, &first)
            {
                first = pending;
            }
        }
        first
    }

    /// Of two in one instant, the one that was handled first.
    fn is_earlier(&self, one: &Outcome, other: &Outcome) -> bool {
        let moment = |outcome: &Outcome| outcome.cause().map(|cause| self.nodes[cause.node.index()].caused);
        match (moment(one), moment(other)) {
            (Some(one), Some(other)) => one < other,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// The end that is on its way in an active group, if there is one.
    fn pending_in(&self, group: NodeId) -> Option<Outcome> {
        match self.earliest_cause_in(group, Outcome::Collateral) {
            Outcome::Collateral | Outcome::Again { .. } => None,
            outcome @ (Outcome::Success(_) | Outcome::Failure(_)) => Some(outcome),
        }
    }

    /// Nothing is left of the group: it has ended for good, or backs off.
    fn end_group(&mut self, id: NodeId, now: Monotonic) {
        let (outcome, since) = match self.group_state(id) {
            // How long it has lived was looked at when its fall began.
            Some(GroupState::Falling { outcome, .. }) => (outcome.clone(), now),
            Some(GroupState::Active { since, .. }) => {
                let since = *since;
                (Outcome::Success(self.cause(id, How::AllEnded, now)), since)
            }
            Some(GroupState::Waiting | GroupState::BackingOff { .. } | GroupState::Ended(_)) | None => return,
        };
        let given_up = self.order.restartable(id) && self.has_unkillable(id);
        match self.next(id, outcome, since, given_up, now) {
            Next::BackingOff { until } => {
                self.set_group(id, GroupState::BackingOff { until });
                self.look_inside(id);
            }
            Next::Over(outcome) => {
                self.set_group(id, GroupState::Ended(outcome));
                self.record(now, What::GroupEnded { group: id });
                self.agenda.push(Todo::Ended(id));
                if self.order.restartable(id) {
                    self.look_inside(id);
                }
            }
        }
    }

    fn group_age(&self, id: NodeId, now: Monotonic) -> crate::time::Duration {
        match self.group_state(id) {
            Some(GroupState::Active { since, .. }) => now - *since,
            Some(
                GroupState::Waiting | GroupState::Falling { .. } | GroupState::BackingOff { .. } | GroupState::Ended(_),
            )
            | None => crate::time::Duration::ZERO,
        }
    }

    /// Whether a node is to end because its group falls, or a round takes it along.
    pub(super) fn is_leaving(&self, id: NodeId) -> bool {
        self.spec.node(id).parent.is_some_and(|parent| self.is_falling(parent)) || self.in_round(id)
    }

    /// Something that a process waited for in its stop has gone.
    pub(super) fn stop_what_may(&mut self, id: NodeId, now: Monotonic) {
        for process in self.processes_in(id).into_iter().rev() {
            self.stop_if_unblocked(process, now);
        }
    }

    fn stop_if_unblocked(&mut self, id: NodeId, now: Monotonic) {
        if self.is_leaving(id) && !self.is_blocked(id) {
            self.stop_process(id, now);
        }
    }

    /// Whether something that is after this process, or after a group that it is in, has to go first.
    fn is_blocked(&self, process: NodeId) -> bool {
        core::iter::once(process).chain(ancestors(&self.spec, process)).any(|node| {
            if self.nodes[node.index()].live_dependants == 0 {
                return false;
            }
            let scope_falls = self.spec.node(node).parent.is_some_and(|parent| self.is_falling(parent));
            if scope_falls && !self.order.crosses(node) {
                return true;
            }
            self.order.dependants(node).iter().any(|dependant| self.is_doomed(*dependant))
        })
    }

    /// Whether a node lives and is to end.
    fn is_doomed(&self, id: NodeId) -> bool {
        let node = &self.nodes[id.index()];
        let ending = match &node.state {
            State::Process(state) => matches!(state, ProcessState::Stopping { .. }),
            State::Group(state) => matches!(state, GroupState::Falling { .. }),
        };
        node.live > 0 && (ending || self.is_leaving(id))
    }

    /// The processes in a node, in the order of the file; a process itself.
    pub(super) fn processes_in(&self, id: NodeId) -> Vec<NodeId> {
        let mut found = self.nodes_in(id);
        found.retain(|node| self.process_state(*node).is_some());
        found
    }

    /// A node and all that is in it, in the order of the file.
    pub(super) fn nodes_in(&self, id: NodeId) -> Vec<NodeId> {
        let mut found = vec![id];
        let mut next = 0;
        while let Some(node) = found.get(next).copied() {
            found.extend_from_slice(self.order.members(node));
            next += 1;
        }
        found.sort_unstable();
        found
    }

    /// A process began or ended a life: the counts of everything around it follow.
    pub(super) fn count_life(&mut self, id: NodeId, begins: bool) {
        let mut next = Some(id);
        while let Some(node) = next {
            let live = &mut self.nodes[node.index()].live;
            *live = if begins { *live + 1 } else { *live - 1 };
            if *live == u32::from(begins) {
                self.count_live_dependant(node, begins);
            }
            next = self.spec.node(node).parent;
        }
    }

    /// A node went from nothing alive to something, or back.
    fn count_live_dependant(&mut self, id: NodeId, begins: bool) {
        for index in 0..self.spec.node(id).after.len() {
            let dependency = self.spec.node(id).after[index];
            let count = &mut self.nodes[dependency.index()].live_dependants;
            *count = if begins { *count + 1 } else { *count - 1 };
            let scope = self.spec.node(dependency).parent;
            let decided_by_count = !self.order.crosses(dependency) && scope.is_some_and(|group| self.is_falling(group));
            // Only what is in a falling group waits for others in its stop.
            let stops = self.nodes[dependency.index()].unquiet > 0 || self.is_leaving(dependency);
            if !begins && stops && (self.nodes[dependency.index()].live_dependants == 0 || !decided_by_count) {
                self.agenda.push(Todo::Unblocked(dependency));
            }
        }
    }

    /// Looks again whether a node is ready, or has ended for good, and tells what is after it and what it is in.
    pub(super) fn refresh_passed(&mut self, id: NodeId) {
        let mut next = Some(id);
        while let Some(id) = next {
            let passed = self.has_passed(id);
            if self.nodes[id.index()].passed == passed {
                return;
            }
            self.nodes[id.index()].passed = passed;
            for index in 0..self.order.dependants(id).len() {
                let dependant = self.order.dependants(id)[index];
                let awaited = &mut self.nodes[dependant.index()].awaited;
                *awaited = if passed { *awaited - 1 } else { *awaited + 1 };
                if *awaited == 0 {
                    self.consider_start(dependant);
                }
            }
            next = self.spec.node(id).parent;
            if let Some(parent) = next {
                let unpassed = &mut self.nodes[parent.index()].unpassed_members;
                *unpassed = if passed { *unpassed - 1 } else { *unpassed + 1 };
            }
        }
    }

    /// A process is ready as long as its life is, until it is to begin another one. A group is when all its members
    /// are. What has ended is waited for no longer, unless it comes back with a group around it.
    pub(super) fn has_passed(&self, id: NodeId) -> bool {
        match &self.nodes[id.index()].state {
            State::Process(ProcessState::Waiting | ProcessState::BackingOff { .. }) => false,
            State::Process(ProcessState::Starting { life } | ProcessState::Running { life }) => life.ready,
            State::Process(ProcessState::Lingering { life, .. }) => life.ready,
            State::Process(ProcessState::Stopping { life, outcome, .. }) => match outcome {
                Outcome::Success(_) | Outcome::Failure(_) | Outcome::Collateral => life.ready,
                Outcome::Again { .. } => false,
            },
            State::Group(GroupState::Waiting | GroupState::BackingOff { .. }) => false,
            State::Group(GroupState::Active { .. } | GroupState::Falling { .. }) => {
                self.nodes[id.index()].unpassed_members == 0
            }
            State::Process(ProcessState::Ended(_)) | State::Group(GroupState::Ended(_)) => !self.is_returning(id),
        }
    }

    /// Replaces a group's state and keeps the counts beside it right.
    pub(super) fn set_group(&mut self, id: NodeId, state: GroupState) {
        let before = self.is_unquiet(id);
        let rested = self.is_at_rest(id);
        self.nodes[id.index()].state = State::Group(state);
        self.count_rest(id, rested);
        self.refresh_passed(id);
        let after = self.is_unquiet(id);
        if before == after {
            return;
        }
        let mut next = Some(id);
        while let Some(node) = next {
            let unquiet = &mut self.nodes[node.index()].unquiet;
            *unquiet = if after { *unquiet + 1 } else { *unquiet - 1 };
            next = self.spec.node(node).parent;
        }
    }

    /// Whether members of a group are being stopped.
    pub(super) fn is_unquiet(&self, group: NodeId) -> bool {
        matches!(self.group_state(group), Some(GroupState::Falling { .. } | GroupState::Active { round: Some(_), .. }))
    }

    /// A member comes to rest, or leaves it: the round that takes it along waits for the last one.
    pub(super) fn count_rest(&mut self, id: NodeId, before: bool) {
        let after = self.is_at_rest(id);
        if before == after || !self.in_round(id) {
            return;
        }
        let Some(parent) = self.spec.node(id).parent else { return };
        if let State::Group(GroupState::Active { round: Some(round), .. }) = &mut self.nodes[parent.index()].state {
            round.pending = if after { round.pending - 1 } else { round.pending + 1 };
            if round.pending == 0 {
                self.agenda.push(Todo::Regroup(parent));
            }
        }
    }

    /// Nothing of the node lives or is on its way.
    pub(super) fn is_at_rest(&self, id: NodeId) -> bool {
        match &self.nodes[id.index()].state {
            State::Process(state) => state.life().is_none(),
            State::Group(GroupState::Waiting | GroupState::BackingOff { .. } | GroupState::Ended(_)) => true,
            State::Group(GroupState::Active { .. } | GroupState::Falling { .. }) => false,
        }
    }
}
