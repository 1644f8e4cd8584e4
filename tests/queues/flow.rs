//! From many writers to many readers, and the ends of it.

use std::collections::BTreeMap;

use fated::exit::ExitStatus;
use fated::signal::Signal;

use crate::common::{Scene, User, in_parallel, users, wait_until};
use crate::{TRANSPORTS, scene, tree};

pub fn cells() -> Vec<(User, &'static str, usize)> {
    users().into_iter().flat_map(|user| TRANSPORTS.map(|(transport, max)| (user, transport, max))).collect()
}

/// How often each message was got, by all readers together: `ID NUMBER` to count.
pub fn got(scene: &Scene) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for entry in std::fs::read_dir(&scene.dir).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("got.") {
            for line in std::fs::read_to_string(path).unwrap().lines() {
                *counts.entry(line.to_owned()).or_insert(0) += 1;
            }
        }
    }
    counts
}

/// Every number of every writer exactly once.
#[track_caller]
fn assert_each_once(counts: &BTreeMap<String, usize>, writers: &[String], messages: usize) {
    let wanted = writers.iter().flat_map(|writer| (0..messages).map(move |number| (format!("{writer} {number}"), 1)));
    let wanted: BTreeMap<String, usize> = wanted.collect();
    let missing = wanted.keys().filter(|key| !counts.contains_key(*key)).count();
    let twice = counts.iter().filter(|(_, count)| **count != 1).count();
    assert!(*counts == wanted, "{missing} missing, {twice} not once, {} in all", counts.len());
}

const MANY: &str = "
    [process.w]
    command = 'python3 worker.py put 3000'
    instances = 4
    queues = { q = 'put' }
    on_success = 'ignore'
    [process.r]
    command = 'python3 worker.py get'
    instances = 3
    queues = { q = 'get' }
";

#[test]
fn every_message_reaches_exactly_one_of_many_readers() {
    in_parallel(cells(), |(user, transport, max)| {
        let scene = scene(*user, &tree(transport, *max, MANY));
        let running = scene.fated(["up", "tree.toml"]).start();
        running.assert_ends_with(0);
        let writers: Vec<String> = (1..=4).map(|n| format!("w.{n}")).collect();
        assert_each_once(&got(&scene), &writers, 3000);
        // The readers saw the end of the queue after its writers' end, without any word among the messages.
        for n in 1..=3 {
            assert!(scene.announced(&format!("r.{n}!end")).is_some());
        }
    });
}

#[test]
fn lines_pass_from_shell_to_shell() {
    const SHELLS: &str = "
        [process.w]
        command = ['sh', '-c', 'seq -f \"w.$FATED_INSTANCE %.0f\" 0 4999 | fated queue put q']
        instances = 3
        queues = { q = 'put' }
        on_success = 'ignore'
        [process.r]
        command = ['sh', '-c', 'fated queue get q > got.$FATED_INSTANCE']
        instances = 3
        queues = { q = 'get' }
    ";
    in_parallel(cells(), |(user, transport, max)| {
        let scene = scene(*user, &tree(transport, *max, SHELLS));
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", scene.program().parent().unwrap().display());
        scene.fated(["up", "tree.toml"]).env("PATH", path).start().assert_ends_with(0);
        let writers: Vec<String> = (1..=3).map(|n| format!("w.{n}")).collect();
        assert_each_once(&got(&scene), &writers, 5000);
    });
}

#[test]
fn writers_see_that_all_readers_have_ended() {
    const READERS_END: &str = "
        [process.w]
        command = 'python3 worker.py put 0'
        instances = 3
        queues = { q = 'put' }
        on_success = 'ignore'
        [group.pool]
        on_success = 'ignore'
        [process.r]
        group = 'pool'
        command = 'python3 worker.py get 100'
        instances = 2
        queues = { q = 'get' }
    ";
    in_parallel(cells(), |(user, transport, max)| {
        let scene = scene(*user, &tree(transport, *max, READERS_END));
        let running = scene.fated(["up", "tree.toml"]).start();
        running.assert_ends_with(0);
        for n in 1..=3 {
            assert!(scene.announced(&format!("w.{n}!closed")).is_some(), "{}", running.stderr());
        }
        assert_eq!(got(&scene).len(), 200);
    });
}

#[test]
fn a_message_over_the_limit_names_both_sizes() {
    const LONG: &str = "
        [process.w]
        command = ['sh', '-c', 'head -c 5000 /dev/zero | tr \"\\0\" x | fated queue put q']
        queues = { q = 'put' }
        [process.r]
        command = 'python3 worker.py get'
        queues = { q = 'get' }
    ";
    in_parallel(cells(), |(user, transport, _)| {
        let scene = scene(*user, &tree(transport, 1000, LONG));
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", scene.program().parent().unwrap().display());
        let running = scene.fated(["up", "tree.toml"]).env("PATH", path).start();
        let ExitStatus::Code(code) = running.wait() else { panic!("{}", running.stderr()) };
        assert_ne!(code, 0);
        let told = running.stderr();
        assert!(told.contains("5000") && told.contains("1000"), "{told}");
        running.assert_nothing_left();
    });
}

#[test]
fn writers_left_out_by_only_are_no_writers() {
    in_parallel(cells(), |(user, transport, max)| {
        let scene = scene(*user, &tree(transport, *max, MANY));
        let running = scene.fated(["up", "--only", "r", "tree.toml"]).start();
        // Nobody can put: the readers see the end at once.
        running.assert_ends_with(0);
        assert!(got(&scene).is_empty());
    });
}

#[test]
fn capacity_is_clamped_and_a_message_that_never_fits_is_refused() {
    in_parallel(users(), |user| {
        for (transport, capacity, status) in
            [("pipe", "1GiB", 0), ("pipe", "4KiB", 0), ("seqpacket", "1GiB", 0), ("seqpacket", "4KiB", 125)]
        {
            let text = tree(transport, 4096, MANY).replace("256KiB", capacity).replace("3000", "10");
            let text = if status == 125 { text.replace("message_max = 4096", "message_max = 1000000") } else { text };
            let scene = scene(*user, &text);
            let running = scene.fated(["up", "tree.toml"]).start();
            let told = || format!("{transport} {capacity}: {}", running.stderr());
            assert_eq!(running.wait(), ExitStatus::Code(status), "{}", told());
            if status == 125 {
                assert!(told().contains("message_max") && told().contains('q'), "{}", told());
                assert_eq!(scene.lines(), Vec::<String>::new());
            }
        }
    });
}

#[test]
fn messages_outlive_a_reader_that_did_not_take_them() {
    const HELD: &str = "
        [process.w]
        command = 'python3 worker.py put 20 200'
        queues = { q = 'put' }
        on_success = 'ignore'
        [process.idle]
        command = 'python3 worker.py hold'
        queues = { q = 'get' }
        on_failure = 'ignore'
        [process.late]
        command = 'python3 worker.py hold'
        queues = { q = 'get' }
    ";
    in_parallel(cells(), |(user, transport, max)| {
        let scene = scene(*user, &tree(transport, *max, HELD));
        let go = scene.fifo("go");
        let running = scene.fated(["up", "tree.toml"]).start();
        running.expect(&["w.1!done", "idle.1!holds", "late.1!holds"]);
        let (writer, idle) = (running.process("w.1"), running.process("idle.1!holds"));
        writer.wait_end();
        idle.signal(Signal::KILL);
        idle.wait_end();
        wait_until("it is reaped", || idle.state().is_none());
        drop(go);
        running.assert_ends_with(0);
        assert_each_once(&got(&scene), &["w.1".to_owned()], 20);
    });
}
