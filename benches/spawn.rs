//! What starting a process costs its supervisor: `Spawner::start` beside `std::process::Command` with `pre_exec`, which
//! forks, in one run. Timed is the call alone; each process is followed to its end before the next.
//!
//! Exits with 1 if a target is missed.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fated::signal::Signal;
use fated::spawn::{Request, Spawner};
use fated::spec::{Input, Leftovers, Output, ProcessSpec, Session, StopPlan};
use fated::sys::{fd, pidfd, prctl};
use fated::time::Limit;

const PROGRAM: &str = "/bin/true";
const MANY: usize = 10_000;
const LARGE: usize = 500 << 20;

/// Starts that are timed in each situation, and starts before them that are not.
const STARTS: usize = 1_000;
const WARM: usize = 100;

/// Medians of one situation.
struct Row {
    start: Duration,
    /// From the call until the report says that the program runs.
    running: Duration,
    command: Duration,
}

fn main() -> ExitCode {
    fd::raise_limit().unwrap();
    let bench = Bench::new();
    println!(
        "{:<24} {:>12} {:>12} {:>12} {:>8}  target",
        "median of the call", "start", "(running)", "Command", "ratio"
    );
    let few = bench.measure(400);
    let mut met = show("few descriptors, 2 MB", &few, Some(0.35));

    let descriptors: Vec<OwnedFd> = (0..MANY).map(|_| fd::raise(pidfd::open_self().unwrap())).collect();
    met &= show("10,000 descriptors", &bench.measure(200), Some(0.2));
    drop(descriptors);

    let memory = vec![1_u8; LARGE];
    let large = bench.measure(60);
    met &= show("500 MB touched", &large, None);
    drop(std::hint::black_box(memory));

    let growth = ratio(large.start, few.start);
    met &= growth <= 1.5;
    println!("500 MB against 2 MB: start {growth:.2} (target 1.50), Command {:.1}", ratio(large.command, few.command));
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(name: &str, row: &Row, target: Option<f64>) -> bool {
    let ratio = ratio(row.start, row.command);
    let met = target.is_none_or(|target| ratio <= target);
    let target = target.map_or(String::new(), |target| format!("{target:.2} {}", if met { "met" } else { "MISSED" }));
    println!("{name:<24} {:>12.1?} {:>12.1?} {:>12.1?} {ratio:>8.3}  {target}", row.start, row.running, row.command);
    met
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

struct Bench {
    spawner: Spawner,
    spec: ProcessSpec,
    null: OwnedFd,
}

impl Bench {
    fn new() -> Self {
        let spec = ProcessSpec {
            command: vec![PROGRAM.into()],
            shared_env: Arc::new(std::env::vars_os().collect()),
            own_env: Vec::new(),
            cwd: None,
            instance: 1,
            autostart: true,
            success: vec![0],
            stop: StopPlan { signal: Signal::TERM, timeout: Limit::Never },
            parent_death_signal: Some(Signal::KILL),
            leftovers: Leftovers::Stop,
            stdin: Input::Null,
            stdout: Output::Null,
            stderr: Output::Null,
            queues: Vec::new(),
            session: Session::Own,
            ignored_signals: Vec::new(),
        };
        let null = File::options().read(true).write(true).open("/dev/null").unwrap().into();
        Self { spawner: Spawner::new(fd::raise(pidfd::open_self().unwrap())), spec, null }
    }

    fn measure(&self, forks: usize) -> Row {
        let (mut start, mut running, mut command) = (Vec::new(), Vec::new(), Vec::new());
        // A fork makes the next writes to our memory slow, the more the more there is. One after the other instead of
        // in turns, so that this is not charged to those who do not fork.
        for _ in 0..WARM {
            self.start();
        }
        for _ in 0..STARTS {
            let (called, told) = self.start();
            start.push(called);
            running.push(told);
        }
        command.extend((0..forks).map(|_| forked()));
        Row { start: median(start), running: median(running), command: median(command) }
    }

    fn start(&self) -> (Duration, Duration) {
        let stdio = [self.null.as_fd(); 3];
        let request = Request {
            spec: &self.spec,
            id: "bench",
            env: &[],
            stdio,
            queues: &[],
            descriptor_limit: None,
            foreground: None,
        };
        let began = Instant::now();
        let mut started = self.spawner.start(&request).unwrap();
        let called = began.elapsed();
        let outcome = loop {
            match started.finish() {
                Some(outcome) => break outcome,
                None => assert!(fd::wait_readable(started.report.as_fd(), None).unwrap()),
            }
        };
        let told = began.elapsed();
        outcome.unwrap();
        fd::wait_readable(started.pidfd.as_fd(), None).unwrap();
        pidfd::reap(started.pidfd.as_fd()).unwrap().unwrap();
        (called, told)
    }
}

/// The same start as the standard library makes it.
fn forked() -> Duration {
    let mut command = Command::new(PROGRAM);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let in_child = || {
        // SAFETY: no pointer is passed.
        unsafe { libc::setsid() };
        prctl::set_parent_death_signal(Some(Signal::KILL))
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(in_child) };
    let began = Instant::now();
    let mut child = command.spawn().unwrap();
    let called = began.elapsed();
    child.wait().unwrap();
    called
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
