//! The four demands, with real processes.

mod common;

use common::{Scene, in_parallel, users};
use fated::signal::Signal;

#[test]
fn the_launchers_end_ends_the_tree() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let tree = scene
            .fated(["run", "python3", "tree.py", "a", "plain=2", "mp=1", "spawned=1", "daemon=1", "bare=1"])
            .by_launcher()
            .start();
        tree.expect(&["a", "a/plain.0", "a/plain.1", "a/mp.0", "a/spawned.0", "a/daemon.0", "a/bare.0"]);
        tree.launcher().signal(Signal::KILL);
        tree.launcher().wait_end();
        tree.wait();
        assert!(tree.last_word().contains("its launcher"), "{}", tree.stderr());
        tree.assert_nothing_left();
    });
}
