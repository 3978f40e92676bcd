//! Lending sockets to programs that know nothing of it: their `bind`, `listen` and `shutdown` are trapped by a
//! seccomp filter (`seccomp_unotify(2)`), and whoever holds the other end answers in the kernel's place.
//!
//! It traps, looks and answers; which socket a program gets is for others to say. Never a security boundary:
//! memory and descriptors of a program may change while it is looked at, so that an answer is only given for a
//! call that is still pending.

mod caller;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use serde::{Deserialize, Serialize};

pub use self::caller::{
    Descriptor, address_of, carry_options, descriptor_of, is_watched, pending_of, socket_of,
};

/// The listening end of a process's filter: its trapped calls, and those of its descendants.
#[derive(Debug)]
pub struct Traps(OwnedFd);

/// A call that waits for an answer. The caller sleeps until it has one, or is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trapped {
    /// Its number: those of one filter are consecutive.
    pub id: u64,
    /// The calling thread, by which its memory and descriptors are found.
    pub thread: u32,
    /// What it wants.
    pub call: Call,
}

/// A trapped call with its arguments, as the program gave them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// `bind(fd, address, length)`.
    Bind {
        /// The caller's descriptor.
        fd: RawFd,
        /// Where in the caller's memory the address is.
        address: u64,
        /// Its length in bytes, unchecked.
        length: u32,
    },
    /// `listen(fd, backlog)`.
    Listen {
        /// The caller's descriptor.
        fd: RawFd,
        /// As the caller gave it, unchecked.
        backlog: i32,
    },
    /// `shutdown(fd, how)` of the reading side at least: the writing side alone is not trapped, because it does nothing
    /// to a listener.
    Shutdown {
        /// The caller's descriptor.
        fd: RawFd,
    },
}

/// What a trapped call comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It returns 0.
    Done,
    /// It fails with this `errno`.
    Failed(i32),
    /// The kernel carries it out.
    Continue,
}

impl Traps {
    /// The end that came with a process.
    pub fn of(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The next call. To be asked when the descriptor is readable: else it blocks. `None` when the caller has ended
    /// meanwhile.
    pub fn receive(&self) -> io::Result<Option<Trapped>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Answers a call. `NotFound` when nobody waits for it any more.
    pub fn answer(&self, id: u64, answer: Answer) -> io::Result<()> {
        let _ = (id, answer);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether the call still waits for an answer: what was read of its caller before this said yes is the caller's.
    pub fn is_pending(&self, id: u64) -> bool {
        let _ = id;
        false
    }

    /// Puts a copy of `source` in place of the caller's descriptor `target`. `NotFound` as for an answer.
    pub fn put(&self, id: u64, source: impl AsFd, target: RawFd, close_on_exec: bool) -> io::Result<()> {
        let _ = (id, source.as_fd(), target, close_on_exec);
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl AsFd for Traps {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
