//! fated under test: how it is started, its own processes, and its end.

use std::cell::{Cell, OnceCell};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::rc::Rc;
use std::time::Instant;

use fated::exit::ExitStatus;
use fated::signal::Signal;
use fated::sys::{fd, procfs};

use super::{BOUND, MARK, Scene, Watched, wait_until};

/// The signals whose disposition a test must not inherit from whoever runs the tests.
const RESET: [Signal; 9] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
];

/// What is to be started.
pub struct Fated<'s> {
    scene: &'s Scene,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: PathBuf,
    ignored: Vec<Signal>,
    by_launcher: bool,
    via: Vec<OsString>,
    stdin: Option<Stdio>,
}

impl<'s> Fated<'s> {
    pub(super) fn new<A: AsRef<OsStr>>(scene: &'s Scene, args: impl IntoIterator<Item = A>) -> Self {
        Self {
            scene,
            args: args.into_iter().map(|arg| arg.as_ref().to_owned()).collect(),
            env: Vec::new(),
            cwd: scene.dir.clone(),
            ignored: Vec::new(),
            by_launcher: false,
            via: Vec::new(),
            stdin: None,
        }
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = dir.into();
        self
    }

    /// Starts it with this signal ignored, as nohup does with SIGHUP.
    pub fn ignoring(mut self, signal: Signal) -> Self {
        self.ignored.push(signal);
        self
    }

    /// Starts it from a process that can be killed alone, `Running::launcher`.
    pub fn by_launcher(mut self) -> Self {
        self.by_launcher = true;
        self
    }

    /// Starts it by way of a program that executes its arguments, as `sh -c 'ulimit -c 0; exec "$@"' sh` does.
    pub fn via<A: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = A>) -> Self {
        self.via = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Its standard input; /dev/null unless said.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// Starts it; its output goes to the scene's files `stdout` and `stderr`.
    #[expect(clippy::zombie_processes, reason = "its status is taken by pidfd, in `wait` or at the end")]
    pub fn start(self) -> Running<'s> {
        let scene = self.scene;
        let (stdout, stderr) = (create(scene, "stdout"), create(scene, "stderr"));
        let mut words = self.via;
        if self.by_launcher {
            let launcher = [OsString::from("python3"), scene.path("launcher.py").into()];
            words.splice(0..0, launcher);
        }
        words.push(scene.program().into());
        words.extend(self.args);
        let mut command = Command::new(&words[0]);
        if self.by_launcher {
            command.stdout(Stdio::piped());
        } else {
            command.stdout(stdout).stderr(stderr);
        }
        command.args(&words[1..]).envs(self.env).env(MARK, &scene.dir).env_remove("RUST_LOG").current_dir(&self.cwd);
        command.stdin(self.stdin.unwrap_or_else(Stdio::null));
        if let Some(user) = scene.user.id() {
            command.uid(user).gid(user);
        }
        let ignored = self.ignored;
        let dispose = move || {
            for signal in RESET {
                let action = if ignored.contains(&signal) { nix::libc::SIG_IGN } else { nix::libc::SIG_DFL };
                // SAFETY: neither disposition runs any code; the signal exists.
                unsafe { nix::libc::signal(signal.number(), action) };
            }
            Ok(())
        };
        // SAFETY: the closure makes system calls alone and allocates nothing.
        unsafe { command.pre_exec(dispose) };
        // Reaped through its pidfd.
        let mut child = command.spawn().unwrap();
        let first = Rc::new(Watched::open("first", child.id()));
        let (launcher, fated) = match child.stdout.take() {
            None => (None, first),
            Some(stdout) => {
                let mut line = String::new();
                BufReader::new(stdout).read_line(&mut line).unwrap();
                let pid = line.trim().parse().expect("the launcher says the number of fated");
                (Some(first), Rc::new(Watched::open("fated", pid)))
            }
        };
        Running {
            scene,
            fated,
            launcher,
            supervisor: OnceCell::new(),
            status: Cell::new(None),
            stdin: child.stdin.take(),
        }
    }
}

fn create(scene: &Scene, name: &str) -> File {
    drop(scene.write(name, ""));
    std::fs::set_permissions(scene.path(name), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    File::options().append(true).open(scene.path(name)).unwrap()
}

/// A fated that was started. Whatever of it is left when this is dropped is killed.
pub struct Running<'s> {
    pub scene: &'s Scene,
    /// The process that the launcher knows: the guard, where there is one.
    pub fated: Rc<Watched>,
    launcher: Option<Rc<Watched>>,
    supervisor: OnceCell<Rc<Watched>>,
    status: Cell<Option<ExitStatus>>,
    /// Where a pipe was asked for.
    pub stdin: Option<ChildStdin>,
}

impl Running<'_> {
    pub fn guard(&self) -> &Rc<Watched> {
        &self.fated
    }

    pub fn launcher(&self) -> &Rc<Watched> {
        self.launcher.as_ref().expect("started by a launcher")
    }

    /// The guard's child.
    #[track_caller]
    pub fn supervisor(&self) -> &Rc<Watched> {
        self.supervisor.get_or_init(|| {
            let mut children = Vec::new();
            wait_until("there is a supervisor", || {
                children.clear();
                procfs::children_of(self.fated.pid, &mut children).unwrap();
                // It names itself; a script may have left other children to the guard.
                children.retain(|pid| procfs::comm(*pid).is_some_and(|name| name == "fated:super"));
                !children.is_empty()
            });
            Rc::new(Watched::open("supervisor", children[0]))
        })
    }

    /// Waits until each of these has announced itself as often as it is named.
    #[track_caller]
    pub fn expect<N: AsRef<str>>(&self, names: &[N]) {
        let deadline = Instant::now() + BOUND;
        let wanted = |name: &N| names.iter().filter(|other| other.as_ref() == name.as_ref()).count();
        loop {
            let ended = self.fated.has_ended();
            let missing: Vec<&str> = names
                .iter()
                .filter(|name| self.scene.heard(name.as_ref()) < wanted(name))
                .map(|name| name.as_ref())
                .collect();
            if missing.is_empty() {
                return;
            }
            assert!(!ended, "fated ended before {missing:?} announced themselves; it said:\n{}", self.stderr());
            assert!(
                Instant::now() < deadline,
                "{missing:?} did not announce themselves; fated said:\n{}",
                self.stderr()
            );
            self.scene.wait_for_news(self.fated.pidfd.as_ref().map(AsFd::as_fd), deadline);
        }
    }

    /// A process that has announced itself.
    #[track_caller]
    pub fn process(&self, name: &str) -> Rc<Watched> {
        self.expect(&[name]);
        self.scene.announced(name).unwrap()
    }

    /// Sends a signal to fated as its launcher would.
    pub fn signal(&self, signal: Signal) {
        self.fated.signal(signal);
    }

    /// Waits for fated's end; how it ended. Its launcher must be gone by then, or never have been.
    #[track_caller]
    pub fn wait(&self) -> ExitStatus {
        if let Some(status) = self.status.get() {
            return status;
        }
        let pidfd = self.fated.pidfd.as_ref().expect("fated lived when it was looked at");
        let ended = fd::wait_readable(pidfd.as_fd(), Some(BOUND)).unwrap();
        assert!(ended, "fated does not end; it said:\n{}\nleft: {:?}", self.stderr(), self.scene.survivors());
        let mut status = None;
        // Between its launcher's end and ours becoming its parent it can be nobody's for a moment.
        wait_until("fated can be reaped", || {
            status = self.fated.reap();
            status.is_some()
        });
        self.status.set(status);
        status.unwrap()
    }

    pub fn stderr(&self) -> String {
        self.scene.read("stderr")
    }

    pub fn stdout(&self) -> String {
        self.scene.read("stdout")
    }

    /// fated's sentence about the whole life of the tree, or the guard's about its end.
    pub fn last_word(&self) -> String {
        let is_last = |line: &&str| line.contains(" ended after ") || line.contains("; the guard ended ");
        self.stderr().lines().rfind(is_last).unwrap_or_default().to_owned()
    }

    /// Waits until fated has said this on stderr.
    #[track_caller]
    pub fn wait_for_word(&self, word: &str) {
        wait_until(&format!("fated says `{word}`"), || self.stderr().contains(word));
    }

    /// Nothing of the tree is there any more at this moment, and nothing was left unreaped.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let launcher = self.launcher.as_ref().map(|launcher| launcher.is_alive());
        assert_ne!(launcher, Some(true), "the launcher itself would be found");
        let (survivors, zombies) = (self.scene.survivors(), self.scene.zombies());
        assert!(survivors.is_empty(), "{survivors:?} survived; fated said:\n{}", self.stderr());
        assert!(zombies.is_empty(), "{zombies:?} were not reaped; fated said:\n{}", self.stderr());
    }

    /// Waits for the end and checks the status and that nothing is left.
    #[track_caller]
    pub fn assert_ends_with(&self, code: u8) {
        let status = self.wait();
        assert_eq!(status, ExitStatus::Code(code), "fated said:\n{}", self.stderr());
        self.assert_nothing_left();
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // The guard last: it would make a killed supervisor's end its own affair, which is what is wanted here.
        let own = [self.supervisor.get(), Some(&self.fated), self.launcher.as_ref()];
        for watched in own.into_iter().flatten() {
            watched.signal(Signal::KILL);
        }
        self.scene.end_everything();
        for watched in own.into_iter().flatten() {
            if watched.has_ended() {
                let _ = watched.reap();
            }
        }
    }
}
