//! Processes by descriptor: the only way in which fated signals a process that it has not just created.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub use super::wait::{job_state, reap_pidfd as reap};
use super::{check, fd};
use crate::signal::Signal;
use crate::time::Duration;

/// A descriptor of the process of that number.
///
/// # Errors
/// ESRCH: there is none. EINVAL: the number is that of a thread. EMFILE, ENFILE, ENOMEM.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointer is passed.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A descriptor of ourselves.
///
/// # Errors
/// As `open`.
pub fn open_self() -> io::Result<OwnedFd> {
    open(std::process::id())
}

/// Sends a signal; `false` where the process has gone.
///
/// # Errors
/// EPERM: it is not ours to signal.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<bool> {
    let info = core::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means "as kill does".
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal.number(), info, 0_u32) };
    match check(sent) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the process has ended; it may not be reaped yet, and not yet reapable where a tracer holds it.
pub fn has_exited(pidfd: BorrowedFd<'_>) -> bool {
    fd::wait_readable(pidfd, Some(Duration::ZERO)).unwrap_or(false)
}

/// The process's number as we see it; `None` once it is reaped, or outside our PID namespace.
pub fn pid_of(pidfd: BorrowedFd<'_>) -> Option<u32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid != 0)
}

/// What `fork_with_pidfd` returns twice.
#[derive(Debug)]
pub enum Fork {
    Parent { pid: u32, pidfd: OwnedFd },
    Child,
}

/// Forks, for the guard to make its supervisor.
///
/// This is fork and pidfd_open, not one clone: the C library learns of it, and nobody but us can reap the child
/// between the two.
///
/// # Safety
/// The process has one thread. With more, the child could only execute a program.
///
/// # Errors
/// The system's; then there is no child.
pub unsafe fn fork_with_pidfd() -> io::Result<Fork> {
    // SAFETY: the caller promises a single thread, so the child's memory is in no half-done state.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        return Ok(Fork::Child);
    }
    match open(pid as u32) {
        Ok(pidfd) => Ok(Fork::Parent { pid: pid as u32, pidfd }),
        Err(error) => {
            // SAFETY: the number is our unreaped child's own; a null status is allowed.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, core::ptr::null_mut(), 0);
            }
            Err(error)
        }
    }
}

/// Signals a process by number after checking, with the descriptor already open, that the number is still its own.
pub(super) fn signal_checked(pid: u32, signal: Signal, still_it: impl FnOnce() -> bool) -> io::Result<bool> {
    let pidfd = match open(pid) {
        Ok(pidfd) => pidfd,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(false),
        Err(error) => return Err(error),
    };
    if still_it() { send_signal(pidfd.as_fd(), signal) } else { Ok(false) }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::exit::ExitStatus;
    use crate::sys::wait::JobState;

    const BOUND: Option<Duration> = Some(Duration::from_secs(20));

    #[test]
    fn a_child_is_stopped_continued_killed_and_reaped_by_descriptor() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pidfd = open(child.id()).unwrap();
        assert_eq!(pid_of(pidfd.as_fd()), Some(child.id()));
        assert!(!has_exited(pidfd.as_fd()));
        assert_eq!(reap(pidfd.as_fd()).unwrap(), None);
        assert_eq!(job_state(pidfd.as_fd()).unwrap(), None);
        assert!(send_signal(pidfd.as_fd(), Signal::STOP).unwrap());
        let state = loop {
            if let Some(state) = job_state(pidfd.as_fd()).unwrap() {
                break state;
            }
            std::thread::yield_now();
        };
        assert_eq!(state, JobState::Stopped(Signal::STOP));
        assert!(send_signal(pidfd.as_fd(), Signal::CONT).unwrap());
        assert!(send_signal(pidfd.as_fd(), Signal::KILL).unwrap());
        assert!(fd::wait_readable(pidfd.as_fd(), BOUND).unwrap());
        let reaped = reap(pidfd.as_fd()).unwrap().unwrap();
        assert_eq!(reaped.pid, child.id());
        assert_eq!(reaped.status, ExitStatus::Signaled { signal: Signal::KILL, core_dumped: false });
        assert!(reaped.usage.max_rss_kib > 0);
        assert!(!send_signal(pidfd.as_fd(), Signal::TERM).unwrap());
        assert_eq!(reap(pidfd.as_fd()).unwrap_err().raw_os_error(), Some(libc::ECHILD));
        assert_eq!(pid_of(pidfd.as_fd()), None);
        assert!(child.wait().is_err());
    }

    #[test]
    fn no_process_has_number_minus_one() {
        assert!(open(u32::MAX >> 1).is_err());
    }
}
