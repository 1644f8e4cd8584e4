//! Signals as a descriptor, and the few things that we do to ourselves by signal.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{check, entry, prctl};
use crate::signal::Signal;

/// Faults of our own code: blocked, the kernel would kill us without a word.
const SYNCHRONOUS: [i32; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];

/// A received signal and who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedSignal {
    pub signal: Signal,
    /// The sender; 0 where it was the kernel or lives outside our PID namespace. For SIGCHLD: the child.
    pub pid: u32,
    pub uid: u32,
    /// `SI_USER` (0) and below: sent by a process; above: by the kernel.
    pub code: i32,
    /// For SIGCHLD: the exit code or the signal.
    pub status: i32,
}

impl ReceivedSignal {
    /// Whether the kernel itself sent it: a key of the terminal, a child's change, a timer.
    pub fn is_from_kernel(self) -> bool {
        self.code > 0
    }
}

/// All signals but the synchronous ones, blocked and readable.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks the signals for the calling thread (call it before any other thread exists) and opens the descriptor,
    /// non-blocking. A signal that is ignored arrives here nevertheless: see `entry::ignored_at_entry`.
    ///
    /// # Errors
    /// The system's: no descriptor, no memory.
    pub fn new() -> io::Result<Self> {
        let set = asynchronous();
        block(&set)?;
        // SAFETY: `set` is an initialised signal set that outlives the call.
        let fd = check(unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal; `None` when none is pending. One entry may stand for several of the same signal.
    ///
    /// # Errors
    /// The system's.
    pub fn read(&self) -> io::Result<Option<ReceivedSignal>> {
        loop {
            // SAFETY: an all-zero signalfd_siginfo is a valid value.
            let mut info: libc::signalfd_siginfo = unsafe { core::mem::zeroed() };
            let size = size_of::<libc::signalfd_siginfo>();
            // SAFETY: the buffer is `size` writable bytes.
            match check(unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size) }) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if is_answer_to_a_write(&info) {
                continue;
            }
            if let Some(signal) = Signal::from_number(info.ssi_signo as i32) {
                return Ok(Some(ReceivedSignal {
                    signal,
                    pid: info.ssi_pid,
                    uid: info.ssi_uid,
                    code: info.ssi_code,
                    status: info.ssi_status,
                }));
            }
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Blocks every signal but the synchronous ones for the calling thread; the first thing that fated does, so that a
/// signal that comes during start-up waits for the loop.
///
/// # Errors
/// None.
pub fn block_all() -> io::Result<()> {
    block(&asynchronous())
}

/// Unblocks every signal for the calling thread.
///
/// # Errors
/// None.
pub fn unblock_all() -> io::Result<()> {
    // SAFETY: `empty` initialises the set; a null old set is allowed.
    let result = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &empty(), core::ptr::null_mut()) };
    from_errno(result)
}

/// Ends this process by a signal, without a core file, so that whoever waits for us sees that signal; with exit code
/// 128 + N where the signal does not end a process.
pub fn die_by(signal: Signal) -> ! {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` outlives the call.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
    // A pipe as core_pattern ignores the limit; this it does not.
    let _ = prctl::set_dumpable(false);
    entry::set_default(signal);
    let mut set = empty();
    // SAFETY: `set` is initialised; the signal's number is one that exists, and a refusal leaves the set as it was.
    unsafe { libc::sigaddset(&mut set, signal.number()) };
    // SAFETY: unblocking runs at most the default disposition; kill to ourselves and _exit have no memory effects.
    unsafe {
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, core::ptr::null_mut());
        libc::kill(libc::getpid(), signal.number());
        libc::_exit(128 + signal.number())
    }
}

/// Stops this process until a SIGCONT comes.
pub fn stop_self() {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
}

/// SIGPIPE and SIGXFSZ that a write of our own has caused: blocked signals arrive here even when they are ignored, and
/// the write told of it already.
fn is_answer_to_a_write(info: &libc::signalfd_siginfo) -> bool {
    let by_write = matches!(info.ssi_signo as i32, libc::SIGPIPE | libc::SIGXFSZ);
    by_write && (info.ssi_pid == std::process::id() || info.ssi_code > 0)
}

fn block(set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is initialised; a null old set is allowed.
    from_errno(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set, core::ptr::null_mut()) })
}

fn asynchronous() -> libc::sigset_t {
    let mut set = empty();
    // SAFETY: `set` is initialised and writable.
    unsafe { libc::sigfillset(&mut set) };
    for number in SYNCHRONOUS {
        // SAFETY: as above.
        unsafe { libc::sigdelset(&mut set, number) };
    }
    set
}

pub(super) fn empty() -> libc::sigset_t {
    // SAFETY: an all-zero sigset_t is a valid, empty set on Linux.
    unsafe { core::mem::zeroed() }
}

fn from_errno(errno: i32) -> io::Result<()> {
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd;
    use crate::time::Duration;

    #[test]
    fn a_broken_pipe_of_our_own_is_no_signal_to_us() {
        let signals = SignalFd::new().unwrap();
        let (read, write) = fd::pipe().unwrap();
        drop(read);
        // SAFETY: one byte of a live array.
        assert_eq!(unsafe { libc::write(write.as_raw_fd(), [0_u8].as_ptr().cast(), 1) }, -1);
        assert_eq!(signals.read().unwrap(), None);
    }

    #[test]
    fn a_signal_to_this_thread_is_read_with_its_sender() {
        // The mask is this test thread's own.
        let signals = SignalFd::new().unwrap();
        assert_eq!(signals.read().unwrap(), None);
        // SAFETY: the signal is blocked and directed at this thread alone.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) };
        assert!(fd::wait_readable(signals.as_fd(), Some(Duration::from_secs(10))).unwrap());
        let received = signals.read().unwrap().unwrap();
        assert_eq!((received.signal, received.pid), (Signal::USR2, std::process::id()));
        assert!(!received.is_from_kernel());
        assert_eq!(signals.read().unwrap(), None);
    }
}
