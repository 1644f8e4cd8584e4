//! Killing every descendant of this process without allocating: the guard's one act.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::{check, fd, pidfd, procfs};
use crate::signal::Signal;

/// How many descendants one pass remembers. Those beyond are found by the next one, once the first are gone.
pub const PASS_MAX: usize = 4096;

/// Sends SIGKILL to each living descendant that one walk finds. What is forked meanwhile is found by the next pass: call
/// it until no child is left. `queue` is scratch memory.
pub fn kill_descendants(queue: &mut [u32; PASS_MAX]) {
    if !procfs::lists_children() {
        // A kernel without that list costs an allocating walk over all processes.
        for found in procfs::walk([std::process::id()]).unwrap_or_default() {
            let _ = procfs::signal_found(&found, Signal::KILL);
        }
        return;
    }
    let me = std::process::id();
    let mut length = 0;
    each_child(me, |child| append(queue, &mut length, child));
    let direct = length;
    let mut next = 0;
    while next < length {
        let pid = queue[next];
        // Before the kill: the children of a killed process are ours a moment later.
        each_child(pid, |child| append(queue, &mut length, child));
        // A child of ours keeps its number until we reap it; of the others it has to be checked whose they are.
        if let Ok(descriptor) = pidfd::open(pid)
            && (next < direct || descends(pid, me, &queue[..length]))
        {
            let _ = pidfd::send_signal(descriptor.as_fd(), Signal::KILL);
        }
        next += 1;
    }
}

fn append(queue: &mut [u32; PASS_MAX], length: &mut usize, pid: u32) {
    if let Some(slot) = queue.get_mut(*length) {
        *slot = pid;
        *length += 1;
    }
}

/// Whether the parent of a process is us or one of those that were found.
fn descends(pid: u32, me: u32, found: &[u32]) -> bool {
    let mut buffer = [0; 1024];
    let Ok(file) = open(format_args!("/proc/{pid}/stat\0")) else { return false };
    let Ok(length) = fd::read(file.as_fd(), &mut buffer) else { return false };
    procfs::parse_stat(&buffer[..length]).is_some_and(|stat| stat.ppid == me || found.contains(&stat.ppid))
}

/// Calls back with each child of a process's main thread. Children of other threads come to us when they lose their
/// parent.
fn each_child(pid: u32, mut callback: impl FnMut(u32)) {
    let Ok(file) = open(format_args!("/proc/{pid}/task/{pid}/children\0")) else { return };
    let mut buffer = [0; 4096];
    let mut number = None;
    while let Ok(length @ 1..) = fd::read(file.as_fd(), &mut buffer) {
        for byte in &buffer[..length] {
            match byte {
                b'0'..=b'9' => number = Some(number.unwrap_or(0) * 10 + u32::from(byte - b'0')),
                _ => {
                    if let Some(pid) = number.take() {
                        callback(pid);
                    }
                }
            }
        }
    }
}

/// Opens a file whose path ends with a NUL byte, for reading.
fn open(path: core::fmt::Arguments<'_>) -> io::Result<OwnedFd> {
    let mut buffer = [0; 64];
    {
        use io::Write;
        (&mut buffer[..]).write_fmt(path)?;
    }
    // The buffer is longer than any such path, so it ends with a NUL byte even if the path did not.
    buffer[63] = 0;
    // SAFETY: the path ends with a NUL byte and outlives the call.
    let raw = check(unsafe { libc::open(buffer.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    let file = unsafe { OwnedFd::from_raw_fd(raw) };
    debug_assert!(file.as_raw_fd() >= 0, "open gave a descriptor");
    Ok(file)
}
