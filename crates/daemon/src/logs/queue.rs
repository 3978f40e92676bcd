//! The queue between the control thread and the thread that writes: piles of lines, cut by marks.
//!
//! Must never hold the lock while anything waits for the disk, and never hold more than its bounds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oxherd_core::{AppId, LogSpec, Place, Rotate, Slot};
use oxherd_os::clock::wall_millis;

use super::files::{self, FileId, Files, Source};
use super::names::{self, Stems};
use super::style::{About, Style};
use crate::server::{LogPaths, Reply};

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
    folder: PathBuf,
    apps: BTreeMap<AppId, App>,
    stems: Stems,
    files: Files,
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
    /// Whose beginnings of lines a daemon before this one has written, and which slot that is.
    begun: BTreeMap<Source, Slot>,
    is_reopening: bool,
    is_waiting: bool,
    stage: Stage,
    /// Files that cannot be written, and why.
    troubles: BTreeMap<Arc<Path>, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    Closing,
    Ended,
}

type Piles = BTreeMap<FileId, Pile>;

/// What the queue knows of an app.
#[derive(Default)]
struct App {
    name: Option<Arc<str>>,
    stem: Option<Arc<str>>,
    spec: LogSpec,
    style: Style,
    /// The numbers of its slots among all.
    numbers: BTreeMap<Slot, u32>,
    /// Found out once for each slot and stream.
    routes: BTreeMap<(Slot, usize), [Option<FileId>; 2]>,
    /// Until they are written.
    bytes: usize,
    /// Lines lost, in all.
    lost: u64,
    is_forgotten: bool,
}

/// What goes to a file, in order.
#[derive(Debug, Default)]
pub(super) struct Pile {
    pub(super) pieces: Vec<(AppId, Piece)>,
    pub(super) start: Start,
}

/// How a pile begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Start {
    /// Where the pile before it has ended.
    #[default]
    Next,
    /// On a line of its own, whatever the file ends with.
    Anew,
    /// With the rest of a line that a daemon before this one has begun.
    Rest,
}

#[derive(Debug)]
pub(super) enum Piece {
    /// Lines; the last one may go on in the next piece.
    Lines(Vec<u8>),
    /// The rest of a line: `joined` where the file ends with its beginning, and `alone` where that was ended.
    Rest { joined: Vec<u8>, alone: Vec<u8> },
    /// So many lines are missing here.
    Lost(u64),
}

impl Piece {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Lines(lines) => lines.len(),
            Self::Rest { joined, alone } => joined.len() + alone.len(),
            Self::Lost(_) => 0,
        }
    }
}

/// What ends a part of the queue.
pub(super) enum End {
    Mark(Reply<()>),
    Forget(AppId),
    /// Empties files.
    Flush(BTreeSet<PathBuf>, Reply<Result<u32, String>>),
}

/// A pile and where it goes.
pub(super) struct Job {
    pub(super) path: Arc<Path>,
    pub(super) rotate: Rotate,
    pub(super) pile: Pile,
}

impl Job {
    pub(super) fn bytes(&self) -> usize {
        self.pile.pieces.iter().map(|(_, piece)| piece.bytes()).sum()
    }
}

/// What the thread has to do next, in order.
pub(super) struct Work {
    pub(super) reopen: bool,
    pub(super) jobs: Vec<Job>,
    pub(super) end: Option<End>,
    /// There is no later.
    pub(super) is_closing: bool,
}

/// A line as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) place: Place,
    pub(super) stream: usize,
    pub(super) bytes: &'a [u8],
    /// It goes on with what this stream has brought last.
    pub(super) goes_on: bool,
    /// It goes on in the next one of this stream.
    pub(super) more: bool,
}

impl Shared {
    pub(super) fn new(folder: PathBuf) -> Self {
        let state = State { folder, ..State::default() };
        Self { state: Mutex::new(state), ..Self::default() }
    }

    pub(super) fn line(&self, line: Line<'_>) {
        self.change(|state| state.line(line));
    }

    /// This stream goes on with a line whose beginning a daemon before this one has written.
    pub(super) fn begun(&self, place: Place, stream: usize) {
        self.lock().begun.insert((place.app, place.instance, stream), place.slot);
    }

    /// Whether there is room for what one look at a worker brings, and more.
    pub(super) fn has_room(&self, app: AppId) -> bool {
        let state = self.lock();
        let app = state.apps.get(&app).map_or(0, |app| app.bytes);
        app <= APP_BYTES_MAX / 2 && state.bytes <= ALL_BYTES_MAX / 2
    }

    pub(super) fn know(&self, app: AppId, name: &str, spec: &LogSpec, numbers: BTreeMap<Slot, u32>) {
        self.lock().know(app, name, spec, numbers);
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
                let paths = state.all_paths(app);
                state.seal(End::Flush(paths, reply));
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

    pub(super) fn paths(&self, app: AppId, slot: Option<Slot>) -> LogPaths {
        let state = self.lock();
        match slot {
            Some(slot) => state.paths(app, slot),
            None => state.paths(app, Slot(0)),
        }
    }

    pub(super) fn lost_of(&self, app: AppId) -> u64 {
        self.lock().apps.get(&app).map_or(0, |app| app.lost)
    }

    /// What is wrong with files, in sentences.
    pub(super) fn troubles(&self) -> Vec<String> {
        self.lock().troubles.values().cloned().collect()
    }

    pub(super) fn trouble(&self, path: &Arc<Path>, what: Option<String>) {
        let mut state = self.lock();
        match what {
            Some(what) => drop(state.troubles.insert(Arc::clone(path), what)),
            None => drop(state.troubles.remove(path)),
        }
    }

    /// Whether lines go to the file, or may.
    pub(super) fn is_in_use(&self, path: &Path) -> bool {
        self.lock().files.is_known(path)
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
    fn line(&mut self, line: Line<'_>) {
        for file in self.route(line.place.app, line.place.slot, line.stream).into_iter().flatten() {
            self.push(file, line);
        }
        if !self.begun.is_empty() {
            self.begun.remove(&line.source());
        }
    }

    /// Whether a daemon before this one has written the beginning of a line of this source to the file, and of no
    /// other: of several nobody knows any more whose it is that the file ends with.
    fn has_begun_alone(&mut self, source: Source, file: FileId) -> bool {
        if !self.begun.contains_key(&source) {
            return false;
        }
        let others: Vec<_> =
            self.begun.iter().filter(|(it, _)| **it != source).map(|(it, slot)| (*it, *slot)).collect();
        others
            .into_iter()
            .all(|((app, _, stream), slot)| !self.route(app, slot, stream).contains(&Some(file)))
    }

    fn route(&mut self, id: AppId, slot: Slot, stream: usize) -> [Option<FileId>; 2] {
        if let Some(route) = self.apps.get(&id).and_then(|app| app.routes.get(&(slot, stream))) {
            return *route;
        }
        let targets = files::targets(self.paths(id, slot), stream);
        let app = self.apps.entry(id).or_default();
        let route = targets.map(|path| path.map(|path| self.files.at(path, &app.spec.rotate)));
        app.routes.insert((slot, stream), route);
        route
    }

    fn push(&mut self, id: FileId, line: Line<'_>) {
        let (place, source) = (line.place, line.source());
        let is_first = self.files.get(id).is_some_and(|file| file.is_fresh);
        let is_known_rest = is_first && line.goes_on && self.has_begun_alone(source, id);
        let (Some(app), Some(file)) = (self.apps.get_mut(&place.app), self.files.get(id)) else { return };
        let is_of_records = app.style.is_of_records();
        let is_only_an_end = line.is_only_an_end() && !is_of_records;
        if is_only_an_end && !is_first && file.midline != Some(source) {
            // Somebody else's line has ended it already.
            return;
        }
        let pile = self.open.entry(id).or_default();
        file.is_fresh = false;
        // What a date or a record adds is little, and counted with the next.
        let cost = line.bytes.len() + 1;
        let fits = app.bytes + cost <= APP_BYTES_MAX && self.bytes + cost <= ALL_BYTES_MAX;
        // A short line that fits where a long one did not would only make a note of every gap.
        let has_room = fits && (file.unsaid == 0 || file.unsaid_since < self.releases);
        if !has_room || self.stage != Stage::Open {
            (file.unsaid, file.unsaid_since) = (file.unsaid + 1, self.releases);
            file.midline = None;
            app.lost += 1;
            self.has_unsaid = true;
            return;
        }
        pile.tell_lost(place.app, mem::take(&mut file.unsaid));
        // That a line ends is true of whichever the file ends with.
        let is_rest = (is_known_rest || (is_first && is_only_an_end)) && !is_of_records;
        if is_first {
            pile.start = if is_rest { Start::Rest } else { Start::Anew };
        }
        let goes_on = file.midline == Some(source) && !is_of_records;
        let about = About {
            at_ms: wall_millis(),
            app: app.name.as_deref().unwrap_or_default(),
            number: app.numbers.get(&place.slot).copied(),
            stream: line.stream,
            goes_on,
            more: line.more,
        };
        let taken = if is_rest {
            let (mut joined, mut alone) = (Vec::new(), Vec::new());
            app.style.write(&mut joined, line.bytes, &About { goes_on: true, ..about });
            if !is_only_an_end {
                app.style.write(&mut alone, line.bytes, &about);
            }
            pile.rest(place.app, joined, alone)
        } else {
            let piece = pile.piece(place.app, cost);
            let before = piece.len();
            if file.midline.is_some() && !goes_on {
                piece.push(b'\n');
            }
            app.style.write(piece, line.bytes, &about);
            piece.len() - before
        };
        file.midline = (line.more && !is_of_records).then_some(source);
        app.bytes += taken;
        self.bytes += taken;
    }

    fn know(&mut self, id: AppId, name: &str, spec: &LogSpec, numbers: BTreeMap<Slot, u32>) {
        let app = self.apps.entry(id).or_default();
        let has_name = app.name.as_deref() == Some(name);
        if has_name && app.spec == *spec && app.numbers == numbers {
            return;
        }
        app.routes.clear();
        (app.style, app.spec, app.numbers) = (Style::new(spec), spec.clone(), numbers);
        if !has_name {
            let name: Arc<str> = name.into();
            let before = app.stem.take();
            app.stem = Some(self.stems.claim(id, &name));
            app.name = Some(name);
            self.free(before);
        }
        self.forget_files();
    }

    /// A file that nobody routes to is only known as long as something for it waits.
    fn forget_files(&mut self) {
        let routed = self.apps.values().flat_map(|app| app.routes.values().flatten().flatten());
        let piled = self.open.keys().chain(self.sealed.iter().flat_map(|(piles, _)| piles.keys()));
        let used = routed.chain(piled).copied().collect();
        self.files.keep_only(&used, |app| self.apps.contains_key(&app));
    }

    fn paths(&self, id: AppId, slot: Slot) -> LogPaths {
        let unknown = App::default();
        let app = self.apps.get(&id).unwrap_or(&unknown);
        let stem = app.stem.clone().unwrap_or_else(|| names::unknown(id));
        files::paths(&self.folder, &stem, &app.spec, app.numbers.get(&slot).copied())
    }

    fn all_paths(&self, id: AppId) -> BTreeSet<PathBuf> {
        let numbers = self.apps.get(&id).map(|app| app.numbers.keys().copied().collect::<Vec<_>>());
        let slots = numbers.into_iter().flatten().chain([Slot(0)]);
        let of_slot = |slot| {
            let [out, both] = files::targets(self.paths(id, slot), 0);
            [out, both].into_iter().chain(files::targets(self.paths(id, slot), 1)).flatten()
        };
        slots.flat_map(of_slot).collect()
    }

    fn free(&mut self, stem: Option<Arc<str>>) {
        if let Some(stem) = stem.filter(|stem| !self.apps.values().any(|app| app.stem.as_ref() == Some(stem)))
        {
            self.stems.free(&stem);
        }
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
        for (id, file) in self.files.iter_mut().filter(|(_, file)| file.unsaid > 0) {
            self.open.entry(*id).or_default().tell_lost(AppId(u32::MAX), mem::take(&mut file.unsaid));
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
        let mut jobs = Vec::new();
        for (id, pile) in piles {
            if let Some(file) = self.files.get(id) {
                jobs.push(Job { path: Arc::clone(&file.path), rotate: file.rotate.clone(), pile });
            }
        }
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
            self.begun.retain(|(app, ..), _| *app != id);
            self.free(stem);
            self.forget_files();
        }
    }
}

impl Line<'_> {
    fn source(&self) -> Source {
        (self.place.app, self.place.instance, self.stream)
    }

    fn is_only_an_end(&self) -> bool {
        self.goes_on && self.bytes.is_empty() && !self.more
    }
}

impl Pile {
    /// The piece that so many more bytes go to.
    fn piece(&mut self, app: AppId, bytes: usize) -> &mut Vec<u8> {
        let has_room = |(owner, piece): &(AppId, Piece)| match piece {
            Piece::Lines(lines) => *owner == app && lines.len() + bytes <= PIECE_BYTES,
            Piece::Rest { .. } | Piece::Lost(_) => false,
        };
        if !self.pieces.last().is_some_and(has_room) {
            self.pieces.push((app, Piece::Lines(Vec::with_capacity(bytes))));
        }
        match self.pieces.last_mut() {
            Some((_, Piece::Lines(lines))) => lines,
            _ => unreachable!("a piece of lines was just put there"),
        }
    }

    /// Takes the rest of a line; returns how many bytes that are.
    fn rest(&mut self, app: AppId, joined: Vec<u8>, alone: Vec<u8>) -> usize {
        let piece = Piece::Rest { joined, alone };
        let bytes = piece.bytes();
        self.pieces.push((app, piece));
        bytes
    }

    fn tell_lost(&mut self, app: AppId, lines: u64) {
        if lines > 0 {
            self.pieces.push((app, Piece::Lost(lines)));
        }
    }
}
