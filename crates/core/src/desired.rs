//! What people want, without what is: the part of a fleet that is saved to a file and survives a boot. Data only.

use serde::{Deserialize, Serialize};

use crate::{AppId, AppSpec, Generation};

/// All apps as they are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// In order of their ids.
    pub apps: Vec<DesiredApp>,
}

/// One app as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredApp {
    /// Its id.
    pub app: AppId,
    /// Its last good generation.
    pub generation: Generation,
    /// That generation's configuration.
    pub spec: AppSpec,
    /// How many slots are to be filled.
    pub instances: u32,
    /// Whether they are to be filled at all.
    pub up: bool,
}
