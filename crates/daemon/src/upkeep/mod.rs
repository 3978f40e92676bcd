//! What is done for apps beyond keeping them: reloads by the clock and by changed files, and files with pids.
//!
//! A thread of its own does it, because it waits for the disk. Whether an app runs is the core's: one that is stopped is
//! never touched from here.

mod clock;
mod glob;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use oxherd_core::{AppId, AppSpec, Desired, Request};
use oxherd_engine::{Bulletin, Handle};
use oxherd_os::watch::{FileChange, Watcher};

use self::clock::Clock;
use self::tree::Trees;
use crate::pidfiles::{self, Change, PidFiles};

/// How long it waits for the clock on the wall at most before it looks at it again: it may be set.
const LOOK: Duration = Duration::from_secs(10);
/// Changes of files that may wait; the kernel holds those beyond.
const CHANGES: usize = 64;

/// Tells people, a line at a time.
type Say = fn(String);

/// What the thread hears.
enum Word {
    Handle(Handle),
    Desired(Desired),
    PidFile(Change),
    Changes,
}

/// The way to the thread. Copies are the same.
#[derive(Clone)]
pub(crate) struct Upkeep {
    words: Sender<Word>,
    due: Arc<Mutex<BTreeMap<AppId, u64>>>,
    pid_files: Arc<Mutex<PidFiles>>,
}

impl Upkeep {
    /// Starts the thread. `say` is called on it. What the daemon writes into its `home` is no change of anybody's files.
    ///
    /// # Errors
    /// The kernel refuses the thread.
    pub(crate) fn start(home: &Path, say: Say) -> io::Result<Self> {
        let (words, heard) = channel();
        let due = Arc::default();
        let keeper = Caretaker {
            words: words.clone(),
            say,
            handle: None,
            apps: BTreeMap::new(),
            clock: Clock::default(),
            trees: Trees::beside(home),
            watching: None,
            due: Arc::clone(&due),
        };
        thread::Builder::new().name("upkeep".into()).spawn(move || keeper.run(&heard))?;
        Ok(Self { words, due, pid_files: Arc::default() })
    }

    /// How the thread reaches the primary.
    pub(crate) fn reach(&self, handle: Handle) {
        self.tell(Word::Handle(handle));
    }

    /// Learns what is wanted.
    pub(crate) fn know(&self, desired: &Desired) {
        let changes = self.pid_files.lock().unwrap_or_else(PoisonError::into_inner).know(desired);
        changes.into_iter().for_each(|change| self.tell(Word::PidFile(change)));
        self.tell(Word::Desired(desired.clone()));
    }

    /// Keeps the files with pids.
    pub(crate) fn hear(&self, bulletin: &Bulletin) {
        let Some(pid) = bulletin.pid else { return };
        let change =
            self.pid_files.lock().unwrap_or_else(PoisonError::into_inner).hear(&bulletin.notice, pid);
        change.into_iter().for_each(|change| self.tell(Word::PidFile(change)));
    }

    /// When the clock reloads the app next.
    pub(crate) fn due(&self, app: AppId) -> Option<u64> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).get(&app).copied()
    }

    fn tell(&self, word: Word) {
        // The thread ends with the daemon.
        drop(self.words.send(word));
    }
}

impl fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upkeep").finish_non_exhaustive()
    }
}

/// An app, as far as it matters here.
struct App {
    spec: AppSpec,
    up: bool,
}

/// Where changes of files come from.
struct Watching {
    watcher: Arc<Watcher>,
    changes: Receiver<Vec<FileChange>>,
}

/// The thread.
struct Caretaker {
    words: Sender<Word>,
    say: Say,
    handle: Option<Handle>,
    apps: BTreeMap<AppId, App>,
    clock: Clock,
    trees: Trees,
    watching: Option<Watching>,
    due: Arc<Mutex<BTreeMap<AppId, u64>>>,
}

impl Caretaker {
    fn run(mut self, heard: &Receiver<Word>) {
        loop {
            match heard.recv_timeout(self.patience()) {
                Ok(word) => self.on_word(word),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.on_time();
        }
    }

    fn patience(&self) -> Duration {
        let by_files = self.trees.due().map(|due| due.saturating_duration_since(Instant::now()));
        let by_clock = self.clock.wait().map(|wait| wait.min(LOOK));
        by_files.into_iter().chain(by_clock).min().unwrap_or(Duration::MAX)
    }

    fn on_word(&mut self, word: Word) {
        match word {
            Word::Handle(handle) => self.handle = Some(handle),
            Word::Desired(desired) => self.on_desired(desired),
            Word::PidFile(change) => self.on_pid_file(&change),
            Word::Changes => self.on_changes(),
        }
    }

    fn on_pid_file(&self, change: &Change) {
        match change {
            Change::Write { path, pid, is_sure } => {
                if let Err(error) = pidfiles::write(path, *pid, *is_sure) {
                    (self.say)(format!("Cannot write {}: {error}", path.display()));
                }
            }
            Change::Remove { path, pid } => pidfiles::remove(path, *pid),
        }
    }

    fn on_desired(&mut self, desired: Desired) {
        let apps: BTreeMap<AppId, App> =
            desired.apps.into_iter().map(|app| (app.app, App { spec: app.spec, up: app.up })).collect();
        self.apps = apps;
        for (id, why) in self.clock.plan(self.apps.iter().map(|(id, app)| (*id, app.cron()))) {
            let name = self.name(id);
            (self.say)(format!("{name} is not reloaded by the clock: {why}"));
        }
        self.publish();
        self.watch();
    }

    fn publish(&self) {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.due();
    }

    /// Sees to it that what apps want watched is.
    fn watch(&mut self) {
        let wanted: Vec<(AppId, &AppSpec)> = self
            .apps
            .iter()
            .filter(|(_, app)| app.up && app.spec.upkeep.watch.is_some())
            .map(|(id, app)| (*id, &app.spec))
            .collect();
        if wanted.is_empty() && self.watching.is_none() {
            return;
        }
        let watcher = match &self.watching {
            Some(watching) => Arc::clone(&watching.watcher),
            None => match begin_watching(self.words.clone()) {
                Ok(watching) => Arc::clone(&self.watching.insert(watching).watcher),
                Err(error) => return (self.say)(format!("Cannot watch files: {error}")),
            },
        };
        for (app, path, error) in self.trees.want(&watcher, &wanted) {
            let name = self.name(app);
            (self.say)(format!("Cannot watch {} for {name}: {error}{}", path.display(), way_out(&error)));
        }
    }

    fn on_changes(&mut self) {
        let Some(watching) = &self.watching else { return };
        while let Ok(changes) = watching.changes.try_recv() {
            self.trees.hear(&watching.watcher, &changes);
        }
    }

    fn on_time(&mut self) {
        for (app, what) in self.trees.take_due(Instant::now()) {
            self.reload(app, &format!("{} has changed", what.display()));
        }
        let due = self.clock.take_due();
        if !due.is_empty() {
            for (app, expression) in due {
                self.reload(app, &format!("the clock says so ({expression})"));
            }
            self.publish();
        }
    }

    /// Only an app that runs is reloaded.
    fn reload(&self, id: AppId, why: &str) {
        let (Some(handle), Some(app)) = (&self.handle, self.apps.get(&id)) else { return };
        if !app.up {
            return;
        }
        let (say, name) = (self.say, app.spec.name.clone());
        say(format!("{name} is reloaded: {why}"));
        handle.request(Request::Reload { app: id, spec: None }, move |taken| {
            if let Err(refusal) = taken {
                say(format!("{name} is not reloaded: {refusal}"));
            }
        });
    }

    fn name(&self, app: AppId) -> String {
        self.apps.get(&app).map_or_else(|| format!("App {}", app.0), |app| app.spec.name.clone())
    }
}

impl App {
    /// Nothing while it is stopped: a reload by the clock starts no app.
    fn cron(&self) -> Option<&str> {
        self.spec.upkeep.cron.as_deref().filter(|_| self.up)
    }
}

/// Reads changes on a thread of its own, for as long as the daemon lives.
fn begin_watching(words: Sender<Word>) -> io::Result<Watching> {
    let watcher = Arc::new(Watcher::open()?);
    let (told, changes): (SyncSender<Vec<FileChange>>, _) = sync_channel(CHANGES);
    let source = Arc::clone(&watcher);
    thread::Builder::new().name("watch".into()).spawn(move || {
        while let Ok(changes) = source.read() {
            // A full queue holds it up, and then the kernel's queue fills, which is told.
            if told.send(changes).is_err() || words.send(Word::Changes).is_err() {
                return;
            }
        }
    })?;
    Ok(Watching { watcher, changes })
}

fn way_out(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        // ENOSPC
        Some(28) => " (raise fs.inotify.max_user_watches, or watch less)",
        _ => "",
    }
}
