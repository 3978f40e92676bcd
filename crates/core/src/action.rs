//! Orders that go out. The engine carries them out in order and answers with events.

use std::sync::Arc;

use crate::{AppId, AppSpec, InstanceId, Place, Signal, Slot};

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a process. Answered by exactly one `Spawned` or `SpawnFailed`, then one `Exited`.
    Spawn {
        /// The instance to be.
        place: Place,
        /// What to run.
        spec: Arc<AppSpec>,
        /// Hold the worker when it wants to listen. Answered by `Parked` then.
        parks: bool,
    },
    /// Let a parked worker listen, or one that is still to park: from now on it fills this slot. Idempotent.
    Unpark {
        /// Which worker.
        instance: InstanceId,
        /// Whose listeners it gets.
        slot: Slot,
    },
    /// Ask from outside, again and again, whether the worker serves. Answered by `Probed`, unless it ends before.
    Probe {
        /// Which worker.
        instance: InstanceId,
    },
    /// Start giving connections to the worker.
    Admit {
        /// Which.
        instance: InstanceId,
    },
    /// Stop giving connections to the worker. Answered by `Withdrawn`.
    Withdraw {
        /// Which.
        instance: InstanceId,
    },
    /// Ask the worker to finish what is in hand and to leave.
    Disconnect {
        /// Which.
        instance: InstanceId,
        /// What it is told first.
        parting: Parting,
    },
    /// Send the polite signal to the process.
    Terminate {
        /// Which.
        instance: InstanceId,
        /// The signal.
        signal: Signal,
    },
    /// Kill the whole process tree.
    Kill {
        /// Which.
        instance: InstanceId,
    },
    /// The process has ended: kill what is left of its tree and forget the instance.
    Sweep {
        /// Which.
        instance: InstanceId,
    },
    /// Let no new connection in, and hand over the waiting ones. Answered by `DoorsClosed`. They stay
    /// closed: before the app starts again, its listeners are closed too.
    CloseDoors {
        /// Whose listeners.
        app: AppId,
    },
    /// No slot of the app is filled and none will be: close its listeners.
    CloseListeners {
        /// Whose.
        app: AppId,
    },
    /// The slot is gone: its own listeners leave the group.
    RetireSlot {
        /// Whose.
        app: AppId,
        /// Which slot.
        slot: Slot,
    },
}

/// The message a channel worker gets before `disconnect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// `{"type":"shutdown"}`.
    Object,
    /// `"shutdown"`.
    Text,
}
