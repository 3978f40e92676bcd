//! A fleet whose workers do at once what is asked of them, or wait until the test lets them; and a log that is
//! written by a thread of its own, as the daemon's is.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};

use oxherd::api::Snapshot;
use oxherd_core::{
    Action, AppId, ChangeId, Desired, Event, Exit, Fleet, InstanceId, Limits, Moment, Place, Refusal,
    Request, Slot, Span,
};
use oxherd_daemon::server::{Driver, Feed, LogFiles, LogPaths, Reply, SlotRecord};
use oxherd_engine::{AppReport, Bulletin, OutputLine, Report, Stream, Survey, WorkerReport};

/// What stands for the control thread: one at a time does anything to it.
pub(crate) struct Inner {
    fleet: Fleet,
    feed: Option<Feed>,
    now: u64,
    /// Workers become ready only when the test says so.
    pub(crate) slow: bool,
    waiting: Vec<InstanceId>,
    /// Wishes are taken in and never answered: the daemon dies over them.
    pub(crate) mute: bool,
    /// Nothing is taken in any more.
    pub(crate) dead: bool,
    pub(crate) requests: Vec<Request>,
    pub(crate) upgrades: Vec<Option<String>>,
    pub(crate) upgrade_error: Option<String>,
    pub(crate) reopened: u32,
    pub(crate) saved: Result<Desired, String>,
    /// What was sent to workers: signals and messages.
    pub(crate) sent: Vec<(InstanceId, String)>,
    pub(crate) snapshots: u32,
}

/// The herd; clones are the same.
#[derive(Clone)]
pub(crate) struct Herd {
    inner: Arc<Mutex<Inner>>,
    logs: Logs,
}

impl Herd {
    pub(crate) fn new(folder: PathBuf) -> Self {
        let inner = Inner {
            fleet: Fleet::new(Limits::default(), "boot", 0),
            feed: None,
            now: 1000,
            slow: false,
            waiting: Vec::new(),
            mute: false,
            dead: false,
            requests: Vec::new(),
            upgrades: Vec::new(),
            upgrade_error: None,
            reopened: 0,
            saved: Ok(Desired::default()),
            sent: Vec::new(),
            snapshots: 0,
        };
        Self { inner: Arc::new(Mutex::new(inner)), logs: Logs::new(folder) }
    }

    pub(crate) fn feed(&self, feed: Feed) {
        self.lock().feed = Some(feed);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn logs(&self) -> Logs {
        self.logs.clone()
    }

    /// Those that wait become ready.
    pub(crate) fn let_ready(&self) {
        let mut inner = self.lock();
        for instance in std::mem::take(&mut inner.waiting) {
            inner.become_ready(instance);
        }
        inner.run();
    }

    /// The oldest of those that wait ends instead.
    pub(crate) fn let_one_die(&self) {
        let mut inner = self.lock();
        let instance = inner.waiting.remove(0);
        inner.event(Event::Exited { instance, exit: Exit::Code(3) });
        inner.run();
    }

    /// Tells a notice that changes nothing.
    pub(crate) fn tell(&self, notice: oxherd_core::Notice) {
        let mut inner = self.lock();
        let bulletin = Bulletin { notice, pid: Some(7), at: Span::ZERO };
        inner.feed.as_mut().unwrap().bulletin(&bulletin);
    }

    /// A worker of an app writes a line.
    pub(crate) fn say(&self, name: &str, stream: Stream, bytes: &[u8]) {
        let mut inner = self.lock();
        let status = inner.fleet.status(Moment::from_millis(inner.now));
        let app = status.apps.iter().find(|app| app.name == name).unwrap();
        let place = Place {
            app: app.app,
            slot: Slot(0),
            generation: app.generation,
            instance: InstanceId { starts: 0, number: 1 },
        };
        inner.feed.as_mut().unwrap().output(&OutputLine {
            place,
            stream,
            bytes,
            goes_on: false,
            more: false,
        });
        self.logs.write(name, stream, bytes);
    }
}

impl Inner {
    fn event(&mut self, event: Event) {
        self.fleet.handle_event(event, Moment::from_millis(self.now));
    }

    fn become_ready(&mut self, instance: InstanceId) {
        self.event(Event::Online { instance });
        self.event(Event::Listening { instance, address: "127.0.0.1:3000".into() });
    }

    fn run(&mut self) {
        loop {
            self.tell();
            let Some(action) = self.fleet.poll_action() else { return };
            match action {
                Action::Spawn { place: Place { instance, .. }, .. } => {
                    self.event(Event::Spawned { instance });
                    if self.slow {
                        self.waiting.push(instance);
                    } else {
                        self.become_ready(instance);
                    }
                }
                Action::Probe { instance } => self.event(Event::Probed { instance }),
                Action::Withdraw { instance } => self.event(Event::Withdrawn { instance }),
                Action::Disconnect { instance, .. }
                | Action::Terminate { instance, .. }
                | Action::Kill { instance } => self.event(Event::Exited { instance, exit: Exit::Code(0) }),
                Action::CloseDoors { app } => self.event(Event::DoorsClosed { app }),
                Action::Admit { .. }
                | Action::Unpark { .. }
                | Action::Sweep { .. }
                | Action::CloseListeners { .. }
                | Action::RetireSlot { .. } => (),
            }
        }
    }

    fn tell(&mut self) {
        while let Some(notice) = self.fleet.poll_notice() {
            let bulletin = Bulletin { notice, pid: Some(42), at: Span::ZERO };
            if let Some(feed) = &mut self.feed {
                feed.bulletin(&bulletin);
            }
        }
    }

    fn survey(&self, asked: &[ChangeId]) -> Survey {
        let status = self.fleet.status(Moment::from_millis(self.now));
        let pending = asked.iter().copied().filter(|change| self.fleet.is_pending(*change)).collect();
        let specs =
            status.apps.iter().map(|app| (app.app, self.fleet.spec(app.app).unwrap().clone())).collect();
        let reports = status.apps.iter().map(|app| AppReport {
            app: app.app,
            name: app.name.clone(),
            workers: app.slots.iter().flat_map(|slot| &slot.instances).map(worker).collect(),
            active: 0,
            requests: 10,
            errors: 1,
            handed_over: 11,
        });
        let report = Report { run_time: Span::ZERO, primary_memory: 4096, apps: reports.collect() };
        Survey { report, status, specs, last_change: self.fleet.last_change(), pending }
    }
}

fn worker(status: &oxherd_core::InstanceStatus) -> WorkerReport {
    WorkerReport {
        worker: status.place.instance.worker_id(),
        slot: status.place.slot,
        pid: std::process::id(),
        status: status.status,
        requests: Some(5),
        errors: None,
        connections: Some(2),
        handed_over: 6,
        uptime: status.uptime,
        memory: Some(1 << 20),
    }
}

impl Driver for Herd {
    fn request(&self, request: Request, reply: Reply<Result<ChangeId, Refusal>>) {
        let mut inner = self.lock();
        if inner.dead {
            return;
        }
        inner.requests.push(request.clone());
        let now = Moment::from_millis(inner.now);
        let taken = inner.fleet.handle_request(request, now);
        inner.run();
        if !inner.mute {
            reply(taken);
        }
    }

    fn survey(&self, asked: Vec<ChangeId>, reply: Reply<Survey>) {
        let inner = self.lock();
        if !inner.dead {
            reply(inner.survey(&asked));
        }
    }

    fn upgrade(&self, program: Option<String>, reply: Reply<Result<(), String>>) {
        let mut inner = self.lock();
        inner.upgrades.push(program);
        reply(inner.upgrade_error.clone().map_or(Ok(()), Err));
    }

    fn reopen_logs(&self) {
        self.lock().reopened += 1;
    }

    fn signal(&self, worker: InstanceId, signal: i32, reply: Reply<std::io::Result<()>>) {
        self.lock().sent.push((worker, signal.to_string()));
        reply(Ok(()));
    }

    fn line(&self, worker: InstanceId, line: Vec<u8>, reply: Reply<std::io::Result<()>>) {
        self.lock().sent.push((worker, String::from_utf8(line).unwrap()));
        reply(Ok(()));
    }

    fn message(&self, worker: InstanceId, message: Vec<u8>) -> Result<(), String> {
        self.lock().sent.push((worker, String::from_utf8(message).unwrap()));
        Ok(())
    }

    fn slot(&self, app: AppId, slot: Slot) -> Option<SlotRecord> {
        let mut record = SlotRecord::default();
        record.number = 40 + slot.0;
        (app == FIRST).then_some(record)
    }

    fn reset(&self, _app: AppId, restarts: &[(Slot, u32)]) -> u32 {
        restarts.len() as u32
    }

    fn cron_at(&self, _app: AppId) -> Option<u64> {
        None
    }

    fn save(&self) -> Result<Snapshot, String> {
        self.lock().snapshots += 1;
        Ok(Snapshot { file: "/saved.json".into(), apps: 3 })
    }

    fn delete_save(&self) -> Result<Snapshot, String> {
        Err("cannot remove /saved.json: it is stuck".into())
    }

    fn saved(&self) -> Result<Desired, String> {
        self.lock().saved.clone()
    }

    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Log files that a thread writes.
#[derive(Clone)]
pub(crate) struct Logs {
    folder: PathBuf,
    queue: mpsc::Sender<Entry>,
    /// How many lines each app is said to have lost.
    dropped: Arc<Mutex<BTreeMap<String, u64>>>,
    pub(crate) flushed: Arc<Mutex<Vec<String>>>,
}

enum Entry {
    Line(PathBuf, Vec<u8>),
    Mark(Reply<()>),
}

impl Logs {
    fn new(folder: PathBuf) -> Self {
        let (queue, entries) = mpsc::channel();
        std::thread::spawn(move || write_all(&entries));
        Self { folder, queue, dropped: Arc::default(), flushed: Arc::default() }
    }

    pub(crate) fn write(&self, name: &str, stream: Stream, bytes: &[u8]) {
        let paths = self.paths(FIRST, name, None);
        let path = if stream == Stream::Stdout { paths.out } else { paths.err };
        self.queue.send(Entry::Line(path, [bytes, b"\n"].concat())).unwrap();
    }

    /// Returns when all that was written so far is in the files.
    pub(crate) fn settle(&self) {
        let (done, is_done) = mpsc::channel();
        self.written(Box::new(move |()| done.send(()).unwrap()));
        is_done.recv().unwrap();
    }

    pub(crate) fn lose(&self, name: &str, count: u64) {
        self.dropped.lock().unwrap().insert(name.into(), count);
    }
}

fn write_all(entries: &mpsc::Receiver<Entry>) {
    let mut files = HashMap::new();
    for entry in entries {
        match entry {
            Entry::Line(path, bytes) => {
                let open = || OpenOptions::new().append(true).create(true).open(&path).unwrap();
                files.entry(path.clone()).or_insert_with(open).write_all(&bytes).unwrap();
            }
            Entry::Mark(reply) => reply(()),
        }
    }
}

impl LogFiles for Logs {
    fn paths(&self, _app: AppId, name: &str, _slot: Option<Slot>) -> LogPaths {
        let path = |end| self.folder.join(format!("{name}-{end}.log"));
        LogPaths { out: path("out"), err: path("error"), both: None }
    }

    fn flush(&self, _app: AppId, name: &str, reply: Reply<Result<u32, String>>) {
        self.flushed.lock().unwrap().push(name.into());
        reply(Ok(2));
    }

    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }

    fn dropped_lines(&self, _app: AppId, name: &str) -> u64 {
        self.dropped.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    fn written(&self, reply: Reply<()>) {
        self.queue.send(Entry::Mark(reply)).unwrap();
    }
}

/// The id of the first app.
pub(crate) const FIRST: AppId = AppId(0);
