//! The control API: HTTP and JSON over a Unix socket, on a thread of its own.
//!
//! It carries wishes to the [`Driver`] and tells what it hears through the [`Feed`]. It decides nothing about apps,
//! and the control thread never waits for it.

mod change;
mod changes;
mod driver;
mod events;
mod feed;
mod history;
mod input;
mod listen;
mod logs;
mod plan;
#[cfg(debug_assertions)]
mod plant;
mod probes;
mod problem;
mod reach;
mod read;
mod replies;
mod routes;
mod select;
mod sse;
mod state;
mod tail;
mod trigger;
mod views;

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread::JoinHandle;
use std::time::Duration;

use oxherd_core::{ChangeId, ChangeOutcome};
use tokio::sync::{mpsc, watch};

pub use changes::{Changes, ChangesError};
pub use driver::{Driver, LogFiles, LogPaths, Reply};
pub use feed::{Feed, Intake, feed};

pub use crate::ledger::SlotRecord;

use state::{Closing, Parts, State};

/// Threads for files; each is there only while it is needed.
const FILE_THREADS: usize = 4;

/// What the daemon says of itself.
#[derive(Clone, Debug)]
pub struct About {
    /// Its version.
    pub version: String,
    /// Its keeper's process: another one when a keeper has died.
    pub keeper_pid: Arc<AtomicU32>,
    /// How many daemons the keeper had started before this one.
    pub starts: u32,
    /// How often keeper and daemon have become another program.
    pub upgrades: u32,
    /// Why the last upgrade failed, if it was just before this daemon.
    pub upgrade_failure: Option<String>,
    /// Its home folder.
    pub home: PathBuf,
}

/// Keeps the bytes of the table of [`Changes`] for the next daemon. Called on the server's thread; when it returns,
/// the bytes must be beyond the reach of this daemon's death.
pub type Keep = Box<dyn FnMut(&[u8]) + Send>;

/// The server, before it runs.
pub struct Server {
    about: About,
    driver: Box<dyn Driver>,
    logs: Box<dyn LogFiles>,
    intake: Intake,
    changes: Changes,
    keep: Keep,
    probes: Option<TcpListener>,
}

impl Server {
    /// A server that hears through `intake`, the other end of the [`Feed`]. `changes` is what the daemon before this
    /// one left.
    pub fn new(
        about: About,
        driver: Box<dyn Driver>,
        logs: Box<dyn LogFiles>,
        intake: Intake,
        changes: Changes,
        keep: Keep,
    ) -> Self {
        Self { about, driver, logs, intake, changes, keep, probes: None }
    }

    /// Answers probes at this listener too.
    #[must_use]
    pub fn with_probes(mut self, listener: Option<TcpListener>) -> Self {
        self.probes = listener;
        self
    }

    /// Serves on `listener`, in a thread named `api`.
    ///
    /// # Errors
    /// The kernel refuses the thread, or what the runtime needs.
    pub fn spawn(self, listener: UnixListener) -> io::Result<Api> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(FILE_THREADS)
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::from_std(listener)?
        };
        let (close, closing) = watch::channel(false);
        let (done, ended) = std::sync::mpsc::channel();
        let work = move || {
            let outcome = runtime.block_on(self.run(listener, Closing(closing)));
            runtime.shutdown_background();
            // One who does not wait any more need not know.
            drop(done.send(outcome));
        };
        let thread = std::thread::Builder::new().name("api".into()).spawn(work)?;
        Ok(Api { close, ended, thread })
    }

    async fn run(self, listener: tokio::net::UnixListener, closing: Closing) -> io::Result<()> {
        let Intake { news, lines, replies, mut outcomes } = self.intake;
        let parts = Parts {
            about: self.about,
            driver: self.driver,
            logs: self.logs,
            news,
            lines,
            replies,
            table: self.changes,
            keep: self.keep,
            closing: closing.clone(),
        };
        let state = Arc::new(State::new(parts));
        let settled = state.clone();
        let mut end = closing.clone();
        tokio::select! {
            () = settled.settle(&mut outcomes) => (),
            () = end.wanted() => return Ok(()),
        }
        tokio::spawn(note_ends(state.clone(), outcomes));
        if let Some(listener) = self.probes {
            listener.set_nonblocking(true)?;
            tokio::spawn(probes::serve(tokio::net::TcpListener::from_std(listener)?, state.clone()));
        }
        listen::serve(listener, routes::router(state), closing).await
    }
}

async fn note_ends(state: Arc<State>, mut outcomes: mpsc::UnboundedReceiver<(ChangeId, ChangeOutcome)>) {
    state.note_ends(&mut outcomes).await;
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("about", &self.about).finish_non_exhaustive()
    }
}

/// The server while it runs. Dropping it ends the server, without waiting.
#[derive(Debug)]
pub struct Api {
    close: watch::Sender<bool>,
    ended: std::sync::mpsc::Receiver<io::Result<()>>,
    thread: JoinHandle<()>,
}

impl Api {
    /// Ends the server: no more requests are taken, streams end, and those who wait are answered. Clients that are
    /// not done with their answers within `patience` are left.
    ///
    /// # Errors
    /// The server had failed.
    pub fn close(self, patience: Duration) -> io::Result<()> {
        // Nobody listens when the server has ended by itself.
        self.close.send_replace(true);
        match self.ended.recv_timeout(patience) {
            Ok(outcome) => {
                drop(self.thread.join());
                outcome
            }
            Err(_) => Ok(()),
        }
    }
}
