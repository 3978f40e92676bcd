//! What the server needs of the rest of the daemon. Traits only: the server never reaches past them.

use std::io;
use std::path::PathBuf;

use oxherd::api::Snapshot;
use oxherd_core::{AppId, ChangeId, Desired, InstanceId, Refusal, Request, Slot};
use oxherd_engine::Survey;

use crate::ledger::SlotRecord;

/// Takes an answer, on whatever thread has it: it hands the answer on and returns.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// Who carries the wishes out: the primary, and the daemon around it.
///
/// Called on the server's thread. None of it may wait, but for [`saved`](Self::saved); a reply that is dropped
/// uncalled means that the primary has ended.
pub trait Driver: Send + Sync + 'static {
    /// Makes a wish. `reply` is called once what was accepted is kept for the next daemon.
    fn request(&self, request: Request, reply: Reply<Result<ChangeId, Refusal>>);

    /// Asks what the primary looks like and which of the changes `asked` are still under way. `reply` is called on
    /// the thread that feeds the [`Feed`](super::Feed), between two pieces of news.
    fn survey(&self, asked: Vec<ChangeId>, reply: Reply<Survey>);

    /// Goes on as another program. The answer may come too late to be heard.
    fn upgrade(&self, program: Option<String>, reply: Reply<Result<(), String>>);

    /// Opens the log files anew, because somebody has moved them away.
    fn reopen_logs(&self);

    /// Sends a signal to one worker's process; `NotFound` when it has ended.
    fn signal(&self, worker: InstanceId, signal: i32, reply: Reply<io::Result<()>>);

    /// Writes a line to one worker's standard input, its end behind it; `NotFound` when the worker has ended.
    fn line(&self, worker: InstanceId, line: Vec<u8>, reply: Reply<io::Result<()>>);

    /// Sends a message, one JSON value, over one worker's channel.
    ///
    /// # Errors
    /// Too much waits to be sent.
    fn message(&self, worker: InstanceId, message: Vec<u8>) -> Result<(), String>;

    /// What is remembered of a slot.
    fn slot(&self, app: AppId, slot: Slot) -> Option<SlotRecord>;

    /// Counts anew for an app's slots, which were filled again so often. Returns how many there are.
    fn reset(&self, app: AppId, restarts: &[(Slot, u32)]) -> u32;

    /// When the app is reloaded by the clock next, in milliseconds since the Unix epoch.
    fn cron_at(&self, app: AppId) -> Option<u64>;

    /// Saves what is wanted as a snapshot. May write files.
    ///
    /// # Errors
    /// It cannot be saved; the text names the file, the cause and the way out.
    fn save(&self) -> Result<Snapshot, String>;

    /// Removes the snapshot. May write files.
    ///
    /// # Errors
    /// As with [`save`](Self::save).
    fn delete_save(&self) -> Result<Snapshot, String>;

    /// What was saved to the home folder. May read files.
    ///
    /// # Errors
    /// It cannot be read; the text names the file, the cause and the way out.
    fn saved(&self) -> Result<Desired, String>;

    /// What is wrong with the saved state, in sentences.
    fn troubles(&self) -> Vec<String>;

    /// Has a thread of the primary panic, where there is one to panic.
    #[cfg(debug_assertions)]
    fn panic(&self, _culprit: oxherd_engine::Culprit) {}
}

/// The files that output goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPaths {
    /// Of standard output.
    pub out: PathBuf,
    /// Of standard error.
    pub err: PathBuf,
    /// Of both.
    pub both: Option<PathBuf>,
}

/// Where the output of workers goes.
pub trait LogFiles: Send + Sync + 'static {
    /// The files of a slot, or of the first one. Called on the server's thread, as [`Self::dropped_lines`] is.
    fn paths(&self, app: AppId, name: &str, slot: Option<Slot>) -> LogPaths;

    /// Empties the files of an app; `reply` gets how many. What was handed over before is lost with the rest.
    fn flush(&self, app: AppId, name: &str, reply: Reply<Result<u32, String>>);

    /// How many lines of an app were lost because the disk was too slow or full.
    fn dropped_lines(&self, app: AppId, name: &str) -> u64;

    /// What is wrong with files, in sentences.
    fn troubles(&self) -> Vec<String>;

    /// Calls `reply` once every line that was handed over before this call is in its file, or lost, and before any
    /// line that is handed over later is. Called on the control thread: it only leaves a mark in the queue.
    fn written(&self, reply: Reply<()>);
}
