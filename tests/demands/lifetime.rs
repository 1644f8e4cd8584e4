//! Lifetimes: of a process, a group, the tree and `run`.

use std::time::{Duration, Instant};

use fated::exit::ExitStatus;
use fated::signal::Signal;

use crate::common::{Scene, User, in_parallel, users};

const SECOND: Duration = Duration::from_secs(1);

/// Where the lifetime of 1s is written, and how the last word names it.
const PLACES: [(&str, &str, &str, &str); 3] = [
    ("lifetime = '1s'", "", "", "its lifetime of 1s was over"),
    ("", "lifetime = '1s'", "", "the lifetime of pool, 1s, was over"),
    ("", "", "lifetime = '1s'", "the lifetime of pool/b, 1s, was over"),
];

#[test]
fn a_lifetime_of_a_process_a_group_or_the_tree_ends_it_all() {
    let cells = users().into_iter().flat_map(|user| PLACES.map(|place| (user, place))).collect();
    in_parallel(cells, |(user, (tree, group, process, word)): &(User, _)| {
        let scene = Scene::new(*user);
        scene.write(
            "fated.toml",
            &format!(
                "{tree}\n[process.a]\ncommand = 'python3 tree.py a mp=1 daemon=1'\n[group.pool]\n{group}\n\
                 [process.b]\ngroup = 'pool'\ncommand = 'sh b.sh'\n{process}\n"
            ),
        );
        scene.write("b.sh", SESSIONS);
        let began = Instant::now();
        let tree = scene.fated(["up"]).start();
        let status = tree.wait();
        assert!(began.elapsed() >= SECOND, "not before its time");
        assert_eq!(status, ExitStatus::Code(124), "{}", tree.stderr());
        tree.assert_nothing_left();
        assert!(tree.last_word().contains(word), "{}", tree.stderr());
    });
}

/// A shell whose child has a session of its own.
const SESSIONS: &str = "setsid sh -c 'echo far $$ > announce; exec sleep 100000' & echo b $$ > announce; wait";

#[test]
fn a_lifetime_of_run_ends_with_124_and_everything_below() {
    let cells = users().into_iter().flat_map(|user| [(user, false), (user, true)]).collect();
    in_parallel(cells, |(user, stubborn): &(User, bool)| {
        let scene = Scene::new(*user);
        let mut args = vec!["run", "-t", "1s", "-k", "300ms", "python3", "tree.py", "a", "plain=1", "mp=1", "daemon=1"];
        if *stubborn {
            args.extend(["TERM=ignore", "stubborn"]);
        }
        let began = Instant::now();
        let tree = scene.fated(args).start();
        assert_eq!(tree.wait(), ExitStatus::Code(124), "{}", tree.stderr());
        assert!(began.elapsed() >= SECOND, "not before its time");
        tree.assert_nothing_left();
        assert!(tree.last_word().contains("the lifetime of python3, 1s, was over"), "{}", tree.stderr());
    });
}

#[test]
fn a_command_that_ends_in_time_is_not_touched() {
    for user in users() {
        let scene = Scene::new(user);
        let tree = scene.fated(["run", "-t", "1h", "sh", "-c", "exit 3"]).start();
        tree.assert_ends_with(3);
        assert_eq!(tree.stderr(), "");
    }
}

#[test]
fn preserve_status_gives_the_commands_own_status() {
    const EXITS: &str = "trap 'exit 7' TERM; echo a $$ > announce; sleep 100000 & wait";
    const DIES: &str = "echo a $$ > announce; exec sleep 100000";
    let cells = vec![
        (EXITS, true, ExitStatus::Code(7)),
        (EXITS, false, ExitStatus::Code(124)),
        (DIES, true, ExitStatus::Signaled { signal: Signal::TERM, core_dumped: false }),
        (DIES, false, ExitStatus::Code(124)),
    ];
    let cells = users().into_iter().flat_map(|user| cells.clone().into_iter().map(move |cell| (user, cell))).collect();
    in_parallel(cells, |(user, (script, preserve, expected)): &(User, _)| {
        let scene = Scene::new(*user);
        let preserve = preserve.then_some("--preserve-status");
        // Long enough for the shell to have set its trap.
        let args = ["run", "-t", "2s"].into_iter().chain(preserve).chain(["sh", "-c", script]);
        let tree = scene.fated(args).start();
        tree.expect(&["a"]);
        assert_eq!(tree.wait(), *expected, "{}", tree.stderr());
        tree.assert_nothing_left();
    });
}
