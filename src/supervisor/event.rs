//! Everything that can happen.

use crate::exit::ExitStatus;
use crate::name::Incarnation;
use crate::signal::Signal;
use crate::start::StartError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The process exists; its exec is under way.
    Spawned { inc: Incarnation, pid: u32 },
    /// Its exec succeeded (or it died on the way to it, which its `Exited` tells).
    Started { inc: Incarnation },
    /// It never ran, and nothing of it is left. Ends the incarnation: no `Exited` follows.
    StartFailed { inc: Incarnation, error: StartError },
    /// Its main process has ended and was reaped. `leftovers`: descendants of it still run; `Emptied` follows once none does.
    Exited { inc: Incarnation, status: ExitStatus, leftovers: bool },
    /// The last descendant that had outlived the main process has ended.
    Emptied { inc: Incarnation },
    /// The answer to `Command::FindStrays`, and the news that the last stray has ended.
    Strays { any: bool },
    /// fated received a signal (or its guard did and passed it on).
    Signal(Signal),
    /// Something that the tree is tied to has ended.
    TieBroken(Tie),
    /// A job-control stop of the command was seen (`run` on a terminal).
    Stopped { inc: Incarnation, signal: Signal },
}

/// What a tree's life is tied to beyond its own processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Tie {
    /// The process that launched fated.
    Launcher { pid: u32 },
    /// fated's own outer process.
    Guard,
    /// `--watch-pid`.
    Pid { pid: u32 },
    /// `--watch-fd`.
    Descriptor { fd: i32 },
}
