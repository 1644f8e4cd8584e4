//! What a process says to NOTIFY_SOCKET, as sd_notify(3) defines it: lines `KEY=VALUE`, one datagram a message.
//!
//! Keys that are unknown, or meant for others, mean nothing here and are no error. Of a key that comes twice the first
//! counts. Who sent it, and whether that may be believed, is decided where the datagram was received.

use core::fmt;

use crate::supervisor::event::Notice;
use crate::time::Duration;

/// The longest message, in bytes: what systemd takes.
pub const MESSAGE_MAX: usize = 4096;

/// One message that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The sender waits until the descriptor that came with it is closed: everything it said before has been handled
    /// then.
    Barrier,
    Said(Said),
}

/// What was said in one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// For the core, in the order in which they have to be told: who is meant, by when, then what became of it.
    pub notices: Vec<Notice>,
    /// `ERRNO`: why it fails or goes down, an error number of Linux.
    pub errno: Option<i32>,
    /// It wants descriptors kept for its next life, or one that is kept forgotten.
    pub store: Option<Store>,
    /// Keys with a meaning whose values have none; they change nothing.
    pub faults: Vec<BadValue>,
}

/// A request to the descriptor store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// `FDSTORE=1`: keep what came with the message, by this name.
    Keep { name: Option<String> },
    /// `FDSTOREREMOVE=1`: close what is kept by this name.
    Remove { name: Option<String> },
}

/// A value that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue {
    pub key: &'static str,
    pub value: String,
}

impl fmt::Display for BadValue {
    /// A fragment: "`MAINPID=x` cannot be read".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}={}` cannot be read", self.key, self.value)
    }
}

/// Why a datagram is no message; nothing of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// It has more than `MESSAGE_MAX` bytes.
    TooLong,
    NotUtf8,
    /// `BARRIER=1` beside other keys: what it would wait for cannot be told.
    BarrierNotAlone,
}

impl fmt::Display for MessageError {
    /// A fragment that stands after "a message was dropped: ".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it has more than {MESSAGE_MAX} bytes"),
            Self::NotUtf8 => f.write_str("it is not UTF-8"),
            Self::BarrierNotAlone => f.write_str("BARRIER=1 does not stand alone"),
        }
    }
}

impl core::error::Error for MessageError {}

/// Reads one datagram.
///
/// # Errors
/// It is too long, no text, or contradicts itself. No bytes whatever make it panic.
pub fn parse(datagram: &[u8]) -> Result<Message, MessageError> {
    if datagram.len() > MESSAGE_MAX {
        return Err(MessageError::TooLong);
    }
    let text = core::str::from_utf8(datagram).map_err(|_| MessageError::NotUtf8)?;
    let lines = Lines(text);
    if lines.has("BARRIER", "1") {
        let alone = lines.all().count() == 1;
        return if alone { Ok(Message::Barrier) } else { Err(MessageError::BarrierNotAlone) };
    }
    Ok(Message::Said(said(&lines)))
}

fn said(lines: &Lines<'_>) -> Said {
    let mut said = Said::default();
    let mut faults = Vec::new();
    let notices = [
        lines.number("MAINPID", &mut faults).filter(|pid| *pid > 0).map(Notice::MainPid),
        lines.micros("WATCHDOG_USEC", &mut faults).map(Notice::WatchdogInterval),
        lines.micros("EXTEND_TIMEOUT_USEC", &mut faults).map(Notice::ExtendTimeout),
        lines.has("RELOADING", "1").then_some(Notice::Reloading),
        lines.has("READY", "1").then_some(Notice::Ready),
        lines.has("STOPPING", "1").then_some(Notice::Stopping),
        lines.value("STATUS").map(|text| Notice::Status(printable(text))),
        lines.has("WATCHDOG", "1").then_some(Notice::Watchdog),
        lines.has("WATCHDOG", "trigger").then_some(Notice::WatchdogTrigger),
    ];
    said.notices = notices.into_iter().flatten().collect();
    said.errno = lines.number("ERRNO", &mut faults);
    let name = || lines.value("FDNAME").map(printable);
    said.store = if lines.has("FDSTORE", "1") {
        Some(Store::Keep { name: name() })
    } else {
        lines.has("FDSTOREREMOVE", "1").then(|| Store::Remove { name: name() })
    };
    said.faults = faults;
    said
}

/// The lines of a message.
struct Lines<'a>(&'a str);

impl<'a> Lines<'a> {
    fn all(&self) -> impl Iterator<Item = &'a str> {
        self.0.split('\n').filter(|line| !line.is_empty())
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.all().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    fn has(&self, key: &str, value: &str) -> bool {
        self.value(key) == Some(value)
    }

    fn number<N: core::str::FromStr>(&self, key: &'static str, faults: &mut Vec<BadValue>) -> Option<N> {
        let value = self.value(key)?;
        // A sign is none of a number's here, though Rust reads one.
        let number = Some(value).filter(|value| !value.starts_with('+')).and_then(|value| value.parse().ok());
        if number.is_none() {
            faults.push(BadValue { key, value: printable(value) });
        }
        number
    }

    fn micros(&self, key: &'static str, faults: &mut Vec<BadValue>) -> Option<Duration> {
        self.number(key, faults).map(Duration::from_micros)
    }
}

/// Text for one line of a log or a terminal: nothing in it moves a cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notices(text: &str) -> Vec<Notice> {
        match parse(text.as_bytes()) {
            Ok(Message::Said(said)) => said.notices,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn every_key_is_heard() {
        let micros = Duration::from_micros;
        for (text, expected) in [
            ("READY=1", vec![Notice::Ready]),
            ("READY=1\n", vec![Notice::Ready]),
            ("RELOADING=1\nMONOTONIC_USEC=12", vec![Notice::Reloading]),
            ("STOPPING=1\nERRNO=2", vec![Notice::Stopping]),
            ("STATUS=two of three", vec![Notice::Status("two of three".into())]),
            ("STATUS=", vec![Notice::Status(String::new())]),
            ("STATUS=a=b\x1b[2J\r", vec![Notice::Status("a=b\u{fffd}[2J\u{fffd}".into())]),
            ("WATCHDOG=1", vec![Notice::Watchdog]),
            ("WATCHDOG=trigger", vec![Notice::WatchdogTrigger]),
            ("WATCHDOG_USEC=20000000", vec![Notice::WatchdogInterval(micros(20_000_000))]),
            ("EXTEND_TIMEOUT_USEC=1", vec![Notice::ExtendTimeout(micros(1))]),
            ("READY=1\nMAINPID=42", vec![Notice::MainPid(42), Notice::Ready]),
            ("X_MINE=1\nNOTIFYACCESS=all\nREADY=1\nnonsense", vec![Notice::Ready]),
            ("READY=0", vec![]),
            ("READY=1 ", vec![]),
            ("ready=1", vec![]),
            ("STATUS=first\nSTATUS=second", vec![Notice::Status("first".into())]),
            ("", vec![]),
            ("\n\n=\n=1\n", vec![]),
        ] {
            assert_eq!(notices(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_number_changes_nothing_and_is_told() {
        for (text, key) in [
            ("MAINPID=x", "MAINPID"),
            ("MAINPID=-1", "MAINPID"),
            ("MAINPID=+1", "MAINPID"),
            ("MAINPID=99999999999", "MAINPID"),
            ("WATCHDOG_USEC=", "WATCHDOG_USEC"),
            ("EXTEND_TIMEOUT_USEC=1.5", "EXTEND_TIMEOUT_USEC"),
            ("ERRNO=ENOENT", "ERRNO"),
        ] {
            let Ok(Message::Said(said)) = parse(text.as_bytes()) else { panic!("{text}") };
            assert_eq!(said.notices, [], "{text}");
            assert_eq!(said.faults.iter().map(|fault| fault.key).collect::<Vec<_>>(), [key]);
            assert_eq!(said.faults[0].to_string(), format!("`{text}` cannot be read"));
        }
        assert_eq!(notices("MAINPID=0"), []);
        assert_eq!(notices("WATCHDOG_USEC=18446744073709551615").len(), 1);
    }

    #[test]
    fn the_descriptor_store_and_errors_are_heard() {
        let said = |text: &str| match parse(text.as_bytes()) {
            Ok(Message::Said(said)) => said,
            other => panic!("{other:?}"),
        };
        let name = Some("web".to_owned());
        assert_eq!(said("FDSTORE=1\nFDNAME=web").store, Some(Store::Keep { name: name.clone() }));
        assert_eq!(said("FDSTOREREMOVE=1\nFDNAME=web").store, Some(Store::Remove { name }));
        assert_eq!(said("FDSTORE=1").store, Some(Store::Keep { name: None }));
        assert_eq!(said("FDNAME=web").store, None);
        assert_eq!(said("ERRNO=13").errno, Some(13));
    }

    #[test]
    fn a_barrier_stands_alone() {
        assert_eq!(parse(b"BARRIER=1"), Ok(Message::Barrier));
        assert_eq!(parse(b"BARRIER=1\n"), Ok(Message::Barrier));
        assert_eq!(parse(b"READY=1\nBARRIER=1"), Err(MessageError::BarrierNotAlone));
    }

    #[test]
    fn bounds_and_bytes_are_checked() {
        let longest = format!("STATUS={}", "x".repeat(MESSAGE_MAX - 7));
        assert_eq!(notices(&longest).len(), 1);
        assert_eq!(parse(format!("{longest}x").as_bytes()), Err(MessageError::TooLong));
        assert_eq!(parse(b"STATUS=\xff"), Err(MessageError::NotUtf8));
        assert_eq!(notices("READY=1\0"), []);
    }

    #[test]
    fn no_bytes_make_the_reader_panic() {
        let pieces: [&[u8]; 12] = [
            b"READY=1",
            b"\n",
            b"=",
            b"MAINPID=",
            b"7",
            b"\xff",
            b"\0",
            b"BARRIER=1",
            b"STATUS=",
            b"\xc3\xa9",
            b"_USEC",
            b"WATCHDOG",
        ];
        let mut state = 0x5eed_u64;
        for _ in 0..20_000 {
            let mut datagram = Vec::new();
            for _ in 0..8 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                datagram.extend_from_slice(pieces[(state % 12) as usize]);
            }
            let _ = parse(&datagram);
        }
    }
}
