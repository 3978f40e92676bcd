//! Output of workers, written to files line by line: `<home>/logs/<name>-out.log` and `<name>-error.log`, or where and
//! how the app's configuration says.
//!
//! The control thread leaves lines in a queue that is bounded, and a thread of its own writes them. Must never let
//! the disk hold up anybody else, never tear a line, and never lose one without counting it.

pub(crate) mod attic;
mod file;
mod files;
mod moment;
mod names;
mod queue;
mod style;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use oxherd_core::{AppId, LogSpec, Place, Slot};
use oxherd_engine::{OutputLine, Stream};

use self::file::Pace;
use self::queue::{Line, Shared};
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
        let shared = Arc::new(Shared::new(folder.clone()));
        let writer = Writer::new(Arc::clone(&shared), pace, Box::new(alert));
        thread::Builder::new().name("logs".into()).spawn(|| writer.run())?;
        Ok(Self { ours: Arc::new(Ours { folder, shared }) })
    }

    /// Takes a line, or loses and counts it where the disk is too far behind. Never waits for the disk.
    pub fn line(&self, line: &OutputLine<'_>) {
        let OutputLine { place, stream, bytes, goes_on, more } = *line;
        self.ours.shared.line(Line { place, stream: index(stream), bytes, goes_on, more });
    }

    /// The next line of this stream is the rest of one whose beginning a daemon before this one has taken. To be said of
    /// all of them before their lines come: only together they tell whose line a file ends with.
    pub fn begun(&self, place: Place, stream: Stream) {
        self.ours.shared.begun(place, index(stream));
    }

    /// Whether lines of the app can be taken in a heap.
    pub fn has_room(&self, app: AppId) -> bool {
        self.ours.shared.has_room(app)
    }

    /// Learns what an app is called, where its lines go, and the numbers of its slots. Lines of others go to
    /// `app-<id>`; one that is known stays known until it is forgotten.
    pub fn know(&self, app: AppId, name: &str, spec: &LogSpec, numbers: BTreeMap<Slot, u32>) {
        self.ours.shared.know(app, name, spec, numbers);
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
    fn paths(&self, app: AppId, _name: &str, slot: Option<Slot>) -> LogPaths {
        self.ours.shared.paths(app, slot)
    }

    fn flush(&self, app: AppId, _name: &str, reply: Reply<Result<u32, String>>) {
        self.ours.shared.flush(app, reply);
    }

    fn dropped_lines(&self, app: AppId, _name: &str) -> u64 {
        self.ours.shared.lost_of(app)
    }

    fn troubles(&self) -> Vec<String> {
        self.ours.shared.troubles()
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

/// A moment in the language of moment.js, in local time; by no format, as `2026-11-23T22:04:05.123Z`.
pub fn show_moment(format: Option<&str>, at_ms: u64) -> String {
    style::show(format.map(moment::Format::new).as_ref(), at_ms)
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
