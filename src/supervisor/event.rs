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
    /// A process said something through NOTIFY_SOCKET, the sender being proved to belong to this life.
    Notified { inc: Incarnation, notice: Notice },
    /// The probe that `Command::AwaitReady` began has succeeded (descriptor, connection or command).
    Ready { inc: Incarnation },
    /// The stop command of a life has ended, or could not be started (`success` is false then).
    StopCommandEnded { inc: Incarnation, success: bool },
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

/// What a process can say, as sd_notify defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    Ready,
    Reloading,
    Stopping,
    /// A line for people; bounded by the protocol's reader.
    Status(String),
    /// Another process of the same life is the main one from now on; checked by the kernel side.
    MainPid(u32),
    /// It lives: the watchdog begins anew.
    Watchdog,
    /// It asks to be treated as if the watchdog had run out.
    WatchdogTrigger,
    /// The watchdog's interval from now on.
    WatchdogInterval(crate::time::Duration),
    /// The deadline of the state that it is in (starting, stopping) is not before so long from now.
    ExtendTimeout(crate::time::Duration),
}
