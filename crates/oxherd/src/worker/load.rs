//! The figures of a worker: a page of numbers that its primary reads without asking.
//!
//! Counting is a few atomic additions. Must never be trusted for anything but figures: whoever holds the page's
//! descriptor can change it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use oxherd_os::SharedWords;
use oxherd_os::shared::WORDS;
use oxherd_wire::load as layout;

/// The numbers, shared where there is a primary to share them with.
#[derive(Debug)]
pub(super) enum Page {
    Shared { words: SharedWords, fd: OwnedFd },
    Private(Box<[AtomicU64; WORDS]>),
}

impl Page {
    /// A page to be shared; one of this process alone where the kernel gives none.
    pub(super) fn new() -> Self {
        let page = match SharedWords::new("oxherd load") {
            Ok((words, fd)) => Self::Shared { words, fd },
            Err(_) => Self::private(),
        };
        page.word(layout::WORD_MAGIC).store(layout::MAGIC, Ordering::Relaxed);
        page
    }

    /// A page that nobody else sees.
    pub(super) fn private() -> Self {
        Self::Private(Box::new([const { AtomicU64::new(0) }; WORDS]))
    }

    /// A copy of the descriptor that maps the page.
    pub(super) fn fd(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Shared { fd, .. } => fd.try_clone(),
            Self::Private(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(super) fn get(&self, word: usize) -> u64 {
        self.word(word).load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, word: usize, value: u64) {
        self.word(word).store(value, Ordering::Relaxed);
    }

    pub(super) fn add(&self, word: usize, value: u64) {
        self.word(word).fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, word: usize, value: u64) {
        self.word(word).fetch_sub(value, Ordering::Relaxed);
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        let words = match self {
            Self::Shared { words, .. } => words.words(),
            Self::Private(words) => words,
        };
        &words[word % WORDS]
    }
}

/// Counts requests, for servers that are not built on `tower`.
///
/// Strategies of the primary that look at load (`least-busy`) use these figures: a worker that counts its requests
/// is not given new connections while others have less to do. Clones count into the same figures.
///
/// ```
/// let load = oxherd::Load::of_current();
/// let request = load.begin();
/// // … serve it …
/// request.fail(); // or drop it, when all went well
/// assert_eq!(load.figures().requests, 1);
/// assert_eq!(load.figures().errors, 1);
/// ```
#[derive(Clone, Debug)]
pub struct Load {
    page: Arc<Page>,
}

/// What was counted so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Requests begun, ever.
    pub requests: u64,
    /// Of those, requests that failed.
    pub errors: u64,
    /// Of those, requests not finished yet.
    pub in_flight: u64,
    /// Open connections that are tracked: those of [`Listener::accept_tracked`](crate::Listener::accept_tracked).
    pub connections: u64,
    /// The latencies of all finished requests, summed up, in microseconds.
    pub latency_sum_micros: u64,
    /// How many finished requests took `2^i` to `2^(i+1)` microseconds.
    pub latency_histogram: [u64; layout::LATENCY_BUCKETS],
}

impl Load {
    /// The figures of the [current worker](crate::worker()); without one, figures that only this process sees.
    pub fn of_current() -> Self {
        crate::worker().map_or_else(|| Self { page: Arc::new(Page::private()) }, |worker| worker.load())
    }

    pub(super) fn new(page: Arc<Page>) -> Self {
        Self { page }
    }

    /// A request begins. It ends when what is returned is dropped.
    pub fn begin(&self) -> InFlight {
        self.page.add(layout::WORD_REQUESTS, 1);
        self.page.add(layout::WORD_IN_FLIGHT, 1);
        InFlight { page: Arc::clone(&self.page), began: Instant::now(), failed: false }
    }

    /// What was counted so far.
    pub fn figures(&self) -> Figures {
        let page = &self.page;
        Figures {
            requests: page.get(layout::WORD_REQUESTS),
            errors: page.get(layout::WORD_ERRORS),
            in_flight: page.get(layout::WORD_IN_FLIGHT),
            connections: page.get(layout::WORD_OPEN),
            latency_sum_micros: page.get(layout::WORD_LATENCY_SUM_US),
            latency_histogram: std::array::from_fn(|bucket| page.get(layout::WORD_LATENCY + bucket)),
        }
    }
}

/// A request that is being served; made by [`Load::begin`].
#[derive(Debug)]
#[must_use = "the request ends when this is dropped"]
pub struct InFlight {
    page: Arc<Page>,
    began: Instant,
    failed: bool,
}

impl InFlight {
    /// The request ends, and has failed.
    pub fn fail(mut self) {
        self.mark_failed();
    }

    /// The request has failed, but goes on (the rest of its body is still being sent).
    pub fn mark_failed(&mut self) {
        if !self.failed {
            self.failed = true;
            self.page.add(layout::WORD_ERRORS, 1);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.page.sub(layout::WORD_IN_FLIGHT, 1);
        self.page.add(layout::WORD_LATENCY_SUM_US, micros);
        self.page.add(layout::WORD_LATENCY + layout::latency_bucket(micros), 1);
    }
}
