//! What a worker has to say: frames of the protocol first, then the program's messages, in order and bounded.
//!
//! Whoever has something to send sends it at once, on any thread; what the socket does not take waits here for the
//! channel's task. At most one descriptor is under way at a time. Must never block, nor know what a frame means.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use oxherd_os::fdpass;
use oxherd_wire::{FrameOfError, Serialization, frame_of};

/// The most bytes of the program's messages that wait to be read by the primary.
pub(super) const MAX_QUEUED_BYTES: usize = 16 << 20;
/// What a waiting message costs beyond its bytes, so that short ones are not free.
const MESSAGE_COST_BYTES: usize = 64;
/// How many bytes of messages are written in one go.
pub(super) const GATHERED_BYTES_MAX: usize = 16 << 10;
/// How often a descriptor is sent again that did not arrive.
const MAX_RESENDS: u32 = 3;
const KEPT_CAPACITY_BYTES: usize = 64 << 10;

/// How far a [`Outbox::flush`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Everything is written, but for what waits behind a descriptor that is under way.
    Done,
    /// The socket takes no more for now.
    Blocked,
    /// The other end is gone.
    Broken,
}

/// The sending side of the channel.
#[derive(Debug)]
pub(super) struct Outbox {
    socket: Arc<OwnedFd>,
    serialization: Serialization,
    seq: u64,
    /// Whole frames of the protocol, one behind the other.
    urgent: Vec<u8>,
    urgent_sent: usize,
    messages: VecDeque<Outgoing>,
    /// Where messages are joined to be written in one go.
    together: Vec<u8>,
    queued_bytes: usize,
    /// The frame whose descriptor the primary has not acknowledged yet.
    under_way: Option<Outgoing>,
    is_closed: bool,
}

#[derive(Debug)]
struct Outgoing {
    line: Vec<u8>,
    sent: usize,
    fd: Option<OwnedFd>,
    resends: u32,
    since: Instant,
}

impl Outgoing {
    fn cost(&self) -> usize {
        self.line.len() + MESSAGE_COST_BYTES
    }
}

impl Outbox {
    pub(super) fn new(socket: Arc<OwnedFd>, serialization: Serialization) -> Self {
        Self {
            socket,
            serialization,
            seq: 0,
            urgent: Vec::new(),
            urgent_sent: 0,
            messages: VecDeque::new(),
            together: Vec::new(),
            queued_bytes: 0,
            under_way: None,
            is_closed: false,
        }
    }

    /// Puts a frame of the protocol before all messages that have not begun to be sent. Returns the `seq` it got.
    pub(super) fn owe(&mut self, write: impl FnOnce(&mut Vec<u8>, u64)) -> u64 {
        let seq = self.seq;
        self.seq += 1;
        self.owe_with(|out| write(out, seq));
        seq
    }

    /// As [`owe`](Self::owe), for frames that have no `seq`.
    pub(super) fn owe_plain(&mut self, line: &[u8]) {
        self.owe_with(|out| out.extend_from_slice(line));
    }

    /// As [`owe_plain`](Self::owe_plain), for frames that are made here.
    pub(super) fn owe_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.is_closed {
            return;
        }
        match self.serialization {
            Serialization::Json => write(&mut self.urgent),
            Serialization::Advanced => {
                let mut line = Vec::new();
                write(&mut line);
                // What is made here is flat and short.
                let framed = frame_of(self.serialization, &line, &mut self.urgent);
                debug_assert!(framed.is_ok(), "frames of the protocol can be written");
            }
        }
    }

    /// Whether a message of so many bytes may be queued. One always may, however long.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.messages.is_empty() || self.queued_bytes + bytes + MESSAGE_COST_BYTES <= MAX_QUEUED_BYTES
    }

    /// Queues a whole line behind the others. An error means that it cannot be written as this channel needs it.
    pub(super) fn queue(&mut self, line: Vec<u8>, fd: Option<OwnedFd>) -> Result<(), FrameOfError> {
        if self.is_closed {
            return Ok(());
        }
        let line = match self.serialization {
            Serialization::Json => line,
            Serialization::Advanced => {
                let mut frame = Vec::with_capacity(line.len());
                frame_of(self.serialization, &line, &mut frame)?;
                frame
            }
        };
        let message = Outgoing { line, sent: 0, fd, resends: 0, since: Instant::now() };
        self.queued_bytes += message.cost();
        self.messages.push_back(message);
        Ok(())
    }

    /// Puts a frame of the protocol behind the messages that wait. Returns the `seq` it got.
    pub(super) fn queue_frame(&mut self, write: impl FnOnce(&mut Vec<u8>, u64)) -> u64 {
        let seq = self.seq;
        self.seq += 1;
        let mut line = Vec::new();
        write(&mut line, seq);
        let queued = self.queue(line, None);
        debug_assert!(queued.is_ok(), "frames of the protocol can be written");
        seq
    }

    /// Whether nothing is left to be written or acknowledged.
    pub(super) fn is_flushed(&self) -> bool {
        self.is_closed || (self.urgent.is_empty() && self.messages.is_empty() && self.under_way.is_none())
    }

    /// Since when the first message has waited.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.messages.front().map(|message| message.since)
    }

    /// What the messages that wait cost.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Sends nothing any more.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.urgent = Vec::new();
        self.urgent_sent = 0;
        self.messages.clear();
        self.queued_bytes = 0;
        self.under_way = None;
    }

    /// The descriptor under way has arrived.
    pub(super) fn on_handle_ack(&mut self) {
        self.under_way = None;
    }

    /// It has not, because the primary was out of descriptors: it is sent again, but not for ever.
    pub(super) fn on_handle_nack(&mut self) {
        let Some(mut message) = self.under_way.take() else { return };
        message.resends += 1;
        message.sent = 0;
        if message.resends > MAX_RESENDS {
            return;
        }
        self.queued_bytes += message.cost();
        // Behind one that is half sent already.
        let at = usize::from(self.messages.front().is_some_and(|first| first.sent > 0));
        self.messages.insert(at, message);
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> Flushed {
        if self.is_closed {
            return Flushed::Broken;
        }
        loop {
            let written = if self.messages.front().is_some_and(|first| first.sent > 0) {
                self.write_message()
            } else if !self.urgent.is_empty() {
                self.write_urgent()
            } else if self.messages.front().is_some_and(|first| self.may_go(first)) {
                self.write_messages()
            } else {
                return Flushed::Done;
            };
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_for_now(&error) => return Flushed::Blocked,
                Err(_) => return Flushed::Broken,
            }
        }
    }

    fn may_go(&self, message: &Outgoing) -> bool {
        message.fd.is_none() || self.under_way.is_none()
    }

    fn write_urgent(&mut self) -> io::Result<()> {
        let rest = self.urgent.get(self.urgent_sent..).unwrap_or_default();
        self.urgent_sent += fdpass::send(&self.socket, rest, None)?;
        if self.urgent_sent >= self.urgent.len() {
            self.urgent.clear();
            self.urgent.shrink_to(KEPT_CAPACITY_BYTES);
            self.urgent_sent = 0;
        }
        Ok(())
    }

    /// Writes the first message, together with those behind it where none has a descriptor.
    fn write_messages(&mut self) -> io::Result<()> {
        let mut together = std::mem::take(&mut self.together);
        let mut count = 0;
        for message in self.messages.iter().take_while(|it| it.fd.is_none()) {
            if together.len() + message.line.len() > GATHERED_BYTES_MAX {
                break;
            }
            together.extend_from_slice(&message.line);
            count += 1;
        }
        let written = match count {
            0 | 1 => self.write_message(),
            _ => fdpass::send(&self.socket, &together, None).map(|sent| self.have_sent(sent)),
        };
        together.clear();
        self.together = together;
        written
    }

    /// So many bytes of the first messages are written, which have no descriptors.
    fn have_sent(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let Some(mut message) = self.messages.pop_front() else { return };
            if bytes < message.line.len() {
                message.sent = bytes;
                return self.messages.push_front(message);
            }
            bytes -= message.line.len();
            self.queued_bytes -= message.cost();
        }
    }

    fn write_message(&mut self) -> io::Result<()> {
        let Some(message) = self.messages.front_mut() else { return Ok(()) };
        let rest = message.line.get(message.sent..).unwrap_or_default();
        // The descriptor rides on the first byte.
        let fd = message.fd.as_ref().filter(|_| message.sent == 0).map(OwnedFd::as_fd);
        message.sent += fdpass::send(&self.socket, rest, fd)?;
        if message.sent < message.line.len() {
            return Ok(());
        }
        if let Some(message) = self.messages.pop_front() {
            self.queued_bytes -= message.cost();
            if message.fd.is_some() {
                self.under_way = Some(message);
            }
        }
        Ok(())
    }
}

/// Waiting helps: the socket is full, or too many descriptors are under way in the whole system, or no memory.
fn is_for_now(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::AGAIN | Errno::TOOMANYREFS | Errno::NOBUFS | Errno::NOMEM))
}
