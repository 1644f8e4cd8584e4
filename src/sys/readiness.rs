//! Asking whether a descriptor is ready, for those who do not run the loop.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::retry;
use crate::time::Duration;

/// Waits until a write would not block or the timeout has passed. Whether it is writable (or broken, which a write
/// tells).
///
/// # Errors
/// The system's.
pub fn wait_writable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let mut watched = [entry(Some(fd), libc::POLLOUT)];
    poll(&mut watched, timeout).map(|()| watched[0].revents != 0)
}

/// Which of the descriptors can be read (or have ended), once one can or the timeout has passed.
///
/// # Errors
/// The system's.
pub fn poll_readable<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut watched = fds.map(|fd| entry(fd, libc::POLLIN));
    poll(&mut watched, timeout)?;
    Ok(watched.map(|entry| entry.revents != 0))
}

/// Whether whatever a descriptor stands for has come to its end: a pipe or socket without another side, a pidfd of a
/// process that has ended. Data that waits to be read is no end.
pub fn has_ended(fd: BorrowedFd<'_>) -> bool {
    let events = if is_pidfd(fd) { libc::POLLIN } else { libc::POLLRDHUP };
    let mut watched = [entry(Some(fd), events)];
    let ended = events | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;
    poll(&mut watched, Some(Duration::ZERO)).is_ok() && watched[0].revents & ended != 0
}

fn is_pidfd(fd: BorrowedFd<'_>) -> bool {
    super::pidfd::pid_of(fd).is_some()
        || std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .is_ok_and(|target| target.to_string_lossy().contains("pidfd"))
}

fn entry(fd: Option<BorrowedFd<'_>>, events: libc::c_short) -> libc::pollfd {
    // A negative descriptor is left out by the kernel.
    libc::pollfd { fd: fd.map_or(-1, |fd| fd.as_raw_fd()), events, revents: 0 }
}

fn poll(watched: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.map(|span| libc::timespec {
        tv_sec: libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: span.subsec_nanos() as libc::c_long,
    });
    let timeout = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    let count = watched.len() as libc::nfds_t;
    // SAFETY: `count` pollfds, a timeout that is null or outlives the call, no signal mask.
    retry(|| unsafe { libc::ppoll(watched.as_mut_ptr(), count, timeout, core::ptr::null()) }).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::{fd, pidfd};

    #[test]
    fn the_end_of_a_pipe_is_seen_behind_data_and_data_is_no_end() {
        let (read, write) = fd::pipe().unwrap();
        assert!(!has_ended(read.as_fd()));
        let mut write = std::fs::File::from(write);
        write.write_all(b"data").unwrap();
        assert!(!has_ended(read.as_fd()));
        assert_eq!(poll_readable([None, Some(read.as_fd())], None).unwrap(), [false, true]);
        drop(write);
        assert!(has_ended(read.as_fd()));
    }

    #[test]
    fn the_end_of_a_process_is_seen_by_its_pidfd() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pidfd = pidfd::open(child.id()).unwrap();
        assert!(!has_ended(pidfd.as_fd()));
        drop(child.stdin.take());
        assert!(fd::wait_readable(pidfd.as_fd(), Some(Duration::from_secs(20))).unwrap());
        assert!(has_ended(pidfd.as_fd()));
        child.wait().unwrap();
        assert!(has_ended(pidfd.as_fd()));
    }

    #[test]
    fn a_full_pipe_is_not_writable() {
        let (_read, write) = fd::pipe().unwrap();
        assert!(wait_writable(write.as_fd(), Some(Duration::ZERO)).unwrap());
        fd::set_nonblocking(write.as_fd(), true).unwrap();
        let mut file = std::fs::File::from(write.try_clone().unwrap());
        while file.write(&[0; 4096]).is_ok() {}
        assert!(!wait_writable(write.as_fd(), Some(Duration::ZERO)).unwrap());
    }
}
