//! The lives under way: who is a main process, by which descriptor, and what was reaped of them.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::libc;

use super::helpers::Helpers;
use crate::exit::ExitStatus;
use crate::name::Incarnation;
use crate::signal::Signal;
use crate::spawn::InFlight;
use crate::start::StartError;
use crate::sys::pidfd;

/// The status of a main process that somebody else has reaped.
const UNKNOWN: ExitStatus = ExitStatus::Code(255);

/// All lives that are not over, by the serial of their incarnation.
#[derive(Default)]
pub struct Processes {
    lives: HashMap<u64, Life>,
    /// Main processes that are not reaped: their numbers are their own.
    mains: HashMap<u32, u64>,
    /// The sessions that main processes began. A session's number is not reused while a process is in it.
    sessions: HashMap<u32, u64>,
    /// Starts that are not yet reported.
    in_flight: usize,
    /// Processes that work for lives and are none.
    pub helpers: Helpers,
}

struct Life {
    inc: Incarnation,
    /// Of the main process.
    pid: u32,
    /// The session that the process began that was started as this life.
    session: Option<u32>,
    main: Main,
}

enum Main {
    /// The way to exec is not yet reported.
    Starting(InFlight),
    Running(OwnedFd),
    /// Another process that the life named as its main one. It may not be our child: then its status is its parent's.
    Moved(OwnedFd),
    /// It reported why it could not start and is on its way out.
    Failed(OwnedFd, StartError),
    /// Reaped; descendants are left.
    Gone,
}

/// A main process that was reaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    Exited(Incarnation, ExitStatus),
    /// It had never run its program.
    StartFailed(Incarnation, StartError),
}

impl Processes {
    /// A start under way.
    pub fn insert(&mut self, inc: Incarnation, own_session: bool, in_flight: InFlight) {
        let pid = in_flight.pid;
        self.in_flight += 1;
        self.mains.insert(pid, inc.serial);
        if own_session {
            self.sessions.insert(pid, inc.serial);
        }
        let session = own_session.then_some(pid);
        self.lives.insert(inc.serial, Life { inc, pid, session, main: Main::Starting(in_flight) });
    }

    /// How many starts are under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub fn has(&self, serial: u64) -> bool {
        self.lives.contains_key(&serial)
    }

    pub fn is_main(&self, pid: u32) -> bool {
        self.mains.contains_key(&pid)
    }

    /// The only life there is.
    pub fn sole(&self) -> Option<u64> {
        let mut serials = self.lives.keys();
        serials.next().copied().filter(|_| serials.next().is_none())
    }

    /// The life whose main process began this session.
    pub fn by_session(&self, session: u32) -> Option<u64> {
        self.sessions.get(&session).copied()
    }

    pub fn serial_of(&self, pid: u32) -> Option<u64> {
        self.mains.get(&pid).copied()
    }

    pub fn inc(&self, serial: u64) -> Option<Incarnation> {
        self.lives.get(&serial).map(|life| life.inc)
    }

    pub fn pid(&self, serial: u64) -> Option<u32> {
        self.lives.get(&serial).map(|life| life.pid)
    }

    /// The number of the main process while it is not reaped.
    pub fn main_pid(&self, serial: u64) -> Option<u32> {
        let life = self.lives.get(&serial)?;
        life.pidfd().map(|_| life.pid)
    }

    /// Lives whose main process has ended.
    pub fn outlived(&self) -> Vec<Incarnation> {
        let gone = |life: &&Life| matches!(life.main, Main::Gone);
        self.lives.values().filter(gone).map(|life| life.inc).collect()
    }

    /// Serials of all lives whose main process is not reaped.
    pub fn running(&self) -> Vec<u64> {
        self.mains.values().copied().collect()
    }

    pub fn pidfd(&self, serial: u64) -> Option<BorrowedFd<'_>> {
        self.lives.get(&serial)?.pidfd()
    }

    pub fn report_fd(&self, serial: u64) -> Option<BorrowedFd<'_>> {
        match &self.lives.get(&serial)?.main {
            Main::Starting(in_flight) => Some(in_flight.report.as_fd()),
            Main::Running(_) | Main::Moved(_) | Main::Failed(..) | Main::Gone => None,
        }
    }

    /// Takes another process of the life for its main process. Returns the descriptor of the former one, which is a
    /// descendant of the life like others from now on; `None` where none runs.
    pub fn move_main(&mut self, serial: u64, pid: u32, pidfd: OwnedFd) -> Option<OwnedFd> {
        let life = self.lives.get_mut(&serial)?;
        let former = match core::mem::replace(&mut life.main, Main::Gone) {
            Main::Running(former) | Main::Moved(former) => former,
            other @ (Main::Starting(_) | Main::Failed(..) | Main::Gone) => {
                life.main = other;
                return None;
            }
        };
        life.main = Main::Moved(pidfd);
        self.mains.remove(&life.pid);
        self.mains.insert(pid, serial);
        life.pid = pid;
        Some(former)
    }

    /// Reads the report of a start; the incarnation whose program runs now. A failure is told by `reap`, as any death.
    pub fn read_report(&mut self, serial: u64) -> Option<Incarnation> {
        let life = self.lives.get_mut(&serial)?;
        let Main::Starting(in_flight) = &mut life.main else { return None };
        let result = in_flight.finish()?;
        self.in_flight -= 1;
        if let Main::Starting(in_flight) = core::mem::replace(&mut life.main, Main::Gone) {
            life.main = match &result {
                Ok(()) => Main::Running(in_flight.pidfd),
                Err(error) => Main::Failed(in_flight.pidfd, error.clone()),
            };
        }
        result.is_ok().then_some(life.inc)
    }

    /// Takes the status of a main process that has ended; `None` while it runs or a tracer holds it. `before_close` is
    /// called before its descriptor is closed, which is in the same step because it would report once more after the
    /// reap.
    ///
    /// # Errors
    /// ECHILD: someone else reaped it.
    pub fn reap(&mut self, serial: u64, before_close: impl FnOnce(BorrowedFd<'_>)) -> io::Result<Option<Death>> {
        let Some(life) = self.lives.get_mut(&serial) else { return Ok(None) };
        let Some(pidfd) = life.pidfd() else { return Ok(None) };
        let status = match pidfd::reap(pidfd) {
            Ok(Some(reaped)) => reaped.status,
            Ok(None) => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) && matches!(life.main, Main::Moved(_)) => {
                if !pidfd::has_exited(pidfd) {
                    return Ok(None);
                }
                log::warn!("the status of process {} is known to its parent alone: it counts as a failure", life.pid);
                UNKNOWN
            }
            Err(error) => return Err(error),
        };
        before_close(pidfd);
        self.mains.remove(&life.pid);
        let inc = life.inc;
        Ok(Some(match core::mem::replace(&mut life.main, Main::Gone) {
            Main::Failed(_, error) => Death::StartFailed(inc, error),
            Main::Starting(_) | Main::Running(_) | Main::Moved(_) | Main::Gone => Death::Exited(inc, status),
        }))
    }

    /// The life is over: nothing of it is left, or it was released.
    pub fn remove(&mut self, serial: u64) {
        if let Some(life) = self.lives.remove(&serial) {
            // The number may be another life's by now.
            if self.mains.get(&life.pid) == Some(&serial) {
                self.mains.remove(&life.pid);
            }
            if let Some(session) = life.session.filter(|session| self.sessions.get(session) == Some(&serial)) {
                self.sessions.remove(&session);
            }
        }
    }

    /// Sends a signal to a main process; one that has gone is no error.
    ///
    /// # Errors
    /// EPERM: it belongs to another user and we may not signal it.
    pub fn signal_main(&self, serial: u64, signal: Signal) -> io::Result<()> {
        match self.pidfd(serial) {
            Some(pidfd) => pidfd::send_signal(pidfd, signal).map(drop),
            None => Ok(()),
        }
    }

    /// Sends a signal to the process group that a main process leads.
    ///
    /// # Errors
    /// EPERM: no process of it may be signalled by us.
    pub fn signal_group(&self, serial: u64, signal: Signal) -> io::Result<()> {
        match self.main_pid(serial) {
            // The number is its own until it is reaped. Before the child has made its group the signal waits for it alone.
            Some(pid) if crate::sys::process::signal_group(pid, signal)? => Ok(()),
            Some(_) => self.signal_main(serial, signal),
            None => Ok(()),
        }
    }

    /// Kills a main process that is not reaped, and gives its number for a walk below it.
    pub fn kill_main(&self, serial: u64) -> Option<u32> {
        let pid = self.main_pid(serial)?;
        if let Err(error) = self.signal_main(serial, Signal::KILL) {
            log::warn!("cannot kill process {pid}: {error}");
        }
        Some(pid)
    }
}

impl Life {
    fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match &self.main {
            Main::Starting(in_flight) => Some(in_flight.pidfd.as_fd()),
            Main::Running(pidfd) | Main::Moved(pidfd) | Main::Failed(pidfd, _) => Some(pidfd.as_fd()),
            Main::Gone => None,
        }
    }
}
