//! Messages from the primary and, through it, from other workers.
//!
//! They wait in a bounded mailbox until the program takes them. Must never let a program that does not listen grow
//! without bound, nor refuse a message for what it says.

use std::any::{Any, type_name};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Attachment;
use super::channel::{Channel, lock};

/// Messages that wait at most; of more the oldest are dropped.
const MAX_WAITING: usize = 1024;
/// What they may hold in all, so that a few large ones are not kept for a program that never looks.
const MAX_WAITING_BYTES: usize = 16 << 20;
/// How much of a message an error shows.
const SHOWN_CHARS: usize = 80;

/// A message from the primary, or from another worker by way of it. One JSON value, with or without an attachment.
///
/// ```no_run
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// #[derive(serde::Deserialize)]
/// struct CacheUpdate { key: String }
/// #[derive(serde::Deserialize)]
/// struct Envelope<T> { data: T }
///
/// let Some(worker) = oxherd::worker() else { return Ok(()) };
/// let mut messages = worker.messages();
/// while let Some(message) = messages.recv().await {
///     if message.kind().as_deref() == Some("cache-update") {
///         let update: Envelope<CacheUpdate> = message.parse()?;
///         println!("worker {:?} changed {}", message.from_worker(), update.data.key);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Message {
    raw: Arc<str>,
    /// What is asked about every message, read once.
    head: Arc<OnceLock<Known>>,
    /// Of all copies one gets it.
    attachment: Option<Arc<Mutex<Option<Attachment>>>>,
    /// What is to be dropped with the last copy.
    _guard: Option<Guard>,
}

/// Anything; nobody looks at it.
type Guard = Arc<dyn Any + Send + Sync + UnwindSafe + RefUnwindSafe>;

/// The members that are looked at here.
#[derive(Default, Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(rename = "fromWorker", borrow, default)]
    from_worker: Option<&'a RawValue>,
}

#[derive(Debug, Default)]
struct Known {
    kind: Option<String>,
    from_worker: Option<u64>,
}

impl Message {
    pub(crate) fn new(raw: &str, attachment: Option<Attachment>) -> Self {
        Self {
            raw: raw.into(),
            head: Arc::default(),
            attachment: attachment.map(|it| Arc::new(Mutex::new(Some(it)))),
            _guard: None,
        }
    }

    /// The same, with something that is dropped with its last copy.
    #[cfg(feature = "primary")]
    pub(crate) fn keeping(self, guard: Guard) -> Self {
        Self { _guard: Some(guard), ..self }
    }

    /// The message as a value of `T`.
    ///
    /// # Errors
    ///
    /// [`MessageError`] where it is none; it says what came instead.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, MessageError> {
        serde_json::from_str(&self.raw).map_err(|source| MessageError {
            wanted: short_name::<T>(),
            shown: self.raw.chars().take(SHOWN_CHARS).collect(),
            is_cut: self.raw.chars().nth(SHOWN_CHARS).is_some(),
            source,
        })
    }

    /// The JSON as it came.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The member `type`, where the message is an object that has one and it is a string.
    pub fn kind(&self) -> Option<String> {
        self.head().kind.clone()
    }

    /// Which worker sent it: the member `fromWorker`, which the primary fills in when it routes a message. `None`
    /// for the primary's own.
    pub fn from_worker(&self) -> Option<u64> {
        self.head().from_worker
    }

    /// What rode on the message, the first time it is asked for, be it of a clone.
    pub fn take_attachment(&mut self) -> Option<Attachment> {
        lock(self.attachment.as_ref()?).take()
    }

    /// `"shutdown"` or `{type:"shutdown"}` of the primary's own. What another worker says is for the program alone.
    pub(super) fn asks_to_leave(&self) -> bool {
        const LONGEST: usize = 4096;
        if self.raw.len() > LONGEST || !self.raw.contains("shutdown") {
            return false;
        }
        let is_object_form = || self.kind().as_deref() == Some("shutdown") && self.from_worker().is_none();
        &*self.raw == "\"shutdown\"" || is_object_form()
    }

    /// `{type:"health-check"}` of the primary's own.
    pub(super) fn asks_whether_well(&self) -> bool {
        const LONGEST: usize = 64;
        let may_be = self.raw.len() <= LONGEST && self.raw.contains("health-check");
        may_be && self.kind().as_deref() == Some("health-check") && self.from_worker().is_none()
    }

    fn head(&self) -> &Known {
        self.head.get_or_init(|| {
            let is_object = self.raw.starts_with('{');
            let head: Option<Head<'_>> = is_object.then(|| serde_json::from_str(&self.raw).ok()).flatten();
            let Head { kind, from_worker } = head.unwrap_or_default();
            Known {
                kind: kind.and_then(|raw| serde_json::from_str(raw.get()).ok()),
                from_worker: from_worker.and_then(|raw| serde_json::from_str(raw.get()).ok()),
            }
        })
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("raw", &self.raw).field("attachment", &self.attachment).finish()
    }
}

/// `Update` of `app::cache::Update`; other types whole.
fn short_name<T>() -> &'static str {
    let name = type_name::<T>();
    if name.contains(['<', '(', '[', '&']) { name } else { name.rsplit("::").next().unwrap_or(name) }
}

/// A message is not what it was asked to be.
#[derive(Debug)]
pub struct MessageError {
    wanted: &'static str,
    shown: String,
    is_cut: bool,
    source: serde_json::Error,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.is_cut { "…" } else { "" };
        write!(f, "message is no {}: {} (it is {}{cut})", self.wanted, self.source, self.shown)
    }
}

impl std::error::Error for MessageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Where messages wait.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    waiting: VecDeque<Message>,
    bytes: usize,
    dropped: u64,
    is_at_end: bool,
}

impl Mailbox {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn push(&mut self, message: Message) {
        if self.is_at_end {
            return;
        }
        self.bytes += message.raw.len();
        self.waiting.push_back(message);
        while self.waiting.len() > MAX_WAITING || (self.bytes > MAX_WAITING_BYTES && self.waiting.len() > 1) {
            self.pop();
            self.dropped += 1;
        }
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.waiting.pop_front()?;
        self.bytes -= message.raw.len();
        Some(message)
    }

    /// None will come any more.
    pub(super) fn end(&mut self) {
        self.is_at_end = true;
    }
}

/// The messages for this worker; from [`Worker::messages`](crate::Worker::messages).
///
/// Messages wait from the start, so none is missed that came before this was asked for. Each goes to one receiver:
/// with several of these the messages are divided among them.
#[derive(Debug)]
pub struct Messages {
    channel: Arc<Channel>,
}

impl Messages {
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        channel.is_watched.store(true, Ordering::Relaxed);
        Self { channel }
    }

    /// The next message; `None` when the channel is at its end and all are taken. Cancel-safe.
    ///
    /// Up to 1,024 messages (16 MiB) wait; beyond that the oldest are [dropped](Self::dropped).
    pub async fn recv(&mut self) -> Option<Message> {
        let channel = &self.channel;
        let next = async {
            let mut mailed = pin!(channel.mailed.notified());
            loop {
                mailed.as_mut().enable();
                if let Poll::Ready(next) = self.try_next() {
                    return next;
                }
                channel.flush_deferred();
                mailed.as_mut().await;
                mailed.set(channel.mailed.notified());
            }
        };
        channel.drive(next).await
    }

    /// How many messages this worker has lost because nobody took them in time.
    pub fn dropped(&self) -> u64 {
        lock(&self.channel.mailbox).dropped
    }

    fn try_next(&self) -> Poll<Option<Message>> {
        let mut mailbox = lock(&self.channel.mailbox);
        let next = mailbox.pop();
        self.channel.mail_waits.store(!mailbox.is_empty(), Ordering::Relaxed);
        match next {
            Some(message) => Poll::Ready(Some(message)),
            None if mailbox.is_at_end => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

#[cfg(feature = "stream")]
impl Messages {
    /// The messages as a stream, which ends with the channel.
    pub fn into_stream(self) -> impl futures_core::Stream<Item = Message> + Send + 'static {
        struct Stream<F> {
            make: fn(Messages) -> F,
            next: std::pin::Pin<Box<F>>,
        }
        impl<F: Future<Output = (Option<Message>, Messages)>> futures_core::Stream for Stream<F> {
            type Item = Message;

            fn poll_next(
                mut self: std::pin::Pin<&mut Self>,
                context: &mut std::task::Context<'_>,
            ) -> Poll<Option<Message>> {
                let (message, messages) = std::task::ready!(self.next.as_mut().poll(context));
                let next = (self.make)(messages);
                self.next.set(next);
                Poll::Ready(message)
            }
        }
        async fn next(mut messages: Messages) -> (Option<Message>, Messages) {
            (messages.recv().await, messages)
        }
        Stream { make: next, next: Box::pin(next(self)) }
    }
}
