//! Time as fated computes with it: instants of a monotonic clock, spans, and limits that may be infinite.
//!
//! Nothing here reads a clock: the present is always a parameter. The clock itself is `sys::clock`.

use core::fmt;
use core::ops::{Add, Sub};
pub use core::time::Duration;

/// An instant of a clock that never goes back, in nanoseconds since an origin that only the clock knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(u64);

impl Monotonic {
    /// The clock's origin.
    pub const ORIGIN: Self = Self(0);

    /// The instant `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero where `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant rounded up to a whole millisecond, so that deadlines close together share a wake-up.
    pub fn round_up_to_millisecond(self) -> Self {
        const MILLISECOND: u64 = 1_000_000;
        Self(self.0.div_ceil(MILLISECOND).saturating_mul(MILLISECOND))
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;

    /// Saturates at the end of time, some 584 years after the origin.
    fn add(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub<Monotonic> for Monotonic {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// How long something may take: a span (zero is "at once"), or without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    After(Duration),
    Never,
}

impl Limit {
    /// The limit of zero: at once.
    pub const AT_ONCE: Self = Self::After(Duration::ZERO);

    /// The instant at which a limit that begins at `start` is over; `None` is never.
    pub fn from(self, start: Monotonic) -> Option<Monotonic> {
        match self {
            Self::After(span) => Some(start + span),
            Self::Never => None,
        }
    }

    /// The shorter of the two.
    pub fn at_most(self, span: Duration) -> Self {
        match self {
            Self::After(own) => Self::After(own.min(span)),
            Self::Never => Self::After(span),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(span) => Span(*span).fmt(f),
            Self::Never => f.write_str("infinity"),
        }
    }
}

/// A duration as people read it: at most two units, no false precision: `41ms`, `3.2s`, `10s`, `2min 5s`, `8h`, `3d 4h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        let tenths = self.0.as_millis() / 100;
        match self.0.as_secs() {
            0 if micros == 0 && !self.0.is_zero() => write!(f, "{}ns", self.0.as_nanos()),
            0 if micros == 0 => f.write_str("0s"),
            0 if micros < 1_000 => write!(f, "{micros}us"),
            0 => write!(f, "{}ms", micros / 1_000),
            1..60 if tenths.is_multiple_of(10) => write!(f, "{}s", tenths / 10),
            1..60 => write!(f, "{}.{}s", tenths / 10, tenths % 10),
            secs @ 60..3_600 => two(f, secs, 60, "min", 1, "s"),
            secs @ 3_600..86_400 => two(f, secs, 3_600, "h", 60, "min"),
            secs => two(f, secs, 86_400, "d", 3_600, "h"),
        }
    }
}

fn two(f: &mut fmt::Formatter<'_>, secs: u64, big: u64, big_name: &str, small: u64, small_name: &str) -> fmt::Result {
    write!(f, "{}{big_name}", secs / big)?;
    match secs % big / small {
        0 => Ok(()),
        rest => write!(f, " {rest}{small_name}"),
    }
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DurationError {
    Empty,
    Negative,
    /// Not a number with a unit; holds the text.
    Syntax(String),
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a duration is missing; write for example 250ms, 10s, 1.5h, or infinity"),
            Self::Negative => f.write_str("a duration cannot be negative"),
            Self::Syntax(text) => {
                write!(f, "`{text}` is no duration; write for example 250ms, 10s, 1.5h, \"1min 30s\", or infinity")
            }
        }
    }
}

impl core::error::Error for DurationError {}

/// Reads `250ms`, `10s`, `1.5h`, `1min 30s`, a bare number of seconds, or `infinity`.
///
/// # Errors
/// Empty, negative, or not of that form. What is larger than the clock can hold is `Limit::Never`.
pub fn parse_limit(text: &str) -> Result<Limit, DurationError> {
    use fundu_systemd::TimeSpanParser;
    let text = text.trim();
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text.starts_with('-') {
        return Err(DurationError::Negative);
    }
    let span = TimeSpanParser::new().parse(text).map_err(|_| DurationError::Syntax(text.to_owned()))?;
    let span = Duration::try_from(span).map_err(|_| DurationError::Negative)?;
    // The parser saturates: its largest value stands for "infinity" and for whatever is longer.
    const LARGEST: Duration = Duration::from_micros(u64::MAX);
    Ok(if span >= LARGEST { Limit::Never } else { Limit::After(span) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_users_write_them() {
        let after = |ms| Ok(Limit::After(Duration::from_millis(ms)));
        for (text, expected) in [
            ("250ms", after(250)),
            ("10s", after(10_000)),
            ("10 s", after(10_000)),
            ("1.5h", after(5_400_000)),
            ("1min 30s", after(90_000)),
            ("5", after(5_000)),
            ("0.1", after(100)),
            ("0", after(0)),
            ("infinity", Ok(Limit::Never)),
            ("99999999999999999y", Ok(Limit::Never)),
            ("", Err(DurationError::Empty)),
            ("-3s", Err(DurationError::Negative)),
            ("soon", Err(DurationError::Syntax("soon".into()))),
            ("10 parsecs", Err(DurationError::Syntax("10 parsecs".into()))),
        ] {
            assert_eq!(parse_limit(text), expected, "{text:?}");
        }
    }

    #[test]
    fn spans_are_shown_with_at_most_two_units() {
        for (nanos, shown) in [
            (0, "0s"),
            (41_000_000, "41ms"),
            (999_999_999, "999ms"),
            (3_240_000_000, "3.2s"),
            (10_000_000_000, "10s"),
            (59_999_000_000, "59.9s"),
            (125_000_000_000, "2min 5s"),
            (28_800_000_000_000, "8h"),
            (273_600_000_000_000, "3d 4h"),
            (5_000, "5us"),
            (7, "7ns"),
        ] {
            assert_eq!(Span(Duration::from_nanos(nanos)).to_string(), shown);
        }
    }

    #[test]
    fn instants_saturate_and_round_up() {
        let end = Monotonic::from_nanos(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(Monotonic::from_nanos(3).since(Monotonic::from_nanos(5)), Duration::ZERO);
        assert_eq!(Monotonic::from_nanos(1_000_001).round_up_to_millisecond().as_nanos(), 2_000_000);
        assert_eq!(Monotonic::from_nanos(2_000_000).round_up_to_millisecond().as_nanos(), 2_000_000);
    }
}
