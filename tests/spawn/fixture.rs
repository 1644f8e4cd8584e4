//! A process specification with defaults, and a start that is followed to its end.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fated::exit::ExitStatus;
use fated::signal::Signal;
use fated::spawn::{InFlight, QueueGrant, Request, Spawner};
use fated::spec::{Input, Leftovers, Output, ProcessSpec, Session, StopPlan};
use fated::start::StartError;
use fated::sys::{fd, pidfd};
use fated::time::Limit;

/// Longer than any step takes on a loaded machine.
pub const BOUND: Option<Duration> = Some(Duration::from_secs(60));

pub fn spec(command: &[&str]) -> ProcessSpec {
    ProcessSpec {
        command: command.iter().map(OsString::from).collect(),
        shared_env: Arc::new(vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())]),
        own_env: Vec::new(),
        cwd: None,
        instance: 1,
        autostart: true,
        success: vec![0],
        stop: StopPlan { signal: Signal::TERM, timeout: Limit::Never },
        parent_death_signal: Some(Signal::KILL),
        leftovers: Leftovers::Stop,
        stdin: Input::Null,
        stdout: Output::Inherit,
        stderr: Output::Inherit,
        queues: Vec::new(),
        session: Session::Own,
        ignored_signals: Vec::new(),
    }
}

pub fn spawner() -> Spawner {
    // Hundreds of starts in flight pass the usual soft limit of 1,024.
    fd::raise_limit().unwrap();
    Spawner::new(fd::raise(pidfd::open_self().unwrap()))
}

pub fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").unwrap().into()
}

pub fn request<'a>(spec: &'a ProcessSpec, stdio: [BorrowedFd<'a>; 3], queues: &'a [QueueGrant<'a>]) -> Request<'a> {
    Request { spec, id: "test-1", env: &[], stdio, queues, descriptor_limit: None, foreground: None }
}

/// Starts with /dev/null as 0 and 2, and a pipe as 1.
pub fn start(spawner: &Spawner, spec: &ProcessSpec) -> (InFlight, OwnedFd) {
    let null = null();
    let (output, write) = fd::pipe().unwrap();
    let stdio = [null.as_fd(), write.as_fd(), null.as_fd()];
    (spawner.start(&request(spec, stdio, &[])).unwrap(), output)
}

/// Follows a start to its answer, by readiness alone.
pub fn finish(started: &mut InFlight) -> Result<(), StartError> {
    loop {
        if let Some(outcome) = started.finish() {
            return outcome;
        }
        assert!(fd::wait_readable(started.report.as_fd(), BOUND).unwrap(), "no report");
    }
}

/// Waits for the end of a process and reaps it.
pub fn reap(started: &InFlight) -> ExitStatus {
    assert!(fd::wait_readable(started.pidfd.as_fd(), BOUND).unwrap(), "it does not end");
    let reaped = pidfd::reap(started.pidfd.as_fd()).unwrap().unwrap();
    assert_eq!(reaped.pid, started.pid);
    reaped.status
}

/// What a program that runs to its end with success writes to its standard output.
pub fn output(spec: &ProcessSpec) -> String {
    let (mut started, output) = start(&spawner(), spec);
    assert_eq!(finish(&mut started), Ok(()));
    let text = read_all(output);
    assert_eq!(reap(&started), ExitStatus::SUCCESS, "{text}");
    text
}

/// The error of a start that fails; its child is reaped.
pub fn refusal(spec: &ProcessSpec) -> StartError {
    let (mut started, _) = start(&spawner(), spec);
    let error = finish(&mut started).unwrap_err();
    assert_eq!(reap(&started), ExitStatus::Code(127));
    error
}

pub fn read_all(from: OwnedFd) -> String {
    let mut text = String::new();
    File::from(from).read_to_string(&mut text).unwrap();
    text
}

/// A directory of a test's own, gone with it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fated-spawn-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A file with this content and mode; its path as text. Another program writes it: a descriptor open for writing
    /// in this process could be copied by another test's child and make the file busy.
    pub fn file(&self, name: &str, content: &str, mode: u32) -> String {
        let path = self.0.join(name);
        let script = format!("printf %s \"$2\" >\"$1\" && chmod {mode:o} \"$1\"");
        let written = Command::new("sh").args(["-c", &script, "sh"]).arg(&path).arg(content).status().unwrap();
        assert!(written.success());
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
