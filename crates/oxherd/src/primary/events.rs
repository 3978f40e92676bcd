//! What happens in a cluster, as a stream of events that any number of listeners follow.
//!
//! Nobody waits for a listener: one that falls behind loses the oldest events and is told how many.

use std::time::Duration;

use oxherd_engine::Alert;
use oxherd_engine::core::Notice;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::WorkerHandle;
use crate::Message;

/// Something that happened in a cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A worker was started; `fork` in Node.
    Fork {
        /// Which.
        worker: WorkerHandle,
    },
    /// A worker spoke on its channel for the first time.
    Online {
        /// Which.
        worker: WorkerHandle,
    },
    /// A worker listens. Told once for each address.
    Listening {
        /// Which.
        worker: WorkerHandle,
        /// Where: `127.0.0.1:3000`, `/run/app.sock`, `udp 0.0.0.0:53`.
        address: String,
    },
    /// A worker is ready: it listens, or said so where that counts.
    Ready {
        /// Which.
        worker: WorkerHandle,
        /// How long after its start.
        after: Duration,
    },
    /// A worker sent a message. Those that follow a convention, such as `ready` and `stats`, are among them.
    Message {
        /// Who.
        worker: WorkerHandle,
        /// What. An attachment goes to the first listener that takes it.
        message: Message,
    },
    /// A worker's channel is closed.
    Disconnect {
        /// Which.
        worker: WorkerHandle,
    },
    /// A worker has ended.
    Exit {
        /// Which.
        worker: WorkerHandle,
        /// Its exit code, where it ended by itself.
        code: Option<i32>,
        /// The number of the signal that ended it.
        signal: Option<i32>,
    },
    /// A worker reported an error.
    Error {
        /// Which.
        worker: WorkerHandle,
        /// The error, with its stack where one was told.
        error: String,
    },
    /// An ended worker will be replaced.
    Respawn {
        /// Whose slot.
        slot: u32,
        /// After how long.
        delay: Duration,
    },
    /// A slot is not filled any more.
    GaveUp {
        /// Which.
        slot: u32,
        /// Why, in words.
        why: String,
    },
    /// A reload began.
    ReloadStarted {
        /// The generation that it brings.
        generation: u32,
    },
    /// Every slot runs the new generation.
    ReloadDone {
        /// Which that is.
        generation: u32,
        /// How long it took.
        took: Duration,
    },
    /// The reload ended early; those that served go on.
    ReloadAborted {
        /// Why, in words.
        why: String,
    },
    /// Every slot is filled by a ready worker.
    Serving {
        /// How many.
        workers: u32,
        /// Where they listen; empty if none does.
        addresses: Vec<String>,
    },
    /// Any other piece of news.
    Notice(Notice),
    /// The primary itself met a condition that people should know of.
    Alert(Alert),
    /// This listener was too slow, and so many events are lost to it.
    Lagged(u64),
}

impl Event {
    /// The worker that it is about, if it is about one.
    pub fn worker(&self) -> Option<&WorkerHandle> {
        match self {
            Self::Fork { worker }
            | Self::Online { worker }
            | Self::Listening { worker, .. }
            | Self::Ready { worker, .. }
            | Self::Message { worker, .. }
            | Self::Disconnect { worker }
            | Self::Exit { worker, .. }
            | Self::Error { worker, .. } => Some(worker),
            Self::Respawn { .. }
            | Self::GaveUp { .. }
            | Self::ReloadStarted { .. }
            | Self::ReloadDone { .. }
            | Self::ReloadAborted { .. }
            | Self::Serving { .. }
            | Self::Notice(_)
            | Self::Alert(_)
            | Self::Lagged(_) => None,
        }
    }
}

/// The events of a cluster from the moment it was asked for; from [`Cluster::events`](crate::Cluster::events).
///
/// ```no_run
/// # async fn main_(cluster: oxherd::Cluster) {
/// use oxherd::Event;
///
/// let mut events = cluster.events();
/// while let Some(event) = events.recv().await {
///     if let Event::Exit { worker, code, signal } = event {
///         println!("worker {} ended: code {code:?}, signal {signal:?}", worker.id());
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<Event>,
}

impl Events {
    pub(super) fn new(receiver: Receiver<Event>) -> Self {
        Self { receiver }
    }

    /// The next event; `None` once the cluster has ended and all are taken. Works with any executor; cancel-safe.
    pub async fn recv(&mut self) -> Option<Event> {
        next(self.receiver.recv().await)
    }

    /// The same for a thread without an executor: it waits.
    ///
    /// # Panics
    /// Within an asynchronous context of tokio, where nothing may block.
    pub fn blocking_recv(&mut self) -> Option<Event> {
        next(self.receiver.blocking_recv())
    }
}

fn next(received: Result<Event, RecvError>) -> Option<Event> {
    match received {
        Ok(event) => Some(event),
        Err(RecvError::Lagged(count)) => Some(Event::Lagged(count)),
        Err(RecvError::Closed) => None,
    }
}

#[cfg(feature = "stream")]
impl Events {
    /// The events as a stream, which ends with the cluster.
    pub fn into_stream(self) -> impl futures_core::Stream<Item = Event> + Send + 'static {
        EventStream { next: Box::pin(take(self)) }
    }
}

#[cfg(feature = "stream")]
type Taking = std::pin::Pin<Box<dyn Future<Output = (Option<Event>, Events)> + Send>>;

#[cfg(feature = "stream")]
struct EventStream {
    next: Taking,
}

#[cfg(feature = "stream")]
async fn take(mut events: Events) -> (Option<Event>, Events) {
    (events.recv().await, events)
}

#[cfg(feature = "stream")]
impl futures_core::Stream for EventStream {
    type Item = Event;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Event>> {
        let (event, events) = std::task::ready!(self.next.as_mut().poll(context));
        self.next = Box::pin(take(events));
        std::task::Poll::Ready(event)
    }
}
