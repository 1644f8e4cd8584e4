//! What /proc says about processes: who is whose child, and which process a found one is.
//!
//! Nothing in /proc is a snapshot. A walk can miss a process that is created or reparented while it runs; who must find
//! everything walks until two walks agree.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};

use super::pidfd;
use crate::signal::Signal;

/// How many processes one walk finds at most.
pub const FOUND_MAX: usize = 100_000;

/// How much of an environment is looked at, in bytes.
const ENVIRON_MAX: u64 = 1 << 20;

/// A process as /proc/PID/stat describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcStat {
    pub ppid: u32,
    pub pgrp: u32,
    pub session: u32,
    /// `R`, `S`, `D`, `T`, `Z` and so on, as in proc(5).
    pub state: char,
    pub threads: u32,
    /// In clock ticks since boot; together with the number it names one process for good.
    pub starttime: u64,
}

impl ProcStat {
    /// Whether there is something to signal: a zombie has ended, unless other threads outlive its first.
    pub fn is_alive(&self) -> bool {
        match self.state {
            'Z' => self.threads > 1,
            'X' | 'x' => false,
            _ => true,
        }
    }
}

/// A process that a walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub pid: u32,
    pub stat: ProcStat,
}

/// The process of that number; `None` where there is none.
pub fn stat(pid: u32) -> Option<ProcStat> {
    // Long enough for the name's 16 bytes and every number at its largest up to the start time.
    let mut buffer = [0; 1024];
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut buffer).ok()?;
    parse_stat(&buffer[..length])
}

/// Reads a line of /proc/PID/stat. Allocates nothing.
pub(super) fn parse_stat(line: &[u8]) -> Option<ProcStat> {
    // The name stands in parentheses and may hold anything, parentheses too: the fields begin after the last one.
    let end = line.iter().rposition(|byte| *byte == b')')?;
    let mut fields = core::str::from_utf8(line.get(end + 1..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let ppid = fields.next()?.parse().ok()?;
    let pgrp = fields.next()?.parse().unwrap_or(0);
    let session = fields.next()?.parse().unwrap_or(0);
    // Fields 7 to 19 lie before the number of threads, one before the start time.
    let threads = fields.nth(13)?.parse().ok()?;
    let starttime = fields.nth(1)?.parse().ok()?;
    Some(ProcStat { ppid, pgrp, session, state, threads, starttime })
}

/// Our own children, zombies among them.
///
/// # Errors
/// /proc cannot be read.
pub fn children_of_self() -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    Reader::new()?.children(std::process::id(), &mut children);
    Ok(children)
}

/// Appends the children of a process, of all of its threads; nothing where it has gone.
///
/// # Errors
/// /proc cannot be read.
pub fn children_of(pid: u32, children: &mut Vec<u32>) -> io::Result<()> {
    Reader::new()?.children(pid, children);
    Ok(())
}

/// All living descendants of the roots, breadth first, the roots themselves not among them; at most `FOUND_MAX`.
///
/// # Errors
/// /proc cannot be read.
pub fn walk(roots: impl IntoIterator<Item = u32>) -> io::Result<Vec<Found>> {
    let mut reader = Reader::new()?;
    let mut queue: Vec<u32> = roots.into_iter().collect();
    let mut seen: HashSet<u32> = queue.iter().copied().collect();
    let mut found = Vec::new();
    let mut next = 0;
    while next < queue.len() && queue.len() < FOUND_MAX {
        let known = queue.len();
        let parent = queue[next];
        reader.children(parent, &mut queue);
        next += 1;
        // A number that is reused while we walk could lead in a circle.
        let fresh: Vec<u32> = queue.drain(known..).filter(|pid| seen.insert(*pid)).collect();
        for pid in fresh {
            queue.push(pid);
            if let Some(stat) = stat(pid).filter(ProcStat::is_alive) {
                found.push(Found { pid, stat });
            }
        }
    }
    Ok(found)
}

/// Sends a signal to a process that a walk found; `false` where it has gone meanwhile, whoever has its number now.
///
/// # Errors
/// EPERM: it is not ours to signal; EMFILE and the like.
pub fn signal_found(found: &Found, signal: Signal) -> io::Result<bool> {
    pidfd::signal_checked(found.pid, signal, || {
        stat(found.pid).is_some_and(|now| now.starttime == found.stat.starttime)
    })
}

/// The value that a variable had when the process was executed.
pub fn environ_value(pid: u32, name: &str) -> Option<Vec<u8>> {
    let environ = environ(pid)?;
    let value = |entry: &[u8]| Some(entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec());
    environ.split(|byte| *byte == 0).find_map(value)
}

/// Where in the kernel a process waits; `None` where it does not, or the kernel does not tell.
pub fn wchan(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/wchan")).ok().filter(|name| !name.is_empty() && name != "0")
}

/// A process in words: `process 4711 (postgres) is in state D, in nfs_wait_on_request`.
pub fn describe(found: &Found) -> String {
    let name = comm(found.pid).unwrap_or_else(|| "?".to_owned());
    let place = wchan(found.pid).map(|place| format!(", in {place}")).unwrap_or_default();
    format!("process {} ({name}) is in state {}{place}", found.pid, found.stat.state)
}

/// Refuses a /proc that does not show processes as we need them: it is not mounted, or hides them.
///
/// # Errors
/// What could not be read.
pub fn check_usable() -> io::Result<()> {
    let own = std::process::id();
    match (stat(own), lists_children()) {
        (Some(_), true) => Ok(()),
        (Some(_), false) => fs::read_dir("/proc").map(drop),
        (None, _) => Err(io::Error::other("it does not show this process; is it mounted?")),
    }
}

/// Our children as they are now, by number and start time.
///
/// # Errors
/// /proc cannot be read.
pub fn children_now() -> io::Result<Vec<(u32, u64)>> {
    Ok(children_of_self()?.into_iter().filter_map(|pid| Some((pid, stat(pid)?.starttime))).collect())
}

/// The name of its program, up to 15 bytes.
pub fn comm(pid: u32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned())
}

fn environ(pid: u32) -> Option<Vec<u8>> {
    let mut environ = Vec::new();
    File::open(format!("/proc/{pid}/environ")).ok()?.take(ENVIRON_MAX).read_to_end(&mut environ).ok()?;
    Some(environ)
}

/// Whether the kernel lists children (CONFIG_PROC_CHILDREN).
pub(super) fn lists_children() -> bool {
    fs::exists("/proc/thread-self/children").unwrap_or(false)
}

/// Finds children for the length of one walk.
enum Reader {
    /// The kernel lists them; the buffer is reused.
    Listed(String),
    /// It does not: the parent of every process, read once.
    Scanned(HashMap<u32, Vec<u32>>),
}

impl Reader {
    fn new() -> io::Result<Self> {
        if lists_children() { Ok(Self::Listed(String::new())) } else { Self::scan() }
    }

    fn scan() -> io::Result<Self> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for pid in numbers_in("/proc")? {
            if let Some(stat) = stat(pid) {
                children.entry(stat.ppid).or_default().push(pid);
            }
        }
        Ok(Self::Scanned(children))
    }

    fn children(&mut self, pid: u32, found: &mut Vec<u32>) {
        match self {
            Self::Listed(buffer) => {
                for thread in numbers_in(&format!("/proc/{pid}/task")).into_iter().flatten() {
                    buffer.clear();
                    let list = File::open(format!("/proc/{pid}/task/{thread}/children"));
                    // A thread that has gone meanwhile has handed its children on: the next walk finds them.
                    if list.is_ok_and(|mut list| list.read_to_string(buffer).is_ok()) {
                        found.extend(buffer.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
                    }
                }
            }
            Self::Scanned(children) => found.extend(children.get(&pid).into_iter().flatten()),
        }
    }
}

fn numbers_in(directory: &str) -> io::Result<impl Iterator<Item = u32> + use<>> {
    Ok(fs::read_dir(directory)?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A shell that waits for its child, which has a session of its own and waits for input.
    fn family() -> (Child, u32) {
        // A background command of a shell without job control reads /dev/null, unless told otherwise.
        let script = "exec 3<&0; setsid sh -c 'echo $$; read x; exit' <&3 & wait";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .env("FATED_ID", "family-1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let child = line.trim().parse().unwrap();
        (shell, child)
    }

    #[test]
    fn a_line_of_stat_is_read_whatever_the_name() {
        let line = b"7 (a) R 1 (x) S 1 2 3 0 -1 4 5 6 7 8 9 10 11 12 20 0 3 0 4711 99 1\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.ppid, stat.pgrp, stat.session, stat.state), (1, 2, 3, 'S'));
        assert_eq!((stat.threads, stat.starttime), (3, 4711));
        for bad in [&b""[..], b"7 (a", b"7 (a)", b"7 (a) S 1", b"7 (\xff) \xff"] {
            assert_eq!(parse_stat(bad), None);
        }
    }

    #[test]
    fn our_own_stat_is_ours() {
        let own = stat(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert_eq!(own.ppid, std::os::unix::process::parent_id());
        assert_eq!(stat(u32::MAX), None);
    }

    #[test]
    fn a_walk_finds_what_left_the_session_and_signals_that_alone() {
        let (mut shell, child) = family();
        assert!(children_of_self().unwrap().contains(&shell.id()));
        for reader in [Reader::new().unwrap(), Reader::scan().unwrap()] {
            let mut reader = reader;
            let mut children = Vec::new();
            reader.children(shell.id(), &mut children);
            assert_eq!(children, [child]);
        }
        let found = walk([shell.id()]).unwrap();
        assert_eq!(found.iter().map(|found| found.pid).collect::<Vec<_>>(), [child]);
        assert_eq!(found[0].stat.session, child);
        assert_eq!(environ_value(child, "FATED_ID").as_deref(), Some(&b"family-1"[..]));
        assert_eq!(environ_value(child, "FATED"), None);
        assert_eq!(comm(child).as_deref(), Some("sh"));

        let mut stranger = found[0];
        stranger.stat.starttime += 1;
        assert!(!signal_found(&stranger, Signal::KILL).unwrap(), "another process has the number");
        assert!(signal_found(&found[0], Signal::KILL).unwrap());
        shell.wait().unwrap();
        assert!(!signal_found(&found[0], Signal::KILL).unwrap());
        assert_eq!(walk([shell.id()]).unwrap(), []);
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = Command::new("true").spawn().unwrap();
        let pidfd = pidfd::open(child.id()).unwrap();
        let bound = Some(crate::time::Duration::from_secs(20));
        crate::sys::fd::wait_readable(std::os::fd::AsFd::as_fd(&pidfd), bound).unwrap();
        assert!(!stat(child.id()).unwrap().is_alive());
        assert!(!walk([std::process::id()]).unwrap().iter().any(|found| found.pid == child.id()));
        child.wait().unwrap();
    }
}
