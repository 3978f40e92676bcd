//! What the primary says: reading, and one arm per kind of frame.
//!
//! Must never block, and never answer a frame twice. What the primary breaks ends the channel, not the program.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use oxherd_os::fdpass;
use oxherd_wire::worker::{self as frames, FromPrimary, Reply};
use oxherd_wire::{
    self as wire, DEFAULT_MAX_MESSAGE_BYTES, Decoder, HANDLE_ACK, HANDLE_NACK, HandleFrame, Serialization,
    UserMessage,
};

use super::channel::{Channel, DEPARTED, lock};
use super::messages::Message;
use super::server::Waiting;
use super::{Attachment, Cause};

/// The answer to whoever asks whether this worker is well.
const WELL: &[u8] = b"{\"type\":\"healthy\"}\n";

const CHUNK_BYTES: usize = 64 << 10;

/// The reading side of the channel.
#[derive(Debug)]
pub(super) struct Inbox {
    chunk: Vec<u8>,
    decoder: Decoder,
    fds: VecDeque<OwnedFd>,
}

/// What one read brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Something; there may be more.
    Some,
    /// Nothing is there for now.
    Nothing,
    /// The channel is at its end, and why.
    End(String),
}

impl Inbox {
    pub(super) fn new(serialization: Serialization) -> Self {
        Self {
            chunk: vec![0; CHUNK_BYTES],
            decoder: Decoder::with(serialization, DEFAULT_MAX_MESSAGE_BYTES),
            fds: VecDeque::new(),
        }
    }
}

impl Channel {
    /// Forgets what came with frames that were never whole.
    pub(super) fn close_inbox(&self) {
        lock(&self.inbox).fds.clear();
    }

    /// Reads once and handles every frame that is whole. Answers are owed, not sent: flush after it.
    pub(super) fn read_once(&self) -> Read {
        let mut inbox = lock(&self.inbox);
        let Inbox { chunk, decoder, fds } = &mut *inbox;
        let received = match fdpass::receive(&*self.socket, chunk, fds) {
            Ok(received) if received.bytes > 0 => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Read::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Read::Some,
            Ok(_) | Err(_) => return Read::End("its channel has ended".into()),
        };
        let mut lines = decoder.feed(chunk.get(..received.bytes).unwrap_or_default());
        while let Some(line) = lines.next() {
            let handled = match line {
                Ok(line) => self.on_line(line, fds),
                Err(error) => return Read::End(format!("it broke the protocol: {error}")),
            };
            if let Err(error) = handled {
                return Read::End(format!("it broke the protocol: {error}"));
            }
        }
        Read::Some
    }

    fn on_line(&self, line: &[u8], fds: &mut VecDeque<OwnedFd>) -> Result<(), wire::ParseError> {
        match (frames::parse_newconn(line), fds.is_empty()) {
            (Some((key, seq)), false) => {
                self.owe(|outbox| outbox.owe_plain(HANDLE_ACK));
                self.on_connection(key, Some(seq), fds.pop_front());
                Ok(())
            }
            _ => self.on_frame(frames::parse(line)?, fds),
        }
    }

    fn on_frame(&self, frame: FromPrimary<'_>, fds: &mut VecDeque<OwnedFd>) -> Result<(), wire::ParseError> {
        match frame {
            FromPrimary::Handle(handle) => return self.on_handle(&handle, fds.pop_front()),
            FromPrimary::HandleAck => self.tell(|outbox| outbox.on_handle_ack()),
            FromPrimary::HandleNack => self.tell(|outbox| outbox.on_handle_nack()),
            other => self.on_plain(other, None),
        }
        Ok(())
    }

    /// A frame that came with a descriptor, or should have.
    fn on_handle(&self, handle: &HandleFrame<'_>, fd: Option<OwnedFd>) -> Result<(), wire::ParseError> {
        let Some(fd) = fd else {
            // Out of descriptors here: the primary gives a connection to another worker.
            self.owe(|outbox| outbox.owe_plain(HANDLE_NACK));
            return Ok(());
        };
        self.owe(|outbox| outbox.owe_plain(HANDLE_ACK));
        self.on_plain(frames::inner(handle)?, Some(fd));
        Ok(())
    }

    fn on_plain(&self, frame: FromPrimary<'_>, fd: Option<OwnedFd>) {
        match frame {
            FromPrimary::NewConn { key, seq } => self.on_connection(key, seq, fd),
            FromPrimary::Reply(reply) => self.on_reply(&reply, fd),
            FromPrimary::Disconnect => self.leave(Cause::Disconnect),
            FromPrimary::Hello { max_message, .. } => self.on_hello(max_message),
            FromPrimary::SocketCountQuery { key } => self.owe(|outbox| {
                outbox.owe_with(|out| wire::socket_count(out, &key, 0));
            }),
            FromPrimary::SocketCloseQuery { key } => self.owe(|outbox| {
                outbox.owe_with(|out| wire::socket_all_closed(out, &key));
            }),
            FromPrimary::User(message) => self.on_message(message, fd),
            FromPrimary::HandleAck
            | FromPrimary::HandleNack
            | FromPrimary::Handle(_)
            | FromPrimary::OtherInternal => {}
        }
    }

    fn on_connection(&self, key: &str, ack: Option<u64>, fd: Option<OwnedFd>) {
        let Some(fd) = fd else { return };
        let queue = lock(&self.servers).by_key.get(key).map(Arc::clone);
        let connection = Waiting { fd, ack, came: Instant::now() };
        let refused = match queue {
            Some(queue) => queue.push(connection).err(),
            None => Some(connection),
        };
        if let Some(Waiting { ack: Some(ack), .. }) = refused {
            self.owe(|outbox| outbox.owe(|out, seq| frames::answer(out, seq, ack, false)));
        }
    }

    fn on_reply(&self, reply: &Reply<'_>, fd: Option<OwnedFd>) {
        let mut servers = lock(&self.servers);
        let pending = servers.pending.remove(&reply.ack);
        let has_departed = servers.departing == Some(reply.ack);
        drop(servers);
        if let Some(pending) = pending {
            self.on_answered(pending, reply, fd);
        }
        if has_departed {
            self.end(DEPARTED);
        }
    }

    /// The primary is one of Oxherd, perhaps another than before: it gets the page of figures.
    fn on_hello(&self, max_message: Option<u64>) {
        let limit = max_message.and_then(|bytes| usize::try_from(bytes).ok());
        self.max_message.store(limit.unwrap_or(usize::MAX), Ordering::Relaxed);
        let Ok(fd) = self.page_fd() else { return };
        self.tell(|outbox| {
            // What its predecessor did not acknowledge nobody will.
            outbox.on_handle_ack();
            let mut line = Vec::new();
            frames::load(&mut line);
            let queued = outbox.queue(line, Some(fd));
            debug_assert!(queued.is_ok(), "a frame of the protocol can be written");
        });
    }

    fn on_message(&self, message: UserMessage<'_>, fd: Option<OwnedFd>) {
        let Ok(raw) = std::str::from_utf8(message.raw) else { return };
        let attachment = fd.and_then(|fd| Attachment::try_from(fd).ok());
        let message = Message::new(raw, attachment);
        if message.asks_whether_well() {
            // Whoever reads this is well: the task runs where the program does.
            drop(self.send(WELL.to_vec(), None));
            return;
        }
        if message.asks_to_leave() {
            self.leave(Cause::Message);
        }
        lock(&self.mailbox).push(message);
        self.mailed.notify_waiters();
    }

    /// A program that never asks to be told when to leave, leaves as a Node worker would: at once when the primary
    /// is gone, and after `disconnect` when its connections have ended.
    pub(super) fn leave_unattended(&self) {
        if self.identity.is_thread || self.is_watched.load(Ordering::Relaxed) {
            return;
        }
        let Some((cause, since)) = self.leaving() else { return };
        let is_time = match cause {
            Cause::PrimaryGone => true,
            Cause::Disconnect => self.open() == 0 && since.elapsed() >= self.linger(),
            Cause::Message | Cause::Signal | Cause::Own => false,
        };
        if is_time {
            std::process::exit(0);
        }
    }
}
