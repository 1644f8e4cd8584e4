//! The end of a tree: strays, the summary and the verdict.
//!
//! When the root group has ended no node has anything left. Descendants that belong to no node may still run: they are
//! *sought*, then *waited for*, *asked* to stop or *killed* as the plan says. Then the tree is *over*. Only a tree that
//! ended by itself waits for its strays: one that was to end (on request, or because a lifetime ran out) asks them.

use crate::exit::{ExitStatus, Verdict};
use crate::name::NodeId;
use crate::signal::Signal;
use crate::spec::{Door, Leftovers};
use crate::supervisor::command::Command;
use crate::supervisor::node::{GroupState, KILL_PATIENCE, LastLife, Outcome, ProcessState, State};
use crate::supervisor::record::{Cause, How, Summary, What};
use crate::supervisor::{HASTENED_TIMEOUT, Supervisor, Urgency};
use crate::time::{Limit, Monotonic};

/// How far the end of the tree has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    NotYet,
    /// Whether there are strays was asked.
    Seeking,
    /// Their own end is waited for, within the lifetime of the tree.
    Waiting {
        until: Option<Monotonic>,
    },
    /// They were asked to stop and are killed at `until`.
    Asked {
        until: Option<Monotonic>,
    },
    /// They were killed and are given up at `until`.
    Killed {
        until: Monotonic,
    },
    Over,
}

impl Ending {
    pub(super) fn deadline(self) -> Option<Monotonic> {
        match self {
            Self::Waiting { until } | Self::Asked { until } => until,
            Self::Killed { until } => Some(until),
            Self::NotYet | Self::Seeking | Self::Over => None,
        }
    }
}

impl Supervisor {
    pub(super) fn begin_ending_if_due(&mut self, now: Monotonic) {
        let root_ended = matches!(self.group_state(NodeId::ROOT), Some(GroupState::Ended(_)));
        if self.ending != Ending::NotYet || !root_ended {
            return;
        }
        match self.spec.strays {
            Leftovers::Ignore => self.finish(Strays { found: false, unkillable: false }, now),
            Leftovers::Stop | Leftovers::Wait => {
                self.ending = Ending::Seeking;
                self.commands.push_back(Command::FindStrays);
            }
        }
    }

    pub(super) fn on_strays(&mut self, any: bool, now: Monotonic) {
        match (self.ending, any) {
            (Ending::Seeking, false) => self.finish(Strays { found: false, unkillable: false }, now),
            (Ending::Waiting { .. } | Ending::Asked { .. } | Ending::Killed { .. }, false) => {
                self.finish(Strays { found: true, unkillable: false }, now);
            }
            (Ending::Seeking, true) => match self.spec.strays {
                Leftovers::Wait if !self.was_to_end() => {
                    let until = self.spec.root().lifetime.map(|lifetime| self.born + lifetime);
                    self.ending = Ending::Waiting { until };
                }
                Leftovers::Stop | Leftovers::Wait | Leftovers::Ignore => self.ask_strays(now),
            },
            (
                Ending::NotYet | Ending::Waiting { .. } | Ending::Asked { .. } | Ending::Killed { .. } | Ending::Over,
                _,
            ) => {}
        }
    }

    /// Whether the tree's end was asked for, or its time was over: then nothing is waited for.
    fn was_to_end(&self) -> bool {
        let cause = match self.group_state(NodeId::ROOT) {
            Some(GroupState::Ended(outcome)) => outcome.cause(),
            Some(GroupState::Waiting | GroupState::Active { .. } | GroupState::Falling { .. }) | None => None,
        };
        let expired = cause.is_some_and(|cause| matches!(cause.how, How::Lifetime { .. }));
        self.stop_requested || expired || self.urgency > Urgency::Calm
    }

    /// A stop was asked for when only strays are left.
    pub(super) fn stop_waited_for_strays(&mut self, now: Monotonic) {
        if matches!(self.ending, Ending::Waiting { .. }) {
            self.ask_strays(now);
        }
    }

    fn ask_strays(&mut self, now: Monotonic) {
        let plan = self.spec.stray_stop;
        let limit = self.patience(plan.timeout);
        if limit == Limit::AT_ONCE {
            self.kill_strays(now);
            return;
        }
        let signal = self.stop_signal.unwrap_or(plan.signal);
        self.ending = Ending::Asked { until: limit.from(now) };
        self.commands.push_back(Command::SignalStrays { signal });
        self.record(now, What::StraysStopping { signal });
    }

    fn kill_strays(&mut self, now: Monotonic) {
        self.ending = Ending::Killed { until: now + KILL_PATIENCE };
        self.commands.push_back(Command::KillStrays);
        self.record(now, What::StraysKilled);
    }

    pub(super) fn hasten_strays(&mut self, now: Monotonic) {
        match (self.ending, self.urgency) {
            (Ending::Waiting { .. }, Urgency::Hastened) => self.ask_strays(now),
            (Ending::Asked { until }, Urgency::Hastened) => {
                let hastened = now + HASTENED_TIMEOUT;
                self.ending = Ending::Asked { until: Some(until.map_or(hastened, |until| until.min(hastened))) };
            }
            (Ending::Waiting { .. } | Ending::Asked { .. }, Urgency::Killing) => self.kill_strays(now),
            (Ending::NotYet | Ending::Seeking | Ending::Killed { .. } | Ending::Over, _) | (_, Urgency::Calm) => {}
        }
    }

    pub(super) fn on_ending_deadline(&mut self, now: Monotonic) {
        if self.ending.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.ending {
            Ending::Waiting { .. } => self.ask_strays(now),
            Ending::Asked { .. } => self.kill_strays(now),
            Ending::Killed { .. } => {
                self.record(now, What::StraysUnkillable);
                self.finish(Strays { found: true, unkillable: true }, now);
            }
            Ending::NotYet | Ending::Seeking | Ending::Over => {}
        }
    }

    fn finish(&mut self, strays: Strays, now: Monotonic) {
        let Some(GroupState::Ended(outcome)) = self.group_state(NodeId::ROOT) else { return };
        let Some(cause) = outcome.cause().cloned() else { return };
        let mut summary = Summary {
            lasted: now - self.born,
            fall: now - cause.at,
            verdict: self.verdict(&cause),
            stopped: 0,
            killed: 0,
            strays: strays.found,
            unkillable: Vec::new(),
            cause,
        };
        for (id, node) in self.spec.ids().zip(&self.nodes) {
            let State::Process(ProcessState::Ended(ended)) = &node.state else { continue };
            let in_the_fall = ended.at >= summary.cause.at;
            let collateral = matches!(ended.outcome, Outcome::Collateral);
            match ended.last {
                LastLife::Over { killed, .. } => {
                    summary.stopped += u32::from(in_the_fall && collateral);
                    summary.killed += u32::from(in_the_fall && killed);
                }
                LastLife::Unkillable => summary.unkillable.push(id),
                LastLife::None | LastLife::StartFailed => {}
            }
        }
        if strays.unkillable || !summary.unkillable.is_empty() {
            summary.verdict = Verdict::UNKILLABLE;
        }
        let verdict = summary.verdict;
        self.ending = Ending::Over;
        self.record(now, What::TreeEnded(summary));
        self.commands.push_back(Command::End { verdict });
    }

    /// How fated ends, from the first cause alone.
    fn verdict(&self, cause: &Cause) -> Verdict {
        match (&self.spec.door, &cause.how) {
            (_, How::StartFailed(error)) => error.verdict(),
            (Door::Run(run), How::Lifetime { .. }) if run.preserve_status => self.own_status(),
            (_, How::Lifetime { .. }) => Verdict::TIMEOUT,
            (Door::Run(_), How::Exited { .. } | How::Requested { .. } | How::TieBroken(_) | How::AllEnded) => {
                self.own_status()
            }
            (Door::Up, How::Exited { status, .. }) => self.up_status(cause.node, *status),
            (Door::Up, How::Requested { signal: Signal::TERM }) => Verdict::SUCCESS,
            (Door::Up, How::Requested { signal }) => Verdict::Code(128 + signal.number() as u8),
            (Door::Up, How::TieBroken(_) | How::AllEnded) => Verdict::SUCCESS,
        }
    }

    /// `up` ends with the first cause's own code; a failure never looks like success.
    fn up_status(&self, node: NodeId, status: ExitStatus) -> Verdict {
        let success = self.process_spec(node).is_some_and(|process| process.is_success(status));
        match status.shell_code() {
            0 if !success => Verdict::Code(1),
            code => Verdict::Code(code),
        }
    }

    /// `run` ends as its command did.
    fn own_status(&self) -> Verdict {
        let command = self.spec.processes().next();
        let Some((id, process)) = command else { return Verdict::SUCCESS };
        let Some(ProcessState::Ended(ended)) = self.process_state(id) else { return Verdict::SUCCESS };
        match ended.last {
            LastLife::Over { status, .. } if process.is_success(status) => Verdict::SUCCESS,
            LastLife::Over { status: ExitStatus::Code(0), .. } => Verdict::Code(1),
            LastLife::Over { status: ExitStatus::Code(code), .. } => Verdict::Code(code),
            LastLife::Over { status: ExitStatus::Signaled { signal, .. }, .. } => Verdict::Signal(signal),
            LastLife::Unkillable => Verdict::UNKILLABLE,
            // It was asked to stop before it ran.
            LastLife::None | LastLife::StartFailed => Verdict::Signal(Signal::TERM),
        }
    }
}

/// What the search for strays came to.
struct Strays {
    found: bool,
    unkillable: bool,
}
