//! The rules of fate a second time, in the plainest form that can be written: after each thing that happened, look at
//! every node again and again until nothing follows any more. No counts, no agenda, no order of its own.
//!
//! It says which commands the core has to give in this step (`take_expected`) and what its next deadline is.
//! Written from the documented rules, so that a mistake has to be made twice to stay unseen.

use fated::exit::ExitStatus;
use fated::name::{Incarnation, NodeId};
use fated::signal::Signal;
use fated::spec::{Consequence, Door, Leftovers, NodeKind, ProcessSpec, QueueEnd, TreeSpec};
use fated::start::StartError;
use fated::supervisor::HASTENED_TIMEOUT;
use fated::supervisor::command::{Command, Scope};
use fated::supervisor::event::{Event, Tie};
use fated::supervisor::node::KILL_PATIENCE;
use fated::supervisor::record::{Cause, How};
use fated::time::{Limit, Monotonic};

use crate::last::End;

pub struct Shadow {
    pub spec: TreeSpec,
    pub nodes: Vec<Node>,
    members: Vec<Vec<usize>>,
    dependants: Vec<Vec<usize>>,
    /// 0: calm; 1: every stop timeout is a second at most; 2: everything is killed.
    pub urgency: u8,
    /// Somebody outside asked for the end.
    pub stop_wanted: bool,
    pub stop_signal: Option<Signal>,
    pub end: End,
    closed: Vec<(usize, QueueEnd)>,
    pub expected: Vec<Command>,
    /// Counts what happened, so that of two things in one instant the earlier is known.
    moment: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Idle,
    Live,
    /// A group that ends.
    Falling,
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    No,
    Asked(Option<Monotonic>),
    Killed(Monotonic),
}

/// The end of a node that was not brought about from outside of it.
#[derive(Clone, Debug)]
pub struct Own {
    pub success: bool,
    pub cause: Cause,
    pub moment: u64,
}

pub struct Node {
    pub phase: Phase,
    pub own: Option<Own>,
    /// The own end takes effect one level up from now on.
    arisen: bool,
    /// A process that has been ready or has ended.
    ready: bool,
    pub inc: Option<Incarnation>,
    since: Monotonic,
    /// Lifetime of what is live, budget of what falls.
    expires: Option<Monotonic>,
    pub main: Option<ExitStatus>,
    pub stop: Stop,
    pub given_up: bool,
}

impl Shadow {
    pub fn new(spec: TreeSpec, now: Monotonic) -> Self {
        let count = spec.nodes.len();
        let (mut members, mut dependants) = (vec![Vec::new(); count], vec![Vec::new(); count]);
        for id in 0..count {
            if let Some(parent) = spec.nodes[id].parent {
                members[parent.index()].push(id);
            }
            spec.nodes[id].after.iter().for_each(|dependency| dependants[dependency.index()].push(id));
        }
        let node = |_| Node {
            phase: Phase::Idle,
            own: None,
            arisen: false,
            ready: false,
            inc: None,
            since: now,
            expires: None,
            main: None,
            stop: Stop::No,
            given_up: false,
        };
        let mut shadow = Self {
            nodes: (0..count).map(node).collect(),
            spec,
            members,
            dependants,
            urgency: 0,
            stop_wanted: false,
            stop_signal: None,
            end: End::NotYet,
            closed: Vec::new(),
            expected: Vec::new(),
            moment: 0,
        };
        shadow.settle(now);
        shadow
    }

    pub fn take_expected(&mut self) -> Vec<Command> {
        core::mem::take(&mut self.expected)
    }

    pub fn process(&self, id: usize) -> Option<&ProcessSpec> {
        self.spec.nodes[id].process()
    }

    fn parent(&self, id: usize) -> Option<usize> {
        self.spec.nodes[id].parent.map(NodeId::index)
    }

    pub fn ancestors(&self, id: usize) -> impl Iterator<Item = usize> + '_ {
        core::iter::successors(self.parent(id), |group| self.parent(*group))
    }

    /// The node that is in just this life.
    fn living(&self, inc: Incarnation) -> Option<usize> {
        let id = inc.node.index();
        let node = self.nodes.get(id)?;
        (node.phase == Phase::Live && node.inc == Some(inc)).then_some(id)
    }

    pub fn handle_event(&mut self, event: &Event, now: Monotonic) {
        if self.end == End::Over {
            return;
        }
        match event {
            Event::Spawned { .. } => {}
            Event::Started { inc } => {
                if let Some(id) = self.living(*inc) {
                    let node = &mut self.nodes[id];
                    node.ready |= node.stop == Stop::No && node.main.is_none();
                }
            }
            Event::StartFailed { inc, error } => self.on_start_failed(*inc, error, now),
            Event::Exited { inc, status, leftovers } => self.on_exited(*inc, *status, *leftovers, now),
            Event::Emptied { inc } => {
                if let Some(id) = self.living(*inc).filter(|id| self.nodes[*id].main.is_some()) {
                    self.over(id);
                }
            }
            Event::Strays { any } => self.on_strays(*any, now),
            Event::Signal(signal) => self.on_signal(*signal, now),
            Event::TieBroken(tie) => self.on_tie(tie.clone(), now),
            Event::Stopped { inc, .. } => {
                if self.living(*inc).is_some() {
                    self.expected.push(Command::Suspend);
                }
            }
        }
        self.settle(now);
    }

    pub fn handle_timeout(&mut self, now: Monotonic) {
        for id in 0..self.nodes.len() {
            if self.deadline(id).is_some_and(|deadline| deadline <= now) {
                self.on_deadline(id, now);
            }
        }
        self.on_end_deadline(now);
        self.settle(now);
    }

    pub fn next_deadline(&self) -> Option<Monotonic> {
        (0..self.nodes.len()).filter_map(|id| self.deadline(id)).chain(self.end.deadline()).min()
    }

    fn deadline(&self, id: usize) -> Option<Monotonic> {
        let node = &self.nodes[id];
        match (&node.phase, &node.stop) {
            (Phase::Live | Phase::Falling, Stop::No) => node.expires,
            (Phase::Live, Stop::Asked(until)) => *until,
            (Phase::Live, Stop::Killed(until)) => Some(*until),
            (Phase::Idle | Phase::Over | Phase::Falling, _) => None,
        }
    }

    fn on_deadline(&mut self, id: usize, now: Monotonic) {
        let is_group = self.process(id).is_none();
        match (&self.nodes[id].phase, &self.nodes[id].stop) {
            (Phase::Falling, _) => {
                self.nodes[id].expires = None;
                let inside: Vec<usize> =
                    (0..self.nodes.len()).filter(|node| self.ancestors(*node).any(|group| group == id)).collect();
                inside.into_iter().for_each(|process| self.kill(process, now));
            }
            (Phase::Live, Stop::No) => {
                let limit = self.spec.nodes[id].lifetime.unwrap_or_default();
                let own = self.own(false, id, How::Lifetime { limit }, now);
                if is_group {
                    self.fall(id, own, now);
                    self.stop_in_falls(now);
                } else {
                    self.nodes[id].own = Some(own);
                    self.nodes[id].arisen = self.nodes[id].main.is_some();
                    self.begin_stop(id, now);
                }
            }
            (Phase::Live, Stop::Asked(_)) => self.kill(id, now),
            (Phase::Live, Stop::Killed(_)) => {
                self.nodes[id].given_up = true;
                self.over(id);
            }
            (Phase::Idle | Phase::Over, _) => {}
        }
    }

    fn on_start_failed(&mut self, inc: Incarnation, error: &StartError, now: Monotonic) {
        let Some(id) = self.living(inc) else { return };
        if self.nodes[id].stop == Stop::No {
            self.nodes[id].own = Some(self.own(false, id, How::StartFailed(error.clone()), now));
        }
        self.over(id);
    }

    fn on_exited(&mut self, inc: Incarnation, status: ExitStatus, leftovers: bool, now: Monotonic) {
        let Some(id) = self.living(inc).filter(|id| self.nodes[*id].main.is_none()) else { return };
        let Some(process) = self.process(id) else { return };
        let (policy, success) = (process.leftovers, process.is_success(status));
        let asked = self.nodes[id].stop.clone();
        if asked == Stop::No {
            let age = now - self.nodes[id].since;
            self.nodes[id].own = Some(self.own(success, id, How::Exited { status, age }, now));
        }
        self.nodes[id].main = Some(status);
        self.nodes[id].ready = true;
        if leftovers && policy == Leftovers::Ignore {
            self.expected.push(Command::Release { inc });
        }
        if !leftovers || policy == Leftovers::Ignore {
            self.over(id);
            return;
        }
        match (asked, policy) {
            (Stop::No, Leftovers::Wait) => return,
            (Stop::No, Leftovers::Stop | Leftovers::Ignore) => self.begin_stop(id, now),
            (Stop::Asked(_), _) => self.ask(id),
            (Stop::Killed(_), _) => {}
        }
        self.nodes[id].arisen = true;
    }

    fn on_signal(&mut self, received: Signal, now: Monotonic) {
        let rewritten = self.spec.signal_map.iter().find(|(from, _)| *from == received);
        let Some(signal) = rewritten.map_or(Some(received), |(_, to)| *to) else { return };
        let run = match &self.spec.door {
            Door::Run(run) => Some(run.clone()),
            Door::Up => None,
        };
        let how = How::Requested { signal: received };
        match (signal, &run) {
            // fated's own children end: no message for anybody.
            (Signal::CHLD, _) => {}
            (Signal::TSTP | Signal::TTIN | Signal::TTOU, _) => {
                self.signal_everything(Signal::STOP, Scope::Everything);
                self.expected.push(Command::Suspend);
            }
            (Signal::CONT, _) => self.signal_everything(Signal::CONT, Scope::Everything),
            (_, Some(_)) if received == Signal::TERM => {
                if signal != Signal::TERM {
                    self.stop_signal = Some(signal);
                }
                self.request(how, now);
            }
            (_, Some(run)) => self.signal_everything(signal, if run.signal_group { Scope::Group } else { Scope::Main }),
            (Signal::TERM | Signal::HUP, None) => self.request(how, now),
            (Signal::INT | Signal::QUIT, None) if self.nodes[0].phase == Phase::Live => self.request(how, now),
            (Signal::INT | Signal::QUIT, None) => self.hasten(now),
            (_, None) => {}
        }
    }

    fn on_tie(&mut self, tie: Tie, now: Monotonic) {
        self.request(How::TieBroken(tie), now);
    }

    fn request(&mut self, how: How, now: Monotonic) {
        self.stop_wanted = true;
        if self.nodes[0].phase == Phase::Live {
            let own = self.own(true, 0, how, now);
            self.fall(0, own, now);
        } else if matches!(self.end, End::Waiting { .. }) {
            self.ask_strays(now);
        }
    }

    fn hasten(&mut self, now: Monotonic) {
        self.urgency = (self.urgency + 1).min(2);
        let hastened = now + HASTENED_TIMEOUT;
        for id in 0..self.nodes.len() {
            if self.urgency == 2 {
                self.kill(id, now);
            } else if let (Phase::Live, Stop::Asked(until)) = (&self.nodes[id].phase, &self.nodes[id].stop) {
                self.nodes[id].stop = Stop::Asked(Some(until.map_or(hastened, |until| until.min(hastened))));
            }
        }
        self.hasten_strays(now);
    }

    fn signal_everything(&mut self, signal: Signal, scope: Scope) {
        let living = self.nodes.iter().filter(|node| node.phase == Phase::Live).filter_map(|node| node.inc);
        let commands: Vec<_> = living.map(|inc| Command::Signal { inc, signal, scope }).collect();
        self.expected.extend(commands);
    }

    fn own(&mut self, success: bool, id: usize, how: How, now: Monotonic) -> Own {
        self.moment += 1;
        Own { success, cause: Cause { at: now, node: NodeId(id as u32), how }, moment: self.moment }
    }

    /// Nothing of the process is left, or it will never run.
    fn over(&mut self, id: usize) {
        let node = &mut self.nodes[id];
        node.phase = Phase::Over;
        node.ready = true;
        node.arisen = true;
    }

    pub fn patience(&self, limit: Limit) -> Limit {
        match self.urgency {
            0 => limit,
            1 => limit.at_most(HASTENED_TIMEOUT),
            _ => Limit::AT_ONCE,
        }
    }

    fn begin_stop(&mut self, id: usize, now: Monotonic) {
        let Some(plan) = self.process(id).map(|process| process.stop) else { return };
        let limit = self.patience(plan.timeout);
        if limit == Limit::AT_ONCE {
            self.kill(id, now);
        } else {
            self.nodes[id].stop = Stop::Asked(limit.from(now));
            self.ask(id);
        }
    }

    fn ask(&mut self, id: usize) {
        let (Some(process), Some(inc)) = (self.process(id), self.nodes[id].inc) else { return };
        let signal = self.stop_signal.unwrap_or(process.stop.signal);
        let group = matches!(&self.spec.door, Door::Run(run) if run.signal_group);
        let scope = match (self.nodes[id].main, group) {
            (Some(_), _) => Scope::Leftovers,
            (None, true) => Scope::Group,
            (None, false) => Scope::Main,
        };
        self.expected.push(Command::Signal { inc, signal, scope });
        self.expected.push(Command::Wake { inc, scope });
    }

    fn kill(&mut self, id: usize, now: Monotonic) {
        let (Some(process), Some(inc)) = (self.process(id), self.nodes[id].inc) else { return };
        if self.nodes[id].phase != Phase::Live || matches!(self.nodes[id].stop, Stop::Killed(_)) {
            return;
        }
        let scope = if process.leftovers == Leftovers::Ignore { Scope::Main } else { Scope::Everything };
        self.expected.push(Command::Kill { inc, scope });
        self.nodes[id].stop = Stop::Killed(now + KILL_PATIENCE);
    }
}

/// What follows from what: each rule looks at all nodes and says whether it changed anything.
impl Shadow {
    fn settle(&mut self, now: Monotonic) {
        while self.end_groups(now) || self.draw_consequences(now) || self.stop_in_falls(now) || self.start(now) {}
        self.close_queues();
        self.end_tree(now);
    }

    /// A member whose end means the group's end lets it fall.
    fn draw_consequences(&mut self, now: Monotonic) -> bool {
        for group in 0..self.nodes.len() {
            if self.process(group).is_some() || self.nodes[group].phase != Phase::Live {
                continue;
            }
            let arisen = self.members[group].iter().filter(|member| self.nodes[**member].arisen);
            let first = arisen.filter_map(|member| self.fatal(*member)).min_by_key(|own| own.moment);
            if let Some(own) = first {
                self.fall(group, own, now);
                return true;
            }
        }
        false
    }

    /// The own end of a member, if it means the group's end.
    fn fatal(&self, member: usize) -> Option<Own> {
        let own = self.nodes[member].own.clone()?;
        let fate = self.spec.nodes[member].fate;
        let consequence = if own.success { fate.on_success } else { fate.on_failure };
        (consequence == Consequence::End).then_some(own)
    }

    fn fall(&mut self, group: usize, own: Own, now: Monotonic) {
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
                    let fate = self.spec.nodes[*member].fate;
                    let consequence = if own.success { fate.on_success } else { fate.on_failure };
                    (consequence == Consequence::End).then_some(own)
                }
                (Phase::Live | Phase::Falling, _) => self.fatal(*member),
                (Phase::Idle | Phase::Over, _) => None,
            }
        };
        self.members[group].iter().filter_map(member).min_by_key(|own| own.moment)
    }

    fn begin_fall(&mut self, group: usize, own: Option<Own>, now: Monotonic) {
        let budget = match &self.spec.nodes[group].kind {
            NodeKind::Group(spec) => spec.stop_budget.and_then(|budget| budget.from(now)),
            NodeKind::Process(_) => None,
        };
        let node = &mut self.nodes[group];
        (node.phase, node.own, node.expires) = (Phase::Falling, own, budget);
        for index in 0..self.members[group].len() {
            let member = self.members[group][index];
            match (&self.nodes[member].phase, self.process(member).is_some()) {
                (Phase::Idle, true) => self.over(member),
                (Phase::Idle | Phase::Live, false) => self.begin_fall(member, None, now),
                (Phase::Live, true) | (Phase::Falling | Phase::Over, _) => {}
            }
        }
    }

    fn end_groups(&mut self, now: Monotonic) -> bool {
        for group in (0..self.nodes.len()).rev() {
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
                Phase::Falling => {}
                Phase::Idle | Phase::Over => continue,
            }
            self.over(group);
            return true;
        }
        false
    }

    /// What is in a falling group is asked to stop once nothing after it that is also to end still lives.
    fn stop_in_falls(&mut self, now: Monotonic) -> bool {
        let mut any = false;
        for id in (0..self.nodes.len()).rev() {
            let waits = self.process(id).is_some() && self.nodes[id].phase == Phase::Live;
            if waits && self.nodes[id].stop == Stop::No && self.falls_around(id) && !self.is_blocked(id) {
                self.begin_stop(id, now);
                any = true;
            }
        }
        any
    }

    fn falls_around(&self, id: usize) -> bool {
        self.ancestors(id).any(|group| self.nodes[group].phase == Phase::Falling)
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

    /// A node has been ready, or has ended.
    fn has_passed(&self, id: usize) -> bool {
        match (self.process(id), &self.nodes[id].phase) {
            (_, Phase::Over) => true,
            (Some(_), _) => self.nodes[id].ready,
            (None, _) => !self.members[id].is_empty() && self.members[id].iter().all(|member| self.has_passed(*member)),
        }
    }

    fn start(&mut self, now: Monotonic) -> bool {
        // A process starts only when nothing else is left to follow in this step.
        let runs = |id: &usize| self.process(*id).is_some_and(|process| process.autostart);
        let (last, first): (Vec<usize>, Vec<usize>) = (0..self.nodes.len()).partition(runs);
        for id in first.into_iter().chain(last) {
            let parent_lives = self.parent(id).is_none_or(|parent| self.nodes[parent].phase == Phase::Live);
            if self.nodes[id].phase != Phase::Idle || !parent_lives {
                continue;
            }
            if !self.spec.nodes[id].after.iter().all(|dependency| self.has_passed(dependency.index())) {
                continue;
            }
            if self.process(id).is_some_and(|process| !process.autostart) {
                self.over(id);
                return true;
            }
            if self.process(id).is_some() {
                let inc = Incarnation { node: NodeId(id as u32), serial: 0 };
                self.expected.push(Command::Start { inc });
            }
            let node = &mut self.nodes[id];
            (node.phase, node.since) = (Phase::Live, now);
            node.expires = self.spec.nodes[id].lifetime.map(|lifetime| now + lifetime);
            return true;
        }
        false
    }

    fn close_queues(&mut self) {
        for index in 0..self.spec.queues.len() {
            for end in [QueueEnd::Put, QueueEnd::Get] {
                let may_use = |id: usize| {
                    let mut uses = self.process(id).into_iter().flat_map(|process| &process.queues);
                    let named = |put, get| if end == QueueEnd::Put { put } else { get };
                    self.nodes[id].phase != Phase::Over
                        && uses.any(|usage| usage.queue.index() == index && named(usage.put, usage.get))
                };
                if !self.closed.contains(&(index, end)) && !(0..self.nodes.len()).any(may_use) {
                    let queue = fated::name::QueueId(index as u32);
                    self.expected.push(Command::CloseQueue { queue, end });
                    self.closed.push((index, end));
                }
            }
        }
    }
}
