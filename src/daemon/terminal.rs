//! The terminal of `fated run`: who is in its foreground, the command or the group that the launching shell knows.
//!
//! A command that reads from and writes to the terminal takes the foreground as soon as fated has it. One in a pipeline
//! leaves it to its neighbours until it asks, which it does by being stopped with SIGTTIN or SIGTTOU.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::spec::Session;
use crate::sys::{stdio, tty};

/// Nothing to do where the command has a session of its own.
pub struct Terminal {
    /// `None`: we have no controlling terminal.
    tty: Option<OwnedFd>,
    /// The process group that the launching shell knows.
    home: u32,
    /// Whether that group was in the foreground when we were started.
    began_in_front: bool,
    /// Both stdin and stdout are terminals.
    interactive: bool,
    /// The command's process group.
    command: Option<u32>,
}

impl Terminal {
    /// To be made before fated leaves the process group that it was started in.
    pub fn new() -> Self {
        let home = tty::own_group();
        let tty = tty::open_controlling();
        let began_in_front = tty.as_ref().is_some_and(|tty| tty::foreground(tty.as_fd()) == Some(home));
        let interactive = tty::is_tty(stdio::stdin()) && tty::is_tty(stdio::stdout());
        Self { tty, home, began_in_front, interactive, command: None }
    }

    /// The terminal itself, for the guard, where fated had its foreground.
    pub fn into_tty(self) -> Option<OwnedFd> {
        self.tty.filter(|_| self.began_in_front)
    }

    /// The terminal that a process of this kind takes the foreground of at its start.
    pub fn foreground_for(&self, session: Session) -> Option<BorrowedFd<'_>> {
        match session {
            Session::Terminal if self.interactive && self.began_in_front => self.tty.as_ref().map(AsFd::as_fd),
            Session::Own | Session::Terminal => None,
        }
    }

    /// The command was started.
    pub fn moved(&mut self, session: Session, pid: u32) {
        match session {
            Session::Own => {}
            Session::Terminal => self.command = Some(pid),
        }
    }

    /// Back to the group that the shell knows, if the command's has it.
    pub fn give_back(&self) {
        self.pass(self.command, Some(self.home));
    }

    /// We were continued, perhaps in the foreground: to the command, which had it or would have.
    pub fn take_again(&self) {
        if self.interactive {
            self.hand_over();
        }
    }

    /// To the command, if our own group has it. Whether it was so.
    pub fn hand_over(&self) -> bool {
        self.pass(Some(self.home), self.command)
    }

    fn pass(&self, from: Option<u32>, to: Option<u32>) -> bool {
        let (Some(tty), Some(from), Some(to)) = (&self.tty, from, to) else { return false };
        // A command may have put a job of its own into the foreground, and it may have gone: then nobody has it.
        let holder = tty::foreground(tty.as_fd());
        let gone = holder.is_some_and(|group| group != self.home && !tty::group_exists(group));
        if holder != Some(from) && !gone {
            return false;
        }
        match tty::set_foreground(tty.as_fd(), to) {
            Ok(()) => true,
            Err(error) => {
                log::debug!("cannot pass the terminal on: {error}");
                false
            }
        }
    }
}
