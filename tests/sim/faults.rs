//! Faults to plant between the core and the world, one at a time, to see that each is caught.

use fated::exit::{ExitStatus, Verdict};
use fated::signal::Signal;
use fated::spec::{Consequence, Leftovers, NodeKind, TreeSpec};
use fated::supervisor::command::{Command, Scope};
use fated::supervisor::event::Event;
use fated::time::{Duration, Limit, Monotonic};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    DropStart,
    DropStopSignal,
    DropWake,
    DropKill,
    DropRelease,
    DropFindStrays,
    DropKillStrays,
    DropCloseQueue,
    DropEnd,
    DoubleStart,
    DoubleKill,
    DoubleCloseQueue,
    KillForStop,
    KillMainAlone,
    WrongSignal,
    SerialStandsStill,
    SwapVerdict,
    CommandAfterEnd,
    LateDeadline,
    EarlyTimeout,
    LoseExit,
    LoseEmptied,
    SeeSuccess,
    MissLeftovers,
    ForgetAfter,
    ForgetBudget,
    ForgetLifetime,
    ForgetStrays,
    ShorterStopTimeout,
    IgnoreFailures,
    IgnoreNothing,
    AllAutostart,
}

impl Fault {
    pub const ALL: [Self; 32] = [
        Self::DropStart,
        Self::DropStopSignal,
        Self::DropWake,
        Self::DropKill,
        Self::DropRelease,
        Self::DropFindStrays,
        Self::DropKillStrays,
        Self::DropCloseQueue,
        Self::DropEnd,
        Self::DoubleStart,
        Self::DoubleKill,
        Self::DoubleCloseQueue,
        Self::KillForStop,
        Self::KillMainAlone,
        Self::WrongSignal,
        Self::SerialStandsStill,
        Self::SwapVerdict,
        Self::CommandAfterEnd,
        Self::LateDeadline,
        Self::EarlyTimeout,
        Self::LoseExit,
        Self::LoseEmptied,
        Self::SeeSuccess,
        Self::MissLeftovers,
        Self::ForgetAfter,
        Self::ForgetBudget,
        Self::ForgetLifetime,
        Self::ForgetStrays,
        Self::ShorterStopTimeout,
        Self::IgnoreFailures,
        Self::IgnoreNothing,
        Self::AllAutostart,
    ];

    /// Whether the laws see it without the shadow. They say what must never be, not what has to come.
    pub fn breaks_a_law(self) -> bool {
        match self {
            Self::DropStart
            | Self::DropKill
            | Self::DropFindStrays
            | Self::DropKillStrays
            | Self::DropCloseQueue
            | Self::DropEnd
            | Self::DoubleStart
            | Self::DoubleKill
            | Self::DoubleCloseQueue
            | Self::KillForStop
            | Self::KillMainAlone
            | Self::SerialStandsStill
            | Self::SwapVerdict
            | Self::CommandAfterEnd
            | Self::LateDeadline
            | Self::EarlyTimeout
            | Self::LoseExit
            | Self::LoseEmptied
            | Self::MissLeftovers
            | Self::ForgetAfter
            | Self::ForgetStrays
            | Self::ShorterStopTimeout => true,
            Self::DropStopSignal
            | Self::DropWake
            | Self::DropRelease
            | Self::WrongSignal
            | Self::SeeSuccess
            | Self::ForgetBudget
            | Self::ForgetLifetime
            | Self::IgnoreFailures
            | Self::IgnoreNothing
            | Self::AllAutostart => false,
        }
    }

    /// What comes out of the core in place of `command`.
    pub fn command(self, command: Command) -> Vec<Command> {
        match (self, &command) {
            (Self::DropStart, Command::Start { .. })
            | (Self::DropStopSignal, Command::Signal { .. })
            | (Self::DropWake, Command::Wake { .. })
            | (Self::DropKill, Command::Kill { .. })
            | (Self::DropRelease, Command::Release { .. })
            | (Self::DropFindStrays, Command::FindStrays)
            | (Self::DropKillStrays, Command::KillStrays)
            | (Self::DropCloseQueue, Command::CloseQueue { .. })
            | (Self::DropEnd, Command::End { .. }) => Vec::new(),
            (Self::DoubleStart, Command::Start { .. })
            | (Self::DoubleKill, Command::Kill { .. })
            | (Self::DoubleCloseQueue, Command::CloseQueue { .. }) => vec![command.clone(), command],
            (Self::KillForStop, Command::Signal { inc, .. }) => {
                vec![Command::Kill { inc: *inc, scope: Scope::Everything }]
            }
            (Self::KillMainAlone, Command::Kill { inc, .. }) => vec![Command::Kill { inc: *inc, scope: Scope::Main }],
            (Self::WrongSignal, Command::Signal { inc, scope, .. }) => {
                vec![Command::Signal { inc: *inc, signal: Signal::WINCH, scope: *scope }]
            }
            (Self::SerialStandsStill, Command::Start { inc }) => {
                vec![Command::Start { inc: fated::name::Incarnation { serial: 1, ..*inc } }]
            }
            (Self::SwapVerdict, Command::End { verdict }) => {
                let verdict = if *verdict == Verdict::SUCCESS { Verdict::Code(1) } else { Verdict::SUCCESS };
                vec![Command::End { verdict }]
            }
            (Self::CommandAfterEnd, Command::End { .. }) => vec![command, Command::Suspend],
            _ => vec![command],
        }
    }

    /// What the core hears of an event.
    pub fn event(self, event: Event) -> Option<Event> {
        match (self, event) {
            (Self::LoseExit, Event::Exited { .. }) | (Self::LoseEmptied, Event::Emptied { .. }) => None,
            (Self::SeeSuccess, Event::Exited { inc, leftovers, .. }) => {
                Some(Event::Exited { inc, status: ExitStatus::SUCCESS, leftovers })
            }
            (Self::MissLeftovers, Event::Exited { inc, status, .. }) => {
                Some(Event::Exited { inc, status, leftovers: false })
            }
            (_, event) => Some(event),
        }
    }

    /// The plan as the core understands it.
    pub fn plan(self, mut spec: TreeSpec) -> TreeSpec {
        if self == Self::ForgetStrays {
            spec.strays = Leftovers::Ignore;
        }
        for node in &mut spec.nodes {
            match self {
                Self::ForgetAfter => node.after.clear(),
                Self::ForgetLifetime => node.lifetime = None,
                Self::IgnoreFailures => node.fate.on_failure = Consequence::Ignore,
                Self::IgnoreNothing => node.fate.on_success = Consequence::End,
                _ => {}
            }
            match (&mut node.kind, self) {
                (NodeKind::Group(group), Self::ForgetBudget) => group.stop_budget = None,
                (NodeKind::Process(process), Self::ShorterStopTimeout) => {
                    process.stop.timeout = process.stop.timeout.at_most(Duration::from_millis(999));
                }
                (NodeKind::Process(process), Self::AllAutostart) => process.autostart = true,
                (NodeKind::Group(_) | NodeKind::Process(_), _) => {}
            }
        }
        spec
    }

    /// When the core says that it wants to be woken.
    pub fn deadline(self, deadline: Option<Monotonic>) -> Option<Monotonic> {
        match self {
            Self::LateDeadline => deadline.map(|deadline| deadline + Duration::from_secs(1)),
            _ => deadline,
        }
    }

    /// The time that the core is told with an event.
    pub fn now(self, now: Monotonic) -> Monotonic {
        match self {
            Self::EarlyTimeout => Limit::After(Duration::from_secs(1)).from(now).unwrap_or(now),
            _ => now,
        }
    }
}
