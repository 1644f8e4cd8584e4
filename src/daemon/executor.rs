//! From a command of the core to system calls. What fails goes back to the core as an event; nothing here waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::event_loop::{LOOK_AGAIN, Shell};
use super::kin::{self, Owner, Survey};
use super::output::Stream;
use super::queues::QueueHandle;
use super::source::Source;
use crate::exit::ExitStatus;
use crate::name::Incarnation;
use crate::signal::Signal;
use crate::spawn::{QueueGrant, Request};
use crate::spec::{EnvVar, Input, Output, ProcessSpec, QueueEnd, Session};
use crate::start::{Errno, Stage, StartError};
use crate::supervisor::command::{Command, Scope};
use crate::supervisor::event::Event;
use crate::sys::procfs::{self, Found};
use crate::sys::{clock, pidfd, signalfd};
use crate::time::Duration;

/// How many walks follow each other before everything else has its turn.
const STRIKES_A_TURN: usize = 8;

/// How long helpers that were killed may delay our own end.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

impl Shell {
    /// Carries out what the core asks for, until it asks for nothing more.
    pub(super) fn carry_out(&mut self) {
        // One look at the descendants serves all signals of one turn.
        self.looked = None;
        while let Some(command) = self.core.poll_command() {
            match command {
                Command::Start { inc } => self.start(inc),
                Command::Signal { inc, signal, .. } if self.is_settled_waiting(inc, signal) => {}
                Command::Signal { inc, signal, scope } => self.signal(inc, signal, scope),
                Command::Wake { inc, scope } => self.wake(inc, scope),
                Command::Kill { inc, .. } if self.is_settled_waiting(inc, Signal::KILL) => {}
                Command::Kill { inc, scope: Scope::Main | Scope::Group } => {
                    self.processes.kill_main(inc.serial);
                }
                Command::Kill { inc, scope: Scope::Leftovers | Scope::Everything } => {
                    // At once, for what is known; the hunt finds the rest.
                    self.processes.kill_main(inc.serial);
                    self.withdraw_probe(inc.serial);
                    self.processes.helpers.kill(inc.serial, None);
                    self.kin.hunt(Owner::Life(inc.serial));
                }
                Command::AwaitReady { inc } => self.await_ready(inc),
                Command::RunStopCommand { inc } => self.run_stop_command(inc),
                Command::FindStrays => self.find_strays(),
                Command::SignalStrays { signal } => self.signal_strays(signal),
                Command::KillStrays => self.kin.hunt(Owner::Nobody),
                Command::Release { inc } => self.forget(inc),
                Command::CloseQueue { queue, end } => {
                    if let Err(error) = self.queues.close(queue, end) {
                        let name = &self.core.spec().queues[queue.index()].name;
                        log::warn!("cannot close queue `{name}`: {error}");
                    }
                }
                Command::RenewQueue { queue } => {
                    let spec = &self.core.spec().queues[queue.index()];
                    if let Err(error) = self.queues.renew(queue, spec) {
                        log::warn!("{error}");
                    }
                }
                Command::Suspend => self.suspend(),
                Command::Record(record) => self.log(&record),
                Command::End { verdict } => {
                    self.verdict = Some(verdict);
                    self.leave_by = Some(clock::now() + LEAVE_PATIENCE);
                }
            }
        }
        self.strike();
    }

    /// Starts as many as may be under way at once; the others wait for the first reports.
    fn start(&mut self, inc: Incarnation) {
        if self.suspended || self.starts_under_way() >= self.in_flight_max || !self.waiting.is_empty() {
            self.waiting.push_back(inc);
        } else {
            self.start_now(inc);
        }
    }

    /// What holds as many descriptors as a start does.
    pub(super) fn starts_under_way(&self) -> usize {
        self.processes.in_flight() + self.processes.helpers.count()
    }

    /// Starts what waits, as far as there is room again.
    pub(super) fn start_waiting(&mut self) {
        while !self.suspended && self.starts_under_way() < self.in_flight_max {
            let Some(inc) = self.waiting.pop_front() else { return };
            self.start_now(inc);
        }
    }

    /// Something is asked of a process that waits to be started: a stop ends it before it ran, the rest means nothing
    /// to it. Whether it waits.
    fn is_settled_waiting(&mut self, inc: Incarnation, signal: Signal) -> bool {
        let Some(place) = self.waiting.iter().position(|waiting| *waiting == inc) else { return false };
        if !matches!(signal, Signal::STOP | Signal::CONT) {
            self.waiting.remove(place);
            let status = ExitStatus::Signaled { signal, core_dumped: false };
            let event = Event::Exited { inc, status, leftovers: false };
            self.core.handle_event(event, clock::now());
        }
        true
    }

    fn start_now(&mut self, inc: Incarnation) {
        match self.try_start(inc) {
            Ok(pid) => self.core.handle_event(Event::Spawned { inc, pid }, clock::now()),
            Err(error) => {
                let event = Event::StartFailed { inc, error };
                self.core.handle_event(event, clock::now());
            }
        }
    }

    fn try_start(&mut self, inc: Incarnation) -> Result<u32, StartError> {
        let node = inc.node;
        let Some(process) = self.core.spec().node(node).process().cloned() else {
            return Err(cannot_prepare(io::Error::from_raw_os_error(nix::libc::EINVAL)));
        };
        let stdin = match process.stdin {
            Input::Inherit => Target::Inherited(0),
            Input::Null => Target::Null,
        };
        let stdout = self.output(inc, &process.stdout, Stream::Out).map_err(cannot_prepare)?;
        let stderr = self.output(inc, &process.stderr, Stream::Err).map_err(cannot_prepare)?;
        let ready = Self::readiness_pipe(&process.ready).map_err(cannot_prepare)?;
        let (readiness, ready) = ready.map_or((None, None), |(read, write)| (Some(read), Some(write)));
        let mut env = self.notify_variable(&process);
        env.extend(process.watchdog.map(|span| ("WATCHDOG_USEC".into(), span.as_micros().to_string().into())));
        let own_session = process.session == Session::Own;
        let (pid, main, report) = {
            let ends = queue_ends(&self.queues, &process);
            let queues: Vec<QueueGrant<'_>> = process
                .queues
                .iter()
                .zip(&ends)
                .map(|(usage, (put, get))| {
                    let spec = &self.core.spec().queues[usage.queue.index()];
                    QueueGrant {
                        name: &spec.name,
                        message_max: spec.message_max,
                        put: put.as_ref().map(QueueHandle::as_fd),
                        get: get.as_ref().map(QueueHandle::as_fd),
                    }
                })
                .collect();
            let request = Request {
                spec: &process,
                id: &self.kin.id(inc.serial),
                env: &env,
                stdio: [stdin.fd(&self.null), stdout.fd(&self.null), stderr.fd(&self.null)],
                queues: &queues,
                ready: ready.as_ref().map(AsFd::as_fd),
                descriptor_limit: self.descriptor_limit,
                foreground: self.terminal.foreground_for(process.session),
            };
            let in_flight = self.spawner.start(&request)?;
            self.processes.insert(inc, own_session, in_flight);
            let main = self.processes.pidfd(inc.serial);
            let report = self.processes.report_fd(inc.serial);
            (self.processes.pid(inc.serial).unwrap_or_default(), main, report)
        };
        for (fd, source) in [(main, Source::of_process(inc)), (report, Source::of_report(inc))] {
            if let Some(fd) = fd {
                // Without it the death would go unseen: SIGCHLD still brings the loop to look at every child.
                if let Err(error) = super::event_loop::watch(&self.poll, fd, source) {
                    log::error!("cannot watch process {pid}: {error}");
                }
            }
        }
        if let Some(pipe) = readiness {
            self.probes.add_pipe(inc, pipe);
        }
        self.terminal.moved(process.session, pid);
        Ok(pid)
    }

    /// Where a process sends notifications, if its plan has any.
    pub(super) fn notify_variable(&self, process: &ProcessSpec) -> Vec<EnvVar> {
        let notify = self.notify.as_ref().filter(|_| process.notifies());
        notify.map(|notify| ("NOTIFY_SOCKET".into(), notify.address().clone())).into_iter().collect()
    }

    pub(super) fn output(&mut self, inc: Incarnation, output: &Output, stream: Stream) -> io::Result<Target> {
        Ok(match output {
            Output::Null => Target::Null,
            Output::Inherit => Target::Inherited(stream as i32 + 1),
            Output::Prefix => {
                let (index, write) = self.outputs.open(inc.node, stream)?;
                if let Some(fd) = self.outputs.pipe_fd(index) {
                    super::event_loop::watch(&self.poll, fd, Source::Output(index))?;
                }
                Target::Pipe(write)
            }
        })
    }

    fn signal(&mut self, inc: Incarnation, signal: Signal, scope: Scope) {
        let result = match scope {
            Scope::Main => self.processes.signal_main(inc.serial, signal),
            Scope::Group => self.processes.signal_group(inc.serial, signal),
            Scope::Leftovers | Scope::Everything => {
                kin::signal_all(&self.members(inc, scope), signal);
                match scope {
                    Scope::Everything => self.processes.signal_main(inc.serial, signal),
                    Scope::Main | Scope::Group | Scope::Leftovers => Ok(()),
                }
            }
        };
        if let Err(error) = result {
            log::warn!("cannot send {signal} to {}: {error}", self.path(inc));
        }
    }

    /// SIGCONT for those that are stopped: a stopped process cannot act on a stop signal.
    fn wake(&mut self, inc: Incarnation, scope: Scope) {
        // What we have stopped ourselves was stopped whole.
        let scope = if self.suspended { Scope::Everything } else { scope };
        if let Some(pid) = self.processes.main_pid(inc.serial)
            && crate::sys::procfs::stat(pid).is_some_and(|stat| is_stopped(stat.state))
        {
            self.signal(inc, Signal::CONT, scope);
        }
        match scope {
            Scope::Main | Scope::Group => {}
            Scope::Leftovers | Scope::Everything => {
                let mut members = self.members(inc, scope);
                members.retain(|found| is_stopped(found.stat.state));
                kin::signal_all(&members, Signal::CONT);
            }
        }
    }

    /// Descendants of a life: its leftovers, with `Scope::Everything` also what hangs below its main process.
    fn members(&mut self, inc: Incarnation, scope: Scope) -> Vec<Found> {
        let main = match scope {
            Scope::Everything => self.processes.main_pid(inc.serial),
            Scope::Main | Scope::Group | Scope::Leftovers => None,
        };
        let survey = self.looked.take().unwrap_or_else(|| self.survey());
        let members = self.kin.members(&survey, Owner::Life(inc.serial), main).unwrap_or_else(|error| {
            log::error!("cannot look for descendants of {}: {error}", self.path(inc));
            Vec::new()
        });
        self.looked = Some(survey);
        members
    }

    fn find_strays(&mut self) {
        self.seeking_strays = true;
        let any = self.survey().any(Owner::Nobody);
        self.core.handle_event(Event::Strays { any }, clock::now());
    }

    fn signal_strays(&mut self, signal: Signal) {
        let survey = self.survey();
        match self.kin.members(&survey, Owner::Nobody, None) {
            Ok(mut members) => {
                kin::signal_all(&members, signal);
                members.retain(|found| is_stopped(found.stat.state));
                kin::signal_all(&members, Signal::CONT);
            }
            Err(error) => log::error!("cannot look for strays: {error}"),
        }
    }

    /// Walks for all hunts until two walks agree, or a storm that forks faster has had its turn.
    fn strike(&mut self) {
        for _ in 0..STRIKES_A_TURN {
            if !self.kin.wants_to_strike() {
                return;
            }
            let survey = self.survey();
            if self.kin.strike(&survey, &self.processes) {
                self.look_again(clock::now() + LOOK_AGAIN);
            }
        }
        self.ready.push(Source::Hunt);
    }

    /// Who is whose, now. Where that cannot be found out completely, it is looked for again soon.
    pub(super) fn survey(&mut self) -> Survey {
        let survey = self.kin.survey(&self.processes).unwrap_or_else(|error| {
            log::error!("cannot look for descendants: {error}");
            Survey::unfinished()
        });
        if survey.unfinished {
            self.look_again(clock::now() + LOOK_AGAIN);
        }
        survey
    }

    /// What is left of an owner that does not end, for people: who it is and where it hangs.
    pub(super) fn survivors(&mut self, owner: Owner) -> String {
        const NAMED: usize = 5;
        let survey = self.survey();
        let main = match owner {
            Owner::Life(serial) => self.processes.main_pid(serial),
            Owner::Nobody => None,
        };
        let mut found = self.kin.members(&survey, owner, main).unwrap_or_default();
        found.extend(main.and_then(|pid| Some(Found { pid, stat: procfs::stat(pid)? })));
        let mut text = String::new();
        for one in found.iter().take(NAMED) {
            text.push_str(&format!("; {}", procfs::describe(one)));
        }
        if found.len() > NAMED {
            text.push_str(&format!("; and {} more", found.len() - NAMED));
        }
        text
    }

    /// The life is over for the core; what may still run of it is nobody's.
    pub(super) fn forget(&mut self, inc: Incarnation) {
        self.kin.call_off(Owner::Life(inc.serial));
        self.withdraw_probe(inc.serial);
        self.processes.helpers.kill(inc.serial, None);
        self.processes.remove(inc.serial);
    }

    /// Follows the tree into a job-control stop.
    fn suspend(&mut self) {
        self.suspended = true;
        self.terminal.give_back();
        match &self.guard {
            // The launcher's shell knows the guard: its stop is what the shell sees.
            Some(guard) => {
                let _ = pidfd::send_signal(guard.as_fd(), Signal::STOP);
            }
            None => signalfd::stop_self(),
        }
    }

    /// Lets the guard continue with the tree, and at the tree's end, whoever has stopped it: a stopped guard would
    /// outlive both the tree and the launcher. Where it had not yet received our stop, its own CONT came too early.
    pub(super) fn resume_guard(&self) {
        if let Some(guard) = &self.guard {
            let _ = pidfd::send_signal(guard.as_fd(), Signal::CONT);
        }
    }

    pub(super) fn path(&self, inc: Incarnation) -> &str {
        &self.core.spec().node(inc.node).path
    }
}

/// What a start needs could not be made.
pub(super) fn cannot_prepare(error: io::Error) -> StartError {
    let errno = Errno(error.raw_os_error().unwrap_or_default());
    StartError { stage: Stage::Prepare, errno, object: String::new() }
}

fn is_stopped(state: char) -> bool {
    matches!(state, 'T' | 't')
}

/// Where a stream of a process leads.
pub(super) enum Target {
    Null,
    Inherited(i32),
    Pipe(OwnedFd),
}

impl Target {
    pub(super) fn fd<'a>(&'a self, null: &'a OwnedFd) -> BorrowedFd<'a> {
        match self {
            Self::Null => null.as_fd(),
            Self::Pipe(fd) => fd.as_fd(),
            Self::Inherited(0) => crate::sys::stdio::stdin(),
            Self::Inherited(1) => crate::sys::stdio::stdout(),
            Self::Inherited(_) => crate::sys::stdio::stderr(),
        }
    }
}

impl QueueHandle<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Shared(fd) => *fd,
            Self::Own(fd) => fd.as_fd(),
        }
    }
}

type Ends<'a> = (Option<QueueHandle<'a>>, Option<QueueHandle<'a>>);

fn queue_ends<'a>(queues: &'a super::queues::Queues, process: &ProcessSpec) -> Vec<Ends<'a>> {
    let end = |wanted: bool, id, end| if wanted { queues.end(id, end) } else { None };
    let ends = |usage: &crate::spec::QueueUse| {
        (end(usage.put, usage.queue, QueueEnd::Put), end(usage.get, usage.queue, QueueEnd::Get))
    };
    process.queues.iter().map(ends).collect()
}
