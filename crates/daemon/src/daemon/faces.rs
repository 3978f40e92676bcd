//! What the command lends to the daemon: how news look as lines, and a console where there is one.

use oxherd_core::Outcome;
use oxherd_engine::{Alert, Bulletin, Observer};

/// How the daemon shows itself.
pub struct Faces {
    /// One line for the daemon's log.
    pub render: Render,
    /// Where everything goes when the keeper runs in the foreground.
    pub console: Option<Box<dyn Console>>,
}

/// Turns news into lines.
#[derive(Clone, Copy, Debug)]
pub struct Render {
    /// For what happened to an app or a worker.
    pub bulletin: fn(&Bulletin) -> Option<String>,
    /// For conditions of the primary.
    pub alert: fn(&Alert) -> String,
}

/// An observer that also says how it ended.
pub trait Console: Observer {
    /// Tells how it ended, and says with which code to exit; `None` leaves that to the daemon.
    fn end(self: Box<Self>, outcome: Option<Outcome>) -> Option<u8>;
}
