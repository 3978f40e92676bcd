//! A keeper in memory: what a traffic thread put into its stash, and its successor.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use super::harness::{Herd, Worker, label_of};
use crate::host::{Entry, Stash};
use crate::traffic::orders::{Attachment, Bequest, Order};

#[derive(Debug, Default)]
struct Kept {
    entries: BTreeMap<String, (Vec<u8>, Option<OwnedFd>)>,
    history: Vec<String>,
}

/// A stash that the test looks into.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryStash(Arc<Mutex<Kept>>);

impl Stash for MemoryStash {
    fn put(&mut self, name: &str, meta: &[u8], fd: Option<BorrowedFd<'_>>) {
        let fd = fd.map(|fd| fd.try_clone_to_owned().unwrap());
        let mut kept = self.0.lock().unwrap();
        kept.entries.insert(name.to_owned(), (meta.to_vec(), fd));
        kept.history.push(format!("put {name}"));
    }

    fn remove(&mut self, name: &str) {
        let mut kept = self.0.lock().unwrap();
        kept.entries.remove(name);
        kept.history.push(format!("remove {name}"));
    }
}

impl MemoryStash {
    pub(super) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().entries.keys().cloned().collect()
    }

    /// The names of what was put and removed, in order.
    pub(super) fn history(&self) -> Vec<String> {
        self.0.lock().unwrap().history.clone()
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        let copy = |fd: &Option<OwnedFd>| fd.as_ref().map(|fd| fd.try_clone().unwrap());
        let kept = self.0.lock().unwrap();
        let entry = |(name, (meta, fd)): (&String, &(Vec<u8>, Option<OwnedFd>))| Entry {
            name: name.clone(),
            meta: meta.clone(),
            fd: copy(fd),
        };
        kept.entries.iter().map(entry).collect()
    }
}

/// The old primary dies at this moment; its successor has what was in the stash, the channels of `workers`, and
/// the connections that the old one held for them.
pub(super) fn succeed(old: Herd, stash: &MemoryStash, workers: &[&Worker]) -> Herd {
    let held = |(_, worker): (usize, &crate::traffic::worker::Worker)| -> Vec<OwnedFd> {
        worker.unanswered.iter().map(|handed| handed.connection.try_clone().unwrap()).collect()
    };
    let connections = old.traffic.workers.iter().flat_map(held).collect();
    let mut heirs = Vec::new();
    for worker in workers {
        let number = old.traffic.workers.find(worker.place.instance).unwrap();
        let it = old.traffic.workers.get(number).unwrap();
        let channel = it.out.socket().try_clone_to_owned().unwrap();
        let worker_end = it.worker_end.as_ref().map(|end| end.try_clone().unwrap());
        heirs.push((worker.place, it.pid, channel, worker_end, Arc::clone(&worker.counters)));
    }
    let (now, spec) = (old.now, old.spec.clone());
    drop(old);
    let mut herd = Herd::kept(stash);
    (herd.now, herd.spec) = (now, spec);
    herd.order(Order::TakeOver(Bequest { starts: 1, entries: stash.entries(), connections }));
    for (place, pid, channel, worker_end, counters) in heirs {
        herd.order(Order::Attach(Attachment {
            place,
            label: label_of(place),
            spec: Arc::new(herd.spec.clone()),
            pid,
            channel,
            worker_end,
            counters,
            counters_fd: None,
            page_fd: None,
            parks: false,
            is_heir: true,
        }));
        herd.order(Order::Admit(place.instance));
    }
    herd
}
