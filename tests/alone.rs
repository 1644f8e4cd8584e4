//! What needs a process of its own with a single thread: forking as the guard does, dying by a signal, closing what was
//! inherited, and the guard's last act, in which everything below dies, whatever it did to hide.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fated::exit::ExitStatus;
use fated::signal::Signal;
use fated::sys::pidfd::Fork;
use fated::sys::wait::{self, Any, JobState};
use fated::sys::{fd, kill, pidfd, prctl, signalfd};

const BOUND: Option<Duration> = Some(Duration::from_secs(60));

/// Sleepers that hide: in sessions of their own, orphaned twice over, stopped, below a stopped parent.
const FAMILY: &str = "
    sleep 1000 &
    setsid sleep 1000 &
    (setsid sh -c 'sleep 1000 & (sleep 1000 &) ; setsid sleep 1000 & echo orphaned; wait' &)
    sh -c 'sleep 1000 & echo stopping; kill -STOP $$' &
    for i in 1 2 3 4 5 6 7 8 9 10; do (sleep 1000 &); done
    echo made
    wait
";

fn main() {
    inherited_descriptors_are_closed();
    a_fork_dies_by_the_signal_it_chooses();
    a_fork_stops_itself_and_is_continued();
    everything_below_is_killed();
}

fn inherited_descriptors_are_closed() {
    let (read, write) = fd::pipe().unwrap();
    // From here on they are as if inherited: nobody owns the numbers.
    let leaked = [read.into_raw_fd(), write.into_raw_fd()];
    fd::close_inherited(&[leaked[1]]).unwrap();
    assert!(fd::inherited(leaked[0]).is_err());
    let kept = fd::inherited(leaked[1]).unwrap();
    assert_eq!(kept.as_raw_fd(), leaked[1]);
}

/// Forks and runs this in the child, which has failed if it returns.
fn fork(child: impl FnOnce()) -> OwnedFd {
    // SAFETY: this process has one thread.
    match unsafe { pidfd::fork_with_pidfd() }.unwrap() {
        Fork::Child => {
            child();
            std::process::exit(99)
        }
        Fork::Parent { pid, pidfd } => {
            assert_eq!(pidfd::pid_of(pidfd.as_fd()), Some(pid));
            pidfd
        }
    }
}

fn a_fork_dies_by_the_signal_it_chooses() {
    for signal in [Signal::TERM, Signal::SEGV, Signal::QUIT, Signal::PIPE, Signal::KILL] {
        let child = fork(|| {
            let _signals = signalfd::SignalFd::new().unwrap();
            signalfd::die_by(signal)
        });
        assert!(fd::wait_readable(child.as_fd(), BOUND).unwrap());
        let status = pidfd::reap(child.as_fd()).unwrap().unwrap().status;
        assert_eq!(status, ExitStatus::Signaled { signal, core_dumped: false });
    }
    let child = fork(|| signalfd::die_by(Signal::WINCH));
    assert!(fd::wait_readable(child.as_fd(), BOUND).unwrap());
    assert_eq!(pidfd::reap(child.as_fd()).unwrap().unwrap().status, ExitStatus::Code(128 + 28));
}

fn a_fork_stops_itself_and_is_continued() {
    let signals = signalfd::SignalFd::new().unwrap();
    let child = fork(|| {
        signalfd::stop_self();
        signalfd::die_by(Signal::USR1)
    });
    let mut seen = Vec::new();
    while seen.len() < 2 {
        assert!(fd::wait_readable(signals.as_fd(), BOUND).unwrap());
        while let Some(received) = signals.read().unwrap() {
            assert_eq!((received.signal, received.is_from_kernel()), (Signal::CHLD, true));
        }
        // A child that has ended has no job state any more: ECHILD.
        if let Ok(Some(state)) = pidfd::job_state(child.as_fd()) {
            seen.push(state);
            pidfd::send_signal(child.as_fd(), Signal::CONT).unwrap();
        } else {
            // The child has ended before its continuing was looked at.
            break;
        }
    }
    assert_eq!(seen[0], JobState::Stopped(Signal::STOP));
    assert!(fd::wait_readable(child.as_fd(), BOUND).unwrap());
    assert_eq!(pidfd::reap(child.as_fd()).unwrap().unwrap().status.shell_code(), 128 + 10);
    signalfd::unblock_all().unwrap();
}

fn everything_below_is_killed() {
    prctl::set_subreaper().unwrap();
    assert_eq!(wait::peek_any().unwrap(), Any::NoChildren);
    assert_eq!(kill::kill_children_of_self(&mut [0; 64], &[]), 0);
    let mut family = family();
    let own = pidfd::open(family.id()).unwrap();

    let began = Instant::now();
    // Shorter than the list of children, so that numbers are cut in two.
    let mut buffer = [0; 7];
    let mut killed = 0;
    loop {
        match wait::peek_any().unwrap() {
            Any::Zombie(pid) => assert!(wait::reap_pid(pid).unwrap().is_some()),
            Any::NoneExited => killed += kill::kill_children_of_self(&mut buffer, &[]),
            Any::NoChildren => break,
        }
        assert!(began.elapsed() < Duration::from_secs(60), "not all are dead");
    }
    assert!(killed >= 18, "{killed}");
    assert!(pidfd::has_exited(own.as_fd()));
    assert!(family.wait().is_err(), "it was reaped above");
    println!("ok: killed {killed} in {:?}", began.elapsed());
}

fn family() -> Child {
    let mut shell = Command::new("sh").args(["-c", FAMILY]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut seen: Vec<String> = lines.by_ref().take(3).collect();
    seen.sort();
    assert_eq!(seen, ["made", "orphaned", "stopping"]);
    shell
}
