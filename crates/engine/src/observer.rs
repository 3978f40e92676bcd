//! How an embedder hears of what happens. Observers are called on the control thread and must never block it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oxherd_core::{AppId, Notice, Place, Span};
use serde::{Deserialize, Serialize};

use crate::{Permit, Report};

/// Hears of everything that happens. Called on the control thread: hand things on and return.
pub trait Observer {
    /// Something happened to an app or a worker.
    fn bulletin(&mut self, bulletin: &Bulletin);
    /// A worker wrote a line.
    fn output(&mut self, line: &OutputLine<'_>);
    /// The primary is about to be replaced on purpose: waits until the lines that it was given are where they go, so far as
    /// that takes no longer than `patience`.
    fn settle(&mut self, patience: Duration) {
        let _ = patience;
    }
    /// The next line of this stream is the rest of one whose beginning the primary before this one has handed on. Told of
    /// all of them before any line.
    fn begun(&mut self, place: Place, stream: Stream) {
        let _ = (place, stream);
    }
    /// Whether output of this app's workers can be taken at the moment. While it cannot, and for two seconds at most, it
    /// is left in their pipes; from then on it is read nevertheless, until there was room again.
    fn has_room(&mut self, app: AppId) -> bool {
        let _ = app;
        true
    }
    /// The status report is due.
    fn report(&mut self, report: &Report);
    /// The primary itself met a condition that people should know of.
    fn alert(&mut self, alert: &Alert);
    /// A worker sent a message of its program's own, conventions included. In order with the bulletins of its app.
    fn message(&mut self, message: WorkerMessage) {
        drop(message);
    }
    /// The channel of a worker is at its end. Told once for each that had one, before its exit.
    fn disconnected(&mut self, place: Place) {
        let _ = place;
    }
    /// With an ear, [`message`](Self::message) is called whenever it is open. Asked once, when the primary is made.
    fn ear(&self) -> Option<Ear> {
        None
    }
    /// A signal asks for log files to be opened anew (`SIGUSR2`, as logrotate's scripts send it).
    fn reopen_logs(&mut self) {}
    /// What is wanted may have changed. Told after every accepted wish and whenever one has come true.
    fn desired(&mut self, desired: oxherd_core::Desired) {
        drop(desired);
    }
    /// Whether [`desired`](Self::desired) is worth its making.
    fn wants_desired(&self) -> bool {
        false
    }
}

/// Whether anybody hears messages at the moment: those that nobody hears are not worth their making. Copies are the
/// same ear.
#[derive(Clone, Debug, Default)]
pub struct Ear(Arc<AtomicBool>);

impl Ear {
    /// From now on messages are heard.
    pub fn open(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// From now on nobody hears any.
    pub fn close(&self) {
        self.0.store(false, Ordering::Release);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A piece of news with what only the engine knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bulletin {
    /// The news.
    pub notice: Notice,
    /// The process that it is about.
    pub pid: Option<u32>,
    /// How long the primary has run.
    pub at: Span,
}

/// What a worker's program sent over its channel.
#[derive(Debug)]
pub struct WorkerMessage {
    /// Who sent it.
    pub place: Place,
    /// One JSON value, as it was written.
    pub raw: Vec<u8>,
    /// The descriptor that rode on it.
    pub attachment: Option<OwnedFd>,
    /// The room that it takes up, of 16 MiB for all messages. To be kept as long as the message is: while there is no
    /// room, messages are lost, which is [told](Alert::MessagesLost).
    pub permit: Permit,
}

/// One of a worker's output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// A line that a worker wrote, without its newline. Lines longer than 64 KiB come in pieces, whole characters each
/// where they are UTF-8, and so do those that are not ended a second after they were begun: a prompt, a row of dots.
#[derive(Clone, Copy, Debug)]
pub struct OutputLine<'a> {
    /// Who wrote it.
    pub place: Place,
    /// On which stream.
    pub stream: Stream,
    /// The bytes as they were written: any encoding.
    pub bytes: &'a [u8],
    /// It goes on where the last piece of this instance and stream has ended.
    pub goes_on: bool,
    /// The line goes on in the next piece of this stream.
    pub more: bool,
}

/// A condition of the primary itself. Each is told once until it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "alert", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are named after what they hold")]
pub enum Alert {
    /// The primary is at its limit of open files and accepts nothing until some are free.
    OutOfFds { limit: u64 },
    /// Files are free again.
    FdsFree,
    /// A worker wanted to listen and the primary could not.
    CannotListen { app: AppId, address: String, error: String },
    /// The kernel refuses the program that a listener's strategy needs: connections are spread evenly. Told once per
    /// listener.
    CannotSteer { app: AppId, address: String, why: String },
    /// The workers of an app cannot be lent sockets: each binds its own. Told once per app.
    CannotLend { app: String, why: String },
    /// A worker does not read its channel; messages to it are dropped.
    MessagesDropped { place: Place, count: u64 },
    /// Messages of a worker came faster than they were taken here; so many are lost.
    MessagesLost { place: Place, count: u64 },
    /// A worker holds more memory than the level at which people are told, both in bytes. Told once per crossing.
    MemoryAbove { place: Place, pid: u32, bytes: u64, limit: u64 },
    /// A thread worker does not stop: it is left to itself, and its slot is filled again.
    ThreadAbandoned { place: Place, why: String },
    /// A request that came in by a signal was refused.
    Refused { what: String, why: String },
    /// What the primary before this one left could not be used.
    EstateRefused { why: String },
    /// The herd was taken over from a primary that ended: so many workers go on, so many connections were saved.
    TakenOver { workers: u32, connections: u32, trusted: bool },
    /// The one who held the processes is gone; another holds them, and every app is reloaded on to it.
    KeeperReplaced,
    /// The one who held the processes is gone, and with it whoever wanted this herd in the foreground: it stops.
    Abandoned,
    /// The one who held the processes is gone, and there is no other yet.
    KeeperLost { why: String },
}

impl Alert {
    /// The app that it is about, where it does not name it itself.
    pub fn app(&self) -> Option<AppId> {
        match self {
            Self::CannotListen { app, .. } | Self::CannotSteer { app, .. } => Some(*app),
            Self::MessagesDropped { place, .. }
            | Self::MessagesLost { place, .. }
            | Self::MemoryAbove { place, .. }
            | Self::ThreadAbandoned { place, .. } => Some(place.app),
            Self::OutOfFds { .. }
            | Self::FdsFree
            | Self::CannotLend { .. }
            | Self::Refused { .. }
            | Self::EstateRefused { .. }
            | Self::TakenOver { .. }
            | Self::KeeperReplaced
            | Self::Abandoned
            | Self::KeeperLost { .. } => None,
        }
    }
}
