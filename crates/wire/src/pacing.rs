//! When the next frame with an fd may be written behind others that the worker has not answered.
//!
//! Node keeps one received fd at a time. If a frame reaches it in two reads and another fd comes with the second
//! one, the first fd is lost and the frames get each other's. So a frame that may be cut must be the last fd
//! frame in flight. This must never hold back plain frames, and knows nothing of fds or queues.

/// Longer fd frames may be cut by the kernel (at 36,544 bytes).
pub const SAFE_HANDLE_BYTES: u64 = 32 * 1024;

/// What Node reads at once. An fd frame that ends within this many bytes of the previous one is never cut.
pub const SAFE_SPAN_BYTES: u64 = 64 * 1024;

/// Bookkeeping of one direction of one channel.
///
/// Getters: [`may_send_handle`](Self::may_send_handle), [`outstanding`](Self::outstanding),
/// [`plain_bytes`](Self::plain_bytes). Verbs: the others,
/// each called after the fact, in the order of the bytes.
#[derive(Debug, Clone, Default)]
pub struct Pacing {
    plain_bytes: u64,
    outstanding: u64,
    holding: bool,
}

impl Pacing {
    /// A fresh channel.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether an fd frame may be written now. Its length does not matter: an unsafe frame may go behind safe
    /// ones, it is what would follow it that must wait.
    pub fn may_send_handle(&self) -> bool {
        !self.holding
    }

    /// Fd frames that were neither answered nor taken back.
    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Plain bytes behind the last fd frame. A reader's read ends behind that frame, if it has not read it yet.
    pub fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// Plain bytes were written.
    pub fn sent_plain(&mut self, len: usize) {
        self.plain_bytes = self.plain_bytes.saturating_add(len as u64);
    }

    /// An fd frame was written, in one write. If it may be cut, no other goes behind it until all are answered.
    pub fn sent_handle(&mut self, len: usize) {
        let len = len as u64;
        let safe = len <= SAFE_HANDLE_BYTES && self.plain_bytes.saturating_add(len) <= SAFE_SPAN_BYTES;
        self.plain_bytes = 0;
        self.outstanding = self.outstanding.saturating_add(1);
        self.holding |= !safe;
    }

    /// An fd frame was written, but took more than one write: it was cut on our side already.
    pub fn sent_handle_in_pieces(&mut self, len: usize) {
        self.sent_handle(len);
        self.holding = true;
    }

    /// `HANDLE_ACK` or `HANDLE_NACK` came. Returns `false` for one that answers nothing, to be ignored.
    pub fn answered(&mut self) -> bool {
        let awaited = self.outstanding > 0;
        self.outstanding = self.outstanding.saturating_sub(1);
        self.holding &= self.outstanding > 0;
        awaited
    }

    /// The primary took one unread fd frame back: it will not be answered.
    pub fn took_back_handle(&mut self) {
        self.answered();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_frames_are_pipelined_freely() {
        let mut pacing = Pacing::new();
        for _ in 0..200 {
            assert!(pacing.may_send_handle());
            pacing.sent_plain(65_000);
            pacing.sent_handle(130);
        }
        assert_eq!(pacing.outstanding(), 200);
    }

    #[test]
    fn a_frame_that_may_be_cut_holds_the_next_until_all_are_answered() {
        let safe = (SAFE_SPAN_BYTES - 130) as usize;
        for (plain, handle, holds) in
            [(safe, 130, false), (safe + 1, 130, true), (0, 32_768, false), (0, 32_769, true)]
        {
            let mut pacing = Pacing::new();
            pacing.sent_handle(130);
            pacing.sent_plain(plain);
            pacing.sent_handle(handle);
            assert_eq!(pacing.may_send_handle(), !holds, "{plain} {handle}");
            assert!(pacing.answered());
            assert_eq!(pacing.may_send_handle(), !holds);
            assert!(pacing.answered());
            assert!(pacing.may_send_handle());
            assert!(!pacing.answered());
        }
    }

    #[test]
    fn a_frame_cut_by_a_short_write_holds_too() {
        let mut pacing = Pacing::new();
        pacing.sent_handle_in_pieces(130);
        pacing.sent_plain(10);
        assert!(!pacing.may_send_handle());
        pacing.took_back_handle();
        assert!(pacing.may_send_handle());
    }
}
