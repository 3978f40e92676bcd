//! What the fake machine knows of one process. Data only; `os` lives it.

use std::sync::Arc;

use oxherd_core::{AppSpec, Exit, Moment, Place, Slot, Sockets};

use crate::plan::Plan;

/// One process, from the order on.
#[derive(Clone, Debug)]
pub struct Process {
    /// Where it belonged when it was ordered: what its label says.
    pub place: Place,
    /// Which slot it has, unless it is held.
    pub slot: Slot,
    /// It is to be held when it wants to listen.
    pub parks: bool,
    /// It wants to listen, and is held.
    pub parked: bool,
    /// What it runs.
    pub spec: Arc<AppSpec>,
    /// What it will do.
    pub plan: Plan,
    /// How far it is.
    pub life: Life,
    /// When it was born.
    pub born_at: Option<Moment>,
    /// It was lent a listener.
    pub listens: bool,
    /// It showed that it is ready.
    pub ready: bool,
    /// It said a first word on its channel.
    pub spoke: bool,
    /// A primary has left word that it was ready.
    pub noted_ready: bool,
    /// It waits for ever for an answer that was lost with a primary.
    pub stuck: bool,
    /// Its channel is open.
    pub channel: bool,
    /// It was given connections at some time.
    pub was_admitted: bool,
    /// It does not read its channel.
    pub stalled: bool,
    /// Its `Withdrawn` is on its way or was told, or will never be.
    pub withdrawing: bool,
    /// Its `Withdrawn` was told since it was last admitted.
    pub withdrawn: bool,
    /// It broke the protocol.
    pub misbehaved: bool,
    /// It was to be held and cannot be: it binds its own sockets.
    pub unlent: bool,
    /// It is to be asked from outside whether it serves.
    pub asked: bool,
    /// It does not answer when it is asked whether it is well.
    pub hung: bool,
    /// It uses more memory than it may.
    pub large: bool,
    /// How many requests it has served.
    pub served: u64,
    /// It was asked to leave.
    pub disconnected: bool,
    /// It announced that it leaves.
    pub departed: bool,
    /// It got the polite signal.
    pub terminated: bool,
    /// How often it was killed.
    pub kills: u32,
    /// How often it was swept.
    pub sweeps: u32,
    /// The core was told that it listens.
    pub told_listens: bool,
    /// How it ended, if anybody knows.
    pub exit: Option<Exit>,
    /// It ended, the keeper knows how, and no primary was told.
    pub untold: bool,
}

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Ordered.
    Ordered,
    /// It lives.
    Alive,
    /// It has ended, or could not be started.
    Over,
}

impl Process {
    pub(crate) fn new(place: Place, spec: &Arc<AppSpec>, plan: Plan, parks: bool) -> Self {
        Self {
            place,
            slot: place.slot,
            parks,
            parked: false,
            spec: Arc::clone(spec),
            plan,
            life: Life::Ordered,
            born_at: None,
            listens: false,
            ready: false,
            spoke: false,
            noted_ready: false,
            stuck: false,
            channel: spec.sockets == Sockets::Channel,
            was_admitted: false,
            stalled: false,
            withdrawing: false,
            withdrawn: false,
            misbehaved: false,
            unlent: false,
            asked: false,
            hung: false,
            large: false,
            served: 0,
            disconnected: false,
            departed: false,
            terminated: false,
            kills: 0,
            sweeps: 0,
            told_listens: false,
            exit: None,
            untold: false,
        }
    }

    /// It is lent its sockets: its calls outlive a primary.
    pub(crate) fn borrows(&self) -> bool {
        self.spec.sockets == Sockets::Universal
    }
}
