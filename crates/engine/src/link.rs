//! A queue between the two threads that wakes its reader. It carries things; it never looks at them.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use oxherd_os::Waker;

/// Makes a queue: the writing end, and the reading end whose waker the reader polls.
pub(crate) fn link<T>() -> io::Result<(Writer<T>, Reader<T>)> {
    let shared = Arc::new(Shared { queue: Mutex::new(VecDeque::new()), waker: Waker::new()? });
    Ok((Writer { shared: Arc::clone(&shared) }, Reader { shared }))
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
