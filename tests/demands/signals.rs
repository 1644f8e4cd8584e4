//! Signals to fated: which are passed on, to whom, and as what.

use fated::signal::Signal;

use crate::common::{Scene, User, in_parallel, users};

#[test]
fn run_passes_signals_on_to_its_command() {
    let signals = [Signal::INT, Signal::QUIT, Signal::HUP, Signal::USR1, Signal::USR2, Signal::WINCH];
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let words = signals.map(|signal| format!("{}=note", short(signal)));
        let args = ["run", "python3", "tree.py", "a", "plain=1"].map(str::to_owned).into_iter().chain(words);
        let tree = scene.fated(args).start();
        tree.expect(&["a", "a/plain.0"]);
        for signal in signals {
            tree.signal(signal);
            tree.expect(&[format!("a!{}", short(signal))]);
        }
        assert!(tree.process("a/plain.0").is_alive(), "without -g the command alone is meant");
        tree.signal(Signal::TERM);
        assert_eq!(tree.wait().shell_code(), 143);
        tree.assert_nothing_left();
        assert_eq!(scene.lines().iter().filter(|line| line.contains('!')).count(), signals.len(), "each arrives once");
    });
}

fn short(signal: Signal) -> String {
    signal.to_string().trim_start_matches("SIG").to_owned()
}

#[test]
fn run_passes_signals_to_the_group_where_asked() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let args = ["run", "-g", "python3", "tree.py", "a", "USR1=note", "plain=2", "daemon=1"];
        let tree = scene.fated(args).start();
        tree.expect(&["a", "a/plain.0", "a/plain.1", "a/daemon.0"]);
        tree.signal(Signal::USR1);
        tree.expect(&["a!USR1"]);
        tree.process("a/plain.0").wait_end();
        tree.process("a/plain.1").wait_end();
        assert!(tree.process("a/daemon.0").is_alive(), "it has left the group");
        tree.signal(Signal::TERM);
        assert_eq!(tree.wait().shell_code(), 143);
        tree.assert_nothing_left();
    });
}

#[test]
fn a_signal_is_rewritten_or_dropped_as_the_map_says() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let maps = ["HUP:USR1", "USR2:0", "TERM:QUIT"].into_iter().flat_map(|map| ["--signal-map", map]);
        let words = ["python3", "tree.py", "a", "HUP=note", "USR1=note", "USR2=note", "WINCH=note", "QUIT=exit:9"];
        let tree = scene.fated(["run"].into_iter().chain(maps).chain(words)).start();
        tree.expect(&["a"]);
        tree.signal(Signal::USR2);
        tree.signal(Signal::HUP);
        tree.expect(&["a!USR1"]);
        tree.signal(Signal::WINCH);
        tree.expect(&["a!WINCH"]);
        assert_eq!((scene.heard("a!HUP"), scene.heard("a!USR2")), (0, 0));
        // It starts the stop plan all the same.
        tree.signal(Signal::TERM);
        tree.assert_ends_with(9);
    });
}

#[test]
fn the_stop_signal_is_the_one_that_was_asked_for() {
    let cells = users().into_iter().flat_map(|user| [(user, "run"), (user, "up")]).collect();
    in_parallel(cells, |(user, door): &(User, &str)| {
        let scene = Scene::new(*user);
        let words = "python3 tree.py a TERM=note USR2=exit:6";
        scene.write("fated.toml", &format!("[process.a]\ncommand = '{words}'\nstop_signal = 'USR2'"));
        let mut args = vec!["up"];
        if *door == "run" {
            args = vec!["run", "-s", "USR2"];
            args.extend(words.split(' '));
        }
        let tree = scene.fated(args).start();
        tree.expect(&["a"]);
        tree.signal(Signal::TERM);
        tree.assert_ends_with(if *door == "run" { 6 } else { 0 });
        assert_eq!(scene.heard("a!TERM"), 0);
    });
}

#[test]
fn up_passes_nothing_on_and_says_so() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        scene.write("fated.toml", "[process.a]\ncommand = 'python3 tree.py a USR1=note USR2=note WINCH=note'");
        let tree = scene.fated(["up"]).start();
        tree.expect(&["a"]);
        for signal in [Signal::USR1, Signal::USR2, Signal::WINCH] {
            tree.signal(signal);
            tree.wait_for_word(&format!("{signal} has no meaning here"));
        }
        tree.signal(Signal::TERM);
        tree.assert_ends_with(0);
        assert_eq!(scene.lines().len(), 1);
    });
}
