//! Surroundings that are not as one would wish: readers that have gone, streams that are watched, processes that were
//! there before, no /proc.

use std::process::Stdio;

use fated::exit::ExitStatus;
use fated::signal::Signal;

use crate::common::{Scene, User, in_parallel, users, wait_until};

/// Executes the rest with a stdout and a stderr that nobody reads, SIGPIPE as in a shell.
const NO_READER: [&str; 3] = [
    "python3",
    "-c",
    "import os, signal, sys; signal.signal(signal.SIGPIPE, signal.SIG_DFL); r, w = os.pipe(); os.dup2(w, 1); \
     os.dup2(w, 2); os.close(r); os.execvp(sys.argv[1], sys.argv[1:])",
];

#[test]
fn a_stderr_without_a_reader_is_no_signal_to_the_command() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let command = ["run", "-v", "python3", "tree.py", "a", "PIPE=exit:9", "TERM=exit:7"];
        let tree = scene.fated(command).via(NO_READER).start();
        tree.expect(&["a"]);
        // Enough log for a write.
        tree.signal(Signal::CONT);
        tree.signal(Signal::TERM);
        assert_eq!(tree.wait(), ExitStatus::Code(7));
        tree.assert_nothing_left();
    });
}

#[test]
fn a_sigpipe_that_somebody_sends_is_passed_on() {
    let scene = Scene::new(users()[0]);
    let tree = scene.fated(["run", "python3", "tree.py", "a", "PIPE=exit:9"]).start();
    tree.expect(&["a"]);
    tree.signal(Signal::PIPE);
    assert_eq!(tree.wait(), ExitStatus::Code(9));
}

#[test]
fn a_watched_stdin_stays_the_commands_stdin() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        let tie = scene.fifo("tie");
        let command = ["run", "--watch-fd", "0", "sh", "-c", "readlink /proc/self/fd/0; exec python3 tree.py a"];
        let tree = scene.fated(command).via(["sh", "-c", "exec < tie; exec \"$@\"", "sh"]).start();
        tree.expect(&["a"]);
        assert_eq!(tree.stdout().trim(), scene.path("tie").to_str().unwrap());
        drop(tie);
        assert_eq!(tree.wait().shell_code(), 143);
        assert!(tree.last_word().contains("the watched descriptor 0 was hung up"), "{}", tree.stderr());
    });
}

#[test]
fn the_rest_of_an_output_is_shown_when_its_writer_ends() {
    let scene = Scene::new(users()[0]);
    scene.write(
        "fated.toml",
        "[process.p]\ncommand = 'printf partial'\ninstances = 6\non_exit = 'ignore'\n\
         [process.a]\ncommand = 'python3 tree.py a'\n",
    );
    let tree = scene.fated(["up"]).start();
    tree.expect(&["a"]);
    wait_until("every rest is shown", || tree.stdout().matches("| partial\n").count() == 6);
    assert!(tree.process("a").is_alive());
    tree.signal(Signal::TERM);
    tree.assert_ends_with(0);
}

/// Executes the rest with a SIGTERM that waits for it already.
const STOPPED_AT_ENTRY: [&str; 3] = [
    "python3",
    "-c",
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); \
     os.kill(os.getpid(), signal.SIGTERM); os.execvp(sys.argv[1], sys.argv[1:])",
];

#[test]
fn a_stop_that_comes_before_the_command_has_its_group_reaches_it() {
    let scene = Scene::new(users()[0]);
    // The race is lost in some rounds only.
    for _ in 0..30 {
        // Without patience for a kill to end it, only the signal does.
        let command = ["run", "-g", "-k", "infinity", "sleep", "1000"];
        let tree = scene.fated(command).via(STOPPED_AT_ENTRY).start();
        assert_eq!(tree.wait().shell_code(), 143);
        tree.assert_nothing_left();
    }
}

#[test]
fn children_that_were_there_before_are_not_ended() {
    let cells = users().into_iter().flat_map(|user| [(user, false), (user, true)]).collect();
    in_parallel(cells, |(user, guarded): &(User, bool)| {
        let scene = Scene::new(*user);
        let script = ["sh", "-c", "python3 tree.py stranger & exec \"$@\"", "sh"];
        let args: &[&str] = if *guarded { &["run"] } else { &["run", "--no-guard"] };
        let command = ["python3", "tree.py", "a", "daemon=1", "TERM=exit:7"];
        let tree = scene.fated(args.iter().chain(&command)).via(script).stdin(Stdio::null()).start();
        tree.expect(&["stranger", "a", "a/daemon.0"]);
        if *guarded {
            tree.supervisor().signal(Signal::KILL);
            assert_eq!(tree.wait(), ExitStatus::Code(137), "{}", tree.stderr());
        } else {
            tree.signal(Signal::TERM);
            assert_eq!(tree.wait(), ExitStatus::Code(7), "{}", tree.stderr());
        }
        assert!(tree.process("stranger").is_alive());
        tree.process("stranger").signal(Signal::KILL);
        tree.process("stranger").wait_end();
        // It has lost its parent to us.
        tree.process("stranger").reap();
        tree.assert_nothing_left();
    });
}

#[test]
fn without_proc_nothing_is_started() {
    let scene = Scene::new(users()[0]);
    if nix::unistd::geteuid().is_root() {
        let hide = ["unshare", "-m", "sh", "-c", "umount -l /proc && exec \"$@\"", "sh"];
        let tree = scene.fated(["run", "python3", "tree.py", "a"]).via(hide).start();
        assert_eq!(tree.wait(), ExitStatus::Code(125), "{}", tree.stderr());
        assert!(tree.stderr().contains("cannot find processes in /proc"), "{}", tree.stderr());
        assert_eq!(scene.lines(), Vec::<String>::new());
    } else {
        println!("skipped: only root can take /proc away");
    }
}
