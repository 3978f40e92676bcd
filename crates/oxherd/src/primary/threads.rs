//! Workers that are threads of this process.
//!
//! To the engine a thread is a process that dies of nothing but itself: it has a channel, and a pipe in place of the
//! pidfd, which ends with it. No signal is ever sent here, because it would reach the whole process. A thread cannot
//! be killed either: what it does is dropped the next time it waits, and one that never does is left to itself.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, PipeWriter, pipe};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use oxherd_engine::Alert;
use oxherd_engine::core::{ImageRef, Label, Place, SpawnFailure};
use oxherd_engine::host::{HeirRef, ProcessHost, Stash};
use oxherd_os::{ChannelEnds, Child, ExitStatus, Lending, SpawnSpec, Spawned, proc};
use oxherd_wire::Serialization;
use tokio::sync::Notify;

use super::run::Job;
use super::shared::lock;
use crate::Worker;
use crate::worker::{Identity, MODE, set_thread_worker};

/// How long a killed thread may take to notice.
const KILL_GRACE: Duration = Duration::from_millis(250);
/// What a process exits with that has panicked.
const PANICKED: i32 = 101;
/// What a thread that was killed counts as ended by.
const KILLED: ExitStatus = ExitStatus::Signal { signal: SIGKILL, core_dumped: false };
const SIGKILL: i32 = 9;

/// Starts threads, and knows how they ended.
pub(super) struct ThreadHost {
    job: Job,
    primary: String,
    lives: BTreeMap<String, Arc<Life>>,
    alerts: Vec<Alert>,
}

/// One thread, as both sides know it.
#[derive(Debug)]
struct Life {
    place: Place,
    state: Mutex<State>,
    ended: Condvar,
    killed: Notify,
}

#[derive(Debug)]
struct State {
    /// Its worker, once it runs and until it has ended.
    worker: Option<Worker>,
    exit: Option<ExitStatus>,
    /// Dropped when it has ended, or is left to itself.
    mark: Option<PipeWriter>,
    is_killed: bool,
    /// Why it was left to itself, until that is told.
    abandoned: Option<&'static str>,
}

impl ThreadHost {
    pub(super) fn new(job: Job) -> Self {
        // All connections of all workers are this process's. Where the limit stays, it is reached earlier.
        drop(proc::raise_fd_limit());
        let primary = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        Self { job, primary, lives: BTreeMap::new(), alerts: Vec::new() }
    }

    fn life(&self, child: &Child) -> Option<&Arc<Life>> {
        self.lives.get(child.label())
    }

    fn start(&mut self, spec: &SpawnSpec) -> io::Result<Spawned> {
        let place = place_in(&spec.label).ok_or(io::ErrorKind::InvalidInput)?;
        let ChannelEnds { primary, worker } = ChannelEnds::new()?;
        let own_end = worker.try_clone()?;
        let (end, mark) = pipe()?;
        let life = Arc::new(Life::new(place, mark));
        let (job, living) = (self.job.clone(), Arc::clone(&life));
        let serialization = serialization_in(spec);
        let body = move || living.live(&job, own_end, serialization);
        thread::Builder::new().name(format!("worker-{}", place.slot.0)).spawn(body)?;
        self.lives.insert(spec.label.clone(), life);
        Ok(Spawned {
            child: Child::stand_in(std::process::id(), end.into(), &spec.label),
            channel: Some(ChannelEnds { primary, worker }),
            lending: Lending::Off,
            stdin: None,
            stdout: None,
            stderr: None,
        })
    }
}

impl ProcessHost for ThreadHost {
    fn primary(&self) -> &str {
        &self.primary
    }

    fn ties_workers(&self) -> bool {
        true
    }

    fn spawn(&mut self, spec: &SpawnSpec, _: &[BorrowedFd<'_>]) -> Result<Spawned, SpawnFailure> {
        self.start(spec).map_err(|error| SpawnFailure {
            message: format!("cannot start a thread: {error}; see `ulimit -u` and `ulimit -n`"),
            lasting: false,
        })
    }

    fn try_wait(&mut self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        let life = self.life(child).ok_or(io::ErrorKind::NotFound)?;
        let (exit, abandoned) = life.outcome();
        let place = life.place;
        self.alerts.extend(abandoned.map(|why| Alert::ThreadAbandoned { place, why: why.into() }));
        Ok(exit)
    }

    /// Whatever the signal: to a process it would be a word to leave, or its end.
    fn signal(&mut self, child: &Child, signal: i32) -> io::Result<()> {
        let life = self.life(child).ok_or(io::ErrorKind::NotFound)?;
        match signal {
            0 => {}
            SIGKILL => life.kill(),
            _ => life.tell_to_leave(),
        }
        Ok(())
    }

    fn alerts(&mut self) -> Vec<Alert> {
        std::mem::take(&mut self.alerts)
    }

    fn kill_tree(&mut self, child: &Child) {
        if let Some(life) = self.life(child) {
            life.kill();
        }
    }

    fn forget(&mut self, child: &Child) {
        self.lives.remove(child.label());
    }

    /// The other children of this process are its own affair.
    fn reap_strangers(&mut self) {}

    fn dying(&mut self) -> usize {
        0
    }

    fn keep_image(&mut self, _: ImageRef<'_>) {}

    fn loss(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn renew(&mut self, _: &[HeirRef<'_>]) -> io::Result<Box<dyn Stash>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// How the primary will write the channel: a process would find that in its environment.
fn serialization_in(spec: &SpawnSpec) -> Serialization {
    let mode = spec.env.iter().rev().find(|(name, _)| name == MODE);
    mode.and_then(|(_, mode)| Serialization::named(mode.to_str()?)).unwrap_or_default()
}

impl Life {
    fn new(place: Place, mark: PipeWriter) -> Self {
        let state = State { worker: None, exit: None, mark: Some(mark), is_killed: false, abandoned: None };
        Self { place, state: Mutex::new(state), ended: Condvar::new(), killed: Notify::new() }
    }

    /// All of the thread's life.
    fn live(&self, job: &Job, channel: OwnedFd, serialization: Serialization) {
        let exit = catch_unwind(AssertUnwindSafe(|| self.work(job, channel, serialization)));
        // What is dropped late may panic, too; the thread ends nevertheless.
        drop(catch_unwind(|| set_thread_worker(None)));
        self.end(match exit {
            Ok(code) => ExitStatus::Code(code),
            Err(_) => ExitStatus::Code(PANICKED),
        });
    }

    fn work(&self, job: &Job, channel: OwnedFd, serialization: Serialization) -> i32 {
        let identity = Identity {
            id: self.place.instance.worker_id(),
            slot: self.place.slot.0,
            generation: self.place.generation.0,
            is_thread: true,
        };
        match Worker::on_channel(channel, identity, serialization) {
            Ok(worker) => {
                set_thread_worker(Some(worker.clone()));
                lock(&self.state).worker = Some(worker.clone());
                job.run(worker, self.killed.notified()).into()
            }
            Err(error) => {
                eprintln!("Error: cannot use the channel of worker {}: {error}", identity.id);
                1
            }
        }
    }

    fn end(&self, exit: ExitStatus) {
        let mut state = lock(&self.state);
        let exit = if state.is_killed { KILLED } else { exit };
        state.exit.get_or_insert(exit);
        let (worker, mark) = (state.worker.take(), state.mark.take());
        drop(state);
        // The channel first: whoever hears of the end finds all that was said.
        drop(worker);
        drop(mark);
        self.ended.notify_all();
    }

    /// How it ended, and why it was left to itself, which is told once.
    fn outcome(&self) -> (Option<ExitStatus>, Option<&'static str>) {
        let mut state = lock(&self.state);
        (state.exit, state.abandoned.take())
    }

    fn tell_to_leave(&self) {
        let worker = lock(&self.state).worker.clone();
        if let Some(worker) = worker {
            worker.tell_to_leave();
        }
    }

    fn kill(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        if state.exit.is_some() || std::mem::replace(&mut state.is_killed, true) {
            return;
        }
        drop(state);
        self.killed.notify_one();
        self.tell_to_leave();
        let life = Arc::clone(self);
        let watch = move || life.abandon_unless_ended(KILL_GRACE);
        if thread::Builder::new().name("oxherd-reaper".into()).spawn(watch).is_err() {
            self.abandon_unless_ended(Duration::ZERO);
        }
    }

    fn abandon_unless_ended(&self, grace: Duration) {
        let state = lock(&self.state);
        let waited = self.ended.wait_timeout_while(state, grace, |state| state.exit.is_none());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.exit.is_none() {
            state.exit = Some(KILLED);
            state.abandoned = Some("it was told to stop and does not wait for anything");
            state.mark = None;
        }
    }
}

fn place_in(label: &str) -> Option<Place> {
    let (_, label) = label.split_once('/')?;
    label.parse::<Label>().ok().map(|label| label.0)
}
