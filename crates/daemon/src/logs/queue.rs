//! The queue between the control thread and the thread that writes: piles of whole lines, cut by marks.
//!
//! Must never hold the lock while anything waits for the disk, and never hold more than its bounds.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oxherd_core::AppId;

use super::names::{self, Stems};
use crate::server::Reply;

/// What an app's lines may take until they are written.
pub(super) const APP_BYTES_MAX: usize = 1 << 20;
/// What the lines of all apps may take until they are written.
pub(super) const ALL_BYTES_MAX: usize = 8 << 20;
/// When a piece is full: one write takes that much.
const PIECE_BYTES: usize = 128 << 10;
/// Marks that may wait; who sets more is not answered.
const MARKS_MAX: usize = 1024;

/// What both sides see.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// There is something to do.
    work: Condvar,
    /// The thread has ended.
    done: Condvar,
}

#[derive(Default)]
struct State {
    apps: BTreeMap<AppId, App>,
    stems: Stems,
    /// What came before the marks.
    sealed: VecDeque<(Piles, End)>,
    /// What came since the last mark.
    open: Piles,
    /// Of all apps, until they are written.
    bytes: usize,
    /// How often there was room again.
    releases: u64,
    /// There are lines lost that no pile tells of.
    has_unsaid: bool,
    is_reopening: bool,
    is_waiting: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    Closing,
    Ended,
}

type Piles = BTreeMap<(AppId, usize), Pile>;

/// What the queue knows of an app.
#[derive(Default)]
struct App {
    name: Option<Arc<str>>,
    stem: Option<Arc<str>>,
    /// Until they are written.
    bytes: usize,
    /// Lines lost, in all.
    lost: u64,
    unsaid: [Unsaid; 2],
    is_forgotten: bool,
}

/// Lines of a stream that were lost since the last one that was taken.
#[derive(Clone, Copy, Default)]
struct Unsaid {
    lines: u64,
    /// The last one was lost after that many releases: until the next there is no room either.
    since: u64,
}

/// Some of a stream, in order.
#[derive(Debug, Default)]
pub(super) struct Pile {
    pub(super) pieces: Vec<Piece>,
}

#[derive(Debug)]
pub(super) enum Piece {
    /// Whole lines.
    Lines(Vec<u8>),
    /// So many lines are missing here.
    Lost(u64),
}

/// What ends a part of the queue.
pub(super) enum End {
    Mark(Reply<()>),
    Forget(AppId),
    /// Empties the files of an app.
    Flush(AppId, Reply<Result<u32, String>>),
}

/// A pile and where it goes.
pub(super) struct Job {
    pub(super) app: AppId,
    pub(super) stream: usize,
    pub(super) stem: Arc<str>,
    pub(super) pile: Pile,
}

/// What the thread has to do next, in order.
pub(super) struct Work {
    pub(super) reopen: bool,
    pub(super) jobs: Vec<Job>,
    pub(super) end: Option<End>,
    /// There is no later.
    pub(super) is_closing: bool,
}

impl Shared {
    pub(super) fn line(&self, app: AppId, stream: usize, bytes: &[u8]) {
        self.change(|state| state.line(app, stream, bytes));
    }

    pub(super) fn know<'a>(&self, apps: impl Iterator<Item = (AppId, &'a str)>) {
        let mut state = self.lock();
        apps.for_each(|(app, name)| state.know(app, name));
    }

    pub(super) fn forget(&self, app: AppId) {
        self.change(|state| state.seal(End::Forget(app)));
    }

    pub(super) fn mark(&self, reply: Reply<()>) {
        self.change(|state| {
            if state.sealed.len() < MARKS_MAX && state.stage == Stage::Open {
                state.seal(End::Mark(reply));
            }
        });
    }

    pub(super) fn flush(&self, app: AppId, reply: Reply<Result<u32, String>>) {
        self.change(|state| {
            if state.sealed.len() < MARKS_MAX && state.stage == Stage::Open {
                state.seal(End::Flush(app, reply));
            }
        });
    }

    pub(super) fn reopen(&self) {
        self.change(|state| state.is_reopening = true);
    }

    pub(super) fn end(&self) {
        self.change(|state| {
            if state.stage == Stage::Open {
                state.stage = Stage::Closing;
            }
        });
    }

    pub(super) fn close(&self, timeout: Duration) -> bool {
        self.end();
        let going = |state: &mut State| state.stage != Stage::Ended;
        let waited = self.done.wait_timeout_while(self.lock(), timeout, going);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    pub(super) fn stem_of(&self, name: &str) -> String {
        let state = self.lock();
        let stem = state.named(name).find_map(|app| app.stem.as_deref());
        stem.map_or_else(|| names::plain(name), str::to_owned)
    }

    /// The stem of an app's files.
    pub(super) fn stem(&self, app: AppId) -> Arc<str> {
        self.lock().stem(app)
    }

    pub(super) fn lost_of(&self, name: &str) -> u64 {
        self.lock().named(name).map(|app| app.lost).sum()
    }

    /// What is to be done next, once there is something or `patience` is over; nothing at the end.
    pub(super) fn next(&self, patience: Option<Duration>) -> Option<Work> {
        let mut state = self.lock();
        if state.is_idle() {
            state.is_waiting = true;
            let idle = |state: &mut State| state.is_idle();
            state = match patience {
                Some(patience) => {
                    let waited = self.work.wait_timeout_while(state, patience, idle);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.work.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
            };
            state.is_waiting = false;
        }
        state.take()
    }

    /// So many bytes of an app are written or lost, and so many lines with them.
    pub(super) fn release(&self, app: AppId, bytes: usize, lost: u64) {
        self.lock().release(app, bytes, lost);
    }

    /// The app's lines are written.
    pub(super) fn forgotten(&self, app: AppId) {
        self.lock().forgotten(app);
    }

    /// The thread does nothing any more.
    pub(super) fn ended(&self) {
        self.lock().stage = Stage::Ended;
        self.done.notify_all();
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let is_waited_for = state.is_waiting;
        drop(state);
        if is_waited_for {
            self.work.notify_one();
        }
    }

    /// Nothing that is done under the lock panics half way, so that a panic elsewhere spoils nothing.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

impl State {
    fn line(&mut self, id: AppId, stream: usize, bytes: &[u8]) {
        let cost = bytes.len() + 1;
        let app = self.apps.entry(id).or_default();
        let unsaid = &mut app.unsaid[stream];
        let fits = app.bytes + cost <= APP_BYTES_MAX && self.bytes + cost <= ALL_BYTES_MAX;
        // A short line that fits where a long one did not would only make a note of every gap.
        let has_room = fits && (unsaid.lines == 0 || unsaid.since < self.releases);
        if !has_room || self.stage != Stage::Open {
            *unsaid = Unsaid { lines: unsaid.lines + 1, since: self.releases };
            app.lost += 1;
            self.has_unsaid = true;
            return;
        }
        app.bytes += cost;
        self.bytes += cost;
        let pile = self.open.entry((id, stream)).or_default();
        pile.tell_lost(mem::take(&mut unsaid.lines));
        pile.line(bytes);
    }

    fn know(&mut self, id: AppId, name: &str) {
        let app = self.apps.entry(id).or_default();
        if app.name.as_deref() == Some(name) {
            return;
        }
        let name: Arc<str> = name.into();
        let before = app.stem.take();
        app.stem = Some(self.stems.claim(id, &name));
        app.name = Some(name);
        self.free(before);
    }

    fn stem(&self, id: AppId) -> Arc<str> {
        self.apps.get(&id).and_then(|app| app.stem.clone()).unwrap_or_else(|| names::unknown(id))
    }

    fn free(&mut self, stem: Option<Arc<str>>) {
        if let Some(stem) = stem.filter(|stem| !self.apps.values().any(|app| app.stem.as_ref() == Some(stem)))
        {
            self.stems.free(&stem);
        }
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &App> {
        self.apps.values().filter(move |app| app.name.as_deref() == Some(name))
    }

    fn seal(&mut self, end: End) {
        self.tell_lost();
        let piles = mem::take(&mut self.open);
        self.sealed.push_back((piles, end));
    }

    /// Lines that were lost came after those that wait.
    fn tell_lost(&mut self) {
        if !mem::take(&mut self.has_unsaid) {
            return;
        }
        for (id, app) in &mut self.apps {
            for (stream, unsaid) in app.unsaid.iter_mut().enumerate().filter(|(_, unsaid)| unsaid.lines > 0) {
                self.open.entry((*id, stream)).or_default().tell_lost(mem::take(&mut unsaid.lines));
            }
        }
    }

    fn is_idle(&self) -> bool {
        let is_empty = self.sealed.is_empty() && self.open.is_empty() && !self.has_unsaid;
        is_empty && !self.is_reopening && self.stage == Stage::Open
    }

    fn take(&mut self) -> Option<Work> {
        let (piles, end) = match self.sealed.pop_front() {
            Some((piles, end)) => (piles, Some(end)),
            None => {
                self.tell_lost();
                (mem::take(&mut self.open), None)
            }
        };
        let is_closing = self.stage != Stage::Open;
        if is_closing && piles.is_empty() && end.is_none() {
            return None;
        }
        let job = |((app, stream), pile)| Job { app, stream, stem: self.stem(app), pile };
        let jobs = piles.into_iter().map(job).collect();
        Some(Work { reopen: mem::take(&mut self.is_reopening), jobs, end, is_closing })
    }

    fn release(&mut self, id: AppId, bytes: usize, lost: u64) {
        self.bytes -= bytes;
        self.releases += 1;
        if let Some(app) = self.apps.get_mut(&id) {
            app.bytes -= bytes;
            app.lost += lost;
            if app.is_forgotten {
                self.forgotten(id);
            }
        }
    }

    fn forgotten(&mut self, id: AppId) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        // What comes after the end still counts.
        app.is_forgotten = true;
        if app.bytes == 0 {
            let stem = self.apps.remove(&id).and_then(|app| app.stem);
            self.free(stem);
        }
    }
}

impl Pile {
    fn line(&mut self, bytes: &[u8]) {
        let piece = match self.pieces.last_mut() {
            Some(Piece::Lines(piece)) if piece.len() + bytes.len() < PIECE_BYTES => piece,
            Some(Piece::Lines(_) | Piece::Lost(_)) | None => {
                self.pieces.push(Piece::Lines(Vec::with_capacity(bytes.len() + 1)));
                match self.pieces.last_mut() {
                    Some(Piece::Lines(piece)) => piece,
                    Some(Piece::Lost(_)) | None => return,
                }
            }
        };
        piece.extend_from_slice(bytes);
        piece.push(b'\n');
    }

    fn tell_lost(&mut self, lines: u64) {
        if lines > 0 {
            self.pieces.push(Piece::Lost(lines));
        }
    }
}
