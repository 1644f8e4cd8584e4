//! NOTIFY_SOCKET: what processes say to fated, and which of them it was.
//!
//! One socket serves the whole tree. It lies in the file system, because a process in a network namespace of its own
//! cannot reach an abstract name; it takes messages from every user, because processes may have another one: who may
//! be believed is decided by the kernel's word about the sender alone. Only where no directory can be used is its name
//! an abstract one.
//!
//! A sender is believed for a life if it is its main process or a descendant of that, while a descriptor proves that
//! the number is still its own. What cannot be proved is dropped with a warning.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

use super::event_loop::{self, Shell};
use super::runtime_dir;
use super::source::Source;
use crate::name::Incarnation;
use crate::protocol::notify::{self, MESSAGE_MAX, Message, MessageError, Said, Store};
use crate::start::Errno;
use crate::supervisor::event::{Event, Notice};
use crate::sys::notify::{Receiver, Sender};
use crate::sys::{clock, fd, pidfd};
use crate::time::{Duration, Monotonic};

/// What the names of all sockets begin with.
const PREFIX: &str = "notify.";

/// How many messages are taken in one turn. More than the kernel queues for one socket, where no one has raised that
/// to more: whatever was sent before an exit is heard before it.
const MESSAGES_A_TURN: usize = 512;

pub struct Notify {
    receiver: Receiver,
    /// As it stands in the variable.
    address: OsString,
    /// To be removed at the end.
    file: Option<PathBuf>,
    /// One byte longer than a message may be, so that the kernel need not tell that one was cut.
    buffer: Box<[u8]>,
    complaints: Throttle,
}

/// A datagram.
struct Heard {
    message: Result<Message, MessageError>,
    sender: Option<Sender>,
    descriptors: Vec<OwnedFd>,
}

impl Notify {
    /// `unique`: what no other fated has, ever.
    ///
    /// # Errors
    /// The system's, where not even an abstract name can be had.
    pub fn open(unique: &str) -> io::Result<Self> {
        let name = format!("{PREFIX}{unique}");
        for dir in runtime_dir::usable() {
            runtime_dir::remove_stale(&dir, PREFIX);
            let path = dir.join(&name);
            // A path that is too long for a socket is refused here too.
            match UnixDatagram::bind(&path) {
                Ok(socket) => {
                    fs::set_permissions(&path, Permissions::from_mode(0o666))?;
                    return Self::new(socket, path.clone().into(), Some(path));
                }
                Err(error) => log::debug!("cannot make {}: {error}", path.display()),
            }
        }
        let name = format!("fated/{name}");
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        Self::new(socket, format!("@{name}").into(), None)
    }

    fn new(socket: UnixDatagram, address: OsString, file: Option<PathBuf>) -> io::Result<Self> {
        let receiver = Receiver::new(socket)?;
        let buffer = vec![0; MESSAGE_MAX + 1].into();
        Ok(Self { receiver, address, file, buffer, complaints: Throttle::default() })
    }

    /// The value of NOTIFY_SOCKET.
    pub fn address(&self) -> &OsString {
        &self.address
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }

    fn receive(&mut self) -> io::Result<Option<Heard>> {
        let Some(datagram) = self.receiver.receive(&mut self.buffer)? else { return Ok(None) };
        let message = notify::parse(&self.buffer[..datagram.length]);
        Ok(Some(Heard { message, sender: datagram.sender, descriptors: datagram.descriptors }))
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = fs::remove_file(file);
        }
    }
}

impl Shell {
    /// Takes what processes have said, as far as one turn goes.
    pub(super) fn hear(&mut self) {
        for _ in 0..MESSAGES_A_TURN {
            let Some(notify) = &mut self.notify else { return };
            match notify.receive() {
                Ok(Some(heard)) => self.on_message(heard),
                Ok(None) => return,
                Err(error) => {
                    log::error!("cannot read notifications: {error}");
                    return;
                }
            }
        }
        self.ready.push(Source::Notify);
    }

    fn on_message(&mut self, heard: Heard) {
        let Some(sender) = &heard.sender else {
            return self.complain("a notification was dropped: its sender is unknown");
        };
        let Some(serial) = self.life_of(sender) else {
            let (pid, uid) = (sender.pid, sender.uid);
            return self.complain(&format!(
                "a notification was dropped: its sender, process {pid} of user {uid}, has ended or is no process of \
                 this tree"
            ));
        };
        // Who speaks has been executed: that comes first.
        self.read_report(serial);
        let Some(inc) = self.processes.inc(serial) else { return };
        match heard.message {
            Err(error) => self.complain_of(inc, &format!("a notification was dropped: {error}")),
            // Whatever was said before has been handled; closing the descriptor tells.
            Ok(Message::Barrier) if heard.descriptors.len() == 1 => {}
            Ok(Message::Barrier) => {
                let count = heard.descriptors.len();
                self.complain_of(inc, &format!("BARRIER=1 came with {count} descriptors instead of one"));
            }
            Ok(Message::Said(said)) => self.on_said(inc, said, heard.descriptors.len()),
        }
    }

    fn on_said(&mut self, inc: Incarnation, said: Said, descriptors: usize) {
        for fault in &said.faults {
            self.complain_of(inc, &format!("a value was ignored: {fault}"));
        }
        if let Some(errno) = said.errno {
            log::info!("{} reports an error: {}", self.path(inc), Errno(errno));
        }
        // Said, not done in silence: what a process gives away it may have closed on its own side.
        match said.store {
            Some(Store::Keep { name }) => {
                let name = name.unwrap_or_else(|| "stored".to_owned());
                let text =
                    format!("FDSTORE=1 was refused: fated keeps no descriptors; closed: {descriptors} (`{name}`)");
                self.complain_of(inc, &text);
            }
            // Nothing is kept: it is as was asked for.
            Some(Store::Remove { .. }) => {}
            None if descriptors > 0 => {
                self.complain_of(inc, &format!("{descriptors} descriptors came without a use and were closed"));
            }
            None => {}
        }
        for notice in said.notices {
            if let Notice::MainPid(pid) = notice
                && let Err(why) = self.move_main(inc, pid)
            {
                self.complain_of(inc, &format!("MAINPID={pid} was refused: {why}"));
                continue;
            }
            self.core.handle_event(Event::Notified { inc, notice }, clock::now());
        }
    }

    /// The life that the sender of a message belongs to, if that can be proved.
    fn life_of(&self, sender: &Sender) -> Option<u64> {
        let opened;
        let held = match &sender.pidfd {
            Some(pidfd) => pidfd.as_fd(),
            // An older kernel, or a process that has gone.
            None => {
                opened = pidfd::open(sender.pid).ok()?;
                opened.as_fd()
            }
        };
        self.life_while_held(sender.pid, held)
    }

    fn life_while_held(&self, pid: u32, held: BorrowedFd<'_>) -> Option<u64> {
        let life = self.kin.life_of(pid, &self.processes)?;
        // A number is reused only after its process was reaped: it was this one's all the time.
        (pidfd::pid_of(held) == Some(pid)).then_some(life)
    }

    /// Takes another process of the same life for its main process.
    fn move_main(&mut self, inc: Incarnation, pid: u32) -> Result<(), &'static str> {
        match self.processes.main_pid(inc.serial) {
            Some(main) if main == pid => return Ok(()),
            Some(_) => {}
            None => return Err("the main process has ended already"),
        }
        let held = pidfd::open(pid).map(fd::raise).map_err(|_| "there is no such process")?;
        if self.life_while_held(pid, held.as_fd()) != Some(inc.serial) || self.processes.helpers.has(pid) {
            return Err("it does not belong to this process");
        }
        if pidfd::has_exited(held.as_fd()) {
            return Err("it has ended");
        }
        event_loop::watch(&self.poll, held.as_fd(), Source::of_process(inc)).map_err(|_| "it cannot be watched")?;
        match self.processes.move_main(inc.serial, pid, held) {
            Some(former) => {
                // From now on a descendant like any other.
                event_loop::forget(&self.poll, former.as_fd());
                Ok(())
            }
            None => Err("the main process has not begun to run"),
        }
    }

    fn complain_of(&mut self, inc: Incarnation, text: &str) {
        let text = format!("{}: {text}", self.path(inc));
        self.complain(&text);
    }

    /// A warning that what processes send cannot flood the log with.
    fn complain(&mut self, text: &str) {
        let Some(notify) = &mut self.notify else { return };
        match notify.complaints.pass(clock::now()) {
            Some(0) => log::warn!("{text}"),
            Some(held_back) => log::warn!("{text} ({held_back} warnings about notifications before it were left out)"),
            None => {}
        }
    }
}

/// At most so many in so long a time.
#[derive(Debug, Default)]
struct Throttle {
    since: Option<Monotonic>,
    passed: u32,
    held_back: u32,
}

impl Throttle {
    const COUNT: u32 = 10;
    const WINDOW: Duration = Duration::from_secs(10);

    /// Whether one more may pass; then how many were held back before it.
    fn pass(&mut self, now: Monotonic) -> Option<u32> {
        if self.since.is_none_or(|since| now - since >= Self::WINDOW) {
            self.since = Some(now);
            self.passed = 0;
        }
        if self.passed == Self::COUNT {
            self.held_back += 1;
            return None;
        }
        self.passed += 1;
        Some(core::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_bounded_and_those_left_out_are_counted() {
        let mut throttle = Throttle::default();
        let at = |secs: u64| Monotonic::ORIGIN + Duration::from_secs(secs);
        let passed = (0..25).filter(|_| throttle.pass(at(1)).is_some()).count();
        assert_eq!(passed, 10);
        assert_eq!(throttle.pass(at(10)), None);
        assert_eq!(throttle.pass(at(11)), Some(16));
        assert_eq!(throttle.pass(at(12)), Some(0));
    }

    #[test]
    fn the_socket_is_gone_with_its_owner_and_takes_from_everyone() {
        let mut notify = Notify::open(&format!("test-{}", std::process::id())).unwrap();
        let path = PathBuf::from(notify.address());
        let file = notify.file.clone();
        if file.is_some() {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
            UnixDatagram::unbound().unwrap().send_to(b"READY=1", &path).unwrap();
            let heard = notify.receive().unwrap().unwrap();
            assert!(matches!(heard.message, Ok(Message::Said(_))));
            assert_eq!(heard.sender.unwrap().pid, std::process::id());
        }
        drop(notify);
        assert!(!path.exists());
    }
}
