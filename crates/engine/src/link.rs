//! A queue between the two threads that wakes its reader. It carries things; it never looks at them.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use oxherd_os::Waker;

/// Makes a queue: the writing end, and the reading end whose waker the reader polls.
pub(crate) fn link<T>() -> io::Result<(Writer<T>, Reader<T>)> {
    let shared = Arc::new(Shared { queue: Mutex::new(VecDeque::new()), waker: Waker::new()? });
    Ok((Writer { shared: Arc::clone(&shared) }, Reader { shared }))
}

/// How much may be kept, in bytes, where those who fill it do so at will.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget {
    used: Arc<AtomicUsize>,
}

impl Budget {
    const MAX_BYTES: usize = 16 << 20;
    /// What a thing costs beyond its own bytes, about.
    const OVERHEAD_BYTES: usize = 128;
    /// What a descriptor counts as: no more than 128 of them wait.
    const FD_BYTES: usize = Self::MAX_BYTES / 128;

    /// What one thing costs.
    pub(crate) fn cost(bytes: usize, has_fd: bool) -> usize {
        bytes + Self::OVERHEAD_BYTES + if has_fd { Self::FD_BYTES } else { 0 }
    }

    /// Takes it, if there is room or nothing else is kept. It is given back when the permit is dropped.
    pub(crate) fn take(&self, cost: usize) -> Option<Permit> {
        let fits = |used: usize| (used == 0 || used + cost <= Self::MAX_BYTES).then_some(used + cost);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        Some(Permit { used: Arc::clone(&self.used), cost })
    }
}

/// Room that something takes up; to be dropped with it, and not before.
#[derive(Debug)]
pub struct Permit {
    used: Arc<AtomicUsize>,
    cost: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.used.fetch_sub(self.cost, Ordering::AcqRel);
    }
}

#[derive(Debug)]
struct Shared<T> {
    queue: Mutex<VecDeque<T>>,
    waker: Waker,
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct Writer<T> {
    shared: Arc<Shared<T>>,
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct Reader<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Writer<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Writer<T> {
    /// Queues one thing. The reader is woken only when it may be asleep: when the queue was empty.
    pub(crate) fn send(&self, thing: T) {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = queue.is_empty();
        queue.push_back(thing);
        drop(queue);
        if was_empty {
            self.shared.waker.wake();
        }
    }
}

impl<T> Reader<T> {
    /// What the reader's poller watches.
    pub(crate) fn waker(&self) -> &Waker {
        &self.shared.waker
    }

    /// Takes everything that is queued. To be called when the waker is readable.
    pub(crate) fn take(&self) -> VecDeque<T> {
        self.shared.waker.drain();
        std::mem::take(&mut *self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_bounded_and_lets_one_large_thing_through() {
        let budget = Budget::default();
        let large = Budget::cost(64 << 20, false);
        let permit = budget.take(large).unwrap();
        assert!(budget.take(1).is_none());
        drop(permit);
        let with_fd = Budget::cost(1, true);
        let taken: Vec<Permit> = (0..1000).map_while(|_| budget.take(with_fd)).collect();
        assert!((100..=128).contains(&taken.len()), "{}", taken.len());
    }
}
