//! Helper processes: stop commands, and the commands that find out whether a process is ready.
//!
//! A helper is no main process and no life. It has the environment of the life that it works for, `FATED_ID` too: what it
//! leaves behind belongs to that life. Whatever ends the life kills its helpers. A life is not empty while its stop
//! command runs; one that asks for readiness is killed with the main process, and fated waits for it before its own end.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::event_loop::{self, Found, Shell};
use super::executor::{Target, cannot_prepare};
use super::kin;
use super::output::Stream;
use super::source::Source;
use crate::exit::ExitStatus;
use crate::name::Incarnation;
use crate::signal::Signal;
use crate::spawn::{InFlight, Request};
use crate::spec::{Input, Output, ProcessSpec, Readiness, Session};
use crate::start::StartError;
use crate::supervisor::event::Event;
use crate::sys::{clock, pidfd, process, procfs};

/// What a helper is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Its success tells that the life is ready.
    Probe,
    /// It stops the life.
    Stop,
}

/// All helpers that are not reaped, by number: it is their own until then.
#[derive(Default)]
pub struct Helpers(HashMap<u32, Helper>);

struct Helper {
    inc: Incarnation,
    purpose: Purpose,
    /// Kept whole until the end, which then tells too whether the command was executed.
    in_flight: InFlight,
}

/// A helper that was reaped.
pub struct Ended {
    pub inc: Incarnation,
    pub purpose: Purpose,
    /// The error of one that never ran its command.
    pub result: Result<ExitStatus, StartError>,
}

impl Helpers {
    pub fn has(&self, pid: u32) -> bool {
        self.0.contains_key(&pid)
    }

    /// The life that a helper works for.
    pub fn life_of(&self, pid: u32) -> Option<u64> {
        self.0.get(&pid).map(|helper| helper.inc.serial)
    }

    /// Whether the stop command of a life is under way.
    pub fn stops(&self, serial: u64) -> bool {
        self.0.values().any(|helper| helper.inc.serial == serial && helper.purpose == Purpose::Stop)
    }

    /// How many there are: each holds what a start under way does.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    fn insert(&mut self, inc: Incarnation, purpose: Purpose, in_flight: InFlight) {
        self.0.insert(in_flight.pid, Helper { inc, purpose, in_flight });
    }

    fn descriptors(&self, pid: u32) -> Option<(BorrowedFd<'_>, BorrowedFd<'_>)> {
        self.0.get(&pid).map(|helper| (helper.in_flight.pidfd.as_fd(), helper.in_flight.report.as_fd()))
    }

    /// Gives back what a start has borrowed, once its program runs.
    fn read_report(&mut self, pid: u32) {
        if let Some(helper) = self.0.get_mut(&pid) {
            let _ = helper.in_flight.finish();
        }
    }

    /// Takes the status of one that has ended; `None` while it runs or a tracer holds it. `before_close` is called for
    /// each of its descriptors.
    fn reap(&mut self, pid: u32, mut before_close: impl FnMut(BorrowedFd<'_>)) -> io::Result<Option<Ended>> {
        let Some(helper) = self.0.get_mut(&pid) else { return Ok(None) };
        let Some(reaped) = pidfd::reap(helper.in_flight.pidfd.as_fd())? else { return Ok(None) };
        let result = match helper.in_flight.finish() {
            Some(Err(error)) => Err(error),
            Some(Ok(())) | None => Ok(reaped.status),
        };
        before_close(helper.in_flight.pidfd.as_fd());
        before_close(helper.in_flight.report.as_fd());
        let ended = Ended { inc: helper.inc, purpose: helper.purpose, result };
        self.0.remove(&pid);
        Ok(Some(ended))
    }

    /// Kills the helpers of a life, for one purpose or for all: their process groups and what hangs below them. A
    /// descendant that escapes from both belongs to the life.
    pub fn kill(&self, serial: u64, purpose: Option<Purpose>) {
        let hers = |helper: &&Helper| helper.inc.serial == serial && purpose.is_none_or(|one| one == helper.purpose);
        for helper in self.0.values().filter(hers) {
            let pid = helper.in_flight.pid;
            let below = procfs::walk([pid]).unwrap_or_default();
            // The number is its own until it is reaped. There is no such group while it is about to begin one.
            let _ = process::signal_group(pid, Signal::KILL);
            if let Err(error) = pidfd::send_signal(helper.in_flight.pidfd.as_fd(), Signal::KILL) {
                log::warn!("cannot kill process {pid}: {error}");
            }
            kin::signal_all(&below, Signal::KILL);
        }
    }
}

impl Shell {
    /// Runs the stop command of a life.
    pub(super) fn run_stop_command(&mut self, inc: Incarnation) {
        self.withdraw_probe(inc.serial);
        let command = self.core.spec().node(inc.node).process().and_then(|process| process.stop_command.clone());
        let Some(command) = command else { return self.stop_command_ended(inc, false) };
        if let Err(error) = self.start_helper(inc, Purpose::Stop, command) {
            log::error!("{}: its stop command: {error}", self.path(inc));
            self.stop_command_ended(inc, false);
        }
    }

    fn stop_command_ended(&mut self, inc: Incarnation, success: bool) {
        self.core.handle_event(Event::StopCommandEnded { inc, success }, clock::now());
    }

    /// Starts a command beside a life: in its directory, with its environment and `MAINPID`, without its queues.
    ///
    /// # Errors
    /// No process was made. A command that cannot be executed is told by the helper's end.
    pub(super) fn start_helper(
        &mut self,
        inc: Incarnation,
        purpose: Purpose,
        command: Vec<OsString>,
    ) -> Result<(), StartError> {
        let Some(process) = self.core.spec().node(inc.node).process() else { return Ok(()) };
        let (stdout, stderr) = match purpose {
            // It is run again and again, and most often to fail.
            Purpose::Probe => (Output::Null, Output::Null),
            Purpose::Stop => (process.stdout.clone(), process.stderr.clone()),
        };
        let helper = ProcessSpec {
            command,
            ready: Readiness::Started,
            queues: Vec::new(),
            stdin: Input::Null,
            session: Session::Own,
            parent_death_signal: Some(Signal::KILL),
            ..process.clone()
        };
        let mut env = self.notify_variable(process);
        if let Some(main) = self.processes.main_pid(inc.serial) {
            env.push(("MAINPID".into(), main.to_string().into()));
        }
        let stdout = self.output(inc, &stdout, Stream::Out).map_err(cannot_prepare)?;
        let stderr = self.output(inc, &stderr, Stream::Err).map_err(cannot_prepare)?;
        let in_flight = self.spawner.start(&Request {
            spec: &helper,
            id: &self.kin.id(inc.serial),
            env: &env,
            stdio: [Target::Null.fd(&self.null), stdout.fd(&self.null), stderr.fd(&self.null)],
            queues: &[],
            ready: None,
            descriptor_limit: self.descriptor_limit,
            foreground: None,
        })?;
        let pid = in_flight.pid;
        self.processes.helpers.insert(inc, purpose, in_flight);
        if let Some((pidfd, report)) = self.processes.helpers.descriptors(pid) {
            for fd in [pidfd, report] {
                // SIGCHLD still tells of its end.
                if let Err(error) = event_loop::watch(&self.poll, fd, Source::Helper(pid)) {
                    log::error!("cannot watch process {pid}: {error}");
                }
            }
        }
        Ok(())
    }

    /// Something is new about a helper: its start or its end.
    pub(super) fn look_at_helper(&mut self, pid: u32, found: &mut Found) {
        self.processes.helpers.read_report(pid);
        let poll = &self.poll;
        let ended = match self.processes.helpers.reap(pid, |fd| event_loop::forget(poll, fd)) {
            Ok(Some(ended)) => ended,
            Ok(None) => return,
            Err(error) => return log::error!("cannot reap process {pid}: {error}"),
        };
        // Its life may be empty now.
        found.children_changed = true;
        let Ended { inc, purpose, result } = ended;
        let success = result == Ok(ExitStatus::SUCCESS);
        match purpose {
            Purpose::Probe => self.probe_command_ended(inc, &result),
            Purpose::Stop => {
                match &result {
                    Ok(ExitStatus::SUCCESS) => {}
                    Ok(status) => log::warn!("{}: its stop command {status}", self.path(inc)),
                    Err(error) => log::error!("{}: its stop command: {error}", self.path(inc)),
                }
                self.stop_command_ended(inc, success);
            }
        }
    }
}
