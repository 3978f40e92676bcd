//! What control tells traffic and what traffic tells control. Data only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};

use oxherd_core::{AppId, AppSpec, Event, InstanceId, Parting, Place, Slot};

use crate::Alert;
use crate::counters::Counters;
use crate::host::{Entry, Stash};
use crate::link::Permit;

/// From control to traffic.
#[derive(Debug)]
pub(crate) enum Order {
    /// A worker with a channel exists.
    Attach(Attachment),
    /// A worker without a channel exists that is lent its listeners.
    Borrow(Borrowing),
    /// A worker is about to be started with its app's listeners.
    Open(Opening),
    /// From now on it may listen, and fills this slot.
    Unpark(InstanceId, Slot),
    /// It is to end: what it waits for is broken off.
    Interrupt(InstanceId),
    /// Give it connections.
    Admit(InstanceId),
    /// Give it none any more. Answered by `Withdrawn`.
    Withdraw(InstanceId),
    /// Tell it to finish and leave.
    Disconnect(InstanceId, Parting),
    /// Its process has ended: read what it left, take its connections back. Answered by `Detached`.
    Detach(InstanceId),
    /// Let no new client in. Answered by `DoorsClosed`.
    CloseDoors(AppId),
    /// Send it a message of the embedder's.
    Send(Parcel),
    /// Hand it a connection of the primary's own, as if a client had come to the listener with this port.
    Visit(InstanceId, u16, OwnedFd),
    /// Look how many connections wait for the app. Answered by `Waiting`.
    CountWaiting(AppId),
    /// Close an app's listeners.
    CloseListeners(AppId),
    /// A slot is gone.
    RetireSlot(AppId, Slot),
    /// Take over what another primary left, before any worker of it is attached.
    TakeOver(Bequest),
    /// Compare the listeners with what there should be: the apps with their slots.
    Reconcile(BTreeMap<AppId, BTreeSet<Slot>>),
    /// Put everything that is to outlive this primary into another stash.
    Restash(NewStash),
    /// End the thread.
    Stop,
    /// Panic, as a test wants it.
    #[cfg(debug_assertions)]
    Panic,
}

/// A worker's channel and what traffic must know of it.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) place: Place,
    /// As its environment carries it.
    pub(crate) label: String,
    pub(crate) spec: Arc<AppSpec>,
    pub(crate) pid: u32,
    /// The primary's end.
    pub(crate) channel: OwnedFd,
    /// A duplicate of the worker's end.
    pub(crate) worker_end: Option<OwnedFd>,
    pub(crate) counters: Arc<Counters>,
    /// By which others can go on with the counters.
    pub(crate) counters_fd: Option<OwnedFd>,
    /// By which others can read what it counts itself.
    pub(crate) page_fd: Option<OwnedFd>,
    /// It is held when it wants to listen, until it is unparked.
    pub(crate) parks: bool,
    /// It outlived the primary that started it.
    pub(crate) is_heir: bool,
}

/// A worker that is lent its listeners, and what traffic must know of it.
#[derive(Debug)]
pub(crate) struct Borrowing {
    pub(crate) place: Place,
    /// As its environment carries it.
    pub(crate) label: String,
    pub(crate) spec: Arc<AppSpec>,
    pub(crate) pid: u32,
    /// Where its calls are heard of; nowhere for one that was started with its listeners.
    pub(crate) traps: Option<OwnedFd>,
    /// By which others can go on with its counters.
    pub(crate) counters_fd: Option<OwnedFd>,
    /// It is held when it wants to listen, until it is unparked.
    pub(crate) parks: bool,
    /// It outlived the primary that started it.
    pub(crate) is_heir: bool,
}

/// A worker that is to be started with its listeners.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) place: Place,
    pub(crate) spec: Arc<AppSpec>,
    /// Where they go, in the order of the spec, or why they cannot be opened, in words.
    pub(crate) reply: mpsc::Sender<Result<Vec<OwnedFd>, String>>,
}

/// A message to a worker.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) instance: InstanceId,
    /// One JSON value.
    pub(crate) message: Vec<u8>,
    pub(crate) attachment: Option<OwnedFd>,
    /// The room that it takes up until it is on its way.
    pub(crate) permit: Permit,
}

/// A message from a worker.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) place: Place,
    /// One JSON value.
    pub(crate) raw: Vec<u8>,
    pub(crate) attachment: Option<OwnedFd>,
    /// The room that it takes up as long as anybody keeps it.
    pub(crate) permit: Permit,
}

/// What traffic takes over from the primary before.
#[derive(Debug)]
pub(crate) struct Bequest {
    /// How many primaries there were.
    pub(crate) starts: u32,
    /// What was in the stash.
    pub(crate) entries: Vec<Entry>,
    /// Connections that the primary held when it ended.
    pub(crate) connections: Vec<OwnedFd>,
}

/// A stash in place of the one that is lost.
pub(crate) struct NewStash(pub(crate) Box<dyn Stash>);

impl fmt::Debug for NewStash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewStash")
    }
}

/// From traffic to control.
#[derive(Debug)]
pub(crate) enum News {
    /// A fact for the core.
    Fact(Event),
    /// A condition of the primary.
    Alert(Alert),
    /// A program's own message, where somebody wants to hear it.
    Message(Delivery),
    /// So many connections waited for the app at least, all the time that was looked.
    Waiting(AppId, u32),
    /// The traffic thread has panicked.
    Lost,
    /// A worker's channel is read to its end and its connections are taken back.
    Detached(InstanceId),
}
