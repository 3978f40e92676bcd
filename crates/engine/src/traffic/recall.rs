//! Taking connections back from a worker that does not pick them up while another is idle.
//!
//! The primary keeps a duplicate of the worker's own end of the channel and reads from it what the worker has
//! not read. Each frame is handed to exactly one reader, so whoever reads a connection has it. It must never
//! read plain frames behind a connection: their order could not be kept.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use oxherd_os::{fdpass, socket};
use oxherd_wire::{self as wire, Serialization};

use crate::traffic::timers::Timer;
use crate::traffic::worker::{Attention, Handed, HandleFrame, Seat, Standing};
use crate::traffic::{READ_BYTES, Traffic};

/// How long a connection may lie unread while another worker is idle, in milliseconds.
const RECALL_AFTER_MS: u64 = 5;
/// A frame that every worker ignores. Once it has been read, the worker looks at its channel again.
const PROBE: &[u8] = b"{\"cmd\":\"NODE_OXHERD_PROBE\"}\n";

/// A probe of about so many bytes.
pub(super) fn long_probe(bytes: usize) -> Vec<u8> {
    format!("{{\"cmd\":\"NODE_OXHERD_PROBE\",\"pad\":\"{}\"}}\n", "x".repeat(bytes)).into_bytes()
}

impl Traffic {
    /// Sees to it that somebody looks for unread connections soon.
    pub(super) fn watch_for_recall(&mut self) {
        if self.recall && !std::mem::replace(&mut self.recall_armed, true) {
            self.timers.set(self.now + RECALL_AFTER_MS, Timer::Recall);
        }
    }

    pub(super) fn on_recall_timer(&mut self) {
        self.recall_armed = false;
        let concerned: Vec<usize> = self
            .workers
            .iter()
            .filter(|(_, it)| !it.unanswered.is_empty() || it.attention != Attention::Awake)
            .map(|(number, _)| number)
            .collect();
        if concerned.is_empty() {
            return;
        }
        for number in concerned {
            self.look_at(number);
        }
        self.watch_for_recall();
    }

    fn look_at(&mut self, number: usize) {
        let Some(worker) = self.workers.get(number) else { return };
        if worker.attention != Attention::Awake {
            return self.look_at_suspect(number);
        }
        let Some(oldest) = worker.unanswered.front() else { return };
        let seat = Seat { instance: worker.place.instance, number };
        let overdue = oldest.at + RECALL_AFTER_MS <= self.now;
        let open = match worker.standing {
            Standing::Open | Standing::Withdrawing => worker.worker_end.is_some(),
            Standing::Withdrawn | Standing::Leaving | Standing::Condemned | Standing::Ended => false,
        };
        let takes =
            |seat: Seat| self.workers.get(seat.number).is_some_and(|other| other.may_take(oldest.listener));
        let other_is_idle =
            || self.apps.get(&worker.place.app).is_some_and(|app| app.balancer.has_idle(seat, takes));
        if overdue && open && other_is_idle() {
            self.recall_from(number);
        }
    }

    /// A worker that has read the probe is awake.
    fn look_at_suspect(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        let unread = worker.worker_end.as_ref().map_or(Ok(0), socket::unread_bytes);
        if worker.out.is_flushed() && unread.is_ok_and(|bytes| bytes == 0) {
            worker.attention = Attention::Awake;
            self.check_stall(number);
            self.pump_for(number);
        }
    }

    fn recall_from(&mut self, number: usize) {
        let mut taken = self.take_queued(number);
        taken.extend(self.take_unread(number));
        if taken.is_empty() {
            return;
        }
        let Some(worker) = self.workers.get_mut(number) else { return };
        worker.attention = Attention::Suspect { since: self.now };
        if worker.out.is_flushed() {
            worker.blocked_since = None;
        }
        let place = worker.place;
        taken.sort_by_key(|handed| handed.seq);
        if let Some(app) = self.apps.get_mut(&place.app) {
            let seat = Seat { instance: place.instance, number };
            taken.iter().for_each(|_| app.balancer.returned(seat));
        }
        self.send_to(number, PROBE);
        self.check_stall(number);
        if self.workers.get(number).is_some_and(|worker| worker.unanswered.is_empty()) {
            self.on_all_answered(number);
        }
        self.offer_again(taken.into_iter());
    }

    /// Connections whose frames have not even left the primary.
    fn take_queued(&mut self, number: usize) -> Vec<Handed> {
        let Some(worker) = self.workers.get_mut(number) else { return Vec::new() };
        let queued: Vec<u64> = worker
            .unanswered
            .iter()
            .map(|handed| handed.seq)
            .filter(|seq| worker.out.unqueue(*seq))
            .collect();
        queued.into_iter().filter_map(|seq| self.forget(number, seq)).collect()
    }

    /// Connections that lie in the channel unread, as far as the ledger is sure of what else lies there.
    fn take_unread(&mut self, number: usize) -> Vec<Handed> {
        let Some(worker) = self.workers.get_mut(number) else { return Vec::new() };
        let Some(end) = worker.worker_end.as_ref().and_then(|end| end.try_clone().ok()) else {
            return Vec::new();
        };
        let serialization = worker.out.serialization();
        let Ok(unread) = socket::unread_bytes(&end) else { return Vec::new() };
        let Some(plan) = worker.out.ledger.recall(unread) else { return Vec::new() };
        let is_connection = |seq: &u64| worker.unanswered.iter().any(|handed| handed.seq == *seq);
        if !plan.handles.iter().all(is_connection) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        let mut plain = Vec::new();
        for _ in 0..plan.handles.len() {
            let Some(read) = read_worker_end(&end, serialization) else { break };
            plain.extend(read.plain);
            let Some(seq) = read.connection.filter(|seq| plan.handles.contains(seq)) else { continue };
            if let Some(worker) = self.workers.get_mut(number) {
                worker.out.ledger.took_back(seq);
                worker.out.pacing.took_back_handle();
            }
            taken.extend(self.forget(number, seq));
        }
        if !plain.is_empty() {
            self.send_frames_to(number, &plain);
        }
        taken
    }

    /// Takes a connection out of a worker's books.
    fn forget(&mut self, number: usize, seq: u64) -> Option<Handed> {
        let worker = self.workers.get_mut(number)?;
        worker.handles.retain(|frame| *frame != HandleFrame::Connection(seq));
        let at = worker.unanswered.iter().position(|handed| handed.seq == seq)?;
        worker.gauge.came_back();
        worker.unanswered.remove(at)
    }
}

/// What was read in the worker's place.
struct Reading {
    /// Frames without a descriptor, in order, as they were written.
    plain: Vec<u8>,
    /// The `seq` of the connection behind them.
    connection: Option<u64>,
}

/// One read in the worker's place. It ends behind the frame that has a descriptor: by that the frame is known, not
/// by its words, which another worker may have put into a message.
fn read_worker_end(end: &OwnedFd, serialization: Serialization) -> Option<Reading> {
    let mut buffer = vec![0; READ_BYTES];
    // The connection is held here anyway: the descriptor that comes is one too many.
    let mut fds = VecDeque::new();
    let received = fdpass::receive(end.as_fd(), &mut buffer, &mut fds).ok().filter(|it| it.bytes > 0)?;
    buffer.truncate(received.bytes);
    if received.fds == 0 && !received.truncated {
        return Some(Reading { plain: buffer, connection: None });
    }
    let last = wire::split_frames(serialization, &buffer).last().map_or(0, <[u8]>::len);
    let frame = buffer.split_off(buffer.len() - last);
    let connection = match serialization {
        Serialization::Json => seq_of_connection(&frame),
        Serialization::Advanced => {
            wire::line_of(&frame, READ_BYTES).and_then(|line| seq_of_connection(&line))
        }
    };
    Some(Reading { plain: buffer, connection })
}

/// The `seq` of a line that this primary has written with a connection on it.
fn seq_of_connection(line: &[u8]) -> Option<u64> {
    const HEAD: &[u8] = b"{\"cmd\":\"NODE_HANDLE\"";
    const SEQ: &[u8] = b"\"seq\":";
    if !line.starts_with(HEAD) {
        return None;
    }
    let at = line.windows(SEQ.len()).rposition(|window| window == SEQ)?;
    let digits = line.get(at + SEQ.len()..)?.iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |sum: u64, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use oxherd_wire::NewConn;

    use super::*;

    #[test]
    fn the_seq_of_a_connection_is_read_back() {
        let mut line = Vec::new();
        NewConn::new("L7").render(4096, &mut line);
        assert_eq!(seq_of_connection(&line), Some(4096));
        assert_eq!(seq_of_connection(PROBE), None);
        assert_eq!(seq_of_connection(b"{\"seq\":5}\n"), None);
    }
}
