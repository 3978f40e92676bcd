//! What is in a specification that has parts of its own.

use serde::{Deserialize, Serialize};

use super::{AppSpec, SpecError};
use crate::Span;

/// The bounds between which the number of slots follows the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// Not fewer slots than this; at least 1.
    pub min: u32,
    /// Not more.
    pub max: u32,
}

impl Scaling {
    /// Whether there is something between the bounds.
    fn check(self) -> Result<(), SpecError> {
        let Self { min, max } = self;
        if min == 0 || max < min { Err(SpecError::BadBounds { min, max }) } else { Ok(()) }
    }
}

impl AppSpec {
    /// Whether the rules for replacing workers can be had with the way that they get their sockets.
    pub(super) fn check_rules(&self) -> Result<(), SpecError> {
        self.scaling.map_or(Ok(()), Scaling::check)?;
        if self.restart_delay.is_some() && self.exp_backoff_restart_delay.is_some() {
            return Err(SpecError::TwoDelays);
        }
        let needs_channel =
            [(self.health_interval.is_some(), "health_check"), (self.max_requests.is_some(), "max_requests")];
        match needs_channel.iter().find(|(is_set, _)| *is_set) {
            Some((_, key)) if !self.has_channel() => {
                Err(SpecError::NeedsChannel { key, sockets: self.sockets })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What must answer before a worker counts as ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// `http://HOST:PORT/PATH`, which must be answered with a status below 400, or `tcp://HOST:PORT`, where somebody
    /// must accept.
    pub url: String,
    /// The pause between two attempts.
    pub interval: Span,
    /// How long an answer may take.
    pub timeout: Span,
}

/// Whom workers run as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// All other groups of the user.
    #[serde(default)]
    pub groups: Vec<u32>,
}

/// A listener that workers are started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenAt {
    /// What the worker finds it by, in `LISTEN_FDNAMES`; without a colon.
    pub name: String,
    /// An IP address with a port, or the absolute path of a Unix socket.
    pub address: String,
}
