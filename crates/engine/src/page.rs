//! A worker's page of figures: memory that the worker writes and the primary reads, at any moment and after its death.
//!
//! A worker is not trusted: whatever stands there is a number to reckon with by saturating arithmetic, no more.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use oxherd_os::SharedWords;
use oxherd_wire::load;

/// The page of one worker.
#[derive(Debug)]
pub(crate) struct Page(SharedWords);

impl Page {
    /// Maps what a worker has sent.
    ///
    /// `InvalidData` where it is no page of this layout.
    pub(crate) fn of(fd: impl AsFd) -> io::Result<Self> {
        let page = Self(SharedWords::of(fd)?);
        if page.word(load::WORD_MAGIC) == load::MAGIC {
            Ok(page)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    /// Connections that it got from a primary and did not refuse, ever.
    pub(crate) fn seen(&self) -> u64 {
        self.word(load::WORD_SEEN)
    }

    /// Those of them that are open.
    pub(crate) fn held(&self) -> u64 {
        // What is read first can only be too small by then.
        let closed = self.word(load::WORD_CLOSED);
        self.seen().saturating_sub(closed)
    }

    /// Requests that it works on.
    pub(crate) fn in_flight(&self) -> u64 {
        self.word(load::WORD_IN_FLIGHT)
    }

    /// How late its event loop runs, in microseconds.
    pub(crate) fn lag_us(&self) -> u64 {
        self.word(load::WORD_LAG_US)
    }

    /// Open connections, however they came.
    pub(crate) fn open(&self) -> u64 {
        self.word(load::WORD_OPEN)
    }

    /// Requests, ever.
    pub(crate) fn requests(&self) -> u64 {
        self.word(load::WORD_REQUESTS)
    }

    /// Failed requests, ever.
    pub(crate) fn errors(&self) -> u64 {
        self.word(load::WORD_ERRORS)
    }

    fn word(&self, which: usize) -> u64 {
        // What the worker did before it sent a frame is seen once that frame was read.
        self.0.words()[which].load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_of_this_layout_is_taken() {
        let (words, fd) = SharedWords::new("page").unwrap();
        assert_eq!(Page::of(&fd).unwrap_err().kind(), io::ErrorKind::InvalidData);
        words.words()[load::WORD_MAGIC].store(load::MAGIC, Ordering::Relaxed);
        let page = Page::of(&fd).unwrap();
        words.words()[load::WORD_SEEN].store(3, Ordering::Relaxed);
        words.words()[load::WORD_CLOSED].store(1, Ordering::Relaxed);
        assert_eq!((page.seen(), page.held()), (3, 2));
        words.words()[load::WORD_CLOSED].store(u64::MAX, Ordering::Relaxed);
        assert_eq!(page.held(), 0);
    }
}
