//! The observer of a cluster: it keeps the list of workers, prints, and tells everybody who listens.
//!
//! Called on the control thread; must never wait for anybody.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use oxherd_engine::core::{Exit, Notice, Outcome, Place, Span};
use oxherd_engine::{Alert, Bulletin, Ear, EngineError, Observer, OutputLine, Report, WorkerMessage};

use super::shared::{Shared, WorkerState};
use super::{Event, WorkerHandle};
use crate::console::{Console, Ending, abort_reason, give_up};
use crate::{Attachment, Message};

/// Hears everything that happens in one cluster.
pub(super) struct Herald {
    shared: Arc<Shared>,
    console: Console,
    /// Our own lines are printed, too.
    speaks: bool,
    has_channel: bool,
    reports: Option<SyncSender<Report>>,
}

impl Herald {
    pub(super) fn new(
        shared: &Arc<Shared>,
        speaks: bool,
        instances: u32,
        has_channel: bool,
        reports: Option<SyncSender<Report>>,
    ) -> Self {
        let console = if speaks { Console::new(instances) } else { Console::of_daemon(true) };
        Self { shared: Arc::clone(shared), console, speaks, has_channel, reports }
    }

    /// Tells how it ended.
    pub(super) fn end(self, result: Result<Outcome, EngineError>) -> Ending {
        match result {
            Ok(outcome) if self.speaks => self.console.end(outcome),
            Ok(outcome) => self.console.end_quietly(outcome),
            Err(error) => self.console.fail(&error),
        }
    }

    fn handle_of(&self, place: Place) -> WorkerHandle {
        let known = self.shared.worker(place.instance.worker_id());
        WorkerHandle::new(&self.shared, known.unwrap_or_else(|| Arc::new(WorkerState::dead(place))))
    }

    /// The list of workers is right before anybody hears the news. Returns who is to be taken off it afterwards.
    fn note(&self, bulletin: &Bulletin) -> Option<Place> {
        match &bulletin.notice {
            Notice::Forked { place } | Notice::Adopted { place } => {
                self.shared.insert(Arc::new(WorkerState::new(*place, bulletin.pid, self.has_channel)));
                None
            }
            Notice::Promoted { place } => {
                if let Some(state) = self.shared.worker(place.instance.worker_id()) {
                    state.move_to(place.slot.0);
                }
                None
            }
            Notice::Exited { place, wanted, .. } => Some(self.end_worker(*place, *wanted)),
            Notice::SpawnFailed { place, .. } => Some(self.end_worker(*place, false)),
            Notice::Changed { change, outcome } => {
                self.shared.conclude(*change, outcome.clone());
                None
            }
            _ => None,
        }
    }

    fn end_worker(&self, place: Place, wanted: bool) -> Place {
        if let Some(state) = self.shared.worker(place.instance.worker_id()) {
            state.end(wanted);
        }
        place
    }

    /// The tally needs every notice, whether it is printed or not.
    fn print(&mut self, bulletin: &Bulletin) {
        if self.speaks {
            self.console.bulletin(bulletin);
        } else {
            self.console.note(&bulletin.notice);
        }
    }

    fn event_of(&self, notice: &Notice) -> Event {
        match notice {
            Notice::Forked { place } => Event::Fork { worker: self.handle_of(*place) },
            Notice::Online { place } => Event::Online { worker: self.handle_of(*place) },
            Notice::Listening { place, address } => {
                Event::Listening { worker: self.handle_of(*place), address: address.clone() }
            }
            Notice::Ready { place, after } => {
                Event::Ready { worker: self.handle_of(*place), after: duration(*after) }
            }
            Notice::Exited { place, exit, .. } => exit_event(self.handle_of(*place), *exit),
            Notice::ErrorReported { place, error } => {
                Event::Error { worker: self.handle_of(*place), error: error.clone() }
            }
            Notice::Respawn { slot, delay, .. } => Event::Respawn { slot: slot.0, delay: duration(*delay) },
            Notice::GaveUp { slot, why, .. } => Event::GaveUp { slot: slot.0, why: give_up(why) },
            Notice::ReloadStarted { generation, .. } => Event::ReloadStarted { generation: generation.0 },
            Notice::ReloadDone { generation, took, .. } => {
                Event::ReloadDone { generation: generation.0, took: duration(*took) }
            }
            Notice::ReloadAborted { why, .. } => Event::ReloadAborted { why: abort_reason(why) },
            Notice::AllServing { workers, addresses, .. } => {
                Event::Serving { workers: *workers, addresses: addresses.clone() }
            }
            other => Event::Notice(other.clone()),
        }
    }
}

impl Observer for Herald {
    fn bulletin(&mut self, bulletin: &Bulletin) {
        let ended = self.note(bulletin);
        self.print(bulletin);
        if self.shared.is_heard() {
            self.shared.tell(self.event_of(&bulletin.notice));
        }
        if let Some(place) = ended {
            self.shared.remove(place.instance.worker_id());
        }
    }

    fn output(&mut self, line: &OutputLine<'_>) {
        self.console.output(line);
    }

    fn report(&mut self, report: &Report) {
        if self.speaks {
            self.console.report(report);
        }
        if let Some(reports) = &self.reports {
            // Whoever is still busy with the last ones does without this one.
            drop(reports.try_send(report.clone()));
        }
    }

    fn alert(&mut self, alert: &Alert) {
        if self.speaks {
            self.console.alert(alert);
        }
        self.shared.tell(Event::Alert(alert.clone()));
    }

    fn message(&mut self, message: WorkerMessage) {
        let WorkerMessage { place, raw, attachment, permit } = message;
        // It was JSON when it came in.
        let Ok(raw) = String::from_utf8(raw) else { return };
        let attachment = attachment.and_then(|fd| Attachment::try_from(fd).ok());
        let worker = self.handle_of(place);
        // Whoever does not listen keeps it, and its permit with it.
        let message = Message::new(&raw, attachment).keeping(Arc::new(permit));
        self.shared.tell(Event::Message { worker, message });
    }

    fn disconnected(&mut self, place: Place) {
        let worker = self.handle_of(place);
        if let Some(state) = self.shared.worker(place.instance.worker_id()) {
            state.disconnect();
        }
        self.shared.tell(Event::Disconnect { worker });
    }

    fn ear(&self) -> Option<Ear> {
        Some(self.shared.ear())
    }
}

fn exit_event(worker: WorkerHandle, exit: Exit) -> Event {
    let (code, signal) = match exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal.0)),
        Exit::Unknown => (None, None),
    };
    Event::Exit { worker, code, signal }
}

fn duration(span: Span) -> Duration {
    Duration::from_millis(span.as_millis())
}
