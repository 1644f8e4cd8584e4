//! The shell around the core: start-up in order, then the loop. The only user of mio.
//!
//! Start-up: signals are blocked before anything else; the ties are taken while they can still be told apart from
//! strangers; inherited descriptors are closed; then the process becomes two, the guard and the supervisor, before any
//! poll set exists.

mod event_loop;
mod executor;
mod helpers;
mod kin;
pub mod log_buffer;
mod notify;
mod output;
mod probe;
mod processes;
mod queues;
mod runtime_dir;
mod source;
mod terminal;
mod ties;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use mio::Poll;

use self::event_loop::Shell;
use self::kin::Kin;
use self::notify::Notify;
use self::output::Outputs;
use self::probe::Probes;
use self::processes::Processes;
use self::queues::Queues;
use self::source::{Ready, Source};
use self::terminal::Terminal;
use self::ties::Ties;
use crate::exit::Verdict;
use crate::guard::{self, Guard};
use crate::signal::Signal;
use crate::spawn::Spawner;
use crate::spec::{Door, Output, ProcessSpec, Readiness, TreeSpec};
use crate::start::Errno;
use crate::supervisor::Supervisor;
use crate::supervisor::event::Tie;
use crate::sys::pidfd::{self, Fork};
use crate::sys::signalfd::{self, SignalFd};
use crate::sys::timerfd::TimerFd;
use crate::sys::{clock, entry, fd, process, procfs, stdio};

/// What the tree is tied to and how fated itself runs; everything else is in the `TreeSpec`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether the launcher's end ends the tree. `None`: yes, unless SIGHUP was ignored when fated was started.
    pub die_with_parent: Option<bool>,
    pub watch_pids: Vec<u32>,
    pub watch_fds: Vec<RawFd>,
    /// Two processes instead of one, where that has a use.
    pub guard: bool,
}

/// Why no tree was started: a sentence.
#[derive(Debug)]
pub struct StartupError(String);

impl core::fmt::Display for StartupError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for StartupError {}

fn cannot(what: impl core::fmt::Display) -> impl FnOnce(io::Error) -> StartupError {
    move |error| match error.raw_os_error() {
        Some(errno) => StartupError(format!("cannot {what}: {}", Errno(errno))),
        None => StartupError(format!("cannot {what}: {error}")),
    }
}

/// Runs a tree to its end. Returns once in the process that the launcher knows; in the supervisor, where that is
/// another one, never.
///
/// # Errors
/// Nothing was started.
pub fn run(spec: TreeSpec, options: &Options) -> Result<Verdict, StartupError> {
    signalfd::block_all().map_err(cannot("block signals"))?;
    entry::restore_sigchld();
    let ties = take_ties(options)?;
    procfs::check_usable().map_err(cannot("find processes in /proc"))?;
    // A script can leave children behind and then exec us: they are not ours to end.
    let strangers = procfs::children_now().map_err(cannot("find processes in /proc"))?;
    crate::sys::prctl::set_subreaper().map_err(cannot("become a subreaper"))?;
    let terminal = Terminal::new();
    if !options.guard || process::is_main_process_of_its_manager() {
        return supervise(spec, ties, terminal, None, strangers);
    }
    let myself =
        pidfd::open_self().map_err(cannot("open a descriptor of this process (Linux 5.10 or later is needed)"))?;
    let (verdict_read, verdict_write) = fd::pipe().map_err(cannot("make a pipe"))?;
    match process::fork().map_err(cannot("create the supervisor"))? {
        Fork::Parent { pid, pidfd } => {
            drop(verdict_write);
            let launcher = ties.launcher;
            drop(ties.others);
            let guard = Guard {
                supervisor: pidfd,
                supervisor_pid: pid,
                launcher,
                terminal: terminal.into_tty(),
                verdict: verdict_read,
                ignored: entry::ignored_at_entry(),
                strangers: strangers.into_iter().map(|(pid, _)| pid).collect(),
            };
            guard::watch(guard).map_err(cannot("watch the supervisor"))
        }
        Fork::Child => {
            drop(verdict_read);
            let verdict = supervise(spec, ties, terminal, Some(myself), Vec::new()).unwrap_or_else(|error| {
                log::error!("{error}");
                Verdict::FAILED
            });
            log_buffer::flush();
            guard::leave(&verdict_write, verdict)
        }
    }
}

/// Ties as they are taken at entry. Both the guard and the supervisor watch the launcher.
struct EntryTies {
    launcher: Option<OwnedFd>,
    others: Ties,
}

/// A descriptor to watch. The standard streams stay where they are, for the command.
fn take_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    match number {
        0 => fd::duplicate_from(stdio::stdin(), fd::LOW_END),
        1 => fd::duplicate_from(stdio::stdout(), fd::LOW_END),
        2 => fd::duplicate_from(stdio::stderr(), fd::LOW_END),
        _ => fd::inherited(number),
    }
}

fn take_ties(options: &Options) -> Result<EntryTies, StartupError> {
    let mut others = Ties::default();
    let mut taken = Vec::new();
    // Before any descriptor of our own exists: a number on the command line must not name one of those.
    let mut numbers = options.watch_fds.clone();
    numbers.sort_unstable();
    numbers.dedup();
    for number in &numbers {
        let descriptor = take_descriptor(*number).map_err(cannot(format!("watch descriptor {number}")))?;
        taken.push((*number, descriptor));
    }
    let keep: Vec<RawFd> = taken.iter().map(|(_, descriptor)| descriptor.as_raw_fd()).collect();
    fd::close_inherited(&keep).map_err(cannot("close inherited descriptors"))?;
    for (number, descriptor) in taken {
        others.add(Tie::Descriptor { fd: number }, descriptor);
    }
    let ignores_hangup = entry::ignored_at_entry().contains(&Signal::HUP);
    let mut launcher = None;
    if options.die_with_parent.unwrap_or(!ignores_hangup) {
        match process::open_launcher().map_err(cannot("watch the launcher"))? {
            process::Launcher::Watched { pid, pidfd } => {
                launcher = Some(pidfd.try_clone().map_err(cannot("watch the launcher"))?);
                others.add(Tie::Launcher { pid }, pidfd);
            }
            process::Launcher::None => log::debug!("there is no launcher to watch"),
        }
    }
    for pid in &options.watch_pids {
        others.add_pid(*pid).map_err(cannot(format!("watch process {pid}")))?;
    }
    Ok(EntryTies { launcher, others })
}

fn supervise(
    spec: TreeSpec,
    ties: EntryTies,
    terminal: Terminal,
    guard: Option<OwnedFd>,
    strangers: Vec<(u32, u64)>,
) -> Result<Verdict, StartupError> {
    let mut ties = ties.others;
    if let Some(guard) = &guard {
        // One Ctrl-C arrives once: at the guard, which passes it on.
        process::leave_group().map_err(cannot("leave the process group"))?;
        crate::sys::prctl::set_subreaper().map_err(cannot("become a subreaper"))?;
        let _ = crate::sys::prctl::set_name(c"fated:super");
        ties.add(Tie::Guard, guard.try_clone().map_err(cannot("watch the guard"))?);
    }
    let limit = fd::raise_limit().map_err(cannot("raise the limit on descriptors"))?;
    let room = room_for_starts(&spec, limit.hard)?;
    let queues = Queues::open(&spec.queues).map_err(StartupError)?;
    let myself =
        pidfd::open_self().map_err(cannot("open a descriptor of this process (Linux 5.10 or later is needed)"))?;
    let signals = SignalFd::new().map_err(cannot("receive signals"))?;
    let timer = TimerFd::new().map_err(cannot("make a timer"))?;
    let poll = Poll::new().map_err(cannot("make a poll set"))?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(cannot("open /dev/null"))?;
    let outputs = Outputs::new(spec.nodes.iter().map(|node| node.path.clone()).collect());
    let watch = |fd, source| event_loop::watch(&poll, fd, source).map_err(cannot("watch a descriptor"));
    watch(signals.as_fd(), Source::Signals)?;
    watch(timer.as_fd(), Source::Timer)?;
    for (index, descriptor) in ties.descriptors() {
        watch(descriptor, Source::Tie(index))?;
    }
    for index in [0, 1] {
        if let Some(sink) = outputs.sink_fd(index) {
            match event_loop::watch_room(&poll, sink, Source::Sink(index)) {
                // A device such as /dev/null cannot be watched: it always has room.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                watched => watched.map_err(cannot("watch stdout"))?,
            }
        }
    }
    let now = clock::now();
    let unique = format!("{}.{}", std::process::id(), now.as_nanos());
    let id_prefix = format!("{unique}.");
    let notify = open_notify(&spec, &unique)?;
    if let Some(notify) = &notify {
        watch(notify.as_fd(), Source::Notify)?;
    }
    let is_run = matches!(spec.door, Door::Run(_));
    let shell = Shell {
        spawner: Spawner::new(fd::raise(myself)),
        core: Supervisor::new(spec, now.as_nanos() ^ u64::from(std::process::id()), now),
        poll,
        processes: Processes::default(),
        kin: Kin::new(id_prefix, is_run, strangers),
        queues,
        outputs,
        notify,
        probes: Probes::default(),
        ties,
        terminal,
        signals,
        timer,
        armed: None,
        guard,
        null: fd::raise(null.into()),
        descriptor_limit: Some(limit),
        ignored: entry::ignored_at_entry(),
        seeking_strays: false,
        waiting: VecDeque::new(),
        in_flight_max: room,
        looked: None,
        look_again: None,
        suspended: false,
        ready: Ready::default(),
        verdict: None,
        leave_by: None,
    };
    shell.run().map_err(cannot("wait for events"))
}

/// The socket that processes talk to, if any has something to say.
fn open_notify(spec: &TreeSpec, unique: &str) -> Result<Option<Notify>, StartupError> {
    let wanted = spec.processes().any(|(_, process)| process.notifies());
    wanted.then(|| Notify::open(unique).map_err(cannot("make the socket for notifications"))).transpose()
}

/// How many starts may be under way at once, by the descriptors that the tree leaves free.
///
/// # Errors
/// Said before anything is started: the tree does not fit into the limit.
fn room_for_starts(spec: &TreeSpec, limit: u64) -> Result<usize, StartupError> {
    // Poll set, signals, timer, ties, sinks, what the runtime holds.
    const ALWAYS: u64 = 64;
    // The pidfd's copy, the report, the targets that are not there yet.
    const A_START: u64 = 12;
    const STARTS_MAX: u64 = 1024;
    let pipes = |output: &Output| u64::from(*output == Output::Prefix);
    // The pipe or connection that tells of readiness.
    let probe =
        |process: &ProcessSpec| u64::from(matches!(process.ready, Readiness::Descriptor(_) | Readiness::Tcp(_)));
    let of = |process: &ProcessSpec| 1 + pipes(&process.stdout) + pipes(&process.stderr) + probe(process);
    let needed: u64 = spec.processes().map(|(_, process)| of(process)).sum();
    let queues = 2 * spec.queues.len() as u64;
    let a_start = A_START + queues;
    let needed = needed + queues + ALWAYS;
    let free = limit.saturating_sub(needed);
    if free < a_start {
        return Err(StartupError(format!(
            "cannot run {} processes: they need {} descriptors and the hard limit (ulimit -Hn) is {limit}; raise it, or set \
             stdout and stderr to null or inherit",
            spec.processes().count(),
            needed + a_start
        )));
    }
    Ok((free / a_start).min(STARTS_MAX) as usize)
}
