//! Why a process could not be started: the stage that it had reached and the kernel's answer.

use core::fmt;

use crate::exit::Verdict;

/// An error number of Linux, as a system call returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub i32);

impl Errno {
    pub const NOENT: Self = Self(2);
    pub const AGAIN: Self = Self(11);
    pub const NOSYS: Self = Self(38);
}

impl fmt::Display for Errno {
    /// The system's own text as a fragment: `no such file or directory`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut chars = text.chars();
        match chars.next() {
            // "Input/output error" becomes a fragment; "RPC version wrong" keeps its capitals.
            Some(first) if !chars.as_str().starts_with(|c: char| c.is_uppercase()) => {
                write!(f, "{}{}", first.to_lowercase(), chars.as_str())
            }
            _ => f.write_str(text),
        }
    }
}

/// The steps from a `ProcessSpec` to a running program, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stage {
    /// In the supervisor: descriptors, pipes, memory.
    Prepare = 1,
    /// The clone itself.
    Clone,
    /// In the child: a descriptor table of its own.
    Unshare,
    Session,
    Terminal,
    Cwd,
    ParentDeath,
    Descriptors,
    SignalMask,
    Exec,
}

impl Stage {
    pub const ALL: [Self; 10] = [
        Self::Prepare,
        Self::Clone,
        Self::Unshare,
        Self::Session,
        Self::Terminal,
        Self::Cwd,
        Self::ParentDeath,
        Self::Descriptors,
        Self::SignalMask,
        Self::Exec,
    ];

    /// The stage of that number, as a child reports it.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage as u8 == number)
    }

    /// What could not be done, after "cannot".
    fn action(self) -> &'static str {
        match self {
            Self::Prepare => "prepare its descriptors",
            Self::Clone => "create a process",
            Self::Unshare => "take a descriptor table of its own",
            Self::Session => "begin a session",
            Self::Terminal => "take the terminal",
            Self::Cwd => "enter",
            Self::ParentDeath => "set the parent-death signal",
            Self::Descriptors => "place its descriptors",
            Self::SignalMask => "set its signal mask",
            Self::Exec => "execute",
        }
    }
}

/// A failed start.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StartError {
    pub stage: Stage,
    pub errno: Errno,
    /// What the stage was about: the command, the directory; empty where the stage says it all.
    pub object: String,
}

impl StartError {
    /// The exit status that tells of it: 127 for a command that does not exist, 126 for one that cannot be
    /// executed as asked, 125 where fated itself could not make a process.
    pub fn verdict(&self) -> Verdict {
        match (self.stage, self.errno) {
            (Stage::Exec, Errno::NOENT) => Verdict::NOT_FOUND,
            (Stage::Prepare | Stage::Clone, _) => Verdict::FAILED,
            _ => Verdict::NOT_EXECUTABLE,
        }
    }
}

impl fmt::Display for StartError {
    /// A verb phrase: `cannot enter /srv/x: permission denied`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.stage.action())?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        write!(f, ": {}", self.errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_start_says_stage_object_and_reason() {
        let error = StartError { stage: Stage::Cwd, errno: Errno(13), object: "/srv/x".into() };
        assert_eq!(error.to_string(), "cannot enter /srv/x: permission denied");
        assert_eq!(error.verdict(), Verdict::NOT_EXECUTABLE);
    }

    #[test]
    fn every_stage_has_a_number_of_its_own() {
        for stage in Stage::ALL {
            assert_eq!(Stage::from_number(stage as u8), Some(stage));
        }
        assert_eq!(Stage::from_number(0), None);
    }
}
