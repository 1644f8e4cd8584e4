//! Signal numbers and names, as Linux numbers them on every architecture that fated builds for.

use core::fmt;
use core::num::NonZeroU8;

/// A signal that exists: 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(NonZeroU8);

/// Number and name, without `SIG`; where a signal has two names the first is the one shown.
const NAMES: [(u8, &str); 33] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (4, "ILL"),
    (5, "TRAP"),
    (6, "ABRT"),
    (6, "IOT"),
    (7, "BUS"),
    (8, "FPE"),
    (9, "KILL"),
    (10, "USR1"),
    (11, "SEGV"),
    (12, "USR2"),
    (13, "PIPE"),
    (14, "ALRM"),
    (15, "TERM"),
    (16, "STKFLT"),
    (17, "CHLD"),
    (18, "CONT"),
    (19, "STOP"),
    (20, "TSTP"),
    (21, "TTIN"),
    (22, "TTOU"),
    (23, "URG"),
    (24, "XCPU"),
    (25, "XFSZ"),
    (26, "VTALRM"),
    (27, "PROF"),
    (28, "WINCH"),
    (29, "IO"),
    (29, "POLL"),
    (30, "PWR"),
    (31, "SYS"),
];

const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

impl Signal {
    pub const HUP: Self = Self::known(1);
    pub const INT: Self = Self::known(2);
    pub const QUIT: Self = Self::known(3);
    pub const ABRT: Self = Self::known(6);
    pub const KILL: Self = Self::known(9);
    pub const USR1: Self = Self::known(10);
    pub const SEGV: Self = Self::known(11);
    pub const USR2: Self = Self::known(12);
    pub const PIPE: Self = Self::known(13);
    pub const TERM: Self = Self::known(15);
    pub const CHLD: Self = Self::known(17);
    pub const CONT: Self = Self::known(18);
    pub const STOP: Self = Self::known(19);
    pub const TSTP: Self = Self::known(20);
    pub const TTIN: Self = Self::known(21);
    pub const TTOU: Self = Self::known(22);
    pub const WINCH: Self = Self::known(28);

    const fn known(number: u8) -> Self {
        match NonZeroU8::new(number) {
            Some(number) => Self(number),
            None => panic!("signal 0 does not exist"),
        }
    }

    /// The signal of that number; `None` outside of 1 to 64.
    pub fn from_number(number: i32) -> Option<Self> {
        let number = u8::try_from(number).ok().filter(|number| *number <= RTMAX)?;
        NonZeroU8::new(number).map(Self)
    }

    pub fn number(self) -> i32 {
        i32::from(self.0.get())
    }

    /// Reads `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3`, `RTMAX-1`.
    ///
    /// # Errors
    /// The text, where it names no signal.
    pub fn parse(text: &str) -> Result<Self, UnknownSignal> {
        let unknown = || UnknownSignal(text.to_owned());
        let upper = text.trim().to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Ok(number) = name.parse() {
            return Self::from_number(number).ok_or_else(unknown);
        }
        if let Some((number, _)) = NAMES.iter().find(|(_, known)| *known == name) {
            return Ok(Self::known(*number));
        }
        let real_time = |base: u8, rest: &str, sign: i32| {
            let offset = if rest.is_empty() { 0 } else { rest[1..].parse::<i32>().ok()? };
            let number = i32::from(base) + sign * offset;
            (i32::from(RTMIN)..=i32::from(RTMAX)).contains(&number).then_some(number)
        };
        let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(rest), _) if rest.is_empty() || rest.starts_with('+') => real_time(RTMIN, rest, 1),
            (_, Some(rest)) if rest.is_empty() || rest.starts_with('-') => real_time(RTMAX, rest, -1),
            _ => None,
        };
        number.and_then(Self::from_number).ok_or_else(unknown)
    }

    /// Every signal name that `parse` knows, without `SIG`, for suggestions.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(_, name)| *name)
    }
}

impl fmt::Display for Signal {
    /// `SIGTERM`, `SIGRTMIN+3`; a number alone where Linux has no name for it (32 and 33 are libc's own).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.get();
        match NAMES.iter().find(|(known, _)| *known == number) {
            Some((_, name)) => write!(f, "SIG{name}"),
            None if number == RTMIN => f.write_str("SIGRTMIN"),
            None if number > RTMIN => write!(f, "SIGRTMIN+{}", number - RTMIN),
            None => write!(f, "signal {number}"),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that names no signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSignal(pub String);

impl fmt::Display for UnknownSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no signal; write a name such as TERM or a number from 1 to 64", self.0)
    }
}

impl core::error::Error for UnknownSignal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read_and_shown() {
        for (text, number, shown) in [
            ("TERM", 15, "SIGTERM"),
            ("SIGTERM", 15, "SIGTERM"),
            ("sigusr1", 10, "SIGUSR1"),
            ("9", 9, "SIGKILL"),
            ("IOT", 6, "SIGABRT"),
            ("POLL", 29, "SIGIO"),
            ("RTMIN", 34, "SIGRTMIN"),
            ("SIGRTMIN+3", 37, "SIGRTMIN+3"),
            ("RTMAX-1", 63, "SIGRTMIN+29"),
            ("RTMAX", 64, "SIGRTMIN+30"),
            ("33", 33, "signal 33"),
        ] {
            let signal = Signal::parse(text).unwrap();
            assert_eq!((signal.number(), signal.to_string().as_str()), (number, shown), "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in ["", "0", "65", "-1", "SIG", "TERMX", "RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMIN+", "RTMIN+é"] {
            assert_eq!(Signal::parse(text), Err(UnknownSignal(text.to_owned())), "{text}");
        }
    }
}
