//! What people read of a primary, as the library renders it: for `run`, and for the daemon behind its own face.
//!
//! Nothing is worded here.

use std::collections::BTreeMap;

use oxherd_daemon::daemon::{Console as DaemonConsole, Manner};
use oxherd_engine::core::{AppId, Exit, Outcome};
use oxherd_engine::{Alert, Bulletin, Observer, OutputLine, Report};

pub(crate) use oxherd::console::{
    Console, aborted, ended, give_up, line_of_alert, line_of_bulletin, shown_address,
};

use crate::exit::{self, ExitStatus};
use crate::view::form::Form;
use crate::voice;

/// How the command line wants a console to talk.
pub(crate) fn manner() -> Manner {
    Manner { raw: false, silent: voice::is_silent(), no_color: !Form::has_colours() }
}

/// A console that talks so.
pub(crate) fn in_manner(console: Console, manner: Manner) -> Console {
    let console = if manner.silent { console.silenced() } else { console };
    if manner.no_color { console.without_colours() } else { console }
}

/// The console of a daemon in the foreground.
#[derive(Debug)]
pub(crate) struct Foreground(Console);

impl Foreground {
    /// One that talks in this manner.
    pub(crate) fn new(manner: Manner) -> Self {
        Self(in_manner(Console::of_daemon(manner.raw), manner))
    }
}

impl Observer for Foreground {
    fn bulletin(&mut self, bulletin: &Bulletin) {
        self.0.bulletin(bulletin);
    }

    fn output(&mut self, line: &OutputLine<'_>) {
        self.0.output(line);
    }

    fn report(&mut self, report: &Report) {
        self.0.report(report);
    }

    fn alert(&mut self, alert: &Alert) {
        self.0.alert(alert);
    }
}

impl DaemonConsole for Foreground {
    fn know(&mut self, names: &BTreeMap<AppId, String>) {
        self.0.know(names);
    }

    fn say(&mut self, what: &str) {
        self.0.trouble(what);
    }

    fn end(self: Box<Self>, outcome: Option<Outcome>, verdict: Option<Exit>) -> Option<u8> {
        let outcome = outcome?;
        let status = ExitStatus::from(self.0.end(outcome));
        Some(exit::of_apps(outcome, verdict).unwrap_or(status.code()))
    }
}
