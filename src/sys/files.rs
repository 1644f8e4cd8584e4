//! Reading of small files, bounded.

use core::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::start::Errno;

/// The largest tree file, Procfile or env file, in bytes.
pub const FILE_MAX: u64 = 1 << 20;

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    System(Errno),
    /// Holds the limit in bytes.
    TooLarge(u64),
    /// An error without a number of the system's.
    Other(String),
}

impl ReadError {
    pub fn is_missing(&self) -> bool {
        *self == Self::System(Errno::NOENT)
    }
}

impl fmt::Display for ReadError {
    /// A fragment that stands after "cannot read it: ".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(errno) => errno.fmt(f),
            Self::TooLarge(limit) => write!(f, "it has more than {} KiB", limit >> 10),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl core::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::System(Errno(number)),
            None => Self::Other(error.to_string()),
        }
    }
}

/// The whole of a file (or pipe, or device) that has at most `limit` bytes; never reads more than one byte beyond.
///
/// # Errors
/// It cannot be opened or read, or has more.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(ReadError::TooLarge(limit)) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_bounded() {
        assert_eq!(read_bounded(Path::new("/dev/zero"), 100), Err(ReadError::TooLarge(100)));
        assert_eq!(read_bounded(Path::new("/dev/null"), 0), Ok(Vec::new()));
    }

    #[test]
    fn a_failed_read_says_why() {
        let missing = read_bounded(Path::new("/nonexistent/file"), 1).unwrap_err();
        assert!(missing.is_missing());
        assert_eq!(missing.to_string(), "no such file or directory");
        assert_eq!(read_bounded(Path::new("/"), 1).unwrap_err().to_string(), "is a directory");
    }
}
