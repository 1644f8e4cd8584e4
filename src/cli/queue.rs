//! `fated queue put` and `fated queue get`: a shared queue as lines of text, for shell scripts.
//!
//! They use what every process of a tree is given and nothing else: the descriptors that `FATED_QUEUE_<NAME>_PUT` and `_GET`
//! name, where one write is one message and a read of 0 is the end, and the longest message in `FATED_QUEUE_<NAME>_MAX`.

mod error;

use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno as Nix;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{read, write};

pub use self::error::{Place, QueueError};
use crate::lines::{Line, LineEnd, Splitter};
use crate::name::Name;
use crate::spec::QueueEnd;
use crate::start::Errno;
use crate::sys::inherited;

/// How much of stdin is read at once, in bytes.
const INPUT_SIZE: usize = 64 * 1024;

/// Taken messages are written out once they come to so many bytes. Small, because others may take what waits in the queue.
const OUTPUT_SIZE: usize = 8 * 1024;

/// A line over the limit is read to its end, to tell its size, but not further than this.
const COUNT_MAX: u64 = 16 * 1024 * 1024;

/// The largest `FATED_QUEUE_<NAME>_MAX` that is believed, in bytes.
const MESSAGE_MAX: usize = 1 << 30;

/// Puts each line of stdin, or each text up to a NUL byte with `null`, as one message. Input after the last newline is a message as well.
///
/// # Errors
/// The first message that cannot be put ends it; those before it are in the queue, none after it is.
pub fn put(queue: &str, null: bool) -> Result<(), QueueError> {
    let queue = Queue::open(queue, QueueEnd::Put, &variables())?;
    put_all(std::io::stdin().as_fd(), &queue, null)
}

/// Takes messages and writes each to stdout with a newline (a NUL byte with `null`) after it, until the queue has ended or `count`
/// have been taken. What was taken is never held back while the queue is empty.
///
/// That stdout has no reader any more ends it with success where it was seen before a message was taken.
///
/// # Errors
/// Also where taken messages could not be written: they are lost.
pub fn get(queue: &str, null: bool, count: Option<u64>) -> Result<(), QueueError> {
    let queue = Queue::open(queue, QueueEnd::Get, &variables())?;
    get_all(Source::of(&queue), &queue, std::io::stdout().as_fd(), null, count.unwrap_or(u64::MAX))
}

type Variables = Vec<(String, String)>;

/// The variables of the environment that tell of queues.
fn variables() -> Variables {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    };
    std::env::vars_os().filter_map(text).filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

const PREFIX: &str = "FATED_QUEUE_";

/// One end of a queue.
#[derive(Debug)]
struct Queue {
    name: String,
    fd: OwnedFd,
    kind: Kind,
    /// The longest message in bytes.
    max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Socket,
    Pipe,
}

impl Queue {
    fn open(queue: &str, end: QueueEnd, variables: &Variables) -> Result<Self, QueueError> {
        let name = Name::new(queue).map_err(|error| QueueError::Name { queue: queue.to_owned(), error })?;
        let value =
            |variable: &str| variables.iter().find(|(name, _)| name == variable).map(|(_, value)| value.as_str());
        let (suffix, other) = match end {
            QueueEnd::Put => ("_PUT", "_GET"),
            QueueEnd::Get => ("_GET", "_PUT"),
        };
        let stem = format!("{PREFIX}{}", name.env_part());
        let variable = format!("{stem}{suffix}");
        let Some(text) = value(&variable) else {
            let known = |(name, _): &(String, String)| {
                Some(name.strip_prefix(PREFIX)?.strip_suffix(suffix)?.to_lowercase()).filter(|name| !name.is_empty())
            };
            let other_end = value(&format!("{stem}{other}")).is_some();
            let known = variables.iter().filter_map(known).collect();
            return Err(QueueError::NotGiven { queue: queue.to_owned(), end, variable, other_end, known });
        };
        let number = text.parse().ok().filter(|number| *number >= 0).ok_or_else(|| QueueError::Variable {
            variable: variable.clone(),
            value: text.to_owned(),
            wanted: "descriptor",
        })?;
        let variable_max = format!("{stem}_MAX");
        let text = value(&variable_max).unwrap_or_default();
        let max =
            text.parse().ok().filter(|max| (1..=MESSAGE_MAX).contains(max)).ok_or_else(|| QueueError::Variable {
                variable: variable_max,
                value: text.to_owned(),
                wanted: "size of a message in bytes",
            })?;
        let unusable = |errno| QueueError::Descriptor { variable: variable.clone(), number, errno: ours(errno) };
        let fd = inherited::duplicate(number).map_err(unusable)?;
        let kind = match SFlag::from_bits_truncate(fstat(&fd).map_err(unusable)?.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFSOCK => Kind::Socket,
            SFlag::S_IFIFO => Kind::Pipe,
            _ => return Err(QueueError::NoQueue { variable, number }),
        };
        Ok(Self { name: queue.to_owned(), fd, kind, max })
    }

    fn failed(&self, action: &'static str) -> impl Fn(Nix) -> QueueError + '_ {
        move |errno| QueueError::System { action, queue: self.name.clone(), errno: ours(errno) }
    }

    /// Puts one message, and waits while the queue is full.
    fn put(&self, message: &[u8]) -> Result<(), QueueError> {
        let queue = || self.name.clone();
        let bytes = message.len();
        loop {
            match write(&self.fd, message) {
                Ok(taken) if taken == bytes => return Ok(()),
                Ok(taken) => return Err(QueueError::Torn { queue: queue(), bytes, taken }),
                Err(Nix::EINTR) => {}
                // Somebody who shares the descriptor has set it non-blocking.
                Err(Nix::EAGAIN) => wait(self.fd.as_fd(), PollFlags::POLLOUT).map_err(self.failed("wait"))?,
                Err(Nix::EPIPE | Nix::ECONNRESET) => return Err(QueueError::Closed { queue: queue() }),
                Err(errno @ (Nix::EMSGSIZE | Nix::ENOBUFS)) => {
                    return Err(QueueError::Refused { queue: queue(), bytes, errno: ours(errno) });
                }
                Err(errno) => return Err(self.failed("put a message")(errno)),
            }
        }
    }
}

fn ours(errno: Nix) -> Errno {
    Errno(errno as i32)
}

/// Waits until a descriptor is ready, or has an error that the next call on it will tell.
fn wait(fd: BorrowedFd<'_>, interest: PollFlags) -> Result<(), Nix> {
    loop {
        match poll(&mut [PollFd::new(fd, interest)], PollTimeout::NONE) {
            Err(Nix::EINTR) => {}
            done => return done.map(drop),
        }
    }
}

fn put_all(input: BorrowedFd<'_>, queue: &Queue, null: bool) -> Result<(), QueueError> {
    let mut splitter = Splitter::with(delimiter(null), queue.max);
    let mut putter = Putter { queue, null, number: 1, excess: 0 };
    let mut buffer = vec![0; INPUT_SIZE];
    loop {
        match read(input, &mut buffer) {
            Ok(0) => break,
            Ok(size) => {
                let mut lines = splitter.feed(&buffer[..size]);
                while let Some(line) = lines.next_line() {
                    putter.put(line)?;
                }
            }
            Err(Nix::EINTR) => {}
            Err(Nix::EAGAIN) => wait(input, PollFlags::POLLIN).map_err(queue.failed("wait for stdin"))?,
            Err(errno) => return Err(queue.failed("read stdin")(errno)),
        }
    }
    match splitter.finish() {
        Some(rest) => putter.put(rest),
        None => Ok(()),
    }
}

fn delimiter(null: bool) -> u8 {
    if null { 0 } else { b'\n' }
}

struct Putter<'a> {
    queue: &'a Queue,
    null: bool,
    /// The number of the next message.
    number: u64,
    /// How many bytes of it have been dropped because it is too long: it will be refused at its end.
    excess: u64,
}

impl Putter<'_> {
    fn put(&mut self, line: Line<'_>) -> Result<(), QueueError> {
        let queue = || self.queue.name.clone();
        let place = Place { number: self.number, null: self.null };
        let bytes = self.excess + line.bytes.len() as u64;
        let at_least = match line.end {
            LineEnd::Split if bytes < COUNT_MAX => {
                self.excess = bytes;
                return Ok(());
            }
            LineEnd::Split => true,
            LineEnd::Whole | LineEnd::Partial => false,
        };
        if at_least || self.excess > 0 {
            return Err(QueueError::TooLong { queue: queue(), place, bytes, at_least, max: self.queue.max });
        }
        if line.bytes.is_empty() {
            return Err(QueueError::Empty { queue: queue(), place });
        }
        self.number += 1;
        self.queue.put(line.bytes)
    }
}

/// Where messages are taken from, without waiting where the kernel allows it.
///
/// That a message is there does not mean that it will be ours: another process may take it first. So a read that may wait comes
/// only after everything taken has been written out.
enum Source<'a> {
    Socket(BorrowedFd<'a>),
    /// An opening of our own, so that it is non-blocking for nobody else.
    Pipe(OwnedFd),
    /// A pipe that could not be opened again: there is no /proc, or it is another user's.
    WaitingPipe(BorrowedFd<'a>),
}

enum Take {
    Message(usize),
    Nothing,
    End,
}

impl<'a> Source<'a> {
    fn of(queue: &'a Queue) -> Self {
        match queue.kind {
            Kind::Socket => Self::Socket(queue.fd.as_fd()),
            Kind::Pipe => {
                let path = format!("/proc/self/fd/{}", queue.fd.as_raw_fd());
                match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
                    Ok(own) => Self::Pipe(own.into()),
                    Err(_) => Self::WaitingPipe(queue.fd.as_fd()),
                }
            }
        }
    }

    fn may_wait(&self) -> bool {
        matches!(self, Self::WaitingPipe(_))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(fd) | Self::WaitingPipe(fd) => *fd,
            Self::Pipe(own) => own.as_fd(),
        }
    }

    fn take(&self, queue: &Queue, buffer: &mut [u8]) -> Result<Take, QueueError> {
        let max = buffer.len();
        let taken = match self {
            // The length is the message's own, even where the buffer is shorter.
            Self::Socket(fd) => recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC),
            Self::Pipe(_) | Self::WaitingPipe(_) => read(self.fd(), buffer),
        };
        match taken {
            Ok(0) => Ok(Take::End),
            Ok(bytes) if bytes > max => Err(QueueError::Truncated { queue: queue.name.clone(), bytes, max }),
            Ok(bytes) => Ok(Take::Message(bytes)),
            Err(Nix::EAGAIN | Nix::EINTR) => Ok(Take::Nothing),
            Err(errno) => Err(queue.failed("get a message")(errno)),
        }
    }
}

fn get_all(
    source: Source<'_>,
    queue: &Queue,
    output: BorrowedFd<'_>,
    null: bool,
    count: u64,
) -> Result<(), QueueError> {
    let mut buffer = vec![0; queue.max];
    let mut pending = Pending { queue, output, bytes: Vec::new(), ends: Vec::new() };
    let mut left = count;
    while left > 0 {
        if source.may_wait() {
            pending.write_out()?;
        }
        if pending.bytes.is_empty() && !pending.may_take(&source, source.may_wait())? {
            return Ok(());
        }
        match source.take(queue, &mut buffer).or_else(|error| pending.write_out().and(Err(error)))? {
            Take::Message(bytes) => {
                pending.add(&buffer[..bytes], delimiter(null));
                left -= 1;
                if pending.bytes.len() >= OUTPUT_SIZE {
                    pending.write_out()?;
                }
            }
            Take::Nothing => {
                pending.write_out()?;
                if !pending.may_take(&source, true)? {
                    return Ok(());
                }
            }
            Take::End => break,
        }
    }
    pending.write_out()
}

/// Messages that were taken and not yet written.
struct Pending<'a> {
    queue: &'a Queue,
    output: BorrowedFd<'a>,
    bytes: Vec<u8>,
    /// Where each message ends in `bytes`.
    ends: Vec<usize>,
}

impl Pending<'_> {
    fn add(&mut self, message: &[u8], delimiter: u8) {
        self.bytes.extend_from_slice(message);
        self.bytes.push(delimiter);
        self.ends.push(self.bytes.len());
    }

    /// Whether a message would still find a reader; waits for a message where asked to.
    fn may_take(&self, source: &Source<'_>, wait: bool) -> Result<bool, QueueError> {
        let timeout = if wait { PollTimeout::NONE } else { PollTimeout::ZERO };
        // Hang-ups and errors are reported whether asked for or not.
        let mut fds = [PollFd::new(source.fd(), PollFlags::POLLIN), PollFd::new(self.output, PollFlags::empty())];
        loop {
            match poll(&mut fds, timeout) {
                Err(Nix::EINTR) => {}
                Err(errno) => return Err(self.queue.failed("wait for a message")(errno)),
                Ok(_) => return Ok(!fds[1].any().unwrap_or(true)),
            }
        }
    }

    fn write_out(&mut self) -> Result<(), QueueError> {
        let mut written = 0;
        while written < self.bytes.len() {
            let errno = match write(self.output, &self.bytes[written..]) {
                Ok(bytes) => {
                    written += bytes;
                    continue;
                }
                Err(Nix::EINTR) => continue,
                Err(Nix::EAGAIN) => match wait(self.output, PollFlags::POLLOUT) {
                    Ok(()) => continue,
                    Err(errno) => errno,
                },
                Err(errno) => errno,
            };
            let messages = self.ends.iter().filter(|end| **end > written).count();
            return Err(QueueError::Lost { queue: self.queue.name.clone(), messages, errno: ours(errno) });
        }
        self.bytes.clear();
        self.ends.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
