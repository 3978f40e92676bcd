//! The stash as traffic sees it: orders to the keeper that nobody answers.
//!
//! Must never fail or wait for an answer: when the keeper is gone, what it held is put into the next one anyway.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use oxherd_engine::host::Stash;
use oxherd_os::packet;

use super::message::{self, Ask};

/// The stash of a keeper.
#[derive(Debug)]
pub struct KeeperStash {
    socket: OwnedFd,
}

impl KeeperStash {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Another hold on the same stash.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()? })
    }

    fn tell(&self, ask: &Ask, body: &[u8], fd: Option<BorrowedFd<'_>>) {
        let fds = fd.as_slice();
        if let Ok(bytes) = message::encode(ask, body) {
            // An error means that the keeper is gone, which control notices by itself.
            drop(packet::send(&self.socket, &bytes, fds));
        }
    }
}

impl Stash for KeeperStash {
    fn put(&mut self, name: &str, meta: &[u8], fd: Option<BorrowedFd<'_>>) {
        self.tell(&Ask::Put { name: name.into() }, meta, fd);
    }

    fn remove(&mut self, name: &str) {
        self.tell(&Ask::Remove { name: name.into() }, &[], None);
    }
}
