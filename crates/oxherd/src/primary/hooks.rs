//! The program's own closures, each on a thread of its own, so that none holds anybody up.

use std::io;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use oxherd_engine::Report;

use super::Cluster;
use super::builder::{OnEvent, OnReport};

/// Reports that wait for a closure that is slow.
const REPORTS_WAITING: usize = 4;
/// How long the end waits for closures that are still at it.
const LAST_WORDS: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The threads that call closures.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    threads: Vec<JoinHandle<()>>,
}

impl Hooks {
    /// Starts a thread that is called with every event from now on.
    pub(super) fn on_event(&mut self, cluster: &Cluster, mut call: OnEvent) -> io::Result<()> {
        let (cluster, mut events) = (cluster.clone(), cluster.events());
        let work = move || {
            while let Some(event) = events.blocking_recv() {
                call(&cluster, event);
            }
        };
        self.threads.push(Builder::new().name("oxherd-events".into()).spawn(work)?);
        Ok(())
    }

    /// Starts a thread that is called with every report that is given to what is returned.
    pub(super) fn on_report(&mut self, mut call: OnReport) -> io::Result<SyncSender<Report>> {
        let (reports, waiting) = mpsc::sync_channel::<Report>(REPORTS_WAITING);
        let work = move || waiting.iter().for_each(|report| call(&report));
        self.threads.push(Builder::new().name("oxherd-reports".into()).spawn(work)?);
        Ok(reports)
    }

    /// Gives closures a moment to hear the last news.
    pub(super) fn finish(self) {
        let until = Instant::now() + LAST_WORDS;
        for thread in self.threads {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(LOOK_EVERY);
            }
            if thread.is_finished() {
                // A panic over there was printed there.
                drop(thread.join());
            }
        }
    }
}
