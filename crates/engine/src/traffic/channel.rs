//! The sending side of one channel: frames, at most one fd each, in order, bounded. It knows nothing of what
//! they mean. Whoever sends has lines; here they become what the channel is written in, and from then on only those
//! bytes count.
//!
//! Half a frame would be the death of a worker if the primary died before the other half. So a frame that the
//! kernel takes in one piece is sent in one, and a longer one is laid into a spool first, which outlives the
//! primary: whoever comes after sends the rest.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oxherd_os::{Spool, fdpass, socket};
use oxherd_wire::{FrameKind, Ledger, Pacing, Serialization, frame_of, split_frames};

use crate::traffic::READ_BYTES;

/// The length before a frame of values.
const LENGTH_BYTES: usize = 4;
/// The most bytes that wait for a worker to read; beyond that messages of programs are dropped.
const MAX_QUEUED_BYTES: usize = 16 << 20;
/// With this many waiting, even what the protocol needs is given up: a worker that asks on and on and never reads
/// the replies breaks it.
const MAX_OWED_BYTES: usize = 32 << 20;
/// How much is gathered before it is written.
const GATHERED_BYTES_MAX: usize = 16 << 10;
/// What a waiting frame costs beyond its own bytes, about: short ones must not be free.
const FRAME_OVERHEAD_BYTES: usize = 128;
/// `errno` values of `send(2)` that pass once the worker has read, on x86-64 and aarch64.
const ETOOMANYREFS: i32 = 109;
const ENOBUFS: i32 = 105;
const ENOMEM: i32 = 12;

/// A frame that could not be written at once.
#[derive(Debug)]
struct Queued {
    body: Body,
    sent: usize,
    /// The frame's name in the ledger, if an fd rides on its first byte.
    handle: Option<u64>,
    /// That fd, until the first byte is gone.
    fd: Option<OwnedFd>,
}

/// Where a queued frame is.
#[derive(Debug)]
enum Body {
    Here(Vec<u8>),
    /// In the spool, so many bytes that this primary has to send.
    Spooled(usize),
}

impl Queued {
    fn len(&self) -> usize {
        match &self.body {
            Body::Here(bytes) => bytes.len(),
            Body::Spooled(len) => *len,
        }
    }

    fn cost(&self) -> usize {
        self.len() + FRAME_OVERHEAD_BYTES
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The kernel has all of it.
    Whole,
    /// It waits for the worker to read.
    Queued,
    /// It waits for the worker to acknowledge what it has: that the socket takes bytes says nothing.
    Held,
    /// It cannot go at this moment, for want of something or for where it would lie: it has to be tried again.
    Starved,
    /// It waits until the spool, which is new, is kept: then it has to be tried again.
    Unkept,
    /// Too much waits already; it is dropped.
    Dropped,
    /// Far too much waits already; the worker must not live.
    Flooded,
    /// The channel is at its end.
    Closed,
}

impl Sent {
    /// What a frame waits for that is queued behind those of which this became.
    fn and_behind(self) -> Self {
        if self == Self::Whole { Self::Queued } else { self }
    }
}

/// The primary's end of a channel, for writing, with the bookkeeping that recall needs.
#[derive(Debug)]
pub(crate) struct Outgoing {
    socket: OwnedFd,
    serialization: Serialization,
    /// The worker's own end, while what lies there unread may be asked for.
    reader: Option<OwnedFd>,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// Frames of programs that are written together: whatever else is sent comes behind them.
    gathered: Vec<u8>,
    /// What is longer may be cut by the kernel.
    whole_bytes: usize,
    /// Made when it is needed first.
    spool: Option<Spool>,
    pub(crate) pacing: Pacing,
    pub(crate) ledger: Ledger,
    broken: bool,
}

impl Outgoing {
    pub(crate) fn new(socket: OwnedFd, serialization: Serialization) -> Self {
        Self {
            serialization,
            reader: None,
            whole_bytes: fdpass::whole_bytes(&socket).unwrap_or(fdpass::WHOLE_BYTES_MAX),
            socket,
            queue: VecDeque::new(),
            queued_bytes: 0,
            gathered: Vec::new(),
            spool: None,
            pacing: Pacing::new(),
            ledger: Ledger::new(),
            broken: false,
        }
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn serialization(&self) -> Serialization {
        self.serialization
    }

    /// Frames begin with a length, and Node 18 waits for ever when one of its reads ends inside of it: that is seen to
    /// as long as the worker's own end is at hand.
    pub(crate) fn watch_reader(&mut self, worker_end: &OwnedFd) {
        if self.serialization == Serialization::Advanced {
            self.reader = worker_end.try_clone().ok();
        }
    }

    /// The worker's own end must not be held any longer.
    pub(crate) fn forget_reader(&mut self) {
        self.reader = None;
    }

    /// Whether a read could end within the length of one of these frames if they are written now. Where a read begins
    /// is known: where the one before has ended, or behind the last frame with an fd, where one ends as well.
    fn would_be_cut(&self, frames: &[u8]) -> bool {
        const SAFE: usize = READ_BYTES - LENGTH_BYTES;
        let unread = self.reader.as_ref().map(socket::unread_bytes);
        let Some(Ok(unread)) = unread else { return false };
        let mut at = (unread.min(self.pacing.plain_bytes()) % READ_BYTES as u64) as usize;
        if at + frames.len() <= SAFE {
            return false;
        }
        split_frames(self.serialization, frames).any(|frame| {
            let is_cut = at % READ_BYTES > SAFE;
            at += frame.len();
            is_cut
        })
    }

    /// Lines as they are sent. Nothing where that cannot be: a program's message may be nested more deeply than the
    /// worker could read.
    pub(crate) fn framed<'a>(&self, lines: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        match self.serialization {
            Serialization::Json => Some(Cow::Borrowed(lines)),
            Serialization::Advanced => {
                let mut frames = Vec::with_capacity(lines.len() + FRAME_OVERHEAD_BYTES);
                frame_of(self.serialization, lines, &mut frames).ok().map(|()| Cow::Owned(frames))
            }
        }
    }

    /// Goes on with the spool of another primary: what is left in it comes before everything else.
    pub(crate) fn go_on(&mut self, spool: Spool) {
        if let Ok(left) = spool.left().map(|left| left as usize)
            && left > 0
        {
            let rest = Queued { body: Body::Spooled(left), sent: 0, handle: None, fd: None };
            self.queued_bytes += rest.cost();
            self.queue.push_front(rest);
        }
        self.spool = Some(spool);
    }

    /// What must outlive the primary.
    pub(crate) fn spool(&self) -> Option<BorrowedFd<'_>> {
        self.spool.as_ref().map(Spool::as_fd)
    }

    /// Whether everything that was sent is with the kernel.
    pub(crate) fn is_flushed(&self) -> bool {
        self.queue.is_empty() && self.gathered.is_empty()
    }

    /// Whether a frame with an fd could be written right now.
    pub(crate) fn takes_handles(&self) -> bool {
        self.queue.is_empty() && !self.broken && self.pacing.may_send_handle()
    }

    /// Sends lines that the protocol needs; they are never dropped while the worker may live.
    pub(crate) fn send(&mut self, lines: &[u8]) -> Sent {
        match self.framed(lines) {
            Some(frames) => self.send_frames(&frames),
            None => Sent::Dropped,
        }
    }

    /// As [`send`](Self::send), for what is framed already.
    pub(crate) fn send_frames(&mut self, frames: &[u8]) -> Sent {
        if self.queued_bytes > MAX_OWED_BYTES {
            return Sent::Flooded;
        }
        self.put(frames)
    }

    /// Sends a program's message, framed already; dropped when the worker has left too much unread. `None`: it waits
    /// for others to be written with it, until [`release`](Self::release) or anything else that is sent.
    pub(crate) fn gather(&mut self, frame: &[u8]) -> Option<Sent> {
        let is_small = frame.len() <= GATHERED_BYTES_MAX.min(self.whole_bytes);
        if self.broken || !self.queue.is_empty() || !is_small {
            return Some(self.send_frame_bounded(frame));
        }
        if self.gathered.len() + frame.len() > GATHERED_BYTES_MAX.min(self.whole_bytes) {
            let released = self.release();
            if released != Sent::Whole {
                let sent = self.send_frame_bounded(frame);
                // One small frame lies there at most.
                debug_assert_ne!(sent, Sent::Dropped, "the queue was empty a moment ago");
                // What the frame waits for is what those before it wait for.
                return Some(released);
            }
        }
        self.gathered.extend_from_slice(frame);
        None
    }

    /// Writes what was gathered.
    pub(crate) fn release(&mut self) -> Sent {
        if self.gathered.is_empty() {
            return Sent::Whole;
        }
        let mut frames = std::mem::take(&mut self.gathered);
        let sent = self.put(&frames);
        frames.clear();
        self.gathered = frames;
        sent
    }

    fn send_frame_bounded(&mut self, frame: &[u8]) -> Sent {
        if self.queued_bytes + frame.len() > MAX_QUEUED_BYTES && !self.queue.is_empty() {
            return Sent::Dropped;
        }
        self.put(frame)
    }

    /// Sends a line with a copy of `fd`. `name` is the frame's in the ledger. On an error nothing was sent and
    /// nothing will be.
    pub(crate) fn send_handle(&mut self, line: &[u8], fd: BorrowedFd<'_>, name: u64) -> io::Result<Sent> {
        match self.framed(line) {
            Some(frame) => self.send_handle_frame(&frame, fd, name),
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// As [`send_handle`](Self::send_handle), for what is framed already.
    pub(crate) fn send_handle_frame(
        &mut self,
        bytes: &[u8],
        fd: BorrowedFd<'_>,
        name: u64,
    ) -> io::Result<Sent> {
        // What does not go now is queued before this.
        let released = self.release();
        if self.broken {
            return Ok(Sent::Closed);
        }
        if self.queued_bytes > MAX_OWED_BYTES {
            return Ok(Sent::Flooded);
        }
        if !self.takes_handles() || self.would_be_cut(bytes) {
            let why = match self.queue.is_empty() {
                true if self.takes_handles() => Sent::Starved,
                true => Sent::Held,
                false => released.and_behind(),
            };
            self.enqueue(bytes, 0, Some(name), Some(fd.try_clone_to_owned()?));
            return Ok(why);
        }
        match self.write(bytes, Some(fd)) {
            Ok(count) if count == bytes.len() => {
                self.pacing.sent_handle(count);
                self.ledger.wrote(count, FrameKind::Handle(name));
                Ok(Sent::Whole)
            }
            Ok(count) => {
                self.ledger.wrote_part(count);
                self.enqueue(bytes, count, Some(name), None);
                Ok(Sent::Queued)
            }
            Err(error) => {
                let Some(why) = waits_for(&error) else { return Ok(self.close()) };
                self.enqueue(bytes, 0, Some(name), Some(fd.try_clone_to_owned()?));
                Ok(why)
            }
        }
    }

    /// Writes what waits, as far as the worker's side takes it.
    pub(crate) fn flush(&mut self) -> Sent {
        self.release();
        while let Some(mut frame) = self.queue.pop_front() {
            let held = frame.fd.is_some() && !self.pacing.may_send_handle();
            let written = if held { Ok(Sent::Held) } else { self.write_on(&mut frame) };
            match written {
                Ok(Sent::Whole) => self.queued_bytes -= frame.cost(),
                Ok(why) => {
                    self.queue.push_front(frame);
                    return why;
                }
                Err(_) => return self.close(),
            }
        }
        Sent::Whole
    }

    /// Takes back a frame with an fd that is still queued here, if none of it was written.
    pub(crate) fn unqueue(&mut self, name: u64) -> bool {
        let is_it = |frame: &Queued| frame.sent == 0 && frame.handle == Some(name);
        match self.queue.iter().position(is_it).and_then(|at| self.queue.remove(at)) {
            Some(frame) => {
                self.queued_bytes -= frame.cost();
                true
            }
            None => false,
        }
    }

    /// Sends nothing any more.
    pub(crate) fn close(&mut self) -> Sent {
        self.broken = true;
        self.gathered = Vec::new();
        self.queue.clear();
        self.queued_bytes = 0;
        self.spool = None;
        Sent::Closed
    }

    fn put(&mut self, bytes: &[u8]) -> Sent {
        // What does not go now is queued before this.
        let released = self.release();
        if self.broken {
            return Sent::Closed;
        }
        if !self.queue.is_empty() {
            self.enqueue(bytes, 0, None, None);
            return released.and_behind();
        }
        if bytes.len() > self.whole_bytes || self.would_be_cut(bytes) {
            self.enqueue(bytes, 0, None, None);
            return self.flush();
        }
        match self.write(bytes, None) {
            Ok(count) if count == bytes.len() => {
                self.pacing.sent_plain(count);
                self.ledger.wrote(count, FrameKind::Plain);
                Sent::Whole
            }
            Ok(count) => {
                self.ledger.wrote_part(count);
                self.enqueue(bytes, count, None, None);
                Sent::Queued
            }
            Err(error) => {
                let Some(why) = waits_for(&error) else { return self.close() };
                self.enqueue(bytes, 0, None, None);
                why
            }
        }
    }

    fn enqueue(&mut self, bytes: &[u8], sent: usize, handle: Option<u64>, fd: Option<OwnedFd>) {
        let frame = Queued { body: Body::Here(bytes.to_vec()), sent, handle, fd };
        self.queued_bytes += frame.cost();
        self.queue.push_back(frame);
    }

    /// Writes one queued frame on: `Whole`, or what it waits for.
    fn write_on(&mut self, frame: &mut Queued) -> io::Result<Sent> {
        if let (Body::Here(bytes), 0) = (&frame.body, frame.sent)
            && self.would_be_cut(bytes)
        {
            return Ok(Sent::Starved);
        }
        if !self.is_safe_to_begin(frame) {
            return Ok(Sent::Unkept);
        }
        let mut in_pieces = frame.sent > 0;
        loop {
            let count = match self.write_rest(frame) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => count,
                Err(error) => return waits_for(&error).ok_or(error),
            };
            frame.fd = None;
            frame.sent += count;
            if frame.sent < frame.len() {
                self.ledger.wrote_part(count);
                in_pieces = true;
                continue;
            }
            self.note_whole(frame, in_pieces);
            return Ok(Sent::Whole);
        }
    }

    /// Lays a frame that may be cut into the spool. Without memory or a descriptor for that it goes as it is: then
    /// only a death right now can cut it for good. False when the spool must be kept first.
    fn is_safe_to_begin(&mut self, frame: &mut Queued) -> bool {
        let Body::Here(bytes) = &frame.body else { return true };
        // An fd cannot be sent from there; its frames are short.
        if frame.sent > 0 || frame.fd.is_some() || bytes.len() <= self.whole_bytes {
            return true;
        }
        let Some(spool) = &self.spool else {
            self.spool = Spool::new("oxherd spool").ok();
            return self.spool.is_none();
        };
        if spool.load(bytes).is_ok() {
            frame.body = Body::Spooled(bytes.len());
        }
        true
    }

    fn write_rest(&self, frame: &Queued) -> io::Result<usize> {
        match (&frame.body, &self.spool) {
            (Body::Here(bytes), _) => {
                let rest = bytes.get(frame.sent..).unwrap_or_default();
                self.write(rest, frame.fd.as_ref().map(OwnedFd::as_fd))
            }
            (Body::Spooled(_), Some(spool)) => uninterrupted(|| spool.send(&self.socket)),
            (Body::Spooled(_), None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn note_whole(&mut self, frame: &Queued, in_pieces: bool) {
        let len = frame.len();
        if let (Body::Spooled(_), Some(spool)) = (&frame.body, &self.spool) {
            // Should its memory not be given back, the next frame uses it.
            drop(spool.clear());
        }
        match frame.handle {
            Some(name) => {
                if in_pieces {
                    self.pacing.sent_handle_in_pieces(len);
                } else {
                    self.pacing.sent_handle(len);
                }
                self.ledger.wrote(len, FrameKind::Handle(name));
            }
            None => {
                self.pacing.sent_plain(len);
                self.ledger.wrote(len, FrameKind::Plain);
            }
        }
    }

    fn write(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<usize> {
        uninterrupted(|| fdpass::send(&self.socket, bytes, fd))
    }
}

fn uninterrupted(mut send: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match send() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// What has to happen before it can be sent, if that would help. Descriptors in flight (`ETOOMANYREFS`) and memory
/// are no affair of this socket, which may well be writable meanwhile.
fn waits_for(error: &io::Error) -> Option<Sent> {
    if error.kind() == io::ErrorKind::WouldBlock {
        return Some(Sent::Queued);
    }
    matches!(error.raw_os_error(), Some(ETOOMANYREFS | ENOBUFS | ENOMEM)).then_some(Sent::Starved)
}
