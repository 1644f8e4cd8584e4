//! The receiving end of NOTIFY_SOCKET: datagrams with the credentials of who sent them, its pidfd where the kernel gives
//! one, and descriptors.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use super::{check, fd, retry};

/// As many descriptors as one message can carry. There has to be room for all of them: the kernel writes the pidfd last.
const RIGHTS_MAX: usize = 253;

/// Room for credentials, a pidfd and the descriptors, each with its header and padding, in words.
const CONTROL_WORDS: usize = (3 * 32 + size_of::<libc::ucred>() + 8 + RIGHTS_MAX * size_of::<i32>()) / 8 + 1;

/// In the kernel since 6.5.
const SO_PASSPIDFD: i32 = libc::SO_PASSPIDFD;
const SCM_PIDFD: i32 = 4;

/// A socket that datagrams arrive at.
#[derive(Debug)]
pub struct Receiver(OwnedFd);

/// One datagram. What came with it is closed when it is dropped.
#[derive(Debug)]
pub struct Datagram {
    /// How much of the buffer it fills.
    pub length: usize,
    /// It was longer than the buffer; the rest is lost.
    pub truncated: bool,
    /// `None`: the kernel told no one, as for what was sent before the socket asked for it.
    pub sender: Option<Sender>,
    pub descriptors: Vec<OwnedFd>,
}

/// Who sent a datagram. The kernel vouches for it: only with privilege over our PID namespace can another number be
/// given than one's own.
#[derive(Debug)]
pub struct Sender {
    /// As we see it. It may have ended since, and its number be another's.
    pub pid: u32,
    pub uid: u32,
    /// Stands for that process alone, also after its end. `None`: before Linux 6.5, or for a process that was reaped.
    pub pidfd: Option<OwnedFd>,
}

impl Receiver {
    /// Takes over a bound socket, which does not block any more.
    ///
    /// # Errors
    /// The system's.
    pub fn new(socket: UnixDatagram) -> io::Result<Self> {
        let socket = fd::raise(OwnedFd::from(socket));
        fd::set_nonblocking(socket.as_fd(), true)?;
        enable(socket.as_fd(), libc::SO_PASSCRED)?;
        // Older kernels have none; the number in the credentials is checked another way then.
        let _ = enable(socket.as_fd(), SO_PASSPIDFD);
        Ok(Self(socket))
    }

    /// Takes the next datagram; `None` where none waits.
    ///
    /// # Errors
    /// The system's.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Datagram>> {
        let mut control = [0_u64; CONTROL_WORDS];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: an all-zero msghdr is a valid value: no name, no parts, no control data.
        let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
        // SAFETY: the header describes one writable buffer and one writable, aligned control area, both of which
        // outlive the call.
        let length = match retry(|| unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, flags) }) {
            Ok(length) => length as usize,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        // SAFETY: the kernel has just filled this header; its control area is `control`, which lives on.
        let came = unsafe { take_control(&message) };
        let sender = came.credentials.and_then(|credentials| {
            let pid = u32::try_from(credentials.pid).ok().filter(|pid| *pid != 0)?;
            Some(Sender { pid, uid: credentials.uid, pidfd: came.pidfd })
        });
        let truncated = message.msg_flags & libc::MSG_TRUNC != 0;
        Ok(Some(Datagram { length, truncated, sender, descriptors: came.rights }))
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What came beside the bytes.
#[derive(Default)]
struct Control {
    credentials: Option<libc::ucred>,
    pidfd: Option<OwnedFd>,
    rights: Vec<OwnedFd>,
}

/// Reads the control area, and owns every descriptor in it, expected or not.
///
/// # Safety
/// The header was filled by `recvmsg`, its control area is there, and it is read once.
unsafe fn take_control(message: &libc::msghdr) -> Control {
    let mut control = Control::default();
    // SAFETY: by the contract; null where there is no control data.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: the macros give null or a header that lies wholly within the control area.
    while let Some(header) = unsafe { next.as_ref() } {
        // SAFETY: the data of this header, of the length that it tells.
        let (data, empty) = unsafe { (libc::CMSG_DATA(next), libc::CMSG_LEN(0) as usize) };
        #[allow(clippy::unnecessary_cast, reason = "with musl it is a narrower type")]
        let length = (header.cmsg_len as usize).saturating_sub(empty);
        if header.cmsg_level == libc::SOL_SOCKET {
            match header.cmsg_type {
                libc::SCM_CREDENTIALS if length >= size_of::<libc::ucred>() => {
                    // SAFETY: the kernel wrote a ucred here.
                    control.credentials = Some(unsafe { data.cast::<libc::ucred>().read_unaligned() });
                }
                SCM_PIDFD | libc::SCM_RIGHTS => {
                    for index in 0..length / size_of::<i32>() {
                        // SAFETY: the kernel wrote this many ints here.
                        let number = unsafe { data.cast::<i32>().add(index).read_unaligned() };
                        // An error number stands where no pidfd could be made.
                        if number < 0 {
                            continue;
                        }
                        // SAFETY: the kernel has made this descriptor for us alone, and it is taken once.
                        let owned = unsafe { OwnedFd::from_raw_fd(number) };
                        match header.cmsg_type {
                            SCM_PIDFD => control.pidfd = Some(owned),
                            _ => control.rights.push(owned),
                        }
                    }
                }
                _ => {}
            }
        }
        // SAFETY: both are from this message.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    control
}

fn enable(socket: BorrowedFd<'_>, option: i32) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the value is an int of the given size that outlives the call.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const on).cast(), size) })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

    use super::*;
    use crate::sys::pidfd;
    use crate::time::Duration;

    fn pair(name: &str) -> (Receiver, UnixDatagram, SocketAddr) {
        let name = format!("fated-test-notify-{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = Receiver::new(UnixDatagram::bind_addr(&address).unwrap()).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect_addr(&address).unwrap();
        (receiver, sender, address)
    }

    fn send(socket: &UnixDatagram, text: &[u8], descriptors: &[i32]) {
        let parts = [io::IoSlice::new(text)];
        let rights = [ControlMessage::ScmRights(descriptors)];
        let control = if descriptors.is_empty() { &[][..] } else { &rights };
        sendmsg::<()>(socket.as_raw_fd(), &parts, control, MsgFlags::empty(), None).unwrap();
    }

    #[test]
    fn the_sender_is_known_whoever_it_is() {
        let (receiver, socket, _) = pair("sender");
        let mut buffer = [0; 64];
        assert!(receiver.receive(&mut buffer).unwrap().is_none());
        send(&socket, b"READY=1", &[]);
        let datagram = receiver.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..datagram.length], datagram.truncated), (&b"READY=1"[..], false));
        let sender = datagram.sender.unwrap();
        assert_eq!(sender.pid, std::process::id());
        assert_eq!(sender.uid, nix::unistd::geteuid().as_raw());
        // Only where the kernel has it; where it has, it is the sender's.
        if let Some(pidfd) = sender.pidfd {
            assert_eq!(pidfd::pid_of(pidfd.as_fd()), Some(std::process::id()));
        }
        assert!(receiver.receive(&mut buffer).unwrap().is_none());
    }

    #[test]
    fn descriptors_arrive_close_on_exec_and_are_closed_with_the_message() {
        let (receiver, socket, _) = pair("rights");
        let mut buffer = [0; 64];
        for count in [1, 5, RIGHTS_MAX] {
            let (mut read, write) = std::io::pipe().unwrap();
            send(&socket, b"BARRIER=1", &vec![write.as_raw_fd(); count]);
            drop(write);
            let datagram = receiver.receive(&mut buffer).unwrap().unwrap();
            assert_eq!(datagram.descriptors.len(), count);
            assert_eq!(datagram.sender.unwrap().pid, std::process::id());
            for descriptor in &datagram.descriptors {
                // SAFETY: no pointer is passed.
                let flags = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_GETFD) };
                assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
            }
            std::fs::File::from(datagram.descriptors[0].try_clone().unwrap()).write_all(b"x").unwrap();
            drop(datagram.descriptors);
            let mut rest = Vec::new();
            read.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, b"x", "nothing holds the pipe any more");
        }
    }

    #[test]
    fn a_long_message_is_told_to_be_cut() {
        let (receiver, socket, _) = pair("long");
        send(&socket, &[b'x'; 65], &[]);
        send(&socket, b"", &[]);
        let mut buffer = [0; 64];
        let datagram = receiver.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((datagram.length, datagram.truncated), (64, true));
        let datagram = receiver.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((datagram.length, datagram.truncated), (0, false));
    }

    #[test]
    fn who_has_ended_and_was_reaped_is_still_told_by_number() {
        let (receiver, _socket, address) = pair("dead");
        let name = String::from_utf8(address.as_abstract_name().unwrap().to_vec()).unwrap();
        let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
                      s.sendto(b'STOPPING=1', '\\0' + sys.argv[1])";
        let mut child = std::process::Command::new("python3").args(["-c", script, &name]).spawn().unwrap();
        assert!(child.wait().unwrap().success());
        assert!(fd::wait_readable(receiver.as_fd(), Some(Duration::from_secs(20))).unwrap());
        let mut buffer = [0; 64];
        let sender = receiver.receive(&mut buffer).unwrap().unwrap().sender.unwrap();
        assert_eq!(sender.pid, child.id());
        // A reaped process's descriptor, where there is one, leads to no number, so that nobody is taken for it.
        assert_eq!(sender.pidfd.and_then(|pidfd| pidfd::pid_of(pidfd.as_fd())), None);
    }
}
