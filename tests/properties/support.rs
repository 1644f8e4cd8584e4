//! fated started by hand, where the stage's own way does not fit: other streams, a filter, a terminal.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use fated::signal::Signal;
use fated::sys::{fd, pidfd};

use crate::common::{BOUND, MARK, Scene, User};

/// The binary under test on a scene, as the scene's user.
pub fn fated(scene: &Scene, args: &[&str]) -> Command {
    on_scene(scene, Command::new(scene.program()), args)
}

/// Any program on a scene, as the scene's user.
pub fn on_scene(scene: &Scene, mut command: Command, args: &[&str]) -> Command {
    command.args(args).env(MARK, &scene.dir).env("PATH", "/usr/local/bin:/usr/bin:/bin").env_remove("RUST_LOG");
    command.current_dir(&scene.dir).stdin(std::process::Stdio::null());
    if let Some(id) = id(scene.user) {
        command.uid(id).gid(id);
    }
    command
}

/// The user and group to change to; that of nobody in particular.
pub fn id(user: User) -> Option<u32> {
    match user {
        User::Ordinary => Some(64123),
        User::Root | User::Current => None,
    }
}

/// Waits for the end of a child, within the bound; a child that does not end is killed and the test fails.
#[track_caller]
pub fn ended(child: &mut Child) -> ExitStatus {
    let pidfd = pidfd::open(child.id()).unwrap();
    let in_time = fd::wait_readable(pidfd.as_fd(), Some(BOUND)).unwrap();
    if !in_time {
        pidfd::send_signal(pidfd.as_fd(), Signal::KILL).unwrap();
    }
    let status = child.wait().unwrap();
    assert!(in_time, "it did not end");
    status
}

pub fn millis(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1e3)
}
