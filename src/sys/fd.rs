//! Descriptors: where they lie, what they block on, which of them were inherited.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{check, retry};
use crate::time::Duration;

/// Long-lived descriptors lie at this number or above, so that what a child needs lies below it and the rest of the
/// table need not be copied for it.
pub const LOW_END: RawFd = 256;

/// The limit on open descriptors, soft and hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    pub soft: u64,
    pub hard: u64,
}

/// Moves a long-lived descriptor to `LOW_END` or above; it stays where it is if the limit leaves no room there.
pub fn raise(fd: OwnedFd) -> OwnedFd {
    if fd.as_raw_fd() >= LOW_END {
        return fd;
    }
    duplicate_from(fd.as_fd(), LOW_END).unwrap_or(fd)
}

/// A second descriptor of the same open file description, at `lowest` or above.
///
/// # Errors
/// EMFILE, or EINVAL where `lowest` is beyond the limit.
pub fn duplicate_from(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointer is passed.
    let copy = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) })?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// A pipe: the end to read from, the end to write to. Both blocking.
///
/// # Errors
/// The system's: no descriptor, no memory.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    pipe_with(0)
}

/// A pipe with further flags for both ends.
pub(crate) fn pipe_with(flags: i32) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` is room for two descriptors.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | flags) })?;
    // SAFETY: the kernel has just made both descriptors for us alone.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Reads what is there, up to the buffer's length; 0 is the end.
///
/// # Errors
/// `WouldBlock` on a non-blocking descriptor without data; else the system's.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is writable for its length.
    retry(|| unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
        .map(|count| count as usize)
}

/// Sets or clears O_NONBLOCK on the open file description, for all who share it.
///
/// # Errors
/// None that a valid descriptor can cause.
pub fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let wanted = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    if wanted != flags {
        // SAFETY: no pointer is passed.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, wanted) })?;
    }
    Ok(())
}

/// Waits until a read would not block (data, end or error) or the timeout has passed; `None` waits without end.
/// Whether it is readable.
///
/// # Errors
/// The system's.
pub fn wait_readable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = timeout.map(|span| libc::timespec {
        tv_sec: libc::time_t::try_from(span.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: span.subsec_nanos() as libc::c_long,
    });
    let timeout = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // SAFETY: one pollfd, a timeout that is null or outlives the call, no signal mask.
    let ready = retry(|| unsafe { libc::ppoll(&mut poll, 1, timeout, core::ptr::null()) })?;
    Ok(ready > 0)
}

/// Takes over a descriptor that our launcher left open for us, as an environment variable or an option names it, and
/// makes it close-on-exec. To be called once for each number, before descriptors of our own are made.
///
/// # Errors
/// EBADF: it is not open.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointer is passed; a number that is not open gives EBADF.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and by the contract above no one else in this process owns that number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes every descriptor above 2 that is not kept: what a launcher leaked to us would else live as long as we do.
/// To be called at start-up, before descriptors of our own are made.
///
/// # Errors
/// EBADF and the like never; only what reading /proc gives, on a kernel without close_range.
pub fn close_inherited(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in &keep {
        close_range(first, *fd - 1, &keep)?;
        first = fd + 1;
    }
    close_range(first, RawFd::MAX, &keep)
}

fn close_range(first: RawFd, last: RawFd, keep: &[RawFd]) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: by the contract of `close_inherited` nothing in this process owns these numbers.
    if check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).is_ok() {
        return Ok(());
    }
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| (first..=last).contains(fd) && !keep.contains(fd))
        .collect();
    for fd in open {
        // SAFETY: as above; the directory's own descriptor is in the list too and closed before, which gives EBADF.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// Raises the soft limit on open descriptors to the hard one. Returns what it was, to give it back to children.
///
/// # Errors
/// None on a kernel that fated supports.
pub fn raise_limit() -> io::Result<DescriptorLimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable and of the right type.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    let original = DescriptorLimit { soft: limit.rlim_cur, hard: limit.rlim_max };
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` outlives the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    }
    Ok(original)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_descriptor_lies_high_and_is_the_same_file() {
        let (read, write) = pipe().unwrap();
        let write = raise(write);
        assert!(write.as_raw_fd() >= LOW_END);
        assert!(!wait_readable(read.as_fd(), Some(Duration::ZERO)).unwrap());
        drop(raise(write));
        assert!(wait_readable(read.as_fd(), Some(Duration::from_secs(10))).unwrap());
    }

    #[test]
    fn what_is_not_open_is_not_inherited() {
        assert_eq!(inherited(RawFd::MAX).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn blocking_is_switched() {
        let (read, _write) = pipe().unwrap();
        set_nonblocking(read.as_fd(), true).unwrap();
        // SAFETY: a zero-length buffer is never written.
        let flags = unsafe { libc::fcntl(read.as_raw_fd(), libc::F_GETFL) };
        assert_ne!(flags & libc::O_NONBLOCK, 0);
        set_nonblocking(read.as_fd(), false).unwrap();
    }
}
