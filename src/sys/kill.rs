//! The guard's last act: killing whatever is left, without memory of its own to allocate.
//!
//! One pass signals every child that it finds and looks below each for what an unkillable child could hide. What a
//! killed child leaves behind becomes our child, as we are its subreaper: the caller reaps and passes again until no
//! child is left.

use core::ffi::CStr;
use core::fmt::{self, Write};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use super::{fd, pidfd, procfs, retry};
use crate::signal::Signal;

/// How many processes one pass looks below.
const PARENTS_MAX: usize = 512;

/// Kills every living descendant that one pass finds, but for the children in `spared`; how many it found, those that it
/// may not kill among them. `buffer`, at least 64 bytes, is for reading /proc. Allocates nothing, unless the kernel lists no children: then the whole process table is read.
///
/// To be called by a process with a single thread that is a subreaper.
pub fn kill_children_of_self(buffer: &mut [u8], spared: &[u32]) -> usize {
    let mut parents = [0; PARENTS_MAX];
    let mut known = 0;
    let mut alive = 0;
    let own = std::process::id();
    let mut next = 0;
    let mut parent = own;
    let mut listed = false;
    loop {
        listed |= each_child(parent, buffer, |pid| {
            if parent == own && spared.contains(&pid) {
                return;
            }
            let sent = kill_child(pid, parent, own);
            alive += usize::from(!matches!(sent, Ok(false)));
            // Also below one that we may not signal; one that has gone has left its children to us.
            if !matches!(sent, Ok(false))
                && let Some(place) = parents.get_mut(known)
            {
                *place = pid;
                known += 1;
            }
        });
        if next == known {
            break;
        }
        parent = parents[next];
        next += 1;
    }
    if listed || procfs::lists_children() { alive } else { kill_walked(spared) }
}

/// The pass for a kernel that lists no children.
fn kill_walked(spared: &[u32]) -> usize {
    let mut children = procfs::children_of_self().unwrap_or_default();
    children.retain(|pid| !spared.contains(pid));
    let below = procfs::walk(children.iter().copied()).unwrap_or_default();
    let children = children.into_iter().filter_map(|pid| Some(procfs::Found { pid, stat: procfs::stat(pid)? }));
    let found = children.filter(|child| child.stat.is_alive()).chain(below);
    found.filter(|found| !matches!(procfs::signal_found(found, Signal::KILL), Ok(false))).count()
}

/// Kills a process if it lives and is, while we hold its pidfd, a child of `parent` or already of ours.
fn kill_child(pid: u32, parent: u32, own: u32) -> io::Result<bool> {
    let ours = || stat(pid).is_some_and(|stat| stat.is_alive() && (stat.ppid == parent || stat.ppid == own));
    pidfd::signal_checked(pid, Signal::KILL, ours)
}

/// Calls `found` for each child of a process's first thread, zombies too; whether the list could be read.
fn each_child(pid: u32, buffer: &mut [u8], mut found: impl FnMut(u32)) -> bool {
    let mut path = Path::new();
    let Some(list) = path.format(format_args!("/proc/{pid}/task/{pid}/children")).and_then(open) else {
        return false;
    };
    let mut number = 0_u32;
    // A number may be cut in two by the buffer's end; each is followed by a blank.
    while let Ok(length @ 1..) = fd::read(list.as_fd(), buffer) {
        for byte in buffer.get(..length).unwrap_or_default() {
            match byte {
                b'0'..=b'9' => number = number.wrapping_mul(10).wrapping_add(u32::from(byte - b'0')),
                _ if number != 0 => {
                    found(number);
                    number = 0;
                }
                _ => {}
            }
        }
    }
    true
}

fn stat(pid: u32) -> Option<procfs::ProcStat> {
    let mut path = Path::new();
    let file = open(path.format(format_args!("/proc/{pid}/stat"))?)?;
    let mut line = [0; 1024];
    let length = fd::read(file.as_fd(), &mut line).ok()?;
    procfs::parse_stat(line.get(..length)?)
}

fn open(path: &CStr) -> Option<OwnedFd> {
    // SAFETY: the path is a C string that outlives the call.
    let fd = retry(|| unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }).ok()?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A short path, made in place.
struct Path {
    bytes: [u8; 64],
    length: usize,
}

impl Path {
    fn new() -> Self {
        Self { bytes: [0; 64], length: 0 }
    }

    /// `None` where it does not fit.
    fn format(&mut self, arguments: fmt::Arguments<'_>) -> Option<&CStr> {
        self.write_fmt(arguments).ok()?;
        CStr::from_bytes_until_nul(&self.bytes).ok()
    }
}

impl Write for Path {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
