//! The shadow's rules for what follows from what.

use fated::name::{Incarnation, NodeId};
use fated::spec::{Consequence, NodeKind, QueueEnd, Readiness};
use fated::supervisor::command::Command;
use fated::supervisor::record::How;
use fated::time::Monotonic;

use crate::shadow::{Own, Phase, Shadow, Stop};

/// What follows from what: each rule looks at all nodes and says whether it changed anything.
impl Shadow {
    pub fn settle(&mut self, now: Monotonic) {
        while self.end_groups(now)
            || self.draw_consequences(now)
            || self.take_along(now)
            || self.stop_in_falls(now)
            || self.end_rounds()
            || self.start(now)
        {}
        self.close_queues();
        self.end_tree(now);
    }

    /// A member whose end means the group's end lets it fall; one that is to live again is counted.
    fn draw_consequences(&mut self, now: Monotonic) -> bool {
        // What has ended further inside has ended before.
        for group in (0..self.nodes.len()).rev() {
            if self.process(group).is_some() || self.nodes[group].phase != Phase::Live {
                continue;
            }
            let drawn = |member: &usize| {
                let node = &self.nodes[*member];
                let own = node.own.clone().filter(|_| node.arisen && node.again.is_none())?;
                match self.meaning(*member, &own) {
                    Consequence::End => Some((own.moment, *member, true)),
                    Consequence::Restart => Some((own.moment, *member, false)),
                    Consequence::Ignore => None,
                }
            };
            match self.members[group].iter().filter_map(drawn).min() {
                Some((_, member, true)) => {
                    if let Some(own) = self.nodes[member].own.clone() {
                        self.fall(group, own, now);
                    }
                    return true;
                }
                Some((_, member, false)) => {
                    self.draw(member, self.nodes[member].since, now);
                    return true;
                }
                None => {}
            }
        }
        false
    }

    /// The own end of a member, if it means the group's end.
    fn fatal(&self, member: usize) -> Option<Own> {
        let own = self.nodes[member].own.clone().filter(|_| self.nodes[member].again.is_none())?;
        (self.meaning(member, &own) == Consequence::End).then_some(own)
    }

    pub fn fall(&mut self, group: usize, own: Own, now: Monotonic) {
        let earlier = self.pending(group).filter(|pending| pending.moment < own.moment);
        self.begin_fall(group, Some(earlier.unwrap_or(own)), now);
    }

    /// The earliest end on its way in a group that would bring it down as well.
    fn pending(&self, group: usize) -> Option<Own> {
        let member = |member: &usize| {
            let node = &self.nodes[*member];
            match (&node.phase, self.process(*member)) {
                (Phase::Live, None) => {
                    let own = self.pending(*member)?;
                    (self.meaning(*member, &own) == Consequence::End).then_some(own)
                }
                (Phase::Live | Phase::Falling, _) => self.fatal(*member),
                (Phase::Idle | Phase::Off(_) | Phase::Over, _) => None,
            }
        };
        self.members[group].iter().filter_map(member).min_by_key(|own| own.moment)
    }

    pub fn begin_fall(&mut self, group: usize, own: Option<Own>, now: Monotonic) {
        let budget = match &self.spec.nodes[group].kind {
            NodeKind::Group(spec) => spec.stop_budget.and_then(|budget| budget.from(now)),
            NodeKind::Process(_) => None,
        };
        let healthy = self.spec.nodes[group].restart.healthy_after;
        let node = &mut self.nodes[group];
        if node.phase == Phase::Live && now - node.since >= healthy {
            node.doublings = 0;
        }
        (node.phase, node.own, node.expires, node.round) = (Phase::Falling, own, budget, None);
        for index in 0..self.members[group].len() {
            let member = self.members[group][index];
            match (&self.nodes[member].phase, self.process(member).is_some()) {
                (Phase::Idle | Phase::Off(_), true) => self.over(member, now),
                (Phase::Idle | Phase::Live | Phase::Off(_), false) => self.begin_fall(member, None, now),
                (Phase::Live, true) | (Phase::Falling | Phase::Over, _) => {}
            }
        }
    }

    fn end_groups(&mut self, now: Monotonic) -> bool {
        // The deepest first; of two as deep, the one that began to end earlier.
        let depth = |group: &usize| self.ancestors(*group).count();
        let moment = |group: &usize| self.nodes[*group].own.as_ref().map(|own| own.moment);
        let mut order: Vec<usize> = (0..self.nodes.len()).rev().collect();
        order.sort_by_key(|group| (core::cmp::Reverse(depth(group)), moment(group)));
        for group in order {
            let ended = self.members[group].iter().all(|member| self.nodes[*member].phase == Phase::Over);
            if self.process(group).is_some() || !ended {
                continue;
            }
            match self.nodes[group].phase {
                Phase::Live => {
                    // The last end may have more to say than that all have ended.
                    if self.members[group].iter().any(|member| self.fatal(*member).is_some()) {
                        continue;
                    }
                    self.nodes[group].own = Some(self.own(true, group, How::AllEnded, now));
                }
                Phase::Falling if self.is_forestalled(group) => continue,
                Phase::Falling => {}
                Phase::Idle | Phase::Off(_) | Phase::Over => continue,
            }
            self.over(group, now);
            return true;
        }
        false
    }

    /// Whether a process beside a falling group, or beside a group around it, had brought down what is around both before.
    fn is_forestalled(&self, group: usize) -> bool {
        let Some(own) = &self.nodes[group].own else { return false };
        let around = self.ancestors(group).filter(|group| self.nodes[*group].phase == Phase::Live);
        let beside = around.flat_map(|group| &self.members[group]).filter(|member| self.process(**member).is_some());
        let ended = beside.filter(|member| self.nodes[**member].arisen);
        ended.filter_map(|member| self.fatal(*member)).any(|fatal| fatal.moment < own.moment)
    }

    /// What is in a falling group is asked to stop once nothing after it that is also to end still lives.
    pub fn stop_in_falls(&mut self, now: Monotonic) -> bool {
        let mut any = false;
        for id in (0..self.nodes.len()).rev() {
            let waits = self.process(id).is_some() && self.nodes[id].phase == Phase::Live;
            if waits && self.nodes[id].stop == Stop::No && self.falls_around(id) && !self.is_blocked(id) {
                self.begin_stop(id, None, now);
                any = true;
            }
        }
        any
    }

    fn falls_around(&self, id: usize) -> bool {
        self.is_taken(id) || self.ancestors(id).any(|group| self.nodes[group].phase == Phase::Falling)
    }

    fn is_blocked(&self, id: usize) -> bool {
        core::iter::once(id).chain(self.ancestors(id)).any(|node| {
            self.dependants[node].iter().any(|dependant| {
                let to_end = match self.process(*dependant) {
                    Some(_) => self.nodes[*dependant].stop != Stop::No,
                    None => self.nodes[*dependant].phase == Phase::Falling,
                };
                (to_end || self.falls_around(*dependant)) && self.is_alive(*dependant)
            })
        })
    }

    fn is_alive(&self, id: usize) -> bool {
        match self.process(id) {
            Some(_) => self.nodes[id].phase == Phase::Live,
            None => self.members[id].iter().any(|member| self.is_alive(*member)),
        }
    }

    /// A node is ready, or has ended for good.
    fn has_passed(&self, id: usize) -> bool {
        match (self.process(id), &self.nodes[id].phase) {
            (_, Phase::Over) => !self.is_returning(id),
            (_, Phase::Idle | Phase::Off(_)) => false,
            (Some(_), Phase::Live | Phase::Falling) => self.nodes[id].ready && self.nodes[id].again.is_none(),
            (None, Phase::Live | Phase::Falling) => {
                !self.members[id].is_empty() && self.members[id].iter().all(|member| self.has_passed(*member))
            }
        }
    }

    fn start(&mut self, now: Monotonic) -> bool {
        // What is not to run is done with first, then groups open, and a process starts only when nothing else follows.
        let rank = |id: &usize| self.process(*id).map_or(1, |process| if process.autostart { 2 } else { 0 });
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by_key(rank);
        for id in order {
            let parent_lives = self.parent(id).is_none_or(|parent| self.nodes[parent].phase == Phase::Live);
            if self.nodes[id].phase != Phase::Idle || !parent_lives || self.is_taken(id) {
                continue;
            }
            if !self.spec.nodes[id].after.iter().all(|dependency| self.has_passed(dependency.index())) {
                continue;
            }
            if self.process(id).is_some_and(|process| !process.autostart) {
                self.over(id, now);
                return true;
            }
            if self.process(id).is_some() {
                let inc = Incarnation { node: NodeId(id as u32), serial: 0 };
                self.expected.push(Command::Start { inc });
            }
            let process = self.process(id);
            let awaited = process.filter(|process| process.ready != Readiness::Started);
            let ready_by = awaited.and_then(|process| process.start_timeout.from(now));
            let watchdog = process.and_then(|process| process.watchdog);
            let node = &mut self.nodes[id];
            (node.phase, node.since, node.ready_by, node.watchdog) = (Phase::Live, now, ready_by, watchdog);
            node.expires = self.spec.nodes[id].lifetime.map(|lifetime| now + lifetime);
            return true;
        }
        false
    }

    pub fn close_queues(&mut self) {
        for index in 0..self.spec.queues.len() {
            for end in [QueueEnd::Put, QueueEnd::Get] {
                let may_use = |id: usize| self.may_use(id, index, end == QueueEnd::Put);
                if !self.closed.contains(&(index, end)) && !(0..self.nodes.len()).any(may_use) {
                    let queue = fated::name::QueueId(index as u32);
                    self.expected.push(Command::CloseQueue { queue, end });
                    self.closed.push((index, end));
                }
            }
        }
    }
}
