//! Programs' own messages: from worker to worker, from a worker to an embedder, and back. What they say is read
//! elsewhere; descriptors that ride on them go along.
//!
//! Messages are at-most-once: what a worker or the embedder does not take in time is dropped, counted and told.
//! Nothing here may wait for either.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};

use oxherd_core::{AppId, InstanceId};
use oxherd_os::fdpass;
use oxherd_os::socket::{self, SocketKind};
use oxherd_wire::worker::{Attached, user_with};
use oxherd_wire::{self as wire, Serialization, Target};

use crate::link::Budget;
use crate::traffic::Traffic;
use crate::traffic::orders::{Delivery, News, Parcel};
use crate::traffic::worker::HandleFrame;
use crate::{Alert, Ear};

/// How many frames with a descriptor a worker may leave unacknowledged before messages with one are dropped.
const MAX_HANDLES: usize = 64;

/// Where an embedder hears what workers say.
#[derive(Debug)]
pub(super) struct Tap {
    ear: Ear,
    budget: Budget,
}

impl Tap {
    pub(super) fn new(ear: Ear) -> Self {
        Self { ear, budget: Budget::default() }
    }
}

impl Traffic {
    /// A message of the embedder's for one worker.
    pub(super) fn send_parcel(&mut self, parcel: Parcel) {
        let Parcel { instance, message, attachment, permit } = parcel;
        drop(permit);
        if let Some(number) = self.worker_of(instance) {
            self.send_user(number, &message, attachment.as_ref());
        }
    }

    /// Passes a message on to whoever embeds the primary.
    pub(super) fn pass_on(&mut self, number: usize, raw: &[u8], attachment: Option<OwnedFd>) {
        let Some(Tap { budget, .. }) = self.tap.as_ref().filter(|tap| tap.ear.is_open()) else { return };
        let Some(place) = self.workers.get(number).map(|worker| worker.place) else { return };
        let Some(permit) = budget.take(Budget::cost(raw.len(), attachment.is_some())) else {
            return self.lose(number);
        };
        self.tell_lost(number);
        if let Some(worker) = self.workers.get_mut(number) {
            worker.lost_in_a_row = 0;
        }
        self.tell(News::Message(Delivery { place, raw: raw.to_vec(), attachment, permit }));
    }

    /// A message that nobody has room for. Whoever has none may have none for ever, so the first of a row is told at
    /// once, and the rest whenever there are twice as many: that is little news however many there are.
    fn lose(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        worker.lost_messages += 1;
        worker.lost_in_a_row += 1;
        if worker.lost_in_a_row.is_power_of_two() {
            self.tell_lost(number);
        }
    }

    /// Tells of what is lost and not told yet.
    pub(super) fn tell_lost(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let (place, count) = (worker.place, std::mem::take(&mut worker.lost_messages));
        if count > 0 {
            self.tell(News::Alert(Alert::MessagesLost { place, count }));
        }
    }

    /// Passes a message on to the worker or workers it names, with its sender filled in.
    pub(super) fn route(
        &mut self,
        sender: InstanceId,
        target: Target,
        message: Routed<'_>,
        attachment: Option<&OwnedFd>,
    ) {
        let Some(from) = self.workers.by_instance(sender).map(|worker| worker.place) else { return };
        if let (Target::Worker(id), None) = (target, attachment)
            && let Some(number) = self.receiver(from.app, id)
            && self.workers.get(number).is_some_and(|it| it.out.serialization() == Serialization::Json)
        {
            return self.pass_line(number, &message, from.instance.worker_id());
        }
        let receivers: Vec<usize> = match target {
            Target::All => {
                let siblings = self.workers.iter().filter(|(_, it)| it.place.app == from.app);
                let others =
                    siblings.filter(|(_, it)| it.is_listening_to_us() && it.place.instance != sender);
                others.map(|(number, _)| number).collect()
            }
            Target::Worker(id) => self.receiver(from.app, id).into_iter().collect(),
        };
        // Between workers that both speak it, a value stays what it is.
        let is_advanced = |number: &usize| {
            let receiver = self.workers.get(*number);
            attachment.is_none()
                && receiver.is_some_and(|it| it.out.serialization() == Serialization::Advanced)
        };
        let (advanced, others): (Vec<usize>, Vec<usize>) = receivers.into_iter().partition(is_advanced);
        let worker_id = from.instance.worker_id();
        let frame = message.frame(worker_id).filter(|_| !advanced.is_empty());
        if frame.is_none() || !others.is_empty() {
            let whole = message.line(worker_id);
            let unserved = if frame.is_none() { &advanced[..] } else { &[] };
            others.iter().chain(unserved).for_each(|number| self.send_user(*number, &whole, attachment));
        }
        if let Some(frame) = frame {
            advanced.into_iter().for_each(|number| self.send_message_frame(number, &frame));
        }
    }

    /// The worker that a message for `id` is for.
    fn receiver(&self, app: AppId, id: u64) -> Option<usize> {
        let mut siblings =
            self.workers.iter().filter(|(_, it)| it.place.app == app && it.is_listening_to_us());
        let mut by_pid = None;
        let by_id = siblings.find(|(number, it)| {
            // A `fromWorker` that a program fills in itself is often its pid.
            if u64::from(it.pid) == id {
                by_pid.get_or_insert(*number);
            }
            it.place.instance.worker_id() == id
        });
        by_id.map(|(number, _)| number).or(by_pid)
    }

    /// The usual case on the shortest way: one worker, JSON, no descriptor.
    fn pass_line(&mut self, number: usize, message: &Routed<'_>, sender: u64) {
        let mut line = std::mem::take(&mut self.scratch);
        line.clear();
        match message.has_sender {
            true => wire::user(&mut line, message.raw),
            false => {
                wire::push_with_sender(&mut line, message.raw, sender);
                line.push(b'\n');
            }
        }
        self.send_message(number, &line);
        self.scratch = line;
    }

    fn send_user(&mut self, number: usize, message: &[u8], attachment: Option<&OwnedFd>) {
        let mut line = Vec::with_capacity(message.len() + 1);
        match attachment {
            None => {
                wire::user(&mut line, message);
                self.send_message(number, &line);
            }
            Some(fd) => {
                user_with(&mut line, message, attached(fd));
                self.send_attached(number, &line, fd);
            }
        }
    }

    /// Such a frame goes in one piece, or not at all: half of one would be the death of its worker.
    fn send_attached(&mut self, number: usize, line: &[u8], fd: &OwnedFd) {
        let Some(worker) = self.workers.get_mut(number).filter(|it| it.is_listening_to_us()) else { return };
        let has_room = worker.handles.len() < MAX_HANDLES;
        let name = worker.take_seq();
        let frame = worker.out.framed(line);
        let frame = frame.filter(|frame| has_room && frame.len() <= fdpass::WHOLE_BYTES_MAX);
        match frame.map(|frame| worker.out.send_handle_frame(&frame, fd.as_fd(), name)) {
            Some(Ok(sent)) => {
                worker.handles.push_back(HandleFrame::Message(name));
                self.after_send(number, sent);
            }
            Some(Err(_)) | None => {
                worker.dropped_messages += 1;
                self.tell_dropped(number);
            }
        }
    }

    /// Tells of what was dropped, unless that is told when the worker has read what waits.
    pub(super) fn tell_dropped(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number).filter(|it| it.out.is_flushed()) else { return };
        let (place, count) = (worker.place, std::mem::take(&mut worker.dropped_messages));
        if count > 0 {
            self.tell_from(number, News::Alert(Alert::MessagesDropped { place, count }));
        }
    }
}

/// A message that is to be passed on, and how it came.
pub(super) struct Routed<'a> {
    /// One JSON value.
    pub(super) raw: &'a [u8],
    /// The value that it was on the channel, if it came without a descriptor and not as JSON.
    pub(super) value: Option<&'a [u8]>,
    /// It says itself who sent it.
    pub(super) has_sender: bool,
}

impl Routed<'_> {
    /// As JSON, with its sender.
    fn line(&self, sender: u64) -> Cow<'_, [u8]> {
        match self.has_sender {
            true => Cow::Borrowed(self.raw),
            false => Cow::Owned(wire::with_sender(self.raw, sender)),
        }
    }

    /// As the value that it was, with its sender, if it can be passed on like that.
    fn frame(&self, sender: u64) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        let sender = (!self.has_sender).then_some(sender);
        wire::relay(self.value?, sender, self.raw.len(), &mut frame).then_some(frame)
    }
}

/// What a worker is told that the descriptor is.
fn attached(fd: &OwnedFd) -> Attached {
    match socket::kind_of(fd) {
        Ok(SocketKind::Listener) => Attached::Server,
        Ok(SocketKind::Datagram { v6: false }) => Attached::Udp4,
        Ok(SocketKind::Datagram { v6: true }) => Attached::Udp6,
        Ok(SocketKind::Stream) | Err(_) => Attached::Socket,
    }
}
