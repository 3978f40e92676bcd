//! One worker's channel to its primary: what all handles of the worker share.
//!
//! Everything here may be called from any thread, with or without a runtime; the reading and what could not be sent
//! at once is the task's ([`task`](super::task)). Locks are held for a few steps, never across an `await`; the order is
//! inbox, then mailbox or outbox, then servers, then a server's queue.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use oxherd_wire::{self as wire, Serialization, load as layout};
use tokio::sync::Notify;

use super::inbox::Inbox;
use super::load::Page;
use super::messages::Mailbox;
use super::outbox::{Flushed, GATHERED_BYTES_MAX, Outbox};
use super::server::{Pending, Queue};
use super::{Cause, Identity, SendError};

/// How long a graceful server goes on for clients that keep their connections open.
const DEFAULT_LINGER: Duration = Duration::from_secs(3);

/// The end of the channel after this worker has said that it leaves.
pub(super) const DEPARTED: &str = "this worker has disconnected";

/// How long a message may wait for others.
const DEFERRED_MAX: Duration = Duration::from_millis(1);

/// The state of the channel's task.
pub(super) const TASK_NONE: u8 = 0;
pub(super) const TASK_RUNS: u8 = 1;
pub(super) const TASK_OVER: u8 = 2;

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) identity: Identity,
    pub(super) socket: Arc<OwnedFd>,
    pub(super) began: Instant,
    outbox: Mutex<Outbox>,
    pub(super) inbox: Mutex<Inbox>,
    pub(super) servers: Mutex<Servers>,
    pub(super) mailbox: Mutex<Mailbox>,
    /// The program has not taken all messages yet.
    pub(super) mail_waits: AtomicBool,
    /// Messages are put off.
    is_deferred: AtomicBool,
    /// A message is there, or none will come any more.
    pub(super) mailed: Notify,
    /// The socket took no more: the task must wait for it.
    pub(super) is_blocked: AtomicBool,
    /// Makes the task look at `is_blocked`.
    pub(super) kick: Notify,
    pub(super) task: AtomicU8,
    /// The task has ended with its runtime, and another must take over.
    pub(super) task_lost: Notify,
    /// Why this worker leaves, once it does.
    leaving: OnceLock<(Cause, Instant)>,
    /// The primary said `disconnect`: it hands nothing over any more.
    is_dismissed: AtomicBool,
    /// This worker says that it leaves, and the primary has not acknowledged it.
    is_departing: AtomicBool,
    /// What [`Shutdown`](super::Shutdown) and its like wait for has changed.
    pub(super) changed: Notify,
    /// Why the channel is of no further use.
    fault: OnceLock<String>,
    pub(super) is_watched: AtomicBool,
    linger: Mutex<Duration>,
    pub(super) page: Arc<Page>,
    open: AtomicUsize,
    /// The longest message that the primary takes, in bytes; as long as it has not said so there is no limit.
    pub(super) max_message: AtomicUsize,
    /// How many wait for everything to be sent.
    pub(super) awaited_flushes: AtomicUsize,
}

/// The sockets that this worker has through its primary.
#[derive(Debug, Default)]
pub(super) struct Servers {
    /// Queries that the primary has not answered, by their `seq`.
    pub(super) pending: HashMap<u64, Pending>,
    /// The `seq` with which this worker said that it leaves by itself.
    pub(super) departing: Option<u64>,
    /// By the primary's key, as raw JSON.
    pub(super) by_key: HashMap<Box<str>, Arc<Queue>>,
    /// The indexes in use of each address.
    pub(super) names: HashMap<Box<str>, BTreeSet<u64>>,
    pub(super) are_closed: bool,
}

/// A lock that a panic elsewhere does not take away: no state here is ever left half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Channel {
    pub(super) fn new(socket: OwnedFd, identity: Identity, serialization: Serialization) -> Arc<Self> {
        let socket = Arc::new(socket);
        let page = Arc::new(Page::new());
        Arc::new(Self {
            identity,
            began: Instant::now(),
            outbox: Mutex::new(Outbox::new(Arc::clone(&socket), serialization)),
            inbox: Mutex::new(Inbox::new(serialization)),
            socket,
            servers: Mutex::default(),
            mailbox: Mutex::default(),
            mail_waits: AtomicBool::new(false),
            is_deferred: AtomicBool::new(false),
            mailed: Notify::new(),
            is_blocked: AtomicBool::new(false),
            kick: Notify::new(),
            task: AtomicU8::new(TASK_NONE),
            task_lost: Notify::new(),
            leaving: OnceLock::new(),
            is_dismissed: AtomicBool::new(false),
            is_departing: AtomicBool::new(false),
            changed: Notify::new(),
            fault: OnceLock::new(),
            is_watched: AtomicBool::new(false),
            linger: Mutex::new(DEFAULT_LINGER),
            page,
            open: AtomicUsize::new(0),
            max_message: AtomicUsize::new(usize::MAX),
            awaited_flushes: AtomicUsize::new(0),
        })
    }

    /// Sends frames of the protocol: at once, or as soon as the socket takes them.
    pub(super) fn tell<T>(&self, write: impl FnOnce(&mut Outbox) -> T) -> T {
        let mut outbox = lock(&self.outbox);
        let told = write(&mut outbox);
        self.flush_locked(&mut outbox);
        told
    }

    /// Leaves frames for the next [`flush`](Self::flush) or [`tell`](Self::tell), to go with what that sends.
    pub(super) fn owe<T>(&self, write: impl FnOnce(&mut Outbox) -> T) -> T {
        write(&mut lock(&self.outbox))
    }

    pub(super) fn flush(&self) {
        self.flush_locked(&mut lock(&self.outbox));
    }

    /// As [`flush`](Self::flush), but gives way to whoever holds the lock: that one may be the thread that panics.
    pub(super) fn try_tell(&self, write: impl FnOnce(&mut Outbox)) -> bool {
        let mut outbox = match self.outbox.try_lock() {
            Ok(outbox) => outbox,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return false,
        };
        write(&mut outbox);
        self.flush_locked(&mut outbox);
        true
    }

    /// Whether all is sent, and acknowledged where it needs to be.
    pub(super) fn is_flushed(&self) -> bool {
        lock(&self.outbox).is_flushed()
    }

    /// As [`is_flushed`](Self::is_flushed); `false` where another thread holds the lock.
    pub(super) fn try_is_flushed(&self) -> bool {
        self.outbox.try_lock().is_ok_and(|outbox| outbox.is_flushed())
    }

    fn flush_locked(&self, outbox: &mut Outbox) {
        match outbox.flush() {
            Flushed::Done => self.is_blocked.store(false, Ordering::Relaxed),
            Flushed::Blocked => {
                if !self.is_blocked.swap(true, Ordering::Relaxed) {
                    self.kick.notify_one();
                }
            }
            Flushed::Broken => {
                // The reader finds the end of the channel too, after what the primary said last.
                outbox.close();
            }
        }
        if self.awaited_flushes.load(Ordering::SeqCst) > 0 && outbox.is_flushed() {
            self.changed.notify_waiters();
        }
    }

    /// Sends a message of the program, now or as soon as the socket takes it.
    pub(super) fn send(&self, line: Vec<u8>, fd: Option<OwnedFd>) -> Result<(), SendError> {
        self.send_message(line, fd, false)
    }

    /// The same for one that may wait a moment, to go in one write with those that follow it.
    pub(super) fn send_soon(&self, line: Vec<u8>) -> Result<(), SendError> {
        self.send_message(line, None, true)
    }

    fn send_message(&self, line: Vec<u8>, fd: Option<OwnedFd>, defers: bool) -> Result<(), SendError> {
        // The primary would take it for a breach of the protocol, and its newline does not count.
        let (bytes, limit) = (line.len().saturating_sub(1), self.max_message.load(Ordering::Relaxed));
        if bytes > limit {
            return Err(SendError::TooLong { bytes, limit });
        }
        let mut outbox = lock(&self.outbox);
        if outbox.is_closed() {
            return Err(self.gone());
        }
        if !outbox.has_room(line.len()) {
            return Err(SendError::Full);
        }
        let queued = outbox.queue(line, fd);
        queued.map_err(|error| SendError::Unsendable { why: error.to_string() })?;
        if defers && self.may_defer(&outbox) {
            if !self.is_deferred.swap(true, Ordering::AcqRel) {
                self.kick.notify_one();
            }
            return Ok(());
        }
        self.flush_locked(&mut outbox);
        if outbox.is_closed() { Err(self.gone()) } else { Ok(()) }
    }

    /// While messages wait for the program there are more answers to come: they go together, in one write, at the
    /// latest when the channel's task has its next turn. Where no runtime is at work that turn may never come.
    fn may_defer(&self, outbox: &Outbox) -> bool {
        self.mail_waits.load(Ordering::Relaxed)
            && self.task.load(Ordering::Relaxed) == TASK_RUNS
            && tokio::runtime::Handle::try_current().is_ok()
            && outbox.queued_bytes() < GATHERED_BYTES_MAX
            && outbox.oldest().is_none_or(|since| since.elapsed() < DEFERRED_MAX)
    }

    /// Writes what [`send`](Self::send) has put off.
    pub(super) fn flush_deferred(&self) {
        if self.is_deferred.swap(false, Ordering::AcqRel) {
            self.flush();
        }
    }

    pub(super) fn gone(&self) -> SendError {
        SendError::Gone { why: self.why_gone() }
    }

    pub(super) fn why_gone(&self) -> String {
        self.fault.get().cloned().unwrap_or_else(|| "its channel has ended".into())
    }

    pub(super) fn is_connected(&self) -> bool {
        self.fault.get().is_none() && !lock(&self.outbox).is_closed()
    }

    /// Told to leave, or leaving by itself: every server is closed, once.
    pub(super) fn leave(&self, cause: Cause) {
        if cause == Cause::Disconnect && !self.is_dismissed.swap(true, Ordering::Relaxed) {
            self.changed.notify_waiters();
        }
        if self.leaving.set((cause, Instant::now())).is_err() {
            return;
        }
        self.close_servers();
        self.changed.notify_waiters();
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.get().is_some()
    }

    /// Whether the program should end. While a farewell is not acknowledged it must not: a Node primary that writes
    /// to a worker which is gone dies of it.
    pub(super) fn is_told_to_leave(&self) -> bool {
        self.is_leaving() && (self.fault.get().is_some() || !self.is_departing.load(Ordering::SeqCst))
    }

    /// Whether connections may still be on their way to this worker, which leaves.
    pub(super) fn may_be_handed_more(&self) -> bool {
        self.fault.get().is_none() && !self.is_dismissed.load(Ordering::Relaxed)
    }

    /// Says that this worker leaves by itself, behind all that it said before.
    pub(super) fn depart(&self) {
        // First, so that nobody takes it for an order to end at once.
        if self.is_departing.swap(true, Ordering::SeqCst) {
            return;
        }
        self.leave(Cause::Own);
        self.tell(|outbox| {
            outbox.queue_frame(|out, seq| {
                wire::worker::exited_after_disconnect(out, seq);
                // Before it is sent, so that the answer finds it.
                lock(&self.servers).departing = Some(seq);
            })
        });
    }

    /// Whether this worker says, or has said, that it leaves by itself.
    pub(super) fn is_departing(&self) -> bool {
        self.is_departing.load(Ordering::Relaxed)
    }

    /// Whether the channel has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.fault.get().is_some()
    }

    /// Whether the primary has acknowledged that this worker leaves.
    pub(super) fn has_departed(&self) -> bool {
        self.fault.get().is_some_and(|why| why == DEPARTED)
    }

    /// Since when this worker leaves, and why.
    pub(super) fn leaving(&self) -> Option<(Cause, Instant)> {
        self.leaving.get().copied()
    }

    pub(super) fn linger(&self) -> Duration {
        *lock(&self.linger)
    }

    pub(super) fn set_linger(&self, linger: Duration) {
        *lock(&self.linger) = linger;
        self.changed.notify_waiters();
    }

    /// The channel is at its end: nothing comes and nothing goes any more.
    pub(super) fn end(&self, why: &str) {
        if self.fault.set(why.to_owned()).is_err() {
            return;
        }
        lock(&self.outbox).close();
        // Should the other end be closed, there is nothing left to shut down.
        let _nobody_there = rustix::net::shutdown(&*self.socket, rustix::net::Shutdown::Both);
        let forgotten = std::mem::take(&mut lock(&self.servers).pending);
        // Whoever waits for a reply is told by this; it takes the lock again.
        drop(forgotten);
        self.leave(Cause::PrimaryGone);
        lock(&self.mailbox).end();
        self.mailed.notify_waiters();
        self.changed.notify_waiters();
    }

    /// Answers a connection that was handed over: taken by the program, or for another worker.
    pub(super) fn answer(&self, ack: Option<u64>, accepted: bool) {
        let Some(ack) = ack else { return };
        self.tell(|outbox| outbox.owe(|out, seq| wire::worker::answer(out, seq, ack, accepted)));
    }

    /// Refuses what nobody has accepted yet, and says that the servers are closed.
    fn close_servers(&self) {
        let closed = {
            let mut servers = lock(&self.servers);
            servers.are_closed = true;
            std::mem::take(&mut servers.by_key)
        };
        self.tell(|outbox| {
            for (key, queue) in &closed {
                queue.refuse_all(outbox);
                outbox.owe(|out, seq| wire::worker::close(out, seq, key));
            }
        });
    }

    /// One server is closed by the program.
    pub(super) fn close_server(&self, key: &str) {
        let was_open = lock(&self.servers).by_key.remove(key);
        if let Some(queue) = was_open {
            self.tell(|outbox| {
                queue.refuse_all(outbox);
                outbox.owe(|out, seq| wire::worker::close(out, seq, key));
            });
        }
    }

    /// The descriptor of the page of figures, for a primary that asked for it.
    pub(super) fn page_fd(&self) -> io::Result<OwnedFd> {
        self.page.fd()
    }

    pub(super) fn count_opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.page.add(layout::WORD_OPEN, 1);
    }

    pub(super) fn count_closed(&self) {
        self.page.sub(layout::WORD_OPEN, 1);
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 && self.is_leaving() {
            self.changed.notify_waiters();
        }
    }

    /// How many tracked connections are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }
}
