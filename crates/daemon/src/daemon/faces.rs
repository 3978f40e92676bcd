//! What the command lends to the daemon: how news look as lines, and a console where there is one.

use std::collections::BTreeMap;

use oxherd_core::{AppId, Exit, Outcome};
use oxherd_engine::{Alert, Bulletin, Observer};

/// How the daemon shows itself.
pub struct Faces {
    /// Which build this is, as clients are told.
    pub version: &'static str,
    /// One line for the daemon's log.
    pub render: Render,
    /// Makes what everything goes to when the keeper runs in the foreground.
    pub console: fn(Manner) -> Box<dyn Console>,
}

/// How a console talks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Workers' lines go there as they are.
    pub raw: bool,
    /// Nothing but trouble, and what workers write.
    pub silent: bool,
    /// No colours on a terminal either.
    pub no_color: bool,
}

impl Manner {
    /// Takes one of the daemon's options in; whether it is one of these.
    pub(super) fn take(&mut self, option: &str) -> bool {
        let place = match option {
            "--raw" => &mut self.raw,
            "--silent" => &mut self.silent,
            "--no-color" => &mut self.no_color,
            _ => return false,
        };
        *place = true;
        true
    }

    /// The options that say so.
    pub fn options(self) -> Vec<String> {
        let all = [(self.raw, "--raw"), (self.silent, "--silent"), (self.no_color, "--no-color")];
        all.into_iter().filter(|(is_set, _)| *is_set).map(|(_, option)| option.to_owned()).collect()
    }
}

/// Turns news into lines.
#[derive(Clone, Copy, Debug)]
pub struct Render {
    /// For what happened to an app or a worker of the app with this name.
    pub bulletin: fn(&Bulletin, Option<&str>) -> Option<String>,
    /// For conditions of the primary, or of the app with this name.
    pub alert: fn(&Alert, Option<&str>) -> String,
}

/// An observer that also knows apps by their names, and says how it ended.
pub trait Console: Observer {
    /// Learns what the apps are called, before it hears of them.
    fn know(&mut self, names: &BTreeMap<AppId, String>);

    /// Tells of the daemon itself.
    fn say(&mut self, what: &str);

    /// Tells how it ended, and says with which code to exit; `None` leaves that to the daemon. `verdict` is how the
    /// apps' own work ended: [`Fleet::verdict`](oxherd_core::Fleet::verdict).
    fn end(self: Box<Self>, outcome: Option<Outcome>, verdict: Option<Exit>) -> Option<u8>;
}
