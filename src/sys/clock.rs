//! The present.

use crate::time::Monotonic;

/// The instant of CLOCK_MONOTONIC, which stands still while the machine sleeps.
pub fn now() -> Monotonic {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that the call may write. It cannot fail: the clock exists on every Linux, the
    // pointer is good.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Monotonic::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_does_not_go_back() {
        let first = super::now();
        assert!(first > crate::time::Monotonic::ORIGIN);
        assert!(super::now() >= first);
    }
}
