//! Wishes that come in, how they are refused, and how a fleet ends.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::spec::SpecError;
use crate::{AppId, AppSpec, InstanceId, RecycleReason, Slot};

/// A wish. The control API speaks these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Keep a new app running.
    Start {
        /// What to run.
        spec: Box<AppSpec>,
    },
    /// Know a new app that is stopped: a restart starts it.
    Register {
        /// What to run then.
        spec: Box<AppSpec>,
    },
    /// Replace every worker without loss: successor first. With a `spec`, by that configuration, its number of
    /// slots included: slots are added before the others are replaced, and taken away after it. An abort takes that
    /// back.
    ///
    /// Workers that bind their own sockets cannot run side by side: of such an app every worker ends before the next
    /// starts, as with [`Self::Restart`].
    Reload {
        /// Which app.
        app: AppId,
        /// The new configuration, if it changes.
        spec: Option<Box<AppSpec>>,
    },
    /// Stop every worker of an app, then start them again. With a `spec`, by that configuration, whatever it changes
    /// but the name.
    Restart {
        /// Which app.
        app: AppId,
        /// The new configuration, if it changes.
        spec: Option<Box<AppSpec>>,
    },
    /// Go by another configuration at once that no worker has to be replaced for: one that differs in nothing that a
    /// process was started with ([`AppSpec::adjusted_to`]). While a reload is under way it follows that, as another. An
    /// app that is stopped goes by whatever it says when it starts, and stays stopped.
    Adjust {
        /// Which app.
        app: AppId,
        /// The new configuration.
        spec: Box<AppSpec>,
    },
    /// Keep this many slots filled.
    Scale {
        /// Which app.
        app: AppId,
        /// How many slots.
        instances: u32,
    },
    /// Fill one slot: one that has finished or given up, or the next one, which is new.
    Fork {
        /// Which app.
        app: AppId,
        /// Which slot; [`Fleet::vacant_slot`](crate::Fleet::vacant_slot) names one.
        slot: Slot,
        /// Variables for whoever fills it from now on, beyond those of the app.
        env: Vec<(String, String)>,
    },
    /// Have one worker finish and leave. Its slot stays empty until it is forked.
    Retire {
        /// Which worker.
        instance: InstanceId,
    },
    /// Replace the worker of one slot without loss: successor first, in the same generation. If the successor fails
    /// the worker goes on. A slot without a worker is filled. A worker that binds its own sockets ends first.
    Recycle {
        /// Which app.
        app: AppId,
        /// Which slot.
        slot: Slot,
        /// Why.
        why: RecycleReason,
    },
    /// Stop an app and keep its configuration.
    Stop {
        /// Which app.
        app: AppId,
    },
    /// Stop an app and forget it.
    Delete {
        /// Which app.
        app: AppId,
    },
    /// Drain all apps at once and end.
    Shutdown,
    /// Kill all workers and end.
    Kill,
}

/// Why a wish is refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No app has this id: list the apps.
    #[error("there is no app with id {}: `ls` lists the apps", .0.0)]
    NoSuchApp(AppId),
    /// Another app has this name: choose another, or reload that one.
    #[error("an app named `{0}` exists already: `reload {0}` or `restart {0}`, or choose another name")]
    NameTaken(String),
    /// The configuration is not valid.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The app is stopped: restart it first.
    #[error("app `{0}` is stopped: `restart {0}` starts it")]
    Stopped(String),
    /// The slot is not empty, or is not to be.
    #[error("slot {} is in use or about to be: choose one that has finished or given up, or the next new one", .0.0)]
    SlotInUse(Slot),
    /// The app has no such slot.
    #[error("app `{app}` has no slot {}: `scale {app}` makes more", .slot.0)]
    NoSuchSlot {
        /// The app's name.
        app: String,
        /// Which slot.
        slot: Slot,
    },
    /// The worker has ended.
    #[error("there is no worker {}: it has ended", .0.worker_id())]
    NoSuchInstance(InstanceId),
    /// The primary is on its way out.
    #[error("the primary is stopping: start it anew once it has ended")]
    Ending,
    /// The workers were started with something else: reload it by that configuration.
    #[error("this changes what the workers of `{0}` were started with: reload it by that configuration")]
    NeedsWorkers(String),
    /// A reload may not change this.
    #[error("this cannot change the {0} of an app: delete it and start it anew")]
    Fixed(&'static str),
}

/// How a fleet ended, for a primary in the foreground.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Stopped on request, every worker drained or ended.
    Stopped,
    /// Killed on request.
    Killed,
    /// Every worker ended and none is to be restarted.
    AllEnded,
    /// No worker is left and at least one slot has given up.
    GaveUp,
}
