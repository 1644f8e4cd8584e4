//! Properties of the calling process.

use std::ffi::CStr;
use std::io;

use super::check;
use crate::signal::Signal;

/// Orphaned descendants become our children instead of init's.
///
/// # Errors
/// None on a kernel that fated supports.
pub fn set_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// The signal that we get when the *thread* that created us ends; `None` takes it back. Not inherited by children;
/// lost with a change of user and with the execution of a set-id program.
///
/// # Errors
/// None for a signal that exists.
pub fn set_parent_death_signal(signal: Option<Signal>) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal.map_or(0, |signal| signal.number() as libc::c_ulong))
}

/// Whether we leave core files and may be traced by other processes of our user.
///
/// # Errors
/// None.
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, libc::c_ulong::from(dumpable))
}

/// The calling thread's name as `ps` shows it; the kernel keeps 15 bytes.
///
/// # Errors
/// None.
pub fn set_name(name: &CStr) -> io::Result<()> {
    // SAFETY: the name is a C string that outlives the call; the kernel reads at most 16 bytes of it.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) }).map(drop)
}

fn prctl(option: i32, value: libc::c_ulong) -> io::Result<()> {
    const NONE: libc::c_ulong = 0;
    // SAFETY: only options without pointers come here.
    check(unsafe { libc::prctl(option, value, NONE, NONE, NONE) }).map(drop)
}
