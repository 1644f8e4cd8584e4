//! The stop plan: who is asked, who is killed and when, and whoever asks again.

use std::time::{Duration, Instant};

use fated::exit::ExitStatus;
use fated::signal::Signal;

use crate::common::{Scene, User, in_parallel, outlives, users, wait_until};

#[test]
fn what_ignores_the_stop_signal_is_killed_after_its_timeout_and_holds_nobody_up() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    // The main process itself refuses, or only what it leaves behind.
    let cells = users().into_iter().flat_map(|user| [(user, "TERM=ignore"), (user, "stubborn")]).collect();
    in_parallel(cells, |(user, how): &(User, &str)| {
        let scene = Scene::new(*user);
        scene.write(
            "fated.toml",
            &format!(
                "[process.a]\ncommand = 'python3 tree.py a {how} daemon=1'\nstop_timeout = '4s'\n\
                 [process.b]\ncommand = 'python3 tree.py b mp=1 daemon=1'\n[process.c]\ncommand = 'python3 tree.py c'\n"
            ),
        );
        let tree = scene.fated(["up"]).start();
        tree.expect(&["a", "a/daemon.0", "b", "b/mp.0", "b/daemon.0", "c"]);
        let stubborn = tree.process(if *how == "stubborn" { "a/daemon.0" } else { "a" });
        let asked = Instant::now();
        tree.signal(Signal::TERM);
        for other in ["b", "b/mp.0", "b/daemon.0", "c"] {
            tree.process(other).wait_end();
        }
        assert!(
            stubborn.is_alive() || asked.elapsed() >= TIMEOUT,
            "the others have waited for it, or it was killed early"
        );
        stubborn.wait_end();
        assert!(asked.elapsed() >= TIMEOUT, "killed after {:?}", asked.elapsed());
        tree.assert_ends_with(0);
        assert!(tree.last_word().contains("1 of them killed after its stop timeout"), "{}", tree.stderr());
    });
}

#[test]
fn a_stop_timeout_of_zero_kills_at_once_and_infinity_never() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let tree = scene.fated(["run", "-k", "0", "python3", "tree.py", "a", "TERM=note", "daemon=1"]).start();
        tree.expect(&["a", "a/daemon.0"]);
        tree.signal(Signal::TERM);
        assert_eq!(tree.wait(), ExitStatus::Signaled { signal: Signal::KILL, core_dumped: false });
        tree.assert_nothing_left();
        assert_eq!(scene.heard("a!TERM"), 0);

        let scene = Scene::new(*user);
        let tree =
            scene.fated(["run", "-k", "infinity", "python3", "tree.py", "a", "TERM=note", "USR1=exit:5"]).start();
        tree.expect(&["a"]);
        tree.signal(Signal::TERM);
        tree.expect(&["a!TERM"]);
        assert!(outlives(&tree.process("a"), Duration::from_millis(500)));
        tree.signal(Signal::USR1);
        tree.assert_ends_with(5);
    });
}

#[test]
fn a_process_stops_before_what_it_is_after() {
    const NOTES: &str = "trap 'echo $0.stopped $$ > announce; exit 0' TERM; echo $0 $$ > announce; sleep 100000 & wait";
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let process = |name: &str, after: &str| {
            format!("[process.{name}]\ncommand = ['sh', '-c', \"{NOTES}\", '{name}']\nafter = [{after}]\n")
        };
        let text = [process("third", "'second'"), process("first", ""), process("second", "'first'")].concat();
        scene.write("fated.toml", &text);
        let tree = scene.fated(["up"]).start();
        tree.expect(&["first", "second", "third"]);
        tree.signal(Signal::TERM);
        tree.assert_ends_with(0);
        let lines = scene.lines();
        let stopped: Vec<&str> =
            lines.iter().filter_map(|line| line.split_once(".stopped")).map(|(name, _)| name).collect();
        assert_eq!(stopped, ["third", "second", "first"]);
    });
}

#[test]
fn a_repeated_interrupt_hastens_the_stop_and_then_kills() {
    const SHORT: &str = "shortened to 1s";
    let cells =
        users().into_iter().flat_map(|user| [(user, Signal::INT, 2), (user, Signal::INT, 3), (user, Signal::QUIT, 3)]);
    in_parallel(cells.collect(), |(user, signal, times): &(User, Signal, u32)| {
        let scene = Scene::new(*user);
        scene.write(
            "fated.toml",
            "[process.a]\ncommand = 'python3 tree.py a TERM=note stubborn daemon=1 mp=1'\nstop_timeout = 'infinity'\n",
        );
        let tree = scene.fated(["up", "-v"]).start();
        tree.expect(&["a", "a/daemon.0", "a/mp.0"]);
        tree.signal(*signal);
        tree.expect(&["a!TERM"]);
        assert!(outlives(&tree.process("a"), Duration::from_millis(1500)), "once is patient");
        let again = Instant::now();
        tree.signal(*signal);
        tree.wait_for_word(SHORT);
        if *times == 3 {
            tree.signal(*signal);
        }
        let status = tree.wait();
        assert_eq!(status, ExitStatus::Code(128 + signal.number() as u8), "{}", tree.stderr());
        if *times == 2 {
            assert!(again.elapsed() >= Duration::from_secs(1), "killed after {:?}", again.elapsed());
        }
        tree.assert_nothing_left();
    });
}

#[test]
fn a_second_term_changes_nothing() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let tree = scene.fated(["run", "-k", "2s", "python3", "tree.py", "a", "TERM=note"]).start();
        tree.expect(&["a"]);
        let asked = Instant::now();
        tree.signal(Signal::TERM);
        tree.expect(&["a!TERM"]);
        tree.signal(Signal::TERM);
        assert_eq!(tree.wait().shell_code(), 137);
        assert!(asked.elapsed() >= Duration::from_secs(2));
        tree.assert_nothing_left();
        assert_eq!(scene.heard("a!TERM"), 1, "the stop signal is sent once");
    });
}

#[test]
fn two_hundred_that_die_in_one_instant_are_all_reaped_and_reported() {
    const MANY: usize = 200;
    let scene = Scene::new(users()[0]);
    let go = scene.fifo("go");
    let script = "echo w.$FATED_INSTANCE $$ > announce; read x < go; exit 7";
    scene.write(
        "fated.toml",
        &format!("[process.w]\ncommand = ['sh', '-c', '{script}']\ninstances = {MANY}\non_exit = 'ignore'"),
    );
    let tree = scene.fated(["up"]).start();
    let names: Vec<String> = (1..=MANY).map(|instance| format!("w.{instance}")).collect();
    tree.expect(&names);
    // The shells may still be on the way to their read: they open a FIFO without a writer then.
    wait_until("all of them wait", || scene.everyone().iter().all(|shell| has_open(shell.pid, &scene.path("go"))));
    drop(go);
    tree.assert_ends_with(0);
    let stderr = tree.stderr();
    for name in names {
        let told = stderr.matches(&format!("{name} (process ")).count();
        assert_eq!(told, 1, "{name} in:\n{stderr}");
    }
    assert_eq!(stderr.matches("exited with status 7").count(), MANY);
}

/// Whether a process has a file open as its standard input.
fn has_open(pid: u32, file: &std::path::Path) -> bool {
    std::fs::read_link(format!("/proc/{pid}/fd/0")).is_ok_and(|target| target == file)
}

#[test]
fn a_storm_of_forks_ends_with_the_tree() {
    // Each generation has a session of its own and ends at once after it has made the next; a bounded number lives.
    const STORM: &str = "
import os, sys
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()
out = os.open('announce', os.O_WRONLY)
os.write(out, b'storm %d\\n' % os.getpid())
import signal
signal.pause()
";
    in_parallel(users(), |user| {
        for by_guard in [false, true] {
            let scene = Scene::new(*user);
            scene.write("storm.py", STORM);
            let tree = scene.fated(["run", "-k", "500ms", "python3", "storm.py"]).start();
            tree.expect(&["storm"]);
            if by_guard {
                tree.supervisor().signal(Signal::KILL);
            } else {
                tree.signal(Signal::TERM);
            }
            tree.wait();
            tree.assert_nothing_left();
        }
    });
}
