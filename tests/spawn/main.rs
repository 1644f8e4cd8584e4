//! Starting real programs. The whole suite runs three times: as the kernel is, and again under seccomp filters that
//! answer clone3, then clone3 and close_range, with ENOSYS, as container runtimes do.

mod cases;
mod fixture;
mod seccomp;

use std::process::Command;

/// Set in the runs under a filter.
const FILTERED: &str = "FATED_TEST_FILTERED";

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
