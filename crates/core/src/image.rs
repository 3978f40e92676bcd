//! The fleet's memory: what outlives a primary, and what the keeper really holds. Data only.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::fleet::{Fleet, State};
use crate::{AppId, InstanceId, Label, Moment, Slot};

/// The version of [`Image`] that this build writes. It reads no other.
pub const IMAGE_VERSION: u32 = 1;

/// A fleet at rest: everything but the orders and news that were not fetched yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub(crate) version: u32,
    pub(crate) state: State,
}

/// An image that is only written: the bytes are an [`Image`]'s, and nothing is copied for them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ImageRef<'a> {
    version: u32,
    state: &'a State,
}

/// What really is, as the keeper sees it: the truth that a stale image is held against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// This boot of the machine.
    pub boot_id: String,
    /// How many primaries were started before this one.
    pub starts: u32,
    /// The processes that live, and those whose ends nobody has taken note of.
    pub children: Vec<Child>,
    /// The apps that have a listener: a worker of theirs that no image knows must show more than its age.
    #[serde(default)]
    pub listening: BTreeSet<AppId>,
    /// What was noted of slots. An image knows better.
    #[serde(default)]
    pub restarts: Vec<SlotRestarts>,
}

/// How often a slot was filled again after an unwanted exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRestarts {
    /// Whose slot.
    pub app: AppId,
    /// Which.
    pub slot: Slot,
    /// How often.
    pub restarts: u32,
}

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its own id and where it belongs, from its environment.
    pub label: Label,
    /// It holds a listener, as far as the old primary had lent it one. With `wait_ready` that is not readiness.
    pub listens: bool,
    /// It was ready in its life: a primary has left word of that.
    #[serde(default)]
    pub was_ready: bool,
    /// It was told to leave, or said that it leaves.
    #[serde(default)]
    pub leaving: bool,
    /// When it was started, where that is known: without it a child that the image does not know counts as young.
    #[serde(default)]
    pub born: Option<Moment>,
    /// It has ended: its `Exited` is told next.
    #[serde(default)]
    pub ended: bool,
}

impl Child {
    pub(crate) fn instance(&self) -> InstanceId {
        self.label.0.instance
    }
}

/// Why a fleet cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImageError {
    /// Another version wrote it: start from the desired state.
    #[error("the image has version {found}, this build reads version {IMAGE_VERSION}")]
    Version {
        /// The image's version.
        found: u32,
    },
    /// The machine was booted since: nothing of it lives any more.
    #[error("the image is from another boot of this machine")]
    OtherBoot,
}

impl Fleet {
    /// What is to be kept so that another primary can go on from here.
    pub fn image(&self) -> Image {
        Image { version: IMAGE_VERSION, state: self.state.clone() }
    }

    /// The same, to be written at once. A fleet of hundreds is written often.
    pub fn image_ref(&self) -> ImageRef<'_> {
        ImageRef { version: IMAGE_VERSION, state: &self.state }
    }

    /// What of the slots' past is to be noted for a primary that gets no image: those that were filled again.
    pub fn restarts(&self) -> Vec<SlotRestarts> {
        let slots = self.state.apps.values().flat_map(|app| app.slots.iter().map(|it| (app.id, it)));
        let restarts = slots.map(|(app, (slot, state))| SlotRestarts {
            app,
            slot: *slot,
            restarts: state.history.restarts,
        });
        restarts.filter(|it| it.restarts > 0).collect()
    }

    /// The fleet of `image`, corrected by what really is.
    ///
    /// A child that the image does not know is adopted by its label or ended; an instance without a child gets
    /// its exit. A worker with a channel that was not ready is replaced: the answer that it waits for may have
    /// been lost. Orders that may have been lost are given again.
    ///
    /// # Errors
    /// The image is of another version or another boot.
    pub fn from_image(image: Image, inventory: &Inventory, now: Moment) -> Result<Self, ImageError> {
        if image.version != IMAGE_VERSION {
            return Err(ImageError::Version { found: image.version });
        }
        if image.state.boot_id != inventory.boot_id {
            return Err(ImageError::OtherBoot);
        }
        let mut fleet = Self { state: image.state, out: Default::default() };
        fleet.restore(inventory, now);
        Ok(fleet)
    }
}

/// Instances as a list in the image: their ids are in their places, and JSON has no keys of that shape.
pub(crate) mod as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::InstanceId;
    use crate::instance::Instance;

    pub(crate) fn serialize<S: Serializer>(
        instances: &BTreeMap<InstanceId, Instance>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(instances.values())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<InstanceId, Instance>, D::Error> {
        let list = Vec::<Instance>::deserialize(deserializer)?;
        Ok(list.into_iter().map(|it| (it.id(), it)).collect())
    }
}
