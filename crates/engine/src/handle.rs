//! How other threads reach the primary: wishes go in, answers come back by a call on the control thread.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use oxherd_core::{AppId, AppSpec, ChangeId, FleetStatus, InstanceId, Place, Refusal, Request};
use thiserror::Error;

use crate::Report;
use crate::link::{Budget, Writer};
use crate::traffic::{Order, Parcel};

/// What the primary looks like at a moment.
#[derive(Clone, Debug)]
pub struct Survey {
    /// All apps, slots and instances.
    pub status: FleetStatus,
    /// Their figures and pids.
    pub report: Report,
    /// The configuration of each app: that of its last good generation.
    pub specs: BTreeMap<AppId, Arc<AppSpec>>,
    /// The newest change there ever was.
    pub last_change: ChangeId,
    /// Those of `asked` that are still under way.
    pub pending: Vec<ChangeId>,
}

/// Takes the answer to a wish, on the control thread: it must hand it on and return.
pub(crate) type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// What can be wished for from outside.
pub(crate) enum Wish {
    Request(Request, Reply<Result<ChangeId, Refusal>>),
    Survey(Vec<ChangeId>, Reply<Survey>),
    Upgrade(Option<String>, Reply<Result<(), String>>),
    Fork(AppId, Vec<(String, String)>, Reply<Result<Place, Refusal>>),
    Signal(InstanceId, i32, Reply<io::Result<()>>),
    KillTree(InstanceId, Reply<io::Result<()>>),
    /// Of a probe's own thread: the worker answered.
    Probed(InstanceId),
    WriteLine(InstanceId, Vec<u8>, Reply<Result<(), InputError>>),
    #[cfg(debug_assertions)]
    Panic(Culprit),
}

/// A thread of the primary in which a panic can be planted.
#[cfg(debug_assertions)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// The one with the core and the processes.
    Control,
    /// The one with the listeners and the channels.
    Traffic,
}

impl fmt::Debug for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request(..) => "Request",
            Self::Survey(..) => "Survey",
            Self::Upgrade(..) => "Upgrade",
            Self::Fork(..) => "Fork",
            Self::Signal(..) => "Signal",
            Self::KillTree(..) => "KillTree",
            Self::Probed(..) => "Probed",
            Self::WriteLine(..) => "WriteLine",
            #[cfg(debug_assertions)]
            Self::Panic(..) => "Panic",
        })
    }
}

/// A way to the primary from any thread. Wishes made after the primary has ended are never answered.
#[derive(Clone, Debug)]
pub struct Handle {
    wishes: Writer<Wish>,
    orders: Writer<Order>,
    sending: Budget,
}

/// Why a message is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// Too much waits to be sent already, by whatever thread: try again later, or send less.
    #[error("too many messages wait to be sent: send less, or later")]
    Full,
}

/// Why a line is not written to a worker's standard input. Nothing of it was written then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InputError {
    /// The worker has ended.
    #[error("there is no such worker: it has ended")]
    NoWorker,
    /// The program has closed its standard input, or is a thread and has none.
    #[error("the worker has no standard input any more: it has closed it")]
    Closed,
    /// The program does not read: more waits for it than may.
    #[error("the worker does not read its standard input: what was written before still waits")]
    Full,
}

impl Handle {
    pub(crate) fn new(wishes: Writer<Wish>, orders: Writer<Order>) -> Self {
        Self { wishes, orders, sending: Budget::default() }
    }

    /// Sends a message to one worker: one JSON value, and a descriptor if one is to ride on it. What is meant for a
    /// worker that has gone is dropped, and so is what one does not read in the end, which is
    /// [told](crate::Alert::MessagesDropped).
    ///
    /// # Errors
    /// [`SendError::Full`]; nothing was queued then.
    pub fn send(
        &self,
        instance: InstanceId,
        message: Vec<u8>,
        attachment: Option<OwnedFd>,
    ) -> Result<(), SendError> {
        let cost = Budget::cost(message.len(), attachment.is_some());
        let permit = self.sending.take(cost).ok_or(SendError::Full)?;
        let parcel = Parcel { instance, message, attachment, permit };
        self.orders.send(Order::Send(parcel));
        Ok(())
    }

    /// Fills a slot: the first that has finished or given up, else a new one, whoever fills it having these
    /// variables beyond those of the app. `reply` gets who it is, on the control thread: it must hand the answer on
    /// and return.
    pub fn fork(
        &self,
        app: AppId,
        env: Vec<(String, String)>,
        reply: impl FnOnce(Result<Place, Refusal>) + Send + 'static,
    ) {
        self.wishes.send(Wish::Fork(app, env, Box::new(reply)));
    }

    /// Sends a signal to one worker's process. `reply` is called on the control thread, with `NotFound` when the
    /// worker has ended.
    pub fn signal(
        &self,
        instance: InstanceId,
        signal: i32,
        reply: impl FnOnce(io::Result<()>) + Send + 'static,
    ) {
        self.wishes.send(Wish::Signal(instance, signal, Box::new(reply)));
    }

    /// Kills one worker's process and all its descendants. `reply` as with [`signal`](Self::signal).
    pub fn kill_tree(&self, instance: InstanceId, reply: impl FnOnce(io::Result<()>) + Send + 'static) {
        self.wishes.send(Wish::KillTree(instance, Box::new(reply)));
    }

    /// Writes one line to a worker's standard input, an end of line behind it. `reply` is called on the control
    /// thread: it must hand the answer on and return.
    pub fn write_line(
        &self,
        instance: InstanceId,
        line: Vec<u8>,
        reply: impl FnOnce(Result<(), InputError>) + Send + 'static,
    ) {
        self.wishes.send(Wish::WriteLine(instance, line, Box::new(reply)));
    }

    /// Makes a wish. `reply` is called on the control thread, after what was accepted is kept for whoever comes
    /// after this primary: it must hand the answer on and return.
    pub fn request(&self, request: Request, reply: impl FnOnce(Result<ChangeId, Refusal>) + Send + 'static) {
        self.wishes.send(Wish::Request(request, Box::new(reply)));
    }

    /// Asks what the primary looks like, and which of the changes `asked` are still under way. `reply` is called
    /// on the control thread: it must hand the answer on and return.
    pub fn survey(&self, asked: Vec<ChangeId>, reply: impl FnOnce(Survey) + Send + 'static) {
        self.wishes.send(Wish::Survey(asked, Box::new(reply)));
    }

    /// Has the primary replaced by another program; see [`ProcessHost::upgrade`](crate::host::ProcessHost::upgrade).
    /// The answer may come too late to be heard: the primary is ended right after it.
    pub fn upgrade(&self, program: Option<String>, reply: impl FnOnce(Result<(), String>) + Send + 'static) {
        self.wishes.send(Wish::Upgrade(program, Box::new(reply)));
    }

    /// Has a thread of the primary panic. For tests of what comes after: other builds do not have it.
    #[cfg(debug_assertions)]
    pub fn panic(&self, culprit: Culprit) {
        self.wishes.send(Wish::Panic(culprit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::link;

    #[test]
    fn messages_that_nobody_takes_are_refused_in_the_end_and_then_taken_again() {
        let ((wishes, _wished), (orders, given)) = (link().unwrap(), link().unwrap());
        let handle = Handle::new(wishes, orders);
        let instance = InstanceId { starts: 0, number: 1 };
        let send = || handle.send(instance, vec![b'1'; 1 << 20], None);
        let sent = (0..100).take_while(|_| send().is_ok()).count();
        assert!((10..=16).contains(&sent), "{sent}");
        assert_eq!(send(), Err(SendError::Full));
        for order in given.take() {
            assert!(matches!(order, Order::Send(_)), "{order:?}");
        }
        assert_eq!(send(), Ok(()));
    }
}
