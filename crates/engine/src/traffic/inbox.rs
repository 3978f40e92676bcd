//! What workers write: reading, cutting into frames, and one line per kind of frame. A worker that does not
//! speak the protocol is condemned; it never harms the primary or another worker.

use std::io;
use std::os::fd::OwnedFd;

use oxherd_core::{Event, InstanceId};
use oxherd_os::fdpass;
use oxherd_wire::{
    self as wire, Convention, Decoder, Frame, HandleFrame as WireHandle, HandleType, Inbound, PerConnection,
    UserMessage,
};

use crate::traffic::Traffic;
use crate::traffic::orders::News;
use crate::traffic::tap::Routed;
use crate::traffic::worker::{HandleFrame, Standing};

const NOT_CLAIMED: &str = "a file descriptor without a NODE_HANDLE frame";

impl Traffic {
    pub(super) fn on_channel(&mut self, number: usize, readable: bool, writable: bool) {
        if writable {
            self.flush(number);
        }
        if readable {
            self.read_channel(number);
        }
        self.release_gathered();
    }

    /// Reads once and handles every frame that is whole. Returns how many bytes it were; none when nothing is there
    /// for now, or nothing that counts.
    pub(super) fn read_channel(&mut self, number: usize) -> usize {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let count = self.read_into(number, &mut buffer);
        self.read_buffer = buffer;
        count
    }

    fn read_into(&mut self, number: usize, buffer: &mut [u8]) -> usize {
        let Some(worker) = self.workers.get_mut(number) else { return 0 };
        if !worker.is_listening_to_us() {
            return 0;
        }
        let received = match fdpass::receive(worker.out.socket(), buffer, &mut worker.received) {
            Ok(received) if received.bytes > 0 => received,
            Err(error) if is_for_now(&error) => return 0,
            Ok(_) | Err(_) => {
                self.on_channel_end(number);
                return 0;
            }
        };
        worker.counters.count_heard();
        let chunk = buffer.get(..received.bytes).unwrap_or_default();
        if let Some(fault) = self.take_in(number, chunk, received.truncated) {
            self.condemn(number, &fault);
        }
        received.bytes
    }

    /// Says what is wrong with what came.
    fn take_in(&mut self, number: usize, chunk: &[u8], truncated: bool) -> Option<String> {
        if self.workers.get(number)?.received.len() > 1 && !self.is_resynchronising(number) {
            return Some("more than one file descriptor on a frame".into());
        }
        if truncated {
            // What is missing was lost for want of descriptors here, so its frame is answered with a NACK.
            self.on_shortage();
        }
        let mut decoder = self.workers.get_mut(number)?.decoder.take()?;
        let fault = self.handle_lines(number, &mut decoder, chunk);
        let partial = decoder.is_partial();
        let worker = self.workers.get_mut(number).filter(|it| it.is_listening_to_us())?;
        if !worker.is_resynchronising {
            decoder.settle();
        }
        worker.decoder = Some(decoder);
        worker.expects_handle = partial && !worker.received.is_empty();
        if worker.is_resynchronising && !partial {
            // The frame that it belongs to was begun under the old primary.
            worker.received.clear();
        }
        if fault.is_none() && !worker.received.is_empty() && !partial {
            return Some(NOT_CLAIMED.into());
        }
        fault
    }

    /// Handles the frames that `chunk` completes. Says what is wrong with the first that is not one.
    fn handle_lines(&mut self, number: usize, decoder: &mut Decoder, chunk: &[u8]) -> Option<String> {
        let mut lines = decoder.feed(chunk);
        while let Some(cut) = lines.next_frame() {
            let Frame { line, value } = match cut {
                Ok(cut) => cut,
                Err(error) => return Some(error.to_string()),
            };
            if self.handle_per_connection(number, line) {
                continue;
            }
            let frame = match wire::parse(line) {
                Ok(frame) => frame,
                // Its beginning was read by the old primary.
                Err(_) if self.is_resynchronising(number) => continue,
                Err(error) => return Some(error.to_string()),
            };
            if let Some(fault) = self.handle_frame(number, frame, value) {
                return Some(fault);
            }
            if self.workers.get(number).is_none_or(|it| !it.is_listening_to_us()) {
                // Condemned for what it asked: the rest does not count.
                return None;
            }
        }
        None
    }

    /// Handles the two lines that come for every connection, on the shortest way. Returns whether it was one.
    fn handle_per_connection(&mut self, number: usize, line: &[u8]) -> bool {
        if self.workers.get(number).is_none_or(|it| it.expects_handle) {
            return false;
        }
        match wire::parse_per_connection(line) {
            Some(PerConnection::HandleAck) => self.on_handle_ack(number),
            Some(PerConnection::Accepted { ack }) => self.on_answer(number, ack, true),
            None => return false,
        }
        true
    }

    fn is_resynchronising(&self, number: usize) -> bool {
        self.workers.get(number).is_some_and(|worker| worker.is_resynchronising)
    }

    /// `value` is what the frame was on the channel, where that is more than its line says.
    fn handle_frame(&mut self, number: usize, frame: Inbound<'_>, value: Option<&[u8]>) -> Option<String> {
        if self.workers.get(number).is_some_and(|it| it.expects_handle) {
            let owns = matches!(frame, Inbound::Handle(_));
            if let Some(worker) = self.workers.get_mut(number) {
                worker.expects_handle = false;
            }
            if !owns {
                return Some(NOT_CLAIMED.into());
            }
        }
        match frame {
            Inbound::Answer { ack, accepted } => self.on_answer(number, ack, accepted),
            Inbound::HandleAck => self.on_handle_ack(number),
            Inbound::HandleNack => self.on_handle_nack(number),
            Inbound::Handle(handle) => return self.on_handle(number, &handle),
            Inbound::Online { oxherd } => self.on_online(number, oxherd),
            Inbound::Query(query) => self.on_query(number, query),
            Inbound::Listening(listening) => self.on_listening(number, &listening),
            Inbound::Close { key } => self.on_close(number, &key),
            Inbound::ExitedAfterDisconnect { seq } => self.on_departing(number, seq),
            Inbound::SocketCountQuery { key } => self.reply(number, |out| wire::socket_count(out, &key, 0)),
            Inbound::SocketCloseQuery { key } => self.reply(number, |out| wire::socket_all_closed(out, &key)),
            Inbound::OtherInternal => {}
            Inbound::User(message) => self.on_message(number, message, value, None),
        }
        None
    }

    fn on_online(&mut self, number: usize, oxherd: bool) {
        if oxherd {
            self.greet(number);
        }
        self.tell_of(number, |instance| Event::Online { instance });
    }

    /// A worker's page of figures, or a descriptor of a program's own. It is acknowledged; the program's goes wherever
    /// its message goes.
    fn on_handle(&mut self, number: usize, handle: &WireHandle<'_>) -> Option<String> {
        let worker = self.workers.get_mut(number)?;
        let fd = worker.received.pop_front();
        let answer = if fd.is_some() { wire::HANDLE_ACK } else { wire::HANDLE_NACK };
        self.send_to(number, answer);
        let fd = fd?;
        if handle.kind == HandleType::Load {
            self.on_page(number, fd);
            return None;
        }
        match handle.inner() {
            Ok(Inbound::User(message)) => {
                self.on_message(number, message, None, Some(fd));
                None
            }
            Ok(inner) => self.handle_frame(number, inner, None),
            Err(error) => Some(error.to_string()),
        }
    }

    fn on_handle_ack(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        if worker.fence.is_some() {
            // For a frame of the old primary, or for the fence, whose answer says more.
            return;
        }
        match worker.handles.pop_front() {
            Some(HandleFrame::Socket { seq, .. } | HandleFrame::Message(seq)) => {
                worker.out.ledger.peer_read(seq);
            }
            Some(HandleFrame::Connection(_)) | None => {}
        }
        self.on_handle_answered(number);
    }

    /// What was held back behind the frame may go now.
    fn on_handle_answered(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let was_held = !worker.out.pacing.may_send_handle();
        worker.out.pacing.answered();
        if !worker.out.is_flushed() {
            self.flush(number);
        } else if was_held {
            self.pump_for(number);
        }
    }

    /// The frame came without its descriptor: the worker had none free. A connection goes to another worker, a
    /// socket is sent again.
    fn on_handle_nack(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        if worker.fence.is_some() {
            return self.on_fence_refused(number);
        }
        match worker.handles.pop_front() {
            Some(HandleFrame::Connection(seq)) => self.on_answer(number, seq, false),
            Some(HandleFrame::Socket { seq, ack, listener, tries }) => {
                worker.out.ledger.peer_read(seq);
                self.on_socket_refused(number, ack, listener, tries);
            }
            Some(HandleFrame::Message(name)) => {
                worker.out.ledger.peer_read(name);
                worker.dropped_messages += 1;
                self.tell_dropped(number);
            }
            None => {}
        }
        self.on_handle_answered(number);
    }

    fn on_message(
        &mut self,
        number: usize,
        message: UserMessage<'_>,
        value: Option<&[u8]>,
        attachment: Option<OwnedFd>,
    ) {
        let Some(instance) = self.workers.get(number).map(|worker| worker.place.instance) else { return };
        let Some(counters) = self.workers.get(number).map(|worker| &*worker.counters) else { return };
        match message.convention() {
            Convention::Ready => self.tell_from(number, News::Fact(Event::Ready { instance })),
            Convention::Stats { connections, requests, in_flight } => {
                counters.requests().note(requests);
                self.note_told(number, connections, in_flight);
            }
            Convention::Metrics { requests, errors, memory_rss_bytes, .. } => {
                counters.requests().note(requests);
                counters.errors().note(errors);
                counters.memory().note(memory_rss_bytes);
            }
            Convention::Request { connections } => {
                counters.requests().count_one();
                self.note_told(number, connections, None);
            }
            Convention::Error { error, stack } => {
                counters.error_reports().count_one();
                let error = stack.filter(|stack| stack.contains(&error)).unwrap_or(error);
                self.tell_from(number, News::Fact(Event::ErrorReported { instance, error }));
            }
            Convention::Routed { target, has_sender } => {
                let routed = Routed { raw: message.raw, value, has_sender };
                self.route(instance, target, routed, attachment.as_ref())
            }
            Convention::Other => {}
        }
        self.pass_on(number, message.raw, attachment);
    }

    /// A frame that is not one, or a descriptor that does not belong: nothing this worker says counts any more.
    pub(super) fn condemn(&mut self, number: usize, what: &str) {
        if let Some(worker) = self.workers.get(number) {
            // Its channel is gone for the next primary too, and with it what it did.
            worker.counters.mark_condemned();
        }
        if let Some(instance) = self.end_channel(number, Standing::Condemned) {
            self.tell(News::Fact(Event::Misbehaved { instance, what: what.into() }));
        }
    }

    /// The worker has closed its end. What it has not answered it has not begun to serve: others get it.
    fn on_channel_end(&mut self, number: usize) {
        let Some(instance) = self.end_channel(number, Standing::Ended) else { return };
        self.tell(News::Fact(Event::ChannelClosed { instance }));
        self.take_all_back(number);
    }

    fn end_channel(&mut self, number: usize, standing: Standing) -> Option<InstanceId> {
        self.drop_worker_end(number);
        self.unkeep_channel(number);
        let worker = self.workers.get_mut(number)?;
        worker.standing = standing;
        worker.fence = None;
        worker.received.clear();
        worker.decoder = None;
        worker.out.close();
        // It was added when the worker was attached; should it be gone, nothing is lost.
        drop(self.poller.remove(worker.out.socket()));
        Some(worker.place.instance)
    }

    fn tell_of(&mut self, number: usize, fact: impl FnOnce(InstanceId) -> Event) {
        if let Some(worker) = self.workers.get(number) {
            let fact = fact(worker.place.instance);
            self.tell_from(number, News::Fact(fact));
        }
    }

    /// News that a worker can cause as often as it likes.
    pub(super) fn tell_from(&mut self, number: usize, news: News) {
        let now = self.now;
        if self.workers.get_mut(number).is_some_and(|worker| worker.talk.may_tell(now)) {
            self.tell(news);
        }
    }
}

/// Nothing is there yet.
fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
