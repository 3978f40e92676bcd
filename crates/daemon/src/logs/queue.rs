//! What waits to be written: bounded, and shared by the control thread and the writer. It never touches a file.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oxherd_core::AppId;
use oxherd_engine::Stream;

use crate::server::Reply;

/// So much may wait for one app, in bytes.
pub(super) const APP_BYTES_MAX: usize = 1 << 20;
/// And for all.
pub(super) const ALL_BYTES_MAX: usize = 8 << 20;
/// So much is written in one go.
const BATCH_BYTES: usize = 256 << 10;

/// One file: an app's stream.
pub(super) type Place = (AppId, Kind);

/// A [`Stream`] that maps can be ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Out,
    Error,
}

impl From<Stream> for Kind {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Out,
            Stream::Stderr => Self::Error,
        }
    }
}

impl From<Kind> for Stream {
    fn from(stream: Kind) -> Self {
        match stream {
            Kind::Out => Self::Stdout,
            Kind::Error => Self::Stderr,
        }
    }
}

/// What the writer is to do next.
pub(super) enum Job {
    /// Whole lines for one file, each with its end; so many are missing before them.
    Write {
        place: Place,
        stem: String,
        bytes: Vec<u8>,
        lost: u64,
    },
    /// Everything handed over before is written.
    Mark(Reply<()>),
    Close(AppId),
    Reopen,
    /// Nothing came for so long.
    Idle,
    End,
}

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    came: Condvar,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

#[derive(Default)]
struct State {
    /// In the order they came; lines that follow each other into one file are one item.
    items: VecDeque<Item>,
    bytes: usize,
    by_app: BTreeMap<AppId, usize>,
    /// Lines that did not fit and that no file tells of yet.
    lost: BTreeMap<Place, u64>,
    /// All that were ever lost.
    dropped: BTreeMap<AppId, u64>,
    names: BTreeMap<AppId, String>,
    is_closed: bool,
}

enum Item {
    Lines { place: Place, bytes: Vec<u8> },
    Mark(Reply<()>),
    Close(AppId),
    Reopen,
}

impl Queue {
    pub(super) fn push(&self, app: AppId, stream: Stream, line: &[u8]) {
        let place = (app, Kind::from(stream));
        let mut state = self.lock();
        let size = line.len() + 1;
        let of_app = state.by_app.get(&app).copied().unwrap_or(0);
        if of_app + size > APP_BYTES_MAX || state.bytes + size > ALL_BYTES_MAX {
            *state.lost.entry(place).or_default() += 1;
            *state.dropped.entry(app).or_default() += 1;
            return;
        }
        state.bytes += size;
        *state.by_app.entry(app).or_default() += size;
        match state.items.back_mut() {
            Some(Item::Lines { place: last, bytes }) if *last == place && bytes.len() < BATCH_BYTES => {
                bytes.extend_from_slice(line);
                bytes.push(b'\n');
            }
            _ => {
                let mut bytes = Vec::with_capacity(size);
                bytes.extend_from_slice(line);
                bytes.push(b'\n');
                state.items.push_back(Item::Lines { place, bytes });
            }
        }
        drop(state);
        self.came.notify_one();
    }

    pub(super) fn know(&self, names: BTreeMap<AppId, String>) {
        self.lock().names.extend(names);
    }

    pub(super) fn forget(&self, app: AppId) {
        self.put(Item::Close(app));
    }

    pub(super) fn reopen(&self) {
        self.put(Item::Reopen);
    }

    pub(super) fn mark(&self, reply: Reply<()>) {
        self.put(Item::Mark(reply));
    }

    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.came.notify_one();
    }

    /// So many lines the writer could not write, nor say that `untold` were lost before.
    pub(super) fn add_lost(&self, place: Place, lines: u64, untold: u64) {
        let mut state = self.lock();
        *state.lost.entry(place).or_default() += lines + untold;
        *state.dropped.entry(place.0).or_default() += lines;
    }

    pub(super) fn dropped(&self, name: &str) -> u64 {
        let state = self.lock();
        let apps = state.names.iter().filter(|(_, known)| *known == name);
        apps.filter_map(|(app, _)| state.dropped.get(app)).sum()
    }

    /// What the files of an app of this name begin with.
    pub(super) fn stem_of(&self, name: &str) -> String {
        let state = self.lock();
        match state.names.iter().rev().find(|(_, known)| *known == name) {
            Some((app, _)) => state.stem(*app),
            None => fit(name),
        }
    }

    /// The next job, at the latest after `patience`.
    pub(super) fn next(&self, patience: Duration) -> Job {
        let state = self.lock();
        let waits = |state: &mut State| state.items.is_empty() && !state.is_closed;
        let (mut state, _) =
            self.came.wait_timeout_while(state, patience, waits).unwrap_or_else(PoisonError::into_inner);
        match state.items.pop_front() {
            Some(Item::Lines { place, bytes }) => state.job(place, bytes),
            Some(Item::Mark(reply)) => Job::Mark(reply),
            Some(Item::Close(app)) => Job::Close(app),
            Some(Item::Reopen) => Job::Reopen,
            None if state.is_closed => Job::End,
            None => Job::Idle,
        }
    }

    fn put(&self, item: Item) {
        self.lock().items.push_back(item);
        self.came.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn job(&mut self, place: Place, bytes: Vec<u8>) -> Job {
        self.bytes = self.bytes.saturating_sub(bytes.len());
        if let Some(of_app) = self.by_app.get_mut(&place.0) {
            *of_app = of_app.saturating_sub(bytes.len());
        }
        // What was lost came after what is written now, and is told with what comes next.
        let waits =
            self.items.iter().any(|item| matches!(item, Item::Lines { place: it, .. } if *it == place));
        let lost = if waits { 0 } else { self.lost.remove(&place).unwrap_or(0) };
        Job::Write { place, stem: self.stem(place.0), bytes, lost }
    }

    /// Names that look the same as files are told apart by the app's id.
    fn stem(&self, app: AppId) -> String {
        let Some(name) = self.names.get(&app) else { return format!("app-{}", app.0) };
        let stem = fit(name);
        let is_taken = self.names.iter().any(|(other, it)| *other < app && it != name && fit(it) == stem);
        if is_taken { format!("{stem}-{}", app.0) } else { stem }
    }
}

/// A name as a file may have it.
fn fit(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' };
    let fitting: String = name.chars().map(fits).collect();
    // No hidden file, and none that leads out of the folder.
    fitting.strip_prefix('.').map_or_else(|| fitting.clone(), |rest| format!("-{rest}"))
}
