//! From a specification to a running program.
//!
//! A start has two halves. `Spawner::start` prepares everything, clones a child that shares our memory and returns at
//! once, whatever the program's file system does. The child tells over the report pipe what became of it;
//! `InFlight::finish` reads that. Call it whenever the report descriptor or the pidfd is readable, until it gives an
//! answer; then the pidfd alone is left to keep.

mod child;
mod prepare;
mod report;
mod words;

use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::name::Name;
use crate::spec::ProcessSpec;
use crate::start::{Errno, Stage, StartError};
use crate::sys::fd::{self, DescriptorLimit};
use crate::sys::stack::StackPool;

/// Starts processes.
#[derive(Debug)]
pub struct Spawner {
    supervisor: OwnedFd,
    stacks: StackPool,
    /// The highest descriptor that a start had while it was in flight.
    highest: Cell<RawFd>,
    /// clone3 was refused and clone was not.
    legacy: Cell<bool>,
}

/// One life to start.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub spec: &'a ProcessSpec,
    /// `FATED_ID`: unique to this life.
    pub id: &'a str,
    /// Further variables of this life. They win over the specification's.
    pub env: &'a [(OsString, OsString)],
    /// What the process gets as 0, 1 and 2.
    pub stdio: [BorrowedFd<'a>; 3],
    /// The queue ends that it gets, in the order of `ProcessSpec::queues`.
    pub queues: &'a [QueueGrant<'a>],
    /// What it writes its readiness to (`Readiness::Descriptor` alone).
    pub ready: Option<BorrowedFd<'a>>,
    /// The limit on open descriptors to set; `None` leaves our own.
    pub descriptor_limit: Option<DescriptorLimit>,
    /// Our controlling terminal, to put the process's group into its foreground (`Session::Terminal` alone).
    pub foreground: Option<BorrowedFd<'a>>,
}

/// A queue as a process gets it. The ends that its `QueueUse` names have to be there.
#[derive(Clone, Copy, Debug)]
pub struct QueueGrant<'a> {
    pub name: &'a Name,
    /// The longest message in bytes.
    pub message_max: u64,
    pub put: Option<BorrowedFd<'a>>,
    pub get: Option<BorrowedFd<'a>>,
}

/// A process whose program may not run yet.
///
/// Dropped before `finish` has answered, it leaks what the child may still read: its stack, its plan and a few
/// descriptors. The process itself goes on, as with the pidfd of any process.
#[derive(Debug)]
pub struct InFlight {
    pub pid: u32,
    /// At `fd::LOW_END` or above.
    pub pidfd: OwnedFd,
    /// Readable when `finish` may have news. Not to be read by anyone else.
    pub report: OwnedFd,
    reading: report::Reading,
    child: Option<child::Running>,
    stacks: StackPool,
    outcome: Option<Result<(), StartError>>,
}

impl Spawner {
    /// `supervisor`: a pidfd of this process. Each child gets it as `FATED_PIDFD`, and ends before its exec if it tells
    /// that we have died.
    pub fn new(supervisor: OwnedFd) -> Self {
        Self { supervisor, stacks: StackPool::default(), highest: Cell::new(0), legacy: Cell::new(false) }
    }

    /// Creates the process. Its parent-death signal is tied to the calling thread.
    ///
    /// # Errors
    /// `Stage::Prepare` and `Stage::Clone`, with nothing left behind; every later stage comes from `finish`.
    pub fn start(&self, request: &Request<'_>) -> Result<InFlight, StartError> {
        let prepare = |error: io::Error| failure(Stage::Prepare, &error);
        let (report, report_write) = fd::pipe_with(libc::O_NONBLOCK).map_err(prepare)?;
        let (mut plan, held) = prepare::prepare(request, self.supervisor.as_fd(), report_write).map_err(prepare)?;
        self.highest.set(self.highest.get().max(plan.highest).max(report.as_raw_fd()));
        plan.close_to = self.highest.get();
        let stack = self.stacks.take().map_err(prepare)?;
        let (child, cloned) = child::Running::launch(plan, stack, held, &self.legacy).map_err(|errno| StartError {
            stage: Stage::Clone,
            errno: Errno(errno),
            object: String::new(),
        })?;
        Ok(InFlight {
            pid: cloned.pid,
            pidfd: fd::raise(cloned.pidfd),
            report,
            reading: report::Reading::default(),
            child: Some(child),
            stacks: self.stacks.clone(),
            outcome: None,
        })
    }
}

impl InFlight {
    /// Reads the report: `None` while the exec is under way; then whether it succeeded (or the child died on the way to
    /// it, which its exit status tells), or the stage that failed. A child that reported a failure still has to be
    /// reaped. To be called again on every readiness until it answers; more calls give the same answer.
    pub fn finish(&mut self) -> Option<Result<(), StartError>> {
        if let Some(child) = &mut self.child {
            let gone = self.reading.advance(self.report.as_fd(), self.pidfd.as_fd(), || child.close_held())?;
            let failed = self.reading.failure();
            let (plan, stack) = self.child.take()?.release(gone);
            self.stacks.give_back(stack);
            self.outcome = Some(match failed {
                None => Ok(()),
                Some((stage, errno)) => Err(StartError { stage, errno, object: plan.object(stage) }),
            });
        }
        self.outcome.clone()
    }
}

fn failure(stage: Stage, error: &io::Error) -> StartError {
    StartError { stage, errno: Errno(error.raw_os_error().unwrap_or(libc::EINVAL)), object: String::new() }
}
