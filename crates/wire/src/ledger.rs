//! Which of the frames written to a worker it has not read yet, so that the primary may read them itself.
//!
//! The stream has two readers then, the worker and the primary's duplicate of the worker's end, and each read
//! takes from the front. So what has left the queue is always a prefix of what was written, whoever took it.
//! The ledger must never guess: where it does not know that a read would stop between two frames, it refuses.

use std::collections::VecDeque;

/// More unread bytes than this are not taken back: one read of the worker could end inside a frame.
pub const MAX_RECALL_BYTES: u64 = 64 * 1024;

/// How many frames are remembered. Beyond, the oldest are forgotten, and recall is refused while they are unread.
pub const MAX_RECORDS: usize = 4096;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A frame without an fd.
    Plain,
    /// A frame with an fd, named by its `seq`.
    Handle(u64),
}

/// What a read of the worker's end would yield now, if the worker stays blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recall {
    /// Plain bytes in front of the first fd frame. They come with it and must be written again, in order.
    pub plain_prefix_bytes: u64,
    /// The fd frames, in order; never empty.
    pub handles: Vec<u64>,
}

/// The frames of one direction of one channel.
///
/// Verbs: [`wrote`](Self::wrote) and [`wrote_part`](Self::wrote_part) after every write,
/// [`peer_read`](Self::peer_read) and [`took_back`](Self::took_back) when a frame is known to have left the
/// queue. [`recall`](Self::recall) asks.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    records: VecDeque<Record>,
    /// Where the first record starts in the stream.
    base: u64,
    /// Where the last whole frame ends in the stream.
    end: u64,
    /// Bytes written of a frame that is not whole yet.
    part: u64,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    end: u64,
    kind: FrameKind,
}

impl Ledger {
    /// A fresh channel, nothing written.
    pub fn new() -> Self {
        Self::default()
    }

    /// A frame of `len` bytes is written to its end, parts told before included.
    pub fn wrote(&mut self, len: usize, kind: FrameKind) {
        self.part = 0;
        self.end = self.end.saturating_add(len as u64);
        self.records.push_back(Record { end: self.end, kind });
        if self.records.len() > MAX_RECORDS {
            self.forget_first();
        }
    }

    /// `bytes` more of a frame are written, and it is not whole yet. Until it is, nothing can be recalled.
    pub fn wrote_part(&mut self, bytes: usize) {
        self.part = self.part.saturating_add(bytes as u64);
    }

    /// The worker has answered this fd frame, so it has read it and all before it.
    pub fn peer_read(&mut self, token: u64) {
        self.forget_through(token);
    }

    /// The primary has itself read this fd frame from the worker's end; what was before it has left the queue
    /// too, read by one or the other. Plain frames that came along need no telling; those written again are
    /// told by [`wrote`](Self::wrote) as any others. Returns whether the frame was known.
    pub fn took_back(&mut self, token: u64) -> bool {
        self.forget_through(token)
    }

    /// What could be taken back, given the bytes that the worker has not read (`SIOCINQ` of its end). `None`
    /// unless they are few, start at a known frame, are plain frames followed by at least one fd frame, and no
    /// plain frame comes behind an fd frame.
    pub fn recall(&mut self, unread: u64) -> Option<Recall> {
        if self.part > 0 || unread == 0 || unread > MAX_RECALL_BYTES {
            return None;
        }
        let read = self.end.checked_sub(unread)?;
        while self.records.front().is_some_and(|first| first.end <= read) {
            self.forget_first();
        }
        if self.base != read {
            return None;
        }
        self.unread_as_recall()
    }

    fn unread_as_recall(&self) -> Option<Recall> {
        let mut prefix_end = self.base;
        let mut handles = Vec::new();
        for record in &self.records {
            match record.kind {
                FrameKind::Plain if handles.is_empty() => prefix_end = record.end,
                FrameKind::Plain => return None,
                FrameKind::Handle(token) => handles.push(token),
            }
        }
        (!handles.is_empty()).then(|| Recall { plain_prefix_bytes: prefix_end - self.base, handles })
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.records.pop_front() {
            self.base = first.end;
        }
    }

    fn forget_through(&mut self, token: u64) -> bool {
        let Some(at) = self.records.iter().position(|record| record.kind == FrameKind::Handle(token)) else {
            return false;
        };
        for _ in 0..=at {
            self.forget_first();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::FrameKind::{Handle, Plain};
    use super::*;

    fn ledger(frames: &[(usize, FrameKind)]) -> Ledger {
        let mut ledger = Ledger::new();
        for (len, kind) in frames {
            ledger.wrote(*len, *kind);
        }
        ledger
    }

    fn recall(plain_prefix_bytes: u64, handles: &[u64]) -> Option<Recall> {
        Some(Recall { plain_prefix_bytes, handles: handles.to_vec() })
    }

    #[test]
    fn only_plain_frames_followed_by_fd_frames() {
        let frames = [(10, Handle(1)), (20, Plain), (5, Plain), (30, Handle(2)), (40, Handle(3))];
        assert_eq!(ledger(&frames).recall(0), None);
        assert_eq!(ledger(&frames).recall(40), recall(0, &[3]));
        assert_eq!(ledger(&frames).recall(70), recall(0, &[2, 3]));
        assert_eq!(ledger(&frames).recall(75), recall(5, &[2, 3]));
        assert_eq!(ledger(&frames).recall(95), recall(25, &[2, 3]));
        assert_eq!(ledger(&frames).recall(105), None, "plain behind an fd frame");
        for inside in [1, 39, 41, 72, 104, 106, 1000] {
            assert_eq!(ledger(&frames).recall(inside), None, "{inside}");
        }
        assert_eq!(ledger(&[(10, Plain)]).recall(10), None);
        assert_eq!(Ledger::new().recall(0), None);
    }

    #[test]
    fn only_few_bytes_and_whole_frames() {
        let max = MAX_RECALL_BYTES as usize;
        assert_eq!(ledger(&[(max, Handle(1))]).recall(MAX_RECALL_BYTES), recall(0, &[1]));
        assert_eq!(ledger(&[(max + 1, Handle(1))]).recall(MAX_RECALL_BYTES + 1), None);
        let mut ledger = ledger(&[(10, Handle(1))]);
        ledger.wrote_part(10);
        assert_eq!(ledger.recall(10), None, "these 10 bytes are the part, not the frame");
        ledger.wrote(15, Handle(2));
        assert_eq!(ledger.recall(25), recall(0, &[1, 2]));
        assert_eq!(ledger.recall(15), recall(0, &[2]));
    }

    #[test]
    fn frames_leave_whoever_reads_them() {
        let mut ledger = ledger(&[(8, Plain), (10, Handle(1)), (10, Handle(2)), (10, Handle(3))]);
        assert_eq!(ledger.recall(38), recall(8, &[1, 2, 3]));
        assert!(ledger.took_back(1));
        assert!(!ledger.took_back(1));
        ledger.wrote(8, Plain);
        assert_eq!(ledger.recall(28), None, "the plain frame is behind now");
        ledger.peer_read(2);
        assert!(ledger.took_back(3));
        assert_eq!(ledger.recall(8), None);
        ledger.wrote(10, Handle(4));
        assert_eq!(ledger.recall(18), recall(8, &[4]));
        ledger.peer_read(99);
        assert_eq!(ledger.recall(10), recall(0, &[4]));
    }

    #[test]
    fn memory_is_bounded_and_forgotten_frames_refuse() {
        let mut ledger = Ledger::new();
        for seq in 0..10_000 {
            ledger.wrote(2, Handle(seq));
        }
        assert_eq!(ledger.records.len(), MAX_RECORDS);
        assert_eq!(ledger.recall(20_000), None);
        assert_eq!(ledger.recall(2), recall(0, &[9_999]));
        assert_eq!(ledger.records.len(), 1);
    }
}
