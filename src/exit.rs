//! How a process ended, and how fated itself ends.

use core::fmt;

use crate::signal::Signal;

/// How a process ended, as the kernel tells its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// It called exit with this code, 0 to 255.
    Code(u8),
    /// A signal killed it.
    Signaled { signal: Signal, core_dumped: bool },
}

impl ExitStatus {
    pub const SUCCESS: Self = Self::Code(0);

    /// What a shell shows for it: the code, or 128 + the signal's number.
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signaled { signal, .. } => 128 + signal.number() as u8,
        }
    }
}

impl fmt::Display for ExitStatus {
    /// A verb phrase: `exited with status 3`, `was killed by SIGSEGV (core dumped)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(0) => f.write_str("exited with success"),
            Self::Code(code) => write!(f, "exited with status {code}"),
            Self::Signaled { signal, core_dumped: false } => write!(f, "was killed by {signal}"),
            Self::Signaled { signal, core_dumped: true } => write!(f, "was killed by {signal} (core dumped)"),
        }
    }
}

/// How fated itself ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// With this exit code.
    Code(u8),
    /// By this signal, without a core file, so that a launching shell sees what its command did.
    Signal(Signal),
}

impl Verdict {
    pub const SUCCESS: Self = Self::Code(0);
    /// A process could not be killed within the bound.
    pub const UNKILLABLE: Self = Self::Code(123);
    /// A lifetime, start timeout or watchdog ran out.
    pub const TIMEOUT: Self = Self::Code(124);
    /// fated itself failed: arguments, file, containment.
    pub const FAILED: Self = Self::Code(125);
    /// The command was found and could not be executed.
    pub const NOT_EXECUTABLE: Self = Self::Code(126);
    /// The command was not found.
    pub const NOT_FOUND: Self = Self::Code(127);
    /// The supervisor was killed and the guard ended the tree.
    pub const SUPERVISOR_KILLED: Self = Self::Code(137);

    /// What a shell shows for it.
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal.number() as u8,
        }
    }
}
