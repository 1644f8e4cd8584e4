//! Writers and readers killed in the middle: there is no lock that they could leave behind.

use std::collections::BTreeMap;

use fated::exit::ExitStatus;
use fated::signal::Signal;

use crate::common::{Scene, wait_until};
use crate::flow::{cells, got};
use crate::{scene, tree};

// Few, and one cell after the other: endless writers take all of a small machine, and the tests beside them wait.
const VICTIMS: u64 = 3;

const MIX: &str = "
    [process.w]
    command = 'python3 worker.py put 1000'
    instances = 2
    queues = { q = 'put' }
    on_success = 'ignore'
    [process.r]
    command = 'python3 worker.py get'
    instances = 2
    queues = { q = 'get' }
    [process.wv]
    command = 'python3 worker.py put 0'
    instances = 3
    queues = { q = 'put' }
    on_exit = 'ignore'
    [process.rv]
    command = 'python3 worker.py get'
    instances = 3
    queues = { q = 'get' }
    on_exit = 'ignore'
";

/// A generator of numbers that a seed determines (splitmix64).
fn below(seed: &mut u64, bound: u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % bound
}

/// How much the readers have written down, in bytes.
fn written(scene: &Scene) -> u64 {
    let readers = (1..=VICTIMS).flat_map(|n| [format!("got.r.{n}"), format!("got.rv.{n}")]);
    readers.filter_map(|name| std::fs::metadata(scene.path(&name)).ok()).map(|data| data.len()).sum()
}

#[test]
fn the_queue_goes_on_whoever_is_killed() {
    for (user, transport, max) in cells() {
        let scene = scene(user, &tree(transport, max, MIX));
        let running = scene.fated(["up", "tree.toml"]).start();
        let victims: Vec<String> = (1..=VICTIMS).flat_map(|n| [format!("wv.{n}"), format!("rv.{n}")]).collect();
        running.expect(&victims);
        let mut seed = max as u64;
        let mut left: Vec<_> = victims.iter().map(|name| running.process(name)).collect();
        while !left.is_empty() {
            // A moment that no message knows of: after so many more bytes that readers have written down.
            let goal = written(&scene) + below(&mut seed, 20_000);
            wait_until("messages flow", || written(&scene) >= goal);
            // The first one, a writer without end, keeps messages flowing up to the last.
            let others = left.len() as u64 - 1;
            let victim = left.remove(if others == 0 { 0 } else { 1 + below(&mut seed, others) as usize });
            victim.signal(Signal::KILL);
            victim.wait_end();
        }
        assert_eq!(running.wait(), ExitStatus::Code(0), "{}", running.stderr());
        running.assert_nothing_left();
        let torn: Vec<String> = scene.lines().into_iter().filter(|line| line.contains("!torn")).collect();
        assert_eq!(torn, Vec::<String>::new());
        let counts = got(&scene);
        assert!(counts.values().all(|count| *count == 1), "a message was got twice");
        // A killed reader may have taken one message without having written it down; no more than that is missing.
        let of_the_living: BTreeMap<_, _> = counts.iter().filter(|(id, _)| id.starts_with("w.")).collect();
        let missing = 2 * 1000 - of_the_living.len();
        assert!(missing <= VICTIMS as usize, "{missing} messages were lost");
    }
}
