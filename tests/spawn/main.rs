//! Starting real programs. The whole suite runs three times: as the kernel is, and again under seccomp filters that
//! answer clone3, then clone3 and close_range, with ENOSYS, as container runtimes do.

mod cases;
mod fixture;
mod seccomp;

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Set in the runs under a filter.
const FILTERED: &str = "FATED_TEST_FILTERED";

/// Set in the run that has a controlling terminal.
const ON_TERMINAL: &str = "FATED_TEST_ON_TERMINAL";

fn run_filtered(name: &str, refused: &[libc::c_long]) {
    if std::env::var_os(FILTERED).is_some() {
        return;
    }
    let mut suite = Command::new(std::env::current_exe().unwrap());
    suite.arg("cases::").env(FILTERED, name);
    seccomp::refuse(&mut suite, refused);
    let output = suite.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "without {name}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("running 0 tests"), "{text}");
}

#[test]
fn without_clone3_everything_holds() {
    run_filtered("clone3", &[libc::SYS_clone3]);
}

#[test]
fn without_clone3_and_close_range_everything_holds() {
    run_filtered("clone3 and close_range", &[libc::SYS_clone3, libc::SYS_close_range]);
}

/// A terminal's controlling process: the inner run has a terminal of its own.
#[test]
fn on_a_terminal_the_process_takes_the_foreground() {
    let pty = nix::pty::openpty(None, None).unwrap();
    let name = "cases::on_a_terminal_its_group_is_in_the_foreground";
    let mut suite = Command::new(std::env::current_exe().unwrap());
    suite.args(["--exact", name]).env(ON_TERMINAL, "1").stdin(pty.slave);
    let lead = || {
        // SAFETY: no pointer is passed; the terminal is at 0.
        let failed = unsafe { libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 };
        if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { suite.pre_exec(lead) };
    let output = suite.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
