//! What all handlers share: the ways to the rest of the daemon, the table of changes, the names of apps.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use oxherd_core::{AppId, ChangeId, ChangeOutcome, FleetStatus, Refusal, Request};
use oxherd_engine::Survey;
use tokio::sync::{mpsc, oneshot, watch};

use super::changes::{Changes, Knowledge};
use super::driver::{Driver, LogFiles};
use super::feed::{Gate, Line, News};
use super::problem::Failure;
use super::replies::Replies;
use super::views::{Samples, Sights};
use super::{About, Keep};

/// How many names of apps that are no more are remembered, for the last news of them.
const NAMES_SPARE: usize = 256;

/// Shared by all connections.
pub(super) struct State {
    pub(super) about: About,
    pub(super) started: Instant,
    pub(super) driver: Box<dyn Driver>,
    pub(super) logs: Box<dyn LogFiles>,
    pub(super) news: Gate<News>,
    pub(super) lines: Gate<Line>,
    pub(super) replies: Replies,
    pub(super) samples: Mutex<Samples>,
    /// Held while a request is made, so that the changes between two looks are its own.
    pub(super) turn: tokio::sync::Mutex<()>,
    table: Mutex<Changes>,
    keep: Mutex<Keep>,
    /// Goes up whenever a change has ended.
    ended: watch::Sender<u64>,
    names: Mutex<BTreeMap<AppId, String>>,
    pub(super) closing: Closing,
}

/// The parts that a [`State`] is made of.
pub(super) struct Parts {
    pub(super) about: About,
    pub(super) driver: Box<dyn Driver>,
    pub(super) logs: Box<dyn LogFiles>,
    pub(super) news: Gate<News>,
    pub(super) lines: Gate<Line>,
    pub(super) replies: Replies,
    pub(super) table: Changes,
    pub(super) keep: Keep,
    pub(super) closing: Closing,
}

impl State {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            about: parts.about,
            started: Instant::now(),
            driver: parts.driver,
            logs: parts.logs,
            news: parts.news,
            lines: parts.lines,
            replies: parts.replies,
            samples: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            table: Mutex::new(parts.table),
            keep: Mutex::new(parts.keep),
            ended: watch::channel(0).0,
            names: Mutex::default(),
            closing: parts.closing,
        }
    }

    /// What views look at besides the primary.
    pub(super) fn sights(&self) -> Sights<'_> {
        Sights { logs: &*self.logs, driver: &*self.driver }
    }

    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// What the primary looks like.
    pub(super) async fn survey(&self) -> Result<Survey, Failure> {
        self.survey_with(Vec::new(), || ()).await.map(|(survey, ())| survey)
    }

    /// The same, and what `then` says on the control thread, between two pieces of news.
    pub(super) async fn survey_with<T: Send + 'static>(
        &self,
        asked: Vec<ChangeId>,
        then: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(Survey, T), Failure> {
        let (reply, answer) = oneshot::channel();
        // One who does not wait any more has gone.
        self.driver.survey(asked, Box::new(move |survey| drop(reply.send((survey, then())))));
        let (survey, value) = answer.await.map_err(|_| Failure::ending())?;
        self.learn_names(&survey.status);
        Ok((survey, value))
    }

    /// Makes a wish; the answer comes through the receiver.
    pub(super) fn wish(&self, request: Request) -> oneshot::Receiver<Result<ChangeId, Refusal>> {
        let (reply, answer) = oneshot::channel();
        self.driver.request(request, Box::new(move |result| drop(reply.send(result))));
        answer
    }

    fn learn_names(&self, status: &FleetStatus) {
        let mut names = lock(&self.names);
        names.extend(status.apps.iter().map(|app| (app.app, app.name.clone())));
        let gone: Vec<AppId> =
            names.keys().filter(|id| status.apps.iter().all(|app| app.app != **id)).copied().collect();
        for id in gone.iter().take(gone.len().saturating_sub(NAMES_SPARE)) {
            names.remove(id);
        }
    }

    /// The name of an app that is, or was until lately.
    pub(super) async fn name_of(&self, app: AppId) -> Option<String> {
        let known = lock(&self.names).get(&app).cloned();
        if known.is_some() {
            return known;
        }
        self.survey().await.ok()?;
        lock(&self.names).get(&app).cloned()
    }

    pub(super) fn knowledge(&self, change: ChangeId) -> Knowledge {
        lock(&self.table).knowledge(change)
    }

    /// Reads the table.
    pub(super) fn look<T>(&self, read: impl FnOnce(&Changes) -> T) -> T {
        read(&lock(&self.table))
    }

    /// Changes the table and keeps it for the next daemon before it returns.
    pub(super) fn amend<T>(&self, change: impl FnOnce(&mut Changes) -> T) -> T {
        let (value, bytes) = {
            let mut table = lock(&self.table);
            (change(&mut table), table.to_bytes())
        };
        lock(&self.keep)(&bytes);
        value
    }

    /// Hears of ends of changes.
    pub(super) fn ends(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    /// Takes note of ends, several at once where they come in a heap; until there can be no more.
    pub(super) async fn note_ends(&self, outcomes: &mut mpsc::UnboundedReceiver<(ChangeId, ChangeOutcome)>) {
        let mut batch = Vec::new();
        while outcomes.recv_many(&mut batch, 256).await > 0 {
            self.note(batch.drain(..));
        }
    }

    fn note(&self, batch: impl Iterator<Item = (ChangeId, ChangeOutcome)>) {
        self.amend(|table| batch.for_each(|(change, outcome)| table.finish(change, outcome)));
        self.ended.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// After another daemon's end: finds out what became of the changes that it had in hand.
    pub(super) async fn settle(&self, outcomes: &mut mpsc::UnboundedReceiver<(ChangeId, ChangeOutcome)>) {
        if !self.look(Changes::is_open) {
            return;
        }
        let asked = self.look(Changes::questions);
        let Ok((survey, ())) = self.survey_with(asked, || ()).await else { return };
        // What was told before the survey is known better than what it can be judged by.
        let told: Vec<_> = std::iter::from_fn(|| outcomes.try_recv().ok()).collect();
        self.amend(|table| {
            told.into_iter().for_each(|(change, outcome)| table.finish(change, outcome));
            table.settle(&survey.status, survey.last_change, &survey.pending);
        });
    }
}

/// Tells when the server is to end.
#[derive(Clone, Debug)]
pub(super) struct Closing(pub(super) watch::Receiver<bool>);

impl Closing {
    /// Returns when the server is to end.
    pub(super) async fn wanted(&mut self) {
        // Without anybody who could close it, the server has no reason to be.
        drop(self.0.wait_for(|closing| *closing).await);
    }
}

/// A lock that nobody holds for long, and that is not worth less after a panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
