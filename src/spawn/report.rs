//! What a child tells its parent over the report pipe, and when the parent may take back what it lent.
//!
//! The child writes one zero byte once it has a descriptor table of its own, and, if a stage fails, the stage's number
//! and the error's. The end of the pipe is the end of the sharing: the kernel closes a close-on-exec descriptor after
//! the old memory is let go, in exec and in exit alike. A child that has ended shares nothing either, even if another
//! start in flight should hold a copy of the pipe.

use std::io;
use std::os::fd::BorrowedFd;

use crate::start::{Errno, Stage};
use crate::sys::{fd, pidfd};

/// The child has a descriptor table of its own.
pub(super) const UNSHARED: u8 = 0;

/// Bytes of a failure: the stage, the error number in four bytes of the machine's order.
pub(super) const FAILURE_LENGTH: usize = 5;

/// A failure as it goes over the pipe.
pub(super) fn encode(stage: Stage, errno: i32) -> [u8; FAILURE_LENGTH] {
    let [a, b, c, d] = errno.to_ne_bytes();
    [stage as u8, a, b, c, d]
}

/// Proof that a child does not use our memory any more.
#[derive(Debug)]
pub(super) struct Gone(());

/// The report as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Longer than any report: a full buffer would read like the end.
    bytes: [u8; 2 + FAILURE_LENGTH],
    length: usize,
}

impl Reading {
    /// Reads what is there. `unshared` is called, perhaps more than once, when the child needs our descriptors no
    /// more. `None`: the child still shares our memory.
    pub(super) fn advance(
        &mut self,
        report: BorrowedFd<'_>,
        child: BorrowedFd<'_>,
        mut unshared: impl FnMut(),
    ) -> Option<Gone> {
        let mut exited = false;
        loop {
            match fd::read(report, &mut self.bytes[self.length..]) {
                Ok(0) => return Some(Gone(())),
                Ok(count) => {
                    self.length += count;
                    unshared();
                }
                Err(_) if exited => return Some(Gone(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && pidfd::has_exited(child) => {
                    // What it wrote it wrote before it ended: one more look finds all of it.
                    exited = true;
                    unshared();
                }
                Err(_) => return None,
            }
        }
    }

    /// The failure that was reported, if one was.
    pub(super) fn failure(&self) -> Option<(Stage, Errno)> {
        let bytes = self.bytes.get(..self.length)?;
        // Without the zero byte it was the unsharing that failed.
        match *bytes.strip_prefix(&[UNSHARED]).unwrap_or(bytes) {
            [stage, a, b, c, d] => Some((Stage::from_number(stage)?, Errno(i32::from_ne_bytes([a, b, c, d])))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_report_is_complete_with_its_end() {
        let me = pidfd::open_self().unwrap();
        for (sent, failure) in [
            (&[][..], None),
            (&[UNSHARED][..], None),
            (&encode(Stage::Unshare, 24)[..], Some((Stage::Unshare, Errno(24)))),
            (&[&[UNSHARED][..], &encode(Stage::Exec, 2)].concat(), Some((Stage::Exec, Errno(2)))),
        ] {
            let (report, write) = fd::pipe_with(libc::O_NONBLOCK).unwrap();
            let mut write = File::from(write);
            let mut reading = Reading::default();
            let mut told = 0;
            assert!(reading.advance(report.as_fd(), me.as_fd(), || told += 1).is_none());
            assert_eq!(told, 0);
            for byte in sent {
                write.write_all(&[*byte]).unwrap();
                assert!(reading.advance(report.as_fd(), me.as_fd(), || told += 1).is_none());
            }
            drop(write);
            assert!(reading.advance(report.as_fd(), me.as_fd(), || told += 1).is_some());
            assert_eq!(told > 0, !sent.is_empty());
            assert_eq!(reading.failure(), failure);
        }
    }

    #[test]
    fn a_child_that_has_ended_needs_no_end_of_the_pipe() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pidfd = pidfd::open(child.id()).unwrap();
        child.wait().unwrap();
        let (report, _write) = fd::pipe_with(libc::O_NONBLOCK).unwrap();
        let mut told = false;
        assert!(Reading::default().advance(report.as_fd(), pidfd.as_fd(), || told = true).is_some());
        assert!(told);
    }
}
