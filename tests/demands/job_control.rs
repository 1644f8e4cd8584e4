//! Stop and continue: the tree follows fated, and fated its tree's end.

use std::time::Duration;

use fated::exit::ExitStatus;
use fated::signal::Signal;

use crate::common::{Running, Scene, User, in_parallel, outlives, users, wait_until};

const ALL: [&str; 4] = ["a", "a/plain.0", "a/mp.0", "a/daemon.0"];

fn start<'s>(scene: &'s Scene, door: &str, by_launcher: bool) -> Running<'s> {
    let words = "python3 tree.py a plain=1 mp=1 daemon=1";
    scene.write("fated.toml", &format!("[process.a]\ncommand = '{words}'"));
    let mut args = vec![door];
    if door == "run" {
        args.extend(words.split(' '));
    }
    let fated = scene.fated(args);
    let tree = if by_launcher { fated.by_launcher().start() } else { fated.start() };
    tree.expect(&ALL);
    tree
}

fn wait_for_stop(tree: &Running<'_>) {
    wait_until("all of the tree is stopped", || {
        let tree_stopped = ALL.iter().all(|name| tree.process(name).state() == Some('T'));
        tree_stopped && tree.guard().state() == Some('T')
    });
}

fn doors() -> Vec<(User, &'static str)> {
    users().into_iter().flat_map(|user| [(user, "run"), (user, "up")]).collect()
}

#[test]
fn the_tree_stops_and_continues_with_fated() {
    in_parallel(doors(), |(user, door)| {
        let scene = Scene::new(*user);
        let tree = start(&scene, door, false);
        for signal in [Signal::TSTP, Signal::TTIN, Signal::TSTP] {
            tree.signal(signal);
            wait_for_stop(&tree);
            tree.signal(Signal::CONT);
            wait_until("all of the tree continues", || ALL.iter().all(|name| tree.process(name).state() != Some('T')));
        }
        tree.signal(Signal::TERM);
        assert_eq!(tree.wait().shell_code(), if *door == "run" { 143 } else { 0 });
        tree.assert_nothing_left();
    });
}

#[test]
fn a_stopped_tree_ends_with_its_launcher_and_on_request() {
    let cells = doors().into_iter().flat_map(|(user, door)| [(user, door, true), (user, door, false)]).collect();
    in_parallel(cells, |(user, door, by_launcher): &(User, &str, bool)| {
        let scene = Scene::new(*user);
        let tree = start(&scene, door, *by_launcher);
        tree.signal(Signal::TSTP);
        wait_for_stop(&tree);
        if *by_launcher {
            tree.launcher().signal(Signal::KILL);
            tree.launcher().wait_end();
        } else {
            tree.signal(Signal::TERM);
            tree.signal(Signal::CONT);
        }
        assert_eq!(tree.wait().shell_code(), if *door == "run" { 143 } else { 0 });
        tree.assert_nothing_left();
    });
}

#[test]
fn sigstop_stops_the_guard_alone() {
    in_parallel(doors(), |(user, door)| {
        let scene = Scene::new(*user);
        let tree = start(&scene, door, false);
        tree.signal(Signal::STOP);
        wait_until("the guard is stopped", || tree.guard().state() == Some('T'));
        assert!(outlives(&tree.process("a"), Duration::from_millis(300)));
        assert_ne!(tree.process("a").state(), Some('T'));
        tree.process("a").signal(Signal::KILL);
        tree.process("a").wait_end();
        tree.signal(Signal::CONT);
        let status = tree.wait();
        match *door {
            "run" => assert_eq!(status, ExitStatus::Signaled { signal: Signal::KILL, core_dumped: false }),
            _ => assert_eq!(status, ExitStatus::Code(137)),
        }
        tree.assert_nothing_left();
    });
}
