//! Waiting for descriptors: epoll, and an eventfd to wake the one who waits.
//!
//! Must never own the descriptors it watches, nor interpret what happens on them. A descriptor is removed
//! before it is closed: epoll follows the open file, so a duplicate elsewhere would keep reporting it.

use std::io;
use std::mem::MaybeUninit;
use std::ops::{BitOr, BitOrAssign};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;

/// What to be told about a descriptor.
///
/// The empty interest is allowed: a level-triggered hang-up or error is reported nevertheless, again and
/// again, so remove a descriptor that is to be left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Interest(u8);

impl Interest {
    /// Nothing but hang-up and errors.
    pub const NONE: Self = Self(0);
    /// Bytes, connections, an exit (pidfd) or an end of file can be read.
    pub const READ: Self = Self(1);
    /// Bytes can be written.
    pub const WRITE: Self = Self(2);
    /// Report only changes (edge-triggered): the reader must go on until `EAGAIN`.
    pub const EDGE: Self = Self(4);
    /// Report once and then nothing, until [`Poller::modify`] asks again.
    pub const ONCE: Self = Self(8);

    /// Whether all bits of `other` are in `self`.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn flags(self) -> epoll::EventFlags {
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, self.contains(Self::READ));
        flags.set(epoll::EventFlags::OUT, self.contains(Self::WRITE));
        flags.set(epoll::EventFlags::ET, self.contains(Self::EDGE));
        flags.set(epoll::EventFlags::ONESHOT, self.contains(Self::ONCE));
        flags
    }
}

impl BitOr for Interest {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// One readiness report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The number given to [`Poller::add`].
    pub token: u64,
    /// A read would not block. Also set on hang-up and error, where the read tells which.
    pub readable: bool,
    /// A write would not block. Also set on error.
    pub writable: bool,
    /// The peer is gone or the descriptor is in error. What was sent before may still be read.
    pub hangup: bool,
}

/// A reusable buffer of reports, filled by [`Poller::wait`].
pub struct Events {
    buffer: Box<[MaybeUninit<epoll::Event>]>,
    filled: usize,
}

impl Events {
    /// Room for `capacity` reports per wait (at least one); more stay in the kernel for the next wait.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: vec![MaybeUninit::uninit(); capacity.max(1)].into_boxed_slice(), filled: 0 }
    }

    /// The reports of the last wait.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.buffer.iter().take(self.filled).map(|raw| {
            // SAFETY: the last wait initialised the first `filled` elements, and nothing takes them away.
            let raw = unsafe { raw.assume_init() };
            let (flags, token) = (raw.flags, raw.data.u64());
            let error = flags.contains(epoll::EventFlags::ERR);
            let hangup = error || flags.contains(epoll::EventFlags::HUP);
            Event {
                token,
                readable: hangup || flags.contains(epoll::EventFlags::IN),
                writable: error || flags.contains(epoll::EventFlags::OUT),
                hangup,
            }
        })
    }

    /// How many reports there are.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether the last wait ended without a report.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }
}

/// An epoll instance.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// `epoll_create1(2)`, close-on-exec. Fails with `EMFILE`, `ENFILE` or `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Starts watching; reports carry `token`. `EEXIST` when watched already, `EPERM` for regular files.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), interest.flags())?)
    }

    /// Changes token and interest; an edge-triggered descriptor that is ready reports again. `ENOENT` when
    /// not watched.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token), interest.flags())?)
    }

    /// Stops watching. Reports already in an [`Events`] remain there. `ENOENT` when not watched.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Waits for reports, or until `timeout` has passed (rounded up to milliseconds; `None`: for ever), and
    /// returns how many came. A signal that interrupts counts as "none came".
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        events.filled = 0;
        let timeout = timeout.map(round_up);
        match epoll::wait(&self.epoll, &mut *events.buffer, timeout.as_ref()) {
            Ok((ready, _)) => events.filled = ready.len(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(events.filled)
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Whole milliseconds, so that a timer is never found "not yet due" after the wait for it. At most about
/// 24 days, the longest that `epoll_wait` takes.
fn round_up(timeout: Duration) -> Timespec {
    let millis = timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i64;
    Timespec { tv_sec: millis / 1000, tv_nsec: (millis % 1000) * 1_000_000 }
}

/// Wakes a [`Poller`] from another thread. Clones share one eventfd.
#[derive(Clone, Debug)]
pub struct Waker {
    eventfd: Arc<OwnedFd>,
}

impl Waker {
    /// A nonblocking eventfd; add it to the poller with [`Interest::READ`].
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self { eventfd: Arc::new(eventfd(0, flags)?) })
    }

    /// Makes the eventfd readable. Cannot fail in a way that matters: a full counter is readable already.
    pub fn wake(&self) {
        let _already_awake = rustix::io::write(&*self.eventfd, &1_u64.to_ne_bytes());
    }

    /// Takes all wake-ups so far, so that the poller can sleep again.
    pub fn drain(&self) {
        let mut count = [0_u8; 8];
        let _none_pending = rustix::io::read(&*self.eventfd, &mut count);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_round_up() {
        let parts = |timeout| (round_up(timeout).tv_sec, round_up(timeout).tv_nsec);
        assert_eq!(parts(Duration::ZERO), (0, 0));
        assert_eq!(parts(Duration::from_nanos(1)), (0, 1_000_000));
        assert_eq!(parts(Duration::from_millis(2500)), (2, 500_000_000));
        assert_eq!(parts(Duration::MAX).0, i64::from(i32::MAX / 1000));
    }

    #[test]
    fn interests_combine() {
        let both = Interest::READ | Interest::EDGE;
        assert!(both.contains(Interest::EDGE) && both.contains(Interest::READ));
        assert!(!both.contains(Interest::WRITE));
    }
}
