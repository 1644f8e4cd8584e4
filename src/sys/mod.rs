//! The kernel in types, one primitive a file. Nothing here decides; every descriptor is close-on-exec.

pub mod clock;
pub mod entry;
pub mod fd;
pub mod files;
pub mod inherited;
pub mod kill;
pub mod notify;
pub mod pidfd;
pub mod prctl;
pub mod process;
pub mod procfs;
pub mod raw;
pub mod readiness;
pub mod signalfd;
pub mod socket;
pub mod stack;
pub mod stdio;
pub mod timerfd;
pub mod tty;
pub mod wait;

use std::io;

/// The result of a libc call that answers -1 with errno.
fn check<T: PartialOrd + Default>(result: T) -> io::Result<T> {
    if result < T::default() { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Calls again for as long as a signal interrupts.
fn retry<T: PartialOrd + Default>(mut call: impl FnMut() -> T) -> io::Result<T> {
    loop {
        match check(call()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
