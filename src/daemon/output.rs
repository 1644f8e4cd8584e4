//! Output of processes on its way to fated's own: whole lines, the node's name before each.
//!
//! A *pipe* belongs to one stream of one node; a *sink* is fated's stdout or stderr. A sink that takes nothing fills up
//! to a bound; then the pipes that lead to it are not read any more, and the kernel slows their writers. The loop itself
//! never waits.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::lines::{LineEnd, Splitter};
use crate::name::NodeId;
use crate::sys::stdio::{self, StdStream};
use crate::sys::{clock, fd, readiness};
use crate::time::{Duration, Monotonic};

/// How much is read from one pipe in one turn, in bytes, so that one process that writes without end holds no other
/// event up.
pub const TURN_BUDGET: usize = 64 * 1024;

/// A sink that holds this many bytes takes no more lines.
const SINK_MAX: usize = 256 * 1024;

/// How much is read after a tree's end from a pipe that someone may still hold, in bytes.
const DRAIN_MAX: usize = 1 << 20;

/// How long a reader of ours that stands still may delay fated's own end.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// How long one that takes a little from time to time may delay it.
const FINISH_PATIENCE: Duration = Duration::from_secs(10);

/// fated's own streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out = 0,
    Err = 1,
}

pub struct Outputs {
    pipes: Vec<Option<Pipe>>,
    sinks: [Sink; 2],
    labels: Labels,
    buffer: Box<[u8]>,
}

struct Pipe {
    fd: OwnedFd,
    node: NodeId,
    stream: Stream,
    splitter: Splitter,
    /// The last piece was a line cut at the limit: the next one continues it.
    continues: bool,
}

/// What one turn with a pipe came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing is left for now.
    Dry,
    /// There may be more, or the end: to be read again in the next turn.
    More,
    /// The sink is full: go on when it has room.
    Blocked,
    /// The last writer has gone.
    Over,
}

struct Sink {
    stream: Option<StdStream>,
    held: VecDeque<u8>,
    /// Pipes that wait for room.
    waiting: Vec<usize>,
    /// At the end its reader was waited for and took nothing: it is not waited for again.
    given_up: bool,
    colour: bool,
}

impl Outputs {
    /// `paths`: the node paths of the tree, by id, for the labels.
    pub fn new(paths: Vec<String>) -> Self {
        Self {
            pipes: Vec::new(),
            sinks: [Sink::new(stdio::stdout()), Sink::new(stdio::stderr())],
            labels: Labels::new(paths),
            buffer: vec![0; TURN_BUDGET].into_boxed_slice(),
        }
    }

    /// A new pipe for a stream of a node: its index, and the end for the process to write to.
    ///
    /// # Errors
    /// No descriptor.
    pub fn open(&mut self, node: NodeId, stream: Stream) -> io::Result<(usize, OwnedFd)> {
        let (read, write) = fd::pipe()?;
        fd::set_nonblocking(read.as_fd(), true)?;
        let pipe = Pipe { fd: fd::raise(read), node, stream, splitter: Splitter::new(), continues: false };
        let index = match self.pipes.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.pipes.push(None);
                self.pipes.len() - 1
            }
        };
        self.pipes[index] = Some(pipe);
        Ok((index, write))
    }

    /// The descriptor to watch for a pipe.
    pub fn pipe_fd(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.pipes.get(index)?.as_ref().map(|pipe| pipe.fd.as_fd())
    }

    /// The descriptor to watch for room in a sink; `None` where it never lacks room.
    pub fn sink_fd(&self, index: usize) -> Option<BorrowedFd<'_>> {
        let stream = self.sinks.get(index)?.stream.as_ref()?;
        stream.is_pollable().then(|| stream.as_fd())
    }

    /// Forgets a pipe, after its descriptor was taken out of the poll set.
    pub fn close(&mut self, index: usize) {
        if let Some(pipe) = self.pipes.get_mut(index) {
            *pipe = None;
        }
    }

    /// Reads from a pipe, up to the budget of one turn.
    pub fn read(&mut self, index: usize) -> Turn {
        let Some(Some(pipe)) = self.pipes.get_mut(index) else { return Turn::Dry };
        let sink = &mut self.sinks[pipe.stream as usize];
        if sink.is_full() {
            if !sink.waiting.contains(&index) {
                sink.waiting.push(index);
            }
            return Turn::Blocked;
        }
        let turn = match read(&pipe.fd, &mut self.buffer) {
            Ok(0) => Turn::Over,
            Ok(length) => {
                let mut lines = pipe.splitter.feed(&self.buffer[..length]);
                while let Some(line) = lines.next_line() {
                    sink.put_line(&self.labels, pipe.node, line.bytes, pipe.continues);
                    pipe.continues = line.end == LineEnd::Split;
                }
                // Readiness is told once: only a read that finds nothing, or the end, says that there is no more.
                Turn::More
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Turn::Dry,
            Err(error) => {
                log::warn!("cannot read the output of {}: {error}", self.labels.paths[pipe.node.index()]);
                Turn::Over
            }
        };
        if turn == Turn::Over
            && let Some(rest) = pipe.splitter.finish()
        {
            sink.put_line(&self.labels, pipe.node, rest.bytes, pipe.continues);
        }
        sink.flush();
        turn
    }

    /// A sink has room again: writes, and says which pipes may be read again.
    pub fn unblock(&mut self, index: usize) -> Vec<usize> {
        let Some(sink) = self.sinks.get_mut(index) else { return Vec::new() };
        sink.flush();
        if sink.is_full() { Vec::new() } else { core::mem::take(&mut sink.waiting) }
    }

    /// fated's own lines, to stderr between those of the processes.
    pub fn put_log(&mut self, lines: &[u8]) {
        let sink = &mut self.sinks[Stream::Err as usize];
        // A reader that stands still loses log lines, not the tree its supervisor.
        if !sink.is_full() {
            sink.held.extend(lines);
        }
        sink.flush();
    }

    /// Reads what is left in the pipes and writes it out, both bounded, whatever the number of pipes.
    pub fn finish(&mut self) {
        let deadline = clock::now() + FINISH_PATIENCE;
        for index in 0..self.pipes.len() {
            let mut read = 0;
            while read < DRAIN_MAX {
                match self.read(index) {
                    Turn::More | Turn::Dry if self.pipe_has_input(index) => read += TURN_BUDGET,
                    Turn::More | Turn::Dry | Turn::Over => break,
                    Turn::Blocked => {
                        let Some(Some(pipe)) = self.pipes.get(index) else { break };
                        if !self.sinks[pipe.stream as usize].drain(deadline) {
                            break;
                        }
                    }
                }
            }
            if let Some(Some(pipe)) = self.pipes.get_mut(index)
                && let Some(rest) = pipe.splitter.finish()
            {
                self.sinks[pipe.stream as usize].put_line(&self.labels, pipe.node, rest.bytes, pipe.continues);
            }
        }
        for sink in &mut self.sinks {
            if !sink.drain(deadline) {
                stdio::write_stderr(b"fated: warning: output was dropped: its reader takes nothing\n");
            }
        }
    }

    fn pipe_has_input(&self, index: usize) -> bool {
        self.pipe_fd(index).is_some_and(|fd| fd::wait_readable(fd, Some(Duration::ZERO)).unwrap_or(false))
    }
}

impl Sink {
    fn new(inherited: BorrowedFd<'_>) -> Self {
        let colour = crate::sys::tty::is_tty(inherited) && colour_is_wanted();
        // Without the descriptor there is nobody to tell.
        let stream = StdStream::open(inherited).ok();
        Self { stream, held: VecDeque::new(), waiting: Vec::new(), given_up: false, colour }
    }

    fn is_full(&self) -> bool {
        self.held.len() >= SINK_MAX
    }

    fn put_line(&mut self, labels: &Labels, node: NodeId, bytes: &[u8], continues: bool) {
        labels.put(node, self.colour, continues, &mut self.held);
        self.held.extend(bytes);
        self.held.push_back(b'\n');
    }

    /// Writes until nothing is left or nothing more is taken.
    fn flush(&mut self) {
        while !self.held.is_empty() {
            let Some(stream) = &self.stream else { return self.held.clear() };
            match stream.write(self.held.as_slices().0) {
                Ok(written) => drop(self.held.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The reader has gone: nobody will take any more.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.stream = None;
                    self.held.clear();
                }
                // The disk is full: the tree goes on without this output.
                Err(_) => self.held.clear(),
            }
        }
    }

    /// Flushes, waiting while the reader takes something; whether everything is out.
    fn drain(&mut self, deadline: Monotonic) -> bool {
        loop {
            self.flush();
            let left = deadline.since(clock::now()).min(FLUSH_PATIENCE);
            match &self.stream {
                Some(stream) if !self.held.is_empty() && !self.given_up && !left.is_zero() => {
                    self.given_up = !readiness::wait_writable(stream.as_fd(), Some(left)).unwrap_or(false);
                }
                Some(_) | None => return self.held.is_empty(),
            }
        }
    }
}

fn read(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match nix::unistd::read(fd, buffer) {
            Err(nix::errno::Errno::EINTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

/// `NO_COLOR` and a dumb terminal are wishes to be respected.
fn colour_is_wanted() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_some_and(|terminal| terminal != "dumb")
}

/// What stands before a line.
struct Labels {
    paths: Vec<String>,
    width: usize,
}

impl Labels {
    fn new(paths: Vec<String>) -> Self {
        let width = paths.iter().map(String::len).max().unwrap_or(0).min(24);
        Self { paths, width }
    }

    fn put(&self, node: NodeId, colour: bool, continues: bool, held: &mut VecDeque<u8>) {
        use anstyle::AnsiColor;
        const COLOURS: [AnsiColor; 6] =
            [AnsiColor::Cyan, AnsiColor::Yellow, AnsiColor::Green, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::Red];
        let path = &self.paths[node.index()];
        let mark = if continues { '+' } else { '|' };
        let width = self.width;
        let label = if colour {
            let style = COLOURS[node.index() % COLOURS.len()].on_default();
            format!("{style}{path:width$} {mark}{style:#} ")
        } else {
            format!("{path:width$} {mark} ")
        };
        held.extend(label.as_bytes());
    }
}
