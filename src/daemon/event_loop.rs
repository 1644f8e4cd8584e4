//! The loop: the kernel's readiness becomes events, the core's commands become system calls, and the rest is sleep.
//!
//! One wake is handled in this order: what processes say, output, starts, readiness, deaths, what is left of the dead,
//! ties, signals, and deadlines last, so that an exit beats a deadline of the same instant. What a process said is heard
//! before its end, whichever the kernel tells first. mio is edge-triggered: what is not drained is put back
//! as ready by ourselves.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};

use super::kin::{Kin, Owner, Survey};
use super::log_buffer;
use super::notify::Notify;
use super::output::{Outputs, Turn};
use super::probe::Probes;
use super::processes::{Death, Processes};
use super::queues::Queues;
use super::source::{Ready, Source};
use super::terminal::Terminal;
use super::ties::Ties;
use crate::exit::Verdict;
use crate::name::Incarnation;
use crate::render;
use crate::signal::Signal;
use crate::spawn::Spawner;
use crate::spec::Session;
use crate::supervisor::Supervisor;
use crate::supervisor::event::{Event, Tie};
use crate::supervisor::record::{Record, What};
use crate::sys::fd::DescriptorLimit;
use crate::sys::pidfd;
use crate::sys::signalfd::SignalFd;
use crate::sys::timerfd::TimerFd;
use crate::sys::wait::JobState;
use crate::sys::{clock, wait};
use crate::time::{Duration, Monotonic};

/// How many readiness reports one call to the kernel takes.
const EVENTS: usize = 1024;

/// How many signals are taken before everything else has its turn.
const SIGNALS_A_TURN: usize = 256;

/// How soon descendants are looked for again, where one look did not suffice or could not be had.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub struct Shell {
    pub(super) core: Supervisor,
    pub(super) poll: Poll,
    pub(super) spawner: Spawner,
    pub(super) processes: Processes,
    pub(super) kin: Kin,
    pub(super) queues: Queues,
    pub(super) outputs: Outputs,
    /// `None`: no process of the tree has anything to say.
    pub(super) notify: Option<Notify>,
    pub(super) probes: Probes,
    pub(super) ties: Ties,
    pub(super) terminal: Terminal,
    pub(super) signals: SignalFd,
    pub(super) timer: TimerFd,
    /// What the timer is armed for, so that it is set again only when that changes.
    pub(super) armed: Option<Monotonic>,
    pub(super) guard: Option<OwnedFd>,
    pub(super) null: OwnedFd,
    pub(super) descriptor_limit: Option<DescriptorLimit>,
    /// Signals that were ignored when fated was started stay ignored.
    pub(super) ignored: Vec<Signal>,
    /// The core has asked for strays and wants to know when none is left.
    pub(super) seeking_strays: bool,
    /// Starts that wait until fewer are under way.
    pub(super) waiting: VecDeque<Incarnation>,
    pub(super) in_flight_max: usize,
    /// The last look at the descendants, for the rest of the turn.
    pub(super) looked: Option<Survey>,
    /// When descendants are looked for at the latest, whether or not a child tells of a change.
    pub(super) look_again: Option<Monotonic>,
    /// The tree was stopped with us, by job control, and was not continued.
    pub(super) suspended: bool,
    pub(super) ready: Ready,
    pub(super) verdict: Option<Verdict>,
    /// With a verdict: helpers that do not end are waited for no longer.
    pub(super) leave_by: Option<Monotonic>,
}

impl Shell {
    /// Runs the tree to its end.
    ///
    /// # Errors
    /// The poll itself failed, which no input causes.
    pub fn run(mut self) -> io::Result<Verdict> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            self.carry_out();
            self.flush_log();
            if let Some(verdict) = self.verdict.filter(|_| self.may_leave()) {
                // The launcher may be a shell without job control, which does not take the terminal back by itself.
                self.terminal.give_back();
                self.outputs.finish();
                self.resume_guard();
                return Ok(verdict);
            }
            self.arm();
            let timeout = if self.ready.is_empty() { None } else { Some(Duration::ZERO) };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            for event in &events {
                if let Some(source) = Source::from_token(event.token()) {
                    self.ready.push(source);
                }
            }
            self.handle_wake();
        }
    }

    /// Whether nothing of ours is left but what cannot be killed.
    fn may_leave(&self) -> bool {
        self.processes.helpers.count() == 0 || self.leave_by.is_some_and(|by| by <= clock::now())
    }

    fn handle_wake(&mut self) {
        let sources = self.ready.take();
        let mut found = Found::default();
        let mut signals = Vec::new();
        // A child's end that its own descriptor has not told yet is told by SIGCHLD.
        if sources.contains(&Source::Signals) {
            signals = self.read_signals(&mut found);
        }
        let again = self.look_again.is_some_and(|at| at <= clock::now());
        if again {
            self.look_again = None;
        }
        if found.children_changed || again {
            found.children_changed = true;
            self.kin.children_changed();
            self.look_for_the_dead(&mut found);
            self.look_for_job_stops();
        }
        for source in &sources {
            match *source {
                Source::Notify => self.hear(),
                Source::Output(index) => self.read_output(index),
                Source::Sink(index) => {
                    for pipe in self.outputs.unblock(index) {
                        self.ready.push(Source::Output(pipe));
                    }
                }
                Source::Report(serial) => self.read_report(serial),
                Source::Probe(serial) => self.look_at_probe(serial),
                Source::Process(serial) => self.reap(serial, &mut found),
                Source::Helper(pid) => self.look_at_helper(pid, &mut found),
                Source::Tie(index) => found.ties.extend(self.ties.look(index)),
                Source::Signals | Source::Timer | Source::Hunt => {}
            }
        }
        self.tell(found);
        for signal in signals {
            self.on_signal(signal);
        }
        if sources.contains(&Source::Timer) {
            self.timer.drain();
            self.armed = None;
        }
        self.start_waiting();
        let now = clock::now();
        if self.core.poll_timeout().is_some_and(|deadline| deadline <= now) {
            self.core.handle_timeout(now);
        }
        if self.probes.deadline().is_some_and(|deadline| deadline <= now) {
            self.probes_due(now);
        }
    }

    fn read_output(&mut self, index: usize) {
        match self.outputs.read(index) {
            Turn::Dry | Turn::Blocked => {}
            Turn::More => self.ready.push(Source::Output(index)),
            Turn::Over => {
                if let Some(fd) = self.outputs.pipe_fd(index) {
                    forget(&self.poll, fd);
                }
                self.outputs.close(index);
            }
        }
    }

    pub(super) fn read_report(&mut self, serial: u64) {
        if let Some(inc) = self.processes.read_report(serial) {
            self.core.handle_event(Event::Started { inc }, clock::now());
        }
    }

    /// Takes the status of a main process whose descriptor says that it has ended.
    fn reap(&mut self, serial: u64, found: &mut Found) {
        // How its start went comes before how it ended.
        self.read_report(serial);
        if self.processes.pidfd(serial).is_some_and(pidfd::has_exited) {
            // All that it said before is there now, and it can still be told whose word it is.
            self.hear();
            self.look_at_last_readiness(serial);
        }
        let poll = &self.poll;
        match self.processes.reap(serial, |fd| forget(poll, fd)) {
            Ok(Some(death)) => found.deaths.push(death),
            // It runs, or its tracer comes first; SIGCHLD tells when it can be reaped.
            Ok(None) => {}
            Err(error) => log::error!("cannot reap the process of incarnation {serial}: {error}"),
        }
    }

    /// What the kernel reports as signals; those of children lead to the deaths, the others are returned.
    fn read_signals(&mut self, found: &mut Found) -> Vec<Signal> {
        let mut received = Vec::new();
        for _ in 0..SIGNALS_A_TURN {
            match self.signals.read() {
                Ok(Some(info)) if info.signal == Signal::CHLD => found.children_changed = true,
                Ok(Some(info)) if self.ignored.contains(&info.signal) => {}
                Ok(Some(info)) => received.push(info.signal),
                Ok(None) => return received,
                Err(error) => {
                    log::error!("cannot read signals: {error}");
                    return received;
                }
            }
        }
        self.ready.push(Source::Signals);
        received
    }

    /// Reaps every child that has ended, main process or not, so that none stays a zombie.
    fn look_for_the_dead(&mut self, found: &mut Found) {
        for _ in 0..EVENTS {
            let Ok(wait::Any::Zombie(pid)) = wait::peek_any() else { return };
            match self.processes.serial_of(pid) {
                Some(serial) => {
                    self.reap(serial, found);
                    if self.processes.is_main(pid) {
                        // Readable and not reapable: its tracer comes first.
                        return;
                    }
                }
                None if self.processes.helpers.has(pid) => {
                    self.look_at_helper(pid, found);
                    if self.processes.helpers.has(pid) {
                        return;
                    }
                }
                None => {
                    let _ = wait::reap_pid(pid);
                    self.kin.reaped(pid);
                }
            }
        }
        self.look_again(clock::now());
    }

    /// Descendants are to be looked for at this instant, even if no child tells of a change.
    pub(super) fn look_again(&mut self, at: Monotonic) {
        self.look_again = Some(self.look_again.map_or(at, |earlier| earlier.min(at)));
    }

    /// A job-control stop of the command, from the terminal's own keys.
    fn look_for_job_stops(&mut self) {
        for serial in self.processes.running() {
            let Some((inc, pidfd)) = self.processes.inc(serial).zip(self.processes.pidfd(serial)) else { continue };
            let process = self.core.spec().node(inc.node).process();
            if process.is_none_or(|process| process.session != Session::Terminal) {
                continue;
            }
            let Ok(Some(JobState::Stopped(signal))) = pidfd::job_state(pidfd) else { continue };
            if self.suspended {
                // That was us.
                continue;
            }
            let wants_terminal = matches!(signal, Signal::TTIN | Signal::TTOU);
            if wants_terminal && self.terminal.hand_over() {
                // It asked for the terminal while we have it: it gets it, and nobody else needs to know.
                if let Err(error) = self.processes.signal_group(serial, Signal::CONT) {
                    log::warn!("cannot continue the command: {error}");
                }
            } else {
                self.core.handle_event(Event::Stopped { inc, signal }, clock::now());
            }
        }
    }

    /// Tells the core who has died and whether anything is left of them, from one look at our children.
    fn tell(&mut self, found: Found) {
        let Found { deaths, ties, children_changed } = found;
        let now = clock::now();
        let outlived = if children_changed { self.processes.outlived() } else { Vec::new() };
        let strays = self.seeking_strays && children_changed;
        if !deaths.is_empty() || strays || !outlived.is_empty() {
            let survey = self.survey();
            for death in deaths {
                self.on_death(death, &survey, now);
            }
            for inc in outlived {
                if !self.is_populated(inc.serial, &survey) && self.processes.has(inc.serial) {
                    self.forget(inc);
                    self.core.handle_event(Event::Emptied { inc }, now);
                }
            }
            if strays && !survey.any(Owner::Nobody) {
                self.kin.call_off(Owner::Nobody);
                self.core.handle_event(Event::Strays { any: false }, now);
            }
        }
        for tie in ties {
            self.core.handle_event(Event::TieBroken(tie), now);
        }
    }

    /// Whether anything is left of a life beside its main process.
    fn is_populated(&self, serial: u64, survey: &Survey) -> bool {
        survey.any(Owner::Life(serial)) || self.processes.helpers.stops(serial)
    }

    fn on_death(&mut self, death: Death, survey: &Survey, now: Monotonic) {
        let event = match death {
            Death::StartFailed(inc, error) => {
                self.forget(inc);
                Event::StartFailed { inc, error }
            }
            Death::Exited(inc, status) => {
                self.withdraw_probe(inc.serial);
                let leftovers = self.is_populated(inc.serial, survey);
                if !leftovers {
                    self.forget(inc);
                }
                Event::Exited { inc, status, leftovers }
            }
        };
        self.core.handle_event(event, now);
    }

    fn on_signal(&mut self, signal: Signal) {
        if signal == Signal::CONT {
            // What our own stop has left behind is no news any more.
            self.look_for_job_stops();
            self.suspended = false;
            self.terminal.take_again();
            self.resume_guard();
        }
        self.core.handle_event(Event::Signal(signal), clock::now());
    }

    pub(super) fn log(&mut self, record: &Record) {
        if let Some((level, line)) = render::log::line(self.core.spec(), record) {
            let survivors = if let What::Unkillable { inc } = &record.what {
                self.survivors(Owner::Life(inc.serial))
            } else if record.what == What::StraysUnkillable {
                self.survivors(Owner::Nobody)
            } else {
                String::new()
            };
            log::log!(log_buffer::level(level), "{line}{survivors}");
        }
    }

    /// fated's own lines go to stderr between those of the processes, never in the middle of one.
    fn flush_log(&mut self) {
        log_buffer::take(|lines| self.outputs.put_log(lines));
    }

    /// Sets the timer for the earliest deadline, if that has changed.
    fn arm(&mut self) {
        let deadlines = [self.core.poll_timeout(), self.probes.deadline(), self.leave_by, self.look_again];
        let earliest = deadlines.into_iter().flatten().min();
        let deadline = earliest.map(Monotonic::round_up_to_millisecond);
        if deadline != self.armed {
            match self.timer.arm(deadline) {
                Ok(()) => self.armed = deadline,
                Err(error) => log::error!("cannot arm the timer: {error}"),
            }
        }
    }
}

/// What one wake has found to be over.
#[derive(Default)]
pub(super) struct Found {
    deaths: Vec<Death>,
    ties: Vec<Tie>,
    /// A SIGCHLD came: an orphan may have ended too.
    pub(super) children_changed: bool,
}

/// Watches a descriptor for input.
pub(super) fn watch(poll: &Poll, fd: BorrowedFd<'_>, source: Source) -> io::Result<()> {
    poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), source.token(), Interest::READABLE)
}

/// Watches a descriptor for room.
pub(super) fn watch_room(poll: &Poll, fd: BorrowedFd<'_>, source: Source) -> io::Result<()> {
    poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), source.token(), Interest::WRITABLE)
}

/// Watches a descriptor no more, before it is closed.
pub(super) fn forget(poll: &Poll, fd: BorrowedFd<'_>) {
    // Not registered is as good as deregistered.
    let _ = poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()));
}
