//! Waiting for children, without ever blocking.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::exit::ExitStatus;
use crate::signal::Signal;
use crate::time::Duration;

/// A child that has ended and is gone from the process table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    pub pid: u32,
    pub status: ExitStatus,
    pub usage: Usage,
}

/// What a process and its waited-for descendants used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user mode.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// The largest resident set, in KiB.
    pub max_rss_kib: u64,
}

/// Whether a child waits to be reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Any {
    /// This one does.
    Zombie(u32),
    /// All children still run.
    NoneExited,
    NoChildren,
}

/// A job-control change of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    Stopped(Signal),
    Continued,
}

/// Looks for a child that has ended, without reaping it. Costs time in proportion to the number of children.
///
/// # Errors
/// None on a kernel that fated supports.
pub fn peek_any() -> io::Result<Any> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    match waitid(libc::P_ALL, 0, flags, None) {
        Ok(None) => Ok(Any::NoneExited),
        Ok(Some(change)) => Ok(Any::Zombie(change.pid)),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(Any::NoChildren),
        Err(error) => Err(error),
    }
}

/// Reaps the child of this number; `None` while it runs. The number is a child's own until it is reaped.
///
/// # Errors
/// ECHILD: we have no such child.
pub fn reap_pid(pid: u32) -> io::Result<Option<Reaped>> {
    reap(libc::P_PID, pid)
}

/// Reaps the child of this pidfd; `None` while it runs, or while a tracer holds it.
///
/// # Errors
/// ECHILD: it is not our child, or was reaped before.
pub fn reap_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<Option<Reaped>> {
    reap(libc::P_PIDFD, pidfd.as_raw_fd() as u32)
}

/// Takes the child's job-control change, if there was one since the last call.
///
/// # Errors
/// ECHILD: it is not our child, or has ended.
pub fn job_state(pidfd: BorrowedFd<'_>) -> io::Result<Option<JobState>> {
    let flags = libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG;
    let change = match waitid(libc::P_PIDFD, pidfd.as_raw_fd() as u32, flags, None) {
        // The kernel's answer also for a zombie, which can neither stop nor continue.
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => None,
        change => change?,
    };
    Ok(change.and_then(|change| match change.code {
        libc::CLD_CONTINUED => Some(JobState::Continued),
        libc::CLD_STOPPED => Signal::from_number(change.status).map(JobState::Stopped),
        _ => None,
    }))
}

fn reap(kind: libc::idtype_t, id: u32) -> io::Result<Option<Reaped>> {
    // SAFETY: an all-zero rusage is a valid value.
    let mut rusage: libc::rusage = unsafe { core::mem::zeroed() };
    let Some(change) = waitid(kind, id, libc::WEXITED | libc::WNOHANG, Some(&mut rusage))? else { return Ok(None) };
    let status = match (change.code, Signal::from_number(change.status)) {
        (libc::CLD_KILLED | libc::CLD_DUMPED, Some(signal)) => {
            ExitStatus::Signaled { signal, core_dumped: change.code == libc::CLD_DUMPED }
        }
        _ => ExitStatus::Code(change.status as u8),
    };
    let time = |value: libc::timeval| Duration::new(value.tv_sec as u64, value.tv_usec as u32 * 1_000);
    let usage = Usage {
        user: time(rusage.ru_utime),
        system: time(rusage.ru_stime),
        max_rss_kib: u64::try_from(rusage.ru_maxrss).unwrap_or(0),
    };
    Ok(Some(Reaped { pid: change.pid, status, usage }))
}

/// What waitid tells about a child.
struct Change {
    pid: u32,
    code: i32,
    status: i32,
}

fn waitid(kind: libc::idtype_t, id: u32, flags: i32, rusage: Option<&mut libc::rusage>) -> io::Result<Option<Change>> {
    // SAFETY: an all-zero siginfo_t is a valid value; its pid stays 0 where no child has changed.
    let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
    let rusage = rusage.map_or(core::ptr::null_mut(), core::ptr::from_mut);
    // The C library's waitid has no place for the resource use; the system call has.
    // SAFETY: both pointers are to writable memory of their type, or null where that is allowed.
    super::retry(|| unsafe { libc::syscall(libc::SYS_waitid, kind, id, &raw mut info, flags, rusage) })?;
    // SAFETY: for waitid the kernel fills the SIGCHLD members, or leaves the zeroes.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok((pid != 0).then_some(Change { pid: pid as u32, code: info.si_code, status }))
}
