//! Finding out whether a process is ready, where it does not say so itself: a descriptor that it writes to, an address
//! that takes connections, a command that succeeds.
//!
//! A probe begins with `Command::AwaitReady` and ends with `Event::Ready`, with the main process, or with the life. A
//! connection or a command that fails is tried again after a delay that grows. How long all of it may take is the
//! core's affair. An address that takes connections tells that somebody listens there, not who.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use mio::Interest;
use mio::net::TcpStream;

use super::event_loop::{self, Shell};
use super::helpers::Purpose;
use super::source::Source;
use crate::exit::ExitStatus;
use crate::name::Incarnation;
use crate::spec::Readiness;
use crate::start::StartError;
use crate::supervisor::event::Event;
use crate::sys::{clock, fd};
use crate::time::{Duration, Limit, Monotonic};

/// Before the second attempt; doubled for each one that follows.
const DELAY: Duration = Duration::from_millis(50);
const DELAY_MAX: Duration = Duration::from_secs(1);

/// How long one connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one run of a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// How much is read from a readiness descriptor in one turn, in pieces.
const PIECES_A_TURN: usize = 64;

/// The probes of all lives that have one, by serial.
#[derive(Default)]
pub struct Probes(HashMap<u64, Probe>);

struct Probe {
    inc: Incarnation,
    way: Way,
    /// When the attempt under way is given up, or else the next one begins.
    due: Option<Monotonic>,
    /// Before the next attempt.
    delay: Duration,
}

enum Way {
    /// From the start of the process, whose other end it is; only looked at once it is asked for.
    Descriptor {
        pipe: OwnedFd,
        asked: bool,
    },
    Tcp {
        address: SocketAddr,
        attempt: Option<TcpStream>,
    },
    Command {
        command: Vec<OsString>,
        timeout: Duration,
        running: bool,
    },
}

/// What a look at a probe came to.
enum Look {
    Ready,
    Waiting,
    /// There is more to read than one turn takes.
    More,
    Failed(String),
    /// It cannot succeed any more.
    Over(&'static str),
}

impl Probes {
    /// The earliest instant at which `probes_due` has something to do.
    pub fn deadline(&self) -> Option<Monotonic> {
        self.0.values().filter_map(|probe| probe.due).min()
    }

    /// A process was started whose readiness comes over this pipe.
    pub fn add_pipe(&mut self, inc: Incarnation, pipe: OwnedFd) {
        self.add(inc, Way::Descriptor { pipe, asked: false });
    }

    fn add(&mut self, inc: Incarnation, way: Way) {
        self.0.insert(inc.serial, Probe { inc, way, due: None, delay: DELAY });
    }
}

impl Probe {
    /// The next attempt comes after the delay.
    fn put_off(&mut self, now: Monotonic) {
        self.due = Some(now + self.delay);
        self.delay = (self.delay * 2).min(DELAY_MAX);
    }
}

impl Shell {
    /// The pipe for a process that tells by a descriptor: our end and its own.
    pub(super) fn readiness_pipe(ready: &Readiness) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
        match ready {
            Readiness::Descriptor(_) => {
                let (read, write) = fd::pipe()?;
                fd::set_nonblocking(read.as_fd(), true)?;
                Ok(Some((fd::raise(read), write)))
            }
            Readiness::Started | Readiness::Exited | Readiness::Notify | Readiness::Tcp(_) | Readiness::Exec(_) => {
                Ok(None)
            }
        }
    }

    /// Begins to find out when a life is ready.
    pub(super) fn await_ready(&mut self, inc: Incarnation) {
        let Some(process) = self.core.spec().node(inc.node).process() else { return };
        match &process.ready {
            Readiness::Descriptor(_) => return self.watch_readiness_pipe(inc),
            Readiness::Tcp(address) => {
                self.probes.add(inc, Way::Tcp { address: *address, attempt: None });
            }
            Readiness::Exec(command) => {
                let timeout = match process.start_timeout {
                    Limit::After(limit) => limit.min(COMMAND_TIMEOUT),
                    Limit::Never => COMMAND_TIMEOUT,
                };
                let way = Way::Command { command: command.clone(), timeout, running: false };
                self.probes.add(inc, way);
            }
            // The core hears of these itself.
            Readiness::Started | Readiness::Exited | Readiness::Notify => return,
        }
        self.attempt(inc.serial);
    }

    fn watch_readiness_pipe(&mut self, inc: Incarnation) {
        let Some(Probe { way: Way::Descriptor { pipe, asked }, .. }) = self.probes.0.get_mut(&inc.serial) else {
            return;
        };
        *asked = true;
        // What was written before is reported at once.
        if let Err(error) = event_loop::watch(&self.poll, pipe.as_fd(), Source::Probe(inc.serial)) {
            log::error!("cannot watch the readiness descriptor of {}: {error}", self.path(inc));
        }
    }

    /// One connection or one run of the command.
    fn attempt(&mut self, serial: u64) {
        let now = clock::now();
        let in_flight = self.starts_under_way();
        let Some(probe) = self.probes.0.get_mut(&serial) else { return };
        let inc = probe.inc;
        match &mut probe.way {
            Way::Descriptor { .. } => {}
            Way::Tcp { address, attempt } => {
                let registry = self.poll.registry();
                let connected = TcpStream::connect(*address).and_then(|mut stream| {
                    registry.register(&mut stream, Source::Probe(serial).token(), Interest::WRITABLE)?;
                    Ok(stream)
                });
                match connected {
                    Ok(stream) => {
                        *attempt = Some(stream);
                        probe.due = Some(now + CONNECT_TIMEOUT);
                    }
                    Err(error) => {
                        probe.put_off(now);
                        log::debug!("{} is not ready: cannot connect: {error}", self.path(inc));
                    }
                }
            }
            // The starts of processes come first.
            Way::Command { .. } if in_flight >= self.in_flight_max => probe.put_off(now),
            Way::Command { command, timeout, running } => {
                let command = command.clone();
                *running = true;
                probe.due = Some(now + *timeout);
                if let Err(error) = self.start_helper(inc, Purpose::Probe, command) {
                    self.probe_command_ended(inc, &Err(error));
                }
            }
        }
    }

    /// The descriptor of a probe has news.
    pub(super) fn look_at_probe(&mut self, serial: u64) {
        let Some(probe) = self.probes.0.get_mut(&serial) else { return };
        let inc = probe.inc;
        let look = match &mut probe.way {
            Way::Descriptor { pipe, asked: true } => read_readiness(pipe),
            Way::Tcp { attempt: Some(stream), .. } => look_at_connection(stream),
            Way::Descriptor { asked: false, .. } | Way::Tcp { attempt: None, .. } | Way::Command { .. } => {
                Look::Waiting
            }
        };
        match look {
            Look::Ready => self.is_ready(inc),
            Look::Waiting => {}
            Look::More => self.ready.push(Source::Probe(serial)),
            Look::Failed(why) => {
                self.give_up_connection(serial);
                log::debug!("{} is not ready: {why}", self.path(inc));
            }
            Look::Over(why) => {
                self.withdraw_probe(serial);
                log::warn!("{} is not ready and cannot become it: {why}", self.path(inc));
            }
        }
    }

    /// The process has ended: what it wrote before counts.
    pub(super) fn look_at_last_readiness(&mut self, serial: u64) {
        if let Some(Probe { way: Way::Descriptor { asked, .. }, .. }) = self.probes.0.get_mut(&serial) {
            *asked = true;
            self.look_at_probe(serial);
        }
    }

    fn give_up_connection(&mut self, serial: u64) {
        let Some(probe) = self.probes.0.get_mut(&serial) else { return };
        probe.put_off(clock::now());
        if let Way::Tcp { attempt, .. } = &mut probe.way
            && let Some(mut stream) = attempt.take()
        {
            let _ = self.poll.registry().deregister(&mut stream);
        }
    }

    /// What probes have to do by now: to give an attempt up, or to begin one.
    pub(super) fn probes_due(&mut self, now: Monotonic) {
        let due = |probe: &Probe| probe.due.is_some_and(|due| due <= now);
        let serials: Vec<u64> =
            self.probes.0.iter().filter(|(_, probe)| due(probe)).map(|(serial, _)| *serial).collect();
        for serial in serials {
            let Some(probe) = self.probes.0.get_mut(&serial) else { continue };
            let inc = probe.inc;
            match &mut probe.way {
                Way::Descriptor { .. } => probe.due = None,
                Way::Tcp { attempt: Some(_), .. } => {
                    self.give_up_connection(serial);
                    log::debug!("{} is not ready: the connection takes too long", self.path(inc));
                }
                Way::Command { running: true, .. } => {
                    // Its end brings the next attempt.
                    probe.due = None;
                    self.processes.helpers.kill(serial, Some(Purpose::Probe));
                    log::debug!("{} is not ready: the command takes too long", self.path(inc));
                }
                Way::Tcp { attempt: None, .. } | Way::Command { running: false, .. } => self.attempt(serial),
            }
        }
    }

    /// A command that was to find out has ended.
    pub(super) fn probe_command_ended(&mut self, inc: Incarnation, result: &Result<ExitStatus, StartError>) {
        let Some(probe) = self.probes.0.get_mut(&inc.serial) else { return };
        let Way::Command { running, .. } = &mut probe.way else { return };
        *running = false;
        probe.put_off(clock::now());
        match result {
            Ok(ExitStatus::SUCCESS) => self.is_ready(inc),
            Ok(status) => log::debug!("{} is not ready: the command {status}", self.path(inc)),
            Err(error) => log::warn!("{}: its readiness command: {error}", self.path(inc)),
        }
    }

    fn is_ready(&mut self, inc: Incarnation) {
        self.withdraw_probe(inc.serial);
        self.core.handle_event(Event::Ready { inc }, clock::now());
    }

    /// It is not to be found out any more; a command under way is killed.
    pub(super) fn withdraw_probe(&mut self, serial: u64) {
        let Some(probe) = self.probes.0.remove(&serial) else { return };
        match probe.way {
            Way::Descriptor { pipe, .. } => event_loop::forget(&self.poll, pipe.as_fd()),
            Way::Tcp { attempt, .. } => {
                if let Some(mut stream) = attempt {
                    let _ = self.poll.registry().deregister(&mut stream);
                }
            }
            Way::Command { running: true, .. } => self.processes.helpers.kill(serial, Some(Purpose::Probe)),
            Way::Command { running: false, .. } => {}
        }
    }
}

/// Reads until a newline; what stands before it has no meaning.
fn read_readiness(pipe: &OwnedFd) -> Look {
    let mut buffer = [0; 1024];
    for _ in 0..PIECES_A_TURN {
        match fd::read(pipe.as_fd(), &mut buffer) {
            Ok(0) => return Look::Over("its readiness descriptor was closed without a newline"),
            Ok(length) if buffer[..length].contains(&b'\n') => return Look::Ready,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Look::Waiting,
            Err(_) => return Look::Over("its readiness descriptor cannot be read"),
        }
    }
    Look::More
}

fn look_at_connection(stream: &TcpStream) -> Look {
    if let Ok(Some(error)) | Err(error) = stream.take_error() {
        return Look::Failed(format!("cannot connect: {error}"));
    }
    match (stream.peer_addr(), stream.local_addr()) {
        // A connection to a free port of this machine can be given that very port as its own end, and meet itself.
        (Ok(peer), Ok(own)) if peer == own => Look::Failed("nobody listens".to_owned()),
        (Ok(_), _) => Look::Ready,
        // It is under way.
        (Err(_), _) => Look::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_newline_is_readiness_and_a_close_is_none() {
        let (pipe, write) = Shell::readiness_pipe(&Readiness::Descriptor(3)).unwrap().unwrap();
        let mut write = File::from(write);
        assert!(matches!(read_readiness(&pipe), Look::Waiting));
        write.write_all(b"not yet").unwrap();
        assert!(matches!(read_readiness(&pipe), Look::Waiting));
        write.write_all(b"now\n").unwrap();
        assert!(matches!(read_readiness(&pipe), Look::Ready));
        drop(write);
        assert!(matches!(read_readiness(&pipe), Look::Over(_)));
        assert!(Shell::readiness_pipe(&Readiness::Notify).unwrap().is_none());
    }

    #[test]
    fn one_turn_of_reading_is_bounded() {
        let (pipe, write) = Shell::readiness_pipe(&Readiness::Descriptor(3)).unwrap().unwrap();
        File::from(write).write_all(&[b'x'; 65_536]).unwrap();
        assert!(matches!(read_readiness(&pipe), Look::More));
    }

    #[test]
    fn a_connection_that_is_taken_is_readiness_and_a_refused_one_is_not() {
        let settled = |address| {
            let stream = TcpStream::connect(address).unwrap();
            loop {
                crate::sys::readiness::wait_writable(stream.as_fd(), Some(Duration::from_secs(20))).unwrap();
                match look_at_connection(&stream) {
                    Look::Waiting => {}
                    look => return look,
                }
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(matches!(settled(address), Look::Ready));
        drop(listener);
        assert!(matches!(settled(address), Look::Failed(_)));
    }

    #[test]
    fn delays_grow_to_their_bound() {
        let mut probes = Probes::default();
        let inc = Incarnation { node: crate::name::NodeId(1), serial: 1 };
        probes.add(inc, Way::Command { command: Vec::new(), timeout: COMMAND_TIMEOUT, running: false });
        let mut now = Monotonic::ORIGIN;
        assert_eq!(probes.deadline(), None);
        let mut delays = Vec::new();
        for _ in 0..7 {
            probes.0.get_mut(&1).unwrap().put_off(now);
            let due = probes.deadline().unwrap();
            delays.push((due - now).as_millis());
            now = due;
        }
        assert_eq!(delays, [50, 100, 200, 400, 800, 1000, 1000]);
    }
}
