//! The stage for tests with real processes.
//!
//! A `Scene` is a directory with a name that no other test has; `scene.fated([...]).start()` starts fated on it. The
//! environment of everything in the tree names the scene (`TEST_SCENE`), and every fixture *announces* itself by a line
//! `NAME PID` in the scene's FIFO `announce`, so that it is known by pidfd even after it has cleared its environment,
//! its session and its descriptors. What is still there when the scene is dropped is killed.
//!
//! The test process is a subreaper: a fated that has lost its launcher becomes our child, and its status ours to take.

#![allow(dead_code, unused_imports, reason = "each test target uses a part of this")]

mod running;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once, Weak};
use std::time::{Duration, Instant};

use fated::signal::Signal;
use fated::sys::{fd, pidfd, prctl, procfs, readiness};

pub use running::{Fated, Running};

/// How long anything may take on a loaded machine.
pub const BOUND: Duration = Duration::from_secs(30);

/// The variable that names the scene.
pub const MARK: &str = "TEST_SCENE";

/// A user that nobody else is.
const ORDINARY: u32 = 64123;

/// Fixtures that every scene holds a copy of, where any user can read it.
const FIXTURES: [(&str, &str); 2] =
    [("tree.py", include_str!("../fixtures/tree.py")), ("launcher.py", include_str!("../fixtures/launcher.py"))];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    Root,
    /// A user without any privilege; started by root.
    Ordinary,
    /// Whoever runs the tests, who is not root.
    Current,
}

impl User {
    /// The user to change to.
    fn id(self) -> Option<u32> {
        match self {
            Self::Root | Self::Current => None,
            Self::Ordinary => Some(ORDINARY),
        }
    }
}

/// Everyone whom the tests can be run as.
pub fn users() -> Vec<User> {
    static SAID: Once = Once::new();
    if nix::unistd::geteuid().is_root() {
        return vec![User::Root, User::Ordinary];
    }
    SAID.call_once(|| eprintln!("not run as root: the cells of root are left out"));
    vec![User::Current]
}

/// A directory, the announcements in it, and the end of everything that was started on it.
pub struct Scene {
    pub dir: PathBuf,
    pub user: User,
    program: Arc<Program>,
    announce: File,
    pending: RefCell<Vec<u8>>,
    lines: RefCell<Vec<String>>,
    announced: RefCell<BTreeMap<String, Rc<Watched>>>,
}

impl Scene {
    pub fn new(user: User) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        prctl::set_subreaper().unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("fated-scene-{}-{number}", std::process::id()));
        make_directory(&dir);
        for (name, text) in FIXTURES {
            write_readable(&dir.join(name), text);
        }
        let fifo = dir.join("announce");
        make_fifo(&fifo);
        Self {
            announce: open_both_ways(&fifo),
            program: Program::get(),
            dir,
            user,
            pending: RefCell::default(),
            lines: RefCell::default(),
            announced: RefCell::default(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file that every user can read.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        write_readable(&path, text);
        path
    }

    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// A FIFO that any user may read and write, held open on both sides: its readers wait until it is dropped.
    pub fn fifo(&self, name: &str) -> File {
        make_fifo(&self.path(name));
        open_both_ways(&self.path(name))
    }

    /// fated with these arguments; `start` starts it.
    pub fn fated<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Fated<'_> {
        Fated::new(self, args)
    }

    /// The binary under test, where the scene's user can execute it.
    pub fn program(&self) -> &Path {
        &self.program.0
    }

    /// `NAME=DIRECTORY`, as it stands in the environment of what was started on this scene.
    pub fn mark(&self) -> String {
        format!("{MARK}={}", self.dir.display())
    }

    /// The process that announced itself by this name, if it did.
    pub fn announced(&self, name: &str) -> Option<Rc<Watched>> {
        self.hear();
        self.announced.borrow().get(name).cloned()
    }

    /// Everyone who announced itself, by name.
    pub fn everyone(&self) -> Vec<Rc<Watched>> {
        self.hear();
        self.announced.borrow().values().cloned().collect()
    }

    /// How many lines `NAME PID` of this name were announced.
    pub fn heard(&self, name: &str) -> usize {
        self.hear();
        self.lines.borrow().iter().filter(|line| line.split(' ').next() == Some(name)).count()
    }

    /// All announced lines in their order.
    pub fn lines(&self) -> Vec<String> {
        self.hear();
        self.lines.borrow().clone()
    }

    /// Waits until an announcement comes or one of the processes ends; at most until `deadline`.
    fn wait_for_news(&self, other: Option<BorrowedFd<'_>>, deadline: Instant) -> [bool; 2] {
        let left = deadline.saturating_duration_since(Instant::now());
        readiness::poll_readable([Some(self.announce.as_fd()), other], Some(left)).unwrap()
    }

    fn hear(&self) {
        let mut pending = self.pending.borrow_mut();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = (&self.announce).read(&mut buffer) {
            pending.extend_from_slice(&buffer[..length]);
        }
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            if let Some((name, pid)) = line.split_once(' ')
                && let Ok(pid) = pid.parse()
            {
                let watched = Rc::new(Watched::open(name, pid));
                self.announced.borrow_mut().entry(name.to_owned()).or_insert(watched);
            }
            self.lines.borrow_mut().push(line);
        }
    }

    /// What of this scene still runs: all that announced itself, and all that has the scene in its environment.
    pub fn survivors(&self) -> Vec<String> {
        self.hear();
        let mut found: BTreeMap<u32, String> = BTreeMap::new();
        for watched in self.announced.borrow().values().filter(|watched| watched.is_alive()) {
            found.insert(watched.pid, watched.to_string());
        }
        for pid in self.marked() {
            let comm = procfs::comm(pid).unwrap_or_default();
            found.entry(pid).or_insert_with(|| format!("{comm} ({pid})"));
        }
        found.into_values().collect()
    }

    /// Announced processes that have ended and were not reaped.
    pub fn zombies(&self) -> Vec<String> {
        self.hear();
        let announced = self.announced.borrow();
        announced.values().filter(|watched| watched.is_zombie()).map(|watched| watched.to_string()).collect()
    }

    /// Living processes that have the scene in their environment.
    fn marked(&self) -> Vec<u32> {
        let mark = self.mark();
        let (name, value) = mark.split_once('=').expect("a variable");
        let has_mark = |pid: &u32| procfs::environ_value(*pid, name).is_some_and(|found| found == value.as_bytes());
        let lives = |pid: &u32| procfs::stat(*pid).is_some_and(|stat| stat.is_alive());
        all_pids().into_iter().filter(has_mark).filter(lives).collect()
    }

    fn end_everything(&self) {
        let deadline = Instant::now() + BOUND;
        loop {
            self.hear();
            let mut alive: Vec<Rc<Watched>> = self.announced.borrow().values().cloned().collect();
            alive.extend(self.marked().into_iter().map(|pid| Rc::new(Watched::open("", pid))));
            alive.retain(|watched| watched.is_alive());
            for watched in &alive {
                watched.signal(Signal::KILL);
            }
            match alive.first().and_then(|watched| watched.pidfd.as_ref()) {
                Some(pidfd) if Instant::now() < deadline => {
                    let _ = fd::wait_readable(pidfd.as_fd(), Some(Duration::from_secs(1)));
                }
                Some(_) | None => break,
            }
        }
        for watched in self.announced.borrow().values() {
            watched.reap();
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.end_everything();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A process that is known by descriptor from the time when it announced itself.
#[derive(Debug)]
pub struct Watched {
    pub name: String,
    pub pid: u32,
    /// `None`: it had gone already.
    pub pidfd: Option<OwnedFd>,
    starttime: Option<u64>,
}

impl Watched {
    pub fn open(name: &str, pid: u32) -> Self {
        let pidfd = pidfd::open(pid).ok();
        Self { name: name.to_owned(), pid, starttime: procfs::stat(pid).map(|stat| stat.starttime), pidfd }
    }

    pub fn has_ended(&self) -> bool {
        self.pidfd.as_ref().is_none_or(|pidfd| pidfd::has_exited(pidfd.as_fd()))
    }

    pub fn is_alive(&self) -> bool {
        !self.has_ended()
    }

    /// Ended, and nobody has taken its status.
    pub fn is_zombie(&self) -> bool {
        self.has_ended() && self.state() == Some('Z')
    }

    /// `R`, `S`, `T`, `Z` and so on; `None` once it is reaped.
    pub fn state(&self) -> Option<char> {
        let stat = procfs::stat(self.pid)?;
        (Some(stat.starttime) == self.starttime).then_some(stat.state)
    }

    pub fn ppid(&self) -> Option<u32> {
        procfs::stat(self.pid).filter(|stat| Some(stat.starttime) == self.starttime).map(|stat| stat.ppid)
    }

    /// Sends a signal; nothing happens where it has gone.
    pub fn signal(&self, signal: Signal) {
        if let Some(pidfd) = &self.pidfd {
            pidfd::send_signal(pidfd.as_fd(), signal).unwrap();
        }
    }

    /// Waits for its end.
    pub fn wait_end(&self) {
        if let Some(pidfd) = &self.pidfd {
            assert!(fd::wait_readable(pidfd.as_fd(), Some(BOUND)).unwrap(), "{self} does not end");
        }
    }

    /// Takes its status if it is our child and has ended.
    pub fn reap(&self) -> Option<fated::exit::ExitStatus> {
        let pidfd = self.pidfd.as_ref()?;
        pidfd::reap(pidfd.as_fd()).ok().flatten().map(|reaped| reaped.status)
    }
}

impl std::fmt::Display for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.pid)
    }
}

/// Looks every few milliseconds whether it is so, for what no descriptor tells.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    let (silent, _other_end) = fd::pipe().unwrap();
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        let _ = fd::wait_readable(silent.as_fd(), Some(Duration::from_millis(5)));
    }
}

/// Lets a span of time pass in which nothing is expected to happen to the process; whether it still lives.
pub fn outlives(watched: &Watched, span: Duration) -> bool {
    let pidfd = watched.pidfd.as_ref().unwrap();
    !fd::wait_readable(pidfd.as_fd(), Some(span)).unwrap()
}

/// Runs a test for every cell, a few at a time; all that failed are named.
pub fn in_parallel<C: Send + Sync + std::fmt::Debug>(cells: Vec<C>, test: impl Fn(&C) + Sync) {
    const WIDTH: usize = 4;
    let queue = Mutex::new(cells.iter());
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = queue.lock().unwrap().next();
            let Some(cell) = next else { return };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(cell))) {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                failed.lock().unwrap().push(format!("{cell:?}: {}", text.unwrap_or_default()));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WIDTH {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} cells failed:\n{}", failed.len(), cells.len(), failed.join("\n"));
}

fn all_pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The binary in a directory that every user can enter; removed with the last scene that uses it.
struct Program(PathBuf);

impl Program {
    fn get() -> Arc<Self> {
        static CURRENT: Mutex<(u32, Weak<Program>)> = Mutex::new((0, Weak::new()));
        let mut current = CURRENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(program) = current.1.upgrade() {
            return program;
        }
        current.0 += 1;
        let dir = std::env::temp_dir().join(format!("fated-program-{}-{}", std::process::id(), current.0));
        make_directory(&dir);
        let path = dir.join("fated");
        // By another process: a child that is forked meanwhile must not hold it open for writing when it is executed.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_fated")).arg(&path).status().unwrap();
        assert!(copied.success(), "cannot copy the binary");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let program = Arc::new(Self(path));
        current.1 = Arc::downgrade(&program);
        program
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(dir) = self.0.parent() {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

fn make_directory(dir: &Path) {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).unwrap();
    fs::set_permissions(dir, Permissions::from_mode(0o777)).unwrap();
}

fn make_fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
}

/// Never at its end, as it is its own writer.
fn open_both_ways(fifo: &Path) -> File {
    OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open(fifo).unwrap()
}

fn write_readable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
}
