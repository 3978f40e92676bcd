//! What the control thread and all handles of a cluster know together: who lives, what was asked for, how it ended.
//!
//! Only the control thread changes it. Nobody holds a lock while waiting.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use oxherd_engine::core::{AppId, ChangeId, ChangeOutcome, Place, Signal};
use oxherd_engine::{Ear, Handle};
use tokio::sync::{broadcast, oneshot, watch};

use super::Event;
use crate::console::Ending;

/// The one app of a cluster.
pub(super) const APP: AppId = AppId(0);
/// Changes that are through and may still be asked about: the answer to a request comes right behind.
const OUTCOMES_KEPT: usize = 256;

/// One worker, as far as the primary knows.
#[derive(Debug)]
pub(super) struct WorkerState {
    pub(super) place: Place,
    /// Its place's, until a standby is given another.
    slot: AtomicU32,
    pid: AtomicU32,
    connected: AtomicBool,
    ending: AtomicU8,
}

/// A worker lives.
const ALIVE: u8 = 0;
/// It ended by itself.
const ENDED: u8 = 1;
/// It ended after it was asked to, or said that it would.
const ENDED_AS_WANTED: u8 = 2;

impl WorkerState {
    pub(super) fn new(place: Place, pid: Option<u32>, connected: bool) -> Self {
        Self {
            place,
            slot: AtomicU32::new(place.slot.0),
            pid: AtomicU32::new(pid.unwrap_or(0)),
            connected: AtomicBool::new(connected),
            ending: AtomicU8::new(ALIVE),
        }
    }

    /// Of one that could not be started.
    pub(super) fn dead(place: Place) -> Self {
        let state = Self::new(place, None, false);
        state.end(false);
        state
    }

    pub(super) fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    pub(super) fn slot(&self) -> u32 {
        self.slot.load(Ordering::Acquire)
    }

    /// A standby takes a slot.
    pub(super) fn move_to(&self, slot: u32) {
        self.slot.store(slot, Ordering::Release);
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    pub(super) fn disconnect(&self) {
        self.connected.store(false, Ordering::Release);
    }

    pub(super) fn end(&self, wanted: bool) {
        self.disconnect();
        self.ending.store(if wanted { ENDED_AS_WANTED } else { ENDED }, Ordering::Release);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.ending.load(Ordering::Acquire) != ALIVE
    }

    pub(super) fn ended_as_wanted(&self) -> Option<bool> {
        match self.ending.load(Ordering::Acquire) {
            ALIVE => None,
            ending => Some(ending == ENDED_AS_WANTED),
        }
    }
}

/// What all handles of a cluster share.
#[derive(Debug)]
pub(super) struct Shared {
    handle: OnceLock<Handle>,
    pub(super) stop_signal: Signal,
    pub(super) are_threads: bool,
    events: Mutex<Option<broadcast::Sender<Event>>>,
    /// Open once anybody has asked for the events.
    ear: Ear,
    state: Mutex<State>,
    end: Mutex<Option<Ending>>,
    over: Condvar,
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    workers: BTreeMap<u64, Arc<WorkerState>>,
    outcomes: VecDeque<(ChangeId, ChangeOutcome)>,
    waiters: Vec<(ChangeId, oneshot::Sender<ChangeOutcome>)>,
}

impl Shared {
    pub(super) fn new(events: broadcast::Sender<Event>, stop_signal: Signal, are_threads: bool) -> Arc<Self> {
        let ear = Ear::default();
        if events.receiver_count() > 0 {
            ear.open();
        }
        Arc::new(Self {
            handle: OnceLock::new(),
            stop_signal,
            are_threads,
            events: Mutex::new(Some(events)),
            ear,
            state: Mutex::default(),
            end: Mutex::default(),
            over: Condvar::new(),
            ended: watch::Sender::new(false),
        })
    }

    pub(super) fn set_handle(&self, handle: Handle) {
        // There is one primary for each of these.
        drop(self.handle.set(handle));
    }

    /// The way to the primary; nothing when it has ended.
    pub(super) fn handle(&self) -> Option<&Handle> {
        if lock(&self.end).is_some() { None } else { self.handle.get() }
    }

    pub(super) fn worker(&self, id: u64) -> Option<Arc<WorkerState>> {
        lock(&self.state).workers.get(&id).cloned()
    }

    /// All that live, in the order of their slots.
    pub(super) fn workers(&self) -> Vec<Arc<WorkerState>> {
        let mut workers: Vec<_> = lock(&self.state).workers.values().cloned().collect();
        workers.sort_by_key(|it| (it.slot(), it.place.instance));
        workers
    }

    pub(super) fn insert(&self, worker: Arc<WorkerState>) {
        lock(&self.state).workers.insert(worker.place.instance.worker_id(), worker);
    }

    pub(super) fn remove(&self, id: u64) {
        lock(&self.state).workers.remove(&id);
    }

    pub(super) fn tell(&self, event: Event) {
        if let Some(events) = &*lock(&self.events) {
            // Nobody may be listening.
            drop(events.send(event));
        }
    }

    /// Whether anybody would hear an event.
    pub(super) fn is_heard(&self) -> bool {
        lock(&self.events).as_ref().is_some_and(|events| events.receiver_count() > 0)
    }

    /// Open once anybody has asked for the events.
    pub(super) fn ear(&self) -> Ear {
        self.ear.clone()
    }

    /// The events from now on; of a cluster that has ended there are none.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.ear.open();
        match &*lock(&self.events) {
            Some(events) => events.subscribe(),
            None => broadcast::Sender::new(1).subscribe(),
        }
    }

    /// A change is through.
    pub(super) fn conclude(&self, change: ChangeId, outcome: ChangeOutcome) {
        let mut state = lock(&self.state);
        if let Some(at) = state.waiters.iter().position(|(waited, _)| *waited == change) {
            let (_, waiter) = state.waiters.swap_remove(at);
            drop(state);
            // Who asked may have stopped waiting.
            drop(waiter.send(outcome));
            return;
        }
        state.outcomes.push_back((change, outcome));
        if state.outcomes.len() > OUTCOMES_KEPT {
            state.outcomes.pop_front();
        }
    }

    /// Tells `waiter` how the change ends, or has ended.
    pub(super) fn await_change(&self, change: ChangeId, waiter: oneshot::Sender<ChangeOutcome>) {
        let mut state = lock(&self.state);
        state.waiters.retain(|(_, waiter)| !waiter.is_closed());
        match state.outcomes.iter().position(|(done, _)| *done == change) {
            Some(at) => {
                if let Some((_, outcome)) = state.outcomes.remove(at) {
                    drop(waiter.send(outcome));
                }
            }
            None => state.waiters.push((change, waiter)),
        }
    }

    /// The cluster has ended. Everybody who waits for something of it is told.
    pub(super) fn finish(&self, ending: Ending) {
        lock(&self.end).get_or_insert(ending);
        *lock(&self.events) = None;
        let waiters = {
            let mut state = lock(&self.state);
            state.workers.values().for_each(|worker| worker.end(true));
            state.workers.clear();
            std::mem::take(&mut state.waiters)
        };
        drop(waiters);
        self.over.notify_all();
        self.ended.send_replace(true);
    }

    pub(super) fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        *lock(&self.end)
    }

    /// Waits for the end.
    pub(super) fn wait(&self) -> Ending {
        let mut end = lock(&self.end);
        loop {
            if let Some(ending) = *end {
                return ending;
            }
            end = self.over.wait(end).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
