//! What daemon and keeper say to each other, and the daemon's side of it.
//!
//! Two sockets of whole messages: over the *link* the daemon's control thread asks and the keeper answers, one at
//! a time; over the *stash* its traffic thread gives orders that nobody answers. Both survive the daemon's death
//! with all that was said. The daemon must never wait for anything but an answer, and must go on when the keeper
//! is gone.

mod connect;
mod host;
pub(crate) mod message;
mod notes;
mod renew;
mod stash;

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oxherd_os::packet::{self, Wait};
use serde::Serialize;
use thiserror::Error;

pub use self::connect::{Connected, connect};
pub use self::host::{KeeperHost, Readiness};
pub use self::message::Greeting;
use self::message::{Answer, Ask, Garbled};
pub use self::notes::Notes;
pub use self::stash::KeeperStash;

/// Names in the stash that the keeper gives itself; see [`of_child`].
pub(crate) const CHANNEL: &str = "channel";
pub(crate) const WORKER_END: &str = "worker-end";
pub(crate) const STDIN: &str = "stdin";
pub(crate) const STDOUT: &str = "stdout";
pub(crate) const STDERR: &str = "stderr";
/// The entry that holds the home's lock.
pub(crate) const LOCK: &str = "lock";

/// The kind of entry with the end at which a process's trapped calls are heard of. It stays an entry: what its bytes say
/// is between one daemon and the next.
pub(crate) const TRAPS: &str = "traps";

/// The entry with the apps of a keeper in the foreground.
pub(crate) const SPECS: &str = "specs";

/// The name of a child's entry of one kind.
pub(crate) fn of_child(kind: &str, label: &str) -> String {
    format!("{kind}/{label}")
}

/// Why a daemon and its keeper do not understand each other.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The socket does not work: the keeper is gone, or there never was one.
    #[error("cannot talk to the keeper: {0}; a daemon is only ever started by its keeper")]
    Io(#[from] io::Error),
    /// The keeper has another version of the protocol.
    #[error("the keeper speaks version {theirs} of the protocol, this daemon version {ours}")]
    Version {
        /// The keeper's.
        theirs: u32,
        /// This program's.
        ours: u32,
    },
    /// The keeper said something unexpected.
    #[error("the keeper said something unexpected: {0}")]
    Unexpected(String),
}

impl LinkError {
    fn unexpected(what: &impl Debug) -> Self {
        Self::Unexpected(format!("{what:?}"))
    }
}

impl From<Garbled> for LinkError {
    fn from(error: Garbled) -> Self {
        Self::Unexpected(error.to_string())
    }
}

/// An answer with what came along.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    pub(crate) body: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
    /// Descriptors are missing: this process has too many open.
    pub(crate) truncated: bool,
}

/// The daemon's end of the link.
#[derive(Debug)]
pub(crate) struct Link {
    socket: OwnedFd,
}

impl Link {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Says something that is not answered.
    pub(crate) fn tell(&self, ask: &Ask, body: &[u8]) -> io::Result<()> {
        packet::send(&self.socket, &message::encode(ask, body).map_err(io::Error::other)?, &[])
    }

    /// The same with a body in JSON, about as large as `expected_bytes`; returns how large the whole was.
    pub(crate) fn tell_json(
        &self,
        ask: &Ask,
        body: &impl Serialize,
        expected_bytes: usize,
    ) -> io::Result<usize> {
        let bytes = message::encode_json(ask, body, expected_bytes).map_err(io::Error::other)?;
        packet::send(&self.socket, &bytes, &[])?;
        Ok(bytes.len())
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&self, ask: &Ask, fds: &[BorrowedFd<'_>]) -> Result<Reply, LinkError> {
        self.discard_strays();
        packet::send(&self.socket, &message::encode(ask, &[])?, fds)?;
        let gone = || io::Error::new(io::ErrorKind::UnexpectedEof, "it has ended");
        let received = packet::receive(&self.socket, Wait::Block)?.ok_or_else(gone)?;
        let (answer, body) = message::decode(&received.bytes)?;
        let body = body.to_vec();
        Ok(Reply { answer, body, fds: received.fds, truncated: received.truncated })
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()? })
    }

    /// What lies there before anything was asked belongs to no question.
    fn discard_strays(&self) {
        while let Ok(Some(_stray)) = packet::receive(&self.socket, Wait::Not) {}
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
