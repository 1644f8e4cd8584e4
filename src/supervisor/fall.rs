//! The transitions of a group, and the order in which a fall stops what is in it.
//!
//! A process of a falling group is stopped once nothing that is `after` it, or after a group around it, still lives
//! and is itself to end. What lives on elsewhere holds nothing up.

use crate::name::NodeId;
use crate::spec::{Consequence, NodeKind};
use crate::supervisor::Supervisor;
use crate::supervisor::agenda::Todo;
use crate::supervisor::node::{Budget, GroupState, Outcome, ProcessState, State};
use crate::supervisor::order::ancestors;
use crate::supervisor::record::{Cause, How, What};
use crate::time::{Limit, Monotonic};

impl Supervisor {
    /// A group begins to live, and those of its members that wait for nothing.
    pub(super) fn activate(&mut self, id: NodeId, now: Monotonic) {
        let expires = self.spec.node(id).lifetime.map(|lifetime| now + lifetime);
        self.set_group(id, GroupState::Active { expires });
        for index in 0..self.order.members(id).len() {
            self.consider_start(self.order.members(id)[index]);
        }
        if self.order.members(id).is_empty() {
            self.end_group(id, now);
        }
    }

    pub(super) fn on_group_deadline(&mut self, id: NodeId, now: Monotonic) {
        match self.group_state(id) {
            Some(GroupState::Active { .. }) => {
                let cause = self.lifetime_cause(id, now);
                self.fall(id, Outcome::Failure(cause), now);
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
        let active = matches!(self.group_state(parent), Some(GroupState::Active { .. }));
        if active && self.consequence(id, &outcome) == Some(Consequence::End) {
            self.fall(parent, outcome, now);
        }
    }

    /// What the end of a node means to its group; `None` for an end that was brought about from outside.
    fn consequence(&self, id: NodeId, outcome: &Outcome) -> Option<Consequence> {
        let fate = self.spec.node(id).fate;
        match outcome {
            Outcome::Success(_) => Some(fate.on_success),
            Outcome::Failure(_) => Some(fate.on_failure),
            Outcome::Collateral => None,
        }
    }

    /// The outcome of a node that has ended or is about to.
    fn outcome_of(&self, id: NodeId) -> Option<&Outcome> {
        match &self.nodes[id.index()].state {
            State::Process(ProcessState::Ended(ended)) => Some(&ended.outcome),
            State::Process(ProcessState::Stopping { outcome, .. } | ProcessState::Lingering { outcome, .. }) => {
                Some(outcome)
            }
            State::Process(ProcessState::Waiting | ProcessState::Starting { .. } | ProcessState::Running { .. }) => {
                None
            }
            State::Group(GroupState::Ended(outcome) | GroupState::Falling { outcome, .. }) => Some(outcome),
            State::Group(GroupState::Waiting | GroupState::Active { .. }) => None,
        }
    }

    /// Begins the end of a group and of everything in it.
    pub(super) fn fall(&mut self, id: NodeId, outcome: Outcome, now: Monotonic) {
        let outcome = self.earliest_cause_in(id, outcome);
        let Some(cause) = outcome.cause().cloned() else { return };
        self.record(now, What::GroupFalling { group: id, because: cause.clone() });
        let mut groups = vec![(id, outcome)];
        let mut living = Vec::new();
        while let Some((group, outcome)) = groups.pop() {
            self.begin_fall(group, cause.clone(), outcome, now);
            for index in 0..self.order.members(group).len() {
                let member = self.order.members(group)[index];
                match &self.nodes[member.index()].state {
                    State::Process(ProcessState::Waiting) => self.end_unstarted(member, now),
                    State::Process(ProcessState::Ended(_)) => {}
                    State::Process(_) => living.push(member),
                    State::Group(GroupState::Waiting | GroupState::Active { .. }) => {
                        groups.push((member, Outcome::Collateral));
                    }
                    State::Group(GroupState::Falling { .. } | GroupState::Ended(_)) => {}
                }
            }
        }
        living.sort_unstable();
        for process in living.into_iter().rev() {
            self.stop_if_unblocked(process, now);
        }
    }

    fn begin_fall(&mut self, id: NodeId, cause: Cause, outcome: Outcome, now: Monotonic) {
        let limit = match &self.spec.node(id).kind {
            NodeKind::Group(group) => group.stop_budget.unwrap_or(Limit::Never),
            NodeKind::Process(_) => Limit::Never,
        };
        let budget = Budget::Until(limit.from(now));
        self.set_group(id, GroupState::Falling { cause, outcome, budget });
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
            Outcome::Collateral => None,
            outcome @ (Outcome::Success(_) | Outcome::Failure(_)) => Some(outcome),
        }
    }

    fn end_group(&mut self, id: NodeId, now: Monotonic) {
        let outcome = match self.group_state(id) {
            Some(GroupState::Falling { outcome, .. }) => outcome.clone(),
            Some(GroupState::Active { .. } | GroupState::Waiting) => {
                Outcome::Success(self.cause(id, How::AllEnded, now))
            }
            Some(GroupState::Ended(_)) | None => return,
        };
        self.set_group(id, GroupState::Ended(outcome));
        self.record(now, What::GroupEnded { group: id });
        self.pass(id);
        self.agenda.push(Todo::Ended(id));
    }

    /// Something that a process waited for in its stop has gone.
    pub(super) fn stop_what_may(&mut self, id: NodeId, now: Monotonic) {
        for process in self.processes_in(id).into_iter().rev() {
            self.stop_if_unblocked(process, now);
        }
    }

    fn stop_if_unblocked(&mut self, id: NodeId, now: Monotonic) {
        let falls = self.spec.node(id).parent.is_some_and(|parent| self.is_falling(parent));
        if falls && !self.is_blocked(id) {
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
        let parent_falls = self.spec.node(id).parent.is_some_and(|parent| self.is_falling(parent));
        node.live > 0 && (ending || parent_falls)
    }

    /// The processes in a node, in the order of the file; a process itself.
    fn processes_in(&self, id: NodeId) -> Vec<NodeId> {
        let mut found = Vec::new();
        let mut open = vec![id];
        while let Some(node) = open.pop() {
            match &self.nodes[node.index()].state {
                State::Process(_) => found.push(node),
                State::Group(_) => open.extend_from_slice(self.order.members(node)),
            }
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
            let stops = self.nodes[dependency.index()].falling > 0 || scope.is_some_and(|group| self.is_falling(group));
            if !begins && stops && (self.nodes[dependency.index()].live_dependants == 0 || !decided_by_count) {
                self.agenda.push(Todo::Unblocked(dependency));
            }
        }
    }

    /// A node is ready or has ended, for the first time: tell what is after it.
    pub(super) fn pass(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.index()];
        if !node.passed {
            node.passed = true;
            self.agenda.push(Todo::Passed(id));
        }
    }

    pub(super) fn on_passed(&mut self, id: NodeId) {
        for index in 0..self.order.dependants(id).len() {
            let dependant = self.order.dependants(id)[index];
            let node = &mut self.nodes[dependant.index()];
            node.awaited -= 1;
            if node.awaited == 0 {
                self.consider_start(dependant);
            }
        }
        if let Some(parent) = self.spec.node(id).parent {
            let group = &mut self.nodes[parent.index()];
            group.unpassed_members -= 1;
            if group.unpassed_members == 0 {
                self.pass(parent);
            }
        }
    }

    /// Replaces a group's state and keeps the counts of falling groups right.
    fn set_group(&mut self, id: NodeId, state: GroupState) {
        let before = self.is_falling(id);
        self.nodes[id.index()].state = State::Group(state);
        let after = self.is_falling(id);
        if before == after {
            return;
        }
        let mut next = Some(id);
        while let Some(node) = next {
            let falling = &mut self.nodes[node.index()].falling;
            *falling = if after { *falling + 1 } else { *falling - 1 };
            next = self.spec.node(node).parent;
        }
    }
}
