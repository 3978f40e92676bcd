//! News that goes out. Each line of a log renders one notice.

use serde::{Deserialize, Serialize};

use crate::{AppId, ChangeId, Exit, Generation, Place, Signal, Slot, Span, SpawnFailure};

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields repeat their types' documentation")]
pub enum Notice {
    /// A process was started.
    Forked { place: Place },
    /// A process could not be started.
    SpawnFailed { place: Place, cause: SpawnFailure },
    /// The worker spoke on its channel.
    Online { place: Place },
    /// The worker listens.
    Listening { place: Place, address: String },
    /// The worker is ready, this long after its start.
    Ready { place: Place, after: Span },
    /// The worker is not ready although its time is up. It may still become so.
    NotReady { place: Place, after: Span },
    /// The worker is booted, and held where it wants to listen: as a standby, or until the other successors are booted
    /// as well.
    Parked { place: Place, standby: bool },
    /// A standby takes this slot over.
    Promoted { place: Place },
    /// A standby has ended and will be booted again after `delay`; `slot` is its number.
    StandbyRespawn { app: AppId, slot: Slot, delay: Span },
    /// Every slot of the app is filled by a ready worker. Without addresses, none of them listens.
    AllServing { app: AppId, workers: u32, addresses: Vec<String>, after: Span },
    /// The worker gets no more connections and is asked to finish.
    Retiring { place: Place, reason: RetireReason },
    /// The polite signal was sent.
    Terminating { place: Place, signal: Signal },
    /// The process tree is killed, this long after its time was up or at once.
    Killing { place: Place },
    /// The process is still there although it was killed.
    Unkillable { place: Place },
    /// The process ended. `wanted`: it had been asked to, or said that it would.
    Exited { place: Place, exit: Exit, uptime: Span, wanted: bool },
    /// An ended worker will be replaced after `delay`. `unstable` exits of `max` are within the window.
    Respawn { app: AppId, slot: Slot, unstable: u32, max: u32, delay: Span },
    /// The slot is not filled any more.
    GaveUp { app: AppId, slot: Slot, why: GiveUp },
    /// The worker ended and is not to be restarted.
    Finished { app: AppId, slot: Slot, exit: Exit },
    /// The worker reported an error.
    ErrorReported { place: Place, error: String },
    /// The worker stopped reading its channel and gets no connections.
    Stalled { place: Place },
    /// The worker reads its channel again.
    Resumed { place: Place },
    /// The worker broke the protocol and is killed.
    Misbehaved { place: Place, what: String },
    /// A reload began.
    ReloadStarted { app: AppId, generation: Generation, change: ChangeId },
    /// Another reload will follow the one that runs.
    ReloadQueued { app: AppId, change: ChangeId },
    /// Every slot runs the new generation.
    ReloadDone { app: AppId, generation: Generation, took: Span },
    /// The reload ended early; `replaced` slots run the new generation already, the others go on as they were.
    ReloadAborted { app: AppId, generation: Generation, why: ReloadFailure, replaced: u32 },
    /// This worker is to be replaced, successor first: its successor is started.
    RecycleStarted { place: Place, why: RecycleReason },
    /// The successor has taken the slot over, and who was there before has ended.
    RecycleDone { app: AppId, slot: Slot, why: RecycleReason, took: Span },
    /// The successor failed: the worker of the slot goes on.
    RecycleFailed { app: AppId, slot: Slot, why: RecycleReason, failure: ReloadFailure },
    /// The number of slots changed.
    Scaled { app: AppId, from: u32, to: u32 },
    /// The app is stopping.
    Stopping { app: AppId },
    /// No worker of the app is left.
    Stopped { app: AppId },
    /// The app is forgotten.
    Deleted { app: AppId },
    /// A process from before this primary's start goes on in its slot.
    Adopted { place: Place },
    /// A change is through.
    Changed { change: ChangeId, outcome: ChangeOutcome },
}

impl Notice {
    /// The instance that it is about, if it is about one.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Forked { place }
            | Self::SpawnFailed { place, .. }
            | Self::Online { place }
            | Self::Listening { place, .. }
            | Self::Ready { place, .. }
            | Self::NotReady { place, .. }
            | Self::Parked { place, .. }
            | Self::Promoted { place }
            | Self::Retiring { place, .. }
            | Self::Terminating { place, .. }
            | Self::Killing { place }
            | Self::Unkillable { place }
            | Self::Exited { place, .. }
            | Self::ErrorReported { place, .. }
            | Self::Stalled { place }
            | Self::Resumed { place }
            | Self::Misbehaved { place, .. }
            | Self::RecycleStarted { place, .. }
            | Self::Adopted { place } => Some(*place),
            Self::AllServing { .. }
            | Self::StandbyRespawn { .. }
            | Self::Respawn { .. }
            | Self::GaveUp { .. }
            | Self::Finished { .. }
            | Self::ReloadStarted { .. }
            | Self::ReloadQueued { .. }
            | Self::ReloadDone { .. }
            | Self::ReloadAborted { .. }
            | Self::RecycleDone { .. }
            | Self::RecycleFailed { .. }
            | Self::Scaled { .. }
            | Self::Stopping { .. }
            | Self::Stopped { .. }
            | Self::Deleted { .. }
            | Self::Changed { .. } => None,
        }
    }

    /// The app that it is about. What became of a change tells none: whoever asked for it knows.
    pub fn app(&self) -> Option<AppId> {
        match self {
            Self::AllServing { app, .. }
            | Self::StandbyRespawn { app, .. }
            | Self::Respawn { app, .. }
            | Self::GaveUp { app, .. }
            | Self::Finished { app, .. }
            | Self::ReloadStarted { app, .. }
            | Self::ReloadQueued { app, .. }
            | Self::ReloadDone { app, .. }
            | Self::ReloadAborted { app, .. }
            | Self::RecycleDone { app, .. }
            | Self::RecycleFailed { app, .. }
            | Self::Scaled { app, .. }
            | Self::Stopping { app }
            | Self::Stopped { app }
            | Self::Deleted { app } => Some(*app),
            Self::Forked { .. }
            | Self::SpawnFailed { .. }
            | Self::Online { .. }
            | Self::Listening { .. }
            | Self::Ready { .. }
            | Self::NotReady { .. }
            | Self::Parked { .. }
            | Self::Promoted { .. }
            | Self::Retiring { .. }
            | Self::Terminating { .. }
            | Self::Killing { .. }
            | Self::Unkillable { .. }
            | Self::Exited { .. }
            | Self::ErrorReported { .. }
            | Self::Stalled { .. }
            | Self::Resumed { .. }
            | Self::Misbehaved { .. }
            | Self::RecycleStarted { .. }
            | Self::Adopted { .. }
            | Self::Changed { .. } => self.place().map(|place| place.app),
        }
    }
}

/// Why a worker is asked to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetireReason {
    /// A successor took over.
    Replaced,
    /// Its slot is gone.
    ScaledDown,
    /// The app stops.
    Stop,
    /// The app restarts.
    Restart,
    /// It was to be a successor, and the reload was aborted.
    ReloadAborted,
    /// Its slot gives up: it reported too many errors.
    Errors,
    /// It alone was asked to leave.
    Asked,
    /// It was a standby, and is not needed as one, or cannot be one.
    Unneeded,
    /// Nobody knows it any more.
    Stray,
    /// The primary before this one ended before the worker was ready, and with it what the worker may wait for.
    Interrupted,
}

/// Why the worker of one slot is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecycleReason {
    /// Somebody asked for it.
    Asked,
    /// Its process tree holds more memory than it may.
    Memory,
    /// It has served as many requests as it may.
    Requests,
    /// It has lived as long as it may.
    Lifetime,
    /// It does not say any more that it is well.
    Hung,
}

impl RecycleReason {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Asked, Self::Memory, Self::Requests, Self::Lifetime, Self::Hung];
}

/// Why a slot is not filled any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GiveUp {
    /// Too many unstable exits within the window.
    UnstableExits {
        /// How many.
        count: u32,
        /// Within how long.
        window: Span,
    },
    /// Too many reported errors and failures within the window.
    Errors {
        /// How many.
        count: u32,
        /// Within how long.
        window: Span,
    },
    /// The process cannot be started at all.
    CannotSpawn(SpawnFailure),
}

/// Why a reload was aborted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadFailure {
    /// A successor was not ready in time.
    NotReady {
        /// Whose.
        slot: Slot,
        /// How long it had.
        after: Span,
    },
    /// A successor ended before it was ready, or right afterwards.
    Died {
        /// Whose.
        slot: Slot,
        /// How.
        exit: Exit,
    },
    /// A successor could not be started.
    CannotSpawn {
        /// Whose.
        slot: Slot,
        /// Why.
        cause: SpawnFailure,
    },
    /// The app was stopped or restarted meanwhile.
    Superseded,
}

/// How a change ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeOutcome {
    /// It is as was wished.
    Done,
    /// The reload was aborted.
    ReloadAborted(ReloadFailure),
    /// A slot gave up or ended before it was ready.
    Failed,
    /// A later wish took its place.
    Superseded,
}
