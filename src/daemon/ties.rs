//! What the life of the tree is tied to: the launcher, the guard, `--watch-pid`, `--watch-fd`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::supervisor::event::Tie;
use crate::sys::{fd, pidfd, readiness};

#[derive(Default)]
pub struct Ties(Vec<Entry>);

struct Entry {
    tie: Tie,
    fd: OwnedFd,
    broken: bool,
}

impl Ties {
    pub fn add(&mut self, tie: Tie, fd: OwnedFd) {
        self.0.push(Entry { tie, fd: fd::raise(fd), broken: false });
    }

    /// Ties to a process by its number.
    ///
    /// # Errors
    /// ESRCH: there is no such process.
    pub fn add_pid(&mut self, pid: u32) -> io::Result<()> {
        self.add(Tie::Pid { pid }, pidfd::open(pid)?);
        Ok(())
    }

    /// The descriptors to watch, each at its index.
    pub fn descriptors(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.0.iter().map(|entry| entry.fd.as_fd()).enumerate()
    }

    /// Whether a tie has broken; told once.
    pub fn look(&mut self, index: usize) -> Option<Tie> {
        let entry = self.0.get_mut(index)?;
        let broken = match entry.tie {
            Tie::Launcher { .. } | Tie::Guard | Tie::Pid { .. } => pidfd::has_exited(entry.fd.as_fd()),
            Tie::Descriptor { .. } => readiness::has_ended(entry.fd.as_fd()),
        };
        (broken && !core::mem::replace(&mut entry.broken, true)).then(|| entry.tie.clone())
    }
}
