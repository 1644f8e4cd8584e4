//! The shadow's rules for readiness, watchdogs and what processes say.

use fated::name::Incarnation;
use fated::signal::Signal;
use fated::spec::Readiness;
use fated::supervisor::command::{Command, Scope};
use fated::supervisor::event::Notice;
use fated::supervisor::record::How;
use fated::time::{Duration, Monotonic};

use crate::shadow::{Phase, Shadow, Stop};

impl Shadow {
    /// The node whose main process runs, or is about to, and was not asked to stop.
    fn at_work(&self, inc: Incarnation) -> Option<usize> {
        self.living(inc).filter(|id| self.nodes[*id].stop == Stop::No && self.nodes[*id].main.is_none())
    }

    pub fn on_started(&mut self, inc: Incarnation, now: Monotonic) {
        let Some(id) = self.at_work(inc).filter(|id| !self.nodes[*id].runs) else { return };
        self.nodes[id].runs = true;
        match self.process(id).map(|process| process.ready.clone()) {
            Some(Readiness::Started) => self.be_ready(id, now),
            Some(Readiness::Exited) => self.wind_up(id, now),
            Some(Readiness::Descriptor(_) | Readiness::Tcp(_) | Readiness::Exec(_)) => {
                self.expected.push(Command::AwaitReady { inc });
            }
            Some(Readiness::Notify) | None => {}
        }
    }

    fn be_ready(&mut self, id: usize, now: Monotonic) {
        (self.nodes[id].ready, self.nodes[id].ready_by) = (true, None);
        self.wind_up(id, now);
    }

    /// From now on its silence counts.
    fn wind_up(&mut self, id: usize, now: Monotonic) {
        self.nodes[id].silent_until = self.nodes[id].watchdog.map(|every| now + every);
    }

    pub fn on_probed(&mut self, inc: Incarnation, now: Monotonic) {
        let Some(id) = self.at_work(inc) else { return };
        let probed = self.process(id).is_some_and(|process| {
            matches!(process.ready, Readiness::Descriptor(_) | Readiness::Tcp(_) | Readiness::Exec(_))
        });
        if probed && !self.nodes[id].ready {
            self.be_ready(id, now);
        }
    }

    pub fn on_notice(&mut self, inc: Incarnation, notice: &Notice, now: Monotonic) {
        if let (Notice::ExtendTimeout(span), Some(id)) = (notice, self.living(inc)) {
            self.extend(id, now + *span);
        }
        let Some(id) = self.at_work(inc) else { return };
        match notice {
            Notice::Ready => {
                let awaited = self.process(id).is_some_and(|process| process.ready == Readiness::Notify);
                if awaited && !self.nodes[id].ready {
                    self.be_ready(id, now);
                }
            }
            Notice::Watchdog if self.nodes[id].silent_until.is_some() => self.wind_up(id, now),
            Notice::WatchdogInterval(every) => {
                let step = self.process(id).is_some_and(|process| process.ready == Readiness::Exited);
                let counts = self.nodes[id].ready || (step && self.nodes[id].runs);
                self.nodes[id].watchdog = (!every.is_zero()).then_some(*every);
                self.nodes[id].silent_until = None;
                if counts {
                    self.wind_up(id, now);
                }
            }
            Notice::WatchdogTrigger => {
                let every = self.nodes[id].watchdog.unwrap_or(Duration::ZERO);
                self.bark(id, every, true, now);
            }
            Notice::Watchdog
            | Notice::Reloading
            | Notice::Stopping
            | Notice::Status(_)
            | Notice::MainPid(_)
            | Notice::ExtendTimeout(_) => {}
        }
    }

    /// A silent process is aborted.
    pub fn bark(&mut self, id: usize, every: Duration, asked: bool, now: Monotonic) {
        self.nodes[id].own = Some(self.own(false, id, How::Watchdog { every, asked }, now));
        self.begin_stop(id, Some(Signal::ABRT), now);
    }

    fn extend(&mut self, id: usize, until: Monotonic) {
        let node = &mut self.nodes[id];
        match (&node.phase, &node.stop) {
            (Phase::Live, Stop::No) if node.main.is_none() => {
                node.ready_by = node.ready_by.map(|ready_by| ready_by.max(until));
            }
            (Phase::Live, Stop::Asked(Some(end))) if self.urgency == 0 => {
                node.stop = Stop::Asked(Some((*end).max(until)));
            }
            (_, _) => {}
        }
    }

    pub fn on_stop_command_ended(&mut self, inc: Incarnation, success: bool) {
        let Some(id) = self.living(inc).filter(|id| self.nodes[*id].main.is_none()) else { return };
        if !core::mem::take(&mut self.nodes[id].by_command) || success {
            return;
        }
        if matches!(self.nodes[id].stop, Stop::Asked(_)) {
            self.ask(id, None);
            debug_assert!(matches!(self.expected.last(), Some(Command::Wake { scope: Scope::Main, .. })));
        }
    }
}
