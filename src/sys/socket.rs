//! Kernel queues: the two transports of a shared queue.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{check, fd};

/// Both ends of a new kernel queue.
#[derive(Debug)]
pub struct QueueEnds {
    /// Where messages go in: one write is one message.
    pub put: OwnedFd,
    /// Where they come out: one read takes one message.
    pub get: OwnedFd,
    /// What the kernel made of the capacity that was asked for, in bytes.
    pub capacity: u64,
}

/// A direction of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
}

/// A queue of whole messages over an AF_UNIX SOCK_SEQPACKET pair. The capacity counts the kernel's overhead for each
/// message on top of its bytes.
///
/// The unused direction stays open: with it shut down the put end would poll as readable, which event loops that watch
/// a pipe for its reader's end (Python's asyncio) take for that end.
///
/// # Errors
/// The system's: no descriptor, no memory.
pub fn queue_seqpacket(capacity: u64) -> io::Result<QueueEnds> {
    let mut ends = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` is room for two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    // SAFETY: the kernel has just made both descriptors for us alone.
    let (put, get) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    let wanted = i32::try_from(capacity).unwrap_or(i32::MAX).max(1);
    // The sender's buffer is what bounds an AF_UNIX queue. The forced form passes the system's maximum and is for the
    // privileged.
    if set_option(put.as_fd(), libc::SO_SNDBUFFORCE, wanted).is_err() {
        set_option(put.as_fd(), libc::SO_SNDBUF, wanted)?;
    }
    // The kernel doubles the number to leave room for its overhead, and tells the doubled one.
    let capacity = get_option(put.as_fd(), libc::SO_SNDBUF)? / 2;
    Ok(QueueEnds { put, get, capacity: capacity.max(0) as u64 })
}

/// A queue of messages up to 4,096 bytes over a pipe in packet mode. It holds one message for each page of its
/// capacity.
///
/// # Errors
/// EINVAL where the kernel has no packet mode; else the system's.
pub fn queue_pipe(capacity: u64) -> io::Result<QueueEnds> {
    let (get, put) = fd::pipe_with(libc::O_DIRECT)?;
    let mut wanted = i32::try_from(capacity).unwrap_or(i32::MAX / 2 + 1).max(1);
    loop {
        // SAFETY: no pointer is passed.
        match check(unsafe { libc::fcntl(put.as_raw_fd(), libc::F_SETPIPE_SZ, wanted) }) {
            Ok(size) => return Ok(QueueEnds { put, get, capacity: size as u64 }),
            // Beyond pipe-max-size, or the user's pages are used up: take the next smaller power of two.
            Err(_) if wanted > 4096 => wanted = 1 << (31 - (wanted - 1).leading_zeros()),
            Err(_) => break,
        }
    }
    // SAFETY: no pointer is passed.
    let size = check(unsafe { libc::fcntl(put.as_raw_fd(), libc::F_GETPIPE_SZ) })?;
    Ok(QueueEnds { put, get, capacity: size as u64 })
}

/// A pipe's end once more, as an open file description of its own: O_NONBLOCK set on it by one process is not seen by
/// the others. In packet mode, blocking.
///
/// # Errors
/// ENXIO: to be written, and no one has the end to read from open. ENOENT: no /proc.
pub fn reopen_pipe(end: BorrowedFd<'_>, direction: Direction) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}\0", end.as_raw_fd());
    let access = match direction {
        Direction::Read => libc::O_RDONLY,
        Direction::Write => libc::O_WRONLY,
    };
    // Without O_NONBLOCK the open would wait for the other end where that is closed.
    let flags = access | libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: the path ends with a NUL byte and outlives the call.
    let raw = super::retry(|| unsafe { libc::open(path.as_ptr().cast(), flags) })?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    let reopened = unsafe { OwnedFd::from_raw_fd(raw) };
    // Packet mode can be set on an open pipe, not asked for when one is opened by path. O_NONBLOCK goes.
    // SAFETY: no pointer is passed.
    check(unsafe { libc::fcntl(raw, libc::F_SETFL, libc::O_DIRECT) })?;
    Ok(reopened)
}

/// Ends one direction of a socket for all who share it. Messages under way can still be read. One that was shut down
/// before is no error.
///
/// # Errors
/// ENOTSOCK and the like.
pub fn shutdown(socket: BorrowedFd<'_>, direction: Direction) -> io::Result<()> {
    let how = match direction {
        Direction::Read => libc::SHUT_RD,
        Direction::Write => libc::SHUT_WR,
    };
    // SAFETY: no pointer is passed.
    match check(unsafe { libc::shutdown(socket.as_raw_fd(), how) }) {
        Err(error) if error.raw_os_error() != Some(libc::ENOTCONN) => Err(error),
        _ => Ok(()),
    }
}

/// Bytes that wait to be read: those of the next message on a SEQPACKET socket, of all messages in a pipe.
///
/// # Errors
/// ENOTTY on what has no such count.
pub fn bytes_waiting(end: BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    check(unsafe { libc::ioctl(end.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(bytes.max(0) as u64)
}

fn set_option(socket: BorrowedFd<'_>, option: i32, value: i32) -> io::Result<()> {
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the value is an int of the given size that outlives the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), size) };
    check(result).map(drop)
}

fn get_option(socket: BorrowedFd<'_>, option: i32) -> io::Result<i32> {
    let mut value = 0_i32;
    let mut size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: room for an int, and its size.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw mut value).cast(), &mut size) };
    check(result).map(|_| value)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{ErrorKind, Read, Write};

    use super::*;

    fn split(ends: QueueEnds) -> (File, File) {
        (ends.put.into(), ends.get.into())
    }

    #[test]
    fn messages_stay_whole_on_either_transport() {
        for ends in [queue_seqpacket(1 << 20).unwrap(), queue_pipe(1 << 16).unwrap()] {
            assert!(ends.capacity >= 4096, "{ends:?}");
            let (mut put, mut get) = split(ends);
            for message in [&b"one"[..], b"second", &[7; 4096]] {
                put.write_all(message).unwrap();
            }
            let mut buffer = [0; 8192];
            for length in [3, 6, 4096] {
                assert!(bytes_waiting(get.as_fd()).unwrap() > 0);
                assert_eq!(get.read(&mut buffer).unwrap(), length);
            }
        }
    }

    #[test]
    fn a_shut_down_socket_queue_is_drained_and_then_ends() {
        let (mut put, mut get) = split(queue_seqpacket(1 << 16).unwrap());
        put.write_all(b"last").unwrap();
        shutdown(put.as_fd(), Direction::Write).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(get.read(&mut buffer).unwrap(), 4);
        assert_eq!(get.read(&mut buffer).unwrap(), 0);
        let (mut put, get) = split(queue_seqpacket(1 << 16).unwrap());
        shutdown(get.as_fd(), Direction::Read).unwrap();
        shutdown(get.as_fd(), Direction::Read).unwrap();
        assert_eq!(put.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_reopened_pipe_end_is_in_packet_mode_and_apart() {
        let ends = queue_pipe(1 << 16).unwrap();
        let own: File = reopen_pipe(ends.put.as_fd(), Direction::Write).unwrap().into();
        let mut get: File = reopen_pipe(ends.get.as_fd(), Direction::Read).unwrap().into();
        fd::set_nonblocking(get.as_fd(), true).unwrap();
        // SAFETY: no pointer is passed.
        let flags = unsafe { libc::fcntl(ends.get.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0);
        (&own).write_all(b"ab").unwrap();
        (&own).write_all(b"cd").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(get.read(&mut buffer).unwrap(), 2);
        assert_eq!(get.read(&mut buffer).unwrap(), 2);
        assert_eq!(get.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop((own, ends.put));
        assert_eq!(get.read(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn capacity_beyond_what_the_kernel_allows_is_clamped() {
        assert!(queue_pipe(u64::MAX).unwrap().capacity >= 4096);
        assert!(queue_seqpacket(u64::MAX).unwrap().capacity >= 4096);
        assert!(queue_pipe(1).unwrap().capacity >= 4096);
    }
}
