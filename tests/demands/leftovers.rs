//! Descendants that outlive their process: stopped, waited for, or left.

use std::time::Duration;

use fated::exit::ExitStatus;
use fated::signal::Signal;

use crate::common::{Scene, User, in_parallel, outlives, users, wait_until};

const SOME_TIME: Duration = Duration::from_millis(500);
const ALL: [&str; 3] = ["a", "a/daemon.0", "a/bare.0"];

fn run<'s>(scene: &'s Scene, leftovers: &str) -> crate::common::Running<'s> {
    let tree = scene
        .fated(["run", "--leftovers", leftovers, "python3", "tree.py", "a", "daemon=1", "bare=1", "then=exit:5"])
        .start();
    tree.expect(&ALL);
    tree
}

#[test]
fn run_stops_what_its_command_leaves_behind() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        run(&scene, "stop").assert_ends_with(5);
    });
}

#[test]
fn run_waits_for_what_its_command_leaves_behind() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let tree = run(&scene, "wait");
        tree.process("a").wait_end();
        for name in ["a/daemon.0", "a/bare.0"] {
            assert!(outlives(&tree.fated, SOME_TIME), "{}", tree.stderr());
            assert!(tree.process(name).is_alive());
            tree.process(name).signal(Signal::TERM);
        }
        tree.assert_ends_with(5);
    });
}

#[test]
fn a_stop_ends_the_wait_for_leftovers() {
    let cells = users().into_iter().flat_map(|user| [(user, true), (user, false)]).collect();
    in_parallel(cells, |(user, launcher): &(User, bool)| {
        let scene = Scene::new(*user);
        let args = ["run", "--leftovers", "wait", "python3", "tree.py", "a", "daemon=1", "bare=1", "then=exit:5"];
        let fated = scene.fated(args);
        let tree = if *launcher { fated.by_launcher().start() } else { fated.start() };
        tree.expect(&ALL);
        tree.process("a").wait_end();
        if *launcher {
            tree.launcher().signal(Signal::KILL);
            tree.launcher().wait_end();
        } else {
            tree.signal(Signal::TERM);
        }
        tree.assert_ends_with(5);
    });
}

#[test]
fn run_leaves_what_its_command_leaves_behind() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let tree = run(&scene, "ignore");
        assert_eq!(tree.wait(), ExitStatus::Code(5), "{}", tree.stderr());
        for name in ["a/daemon.0", "a/bare.0"] {
            assert!(outlives(&tree.process(name), SOME_TIME), "{name}");
        }
    });
}

/// `go` is another process of the tree, which ends when it is told to.
fn up<'s>(scene: &'s Scene, leftovers: &str) -> crate::common::Running<'s> {
    let text = format!(
        "[process.a]\ncommand = 'python3 tree.py a daemon=1 bare=1 then=exit:0'\non_exit = 'ignore'\n\
         leftovers = '{leftovers}'\n[process.b]\ncommand = 'python3 tree.py b'\n"
    );
    scene.write("fated.toml", &text);
    let tree = scene.fated(["up", "-v"]).start();
    tree.expect(&["a", "a/daemon.0", "a/bare.0", "b"]);
    tree.process("a").wait_end();
    tree
}

#[test]
fn up_stops_what_a_process_leaves_behind_and_goes_on() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let tree = up(&scene, "stop");
        tree.process("a/daemon.0").wait_end();
        assert!(tree.process("b").is_alive());
        tree.signal(Signal::TERM);
        tree.assert_ends_with(0);
    });
}

#[test]
fn up_waits_for_what_a_process_leaves_behind() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let tree = up(&scene, "wait");
        assert!(outlives(&tree.process("a/daemon.0"), SOME_TIME));
        tree.process("a/daemon.0").signal(Signal::KILL);
        // It has cleared its environment and session: it belongs to no node.
        assert!(tree.process("a/bare.0").is_alive());
        tree.wait_for_word("nothing is left of a");
        assert!(tree.process("b").is_alive());
        tree.signal(Signal::TERM);
        tree.assert_ends_with(0);
    });
}

#[test]
fn what_a_process_of_a_tree_leaves_to_the_tree_ends_with_it() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let tree = up(&scene, "ignore");
        for name in ["a/daemon.0", "a/bare.0"] {
            assert!(outlives(&tree.process(name), SOME_TIME), "{}", tree.stderr());
        }
        tree.signal(Signal::TERM);
        tree.assert_ends_with(0);
        assert!(tree.last_word().contains("descendants"), "{}", tree.stderr());
    });
}

/// One that has cleared its environment and its session, and so belongs to no node, ends with the tree: when the
/// tree's other end is a process's failure, too.
#[test]
fn strays_end_with_the_tree_however_it_ends() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        scene.write("fated.toml", "[process.a]\ncommand = 'python3 tree.py a bare=3 stubborn then=exit:0'\non_exit = 'ignore'\n[process.b]\ncommand = 'python3 tree.py b go then=exit:9'");
        let go = scene.fifo("go");
        let tree = scene.fated(["up", "--stop-timeout", "1s"]).start();
        tree.expect(&["a", "a/bare.0", "a/bare.1", "a/bare.2", "b"]);
        tree.process("a").wait_end();
        wait_until("b waits", || {
            std::fs::read_dir(format!("/proc/{}/fd", tree.process("b").pid)).is_ok_and(|fds| {
                fds.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target == scene.path("go")))
            })
        });
        drop(go);
        tree.assert_ends_with(9);
    });
}
