//! Every process of a tree killed by every usual signal: nothing survives, nothing is left unreaped, the status is the
//! documented one, and the last word names what came first.

use fated::exit::ExitStatus;
use fated::signal::Signal;
use fated::sys::procfs;

use crate::common::{BOUND, Running, Scene, User, in_parallel, outlives, users, wait_until};

const SIGNALS: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::KILL];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Run,
    Up,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Launcher,
    Guard,
    Supervisor,
    /// A main process below the root.
    Main,
    /// A main process of a group.
    Member,
    /// One descendant of each kind that is nobody's main process.
    Grandchildren,
}

#[derive(Debug)]
struct Cell {
    user: User,
    door: Door,
    target: Target,
    signal: Signal,
}

const TREE: &str = r#"
name = "family"
[process.a]
command = "python3 tree.py a plain=1 mp=1 daemon=1 bare=1"
[group.pool]
[process.b]
group = "pool"
command = "python3 tree.py b mp=1 daemon=1"
[process.c]
group = "pool"
instances = 2
command = ["sh", "-c", "echo c.$FATED_INSTANCE $$ > announce; exec sleep 100000"]
"#;

const GRANDCHILDREN: [&str; 4] = ["a/plain.0", "a/mp.0", "a/daemon.0", "a/bare.0"];
const OF_THE_REST: [&str; 5] = ["b", "b/mp.0", "b/daemon.0", "c.1", "c.2"];

fn start(scene: &Scene, door: Door, by_launcher: bool) -> Running<'_> {
    let command: &[&str] = match door {
        // With -v, as `run` has no last word where its command just ended.
        Door::Run => &["run", "-v", "python3", "tree.py", "a", "plain=1", "mp=1", "spawned=1", "daemon=1", "bare=1"],
        Door::Up => {
            scene.write("fated.toml", TREE);
            &["up"]
        }
    };
    let fated = scene.fated(command);
    let tree = if by_launcher { fated.by_launcher().start() } else { fated.start() };
    let mut all = GRANDCHILDREN.to_vec();
    all.push("a");
    match door {
        Door::Run => all.push("a/spawned.0"),
        Door::Up => all.extend(OF_THE_REST),
    }
    tree.expect(&all);
    tree
}

#[test]
fn whatever_is_killed_the_tree_ends_as_one() {
    let mut cells = Vec::new();
    for user in users() {
        for target in [Target::Launcher, Target::Guard, Target::Supervisor, Target::Main, Target::Member] {
            for signal in SIGNALS {
                cells.push(Cell { user, door: Door::Up, target, signal });
                if target != Target::Member {
                    cells.push(Cell { user, door: Door::Run, target, signal });
                }
            }
        }
    }
    in_parallel(cells, |cell| {
        let scene = Scene::new(cell.user);
        let tree = start(&scene, cell.door, cell.target == Target::Launcher);
        let supervisor = tree.supervisor().clone();
        match cell.target {
            Target::Launcher => tree.launcher().signal(cell.signal),
            Target::Guard => tree.guard().signal(cell.signal),
            Target::Supervisor => supervisor.signal(cell.signal),
            Target::Main => tree.process("a").signal(cell.signal),
            Target::Member => tree.process("b").signal(cell.signal),
            Target::Grandchildren => {}
        }
        let status = tree.wait();
        // Only where the guard was killed does it not end last.
        supervisor.wait_end();
        if let Some(own) = cell.target.eq(&Target::Launcher).then(|| tree.launcher()) {
            own.wait_end();
        }
        tree.assert_nothing_left();
        let (expected, first) = expected(cell, &tree);
        assert_eq!(status, expected, "fated said:\n{}", tree.stderr());
        assert!(tree.last_word().contains(&first), "`{first}` is not in:\n{}", tree.stderr());
    });
}

/// How fated ends, and the first cause that it names.
fn expected(cell: &Cell, tree: &Running<'_>) -> (ExitStatus, String) {
    let Cell { door, target, signal, .. } = *cell;
    let by = |signal| ExitStatus::Signaled { signal, core_dumped: false };
    let code = |signal: Signal| ExitStatus::Code(128 + signal.number() as u8);
    let is_kill = signal == Signal::KILL;
    match (target, door) {
        (Target::Launcher, _) => {
            let word = format!("its launcher (process {}) has ended", tree.launcher().pid);
            (if door == Door::Run { by(Signal::TERM) } else { ExitStatus::SUCCESS }, word)
        }
        (Target::Guard, _) if is_kill => (by(Signal::KILL), "its guard was killed".into()),
        (Target::Supervisor, _) if is_kill => (ExitStatus::Code(137), "the supervisor was killed by SIGKILL".into()),
        (Target::Guard | Target::Supervisor, Door::Run) if signal == Signal::TERM => {
            (by(signal), "SIGTERM asked for it".into())
        }
        (Target::Guard | Target::Supervisor | Target::Main, Door::Run) => {
            (by(signal), format!("python3 was killed by {signal}"))
        }
        (Target::Guard | Target::Supervisor, Door::Up) => match signal {
            Signal::TERM => (ExitStatus::SUCCESS, "SIGTERM asked for it".into()),
            Signal::INT => (ExitStatus::Code(130), "interrupted (SIGINT)".into()),
            _ => (code(signal), format!("{signal} asked for it")),
        },
        (Target::Main, Door::Up) => (code(signal), format!(": a was killed by {signal};")),
        (Target::Member | Target::Grandchildren, _) => (code(signal), format!(": pool/b was killed by {signal};")),
    }
}

#[test]
fn a_grandchild_that_is_nobodys_main_process_may_die() {
    let mut cells = Vec::new();
    for user in users() {
        for (door, signal) in [Door::Run, Door::Up].into_iter().flat_map(|door| SIGNALS.map(|signal| (door, signal))) {
            cells.push(Cell { user, door, target: Target::Grandchildren, signal });
        }
    }
    in_parallel(cells, |cell| {
        let scene = Scene::new(cell.user);
        let tree = start(&scene, cell.door, false);
        for name in GRANDCHILDREN {
            let grandchild = tree.process(name);
            grandchild.signal(cell.signal);
            grandchild.wait_end();
        }
        for orphan in ["a/daemon.0", "a/bare.0"].map(|name| tree.process(name)) {
            wait_until("the supervisor has reaped its orphans", || !orphan.is_zombie());
        }
        assert!(tree.process("a").is_alive() && tree.fated.is_alive(), "{}", tree.stderr());
        tree.signal(Signal::TERM);
        match cell.door {
            Door::Run => assert_eq!(tree.wait().shell_code(), 143, "{}", tree.stderr()),
            Door::Up => assert_eq!(tree.wait(), ExitStatus::SUCCESS, "{}", tree.stderr()),
        }
        tree.assert_nothing_left();
    });
}

#[test]
fn what_refuses_to_die_is_killed_with_the_rest() {
    let mut cells = Vec::new();
    for user in users() {
        for target in [Target::Launcher, Target::Guard, Target::Supervisor, Target::Main] {
            for door in [Door::Run, Door::Up] {
                cells.push(Cell { user, door, target, signal: Signal::KILL });
            }
        }
    }
    const WORDS: &str = "a TERM=ignore INT=ignore HUP=ignore stubborn plain=1 mp=1 daemon=2 bare=1";
    in_parallel(cells, |cell| {
        let scene = Scene::new(cell.user);
        scene
            .write("fated.toml", &format!("[process.a]\ncommand = \"python3 tree.py {WORDS}\"\nstop_timeout = \"1s\""));
        let mut args = vec!["up"];
        if cell.door == Door::Run {
            args = vec!["run", "-k", "1s", "python3", "tree.py"];
            args.extend(WORDS.split(' '));
        }
        let tree = scene.fated(args).by_launcher().start();
        tree.expect(&["a", "a/plain.0", "a/mp.0", "a/daemon.0", "a/daemon.1", "a/bare.0"]);
        let supervisor = tree.supervisor().clone();
        match cell.target {
            Target::Launcher => {}
            Target::Guard => tree.guard().signal(Signal::KILL),
            Target::Supervisor => supervisor.signal(Signal::KILL),
            Target::Main | Target::Member | Target::Grandchildren => tree.process("a").signal(Signal::KILL),
        }
        if cell.target != Target::Launcher {
            tree.fated.wait_end();
        }
        tree.launcher().signal(Signal::KILL);
        tree.launcher().wait_end();
        tree.fated.wait_end();
        supervisor.wait_end();
        tree.assert_nothing_left();
    });
}

#[test]
fn without_a_guard_the_tree_ends_as_well() {
    let mut cells = Vec::new();
    for user in users() {
        for (target, signal) in [
            (Target::Launcher, Signal::KILL),
            (Target::Supervisor, Signal::TERM),
            (Target::Main, Signal::KILL),
            (Target::Supervisor, Signal::KILL),
        ] {
            cells.push(Cell { user, door: Door::Run, target, signal });
        }
    }
    in_parallel(cells, |cell| {
        let scene = Scene::new(cell.user);
        let fated = scene.fated(["run", "--no-guard", "python3", "tree.py", "a", "mp=1", "daemon=1"]);
        let by_launcher = cell.target == Target::Launcher;
        let tree = if by_launcher { fated.by_launcher().start() } else { fated.start() };
        tree.expect(&["a", "a/mp.0", "a/daemon.0"]);
        assert_eq!(tree.process("a").ppid(), Some(tree.fated.pid));
        match cell.target {
            Target::Launcher => tree.launcher().signal(cell.signal),
            Target::Main => tree.process("a").signal(cell.signal),
            Target::Guard | Target::Supervisor | Target::Member | Target::Grandchildren => tree.signal(cell.signal),
        }
        let status = tree.wait();
        let by = if by_launcher { Signal::TERM } else { cell.signal };
        assert_eq!(status, ExitStatus::Signaled { signal: by, core_dumped: false });
        if cell.target == Target::Supervisor && cell.signal == Signal::KILL {
            // Nobody is left to find grandchildren; the parent-death signal reaches the main process.
            tree.process("a").wait_end();
        } else {
            tree.assert_nothing_left();
        }
    });
}

/// The weakest point of this level of containment, as documented: nobody is left to look for grandchildren.
#[test]
fn guard_and_supervisor_killed_together_leave_no_main_process() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let tree = start(&scene, Door::Up, false);
        let supervisor = tree.supervisor().clone();
        supervisor.signal(Signal::STOP);
        wait_until("the supervisor is stopped", || supervisor.state() == Some('T'));
        tree.guard().signal(Signal::KILL);
        tree.guard().wait_end();
        supervisor.signal(Signal::KILL);
        for main in ["a", "b", "c.1", "c.2"] {
            tree.process(main).wait_end();
        }
    });
}

/// A stopped supervisor can do nothing, and is not to be waited for.
#[test]
fn a_stopped_supervisor_is_woken_by_the_launchers_end() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let tree = start(&scene, Door::Up, true);
        let supervisor = tree.supervisor().clone();
        supervisor.signal(Signal::STOP);
        wait_until("the supervisor is stopped", || supervisor.state() == Some('T'));
        assert!(outlives(&tree.process("a"), BOUND / 300), "a stopped supervisor stops nothing");
        tree.launcher().signal(Signal::KILL);
        tree.launcher().wait_end();
        assert_eq!(tree.wait(), ExitStatus::SUCCESS);
        tree.assert_nothing_left();
    });
}

/// A grandchild that has forked a chain of processes, each the parent of the next, in sessions of their own.
#[test]
fn a_chain_of_sessions_ends_with_the_supervisor() {
    const CHAIN: &str = r#"
        echo "link.$1 $$" > announce
        test "$1" -lt 12 && setsid sh chain.sh $(($1 + 1)) &
        exec sleep 100000"#;
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        scene.write("chain.sh", CHAIN);
        let tree = scene.fated(["run", "sh", "chain.sh", "1"]).start();
        let links: Vec<String> = (1..=12).map(|link| format!("link.{link}")).collect();
        tree.expect(&links);
        assert!(procfs::stat(tree.process("link.12").pid).is_some());
        tree.supervisor().signal(Signal::KILL);
        tree.assert_ends_with(137);
    });
}
