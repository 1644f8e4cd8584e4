//! fated on a real terminal, below shells with and without job control, and without the terminal it was started on.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Instant;

use fated::signal::Signal;
use fated::sys::fd;
use nix::libc;

use crate::common::{BOUND, Scene, User, Watched, in_parallel, outlives, users, wait_until};
use crate::support;

/// A command on a pseudo-terminal of its own, as its session leader.
struct Terminal {
    master: File,
    child: Child,
    /// What it showed since the last `expect`.
    seen: Vec<u8>,
}

impl Terminal {
    fn new(scene: &Scene, program: &str, args: &[&str]) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut command = support::on_scene(scene, Command::new(program), args);
        command.env("PS1", "$ ").env("TERM", "dumb").env("FATED", scene.program());
        let slave = File::from(pty.slave);
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let master = pty.master.as_raw_fd();
        let lead = move || {
            // SAFETY: system calls without pointers alone.
            unsafe {
                libc::close(master);
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes system calls alone.
        unsafe { command.pre_exec(lead) };
        let child = command.spawn().unwrap();
        Self { master: pty.master.into(), child, seen: Vec::new() }
    }

    /// A shell with job control.
    fn bash(scene: &Scene) -> Self {
        let mut terminal = Self::new(scene, "bash", &["--norc", "--noprofile", "--noediting", "-i"]);
        terminal.expect("$ ");
        terminal
    }

    fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until this is shown; forgets what was shown up to its end.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + BOUND;
        loop {
            if let Some(at) = self.seen.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let mut buffer = [0; 4096];
            let ready = fd::wait_readable(self.master.as_fd(), Some(left)).unwrap();
            match if ready { self.master.read(&mut buffer) } else { Ok(0) } {
                // EIO: everyone has left the terminal.
                Ok(0) | Err(_) => panic!("{text:?} was not shown, but {:?}", String::from_utf8_lossy(&self.seen)),
                Ok(length) => self.seen.extend_from_slice(&buffer[..length]),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Counts interrupts, echoes lines, leaves with status 7 at `q`. What it shows is never what was typed.
const COMMAND: &str = "
import os, select, signal, sys
def announce(name):
    out = os.open(os.environ['TEST_SCENE'] + '/announce', os.O_WRONLY)
    os.write(out, f'{name} {os.getpid()}\\n'.encode())
read, write = os.pipe()
os.set_blocking(write, False)
signal.set_wakeup_fd(write)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: None)
name = sys.argv[1]
count = 0
announce(name)
print('foreground', os.isatty(1) and os.tcgetpgrp(1) == os.getpgrp(), flush=True)
while True:
    for ready in select.select([0, read] if os.isatty(0) else [read], [], [])[0]:
        if ready == read:
            os.read(read, 1)
            count += 1
            # A second one of the same keystroke would be here very soon.
            while select.select([read], [], [], 0.3)[0]:
                os.read(read, 1)
                count += 1
            print(name, 'interrupts:', count, flush=True)
            if name != 'command':
                sys.exit(0)
        else:
            line = sys.stdin.readline().strip()
            if line == 'q':
                sys.exit(7)
            print(f'<{line}>', flush=True)
";

fn scene(user: User) -> Scene {
    let scene = Scene::new(user);
    scene.write("command.py", COMMAND);
    scene
}

/// A `sh` as people's scripts and `xterm -e` have it: without job control, so that it never moves the terminal.
const SCRIPT: &str = "$FATED run -- python3 command.py command; echo status $?; read line; echo \"[$line]\"";

#[test]
fn a_command_has_the_terminal_and_gets_one_interrupt() {
    in_parallel(users(), |user| {
        let scene = scene(*user);
        let mut terminal = Terminal::bash(&scene);
        terminal.send("$FATED run python3 command.py command\n");
        terminal.expect("foreground True");
        for count in 1..=3 {
            terminal.send("\x03");
            terminal.expect(&format!("command interrupts: {count}\r\n"));
        }
        terminal.send("typed\n");
        terminal.expect("<typed>");
        terminal.send("q\n");
        terminal.expect("$ ");
        terminal.send("echo status=$?\n");
        terminal.expect("status=7");
        terminal.send("exit\n");
        assert!(support::ended(&mut terminal.child).success());
        assert_eq!(scene.survivors(), Vec::<String>::new());
    });
}

#[test]
fn the_terminal_is_given_back_to_a_script() {
    let cells: Vec<_> = ["leaves", "command killed", "supervisor killed", "guard killed"]
        .into_iter()
        .flat_map(|how| users().into_iter().map(move |user| (user, how)))
        .collect();
    in_parallel(cells, |(user, how)| {
        let scene = scene(*user);
        let mut terminal = Terminal::new(&scene, "sh", &["-c", SCRIPT]);
        terminal.expect("foreground True");
        let command = scene.announced("command").unwrap();
        let supervisor = Watched::open("supervisor", command.ppid().unwrap());
        let guard = Watched::open("guard", supervisor.ppid().unwrap());
        match *how {
            "leaves" => {
                terminal.send("q\n");
                terminal.expect("status 7");
            }
            "command killed" => {
                command.signal(Signal::KILL);
                terminal.expect("status 137");
            }
            "supervisor killed" => {
                supervisor.signal(Signal::KILL);
                terminal.expect("status 137");
            }
            _ => {
                // The shell goes on at once, the supervisor stops the tree meanwhile; the command knows no SIGTERM.
                guard.signal(Signal::KILL);
                guard.wait_end();
                command.signal(Signal::KILL);
                supervisor.wait_end();
                terminal.expect("status 137");
                return;
            }
        }
        terminal.send("typed\n");
        terminal.expect("[typed]");
        assert!(support::ended(&mut terminal.child).success());
        assert_eq!(scene.survivors(), Vec::<String>::new());
    });
}

#[test]
fn a_stop_key_stops_fated_and_fg_continues_it() {
    in_parallel(users(), |user| {
        let scene = scene(*user);
        let mut terminal = Terminal::bash(&scene);
        terminal.send("$FATED run python3 command.py command\n");
        terminal.expect("foreground True");
        let command = scene.announced("command").unwrap();
        for round in ["one", "two"] {
            terminal.send("\x1a");
            terminal.expect("Stopped");
            terminal.expect("$ ");
            assert_eq!(command.state(), Some('T'));
            terminal.send("echo $((40 + 2))\n");
            terminal.expect("42");
            terminal.send("fg\n");
            terminal.expect("python3 command.py command\r\n");
            terminal.send(&format!("{round}\n"));
            terminal.expect(&format!("<{round}>"));
        }
        terminal.send("q\n");
        terminal.expect("$ ");
        terminal.send("echo status=$?\n");
        terminal.expect("status=7");
    });
}

#[test]
fn a_command_started_in_the_background_has_the_terminal_after_fg() {
    in_parallel(users(), |user| {
        let scene = scene(*user);
        let mut terminal = Terminal::bash(&scene);
        // It reads at once and is stopped for that, as any job would be.
        terminal.send("$FATED run cat &\n");
        terminal.expect("$ ");
        terminal.send("until jobs | grep Stopp; do :; done; echo $((40 + 2))\n");
        terminal.expect("42");
        terminal.send("fg\n");
        terminal.expect("run cat\r\n");
        terminal.send("typed\n");
        terminal.expect("typed\r\ntyped\r\n");
        terminal.send("\x04");
        terminal.expect("$ ");
        terminal.send("echo status=$?\n");
        terminal.expect("status=0");
    });
}

#[test]
fn a_command_in_a_pipeline_leaves_the_terminal_to_its_neighbour() {
    in_parallel(users(), |user| {
        let scene = scene(*user);
        let mut terminal = Terminal::bash(&scene);
        terminal.send("$FATED run sh -c 'echo data; exec sleep 1' | sh -c 'read x; read y </dev/tty; echo $x-$y'\n");
        terminal.send("typed\n");
        terminal.expect("data-typed");
        terminal.expect("$ ");
    });
}

const TREE: &str = "
    [process.a]
    command = 'python3 command.py a.${FATED_INSTANCE}'
    instances = 3
    stop_signal = 'INT'
";

#[test]
fn one_interrupt_reaches_every_process_of_a_tree_once() {
    in_parallel(users(), |user| {
        let scene = scene(*user);
        scene.write("tree.toml", TREE);
        let mut terminal =
            Terminal::new(&scene, "sh", &["-c", "trap : INT; $FATED up tree.toml 2>told; echo status $?"]);
        wait_until("all run", || (1..=3).all(|n| scene.announced(&format!("a.{n}")).is_some()));
        terminal.send("\x03");
        terminal.expect("status 130");
        let told = scene.read("told");
        assert!(told.contains("interrupted (SIGINT); 3 processes stopped"), "{told}");
        assert!(!told.contains("shortened"), "a second one would have shortened the timeouts: {told}");
    });
}

#[test]
fn every_process_of_a_tree_counts_one_interrupt() {
    let scene = scene(users()[0]);
    scene.write("tree.toml", TREE);
    let mut terminal = Terminal::new(&scene, "sh", &["-c", "trap : INT; $FATED up tree.toml >out; echo status $?"]);
    wait_until("all run", || (1..=3).all(|n| scene.announced(&format!("a.{n}")).is_some()));
    terminal.send("\x03");
    terminal.expect("status 130");
    let out = scene.read("out");
    for n in 1..=3 {
        assert!(out.contains(&format!("a.{n} interrupts: 1\n")), "{out}");
        assert!(out.contains(&format!("a.{n} | foreground False\n")), "{out}");
    }
}

#[test]
fn a_stop_key_stops_a_whole_tree() {
    in_parallel(users(), |user| {
        let scene = scene(*user);
        scene.write("tree.toml", TREE);
        let mut terminal = Terminal::bash(&scene);
        terminal.send("$FATED up tree.toml 2>told\n");
        wait_until("all run", || (1..=3).all(|n| scene.announced(&format!("a.{n}")).is_some()));
        let members: Vec<_> = (1..=3).map(|n| scene.announced(&format!("a.{n}")).unwrap()).collect();
        terminal.send("\x1a");
        terminal.expect("Stopped");
        terminal.expect("$ ");
        wait_until("the tree stands still", || members.iter().all(|member| member.state() == Some('T')));
        terminal.send("fg\n");
        wait_until("it runs again", || members.iter().all(|member| member.state() == Some('S')));
        terminal.send("\x03");
        terminal.expect("$ ");
        terminal.send("echo status=$?\n");
        terminal.expect("status=130");
    });
}

#[test]
fn with_nohup_a_tree_survives_its_shell_and_its_terminal() {
    in_parallel(users(), |user| {
        let scene = Scene::new(*user);
        scene.write("tree.toml", "[process.a]\ncommand = 'python3 tree.py a USR1=note'\n");
        let mut terminal = Terminal::bash(&scene);
        terminal.send("nohup $FATED up tree.toml >/dev/null 2>told &\n");
        wait_until("it runs", || scene.announced("a").is_some());
        let a = scene.announced("a").unwrap();
        let supervisor = Watched::open("supervisor", a.ppid().unwrap());
        let guard = Watched::open("guard", supervisor.ppid().unwrap());
        terminal.send("exit\n");
        terminal.send("exit\n");
        assert!(support::ended(&mut terminal.child).success());
        // With the last descriptor of it the terminal itself goes, and hangs up on everyone.
        drop(terminal);
        assert!(outlives(&a, std::time::Duration::from_millis(500)), "{}", scene.read("told"));
        a.signal(Signal::USR1);
        wait_until("it answers", || scene.announced("a!USR1").is_some());
        guard.signal(Signal::TERM);
        guard.wait_end();
        assert!(a.has_ended() && supervisor.has_ended());
        let told = scene.read("told");
        assert!(told.contains("SIGTERM asked for it"), "{told}");
        guard.reap();
    });
}
