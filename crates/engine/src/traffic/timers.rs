//! When the traffic thread has something to do by itself. Deadlines only; they do not act.

use std::collections::BTreeSet;

use oxherd_core::{AppId, Generation, InstanceId};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Look for connections that nobody picks up.
    Recall,
    /// The grace after a withdrawn worker's last answer.
    Withdrawn(InstanceId),
    /// Look whether a worker reads its channel.
    Stall(InstanceId),
    /// Try to send again what the kernel had no means for.
    RetrySend(InstanceId),
    /// Try to accept again after running out of descriptors.
    RetryAccept,
    /// Offer a listener's refused connections again.
    RetryListener(usize),
    /// Look whether anybody still waits at a stopping app's listeners.
    Doors(AppId),
    /// Look whether connections still wait for an app.
    Waiting(AppId),
    /// Look whether a withdrawn worker that borrows has anything in hand.
    LameDuck(InstanceId),
    /// Weigh the workers of a listener by their load.
    Weigh(usize),
    /// Look whether somebody has come for a listener's members that nobody has.
    Left(usize),
    /// Close the listeners of slots that are no more.
    Retire(usize),
    /// Close a listener that the worker of this generation left as its last user.
    Unused(usize, Generation),
    /// Let those go on who wait for a path that another has bound.
    Begun(AppId),
    /// Give back the files of Unix sockets that a worker on its way out may take away.
    PutBack(InstanceId),
    /// Look whether a worker that was lent what listens already has called `listen`.
    Listens(InstanceId, usize),
}

/// An ordered set of deadlines; the same timer may stand in it for several moments.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(u64, Timer)>,
}

impl Timers {
    pub(crate) fn set(&mut self, at: u64, timer: Timer) {
        self.due.insert((at, timer));
    }

    /// When the next one is due, in monotonic milliseconds.
    pub(crate) fn next(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Timer> {
        if self.due.first().is_some_and(|(at, _)| *at <= now) {
            return self.due.pop_first().map(|(_, timer)| timer);
        }
        None
    }

    #[cfg(test)]
    pub(crate) fn is_set(&self, is_it: impl Fn(&Timer) -> bool) -> bool {
        self.due.iter().any(|(_, timer)| is_it(timer))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }
}
