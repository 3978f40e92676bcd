//! What goes to workers: sending a frame, and what follows when it cannot go at once.

use oxherd_core::InstanceId;
use oxherd_os::Interest;

use crate::Alert;
use crate::traffic::channel::Sent;
use crate::traffic::orders::News;
use crate::traffic::timers::Timer;
use crate::traffic::{Token, Traffic};

/// When to try again to send what the kernel had no means for, in milliseconds.
const RETRY_SEND_MS: u64 = 10;

impl Traffic {
    /// Sends a frame of a program, with others that are sent in the same breath: [`release_gathered`] ends it.
    ///
    /// [`release_gathered`]: Self::release_gathered
    pub(super) fn send_message(&mut self, number: usize, line: &[u8]) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let sent = match worker.out.framed(line) {
            Some(frame) => worker.out.gather(&frame),
            None => Some(Sent::Dropped),
        };
        self.after_gathering(number, sent);
    }

    /// As [`send_message`](Self::send_message), for what is framed already.
    pub(super) fn send_message_frame(&mut self, number: usize, frame: &[u8]) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let sent = worker.out.gather(frame);
        self.after_gathering(number, sent);
    }

    fn after_gathering(&mut self, number: usize, sent: Option<Sent>) {
        match sent {
            Some(sent) => self.after_send_message(number, sent),
            None if self.gathering.contains(&number) => {}
            None => self.gathering.push(number),
        }
    }

    /// Writes all messages that were gathered: one call for as many as there are for a worker.
    pub(super) fn release_gathered(&mut self) {
        while let Some(number) = self.gathering.pop() {
            let Some(worker) = self.workers.get_mut(number) else { continue };
            let sent = worker.out.release();
            self.after_send_message(number, sent);
        }
    }

    fn after_send_message(&mut self, number: usize, sent: Sent) {
        if sent == Sent::Dropped
            && let Some(worker) = self.workers.get_mut(number)
        {
            worker.dropped_messages += 1;
            self.tell_dropped(number);
        }
        self.after_send(number, sent);
    }

    /// Sends a frame of the protocol.
    pub(super) fn send_to(&mut self, number: usize, line: &[u8]) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let sent = worker.out.send(line);
        self.after_send(number, sent);
    }

    /// As [`send_to`](Self::send_to), for what is framed already.
    pub(super) fn send_frames_to(&mut self, number: usize, frames: &[u8]) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let sent = worker.out.send_frames(frames);
        self.after_send(number, sent);
    }

    pub(super) fn reply(&mut self, number: usize, render: impl FnOnce(&mut Vec<u8>)) {
        let mut line = std::mem::take(&mut self.scratch);
        line.clear();
        render(&mut line);
        self.send_to(number, &line);
        self.scratch = line;
    }

    /// What does not go at once waits.
    pub(super) fn after_send(&mut self, number: usize, sent: Sent) {
        match sent {
            Sent::Whole | Sent::Dropped | Sent::Closed => {}
            Sent::Flooded => self.condemn(number, "it asks for more than it reads"),
            Sent::Unkept => {
                self.keep_spool(number);
                let sent = self.workers.get_mut(number).map_or(Sent::Closed, |worker| worker.out.flush());
                self.after_send(number, sent);
            }
            Sent::Queued | Sent::Held | Sent::Starved => {
                self.wait_to_send(number, sent);
                self.note_blocked(number);
            }
        }
    }

    /// Writes what waits, as far as that goes now.
    pub(super) fn flush(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let place = worker.place;
        match worker.out.flush() {
            why @ (Sent::Queued | Sent::Held | Sent::Starved) => return self.wait_to_send(number, why),
            Sent::Unkept => {
                self.keep_spool(number);
                return self.flush(number);
            }
            Sent::Whole | Sent::Dropped | Sent::Flooded | Sent::Closed => {}
        }
        worker.blocked_since = None;
        let count = std::mem::take(&mut worker.dropped_messages);
        if count > 0 {
            self.tell(News::Alert(Alert::MessagesDropped { place, count }));
        }
        self.watch_writing(number, false);
        self.check_stall(number);
        self.pump_for(number);
    }

    pub(super) fn on_retry_send(&mut self, instance: InstanceId) {
        if let Some(number) = self.worker_of(instance) {
            self.flush(number);
        }
    }

    /// Only what waits for the worker to read is told of by the poller. For the rest the socket may be writable
    /// all the time.
    fn wait_to_send(&mut self, number: usize, why: Sent) {
        self.watch_writing(number, why == Sent::Queued);
        if why == Sent::Starved
            && let Some(worker) = self.workers.get(number)
        {
            self.timers.set(self.now + RETRY_SEND_MS, Timer::RetrySend(worker.place.instance));
        }
    }

    fn watch_writing(&mut self, number: usize, wanted: bool) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        if std::mem::replace(&mut worker.watched_for_writing, wanted) == wanted {
            return;
        }
        let interest = if wanted { Interest::READ | Interest::WRITE } else { Interest::READ };
        // A channel at its end is not watched any more.
        drop(self.poller.modify(worker.out.socket(), Token::Channel(number).encode(), interest));
    }
}
