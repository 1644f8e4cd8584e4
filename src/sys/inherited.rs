//! Descriptors that this process was given by number, in an environment variable or an argument.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// An own descriptor for what stands behind an inherited one; it is closed on exec. The inherited number stays as it is.
///
/// # Errors
/// `EBADF`: no descriptor of that number is open. `EMFILE`: no further one can be opened.
pub fn duplicate(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: fcntl takes any number, and F_DUPFD_CLOEXEC reads no memory of ours.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    let copy = Errno::result(copy)?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_copy_leads_to_the_same_place_and_leaves_the_original_open() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        for text in [b"one", b"two"] {
            let copy = duplicate(writer.as_raw_fd()).unwrap();
            assert!(copy.as_raw_fd() > 2 && copy.as_raw_fd() != writer.as_raw_fd());
            std::fs::File::from(copy).write_all(text).unwrap();
        }
        let mut read = [0; 6];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"onetwo");
    }

    #[test]
    fn a_number_that_is_not_open_is_refused() {
        assert_eq!(duplicate(-1).unwrap_err(), Errno::EBADF);
        assert_eq!(duplicate(RawFd::MAX).unwrap_err(), Errno::EBADF);
    }
}
