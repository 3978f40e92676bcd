//! What programs reply to actions: messages of workers that are waited for. Nobody hears messages while nobody waits.
//!
//! Called on the control thread for each message while somebody does: it looks for a mark, and reads only what has it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oxherd_core::InstanceId;
use oxherd_engine::{Ear, WorkerMessage};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a reply's type is.
const KIND: &str = "axm:reply";
/// A longer one is not passed on.
const BYTES_MAX: usize = 1 << 20;

/// Who waits for which workers. Copies are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Replies {
    waiting: Arc<Mutex<Vec<Waiter>>>,
    ear: Ear,
}

#[derive(Debug)]
struct Waiter {
    action: String,
    /// Those that have not replied yet: each does once, and so no more waits to be read than there are workers.
    workers: BTreeSet<InstanceId>,
    told: UnboundedSender<Replied>,
}

/// What one worker's program made of an action.
#[derive(Debug)]
pub(super) struct Replied {
    pub(super) worker: InstanceId,
    /// One JSON value.
    pub(super) value: Box<RawValue>,
}

/// Replies as they come. Who drops it does not wait any more.
#[derive(Debug)]
pub(super) struct Awaited {
    replies: UnboundedReceiver<Replied>,
    of: Replies,
}

#[derive(Deserialize)]
struct Message {
    r#type: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    action_name: String,
    #[serde(default)]
    r#return: Option<Box<RawValue>>,
}

impl Replies {
    /// From now on waits for these workers' replies to an action.
    pub(super) fn wait_for(&self, action: &str, workers: impl IntoIterator<Item = InstanceId>) -> Awaited {
        let (told, replies) = unbounded_channel();
        let workers = workers.into_iter().collect();
        self.lock().push(Waiter { action: action.into(), workers, told });
        self.ear.open();
        Awaited { replies, of: self.clone() }
    }

    /// Open while anybody waits.
    pub(super) fn ear(&self) -> Ear {
        self.ear.clone()
    }

    /// Takes note of a message.
    pub(super) fn hear(&self, message: &WorkerMessage) {
        self.take(message.place.instance, &message.raw);
    }

    /// Nobody waits for a worker that has ended.
    pub(super) fn gone(&self, worker: InstanceId) {
        // Who waits for nobody any more is told so.
        self.lock().retain_mut(|waiter| {
            waiter.workers.remove(&worker);
            !waiter.workers.is_empty()
        });
    }

    fn take(&self, worker: InstanceId, raw: &[u8]) {
        let has_mark = || raw.windows(KIND.len()).any(|part| part == KIND.as_bytes());
        if raw.len() > BYTES_MAX || !has_mark() {
            return;
        }
        let Ok(Message { r#type, data }) = serde_json::from_slice(raw) else { return };
        if r#type != KIND {
            return;
        }
        let value = data.r#return.unwrap_or_else(|| RawValue::NULL.to_owned());
        for waiter in self.lock().iter_mut().filter(|waiter| waiter.action == data.action_name) {
            if waiter.workers.remove(&worker) {
                // Who does not wait any more needs no reply.
                drop(waiter.told.send(Replied { worker, value: value.clone() }));
            }
        }
    }

    /// Those who have gone are forgotten, and with the last of them nobody listens.
    fn forget_gone(&self) {
        let mut waiting = self.lock();
        waiting.retain(|waiter| !waiter.told.is_closed());
        if waiting.is_empty() {
            self.ear.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiter>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    /// The next reply.
    pub(super) async fn next(&mut self) -> Option<Replied> {
        self.replies.recv().await
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.replies.close();
        self.of.forget_gone();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::error::TryRecvError;

    use super::*;

    fn worker(number: u32) -> InstanceId {
        InstanceId { starts: 0, number }
    }

    #[test]
    fn each_worker_replies_once_to_whoever_waits() {
        let replies = Replies::default();
        let say = |number: u32, text: &str| replies.take(worker(number), text.as_bytes());
        let mut awaited = replies.wait_for("clear", [worker(1), worker(2)]);
        say(1, r#"{"type":"axm:reply","data":{"return":{"a":1},"action_name":"clear"}}"#);
        say(1, r#"{"type":"axm:reply","data":{"return":2,"action_name":"clear"}}"#);
        say(2, r#"{"type":"axm:reply","data":{"return":3,"action_name":"other"}}"#);
        say(3, r#"{"type":"axm:reply","data":{"return":4,"action_name":"clear"}}"#);
        for other in [r#""axm:reply""#, r#"{"type":"axm:replies"}"#, r#"{"type":"axm:reply"}"#, "axm:reply"] {
            say(2, other);
        }
        say(2, r#"{"type":"axm:reply","data":{"action_name":"clear"}}"#);
        let mut told = Vec::new();
        while let Ok(it) = awaited.replies.try_recv() {
            told.push((it.worker, it.value.get().to_owned()));
        }
        assert_eq!(told, [(worker(1), r#"{"a":1}"#.to_owned()), (worker(2), "null".to_owned())]);
        drop(awaited);
        let mut awaited = replies.wait_for("clear", [worker(1), worker(2)]);
        say(1, r#"{"type":"axm:reply","data":{"action_name":"clear"}}"#);
        replies.gone(worker(2));
        assert_eq!(awaited.replies.try_recv().map(|it| it.worker), Ok(worker(1)));
        assert_eq!(awaited.replies.try_recv().map(|it| it.worker), Err(TryRecvError::Disconnected));
        drop(awaited);
        assert!(replies.lock().is_empty());
    }
}
