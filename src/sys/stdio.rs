//! fated's own stdout and stderr, written so that a reader that stands still never holds us up.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{check, fd, readiness, retry, tty};

/// Descriptor 0. The runtime opens 0 to 2 before `main` where the launcher left them closed, and fated never closes
/// them.
pub fn stdin() -> BorrowedFd<'static> {
    // SAFETY: it is open for the whole life of this process, as said above.
    unsafe { BorrowedFd::borrow_raw(0) }
}

/// Descriptor 1.
pub fn stdout() -> BorrowedFd<'static> {
    // SAFETY: as for `stdin`.
    unsafe { BorrowedFd::borrow_raw(1) }
}

/// Descriptor 2.
pub fn stderr() -> BorrowedFd<'static> {
    // SAFETY: as for `stdin`.
    unsafe { BorrowedFd::borrow_raw(2) }
}

/// Writes to stderr what can be written without waiting, allocating nothing.
pub fn write_stderr(bytes: &[u8]) {
    if readiness::wait_writable(stderr(), Some(crate::time::Duration::ZERO)).unwrap_or(false) {
        let piece = &bytes[..bytes.len().min(PIECE)];
        // SAFETY: the pointer and length are of a live slice.
        let _ = retry(|| unsafe { libc::write(2, piece.as_ptr().cast(), piece.len()) });
    }
}

/// Output that never blocks: where the other side takes nothing, a write gives `WouldBlock`.
#[derive(Debug)]
pub struct StdStream {
    fd: OwnedFd,
    manner: Manner,
}

/// How a write to the descriptor is kept from blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// A file or a device that is always ready.
    Ready,
    /// An open file description of our own, non-blocking. Setting O_NONBLOCK on the inherited one would set it for
    /// every process that shares it.
    Own,
    /// A socket: asked not to wait with each send.
    Socket,
    /// Shared and not to be opened again: asked for room first, then written in pieces of this size, which fit.
    Shared { piece: usize },
}

/// The most that a pipe with room has room for (PIPE_BUF on Linux).
const PIECE: usize = 4096;

/// A terminal with room may have room for no more than this.
const TERMINAL_PIECE: usize = 1;

impl StdStream {
    /// Takes a copy of an inherited descriptor, such as 1 or 2.
    ///
    /// # Errors
    /// EBADF: it is not open. EMFILE.
    pub fn open(inherited: BorrowedFd<'_>) -> io::Result<Self> {
        let manner = match file_type(inherited)? {
            libc::S_IFSOCK => Manner::Socket,
            libc::S_IFIFO | libc::S_IFCHR => match reopen(inherited) {
                Ok(own) => return Ok(Self { fd: fd::raise(own), manner: Manner::Own }),
                Err(_) if tty::is_tty(inherited) => Manner::Shared { piece: TERMINAL_PIECE },
                Err(_) => Manner::Shared { piece: PIECE },
            },
            _ => Manner::Ready,
        };
        Ok(Self { fd: fd::duplicate_from(inherited, fd::LOW_END)?, manner })
    }

    /// Writes what can be written at once; at least one byte, or an error.
    ///
    /// # Errors
    /// `WouldBlock`; EPIPE: the reader has gone; ENOSPC and the like.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let raw = self.fd.as_raw_fd();
        let written = match self.manner {
            Manner::Ready | Manner::Own => {
                // SAFETY: the pointer and length are of a live slice.
                retry(|| unsafe { libc::write(raw, bytes.as_ptr().cast(), bytes.len()) })
            }
            Manner::Socket => {
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
                // SAFETY: as above.
                retry(|| unsafe { libc::send(raw, bytes.as_ptr().cast(), bytes.len(), flags) })
            }
            Manner::Shared { piece } => {
                if !readiness::wait_writable(self.fd.as_fd(), Some(crate::time::Duration::ZERO))? {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let piece = &bytes[..bytes.len().min(piece)];
                // SAFETY: as above.
                retry(|| unsafe { libc::write(raw, piece.as_ptr().cast(), piece.len()) })
            }
        }?;
        Ok(written as usize)
    }

    /// Whether readiness to be written can be watched for; a file has none and needs none.
    pub fn is_pollable(&self) -> bool {
        self.manner != Manner::Ready
    }
}

impl AsFd for StdStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn file_type(fd: BorrowedFd<'_>) -> io::Result<libc::mode_t> {
    // SAFETY: an all-zero stat is a valid value.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: `stat` is writable and of the right type.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) })?;
    Ok(stat.st_mode & libc::S_IFMT)
}

fn reopen(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // A terminal may belong to whoever we were before su or sudo; the controlling one can be opened by its other name.
    let own = open_path(&format!("/proc/self/fd/{}\0", fd.as_raw_fd()));
    if own.is_err() && tty::foreground(fd).is_some() { open_path("/dev/tty\0") } else { own }
}

/// `path` ends with a NUL byte.
fn open_path(path: &str) -> io::Result<OwnedFd> {
    let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_APPEND;
    // SAFETY: the path ends with a NUL byte and outlives the call.
    let own = retry(|| unsafe { libc::open(path.as_ptr().cast(), flags) })?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(own) })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_gives_would_block_and_stays_blocking_for_others() {
        let (read, write) = fd::pipe().unwrap();
        let stream = StdStream::open(write.as_fd()).unwrap();
        assert_eq!(stream.manner, Manner::Own);
        fill(&stream);
        // SAFETY: no pointer is passed.
        let flags = unsafe { libc::fcntl(write.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0);
        let mut buffer = vec![0; 1 << 16];
        let mut read = std::fs::File::from(read);
        assert!(read.read(&mut buffer).unwrap() > 0);
        assert!(stream.write(b"room again").unwrap() > 0);
    }

    #[test]
    fn a_socket_and_a_shared_pipe_do_not_block_either() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let stream = StdStream::open(ours.as_fd()).unwrap();
        assert_eq!(stream.manner, Manner::Socket);
        fill(&stream);
        let (_read, write) = fd::pipe().unwrap();
        fill(&StdStream { fd: write, manner: Manner::Shared { piece: PIECE } });
    }

    #[test]
    fn a_file_is_written_as_it_is() {
        let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
        let stream = StdStream::open(null.as_fd()).unwrap();
        assert_eq!(stream.write(b"x").unwrap(), 1);
    }

    fn fill(stream: &StdStream) {
        let bytes = [b'x'; 1 << 12];
        for _ in 0..10_000 {
            match stream.write(&bytes) {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return;
                }
            }
        }
        panic!("40 MB fit into a buffer");
    }
}
