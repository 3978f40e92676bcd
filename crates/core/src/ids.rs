//! Names for things: apps, slots, generations, instances, changes. They carry no behaviour.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One app of the fleet. Never reused while the fleet's image or anything of the app lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AppId(pub u32);

/// A numbered place `0..n` that an app keeps filled. The number reaches the worker as `OXHERD_SLOT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u32);

/// Counts an app's code and configuration; a reload makes the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl Generation {
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One life of one process in a slot. Never reused: `starts` counts the primaries that the keeper has started,
/// so that a primary which lost its image cannot give a number again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    /// Which start of the primary made it.
    pub starts: u32,
    /// The running number within that start, from 1.
    pub number: u32,
}

impl InstanceId {
    /// The id as a Node worker id (`cluster.worker.id`): a positive 31-bit integer, equal to `number` under
    /// the first primary.
    pub const fn worker_id(self) -> u64 {
        (((self.starts as u64) << 20) | (self.number as u64 & 0xf_ffff)) & 0x7fff_ffff
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.starts, self.number)
    }
}

/// A change that somebody asked for and may wait on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeId(pub u64);

/// Where an instance lives and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The app it belongs to.
    pub app: AppId,
    /// The slot it fills, or will fill.
    pub slot: Slot,
    /// The generation it was started from.
    pub generation: Generation,
    /// Its own id.
    pub instance: InstanceId,
}

/// What a worker's environment carries as `OXHERD_INSTANCE`: enough to adopt it without an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Label(pub Place);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { app, slot, generation, instance } = self.0;
        write!(f, "{}:{}:{}:{}", app.0, slot.0, generation.0, instance)
    }
}

impl FromStr for Label {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split([':', '.']).map(|part| part.parse::<u32>().map_err(drop));
        let mut next = || parts.next().ok_or(())?;
        let (app, slot, generation) = (AppId(next()?), Slot(next()?), Generation(next()?));
        let instance = InstanceId { starts: next()?, number: next()? };
        if parts.next().is_some() { Err(()) } else { Ok(Self(Place { app, slot, generation, instance })) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_reads_back() {
        let instance = InstanceId { starts: 2, number: 41 };
        let label = Label(Place { app: AppId(0), slot: Slot(3), generation: Generation(7), instance });
        assert_eq!(label.to_string(), "0:3:7:2.41");
        assert_eq!("0:3:7:2.41".parse(), Ok(label));
        assert_eq!("0:3:7:2".parse::<Label>(), Err(()));
        assert_eq!("0:3:7:2.41.9".parse::<Label>(), Err(()));
    }

    #[test]
    fn worker_ids_start_at_one_and_stay_apart_between_starts() {
        let id = |starts, number| InstanceId { starts, number }.worker_id();
        assert_eq!(id(0, 1), 1);
        assert_ne!(id(1, 1), id(0, 1));
    }
}
