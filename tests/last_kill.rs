//! The guard's last act, in a process of its own with a single thread: everything below it dies, whatever it did to
//! hide, and what belongs to others does not.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fated::sys::wait::{self, Any};
use fated::sys::{kill, pidfd, prctl};

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
    prctl::set_subreaper().unwrap();
    assert_eq!(wait::peek_any().unwrap(), Any::NoChildren);
    assert_eq!(kill::kill_children_of_self(&mut [0; 64]), 0);
    let mut family = family();
    let own = pidfd::open(family.id()).unwrap();

    let began = Instant::now();
    // Shorter than the list of children, so that numbers are cut in two.
    let mut buffer = [0; 7];
    let mut killed = 0;
    loop {
        match wait::peek_any().unwrap() {
            Any::Zombie(pid) => assert!(wait::reap_pid(pid).unwrap().is_some()),
            Any::NoneExited => killed += kill::kill_children_of_self(&mut buffer),
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
