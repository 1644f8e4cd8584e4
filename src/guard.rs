//! The guard: the outer of fated's two processes, the one that the launcher knows.
//!
//! It passes signals on, is stopped and continued with the tree, and ends as the supervisor tells it to. If the supervisor is
//! killed, what the supervisor looked after falls to the guard, a subreaper like it, and is killed at once. It waits in
//! one ppoll over three descriptors and allocates nothing once it waits.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::exit::{ExitStatus, Verdict};
use crate::signal::Signal;
use crate::sys::signalfd::SignalFd;
use crate::sys::wait::Any;
use crate::sys::{clock, fd, kill, pidfd, process, procfs, readiness, stdio, tty, wait};
use crate::time::Duration;

/// How long what is left of a tree may take to die after it was sent SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How soon the guard looks again for what was forked while it killed.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How many signals are passed on before the guard looks at everything else again.
const SIGNALS_A_TURN: usize = 256;

/// Room to read a list of children, in bytes.
const SCRATCH: usize = 64 * 1024;

pub struct Guard {
    pub supervisor: OwnedFd,
    /// Its number, to know what it sends us from what it is to get.
    pub supervisor_pid: u32,
    pub launcher: Option<OwnedFd>,
    /// Where fated was in its foreground when it began.
    pub terminal: Option<OwnedFd>,
    /// Where the supervisor leaves its verdict as its last act.
    pub verdict: OwnedFd,
    /// Signals that were ignored when fated was started.
    pub ignored: Vec<Signal>,
    /// Children that were there before fated began: not ours to end.
    pub strangers: Vec<u32>,
}

/// Watches over the supervisor until it has ended; how fated ends.
///
/// # Errors
/// The system refuses what the guard needs to begin; the supervisor was killed then.
pub fn watch(mut guard: Guard) -> io::Result<Verdict> {
    let mut scratch = vec![0; SCRATCH];
    let signals =
        match SignalFd::new().and_then(|signals| fd::set_nonblocking(guard.verdict.as_fd(), true).map(|()| signals)) {
            Ok(signals) => signals,
            Err(error) => {
                let _ = pidfd::send_signal(guard.supervisor.as_fd(), Signal::KILL);
                return Err(error);
            }
        };
    let mut launcher = guard.launcher.as_ref();
    loop {
        let watched = [Some(signals.as_fd()), Some(guard.supervisor.as_fd()), launcher.map(AsFd::as_fd)];
        let ready = readiness::poll_readable(watched, None)?;
        if ready[0] {
            pass_signals_on(&signals, &guard);
        }
        if ready[2] {
            // The supervisor sees it too and stops the tree; a stopped one could not.
            let _ = pidfd::send_signal(guard.supervisor.as_fd(), Signal::CONT);
            launcher = None;
        }
        if ready[1]
            && let Some(reaped) = pidfd::reap(guard.supervisor.as_fd())?
        {
            return Ok(match read_verdict(&guard.verdict) {
                Some(verdict) => verdict,
                None => {
                    let verdict = end_everything(&signals, reaped.status, &mut guard.strangers, &mut scratch);
                    if let Some(terminal) = &guard.terminal {
                        let _ = tty::take_from_the_gone(terminal.as_fd());
                    }
                    verdict
                }
            });
        }
    }
}

/// Passes on what is meant for the tree. A job-control stop as well: the supervisor stops us once the tree has stopped
/// and the terminal is given back. If we stopped ourselves it would stop us a second time, perhaps after we were
/// continued.
fn pass_signals_on(signals: &SignalFd, guard: &Guard) {
    // Bounded, so that a sender without end does not hide the supervisor's death.
    for _ in 0..SIGNALS_A_TURN {
        let Ok(Some(received)) = signals.read() else { return };
        let signal = received.signal;
        let from_supervisor = received.pid == guard.supervisor_pid;
        if signal != Signal::CHLD && !from_supervisor && !guard.ignored.contains(&signal) {
            let _ = pidfd::send_signal(guard.supervisor.as_fd(), signal);
        }
    }
}

/// The supervisor did not say how it ends: it was killed, or broke. Nothing that it looked after survives it.
fn end_everything(signals: &SignalFd, status: ExitStatus, strangers: &mut Vec<u32>, scratch: &mut [u8]) -> Verdict {
    let deadline = clock::now() + KILL_PATIENCE;
    let mut ended = 0_u32;
    let mut empty_looks = 0;
    // Where strangers keep us from having no children, two looks have to agree that nobody else is left.
    while empty_looks < 2 {
        let alive = kill::kill_children_of_self(scratch, strangers);
        empty_looks = if alive == 0 { empty_looks + 1 } else { 0 };
        match reap_all(strangers, &mut ended) {
            Left::Nobody => break,
            Left::Somebody if alive == 0 => {}
            Left::Somebody => {
                let now = clock::now();
                if now >= deadline {
                    tell_survivors(status, strangers);
                    return Verdict::UNKILLABLE;
                }
                wait_for_a_death(signals, deadline.since(now));
            }
        }
    }
    say(format_args!("the supervisor {status}; the guard ended what was left of the tree ({ended})"));
    Verdict::SUPERVISOR_KILLED
}

enum Left {
    Nobody,
    Somebody,
}

/// Reaps whoever has ended, counting those of the tree.
fn reap_all(strangers: &mut Vec<u32>, ended: &mut u32) -> Left {
    loop {
        match wait::peek_any() {
            Ok(Any::Zombie(pid)) => {
                let _ = wait::reap_pid(pid);
                let known = strangers.len();
                strangers.retain(|stranger| *stranger != pid);
                *ended += u32::from(strangers.len() == known);
            }
            Ok(Any::NoneExited) => return Left::Somebody,
            Ok(Any::NoChildren) | Err(_) => return Left::Nobody,
        }
    }
}

/// Names what cannot be killed. The work is over: here the guard may allocate.
fn tell_survivors(status: ExitStatus, strangers: &[u32]) {
    say(format_args!("the supervisor {status}; something that was left of the tree cannot be killed:"));
    let children = procfs::children_of_self().unwrap_or_default();
    for pid in children.into_iter().filter(|pid| !strangers.contains(pid)).take(5) {
        if let Some(stat) = procfs::stat(pid) {
            say(format_args!("{}", procfs::describe(&procfs::Found { pid, stat })));
        }
    }
}

fn wait_for_a_death(signals: &SignalFd, left: Duration) {
    let _ = fd::wait_readable(signals.as_fd(), Some(left.min(LOOK_AGAIN)));
    while let Ok(Some(_)) = signals.read() {}
}

/// One line on stderr, made in place.
fn say(message: core::fmt::Arguments<'_>) {
    use core::fmt::Write;
    let mut line = Line { bytes: [0; 256], length: 0 };
    let _ = write!(line, "fated: {message}");
    let _ = line.write_str("\n");
    stdio::write_stderr(&line.bytes[..line.length]);
}

/// Text up to a bound; what does not fit is left out.
struct Line {
    bytes: [u8; 256],
    length: usize,
}

impl core::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = &mut self.bytes[self.length..];
        let length = text.len().min(room.len());
        room[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.length += length;
        Ok(())
    }
}

const CODE: u8 = b'c';
const SIGNAL: u8 = b's';

/// The supervisor's last act: leaves its verdict for the guard and ends.
pub fn leave(verdict_pipe: &OwnedFd, verdict: Verdict) -> ! {
    let bytes = match verdict {
        Verdict::Code(code) => [CODE, code],
        Verdict::Signal(signal) => [SIGNAL, signal.number() as u8],
    };
    // If the guard has gone there is nobody to tell.
    let _ = nix::unistd::write(verdict_pipe, &bytes);
    process::exit_now(verdict.shell_code())
}

fn read_verdict(pipe: &OwnedFd) -> Option<Verdict> {
    let mut bytes = [0; 2];
    match nix::unistd::read(pipe, &mut bytes) {
        Ok(2) if bytes[0] == CODE => Some(Verdict::Code(bytes[1])),
        Ok(2) if bytes[0] == SIGNAL => Signal::from_number(i32::from(bytes[1])).map(Verdict::Signal),
        Ok(_) | Err(_) => None,
    }
}
