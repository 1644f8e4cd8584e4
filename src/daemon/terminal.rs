//! The terminal of `fated run`: the command's process group is in its foreground if fated was, and gives it back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::spec::Session;
use crate::sys::tty;

/// Nothing to do where the command has a session of its own.
pub struct Terminal {
    /// `None`: no terminal, or fated was not in its foreground.
    tty: Option<OwnedFd>,
    /// The process group that the launching shell knows.
    home: u32,
    /// The command's process group.
    command: Option<u32>,
}

impl Terminal {
    /// To be made before fated leaves the process group that it was started in.
    pub fn new() -> Self {
        let home = tty::own_group();
        let tty = tty::open_controlling().filter(|tty| tty::foreground(tty.as_fd()) == Some(home));
        Self { tty, home, command: None }
    }

    /// The terminal itself, for the guard.
    pub fn into_tty(self) -> Option<OwnedFd> {
        self.tty
    }

    /// The terminal that a process of this kind takes the foreground of.
    pub fn foreground_for(&self, session: Session) -> Option<BorrowedFd<'_>> {
        match session {
            Session::Own => None,
            Session::Terminal => self.tty.as_ref().map(AsFd::as_fd),
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

    /// To the command again, if the shell has given it to us.
    pub fn take_again(&self) {
        self.pass(Some(self.home), self.command);
    }

    fn pass(&self, from: Option<u32>, to: Option<u32>) {
        let (Some(tty), Some(from), Some(to)) = (&self.tty, from, to) else { return };
        // A command may have put a job of its own into the foreground, and it may have gone: then nobody has it.
        let holder = tty::foreground(tty.as_fd());
        let gone = holder.is_some_and(|group| group != self.home && !tty::group_exists(group));
        if (holder == Some(from) || gone)
            && let Err(error) = tty::set_foreground(tty.as_fd(), to)
        {
            log::debug!("cannot pass the terminal on: {error}");
        }
    }
}
