//! Sizes in bytes, as people write them.

use core::fmt;

/// The units, all powers of 1024, as systemd reads them: `K` is `KiB`.
const UNITS: [(&str, u32); 9] =
    [("", 0), ("B", 0), ("K", 10), ("KiB", 10), ("M", 20), ("MiB", 20), ("G", 30), ("GiB", 30), ("TiB", 40)];

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// Not a whole number with a unit.
    Syntax,
    /// More bytes than a number can count.
    TooLarge,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "is no size; write for example 4096, 64KiB, 1MiB or 10M (K, M and G are powers of 1024)",
            Self::TooLarge => "is too large for a size",
        })
    }
}

/// Reads `4096`, `64KiB`, `1MiB`, `10M`: a whole number of bytes or of powers of 1024.
///
/// # Errors
/// Not of that form, or larger than 64 bits.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(SizeError::Syntax);
    }
    let unit = unit.trim_start();
    let (_, shift) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or(SizeError::Syntax)?;
    let number: u64 = number.parse().map_err(|_| SizeError::TooLarge)?;
    number.checked_mul(1 << shift).ok_or(SizeError::TooLarge)
}

/// A size as people read it, exact: `64KiB`, `1MiB`, `5000 bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes == 0 || bytes % 1024 != 0 => write!(f, "{bytes} bytes"),
            bytes if bytes.is_multiple_of(1 << 30) => write!(f, "{}GiB", bytes >> 30),
            bytes if bytes.is_multiple_of(1 << 20) => write!(f, "{}MiB", bytes >> 20),
            bytes => write!(f, "{}KiB", bytes >> 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes, shown) in [
            ("4096", 4096, "4KiB"),
            ("64KiB", 65_536, "64KiB"),
            ("1MiB", 1 << 20, "1MiB"),
            ("10M", 10 << 20, "10MiB"),
            ("3 G", 3 << 30, "3GiB"),
            ("5000b", 5000, "5000 bytes"),
            ("0", 0, "0 bytes"),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(Size(bytes).to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "KiB", "-1", "1.5M", "10MB", "1 potato", "é"] {
            assert_eq!(parse_size(text), Err(SizeError::Syntax), "{text}");
        }
        for text in ["18446744073709551616", "99999999999TiB"] {
            assert_eq!(parse_size(text), Err(SizeError::TooLarge), "{text}");
        }
    }
}
