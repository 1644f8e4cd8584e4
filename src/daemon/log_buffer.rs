//! fated's own log: lines wait here until the loop puts them to stderr between those of the processes, so that
//! neither is cut by the other and a stderr that stands still stops nothing.

use std::io::{self, Write};
use std::sync::Mutex;

use log::LevelFilter;

use crate::render::log::Level;

/// More than this many bytes are not held; a line that does not fit is counted and dropped.
const HELD_MAX: usize = 256 * 1024;

static HELD: Mutex<Held> = Mutex::new(Held { bytes: Vec::new(), dropped: 0 });

struct Held {
    bytes: Vec<u8>,
    dropped: u64,
}

/// Makes this the log of the program. `RUST_LOG`, where set, wins over `level`.
pub fn init(level: LevelFilter) {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level);
    if let Ok(filter) = std::env::var("RUST_LOG") {
        builder.parse_filters(&filter);
    }
    builder.format(|out, record| {
        let severity = match record.level() {
            log::Level::Error => "error: ",
            log::Level::Warn => "warning: ",
            log::Level::Info | log::Level::Debug | log::Level::Trace => "",
        };
        writeln!(out, "fated: {severity}{}", record.args())
    });
    builder.target(env_logger::Target::Pipe(Box::new(Buffer)));
    // A second logger in one process is a test's affair.
    let _ = builder.try_init();
}

/// The logger's word for how much a line matters.
pub fn level(level: Level) -> log::Level {
    match level {
        Level::Error => log::Level::Error,
        Level::Warn => log::Level::Warn,
        Level::Info => log::Level::Info,
        Level::Debug => log::Level::Debug,
    }
}

/// Hands out the lines that wait, if any.
pub fn take(out: impl FnOnce(&[u8])) {
    let mut held = lock();
    if held.dropped > 0 {
        let line = format!("fated: warning: {} log lines were dropped: stderr takes nothing\n", held.dropped);
        held.dropped = 0;
        held.bytes.extend_from_slice(line.as_bytes());
    }
    if !held.bytes.is_empty() {
        out(&held.bytes);
        held.bytes.clear();
    }
}

/// Writes the lines that wait to stderr, where no loop runs.
pub fn flush() {
    take(|lines| drop(io::stderr().write_all(lines)));
}

struct Buffer;

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = lock();
        if held.bytes.len() + bytes.len() <= HELD_MAX {
            held.bytes.extend_from_slice(bytes);
        } else {
            held.dropped += 1;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock() -> std::sync::MutexGuard<'static, Held> {
    HELD.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
