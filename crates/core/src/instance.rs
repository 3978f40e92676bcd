//! One instance: its phase and what is known of it. How phases follow each other is `lifecycle`.

use serde::{Deserialize, Serialize};

use crate::{InstanceId, Moment, Place, RetireReason, Span, Status};

/// Where an instance stands in its life. Deadlines ride in the phase that they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its process was ordered and is awaited.
    Spawning,
    /// Its process was ordered and is not wanted any more.
    Aborting,
    /// The process lives and is not ready.
    Starting {
        /// When it counts as ready although it does not listen, if that is so.
        lived: Option<Moment>,
        /// When somebody should hear that it is late.
        overdue: Option<Moment>,
    },
    /// Booted, and held where it wants to listen.
    Parked,
    /// Ready.
    Serving(Standing),
    /// Gets no more connections; those handed over are not all answered.
    Withdrawing {
        /// When draining has lasted long enough.
        until: Moment,
    },
    /// Finishes what it has in hand.
    Draining {
        /// When draining has lasted long enough.
        until: Moment,
    },
    /// Its connections are gone; it is given a moment to end by itself.
    Leaving {
        /// When it gets the polite signal.
        until: Moment,
    },
    /// Got the polite signal.
    Terminating {
        /// When it is killed.
        until: Moment,
    },
    /// Was killed; its end is awaited.
    Killing {
        /// When it is killed again.
        until: Moment,
    },
}

/// Whether a ready instance gets connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It does.
    Admitted,
    /// It does not: it stopped reading its channel.
    Stalled,
}

/// What is known of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) place: Place,
    pub(crate) phase: Phase,
    pub(crate) spawned_at: Option<Moment>,
    pub(crate) ready_at: Option<Moment>,
    /// Why it was asked to leave, if it was.
    pub(crate) retired: Option<RetireReason>,
    pub(crate) facts: Facts,
    pub(crate) addresses: Vec<String>,
    /// It is to be held when it wants to listen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) held: bool,
    /// When it was given its slot, if it was held until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Moment>,
}

/// What an instance has let itself be known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// It spoke on its channel.
    pub(crate) online: bool,
    /// It said that it leaves by itself.
    pub(crate) departing: bool,
    /// It reported an error.
    pub(crate) reported: bool,
    /// It stopped reading its channel before it was ready.
    pub(crate) stalled: bool,
    /// It outlived a kill, and that was told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unkillable: bool,
    /// It was held where it wants to listen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) parked: bool,
    /// It listens although it was to be held.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) listening: bool,
    /// It said that it is ready while it was held.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) said_ready: bool,
    /// It is to be asked from outside whether it serves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) probing: bool,
}

impl Instance {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            phase: Phase::Spawning,
            spawned_at: None,
            ready_at: None,
            retired: None,
            facts: Facts::default(),
            addresses: Vec::new(),
            held: false,
            since: None,
        }
    }

    pub(crate) fn id(&self) -> InstanceId {
        self.place.instance
    }

    pub(crate) fn uptime(&self, now: Moment) -> Span {
        self.spawned_at.map_or(Span::ZERO, |spawned| now.since(spawned))
    }

    pub(crate) fn is_serving(&self) -> bool {
        match self.phase {
            Phase::Serving(_) => true,
            Phase::Spawning
            | Phase::Aborting
            | Phase::Starting { .. }
            | Phase::Parked
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => false,
        }
    }

    pub(crate) fn is_starting(&self) -> bool {
        match self.phase {
            Phase::Starting { .. } => true,
            Phase::Spawning
            | Phase::Aborting
            | Phase::Parked
            | Phase::Serving(_)
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => false,
        }
    }

    /// The next moment at which this instance has something to do.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.phase {
            Phase::Spawning | Phase::Aborting | Phase::Parked | Phase::Serving(_) => None,
            Phase::Starting { lived, overdue } => [lived, overdue].into_iter().flatten().min(),
            Phase::Withdrawing { until }
            | Phase::Draining { until }
            | Phase::Leaving { until }
            | Phase::Terminating { until }
            | Phase::Killing { until } => Some(until),
        }
    }

    pub(crate) fn status(&self) -> Status {
        match self.phase {
            Phase::Spawning | Phase::Starting { .. } => Status::Starting,
            Phase::Parked => Status::Standby,
            Phase::Serving(_) => Status::Online,
            Phase::Aborting
            | Phase::Withdrawing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. } => Status::Stopping,
        }
    }
}
