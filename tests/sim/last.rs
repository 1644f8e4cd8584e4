//! The shadow's rules for the end of a tree: strays, and how fated ends.

use fated::exit::{ExitStatus, Verdict};
use fated::signal::Signal;
use fated::spec::{Door, Leftovers};
use fated::start::{Errno, Stage};
use fated::supervisor::HASTENED_TIMEOUT;
use fated::supervisor::command::Command;
use fated::supervisor::node::KILL_PATIENCE;
use fated::supervisor::record::{Cause, How};
use fated::time::{Limit, Monotonic};

use crate::shadow::{Phase, Shadow};

/// How far the end of the tree has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    NotYet,
    Seeking,
    Waiting { until: Option<Monotonic> },
    Asked(Option<Monotonic>),
    Killed(Monotonic),
    Over,
}

impl End {
    pub fn deadline(&self) -> Option<Monotonic> {
        match self {
            Self::Waiting { until } | Self::Asked(until) => *until,
            Self::Killed(until) => Some(*until),
            Self::NotYet | Self::Seeking | Self::Over => None,
        }
    }
}

impl Shadow {
    pub fn on_strays(&mut self, any: bool, now: Monotonic) {
        match (&self.end, any) {
            (End::NotYet | End::Over, _) => {}
            (_, false) => self.finish(false),
            (End::Seeking, true) => {
                // What was to end is not waited for.
                let ordered = self.stop_wanted || self.urgency > 0 || matches!(self.cause().how, How::Lifetime { .. });
                if self.spec.strays == Leftovers::Wait && !ordered {
                    let lifetime = self.spec.root().lifetime;
                    self.end = End::Waiting { until: lifetime.map(|lifetime| Monotonic::ORIGIN + lifetime) };
                } else {
                    self.ask_strays(now);
                }
            }
            (End::Waiting { .. } | End::Asked(_) | End::Killed(_), true) => {}
        }
    }

    pub fn ask_strays(&mut self, now: Monotonic) {
        let plan = self.spec.stray_stop;
        let limit = self.patience(plan.timeout);
        if limit == Limit::AT_ONCE {
            self.kill_strays(now);
        } else {
            self.end = End::Asked(limit.from(now));
            self.expected.push(Command::SignalStrays { signal: self.stop_signal.unwrap_or(plan.signal) });
        }
    }

    fn kill_strays(&mut self, now: Monotonic) {
        self.end = End::Killed(now + KILL_PATIENCE);
        self.expected.push(Command::KillStrays);
    }

    pub fn hasten_strays(&mut self, now: Monotonic) {
        let hastened = now + HASTENED_TIMEOUT;
        match (self.end.clone(), self.urgency) {
            (End::Waiting { .. }, 1) => self.ask_strays(now),
            (End::Asked(until), 1) => {
                self.end = End::Asked(Some(until.map_or(hastened, |until| until.min(hastened))));
            }
            (End::Waiting { .. } | End::Asked(_), 2) => self.kill_strays(now),
            (_, _) => {}
        }
    }

    pub fn on_end_deadline(&mut self, now: Monotonic) {
        if self.end.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.end {
            End::Waiting { .. } => self.ask_strays(now),
            End::Asked(_) => self.kill_strays(now),
            End::Killed(_) => self.finish(true),
            End::NotYet | End::Seeking | End::Over => {}
        }
    }

    pub fn end_tree(&mut self, _now: Monotonic) {
        if self.nodes[0].phase != Phase::Over || self.end != End::NotYet {
            return;
        }
        match self.spec.strays {
            Leftovers::Ignore => self.finish(false),
            Leftovers::Stop | Leftovers::Wait => {
                self.end = End::Seeking;
                self.expected.push(Command::FindStrays);
            }
        }
    }

    fn finish(&mut self, unkillable_strays: bool) {
        let unkillable = unkillable_strays || self.nodes.iter().any(|node| node.given_up);
        let verdict = if unkillable { Verdict::Code(123) } else { self.verdict() };
        self.expected.push(Command::End { verdict });
        self.end = End::Over;
    }

    /// The first cause of the whole end.
    pub fn cause(&self) -> &Cause {
        &self.nodes[0].own.as_ref().expect("the root ends for a reason").cause
    }

    fn verdict(&self) -> Verdict {
        let cause = self.cause();
        match (&cause.how, &self.spec.door) {
            (How::StartFailed(error), _) => match (error.stage, error.errno) {
                (Stage::Exec, Errno::NOENT) => Verdict::Code(127),
                (Stage::Prepare | Stage::Clone, _) => Verdict::Code(125),
                (_, _) => Verdict::Code(126),
            },
            (How::Lifetime { .. }, Door::Run(run)) if run.preserve_status => self.status_of_the_command(),
            (How::Lifetime { .. }, _) => Verdict::Code(124),
            (_, Door::Run(_)) => self.status_of_the_command(),
            (How::Exited { status, .. }, Door::Up) => {
                let success = self.process(cause.node.index()).is_some_and(|process| process.is_success(*status));
                match status {
                    ExitStatus::Code(0) if !success => Verdict::Code(1),
                    ExitStatus::Code(code) => Verdict::Code(*code),
                    ExitStatus::Signaled { signal, .. } => Verdict::Code(128 + signal.number() as u8),
                }
            }
            (How::Requested { signal: Signal::TERM } | How::TieBroken(_) | How::AllEnded, Door::Up) => Verdict::Code(0),
            (How::Requested { signal }, Door::Up) => Verdict::Code(128 + signal.number() as u8),
        }
    }

    fn status_of_the_command(&self) -> Verdict {
        let command = (0..self.nodes.len()).find_map(|id| self.process(id).map(|process| (id, process)));
        let Some((id, process)) = command else { return Verdict::Code(0) };
        match self.nodes[id].main {
            Some(status) if process.is_success(status) => Verdict::Code(0),
            Some(ExitStatus::Code(0)) => Verdict::Code(1),
            Some(ExitStatus::Code(code)) => Verdict::Code(code),
            Some(ExitStatus::Signaled { signal, .. }) => Verdict::Signal(signal),
            // It was asked to stop before it ran.
            None => Verdict::Signal(Signal::TERM),
        }
    }
}
