//! The sockets that a worker has through its primary: asking for one, the connections that wait for the program,
//! and giving it back.
//!
//! A connection is answered `accepted` when the program takes it and not before. One that it does not take in time is
//! given back, for another worker. Must never keep a connection that the program cannot reach any more.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use oxherd_wire::load as layout;
use oxherd_wire::worker::{self as frames, Ask, Reply};
use tokio::sync::{Notify, oneshot};

use super::channel::{Channel, lock};
use super::listen::ListenError;
use super::outbox::Outbox;

/// Connections that wait to be accepted. A primary keeps few unanswered ones, so more than these is its mistake.
const MAX_WAITING: usize = 1024;

/// A connection that was handed over and not accepted by the program.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) fd: OwnedFd,
    /// What the answer acknowledges.
    pub(super) ack: Option<u64>,
    pub(super) came: Instant,
}

/// The connections of one server that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Option<VecDeque<Waiting>>>,
    /// One permit for each that came.
    pub(super) came: Notify,
}

impl Queue {
    fn new() -> Self {
        Self { waiting: Mutex::new(Some(VecDeque::new())), came: Notify::new() }
    }

    /// Gives the connection back where there is no place for it.
    pub(super) fn push(&self, connection: Waiting) -> Result<(), Waiting> {
        let mut waiting = lock(&self.waiting);
        match waiting.as_mut().filter(|waiting| waiting.len() < MAX_WAITING) {
            Some(waiting) => waiting.push_back(connection),
            None => return Err(connection),
        }
        drop(waiting);
        self.came.notify_one();
        Ok(())
    }

    /// Whether one waits that could be given back.
    fn is_waited_in(&self) -> bool {
        lock(&self.waiting).iter().flatten().any(|connection| connection.ack.is_some())
    }

    /// Takes out those that have waited for so long, to be given back.
    fn take_overdue(&self, patience: Duration) -> Vec<u64> {
        let mut waiting = lock(&self.waiting);
        let Some(waiting) = waiting.as_mut() else { return Vec::new() };
        let is_overdue = |it: &Waiting| it.ack.is_some() && it.came.elapsed() >= patience;
        let (overdue, rest) = std::mem::take(waiting).into_iter().partition(is_overdue);
        *waiting = rest;
        let overdue: VecDeque<Waiting> = overdue;
        overdue.into_iter().filter_map(|connection| connection.ack).collect()
    }

    pub(super) fn pop(&self) -> Option<Waiting> {
        lock(&self.waiting).as_mut()?.pop_front()
    }

    /// Takes none any more, and leaves those that wait to other workers.
    pub(super) fn refuse_all(&self, outbox: &mut Outbox) {
        let refused = lock(&self.waiting).take();
        for ack in refused.into_iter().flatten().filter_map(|connection| connection.ack) {
            outbox.owe(|out, seq| frames::answer(out, seq, ack, false));
        }
    }
}

/// A query that waits for its reply.
#[derive(Debug)]
pub(super) struct Pending {
    /// Goes unused where the asker has lost interest; then the server is closed again.
    tell: oneshot::Sender<Result<Server, ListenError>>,
    queue: Arc<Queue>,
    name: Name,
}

/// A place in the table of addresses in use; freed when dropped.
#[derive(Debug)]
struct Name {
    /// Weak, because the channel itself holds the names of queries under way.
    channel: Weak<Channel>,
    name: Box<str>,
    index: u64,
}

impl Drop for Name {
    fn drop(&mut self) {
        let Some(channel) = self.channel.upgrade() else { return };
        let mut servers = lock(&channel.servers);
        if let Some(indexes) = servers.names.get_mut(&self.name) {
            indexes.remove(&self.index);
            if indexes.is_empty() {
                servers.names.remove(&self.name);
            }
        }
    }
}

/// A socket that the primary has granted; given back when dropped.
#[derive(Debug)]
pub(super) struct Server {
    channel: Arc<Channel>,
    name: Name,
    key: Box<str>,
    pub(super) queue: Arc<Queue>,
    /// The socket itself, where this worker accepts by itself.
    pub(super) fd: Option<OwnedFd>,
    /// What the primary says it is bound to.
    pub(super) sockname: Option<SocketAddr>,
    is_detached: bool,
}

impl Server {
    pub(super) fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// The program has the socket and does not tell when it closes it: it counts as open until this worker leaves.
    pub(super) fn detach(mut self) {
        self.is_detached = true;
    }

    /// Says that the socket is in use.
    pub(super) fn say_listening(&self, ask: &Ask<'_>) {
        let index = self.name.index;
        self.channel().tell(|outbox| outbox.owe(|out, seq| frames::listening(out, seq, index, ask)));
    }

    /// The next connection that was handed over, if one waits. The primary is told that it is taken.
    pub(super) fn take(&self) -> Option<OwnedFd> {
        let Waiting { fd, ack, .. } = self.queue.pop()?;
        let channel = self.channel();
        channel.page.add(layout::WORD_SEEN, 1);
        channel.answer(ack, true);
        Some(fd)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.is_detached {
            self.channel.close_server(&self.key);
        }
    }
}

impl Channel {
    /// Asks the primary for a socket. `name` stands for the address; port 0 may be asked for more than once.
    pub(super) async fn ask(
        self: &Arc<Self>,
        ask: Ask<'_>,
        name: &str,
        many: bool,
    ) -> Result<Server, ListenError> {
        let name = self.reserve(name, many)?;
        let (tell, told) = oneshot::channel();
        let index = name.index;
        self.tell(|outbox| {
            let pending = Pending { tell, queue: Arc::new(Queue::new()), name };
            let mut pending = Some(pending);
            outbox.owe(|out, seq| {
                frames::query(out, seq, index, &ask);
                // Before it is sent, so that the reply finds it.
                if let Some(pending) = pending.take() {
                    lock(&self.servers).pending.insert(seq, pending);
                }
            });
        });
        match self.drive(told).await {
            Ok(answer) => answer,
            Err(_) => Err(ListenError::gone(self.why_gone())),
        }
    }

    /// Whether a connection waits for the program that could be given back.
    pub(super) fn is_waited_for(&self) -> bool {
        lock(&self.servers).by_key.values().any(|queue| queue.is_waited_in())
    }

    /// Gives connections back that the program has not accepted for so long: another worker may be idle, and a
    /// primary that wants this one to leave waits for their answers before it says so.
    pub(super) fn give_back(&self, patience: Duration) {
        let queues: Vec<Arc<Queue>> = lock(&self.servers).by_key.values().map(Arc::clone).collect();
        let overdue: Vec<u64> = queues.iter().flat_map(|queue| queue.take_overdue(patience)).collect();
        if !overdue.is_empty() {
            self.tell(|outbox| {
                for ack in overdue {
                    outbox.owe(|out, seq| frames::answer(out, seq, ack, false));
                }
            });
        }
    }

    fn reserve(self: &Arc<Self>, name: &str, many: bool) -> Result<Name, ListenError> {
        if !self.is_connected() {
            return Err(ListenError::gone(self.why_gone()));
        }
        let mut servers = lock(&self.servers);
        if servers.are_closed {
            return Err(ListenError::leaving());
        }
        let indexes = servers.names.entry(name.into()).or_default();
        if !many && !indexes.is_empty() {
            return Err(ListenError::twice());
        }
        let index = (0..).find(|index| !indexes.contains(index)).unwrap_or_default();
        indexes.insert(index);
        Ok(Name { channel: Arc::downgrade(self), name: name.into(), index })
    }

    /// The reply to a query is there.
    pub(super) fn on_answered(&self, pending: Pending, reply: &Reply<'_>, fd: Option<OwnedFd>) {
        let Pending { tell, queue, name } = pending;
        let Some(channel) = name.channel.upgrade() else { return };
        // The name is free before anybody hears that it was not to be had.
        let refused = |name: Name, error| {
            drop(name);
            Err(error)
        };
        let answer = match (reply.errno, reply.key) {
            (Some(errno), _) => refused(name, ListenError::io(io::Error::from_raw_os_error(errno))),
            (None, None) => {
                let error = io::Error::new(io::ErrorKind::InvalidData, "the reply has no key");
                refused(name, ListenError::io(error))
            }
            (None, Some(key)) => {
                let mut servers = lock(&self.servers);
                // Connections may follow in the same read.
                servers.by_key.insert(key.into(), Arc::clone(&queue));
                let is_late = servers.are_closed;
                drop(servers);
                let sockname = reply.sockname;
                let server =
                    Server { channel, name, key: key.into(), queue, fd, sockname, is_detached: false };
                // Granted to one who leaves: it is given back, by being dropped.
                if is_late { Err(ListenError::leaving()) } else { Ok(server) }
            }
        };
        // Nobody may be waiting any more; the server is closed then, by being dropped.
        drop(tell.send(answer));
    }
}
