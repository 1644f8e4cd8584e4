//! The core: every rule about life and death, without input or output.
//!
//! A `Supervisor` is driven by its owner in this order, for each wake of the kernel side:
//!
//! 1. `handle_event` for each thing that happened, with the present;
//! 2. `handle_timeout` once `poll_timeout` has passed (too early or too often is harmless);
//! 3. `poll_command` until it gives `None`, carrying each command out; what fails comes back as an event;
//! 4. `poll_timeout` to know when to wake at the latest.
//!
//! `handle_*` takes things in, `poll_*` gives things out, `on_*` and `begin_*` are its own. An event that carries an
//! earlier incarnation changes nothing. After `Command::End` nothing changes any more.
//!
//! Inside, one transition never calls the next: it puts a `Todo` on the agenda, which is worked off before a public
//! call returns. The depth of the tree is therefore not the depth of the stack.

mod agenda;
pub mod command;
pub mod ending;
pub mod event;
mod fall;
mod invariant;
pub mod node;
mod order;
mod process;
mod readiness;
pub mod record;
pub mod request;
mod restart;
pub mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::name::{Incarnation, NodeId, QueueId};
use crate::signal::Signal;
use crate::spec::{NodeKind, ProcessSpec, QueueEnd, TreeSpec};
use crate::time::{Duration, Limit, Monotonic};
use agenda::{Agenda, Todo};
use command::{Command, Scope};
use ending::Ending;
use event::{Event, Tie};
use node::{GroupState, Node, Outcome, ProcessState, State};
use order::Order;
use record::{Cause, How, Record, What};
use request::Request;
use snapshot::Snapshot;

/// What a repeated interrupt shortens every stop timeout to.
pub const HASTENED_TIMEOUT: Duration = Duration::from_secs(1);

pub struct Supervisor {
    spec: TreeSpec,
    order: Order,
    nodes: Vec<Node>,
    queue_users: Vec<QueueUsers>,
    /// Queue ends to close once all that the present event means has been drawn: who is to be stopped because of the same
    /// end is sent its stop signal before it sees the end of a queue, which it would take for a success.
    closing: Vec<(QueueId, QueueEnd)>,
    ending: Ending,
    urgency: Urgency,
    /// Somebody outside asked for the tree's end: nothing is waited for any longer that could live on.
    stop_requested: bool,
    /// A stop signal for the command in place of the plan's, from a rewritten SIGTERM.
    stop_signal: Option<Signal>,
    born: Monotonic,
    serial: u64,
    /// The state of the generator that the delays of restarts are drawn from.
    seed: u64,
    /// Counts causes, so that of two in one instant the earlier is known.
    moment: u64,
    commands: VecDeque<Command>,
    agenda: Agenda,
}

/// How many processes run or can run again that may use each end of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct QueueUsers {
    putters: u32,
    getters: u32,
}

/// How impatient whoever asked for the stop has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Calm,
    Hastened,
    Killing,
}

impl Supervisor {
    /// A tree that begins at `now`: its first commands are ready at once. Equal seeds give equal delays.
    pub fn new(spec: TreeSpec, seed: u64, now: Monotonic) -> Self {
        let order = Order::new(&spec);
        let nodes = spec.ids().map(|id| initial_node(&spec, &order, id)).collect();
        let queue_users = count_users(&spec);
        let mut core = Self {
            order,
            nodes,
            queue_users,
            closing: Vec::new(),
            ending: Ending::NotYet,
            urgency: Urgency::Calm,
            stop_requested: false,
            stop_signal: None,
            born: now,
            serial: 0,
            seed,
            moment: 0,
            commands: VecDeque::new(),
            agenda: Agenda::default(),
            spec,
        };
        for index in 0..core.queue_users.len() {
            core.close_unused(QueueId(index as u32), now);
        }
        core.agenda.push(Todo::Open(NodeId::ROOT));
        core.settle(now);
        core
    }

    pub fn spec(&self) -> &TreeSpec {
        &self.spec
    }

    /// Takes in something that happened.
    pub fn handle_event(&mut self, event: Event, now: Monotonic) {
        if self.is_over() {
            return;
        }
        match event {
            Event::Spawned { inc, pid } => self.on_spawned(inc, pid, now),
            Event::Started { inc } => self.on_started(inc, now),
            Event::StartFailed { inc, error } => self.on_start_failed(inc, error, now),
            Event::Exited { inc, status, leftovers } => self.on_exited(inc, status, leftovers, now),
            Event::Emptied { inc } => self.on_emptied(inc, now),
            Event::Strays { any } => self.on_strays(any, now),
            Event::Signal(signal) => self.on_signal(signal, now),
            Event::TieBroken(tie) => self.on_tie_broken(tie, now),
            Event::Notified { inc, notice } => self.on_notified(inc, notice, now),
            Event::Ready { inc } => self.on_ready(inc, now),
            Event::StopCommandEnded { inc, success } => self.on_stop_command_ended(inc, success, now),
            Event::Stopped { inc, .. } => {
                if self.process_of(inc).is_some() {
                    self.commands.push_back(Command::Suspend);
                }
            }
        }
        self.settle(now);
    }

    /// Acts on every deadline that has passed at `now`.
    pub fn handle_timeout(&mut self, now: Monotonic) {
        for id in self.spec.ids() {
            if self.nodes[id.index()].state.deadline().is_some_and(|deadline| deadline <= now) {
                match &self.nodes[id.index()].state {
                    State::Process(_) => self.on_process_deadline(id, now),
                    State::Group(_) => self.on_group_deadline(id, now),
                }
            }
        }
        self.on_ending_deadline(now);
        self.settle(now);
    }

    /// The next thing to carry out.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When `handle_timeout` wants to be called at the latest; `None`: not before the next event.
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        let nodes = self.nodes.iter().filter_map(|node| node.state.deadline());
        nodes.chain(self.ending.deadline()).min()
    }

    /// Whether `Command::End` was given out or is about to be.
    pub fn is_over(&self) -> bool {
        matches!(self.ending, Ending::Over)
    }

    pub fn snapshot(&self, now: Monotonic) -> Snapshot {
        snapshot::take(&self.spec, &self.nodes, self.born, now)
    }

    /// Works off the agenda, then looks whether the tree is at its end.
    fn settle(&mut self, now: Monotonic) {
        while let Some(todo) = self.agenda.pop() {
            match todo {
                Todo::Ended(id) => self.on_node_ended(id, now),
                Todo::Consequence(id) => self.draw_consequence(id, now),
                Todo::TakeAlong(id) => self.take_along(id, now),
                Todo::Regroup(id) => self.regroup(id, now),
                Todo::Unblocked(id) => self.stop_what_may(id, now),
                Todo::Skip(id) | Todo::Open(id) | Todo::Start(id) => self.try_start(id, now),
            }
        }
        self.close_queues(now);
        self.begin_ending_if_due(now);
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    fn on_signal(&mut self, signal: Signal, now: Monotonic) {
        match request::meaning(&self.spec.door, &self.spec.signal_map, signal) {
            Request::Stop { with } => {
                self.stop_signal = with.or(self.stop_signal);
                self.request_stop(How::Requested { signal }, now);
            }
            Request::StopOrHasten => match self.nodes[0].state {
                State::Group(GroupState::Falling { .. } | GroupState::Ended(_)) => self.hasten(now),
                State::Group(GroupState::Waiting | GroupState::Active { .. } | GroupState::BackingOff { .. })
                | State::Process(_) => {
                    self.request_stop(How::Requested { signal }, now);
                }
            },
            Request::Pass(signal) => {
                let group = matches!(&self.spec.door, crate::spec::Door::Run(run) if run.signal_group);
                let scope = if group { Scope::Group } else { Scope::Main };
                self.signal_all(signal, scope);
                self.record(now, What::SignalPassed { signal });
            }
            Request::Suspend => {
                self.signal_all(Signal::STOP, Scope::Everything);
                self.commands.push_back(Command::Suspend);
            }
            Request::Resume => self.signal_all(Signal::CONT, Scope::Everything),
            Request::Note => self.record(now, What::SignalIgnored { signal }),
            Request::Drop => {}
        }
    }

    fn on_tie_broken(&mut self, tie: Tie, now: Monotonic) {
        self.request_stop(How::TieBroken(tie), now);
    }

    /// Stops the whole tree; where that is under way it only ends the waiting for strays.
    fn request_stop(&mut self, how: How, now: Monotonic) {
        self.stop_requested = true;
        match &self.nodes[0].state {
            State::Group(GroupState::Waiting | GroupState::Active { .. } | GroupState::BackingOff { .. }) => {
                let cause = self.cause(NodeId::ROOT, how, now);
                self.fall(NodeId::ROOT, Outcome::Success(cause), now);
            }
            State::Group(GroupState::Falling { .. }) | State::Process(_) => {}
            State::Group(GroupState::Ended(_)) => self.stop_waited_for_strays(now),
        }
    }

    fn signal_all(&mut self, signal: Signal, scope: Scope) {
        for node in &self.nodes {
            if let State::Process(state) = &node.state
                && let Some(life) = state.life()
            {
                self.commands.push_back(Command::Signal { inc: life.inc, signal, scope });
            }
        }
    }

    /// The second interrupt shortens every timeout to a second, the third kills.
    fn hasten(&mut self, now: Monotonic) {
        self.urgency = match self.urgency {
            Urgency::Calm => Urgency::Hastened,
            Urgency::Hastened | Urgency::Killing => Urgency::Killing,
        };
        self.record(now, What::Hastened { killing: self.urgency == Urgency::Killing });
        for id in self.spec.ids() {
            match self.urgency {
                Urgency::Calm => {}
                Urgency::Hastened => self.shorten(id, now),
                Urgency::Killing => self.kill_process(id, false, now),
            }
        }
        self.hasten_strays(now);
    }

    /// A stop timeout, shortened where whoever asked for the stop has become impatient.
    fn patience(&self, limit: Limit) -> Limit {
        match self.urgency {
            Urgency::Calm => limit,
            Urgency::Hastened => limit.at_most(HASTENED_TIMEOUT),
            Urgency::Killing => Limit::AT_ONCE,
        }
    }

    /// The specification of a process; `None` for a group.
    fn process_spec(&self, id: NodeId) -> Option<&ProcessSpec> {
        self.spec.node(id).process()
    }

    /// The state of the process that is in just this life.
    fn process_of(&mut self, inc: Incarnation) -> Option<&mut ProcessState> {
        match self.nodes.get_mut(inc.node.index()).map(|node| &mut node.state) {
            Some(State::Process(state)) if state.life().is_some_and(|life| life.inc == inc) => Some(state),
            Some(State::Process(_) | State::Group(_)) | None => None,
        }
    }

    fn process_state(&self, id: NodeId) -> Option<&ProcessState> {
        match &self.nodes[id.index()].state {
            State::Process(state) => Some(state),
            State::Group(_) => None,
        }
    }

    fn group_state(&self, id: NodeId) -> Option<&GroupState> {
        match &self.nodes[id.index()].state {
            State::Group(state) => Some(state),
            State::Process(_) => None,
        }
    }

    fn has_ended(&self, id: NodeId) -> bool {
        matches!(
            &self.nodes[id.index()].state,
            State::Process(ProcessState::Ended(_)) | State::Group(GroupState::Ended(_))
        )
    }

    fn is_falling(&self, group: NodeId) -> bool {
        matches!(self.group_state(group), Some(GroupState::Falling { .. }))
    }

    /// A queue that nobody may put to, or nobody take from, is closed on that side from the beginning.
    fn close_unused(&mut self, queue: QueueId, now: Monotonic) {
        let QueueUsers { putters, getters } = self.queue_users[queue.index()];
        if putters == 0 {
            self.close(queue, QueueEnd::Put, now);
        }
        if getters == 0 {
            self.close(queue, QueueEnd::Get, now);
        }
    }

    /// Closes what nobody uses any more.
    fn close_queues(&mut self, now: Monotonic) {
        for (queue, end) in core::mem::take(&mut self.closing) {
            self.close(queue, end, now);
        }
    }

    fn close(&mut self, queue: QueueId, end: QueueEnd, now: Monotonic) {
        self.commands.push_back(Command::CloseQueue { queue, end });
        self.record(now, What::QueueClosed { queue, end });
    }

    /// Something that may become the first cause of a fall has happened to a node.
    fn cause(&mut self, node: NodeId, how: How, now: Monotonic) -> Cause {
        self.moment += 1;
        self.nodes[node.index()].caused = self.moment;
        Cause { at: now, node, how, gave_up: None }
    }

    fn record(&mut self, at: Monotonic, what: What) {
        self.commands.push_back(Command::Record(Record { at, what }));
    }
}

fn initial_node(spec: &TreeSpec, order: &Order, id: NodeId) -> Node {
    let members = order.members(id).len() as u32;
    Node {
        state: match &spec.node(id).kind {
            NodeKind::Process(_) => State::Process(ProcessState::Waiting),
            NodeKind::Group(_) => State::Group(GroupState::Waiting),
        },
        passed: false,
        holds: spec.node(id).process().map_or_else(Vec::new, |process| vec![true; process.queues.len()]),
        history: node::History::default(),
        caused: 0,
        awaited: spec.node(id).after.len() as u32,
        live: 0,
        live_dependants: 0,
        unquiet: 0,
        open_members: members,
        unpassed_members: members,
    }
}

fn count_users(spec: &TreeSpec) -> Vec<QueueUsers> {
    let mut users = vec![QueueUsers::default(); spec.queues.len()];
    for usage in spec.processes().flat_map(|(_, process)| &process.queues) {
        users[usage.queue.index()].putters += u32::from(usage.put);
        users[usage.queue.index()].getters += u32::from(usage.get);
    }
    users
}
