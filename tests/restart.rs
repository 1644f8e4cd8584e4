//! Restarts with real processes: limits, strategies, escalation, and a storm that holds up nothing.

mod common;

use std::time::{Duration, Instant};

use common::{Scene, User, in_parallel, users};
use fated::signal::Signal;

/// Announces itself, then waits for the signal that ends it.
const WAITS: &str = "echo $0 $$ > announce; exec sleep 100000";

/// Announces its end as well, when it is asked for it.
const NOTES: &str = "trap 'echo $0.stopped $$ > announce; exit 0' TERM; echo $0 $$ > announce; sleep 100000 & wait";

/// A process of a tree file that runs a line of shell.
fn process(name: &str, line: &str, keys: &str) -> String {
    format!("[process.{name}]\ncommand = ['sh', '-c', \"{line}\", '{name}']\n{keys}\n")
}

/// The names in the announced lines, in their order.
fn names(scene: &Scene) -> Vec<String> {
    scene.lines().iter().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_crash_loop_stops_exactly_at_its_limit() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let keys = "on_failure = 'restart'\nrestart_limit = 10\nrestart_delay = '1ms'\nrestart_delay_max = '5ms'\nrestart_window = '5min'";
        let text = process("crash", "echo crash $$ > announce; exit 3", keys) + &process("other", WAITS, "");
        scene.write("fated.toml", &text);
        let tree = scene.fated(["up"]).start();
        tree.assert_ends_with(3);
        assert_eq!(scene.heard("crash"), 11, "one life and ten restarts; fated said:\n{}", tree.stderr());
        let said = tree.stderr();
        assert!(said.contains("crash exited with status 3") && said.contains("; restart 10 of 10 in "), "{said}");
        assert!(!said.contains("restart 11"), "{said}");
        assert!(tree.last_word().contains("the limit of crash, 10 restarts in 5min, was passed"), "{said}");
    });
}

#[test]
fn a_limit_passed_by_successes_ends_with_1() {
    let scene = Scene::new(users()[0]);
    let keys = "on_success = 'restart'\nrestart_limit = 2\nrestart_delay = '1ms'";
    scene.write("fated.toml", &process("again", "echo again $$ > announce", keys));
    scene.fated(["up"]).start().assert_ends_with(1);
    assert_eq!(scene.heard("again"), 3);
}

#[test]
fn strategies_take_along_whom_they_say() {
    let cells: Vec<(User, &str)> =
        users().into_iter().flat_map(|user| ["one", "rest", "all"].map(|strategy| (user, strategy))).collect();
    in_parallel(cells, |(user, strategy): &(User, &str)| {
        let scene = Scene::new(*user);
        let group = format!("[group.pool]\nstrategy = '{strategy}'\n");
        let text = group
            + &process("a", NOTES, "group = 'pool'")
            + &process("b", WAITS, "group = 'pool'\nafter = ['a']\non_failure = 'restart'")
            + &process("c", NOTES, "group = 'pool'\nafter = ['a', 'b']");
        scene.write("fated.toml", &text);
        let tree = scene.fated(["up"]).start();
        tree.expect(&["a", "b", "c"]);
        tree.process("b").signal(Signal::KILL);
        let (again, expected): (&[&str], &[&str]) = match *strategy {
            "one" => (&["a", "b", "b", "c"], &["b"]),
            "rest" => (&["a", "b", "b", "c", "c"], &["c.stopped", "b", "c"]),
            _ => (&["a", "a", "b", "b", "c", "c"], &["c.stopped", "a.stopped", "a", "b", "c"]),
        };
        tree.expect(again);
        let mut after = names(&scene).split_off(3);
        // What runs side by side announces itself in any order: only who came and who was stopped before whom counts.
        let started = after.iter().position(|name| !name.ends_with(".stopped")).unwrap_or(0);
        assert_eq!(after[..started], expected[..started], "{strategy}: {after:?}");
        let mut expected: Vec<&str> = expected.to_vec();
        after.sort_unstable();
        expected.sort_unstable();
        assert_eq!(after, expected, "{strategy}");
        tree.signal(Signal::TERM);
        tree.assert_ends_with(0);
    });
}

#[test]
fn an_inner_group_gives_up_and_the_one_around_it_restarts() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let crash = "echo crash $$ > announce; exit 7";
        let quick = "restart_delay = '1ms'\nrestart_delay_max = '5ms'";
        let text = format!(
            "[group.outer]\non_failure = 'restart'\n{quick}\n\
             [group.middle]\ngroup = 'outer'\n\
             [group.inner]\ngroup = 'middle'\nrestart_limit = 2\nrestart_window = '5min'\n"
        ) + &process(
            "crash",
            crash,
            &format!("group = 'inner'\non_failure = 'restart'\nrestart_limit = 100\n{quick}"),
        ) + &process("mate", WAITS, "group = 'middle'")
            + &process("outside", WAITS, "");
        scene.write("fated.toml", &text);
        let tree = scene.fated(["up"]).start();
        tree.assert_ends_with(7);
        let said = tree.stderr();
        // The outer group has a limit of 5 restarts, the inner one of 2: six lives of three lives each.
        assert_eq!(scene.heard("crash"), 18, "fated said:\n{said}");
        assert!(scene.heard("mate") <= 6 && scene.heard("outside") <= 1, "fated said:\n{said}");
        assert!(tree.last_word().contains("the limit of outer, 5 restarts in 30s, was passed"), "{said}");
    });
}

#[test]
fn a_stop_ends_what_backs_off_at_once() {
    let scene = Scene::new(users()[0]);
    let keys = "on_failure = 'restart'\nrestart_delay = '1h'\nrestart_delay_max = '1h'";
    scene.write("fated.toml", &process("crash", "exit 1", keys));
    let tree = scene.fated(["up"]).start();
    tree.wait_for_word("restart 1 of 5 in ");
    tree.signal(Signal::TERM);
    tree.assert_ends_with(0);
}

#[test]
fn a_consumer_comes_back_to_its_queue_until_that_has_ended() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let program = scene.program().display().to_string();
        let feed = format!("for i in 1 2 3 4 5; do echo $i | {program} queue put items; done");
        // It takes one message a life and ends with success each time, until there is nothing left.
        let work = format!(
            "{program} queue get --count 1 items > got || exit 1; read line < got || exit 0; echo got.$line $$ > announce"
        );
        let text = String::from("[queue.items]\n")
            + &process("feed", &feed, "queues = { items = 'put' }\non_success = 'ignore'")
            + &process(
                "work",
                &work,
                "queues = { items = 'get' }\non_success = 'restart'\nrestart_delay = '1ms'\nrestart_limit = 100",
            );
        scene.write("fated.toml", &text);
        let tree = scene.fated(["up"]).start();
        tree.assert_ends_with(0);
        let lines = names(&scene);
        assert!(lines.iter().zip(1..).all(|(line, number)| *line == format!("got.{number}")), "{lines:?}");
    });
}

#[test]
fn a_storm_of_restarts_holds_up_no_stop() {
    const PROCESSES: usize = 200;
    const ENOUGH: usize = 600;
    /// Far above what is aimed at, 100 ms: the machine has others to serve.
    const GENEROUS: Duration = Duration::from_secs(3);
    let scene = Scene::new(users()[0]);
    let storm = format!(
        "[process.storm]\ncommand = 'true'\ninstances = {PROCESSES}\non_exit = 'restart'\n\
         restart_delay = '1ms'\nrestart_delay_max = '1ms'\nrestart_limit = 10000\n"
    );
    scene.write("fated.toml", &(storm + &process("calm", NOTES, "")));
    let tree = scene.fated(["up"]).start();
    tree.expect(&["calm"]);
    common::wait_until("the storm blows", || tree.stderr().matches("; restart ").count() > ENOUGH);
    let asked = Instant::now();
    tree.signal(Signal::TERM);
    tree.expect(&["calm.stopped"]);
    let reacted = asked.elapsed();
    tree.assert_ends_with(0);
    println!("a stop in a storm of {PROCESSES} was acted on within {reacted:?}, complete after {:?}", asked.elapsed());
    assert!(reacted < GENEROUS, "{reacted:?}");
}
