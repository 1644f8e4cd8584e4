//! What can go wrong with a queue in a shell, told so that the next step is clear.

use core::fmt;

use crate::exit::Verdict;
use crate::name::NameError;
use crate::spec::QueueEnd;
use crate::start::Errno;

/// Why `fated queue put` or `get` failed. The text is a fragment that fits after `fated: `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// The argument cannot be the name of a queue.
    Name {
        queue: String,
        error: NameError,
    },
    /// This process was not given that end of that queue. `known`: the queues of which it has this end.
    NotGiven {
        queue: String,
        end: QueueEnd,
        variable: String,
        other_end: bool,
        known: Vec<String>,
    },
    /// A variable of fated's does not hold what it should.
    Variable {
        variable: String,
        value: String,
        wanted: &'static str,
    },
    /// The descriptor that a variable names cannot be used.
    Descriptor {
        variable: String,
        number: i32,
        errno: Errno,
    },
    /// The descriptor that a variable names leads to something else.
    NoQueue {
        variable: String,
        number: i32,
    },
    /// An empty message would read like the queue's end.
    Empty {
        queue: String,
        place: Place,
    },
    TooLong {
        queue: String,
        place: Place,
        bytes: u64,
        at_least: bool,
        max: usize,
    },
    /// Nobody takes from the queue any more.
    Closed {
        queue: String,
    },
    /// The kernel refused a message because of its size, or for want of memory.
    Refused {
        queue: String,
        bytes: usize,
        errno: Errno,
    },
    /// The kernel took a part of a message.
    Torn {
        queue: String,
        bytes: usize,
        taken: usize,
    },
    /// A message was longer than the queue's limit says; its rest is lost.
    Truncated {
        queue: String,
        bytes: usize,
        max: usize,
    },
    /// Messages were taken from the queue and could not be written to stdout.
    Lost {
        queue: String,
        messages: usize,
        errno: Errno,
    },
    /// Another system call failed.
    System {
        action: &'static str,
        queue: String,
        errno: Errno,
    },
}

/// Which of the messages on stdin, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub number: u64,
    /// The messages end in NUL, so their numbers are no line numbers.
    pub null: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.null { "message" } else { "line" }, self.number)
    }
}

impl QueueError {
    /// How fated ends because of it.
    pub fn verdict(&self) -> Verdict {
        Verdict::FAILED
    }
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { queue, error } => write!(f, "`{queue}` is no queue: {error}"),
            Self::NotGiven { queue, end, variable, other_end, known } => {
                not_given(f, queue, *end, variable, *other_end, known)
            }
            Self::Variable { variable, value, wanted } => write!(f, "{variable} is `{value}`, which is no {wanted}"),
            Self::Descriptor { variable, number, errno } => {
                write!(f, "cannot use descriptor {number} of {variable}: {errno}")?;
                f.write_str("; did a program in between close it (in Python: `pass_fds`)?")
            }
            Self::NoQueue { variable, number } => write!(f, "descriptor {number} of {variable} leads to no queue"),
            Self::Empty { queue, place } => {
                write!(f, "{place} is empty; queue `{queue}` takes no empty message, it would read like the end")
            }
            Self::TooLong { queue, place, bytes, at_least, max } => {
                let at_least = if *at_least { "at least " } else { "" };
                write!(f, "{place} has {at_least}{bytes} bytes; queue `{queue}` takes messages of at most {max}")
            }
            Self::Closed { queue } => write!(f, "queue `{queue}` is closed: nobody takes from it any more"),
            Self::Refused { queue, bytes, errno } => {
                write!(f, "queue `{queue}` cannot hold a message of {bytes} bytes: {errno}; raise its `capacity`")
            }
            Self::Torn { queue, bytes, taken } => {
                write!(f, "queue `{queue}` took {taken} of a message's {bytes} bytes: it is in no packet mode")
            }
            Self::Truncated { queue, bytes, max } => {
                write!(
                    f,
                    "a message of queue `{queue}` has {bytes} bytes, more than the {max} that it takes; it is lost"
                )
            }
            Self::Lost { queue, messages: 1, errno } => {
                write!(f, "a message taken from queue `{queue}` is lost: cannot write to stdout: {errno}")
            }
            Self::Lost { queue, messages, errno } => {
                write!(f, "{messages} messages taken from queue `{queue}` are lost: cannot write to stdout: {errno}")
            }
            Self::System { action, queue, errno } => write!(f, "queue `{queue}`: cannot {action}: {errno}"),
        }
    }
}

fn not_given(
    f: &mut fmt::Formatter<'_>,
    queue: &str,
    end: QueueEnd,
    variable: &str,
    other_end: bool,
    known: &[String],
) -> fmt::Result {
    let (verb, key) = match end {
        QueueEnd::Put => ("put to", "put"),
        QueueEnd::Get => ("get from", "get"),
    };
    write!(f, "this process may not {verb} queue `{queue}`: {variable} is not set; ")?;
    let near = known.iter().map(|name| (strsim::damerau_levenshtein(name, &queue.to_lowercase()), name)).min();
    match near {
        Some((distance, name)) if distance <= 2 => write!(f, "did you mean `{name}`?"),
        _ if other_end => write!(f, "`queues = {{ {queue} = \"{key}\" }}` in the tree file allows it"),
        None => write!(f, "the tree file gives it no queue to {verb}, or fated did not start it"),
        Some(_) => write!(f, "it may {verb} `{}`", known.join("`, `")),
    }
}

impl core::error::Error for QueueError {}
