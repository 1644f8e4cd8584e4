//! The transitions of a process: start, end, stop, kill.

use crate::exit::ExitStatus;
use crate::name::{Incarnation, NodeId};
use crate::signal::Signal;
use crate::spec::{Leftovers, NodeKind};
use crate::start::StartError;
use crate::supervisor::Supervisor;
use crate::supervisor::agenda::Todo;
use crate::supervisor::command::{Command, Scope};
use crate::supervisor::node::{
    Ended, GroupState, KILL_PATIENCE, LastLife, Life, Main, Outcome, Patience, ProcessState, State,
};
use crate::supervisor::record::{Cause, How, What};
use crate::supervisor::restart::Next;
use crate::time::{Limit, Monotonic};

/// What begins a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The stop command or the stop signal.
    Plan,
    /// SIGABRT, so that what hangs leaves a core file. All that follows is as in the plan.
    Abort,
}

impl Supervisor {
    /// Has a look at the node once everything else that has happened is settled.
    pub(super) fn consider_start(&mut self, id: NodeId) {
        match self.process_spec(id) {
            Some(process) if process.autostart => self.agenda.push(Todo::Start(id)),
            Some(_) => self.agenda.push(Todo::Skip(id)),
            None => self.agenda.push(Todo::Open(id)),
        }
    }

    /// Starts a waiting process or group whose time has come.
    pub(super) fn try_start(&mut self, id: NodeId, now: Monotonic) {
        let node = &self.nodes[id.index()];
        let parent_active = match self.spec.node(id).parent {
            Some(parent) => matches!(self.group_state(parent), Some(GroupState::Active { .. })),
            None => true,
        };
        if node.awaited > 0 || !parent_active || self.in_round(id) {
            return;
        }
        match (&node.state, &self.spec.node(id).kind) {
            (State::Process(ProcessState::Waiting), NodeKind::Process(process)) if process.autostart => {
                self.start_process(id, now);
            }
            (State::Process(ProcessState::Waiting), _) => self.end_unstarted(id, now),
            (State::Group(GroupState::Waiting), _) => self.activate(id, now),
            (State::Process(_) | State::Group(_), _) => {}
        }
    }

    fn start_process(&mut self, id: NodeId, now: Monotonic) {
        self.serial += 1;
        let inc = Incarnation { node: id, serial: self.serial };
        let expires = self.spec.node(id).lifetime.map(|lifetime| now + lifetime);
        let (ready_by, watchdog) = self.promises(id, now);
        let life = Life { inc, pid: None, since: now, expires, ready: false, ready_by, watchdog };
        self.set_process(id, ProcessState::Starting { life });
        self.commands.push_back(Command::Start { inc });
    }

    /// A process that has no life and will get none.
    pub(super) fn end_unstarted(&mut self, id: NodeId, now: Monotonic) {
        self.end(id, Outcome::Collateral, LastLife::None, now);
    }

    pub(super) fn on_spawned(&mut self, inc: Incarnation, pid: u32, now: Monotonic) {
        if let Some(life) = self.process_of(inc).and_then(ProcessState::life_mut) {
            life.pid = Some(pid);
            self.record(now, What::Spawned { inc, pid });
        }
    }

    pub(super) fn on_started(&mut self, inc: Incarnation, now: Monotonic) {
        let Some(ProcessState::Starting { life }) = self.process_of(inc) else { return };
        let life = life.clone();
        if let Some(pid) = life.pid {
            self.record(now, What::Started { inc, pid });
        }
        self.set_process(inc.node, ProcessState::Running { life });
        self.await_readiness(inc, now);
    }

    pub(super) fn on_start_failed(&mut self, inc: Incarnation, error: StartError, now: Monotonic) {
        let Some(state) = self.process_of(inc).cloned() else { return };
        let outcome = match state {
            ProcessState::Stopping { outcome, .. } => outcome,
            ProcessState::Starting { .. }
            | ProcessState::Running { .. }
            | ProcessState::Lingering { .. }
            | ProcessState::Waiting
            | ProcessState::BackingOff { .. }
            | ProcessState::Ended(_) => Outcome::Failure(self.cause(inc.node, How::StartFailed(error.clone()), now)),
        };
        self.record(now, What::StartFailed { inc, error });
        self.end(inc.node, outcome, LastLife::StartFailed, now);
    }

    pub(super) fn on_exited(&mut self, inc: Incarnation, status: ExitStatus, leftovers: bool, now: Monotonic) {
        let id = inc.node;
        let Some(state) = self.process_of(inc).cloned() else { return };
        let Some(life) = state.life().cloned() else { return };
        let age = now - life.since;
        let pid = life.pid;
        let outlived = match state {
            ProcessState::Starting { .. } | ProcessState::Running { .. } => {
                self.record(now, What::Exited { inc, pid, status, age, leftovers });
                let cause = self.cause(id, How::Exited { status, age }, now);
                let success = self.process_spec(id).is_some_and(|process| process.is_success(status));
                let outcome = if success { Outcome::Success(cause) } else { Outcome::Failure(cause) };
                self.on_own_end(id, life, status, leftovers, outcome, now);
                return;
            }
            ProcessState::Stopping { main: Main::Alive, patience, outcome, .. } => (patience, outcome),
            // Reported twice: nothing that is not known already.
            ProcessState::Stopping { main: Main::Gone(_), .. }
            | ProcessState::Lingering { .. }
            | ProcessState::Waiting
            | ProcessState::BackingOff { .. }
            | ProcessState::Ended(_) => return,
        };
        self.record(now, What::Exited { inc, pid, status, age, leftovers });
        let (patience, outcome) = outlived;
        let main = Main::Gone(status);
        if !leftovers || self.is_left_to_the_tree(id) {
            self.release_if(leftovers, inc);
            self.set_process(id, ProcessState::Stopping { life, main, patience, outcome: outcome.clone() });
            self.end(id, outcome, LastLife::Over { status, killed: was_overdue(patience) }, now);
            return;
        }
        let patience = match patience {
            Patience::Asked { until, .. } => {
                self.ask(id, inc, Scope::Leftovers);
                Patience::Asked { until, by_command: false }
            }
            // The kill goes on until nothing is found.
            Patience::Killed { .. } => patience,
        };
        self.set_process(id, ProcessState::Stopping { life, main, patience, outcome: outcome.clone() });
        if outcome != Outcome::Collateral {
            self.agenda.push(Todo::Consequence(id));
        }
    }

    /// The main process ended without being asked to.
    fn on_own_end(
        &mut self,
        id: NodeId,
        life: Life,
        status: ExitStatus,
        leftovers: bool,
        outcome: Outcome,
        now: Monotonic,
    ) {
        let inc = life.inc;
        let policy = self.process_spec(id).map_or(Leftovers::Stop, |process| process.leftovers);
        match (leftovers, policy) {
            (false, _) | (true, Leftovers::Ignore) => {
                self.release_if(leftovers, inc);
                self.end(id, outcome, LastLife::Over { status, killed: false }, now);
            }
            (true, Leftovers::Wait) => {
                self.set_process(id, ProcessState::Lingering { life, main: status, outcome });
                if self.is_leaving(id) {
                    self.agenda.push(Todo::Unblocked(id));
                }
            }
            (true, Leftovers::Stop) => {
                let main = Main::Gone(status);
                self.begin_stop(id, life, main, (outcome, Way::Plan), now);
                // A fall does not wait for what the fallen one has left behind.
                self.agenda.push(Todo::Consequence(id));
            }
        }
    }

    pub(super) fn on_emptied(&mut self, inc: Incarnation, now: Monotonic) {
        let (outcome, last) = match self.process_of(inc) {
            Some(ProcessState::Lingering { main, outcome, .. }) => {
                (outcome.clone(), LastLife::Over { status: *main, killed: false })
            }
            Some(ProcessState::Stopping { main: Main::Gone(status), patience, outcome, .. }) => {
                (outcome.clone(), LastLife::Over { status: *status, killed: was_overdue(*patience) })
            }
            Some(
                ProcessState::Stopping { main: Main::Alive, .. }
                | ProcessState::Starting { .. }
                | ProcessState::Running { .. }
                | ProcessState::Waiting
                | ProcessState::BackingOff { .. }
                | ProcessState::Ended(_),
            )
            | None => return,
        };
        self.record(now, What::Emptied { inc });
        self.end(inc.node, outcome, last, now);
    }

    pub(super) fn on_process_deadline(&mut self, id: NodeId, now: Monotonic) {
        let Some(state) = self.process_state(id).cloned() else { return };
        match state {
            ProcessState::Starting { life } | ProcessState::Running { life } => {
                let (cause, way) = self.overdue(id, &life, now);
                self.begin_stop(id, life, Main::Alive, (Outcome::Failure(cause), way), now);
            }
            ProcessState::Lingering { life, main, .. } => {
                let cause = self.lifetime_cause(id, now);
                self.begin_stop(id, life, Main::Gone(main), (Outcome::Failure(cause), Way::Plan), now);
                self.agenda.push(Todo::Consequence(id));
            }
            ProcessState::Stopping { patience: Patience::Asked { .. }, .. } => self.kill_process(id, true, now),
            ProcessState::Stopping { life, patience: Patience::Killed { .. }, outcome, .. } => {
                self.record(now, What::Unkillable { inc: life.inc });
                self.end(id, outcome, LastLife::Unkillable, now);
            }
            ProcessState::BackingOff { .. } => {
                self.come_back(id, now);
                self.consider_start(id);
            }
            ProcessState::Waiting | ProcessState::Ended(_) => {}
        }
    }

    pub(super) fn lifetime_cause(&mut self, id: NodeId, now: Monotonic) -> Cause {
        let limit = self.spec.node(id).lifetime.unwrap_or_default();
        self.cause(id, How::Lifetime { limit }, now)
    }

    /// Asks a living process to stop as part of a fall, whatever it is doing.
    pub(super) fn stop_process(&mut self, id: NodeId, now: Monotonic) {
        match self.process_state(id).cloned() {
            Some(ProcessState::Starting { life } | ProcessState::Running { life }) => {
                self.begin_stop(id, life, Main::Alive, (Outcome::Collateral, Way::Plan), now);
            }
            Some(ProcessState::Lingering { life, main, outcome }) => {
                self.begin_stop(id, life, Main::Gone(main), (outcome, Way::Plan), now);
            }
            Some(
                ProcessState::Stopping { .. }
                | ProcessState::Waiting
                | ProcessState::BackingOff { .. }
                | ProcessState::Ended(_),
            )
            | None => {}
        }
    }

    /// The first step of the stop plan: the command, the signal, or the kill where there is no patience.
    pub(super) fn begin_stop(
        &mut self,
        id: NodeId,
        life: Life,
        main: Main,
        (outcome, way): (Outcome, Way),
        now: Monotonic,
    ) {
        let inc = life.inc;
        let Some(process) = self.process_spec(id) else { return };
        let plan = process.stop;
        // Only what runs can be talked to.
        let runs = main == Main::Alive && matches!(self.process_state(id), Some(ProcessState::Running { .. }));
        let by_command = runs && way == Way::Plan && process.stop_command.is_some();
        let limit = self.patience(plan.timeout);
        let patience = Patience::Asked { until: limit.from(now), by_command };
        self.set_process(id, ProcessState::Stopping { life, main, patience, outcome });
        if limit == Limit::AT_ONCE {
            self.kill_process(id, false, now);
            return;
        }
        let scope = match main {
            Main::Alive => Scope::Main,
            Main::Gone(_) => Scope::Leftovers,
        };
        if by_command {
            self.commands.push_back(Command::RunStopCommand { inc });
            self.record(now, What::StopCommand { inc });
            return;
        }
        let signal = match way {
            Way::Plan => self.stop_signal.unwrap_or(plan.signal),
            Way::Abort => Signal::ABRT,
        };
        self.ask_with(signal, inc, scope);
        self.record(now, What::Stopping { inc, signal, main });
    }

    pub(super) fn ask(&mut self, id: NodeId, inc: Incarnation, scope: Scope) {
        let Some(plan) = self.process_spec(id).map(|process| process.stop) else { return };
        self.ask_with(self.stop_signal.unwrap_or(plan.signal), inc, scope);
    }

    fn ask_with(&mut self, signal: Signal, inc: Incarnation, scope: Scope) {
        let scope = match &self.spec.door {
            crate::spec::Door::Run(run) if run.signal_group && scope == Scope::Main => Scope::Group,
            crate::spec::Door::Run(_) | crate::spec::Door::Up => scope,
        };
        self.commands.push_back(Command::Signal { inc, signal, scope });
        self.commands.push_back(Command::Wake { inc, scope });
    }

    /// Kills everything of a living process; one that is being killed is left to it.
    pub(super) fn kill_process(&mut self, id: NodeId, overdue: bool, now: Monotonic) {
        let Some(state) = self.process_state(id).cloned() else { return };
        let (life, main, outcome) = match state {
            ProcessState::Stopping { patience: Patience::Killed { .. }, .. }
            | ProcessState::Waiting
            | ProcessState::BackingOff { .. }
            | ProcessState::Ended(_) => return,
            ProcessState::Starting { life } | ProcessState::Running { life } => {
                (life, Main::Alive, Outcome::Collateral)
            }
            ProcessState::Lingering { life, main, outcome } => (life, Main::Gone(main), outcome),
            ProcessState::Stopping { life, main, outcome, .. } => (life, main, outcome),
        };
        let inc = life.inc;
        let patience = Patience::Killed { until: now + KILL_PATIENCE, overdue };
        self.set_process(id, ProcessState::Stopping { life, main, patience, outcome });
        let scope = if self.is_left_to_the_tree(id) { Scope::Main } else { Scope::Everything };
        self.commands.push_back(Command::Kill { inc, scope });
        self.record(now, What::Killing { inc, overdue });
    }

    /// Brings the end of a stop nearer, to a second from now at the latest.
    pub(super) fn shorten(&mut self, id: NodeId, now: Monotonic) {
        let hastened = now + crate::supervisor::HASTENED_TIMEOUT;
        if let State::Process(ProcessState::Stopping { patience: Patience::Asked { until, .. }, .. }) =
            &mut self.nodes[id.index()].state
        {
            *until = Some(until.map_or(hastened, |until| until.min(hastened)));
        }
    }

    fn is_left_to_the_tree(&self, id: NodeId) -> bool {
        self.process_spec(id).is_some_and(|process| process.leftovers == Leftovers::Ignore)
    }

    fn release_if(&mut self, leftovers: bool, inc: Incarnation) {
        if leftovers {
            self.commands.push_back(Command::Release { inc });
        }
    }

    /// Nothing of the process is left, or what is left is the tree's: it has ended, or begins anew later.
    fn end(&mut self, id: NodeId, outcome: Outcome, last: LastLife, now: Monotonic) {
        let since = self.process_state(id).and_then(ProcessState::life).map_or(now, |life| life.since);
        match self.next(id, outcome, since, last == LastLife::Unkillable, now) {
            Next::BackingOff { until } => self.set_process(id, ProcessState::BackingOff { until }),
            Next::Over(outcome) => {
                self.set_process(id, ProcessState::Ended(Ended { at: now, outcome, last }));
                self.leave_queues(id);
                self.agenda.push(Todo::Ended(id));
            }
        }
    }

    /// Replaces a process's state and keeps the counts beside it right.
    pub(super) fn set_process(&mut self, id: NodeId, state: ProcessState) {
        let before = self.process_state(id).is_some_and(|state| state.life().is_some());
        let after = state.life().is_some();
        self.nodes[id.index()].state = State::Process(state);
        if before != after {
            self.count_life(id, after);
            self.count_rest(id, !before);
        }
        self.refresh_passed(id);
    }
}

fn was_overdue(patience: Patience) -> bool {
    match patience {
        Patience::Asked { .. } => false,
        Patience::Killed { overdue, .. } => overdue,
    }
}
