//! What our own launcher gave us, captured before Rust's runtime changes it.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::signal::Signal;

/// Bit N-1: signal N was ignored when this program was executed.
static IGNORED: AtomicU64 = AtomicU64::new(0);

// Rust's runtime ignores SIGPIPE before `main`; only a constructor runs early enough to see what was inherited.
// SAFETY: the section holds addresses of functions that the C runtime calls once, before `main`; this is one, and it
// needs nothing that Rust's runtime sets up.
#[used]
#[unsafe(link_section = ".init_array")]
static CAPTURE: extern "C" fn() = capture;

extern "C" fn capture() {
    let mut ignored = 0;
    for number in 1..=64 {
        if disposition(number) == Some(libc::SIG_IGN) {
            ignored |= 1 << (number - 1);
        }
    }
    IGNORED.store(ignored, Ordering::Relaxed);
}

/// The signals that were ignored when this program was executed, as `nohup` and shells without job control leave them.
pub fn ignored_at_entry() -> Vec<Signal> {
    // Naming the constructor here keeps it in every program that asks.
    core::hint::black_box(&CAPTURE);
    let ignored = IGNORED.load(Ordering::Relaxed);
    (1..=64).filter(|number| ignored & (1 << (number - 1)) != 0).filter_map(Signal::from_number).collect()
}

/// Undoes what Rust's runtime did to SIGPIPE, for commands that only print: `fated status | head` ends silently.
pub fn restore_sigpipe() {
    if !ignored_at_entry().contains(&Signal::PIPE) {
        set_default(Signal::PIPE);
    }
}

/// SIGCHLD to its default: an inherited SIG_IGN would reap our children behind our back.
pub fn restore_sigchld() {
    set_default(Signal::CHLD);
}

/// Gives a signal its default disposition. No effect on SIGKILL and SIGSTOP.
pub(super) fn set_default(signal: Signal) {
    // SAFETY: installs no handler, so no code of ours runs in signal context.
    unsafe { libc::signal(signal.number(), libc::SIG_DFL) };
}

/// The handler of a signal; `None` for numbers that the C library keeps to itself.
fn disposition(number: i32) -> Option<libc::sighandler_t> {
    // SAFETY: an all-zero sigaction is a valid value.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    // SAFETY: with a null new action the call only writes the current one to `action`.
    let result = unsafe { libc::sigaction(number, core::ptr::null(), &mut action) };
    (result == 0).then_some(action.sa_sigaction)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set where the test runs below a shell that ignores two signals.
    const BELOW: &str = "FATED_TEST_IGNORED";

    #[test]
    fn what_was_ignored_at_entry_is_told_from_what_the_runtime_ignores() {
        assert_eq!(disposition(libc::SIGPIPE), Some(libc::SIG_IGN));
        if std::env::var_os(BELOW).is_some() {
            assert_eq!(ignored_at_entry(), [Signal::HUP, Signal::USR2]);
            restore_sigpipe();
            assert_eq!(disposition(libc::SIGPIPE), Some(libc::SIG_DFL));
            return;
        }
        let name = "sys::entry::tests::what_was_ignored_at_entry_is_told_from_what_the_runtime_ignores";
        let output = std::process::Command::new("sh")
            .args(["-c", "trap '' HUP USR2; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(BELOW, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}
