//! What a running process owes: to be ready in time, and not to fall silent. And what it says.
//!
//! A process that is waited for has `start_timeout` from its start to be ready; one with a watchdog has to speak once
//! in each interval from the moment on in which it is ready (or, where nothing is waited for, runs). Who is late has
//! failed: it is stopped by its plan, a silent one with SIGABRT first.

use crate::name::{Incarnation, NodeId};
use crate::spec::Readiness;
use crate::supervisor::command::{Command, Scope};
use crate::supervisor::event::Notice;
use crate::supervisor::node::{Life, Main, Outcome, Patience, ProcessState, Watchdog};
use crate::supervisor::process::Way;
use crate::supervisor::record::{Cause, How, What};
use crate::supervisor::{Supervisor, Urgency};
use crate::time::{Duration, Monotonic};

impl Supervisor {
    /// What a life that begins owes: the time by which it is ready, and its watchdog, not armed yet.
    pub(super) fn promises(&self, id: NodeId, now: Monotonic) -> (Option<Monotonic>, Option<Watchdog>) {
        let Some(process) = self.process_spec(id) else { return (None, None) };
        let ready_by = match process.ready {
            Readiness::Started => None,
            Readiness::Exited
            | Readiness::Notify
            | Readiness::Descriptor(_)
            | Readiness::Tcp(_)
            | Readiness::Exec(_) => process.start_timeout.from(now),
        };
        (ready_by, process.watchdog.map(|every| Watchdog { every, until: None }))
    }

    /// Its program runs: it is ready, or will be.
    pub(super) fn await_readiness(&mut self, inc: Incarnation, now: Monotonic) {
        match self.process_spec(inc.node).map(|process| &process.ready) {
            Some(Readiness::Started) => self.become_ready(inc, now),
            Some(Readiness::Exited) => self.change_life(inc, |life| arm(&mut life.watchdog, now)),
            Some(Readiness::Descriptor(_) | Readiness::Tcp(_) | Readiness::Exec(_)) => {
                self.commands.push_back(Command::AwaitReady { inc });
            }
            Some(Readiness::Notify) | None => {}
        }
    }

    /// The probe of its plan has succeeded.
    pub(super) fn on_ready(&mut self, inc: Incarnation, now: Monotonic) {
        let probed = self.process_spec(inc.node).is_some_and(|process| match process.ready {
            Readiness::Descriptor(_) | Readiness::Tcp(_) | Readiness::Exec(_) => true,
            Readiness::Started | Readiness::Exited | Readiness::Notify => false,
        });
        if probed && self.is_unready(inc) {
            self.record(now, What::Ready { inc });
            self.become_ready(inc, now);
        }
    }

    pub(super) fn on_notified(&mut self, inc: Incarnation, notice: Notice, now: Monotonic) {
        if self.process_of(inc).is_none() {
            return;
        }
        match notice {
            Notice::Ready => {
                let waited_for = self.process_spec(inc.node).is_some_and(|process| process.ready == Readiness::Notify);
                if waited_for && self.is_unready(inc) {
                    self.record(now, What::Ready { inc });
                    self.become_ready(inc, now);
                }
            }
            Notice::Reloading | Notice::Stopping | Notice::Status(_) | Notice::MainPid(_) => {
                self.record(now, What::Said { inc, notice });
            }
            Notice::Watchdog => self.change_life(inc, |life| {
                if let Some(Watchdog { every, until: Some(until) }) = &mut life.watchdog {
                    *until = now + *every;
                }
            }),
            Notice::WatchdogTrigger => self.trigger(inc, now),
            Notice::WatchdogInterval(every) => self.set_interval(inc, every, now),
            Notice::ExtendTimeout(span) => self.extend(inc, now + span),
        }
    }

    /// The stop command of a life has ended: where it failed the stop signal follows.
    pub(super) fn on_stop_command_ended(&mut self, inc: Incarnation, success: bool, now: Monotonic) {
        let Some(ProcessState::Stopping { main: Main::Alive, patience, .. }) = self.process_of(inc) else { return };
        let Patience::Asked { by_command, .. } = patience else { return };
        if !core::mem::replace(by_command, false) || success {
            return;
        }
        self.record(now, What::StopCommandFailed { inc });
        self.ask(inc.node, inc, Scope::Main);
    }

    /// Why a running process is stopped at a deadline, and how.
    pub(super) fn overdue(&mut self, id: NodeId, life: &Life, now: Monotonic) -> (Cause, Way) {
        let is_over = |deadline: Option<Monotonic>| deadline.is_some_and(|deadline| deadline <= now);
        match life.watchdog {
            _ if is_over(life.expires) => (self.lifetime_cause(id, now), Way::Plan),
            Some(Watchdog { every, until }) if is_over(until) && !is_over(life.ready_by) => {
                (self.cause(id, How::Watchdog { every, asked: false }, now), Way::Abort)
            }
            Some(_) | None => {
                let limit = self.process_spec(id).map_or(crate::time::Limit::Never, |process| process.start_timeout);
                (self.cause(id, How::StartTimeout { limit }, now), Way::Plan)
            }
        }
    }

    fn become_ready(&mut self, inc: Incarnation, now: Monotonic) {
        self.change_life(inc, |life| {
            life.ready = true;
            life.ready_by = None;
            arm(&mut life.watchdog, now);
        });
        self.refresh_passed(inc.node);
    }

    /// Whether it runs, or is about to, and has not been ready.
    fn is_unready(&mut self, inc: Incarnation) -> bool {
        match self.process_of(inc) {
            Some(ProcessState::Starting { life } | ProcessState::Running { life }) => !life.ready,
            Some(
                ProcessState::Waiting
                | ProcessState::Lingering { .. }
                | ProcessState::Stopping { .. }
                | ProcessState::BackingOff { .. }
                | ProcessState::Ended(_),
            )
            | None => false,
        }
    }

    /// It asked to be treated as if its watchdog had run out.
    fn trigger(&mut self, inc: Incarnation, now: Monotonic) {
        let Some(ProcessState::Starting { life } | ProcessState::Running { life }) = self.process_of(inc) else {
            return;
        };
        let life = life.clone();
        let every = life.watchdog.map_or(Duration::ZERO, |watchdog| watchdog.every);
        let cause = self.cause(inc.node, How::Watchdog { every, asked: true }, now);
        self.begin_stop(inc.node, life, Main::Alive, (Outcome::Failure(cause), Way::Abort), now);
    }

    /// Puts off the deadline of the state that it is in. Whoever has become impatient is not put off.
    fn extend(&mut self, inc: Incarnation, until: Monotonic) {
        let calm = self.urgency == Urgency::Calm;
        match self.process_of(inc) {
            Some(ProcessState::Starting { life } | ProcessState::Running { life }) => {
                life.ready_by = life.ready_by.map(|ready_by| ready_by.max(until));
            }
            Some(ProcessState::Stopping { patience: Patience::Asked { until: end, .. }, .. }) if calm => {
                *end = end.map(|end| end.max(until));
            }
            Some(
                ProcessState::Stopping { .. }
                | ProcessState::Waiting
                | ProcessState::Lingering { .. }
                | ProcessState::BackingOff { .. }
                | ProcessState::Ended(_),
            )
            | None => {}
        }
    }

    /// The interval from now on; zero ends the watch. The silence counts anew, where it counts already.
    fn set_interval(&mut self, inc: Incarnation, every: Duration, now: Monotonic) {
        let is_step = self.process_spec(inc.node).is_some_and(|process| process.ready == Readiness::Exited);
        let runs = matches!(self.process_of(inc), Some(ProcessState::Running { .. }));
        self.change_life(inc, |life| {
            let armed = life.ready || (is_step && runs);
            life.watchdog = (!every.is_zero()).then(|| Watchdog { every, until: armed.then_some(now + every) });
        });
    }

    /// Changes the life of a process whose main process runs.
    fn change_life(&mut self, inc: Incarnation, change: impl FnOnce(&mut Life)) {
        if let Some(ProcessState::Starting { life } | ProcessState::Running { life }) = self.process_of(inc) {
            change(life);
        }
    }
}

fn arm(watchdog: &mut Option<Watchdog>, now: Monotonic) {
    if let Some(watchdog) = watchdog {
        watchdog.until = Some(now + watchdog.every);
    }
}
