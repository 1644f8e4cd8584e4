//! The child between its clone and its exec, and the memory that it borrows from us meanwhile.
//!
//! The child runs in our address space, with our thread-local storage, while we go on. Therefore it makes raw system
//! calls only; it allocates nothing, locks nothing, panics nowhere and writes to no memory but its stack and the two
//! pointers of `Words` that are meant for it.
//!
//! What ends everyone who shares a memory ends us with the child: the kernel's OOM killer at all times, and on Linux
//! before 5.16 a signal with a core dump that comes between the last step below and the exec. All signals stay blocked
//! up to there.
//!
//! A process that changes its user must not be made this way: it would make us non-dumpable and let a foreign user
//! into our memory. It will be cloned without CLONE_VM, with the steps for groups, user and capabilities between
//! `limits` and `enter`; joining a cgroup comes before `limits`.

use core::cell::Cell;
use core::convert::Infallible;
use core::ffi::{c_char, c_void};
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use std::os::fd::{OwnedFd, RawFd};

use super::report::{self, Gone};
use super::words::Words;
use crate::start::Stage;
use crate::sys::fd::DescriptorLimit;
use crate::sys::raw::{self, Cloned};
use crate::sys::stack::Stack;

/// Where one descriptor lies and where the process wants it; `from` is above every `to`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub from: RawFd,
    pub to: RawFd,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum SessionPlan {
    Own,
    /// A process group of its own in our session.
    Group,
    /// The same, in the foreground of this terminal.
    Foreground(RawFd),
}

/// What the child has to do, prepared to the last byte.
#[derive(Debug)]
pub(super) struct Plan {
    /// The pipe to report to.
    pub report: RawFd,
    /// The number above every target; the report moves there.
    pub above: RawFd,
    /// The highest descriptor that the child needs.
    pub highest: RawFd,
    /// The highest descriptor that another start in flight may have.
    pub close_to: RawFd,
    pub moves: Vec<Move>,
    pub session: SessionPlan,
    pub descriptor_limit: Option<DescriptorLimit>,
    /// A signal's number, or 0.
    pub parent_death: i32,
    /// Where the supervisor's pidfd is after the moves.
    pub supervisor: RawFd,
    /// Bit N-1: signal N is to be ignored.
    pub ignored: u64,
    pub words: Words,
}

impl Plan {
    /// What a stage was about, for messages.
    pub(super) fn object(&self, stage: Stage) -> String {
        match stage {
            Stage::Exec => self.words.command_text(),
            Stage::Cwd => self.words.cwd_text(),
            Stage::Prepare
            | Stage::Clone
            | Stage::Unshare
            | Stage::Session
            | Stage::Terminal
            | Stage::ParentDeath
            | Stage::Descriptors
            | Stage::SignalMask => String::new(),
        }
    }
}

/// A child that may still use our memory. Dropped, it leaks what it lent.
#[derive(Debug)]
pub(super) struct Running {
    /// From `Box::into_raw`; read by the child.
    plan: NonNull<Plan>,
    stack: ManuallyDrop<Stack>,
    /// The child uses our descriptor table until it has one of its own: closed before, a number could be another file.
    held: Option<ManuallyDrop<Vec<OwnedFd>>>,
}

impl Running {
    /// Clones the child. `legacy` remembers that clone3 is refused here.
    ///
    /// # Errors
    /// The number of the error of clone3, or of clone where clone3 was refused for another reason than want.
    pub(super) fn launch(
        plan: Plan,
        stack: Stack,
        held: Vec<OwnedFd>,
        legacy: &Cell<bool>,
    ) -> Result<(Self, Cloned), i32> {
        let plan = NonNull::from(Box::leak(Box::new(plan)));
        let (base, size) = stack.range();
        let argument = plan.as_ptr().cast();
        let before = block_signals();
        // A seccomp filter answers clone3 with ENOSYS or EPERM, a kernel without one of its flags with EINVAL.
        // SAFETY: the stack is new or was released, its end is aligned to a page; plan and stack live until `release`
        // has the proof that the child has gone, or for ever; `run` makes raw system calls only.
        let cloned = unsafe {
            let modern = if legacy.get() { Err(libc::ENOSYS) } else { raw::clone3(base, size, run, argument) };
            match modern {
                Err(errno) if errno != libc::EAGAIN && errno != libc::ENOMEM && errno != libc::EMFILE => {
                    let cloned = raw::clone(base, size, run, argument);
                    legacy.set(legacy.get() || cloned.is_ok());
                    cloned
                }
                result => result,
            }
        };
        set_signal_mask(before);
        match cloned {
            Ok(cloned) => {
                let held = Some(ManuallyDrop::new(held));
                Ok((Self { plan, stack: ManuallyDrop::new(stack), held }, cloned))
            }
            Err(errno) => {
                // SAFETY: the pointer is from `Box::leak` just above and no child has it.
                drop(unsafe { Box::from_raw(plan.as_ptr()) });
                Err(errno)
            }
        }
    }

    /// Closes our copies of the descriptors that the child has taken over.
    pub(super) fn close_held(&mut self) {
        if let Some(held) = self.held.take() {
            drop(ManuallyDrop::into_inner(held));
        }
    }

    /// Takes back what was lent.
    pub(super) fn release(mut self, _: Gone) -> (Box<Plan>, Stack) {
        self.close_held();
        // SAFETY: the pointer is from `Box::leak` in `launch`, given out once here since `self` is consumed; by the
        // proof no child reads it any more.
        let plan = unsafe { Box::from_raw(self.plan.as_ptr()) };
        (plan, ManuallyDrop::into_inner(self.stack))
    }
}

/// A stage that failed, and the error's number.
struct Failure(Stage, i32);

extern "C" fn run(argument: *mut c_void) -> ! {
    // SAFETY: `launch` passes a plan that lives, unchanged, for as long as we use its memory.
    let plan = unsafe { &*argument.cast::<Plan>() };
    let mut report = plan.report;
    let Err(Failure(stage, errno)) = start(plan, &mut report);
    let bytes = report::encode(stage, errno);
    let _ = call(libc::SYS_write, [report as usize, bytes.as_ptr().expose_provenance(), bytes.len(), 0, 0]);
    exit()
}

fn start(plan: &Plan, report: &mut RawFd) -> Result<Infallible, Failure> {
    let at = |stage: Stage| move |errno: i32| Failure(stage, errno);
    unshare(plan).map_err(at(Stage::Unshare))?;
    let unshared = [report::UNSHARED];
    let _ = call(libc::SYS_write, [*report as usize, unshared.as_ptr().expose_provenance(), unshared.len(), 0, 0]);
    session(plan)?;
    place_descriptors(plan, report).map_err(at(Stage::Descriptors))?;
    limits(plan).map_err(at(Stage::Descriptors))?;
    enter(plan).map_err(at(Stage::Cwd))?;
    bind_to_parent(plan).map_err(at(Stage::ParentDeath))?;
    reset_signals(plan).map_err(at(Stage::SignalMask))?;
    Err(Failure(Stage::Exec, exec(&plan.words)))
}

/// Leaves our descriptor table, with a copy of its low part.
fn unshare(plan: &Plan) -> Result<(), i32> {
    let first = plan.highest as usize + 1;
    let unshare = libc::CLOSE_RANGE_UNSHARE as usize;
    // Where close_range is missing or refused: a copy of the whole table. Without a table of our own nothing more may
    // be done to any descriptor: they are our parent's.
    call(libc::SYS_close_range, [first, u32::MAX as usize, unshare, 0, 0])
        .or_else(|_| call(libc::SYS_unshare, [libc::CLONE_FILES as usize, 0, 0, 0, 0]))
        .map(drop)
}

fn session(plan: &Plan) -> Result<(), Failure> {
    let group = || call(libc::SYS_setpgid, [0; 5]).map_err(|errno| Failure(Stage::Session, errno));
    match plan.session {
        SessionPlan::Own => {
            call(libc::SYS_setsid, [0; 5]).map_err(|errno| Failure(Stage::Session, errno))?;
        }
        SessionPlan::Group => {
            group()?;
        }
        SessionPlan::Foreground(terminal) => {
            group()?;
            let terminal_failed = |errno| Failure(Stage::Terminal, errno);
            let own = call(libc::SYS_getpid, [0; 5]).map_err(terminal_failed)? as libc::pid_t;
            // SIGTTOU is blocked, as all signals are up to here.
            let arguments = [terminal as usize, libc::TIOCSPGRP as usize, (&raw const own).expose_provenance(), 0, 0];
            call(libc::SYS_ioctl, arguments).map_err(terminal_failed)?;
        }
    }
    Ok(())
}

/// Everything in its place and nothing else open, before the first step that may wait for long: a copy of another
/// start's pipe would make that start wait for us.
fn place_descriptors(plan: &Plan, report: &mut RawFd) -> Result<(), i32> {
    for Move { from, to } in plan.moves.iter().copied() {
        call(libc::SYS_dup3, [from as usize, to as usize, 0, 0, 0])?;
    }
    if *report != plan.above {
        call(libc::SYS_dup3, [*report as usize, plan.above as usize, libc::O_CLOEXEC as usize, 0, 0])?;
        *report = plan.above;
    }
    let first = plan.above as usize + 1;
    if call(libc::SYS_close_range, [first, u32::MAX as usize, 0, 0, 0]).is_err() {
        for fd in first..=plan.close_to as usize {
            let _ = call(libc::SYS_close, [fd, 0, 0, 0, 0]);
        }
    }
    Ok(())
}

fn limits(plan: &Plan) -> Result<(), i32> {
    let Some(limit) = plan.descriptor_limit else { return Ok(()) };
    let limit = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
    let kind = libc::RLIMIT_NOFILE as usize;
    call(libc::SYS_prlimit64, [0, kind, (&raw const limit).expose_provenance(), 0, 0]).map(drop)
}

fn enter(plan: &Plan) -> Result<(), i32> {
    let cwd = plan.words.cwd();
    if cwd.is_null() { Ok(()) } else { call(libc::SYS_chdir, [cwd.expose_provenance(), 0, 0, 0, 0]).map(drop) }
}

/// Dies with the supervisor, also where it died before we could ask for that.
fn bind_to_parent(plan: &Plan) -> Result<(), i32> {
    call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, plan.parent_death as usize, 0, 0, 0])?;
    let mut supervisor = libc::pollfd { fd: plan.supervisor, events: libc::POLLIN, revents: 0 };
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let died = call(
        libc::SYS_ppoll,
        [(&raw mut supervisor).expose_provenance(), 1, (&raw const at_once).expose_provenance(), 0, 0],
    )?;
    if died > 0 { exit() } else { Ok(()) }
}

/// Every signal to its default, or ignored where that was asked for; then none blocked.
fn reset_signals(plan: &Plan) -> Result<(), i32> {
    for number in 1..=64_usize {
        if number == libc::SIGKILL as usize || number == libc::SIGSTOP as usize {
            continue;
        }
        let ignored = plan.ignored & (1 << (number - 1)) != 0;
        // The kernel's own structure begins with the handler everywhere; flags, restorer and mask are zero.
        let action = [if ignored { libc::SIG_IGN } else { libc::SIG_DFL }, 0, 0, 0];
        call(libc::SYS_rt_sigaction, [number, action.as_ptr().expose_provenance(), 0, SIGNAL_SET_SIZE, 0])?;
    }
    set_signal_mask(0);
    Ok(())
}

/// Tries every candidate as execvp does. Returns the number of the error that says most.
fn exec(words: &Words) -> i32 {
    let mut best = libc::ENOENT;
    for candidate in words.candidates().iter().map(Cell::get).take_while(|candidate| !candidate.is_null()) {
        match execve(candidate, words.argv(), words.envp()) {
            libc::ENOEXEC => return exec_by_shell(candidate, words),
            libc::EACCES => best = libc::EACCES,
            libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
            errno => return errno,
        }
    }
    best
}

/// A text file without `#!` is the shell's to run: `/bin/sh FILE ARGS`.
fn exec_by_shell(file: *const c_char, words: &Words) -> i32 {
    if let (Some(shell), Some(first)) = (words.shell_argv().first(), words.argv().first()) {
        first.set(file);
        execve(shell.get(), words.shell_argv(), words.envp());
    }
    libc::ENOEXEC
}

fn execve(file: *const c_char, argv: &[Cell<*const c_char>], envp: &[Cell<*const c_char>]) -> i32 {
    match call(
        libc::SYS_execve,
        [file.expose_provenance(), argv.as_ptr().expose_provenance(), envp.as_ptr().expose_provenance(), 0, 0],
    ) {
        Ok(_) => 0,
        Err(errno) => errno,
    }
}

fn exit() -> ! {
    loop {
        let _ = call(libc::SYS_exit_group, [127, 0, 0, 0, 0]);
    }
}

/// The size of the kernel's signal set, in bytes.
const SIGNAL_SET_SIZE: usize = 8;

/// Blocks every signal. Returns the mask that was set before.
fn block_signals() -> u64 {
    let all = u64::MAX;
    let mut before = 0_u64;
    let how = libc::SIG_SETMASK as usize;
    let sets = [how, (&raw const all).expose_provenance(), (&raw mut before).expose_provenance(), SIGNAL_SET_SIZE, 0];
    let _ = call(libc::SYS_rt_sigprocmask, sets);
    before
}

fn set_signal_mask(mask: u64) {
    let sets = [libc::SIG_SETMASK as usize, (&raw const mask).expose_provenance(), 0, SIGNAL_SET_SIZE, 0];
    let _ = call(libc::SYS_rt_sigprocmask, sets);
}

/// A system call; its result, or the number of its error.
fn call(number: libc::c_long, arguments: [usize; 5]) -> Result<usize, i32> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: private to this file, whose callers pass numbers, or addresses of live values of the type that the call
    // expects, or null where that is allowed.
    let result = unsafe { raw::syscall(number, [a, b, c, d, e, 0]) };
    if result < 0 { Err(-result as i32) } else { Ok(result as usize) }
}
