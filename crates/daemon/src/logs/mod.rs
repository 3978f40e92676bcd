//! Output of workers, written to files line by line: `<home>/logs/<name>-out.log` and `<name>-error.log`.
//!
//! The control thread leaves lines in a queue that is bounded, and a thread of its own writes them. Must never let
//! the disk hold up anybody else, never tear a line, and never lose one without counting it.

mod file;
mod names;
mod queue;
mod writer;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use oxherd_core::{AppId, Slot};
use oxherd_engine::Stream;

use self::file::Pace;
use self::queue::Shared;
use self::writer::Writer;
use crate::home::Home;
use crate::server::{LogFiles, LogPaths, Reply};

/// The log files of all apps. Copies are the same logs; the last one to go ends the writing.
#[derive(Clone)]
pub struct Logs {
    ours: Arc<Ours>,
}

struct Ours {
    folder: PathBuf,
    shared: Arc<Shared>,
}

impl Logs {
    /// Starts the thread that writes. `alert` is called on it, once when writing fails and once when it works again.
    ///
    /// # Errors
    /// The kernel refuses the thread.
    pub fn start(home: &Home, alert: impl Fn(String) + Send + 'static) -> io::Result<Self> {
        Self::start_at(home.logs(), Pace::default(), alert)
    }

    fn start_at(folder: PathBuf, pace: Pace, alert: impl Fn(String) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(Arc::clone(&shared), folder.clone(), pace, Box::new(alert));
        thread::Builder::new().name("logs".into()).spawn(|| writer.run())?;
        Ok(Self { ours: Arc::new(Ours { folder, shared }) })
    }

    /// Takes a line, given without its newline, or loses and counts it where the disk is too far behind. Never waits
    /// for the disk.
    pub fn line(&self, app: AppId, stream: Stream, bytes: &[u8]) {
        self.ours.shared.line(app, index(stream), bytes);
    }

    /// Learns what the apps are called. Lines of others go to `app-<id>`; those that are known stay known until they
    /// are forgotten.
    pub fn know<'a>(&self, apps: impl Iterator<Item = (AppId, &'a str)>) {
        self.ours.shared.know(apps);
    }

    /// Closes the files of an app that is no more, once its lines are written.
    pub fn forget(&self, app: AppId) {
        self.ours.shared.forget(app);
    }

    /// Opens all files anew, because somebody has moved them away.
    pub fn reopen(&self) {
        self.ours.shared.reopen();
    }

    /// Writes what is left and ends the thread; `false` if that takes longer. Later lines are lost.
    pub fn close(&self, timeout: Duration) -> bool {
        self.ours.shared.close(timeout)
    }
}

impl LogFiles for Logs {
    fn paths(&self, _app: AppId, name: &str, _slot: Option<Slot>) -> LogPaths {
        let stem = self.ours.shared.stem_of(name);
        let path = |stream| self.ours.folder.join(names::file_name(&stem, stream));
        LogPaths { out: path(index(Stream::Stdout)), err: path(index(Stream::Stderr)), both: None }
    }

    fn flush(&self, app: AppId, _name: &str, reply: Reply<Result<u32, String>>) {
        self.ours.shared.flush(app, reply);
    }

    fn dropped_lines(&self, name: &str) -> u64 {
        self.ours.shared.lost_of(name)
    }

    fn written(&self, reply: Reply<()>) {
        self.ours.shared.mark(reply);
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("folder", &self.ours.folder).finish_non_exhaustive()
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.shared.end();
    }
}

/// A stream as a place in an array.
fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

#[cfg(test)]
mod tests;
