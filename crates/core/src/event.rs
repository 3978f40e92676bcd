//! Facts that come in. An event states what happened; it never asks for anything.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{AppId, Exit, InstanceId};

/// Something that happened. Stale and repeated events are harmless: what does not fit the instance's phase, or
/// names an instance that is no more, changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The process exists.
    Spawned {
        /// Whose.
        instance: InstanceId,
    },
    /// The process could not be started.
    SpawnFailed {
        /// Whose.
        instance: InstanceId,
        /// Why.
        cause: SpawnFailure,
    },
    /// The worker spoke on its channel for the first time.
    Online {
        /// Which worker.
        instance: InstanceId,
    },
    /// The worker listens on an address.
    Listening {
        /// Which worker.
        instance: InstanceId,
        /// Where, as people write it: `127.0.0.1:3000`, `/run/app.sock`, `udp 0.0.0.0:53`.
        address: String,
    },
    /// The worker is booted and wants to listen: it is held until it is given its slot.
    Parked {
        /// Which worker.
        instance: InstanceId,
    },
    /// The worker was to be held when it wants to listen, and cannot be: nobody sees it want to.
    CannotPark {
        /// Which worker.
        instance: InstanceId,
    },
    /// The worker said that it is ready.
    Ready {
        /// Which worker.
        instance: InstanceId,
    },
    /// The worker's probe was answered as it should be.
    Probed {
        /// Which worker.
        instance: InstanceId,
    },
    /// The last connection handed over to a withdrawn worker is answered.
    Withdrawn {
        /// Which worker.
        instance: InstanceId,
    },
    /// The worker announced that it leaves by itself (`exitedAfterDisconnect`).
    Departing {
        /// Which worker.
        instance: InstanceId,
    },
    /// The channel is at its end: the worker's connections are gone.
    ChannelClosed {
        /// Which worker.
        instance: InstanceId,
    },
    /// The worker stopped reading its channel.
    Stalled {
        /// Which worker.
        instance: InstanceId,
    },
    /// A stalled worker reads its channel again.
    Resumed {
        /// Which worker.
        instance: InstanceId,
    },
    /// The worker broke the protocol; its channel is closed.
    Misbehaved {
        /// Which worker.
        instance: InstanceId,
        /// What it did.
        what: String,
    },
    /// The worker reported an error.
    ErrorReported {
        /// Which worker.
        instance: InstanceId,
        /// The error's text.
        error: String,
    },
    /// What the worker's process tree uses, and what the worker has done in its life, as far as anybody looks.
    Measured {
        /// Which worker.
        instance: InstanceId,
        /// The memory of all its processes, in bytes.
        memory: Option<u64>,
        /// How many requests it has served.
        requests: Option<u64>,
    },
    /// How busy an app's workers are, looked at again and again while the number of its slots follows the load.
    Loaded {
        /// Which app.
        app: AppId,
        /// The part of the time since the last look that its serving workers used the CPU, or waited for it, on average,
        /// in thousandths.
        busy: u32,
        /// So many connections at least waited to be accepted, all the time that was looked.
        #[serde(default)]
        waiting: u32,
    },
    /// The worker is asked whether it is well, and has been silent for too long.
    Hung {
        /// Which worker.
        instance: InstanceId,
    },
    /// The process ended.
    Exited {
        /// Which worker.
        instance: InstanceId,
        /// How.
        exit: Exit,
    },
    /// No connection waits for the app any more and no new one gets in.
    DoorsClosed {
        /// Whose listeners.
        app: AppId,
    },
}

/// Why a process could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnFailure {
    /// Names the thing, the cause and the way out.
    pub message: String,
    /// Trying again cannot help: the program does not exist or may not be executed.
    pub lasting: bool,
}

impl fmt::Display for SpawnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
