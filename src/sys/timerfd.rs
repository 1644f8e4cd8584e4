//! One absolute timer as a descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;
use crate::time::Monotonic;

/// A timer of CLOCK_MONOTONIC; readable once its instant has passed.
#[derive(Debug)]
pub struct TimerFd(OwnedFd);

impl TimerFd {
    /// A disarmed timer, non-blocking.
    ///
    /// # Errors
    /// The system's: no descriptor, no memory.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointer is passed.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) })?;
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Arms it for an instant, at once where that has passed; `None` disarms it. What was armed before is forgotten.
    ///
    /// # Errors
    /// None that a valid descriptor can cause.
    pub fn arm(&self, deadline: Option<Monotonic>) -> io::Result<()> {
        // Zero would disarm: the clock's origin becomes the first nanosecond after it.
        let nanos = deadline.map_or(0, |deadline| deadline.as_nanos().clamp(1, i64::MAX as u64));
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::timespec {
            tv_sec: (nanos / 1_000_000_000) as libc::time_t,
            tv_nsec: (nanos % 1_000_000_000) as libc::c_long,
        };
        let spec = libc::itimerspec { it_interval: zero, it_value: value };
        // SAFETY: `spec` outlives the call; a null old value is allowed.
        let result =
            unsafe { libc::timerfd_settime(self.0.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &spec, core::ptr::null_mut()) };
        check(result).map(drop)
    }

    /// Takes the expiration, so that the descriptor is not readable any more; whether there was one.
    pub fn drain(&self) -> bool {
        let mut count = 0_u64;
        // SAFETY: the buffer is eight writable bytes, which is what a timerfd writes.
        let read = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
        read == size_of::<u64>() as isize
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{clock, fd};
    use crate::time::Duration;

    #[test]
    fn past_and_near_instants_expire_and_none_disarms() {
        let timer = TimerFd::new().unwrap();
        for deadline in [Monotonic::ORIGIN, clock::now(), clock::now() + Duration::from_millis(5)] {
            timer.arm(Some(deadline)).unwrap();
            assert!(fd::wait_readable(timer.as_fd(), Some(Duration::from_secs(10))).unwrap());
            assert!(clock::now() >= deadline);
            assert!(timer.drain());
            assert!(!timer.drain());
        }
        timer.arm(Some(clock::now())).unwrap();
        timer.arm(None).unwrap();
        assert!(!fd::wait_readable(timer.as_fd(), Some(Duration::ZERO)).unwrap());
        timer.arm(Some(Monotonic::from_nanos(u64::MAX))).unwrap();
        assert!(!timer.drain());
    }
}
