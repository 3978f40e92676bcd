//! How other threads reach the primary: wishes go in, answers come back by a call on the control thread.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use oxherd_core::{AppId, AppSpec, ChangeId, FleetStatus, Refusal, Request};

use crate::Report;
use crate::link::Writer;

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
            #[cfg(debug_assertions)]
            Self::Panic(..) => "Panic",
        })
    }
}

/// A way to the primary from any thread. Wishes made after the primary has ended are never answered.
#[derive(Clone, Debug)]
pub struct Handle {
    wishes: Writer<Wish>,
}

impl Handle {
    pub(crate) fn new(wishes: Writer<Wish>) -> Self {
        Self { wishes }
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
