//! Output of workers, written to files line by line.
//!
//! The control thread hands lines over and never waits; one thread writes them. What does not fit between the two is
//! dropped and counted, and the file says so. Must never grow with what workers write, nor cut a line.

mod queue;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use oxherd_core::AppId;
use oxherd_engine::Stream;

use self::queue::Queue;
use crate::home::Home;
use crate::server::{LogFiles, Reply};

/// The log files of all apps.
#[derive(Clone, Debug)]
pub struct Logs {
    folder: PathBuf,
    queue: Arc<Queue>,
    ended: Arc<Mutex<Option<Ended>>>,
}

#[derive(Debug)]
struct Ended {
    thread: JoinHandle<()>,
    done: mpsc::Receiver<()>,
}

impl Logs {
    /// Starts the thread that writes into the home's folder for logs. `alert` is called on it, once when writing fails
    /// and once when it works again.
    ///
    /// # Errors
    /// The kernel refuses the thread.
    pub fn start(home: &Home, alert: impl Fn(String) + Send + 'static) -> io::Result<Self> {
        Self::in_folder(home.logs(), alert)
    }

    fn in_folder(folder: PathBuf, alert: impl Fn(String) + Send + 'static) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let (done, ended) = mpsc::channel();
        let (work, into) = (Arc::clone(&queue), folder.clone());
        let thread = std::thread::Builder::new().name("logs".into()).spawn(move || {
            writer::run(&work, &into, &alert);
            // Nobody waits when the daemon dies.
            let _unheard = done.send(());
        })?;
        Ok(Self { folder, queue, ended: Arc::new(Mutex::new(Some(Ended { thread, done: ended }))) })
    }

    /// Hands a line over, without its end. It is dropped and counted when too much waits.
    pub fn line(&self, app: AppId, stream: Stream, bytes: &[u8]) {
        self.queue.push(app, stream, bytes);
    }

    /// What the apps are called.
    pub fn know<'a>(&self, names: impl Iterator<Item = (AppId, &'a str)>) {
        self.queue.know(names.map(|(app, name)| (app, name.to_owned())).collect());
    }

    /// The app is no more: its files are closed once all is written.
    pub fn forget(&self, app: AppId) {
        self.queue.forget(app);
    }

    /// Opens all files anew with their next lines: somebody has moved them away.
    pub fn reopen(&self) {
        self.queue.reopen();
    }

    /// Writes what is left, for as long as `timeout`, and ends the thread.
    pub fn close(&self, timeout: Duration) {
        self.queue.close();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Ended { thread, done }) = ended else { return };
        if done.recv_timeout(timeout).is_ok() {
            // It has nothing left to do but to end.
            drop(thread.join());
        }
    }
}

impl LogFiles for Logs {
    fn paths(&self, name: &str) -> (PathBuf, PathBuf) {
        let stem = self.queue.stem_of(name);
        (path(&self.folder, &stem, Stream::Stdout), path(&self.folder, &stem, Stream::Stderr))
    }

    fn dropped_lines(&self, name: &str) -> u64 {
        self.queue.dropped(name)
    }

    fn written(&self, reply: Reply<()>) {
        self.queue.mark(reply);
    }
}

/// The file of one stream, named as PM2 names it.
fn path(folder: &Path, stem: &str, stream: Stream) -> PathBuf {
    let kind = match stream {
        Stream::Stdout => "out",
        Stream::Stderr => "error",
    };
    folder.join(format!("{stem}-{kind}.log"))
}

#[cfg(test)]
mod tests;
