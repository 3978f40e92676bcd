//! What is counted for each worker. The numbers may lie in memory that outlives the primary: none is lost with it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use oxherd_os::SharedWords;

use crate::Stream;
use crate::page::Page;

const HANDED_OVER: usize = 0;
const REQUESTS: usize = 1;
const ERRORS: usize = 2;
const ERROR_REPORTS: usize = 3;
const CONNECTIONS: usize = 4;
const MEMORY: usize = 5;
const WAS_READY: usize = 6;
const CONDEMNED: usize = 7;
const TOLD_AT: usize = 8;
const HEARD: usize = 9;
/// One for each stream of output.
const AMID: usize = 10;
const COUNT: usize = 12;

/// What traffic counts for a worker and what the worker reports of itself. Only traffic writes, control reads for
/// the report; as messages, a worker's figures could fill the queue to control faster than it is read. Some marks
/// are for the primary that comes next.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    words: Words,
    /// What the worker counts itself, where it shares that.
    page: Mutex<Option<Arc<Page>>>,
}

#[derive(Debug)]
enum Words {
    Own([AtomicU64; COUNT]),
    Shared(SharedWords),
}

impl Default for Words {
    fn default() -> Self {
        Self::Own(Default::default())
    }
}

impl Counters {
    /// Numbers that others can go on with, by way of the descriptor.
    pub(crate) fn shared() -> io::Result<(Self, OwnedFd)> {
        let (words, fd) = SharedWords::new("oxherd counters")?;
        Ok((Self { words: Words::Shared(words), page: Mutex::default() }, fd))
    }

    /// The numbers that another primary counted.
    pub(crate) fn of(fd: impl AsFd) -> io::Result<Self> {
        Ok(Self { words: Words::Shared(SharedWords::of(fd)?), page: Mutex::default() })
    }

    pub(crate) fn count_accepted(&self) {
        // Only the traffic thread writes: a plain load and store, without a locked instruction.
        self.word(HANDED_OVER).store(self.handed_over() + 1, Ordering::Relaxed);
    }

    pub(crate) fn handed_over(&self) -> u64 {
        self.word(HANDED_OVER).load(Ordering::Relaxed)
    }

    /// Something came over its channel.
    pub(crate) fn count_heard(&self) {
        // Only the traffic thread writes.
        self.word(HEARD).store(self.heard() + 1, Ordering::Relaxed);
    }

    /// How often something came over its channel.
    pub(crate) fn heard(&self) -> u64 {
        self.word(HEARD).load(Ordering::Relaxed)
    }

    /// What the worker counts itself, in place of what was known of that before.
    pub(crate) fn set_page(&self, page: Arc<Page>) {
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = Some(page);
    }

    /// What the worker counts itself, if it shares that. Not for the path of a connection: it takes a lock.
    pub(crate) fn page(&self) -> Option<Arc<Page>> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The requests it has served: by its page, or by its messages where those tell of more. A worker may share a
    /// page and count in a way of its own.
    pub(crate) fn all_requests(&self) -> Option<u64> {
        self.page().map(|page| page.requests()).max(self.requests().get())
    }

    /// Its failed requests, likewise, and its reports of errors; nothing when it tells of neither.
    pub(crate) fn all_errors(&self) -> Option<u64> {
        let counted = self.page().map(|page| page.errors()).max(self.errors().get());
        match (counted, self.error_reports().get()) {
            (None, None) => None,
            (counted, reports) => Some(counted.unwrap_or(0).saturating_add(reports.unwrap_or(0))),
        }
    }

    /// Its open connections: by its page, or what it told last.
    pub(crate) fn open_connections(&self) -> Option<u64> {
        self.page().map(|page| page.open()).or_else(|| self.connections().get())
    }

    /// Since the worker's start, like the other figures.
    pub(crate) fn requests(&self) -> Figure<'_> {
        Figure(self.word(REQUESTS))
    }

    /// As the worker's own metrics count them.
    pub(crate) fn errors(&self) -> Figure<'_> {
        Figure(self.word(ERRORS))
    }

    /// Messages that told of an error, which no metric is known to include.
    pub(crate) fn error_reports(&self) -> Figure<'_> {
        Figure(self.word(ERROR_REPORTS))
    }

    pub(crate) fn connections(&self) -> Figure<'_> {
        Figure(self.word(CONNECTIONS))
    }

    /// How many connections it had accepted when it told of its connections.
    pub(crate) fn told_at(&self) -> Figure<'_> {
        Figure(self.word(TOLD_AT))
    }

    /// In bytes.
    pub(crate) fn memory(&self) -> Figure<'_> {
        Figure(self.word(MEMORY))
    }

    /// The worker is ready; control says so, and it stays true.
    pub(crate) fn mark_ready(&self) {
        self.word(WAS_READY).store(1, Ordering::Relaxed);
    }

    pub(crate) fn was_ready(&self) -> bool {
        self.word(WAS_READY).load(Ordering::Relaxed) != 0
    }

    /// The worker broke the protocol.
    pub(crate) fn mark_condemned(&self) {
        self.word(CONDEMNED).store(1, Ordering::Relaxed);
    }

    pub(crate) fn was_condemned(&self) -> bool {
        self.word(CONDEMNED).load(Ordering::Relaxed) != 0
    }

    /// Whether a line of the stream is begun that was handed on in part; control says so.
    pub(crate) fn note_amid(&self, stream: Stream, is_amid: bool) {
        if self.is_amid(stream) != is_amid {
            self.word(AMID + usize::from(stream == Stream::Stderr))
                .store(u64::from(is_amid), Ordering::Relaxed);
        }
    }

    pub(crate) fn is_amid(&self, stream: Stream) -> bool {
        self.word(AMID + usize::from(stream == Stream::Stderr)).load(Ordering::Relaxed) != 0
    }

    fn word(&self, which: usize) -> &AtomicU64 {
        match &self.words {
            Words::Own(words) => &words[which],
            Words::Shared(words) => &words.words()[which],
        }
    }
}

/// A number that a worker may have told: one more than it, or 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure<'a>(&'a AtomicU64);

impl Figure<'_> {
    /// The worker told this; what it does not tell stays as it was.
    pub(crate) fn note(self, told: Option<u64>) {
        if let Some(told) = told {
            self.0.store(told.saturating_add(1), Ordering::Relaxed);
        }
    }

    pub(crate) fn count_one(self) {
        self.note(Some(self.get().unwrap_or(0).saturating_add(1)));
    }

    pub(crate) fn get(self) -> Option<u64> {
        self.0.load(Ordering::Relaxed).checked_sub(1)
    }
}
