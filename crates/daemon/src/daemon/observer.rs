//! Hears of everything on the control thread and hands it on: to the logs, the control server, the saved state, and
//! the daemon's own log. It must never wait, but before an upgrade.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oxherd_core::{AppId, Desired, Exit, Notice, Outcome, Place};
use oxherd_engine::{Alert, Bulletin, Ear, Observer, OutputLine, Report, Stream, WorkerMessage};

use super::driver::Saved;
use super::faces::{Console, Render};
use crate::ledger::Ledger;
use crate::logs::Logs;
use crate::server::{Feed, LogFiles};
use crate::upkeep::Upkeep;
use crate::voice;

/// The daemon's ear.
pub(super) struct DaemonObserver {
    logs: Logs,
    feed: Feed,
    saved: Arc<Saved>,
    ledger: Ledger,
    upkeep: Upkeep,
    render: Render,
    console: Option<Box<dyn Console>>,
    names: BTreeMap<AppId, String>,
}

impl DaemonObserver {
    pub(super) fn new(
        logs: Logs,
        feed: Feed,
        (saved, ledger, upkeep): (Arc<Saved>, Ledger, Upkeep),
        render: Render,
        console: Option<Box<dyn Console>>,
    ) -> Self {
        Self { logs, feed, saved, ledger, upkeep, render, console, names: BTreeMap::new() }
    }

    /// Tells of the daemon itself.
    pub(super) fn say(&mut self, what: &str) {
        match &mut self.console {
            Some(console) => console.say(what),
            None => log(what),
        }
    }

    fn tell(&mut self, bulletin: &Bulletin) {
        match &mut self.console {
            Some(console) => console.bulletin(bulletin),
            None => {
                let name = bulletin.notice.app().and_then(|app| self.names.get(&app));
                if let Some(line) = (self.render.bulletin)(bulletin, name.map(String::as_str)) {
                    log(&line);
                }
            }
        }
    }

    /// Tells how it ended; returns the exit code.
    pub(super) fn end(self, outcome: Option<Outcome>, verdict: Option<Exit>, code: u8) -> u8 {
        self.console.and_then(|console| console.end(outcome, verdict)).unwrap_or(code)
    }
}

impl Observer for DaemonObserver {
    fn bulletin(&mut self, bulletin: &Bulletin) {
        self.ledger.hear(&bulletin.notice);
        self.upkeep.hear(bulletin);
        self.feed.bulletin(bulletin);
        self.tell(bulletin);
        if let Notice::Deleted { app } = &bulletin.notice {
            self.logs.forget(*app);
            self.names.remove(app);
        }
    }

    fn output(&mut self, line: &OutputLine<'_>) {
        self.feed.output(line);
        match &mut self.console {
            Some(console) => console.output(line),
            None => self.logs.line(line),
        }
    }

    fn settle(&mut self, patience: Duration) {
        let (tell, told) = mpsc::channel();
        self.logs.written(Box::new(move |()| tell.send(()).unwrap_or_default()));
        told.recv_timeout(patience).unwrap_or_default();
    }

    fn begun(&mut self, place: Place, stream: Stream) {
        self.logs.begun(place, stream);
    }

    fn message(&mut self, message: WorkerMessage) {
        self.feed.message(&message);
    }

    fn ear(&self) -> Option<Ear> {
        Some(self.feed.ear())
    }

    fn has_room(&mut self, app: AppId) -> bool {
        self.console.is_some() || self.logs.has_room(app)
    }

    fn report(&mut self, report: &Report) {
        if let Some(console) = &mut self.console {
            console.report(report);
        }
    }

    fn alert(&mut self, alert: &Alert) {
        match &mut self.console {
            Some(console) => console.alert(alert),
            None => {
                let name = alert.app().and_then(|app| self.names.get(&app));
                log(&(self.render.alert)(alert, name.map(String::as_str)));
            }
        }
    }

    fn reopen_logs(&mut self) {
        self.logs.reopen();
    }

    fn desired(&mut self, desired: Desired) {
        // One that is being deleted is not wanted any more, and still talked of.
        self.names.extend(desired.apps.iter().map(|app| (app.app, app.spec.name.clone())));
        if let Some(console) = &mut self.console {
            console.know(&self.names);
        }
        self.ledger.know(&desired);
        for app in &desired.apps {
            let numbers = self.ledger.numbers(app.app);
            self.logs.know(app.app, &app.spec.name, &app.spec.upkeep.logs, numbers);
        }
        self.upkeep.know(&desired);
        self.saved.update(desired);
    }

    fn wants_desired(&self) -> bool {
        true
    }
}

/// A line in the daemon's own log; a full disk loses it.
pub(super) fn log(what: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    voice::say(&format!("{} {what}", utc(now)));
}

/// A moment as `2026-11-23T22:04:05Z` (RFC 3339); days by the civil-from-days algorithm of H. Hinnant.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn moments_read_as_people_write_them() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_795_471_445), "2026-11-23T22:04:05Z");
    }
}
