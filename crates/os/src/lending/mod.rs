//! Lending sockets to programs that know nothing of it: their `bind`, `listen` and `shutdown` are trapped by a
//! seccomp filter (`seccomp_unotify(2)`), and whoever holds the other end answers in the kernel's place.
//!
//! It traps, looks and answers; which socket a program gets is for others to say. Never a security boundary:
//! memory and descriptors of a program may change while it is looked at, so that an answer is only given for a
//! call that is still pending.

mod caller;
mod filter;
pub(crate) mod install;
mod memory;
mod options;
pub mod probe;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use serde::{Deserialize, Serialize};

use self::filter::Architecture;
use crate::sys;

pub use self::caller::{Descriptor, address_of, descriptor_of, is_watched, pending_of, socket_of};
pub use self::install::obstacle;
pub use self::options::carry_options;

/// The kernel's structures may grow: it is given so many bytes to write in.
const ROOM_BYTES: usize = 512;

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
    ///
    /// Poll it for reading: it is readable while a call waits to be received, and reports a hang-up
    /// ([`Event::hangup`](crate::Event), `POLLHUP`) once no process with the filter is left. It is then of no more use:
    /// remove it from the poller, because the report is repeated.
    pub fn of(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The next call. To be asked when the descriptor is readable: else it blocks. `None` when the caller has ended
    /// meanwhile, or has left the call for a signal (before Linux 5.19), and when no process with the filter is left.
    pub fn receive(&self) -> io::Result<Option<Trapped>> {
        // The kernel insists on zeroes.
        let mut room = [0_u64; ROOM_BYTES / 8];
        match self.control(libc::SECCOMP_IOCTL_NOTIF_RECV, &mut room) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            result => result?,
        }
        // SAFETY: the room is larger, aligned for integers, and any bits are integers.
        let notification = unsafe { room.as_ptr().cast::<libc::seccomp_notif>().read() };
        let call = Call::of(&notification.data);
        if call.is_none() {
            // The filter traps no other: whatever this is, it is not ours to judge.
            drop(self.answer(notification.id, Answer::Continue));
        }
        Ok(call.map(|call| Trapped { id: notification.id, thread: notification.pid, call }))
    }

    /// Answers a call. `NotFound` when nobody waits for it any more.
    pub fn answer(&self, id: u64, answer: Answer) -> io::Result<()> {
        let (error, flags) = match answer {
            Answer::Done => (0, 0),
            Answer::Failed(errno) => (-errno, 0),
            Answer::Continue => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        };
        let mut response = libc::seccomp_notif_resp { id, val: 0, error, flags };
        self.control(libc::SECCOMP_IOCTL_NOTIF_SEND, &mut response)
    }

    /// Whether the call was received and still waits for an answer: what was read of its caller before this said yes
    /// is the caller's.
    pub fn is_pending(&self, id: u64) -> bool {
        let mut id = id;
        self.control(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &mut id).is_ok()
    }

    /// Puts a copy of `source` in place of the caller's descriptor `target`. `NotFound` as for an answer; `EBADF` for
    /// a number beyond the caller's limit.
    ///
    /// The caller itself carries it out, so that this waits until it has had the CPU for it; being stopped (`SIGSTOP`)
    /// does not keep it from that.
    pub fn put(&self, id: u64, source: impl AsFd, target: RawFd, close_on_exec: bool) -> io::Result<()> {
        let mut order = libc::seccomp_notif_addfd {
            id,
            flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
            srcfd: source.as_fd().as_raw_fd().cast_unsigned(),
            newfd: u32::try_from(target).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?,
            newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
        };
        match self.control(libc::SECCOMP_IOCTL_NOTIF_ADDFD, &mut order) {
            // It was killed in the middle of it.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                Err(io::Error::from_raw_os_error(libc::ENOENT))
            }
            result => result,
        }
    }

    /// `ioctl(2)`, again after each signal: all of them may be repeated.
    fn control<T>(&self, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
        loop {
            // SAFETY: each request is given the structure it reads or writes, or more room than that.
            let result = unsafe { libc::ioctl(self.0.as_raw_fd(), request, std::ptr::from_mut(argument)) };
            match sys::check(result.into()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(drop),
            }
        }
    }
}

impl Call {
    fn of(data: &libc::seccomp_data) -> Option<Self> {
        let Architecture { audit, bind, listen, shutdown } = Architecture::OWN;
        let number = u32::try_from(data.nr).ok().filter(|_| data.arch == audit)?;
        // The kernel looks at the low half of an `int` only.
        let [first, second, third, ..] = data.args;
        let fd = first as RawFd;
        match number {
            _ if number == bind => Some(Self::Bind { fd, address: second, length: third as u32 }),
            _ if number == listen => Some(Self::Listen { fd, backlog: second as i32 }),
            _ if number == shutdown => Some(Self::Shutdown { fd }),
            _ => None,
        }
    }

    /// The caller's descriptor that it is about.
    pub fn fd(&self) -> RawFd {
        match *self {
            Self::Bind { fd, .. } | Self::Listen { fd, .. } | Self::Shutdown { fd } => fd,
        }
    }
}

impl AsFd for Traps {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
