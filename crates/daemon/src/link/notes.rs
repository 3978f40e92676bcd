//! What the daemon keeps with its keeper besides processes and listeners: a few bytes, or a descriptor, by name.
//!
//! Any thread may keep something. What is kept is known here too, so that it can be given to another keeper.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oxherd_engine::host::Stash;

use super::KeeperStash;

/// Notes that outlive the daemon.
#[derive(Clone, Debug)]
pub struct Notes {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    stash: KeeperStash,
    entries: BTreeMap<String, (Vec<u8>, Option<Arc<OwnedFd>>)>,
}

impl Notes {
    pub(super) fn new(stash: KeeperStash) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { stash, entries: BTreeMap::new() })) }
    }

    /// Keeps these bytes in place of what had the name. When it returns, the daemon's death cannot take them.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.keep(name, bytes.to_vec(), None);
    }

    /// Keeps a copy of a descriptor.
    pub fn put_fd(&self, name: &str, fd: Arc<OwnedFd>) {
        self.keep(name, Vec::new(), Some(fd));
    }

    /// Keeps nothing under this name any more.
    pub fn remove(&self, name: &str) {
        let mut inner = self.lock();
        inner.stash.remove(name);
        inner.entries.remove(name);
    }

    fn keep(&self, name: &str, bytes: Vec<u8>, fd: Option<Arc<OwnedFd>>) {
        let mut inner = self.lock();
        inner.stash.put(name, &bytes, fd.as_ref().map(|fd| fd.as_fd()));
        inner.entries.insert(name.to_owned(), (bytes, fd));
    }

    /// Gives everything to another keeper.
    pub(super) fn move_to(&self, mut stash: KeeperStash) {
        let mut inner = self.lock();
        for (name, (bytes, fd)) in &inner.entries {
            stash.put(name, bytes, fd.as_ref().map(|fd| fd.as_fd()));
        }
        inner.stash = stash;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
