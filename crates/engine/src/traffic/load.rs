//! How loaded a worker is, from what it tells and what it was handed since.
//!
//! A worker of ours shares a page of figures, and the primary adds what the worker has not seen yet: that is exact at
//! any moment. Others tell now and then by messages, and what was handed over since is added to that. Nothing a
//! worker says may make more of it than its own share of the connections.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use oxherd_core::Load;
use oxherd_wire as wire;

use crate::counters::Counters;
use crate::page::Page;
use crate::traffic::Traffic;

/// What a worker had in flight longer ago than this says nothing about now, in milliseconds.
const IN_FLIGHT_FRESH_MS: u64 = 1000;
/// A worker may say hello again, as another program, but no more often than this, in milliseconds.
const HELLO_PAUSE_MS: u64 = 1000;

/// What is known of one worker's load.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    page: Option<Arc<Page>>,
    /// How many connections the worker will have seen, by its own count, once it has read all that it was sent.
    handed: u64,
    connections: Option<Told>,
    in_flight: Option<Told>,
    /// It was greeted, and may send its page.
    awaits_page: bool,
    greeted_at: Option<u64>,
}

/// A figure that it told.
#[derive(Clone, Copy, Debug)]
struct Told {
    figure: u64,
    /// How many connections it had accepted by then.
    accepted: u64,
    at: u64,
}

impl Told {
    /// The figure with what was handed over since. That any of it has ended is not known.
    fn now(self, unanswered: u64, accepted: u64) -> u64 {
        let since = accepted.saturating_sub(self.accepted).saturating_add(unanswered);
        self.figure.saturating_add(since)
    }
}

impl Gauge {
    /// That of a worker which other primaries have known.
    pub(crate) fn of(counters: &Counters) -> Self {
        let page = counters.page();
        let told = counters.connections().get().zip(counters.told_at().get());
        let connections = told.map(|(figure, accepted)| Told { figure, accepted, at: 0 });
        Self { handed: page.as_ref().map_or(0, |page| page.seen()), page, connections, ..Self::default() }
    }

    /// What it counts itself, as it is now.
    pub(crate) fn page(&self) -> Option<&Page> {
        self.page.as_deref()
    }

    /// A connection was sent to it.
    pub(crate) fn handed(&mut self) {
        self.handed = self.handed.wrapping_add(1);
    }

    /// A connection was refused, or taken from it unread.
    pub(crate) fn came_back(&mut self) {
        self.handed = self.handed.wrapping_sub(1);
    }

    /// It has answered for all that it was sent: both counts are the same now, whatever they were.
    pub(crate) fn settled(&mut self) {
        if let Some(page) = &self.page {
            self.handed = page.seen();
        }
    }

    /// `unanswered` and `accepted` are the connections that this primary knows to be so.
    pub(crate) fn load(&self, unanswered: u64, accepted: impl FnOnce() -> u64, now: u64) -> Load {
        if let Some(page) = &self.page {
            let unseen = self.handed.saturating_sub(page.seen()).min(unanswered);
            return Load {
                in_flight: Some(page.in_flight().saturating_add(unseen)),
                connections: Some(page.held().saturating_add(unseen)),
                lag_us: Some(page.lag_us()),
            };
        }
        if self.connections.is_none() && self.in_flight.is_none() {
            return Load::default();
        }
        let accepted = accepted();
        let fresh = self.in_flight.filter(|told| told.at + IN_FLIGHT_FRESH_MS > now);
        Load {
            in_flight: fresh.map(|told| told.now(unanswered, accepted)),
            connections: self.connections.map(|told| told.now(unanswered, accepted)),
            lag_us: None,
        }
    }
}

impl Traffic {
    /// Tells a worker of ours that it may send its page.
    pub(super) fn greet(&mut self, number: usize) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(number) else { return };
        if worker.gauge.greeted_at.is_some_and(|at| at + HELLO_PAUSE_MS > now) {
            return;
        }
        worker.gauge.greeted_at = Some(now);
        worker.gauge.awaits_page = true;
        let max_message = worker.max_message;
        self.reply(number, |out| wire::hello(out, max_message));
    }

    /// Takes the page that a worker sends in answer to its greeting. What is none is closed.
    pub(super) fn on_page(&mut self, number: usize, fd: OwnedFd) {
        let Some(worker) = self.workers.get_mut(number) else { return };
        if !std::mem::take(&mut worker.gauge.awaits_page) {
            return;
        }
        let Ok(page) = Page::of(&fd) else { return };
        let page = Arc::new(page);
        worker.counters.set_page(Arc::clone(&page));
        worker.gauge.handed = page.seen().saturating_add(worker.unanswered.len() as u64);
        worker.gauge.page = Some(page);
        // Only where somebody comes after this primary it is held open.
        worker.page_fd = worker.counters_fd.is_some().then_some(fd);
        self.keep_page(number);
    }

    /// A worker told of its load by a message.
    pub(super) fn note_told(&mut self, number: usize, connections: Option<u64>, in_flight: Option<u64>) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(number) else { return };
        let accepted = worker.counters.handed_over();
        worker.counters.connections().note(connections);
        worker.counters.told_at().note(connections.map(|_| accepted));
        let told = |figure| Told { figure, accepted, at: now };
        worker.gauge.connections = connections.map(told).or(worker.gauge.connections);
        worker.gauge.in_flight = in_flight.map(told).or(worker.gauge.in_flight);
    }
}
