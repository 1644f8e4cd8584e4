//! The shared queues of a tree: kernel objects that fated makes and keeps open for processes to come, and through
//! which it never moves a byte.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::name::QueueId;
use crate::spec::{QueueEnd, QueueSpec, Transport};
use crate::sys::{fd, socket};

pub struct Queues(Vec<Queue>);

struct Queue {
    transport: Transport,
    /// `None` once it is closed.
    put: Option<OwnedFd>,
    get: Option<OwnedFd>,
}

impl Queues {
    /// # Errors
    /// The queue's name and the system's answer, or that its buffer cannot hold one message of the promised length.
    pub fn open(specs: &[QueueSpec]) -> Result<Self, String> {
        specs.iter().map(Queue::checked).collect::<Result<_, _>>().map(Self)
    }

    /// A new queue in the place of one that nobody uses any more. Where it cannot be made, the old one stays, closed.
    ///
    /// # Errors
    /// As `open`.
    pub fn renew(&mut self, id: QueueId, spec: &QueueSpec) -> Result<(), String> {
        self.0[id.index()] = Queue::checked(spec)?;
        Ok(())
    }

    /// The descriptor that a process gets: its own open file description where the kernel allows it (a pipe), so that
    /// what one process sets on it the others do not see. `None`: that end is closed.
    pub fn end(&self, id: QueueId, end: QueueEnd) -> Option<QueueHandle<'_>> {
        let queue = &self.0[id.index()];
        let (fd, direction) = match end {
            QueueEnd::Put => (&queue.put, socket::Direction::Write),
            QueueEnd::Get => (&queue.get, socket::Direction::Read),
        };
        let fd = fd.as_ref()?;
        Some(match queue.transport {
            Transport::Seqpacket => QueueHandle::Shared(fd.as_fd()),
            // Without /proc, or with the other end closed, it cannot be opened again.
            Transport::Pipe => socket::reopen_pipe(fd.as_fd(), direction)
                .map_or_else(|_| QueueHandle::Shared(fd.as_fd()), QueueHandle::Own),
        })
    }

    /// Lets the other end see that no one uses this one any more. Closing twice is harmless.
    pub fn close(&mut self, id: QueueId, end: QueueEnd) -> io::Result<()> {
        let queue = &mut self.0[id.index()];
        let (fd, direction) = match end {
            QueueEnd::Put => (&mut queue.put, socket::Direction::Write),
            QueueEnd::Get => (&mut queue.get, socket::Direction::Read),
        };
        match (queue.transport, &fd) {
            // Every process that shares the socket sees it at once; the descriptor stays, so that messages do too.
            (Transport::Seqpacket, Some(fd)) => socket::shutdown(fd.as_fd(), direction),
            // The end of a pipe comes when its last holder has gone; ours must not be that one.
            (Transport::Pipe, Some(_)) => {
                *fd = None;
                Ok(())
            }
            (Transport::Seqpacket | Transport::Pipe, None) => Ok(()),
        }
    }
}

/// A queue end to hand to a child.
pub enum QueueHandle<'a> {
    Shared(BorrowedFd<'a>),
    Own(OwnedFd),
}

struct Opened {
    queue: Queue,
    capacity: u64,
}

impl Queue {
    fn checked(spec: &QueueSpec) -> Result<Self, String> {
        let queue = Self::open(spec).map_err(|error| format!("cannot make queue `{}`: {error}", spec.name))?;
        if queue.capacity < spec.message_max {
            return Err(format!(
                "queue `{}`: the kernel gives it {} bytes, which cannot hold a message of message_max = {}; raise \
                 net.core.wmem_max or lower message_max",
                spec.name, queue.capacity, spec.message_max
            ));
        }
        log::debug!("queue {} has {} bytes", spec.name, queue.capacity);
        Ok(queue.queue)
    }

    fn open(spec: &QueueSpec) -> io::Result<Opened> {
        let ends = match spec.transport {
            Transport::Seqpacket => socket::queue_seqpacket(spec.capacity)?,
            Transport::Pipe => socket::queue_pipe(spec.capacity)?,
        };
        let queue = Self { transport: spec.transport, put: Some(fd::raise(ends.put)), get: Some(fd::raise(ends.get)) };
        Ok(Opened { queue, capacity: ends.capacity })
    }
}
