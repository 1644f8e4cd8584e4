//! fated as a process among others: its fork, its launcher, its group, its end.

use std::io;
use std::os::fd::OwnedFd;

use super::check;
use super::pidfd::{self, Fork};
use crate::signal::Signal;

/// Makes a second process of this one.
///
/// # Errors
/// The system's, or more than one thread: the child could only execute a program then.
pub fn fork() -> io::Result<Fork> {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    if threads.is_ok_and(|count| count > 1) {
        return Err(io::Error::other("this process has more than one thread"));
    }
    // SAFETY: there is one thread, as was just counted; without /proc, fated itself starts none.
    unsafe { pidfd::fork_with_pidfd() }
}

/// The process that started us.
#[derive(Debug)]
pub enum Launcher {
    Watched {
        pid: u32,
        pidfd: OwnedFd,
    },
    /// Parent 0 (outside of our PID namespace) or 1 (it has ended, or is the system's own manager).
    None,
}

/// Opens the direct parent. It is asked for again after the open, so that the number cannot be a stranger's.
///
/// # Errors
/// EMFILE and the like.
pub fn open_launcher() -> io::Result<Launcher> {
    loop {
        let pid = parent();
        if pid <= 1 {
            return Ok(Launcher::None);
        }
        match pidfd::open(pid) {
            Ok(pidfd) if parent() == pid => return Ok(Launcher::Watched { pid, pidfd }),
            // It ended meanwhile: whoever has adopted us is asked for next. Each round is one death.
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => return Err(error),
        }
    }
}

fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

/// Whether this is PID 1 or the main process that systemd itself executed: what a guard is for is done by those.
pub fn is_main_process_of_its_manager() -> bool {
    let pid = std::process::id();
    // INVOCATION_ID and NOTIFY_SOCKET leak into every process of a session; this names one.
    let by_systemd = std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|number| number.parse() == Ok(pid));
    pid == 1 || by_systemd
}

/// Leaves the process group for one of our own.
///
/// # Errors
/// None for a process that leads no session.
pub fn leave_group() -> io::Result<()> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::setpgid(0, 0) }).map(drop)
}

/// Sends a signal to a process group; `false` where there is no such group. Where the group's leader is an unreaped child
/// of ours the number cannot be a stranger's.
///
/// # Errors
/// EPERM: none of its members may be signalled by us.
pub fn signal_group(group: u32, signal: Signal) -> io::Result<bool> {
    // SAFETY: no pointer is passed.
    match check(unsafe { libc::killpg(group as libc::pid_t, signal.number()) }) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Ends at once, without running anything on the way out.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: it does not return and touches no memory.
    unsafe { libc::_exit(i32::from(code)) }
}
