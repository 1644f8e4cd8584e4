//! What holds between any two public calls. Swept after each of them in debug builds.

use crate::name::NodeId;
use crate::supervisor::Supervisor;
use crate::supervisor::ending::Ending;
use crate::supervisor::node::{GroupState, ProcessState, State};

impl Supervisor {
    /// # Panics
    /// When a rule is broken: the state is then a defect of the core's.
    pub(super) fn check_invariants(&self) {
        assert!(self.agenda.is_empty(), "the agenda is worked off");
        for id in self.spec.ids() {
            self.check_counts(id);
            match &self.nodes[id.index()].state {
                State::Process(state) => self.check_process(id, state),
                State::Group(state) => self.check_group(id, state),
            }
        }
        self.check_queues();
        if self.ending != Ending::NotYet {
            assert!(matches!(self.group_state(NodeId::ROOT), Some(GroupState::Ended(_))), "the root ends first");
        }
    }

    /// The counts beside the states are what the states say.
    fn check_counts(&self, id: NodeId) {
        let node = &self.nodes[id.index()];
        let spec = self.spec.node(id);
        let awaited = spec.after.iter().filter(|dependency| !self.nodes[dependency.index()].passed).count();
        assert_eq!(node.awaited as usize, awaited, "awaited of {}", spec.path);
        let dependants = self.order.dependants(id);
        let live_dependants = dependants.iter().filter(|dependant| self.nodes[dependant.index()].live > 0).count();
        assert_eq!(node.live_dependants as usize, live_dependants, "live dependants of {}", spec.path);
        let members = self.order.members(id);
        let live = match &node.state {
            State::Process(state) => u32::from(state.life().is_some()),
            State::Group(_) => members.iter().map(|member| self.nodes[member.index()].live).sum(),
        };
        assert_eq!(node.live, live, "live of {}", spec.path);
        let unquiet: u32 = members.iter().map(|member| self.nodes[member.index()].unquiet).sum();
        assert_eq!(node.unquiet, unquiet + u32::from(self.is_unquiet(id)), "unquiet groups in {}", spec.path);
        let open = members.iter().filter(|member| !self.has_ended(**member)).count();
        assert_eq!(node.open_members as usize, open, "open members of {}", spec.path);
        let unpassed = members.iter().filter(|member| !self.nodes[member.index()].passed).count();
        assert_eq!(node.unpassed_members as usize, unpassed, "unpassed members of {}", spec.path);
        assert_eq!(node.passed, self.has_passed(id), "passed of {}", spec.path);
        for (index, holds) in node.holds.iter().enumerate() {
            assert_eq!(*holds, self.may_use(id, index), "{} holds use {index}", spec.path);
        }
    }

    fn check_process(&self, id: NodeId, state: &ProcessState) {
        let path = &self.spec.node(id).path;
        let parent = self.spec.node(id).parent.and_then(|parent| self.group_state(parent));
        match (parent, state) {
            (Some(GroupState::Waiting), ProcessState::Waiting) => {}
            (Some(GroupState::Waiting), _) => panic!("{path} runs before its group"),
            (Some(GroupState::Ended(_) | GroupState::BackingOff { .. }), ProcessState::Ended(_)) => {}
            (Some(GroupState::Ended(_) | GroupState::BackingOff { .. }), _) => panic!("{path} outlives its group"),
            (Some(GroupState::Falling { .. }), ProcessState::Waiting) => panic!("{path} waits in a falling group"),
            (Some(GroupState::Falling { .. }), ProcessState::BackingOff { .. }) => {
                panic!("{path} backs off in a falling group")
            }
            (Some(GroupState::Active { .. }), ProcessState::Waiting) => {
                assert!(self.nodes[id.index()].awaited > 0 || self.in_round(id), "{path} waits for nothing");
            }
            (Some(GroupState::Active { .. }), ProcessState::BackingOff { until }) => {
                assert_eq!(until.is_none(), self.in_round(id), "{path} backs off alone or with its round");
            }
            (Some(GroupState::Active { .. } | GroupState::Falling { .. }), _) => {}
            (None, _) => panic!("{path} is in no group"),
        }
    }

    fn check_group(&self, id: NodeId, state: &GroupState) {
        let node = &self.nodes[id.index()];
        let path = &self.spec.node(id).path;
        match state {
            GroupState::Ended(_) => assert_eq!(node.open_members, 0, "group {path} has ended"),
            GroupState::Active { round, .. } => {
                assert!(node.open_members > 0, "group {path} has nothing left and goes on");
                if let Some(round) = round {
                    let members = self.order.members_from(id, round.from);
                    let pending = members.iter().filter(|member| !self.is_at_rest(**member)).count();
                    assert_eq!(round.pending as usize, pending, "those whom the round of {path} waits for");
                    assert!(pending > 0 || round.until.is_some(), "the round of {path} waits for nothing");
                }
            }
            GroupState::Falling { .. } => assert!(node.open_members > 0, "group {path} has nothing left and falls"),
            GroupState::BackingOff { .. } => {
                assert_eq!((node.open_members, node.live), (0, 0), "group {path} is between two lives");
            }
            GroupState::Waiting => assert_eq!(node.live, 0, "group {path} has not begun"),
        }
    }

    fn check_queues(&self) {
        for (index, users) in self.queue_users.iter().enumerate() {
            let (mut putters, mut getters) = (0, 0);
            for (id, process) in self.spec.processes() {
                let held = process.queues.iter().zip(&self.nodes[id.index()].holds).filter(|(_, holds)| **holds);
                for (usage, _) in held.filter(|(usage, _)| usage.queue.index() == index) {
                    putters += u32::from(usage.put);
                    getters += u32::from(usage.get);
                }
            }
            assert_eq!((users.putters, users.getters), (putters, getters), "users of queue {index}");
        }
    }
}
