//! What a tree is tied to beside its launcher, and when it is not tied to that.

use std::process::{Command, Stdio};
use std::time::Duration;

use fated::signal::Signal;

use crate::common::{Scene, User, Watched, in_parallel, outlives, users};

const SOME_TIME: Duration = Duration::from_millis(500);

#[test]
fn the_end_of_a_watched_process_ends_the_tree() {
    let cells = users().into_iter().flat_map(|user| [(user, Signal::KILL), (user, Signal::TERM)]).collect();
    in_parallel(cells, |(user, signal): &(User, Signal)| {
        let scene = Scene::new(*user);
        let mut friend = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = friend.id().to_string();
        let tree = scene.fated(["run", "--watch-pid", &pid, "python3", "tree.py", "a", "daemon=1"]).start();
        tree.expect(&["a", "a/daemon.0"]);
        Watched::open("friend", friend.id()).signal(*signal);
        friend.wait().unwrap();
        assert_eq!(tree.wait().shell_code(), 143);
        tree.assert_nothing_left();
        assert!(tree.last_word().contains(&format!("the watched process {pid} has ended")), "{}", tree.stderr());
    });
}

#[test]
fn the_end_of_a_watched_pipe_ends_the_tree() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let tie = scene.fifo("tie");
        scene.write("fated.toml", "[process.a]\ncommand = 'python3 tree.py a daemon=1'");
        let tree = scene.fated(["up", "--watch-fd", "9"]).via(["sh", "-c", "exec 9< tie; exec \"$@\"", "sh"]).start();
        tree.expect(&["a", "a/daemon.0"]);
        let inherited = std::fs::read_link(format!("/proc/{}/fd/9", tree.process("a").pid));
        assert!(inherited.is_err(), "the command must not hold the tie itself");
        std::io::Write::write_all(&mut &tie, b"data is no end").unwrap();
        assert!(outlives(&tree.process("a"), SOME_TIME));
        drop(tie);
        tree.assert_ends_with(0);
        assert!(tree.last_word().contains("the watched descriptor 9 was hung up"), "{}", tree.stderr());
    });
}

#[test]
fn what_was_started_by_nohup_survives_its_launcher() {
    let cells = users().into_iter().flat_map(|user| [(user, false), (user, true)]).collect();
    in_parallel(cells, |(user, up): &(User, bool)| {
        let scene = Scene::new(*user);
        scene.write("fated.toml", "[process.a]\ncommand = 'python3 tree.py a daemon=1'");
        let args: &[&str] = if *up { &["up"] } else { &["run", "python3", "tree.py", "a", "daemon=1"] };
        let tree = scene.fated(args).ignoring(Signal::HUP).by_launcher().start();
        tree.expect(&["a", "a/daemon.0"]);
        tree.launcher().signal(Signal::KILL);
        tree.launcher().wait_end();
        for signalled in [tree.guard(), tree.supervisor()] {
            signalled.signal(Signal::HUP);
        }
        if !*up {
            // What was ignored when fated was started is ignored by the command as well.
            tree.process("a").signal(Signal::HUP);
        }
        assert!(outlives(&tree.fated, SOME_TIME), "{}", tree.stderr());
        assert!(tree.process("a").is_alive() && tree.process("a/daemon.0").is_alive());
        tree.signal(Signal::TERM);
        assert_eq!(tree.wait().shell_code(), if *up { 0 } else { 143 });
        tree.assert_nothing_left();
    });
}

#[test]
fn die_with_parent_is_a_matter_of_choice() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let args = ["run", "--die-with-parent", "no", "python3", "tree.py", "a", "daemon=1"];
        let tree = scene.fated(args).by_launcher().start();
        tree.expect(&["a", "a/daemon.0"]);
        tree.launcher().signal(Signal::KILL);
        tree.launcher().wait_end();
        assert!(outlives(&tree.fated, SOME_TIME));
        tree.signal(Signal::TERM);
        assert_eq!(tree.wait().shell_code(), 143);
        tree.assert_nothing_left();

        let scene = Scene::new(*user);
        let args = ["run", "--die-with-parent", "yes", "python3", "tree.py", "a", "daemon=1"];
        let tree = scene.fated(args).ignoring(Signal::HUP).by_launcher().start();
        tree.expect(&["a", "a/daemon.0"]);
        tree.launcher().signal(Signal::KILL);
        tree.launcher().wait_end();
        assert_eq!(tree.wait().shell_code(), 143);
        tree.assert_nothing_left();
    });
}

/// The launcher may be gone before fated looks for it: then it has ended, or is whoever has adopted fated.
#[test]
fn a_launcher_that_ends_while_fated_starts_leaves_nothing_behind() {
    in_parallel(users(), |user| {
        for _ in 0..5 {
            let scene = Scene::new(*user);
            let tree = scene.fated(["run", "-t", "1s", "sleep", "100000"]).by_launcher().start();
            tree.launcher().signal(Signal::KILL);
            tree.launcher().wait_end();
            tree.wait();
            tree.assert_nothing_left();
        }
    });
}
