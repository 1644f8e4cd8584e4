//! The rules of fate a second time, in the plainest form that can be written: after each thing that happened, look at
//! every node again and again until nothing follows any more. No counts, no agenda, no order of its own.
//!
//! It says which commands the core has to give in this step (`take_expected`) and what its next deadline is.
//! Written from the documented rules, so that a mistake has to be made twice to stay unseen.

use fated::exit::ExitStatus;
use fated::name::{Incarnation, NodeId};
use fated::signal::Signal;
use fated::spec::{Door, Leftovers, ProcessSpec, QueueEnd, TreeSpec};
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
    pub members: Vec<Vec<usize>>,
    pub dependants: Vec<Vec<usize>>,
    /// 0: calm; 1: every stop timeout is a second at most; 2: everything is killed.
    pub urgency: u8,
    /// Somebody outside asked for the end.
    pub stop_wanted: bool,
    pub stop_signal: Option<Signal>,
    pub end: End,
    pub closed: Vec<(usize, QueueEnd)>,
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
    pub arisen: bool,
    /// A process that has been ready or has ended.
    pub ready: bool,
    pub inc: Option<Incarnation>,
    pub since: Monotonic,
    /// Lifetime of what is live, budget of what falls.
    pub expires: Option<Monotonic>,
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

    pub fn parent(&self, id: usize) -> Option<usize> {
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
                self.signal_all(Signal::STOP, Scope::Everything);
                self.expected.push(Command::Suspend);
            }
            (Signal::CONT, _) => self.signal_all(Signal::CONT, Scope::Everything),
            (_, Some(_)) if received == Signal::TERM => {
                if signal != Signal::TERM {
                    self.stop_signal = Some(signal);
                }
                self.request(how, now);
            }
            (_, Some(run)) => self.signal_all(signal, if run.signal_group { Scope::Group } else { Scope::Main }),
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

    fn signal_all(&mut self, signal: Signal, scope: Scope) {
        let living = self.nodes.iter().filter(|node| node.phase == Phase::Live).filter_map(|node| node.inc);
        let commands: Vec<_> = living.map(|inc| Command::Signal { inc, signal, scope }).collect();
        self.expected.extend(commands);
    }

    pub fn own(&mut self, success: bool, id: usize, how: How, now: Monotonic) -> Own {
        self.moment += 1;
        Own { success, cause: Cause { at: now, node: NodeId(id as u32), how }, moment: self.moment }
    }

    /// Nothing of the process is left, or it will never run.
    pub fn over(&mut self, id: usize) {
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

    pub fn begin_stop(&mut self, id: usize, now: Monotonic) {
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
