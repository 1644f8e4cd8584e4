//! The controlling terminal and its foreground process group.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{check, signalfd};

/// Whether the descriptor is a terminal.
pub fn is_tty(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: no pointer is passed.
    unsafe { libc::isatty(fd.as_raw_fd()) == 1 }
}

/// Our controlling terminal; `None` where we have none.
pub fn open_controlling() -> Option<OwnedFd> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
    Some(file.into())
}

pub fn has_controlling_terminal() -> bool {
    open_controlling().is_some()
}

/// The foreground process group; `None` where the descriptor is not our controlling terminal.
pub fn foreground(fd: BorrowedFd<'_>) -> Option<u32> {
    // SAFETY: no pointer is passed.
    let group = unsafe { libc::tcgetpgrp(fd.as_raw_fd()) };
    u32::try_from(group).ok().filter(|group| *group != 0)
}

/// Our own process group.
pub fn own_group() -> u32 {
    // SAFETY: no pointer is passed; it cannot fail.
    unsafe { libc::getpgrp() as u32 }
}

/// Puts a process group of our session into the foreground, also from the background.
///
/// # Errors
/// ENOTTY: not our controlling terminal. EPERM: no such group in our session.
pub fn set_foreground(fd: BorrowedFd<'_>, group: u32) -> io::Result<()> {
    // From the background the call would stop us by SIGTTOU, unless that is blocked.
    let mut block = signalfd::empty();
    let mut before = signalfd::empty();
    // SAFETY: both sets are initialised and live; the mask is restored below, whatever the call gives.
    let result = unsafe {
        libc::sigaddset(&mut block, libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, &block, &mut before);
        let result = check(libc::tcsetpgrp(fd.as_raw_fd(), group as libc::pid_t));
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, core::ptr::null_mut());
        result
    };
    result.map(drop)
}

/// Whether a process group has members.
pub fn group_exists(group: u32) -> bool {
    // SAFETY: signal 0 is sent to nobody.
    let result = check(unsafe { libc::killpg(group as libc::pid_t, 0) });
    result.is_ok() || result.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
}

/// Takes the foreground for our own process group where the group that had it has gone.
///
/// # Errors
/// As for `set_foreground`.
pub fn take_from_the_gone(terminal: BorrowedFd<'_>) -> io::Result<()> {
    match foreground(terminal) {
        Some(group) if !group_exists(group) => set_foreground(terminal, own_group()),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::fd;

    #[test]
    fn a_pipe_is_no_terminal() {
        let (read, _write) = fd::pipe().unwrap();
        assert!(!is_tty(read.as_fd()));
        assert_eq!(foreground(read.as_fd()), None);
        assert_eq!(set_foreground(read.as_fd(), own_group()).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }
}
