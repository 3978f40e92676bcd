//! A moment to be woken at, as a descriptor. It only rings; what is due then is not known here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A timerfd on the monotonic clock.
///
/// For a loop whose next deadline seldom changes this is cheaper than a timeout on every wait: the kernel
/// programs its timer once, not each time the loop goes to sleep.
#[derive(Debug)]
pub struct Alarm {
    timer: OwnedFd,
    rings_at: Option<u64>,
}

impl Alarm {
    /// An alarm that is not set.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { timer: timerfd_create(TimerfdClockId::Monotonic, flags)?, rings_at: None })
    }

    /// Sees to it that the alarm rings at `at` (see [`monotonic_millis`](crate::clock::monotonic_millis)) or
    /// earlier: one that is set for an earlier moment stays as it is.
    pub fn ring_by(&mut self, at: u64) -> io::Result<()> {
        if self.rings_at.is_some_and(|set| set <= at) {
            return Ok(());
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let seconds = i64::try_from(at / 1000).unwrap_or(i64::MAX);
        // A value of zero would unset the timer.
        let nanos = (at % 1000 * 1_000_000).max(1) as i64;
        let value = Itimerspec { it_interval: zero, it_value: Timespec { tv_sec: seconds, tv_nsec: nanos } };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &value)?;
        self.rings_at = Some(at);
        Ok(())
    }

    /// To be called when the alarm has become readable: it is not set any more.
    pub fn rang(&mut self) {
        self.rings_at = None;
        // Nothing to read means that it was set anew meanwhile; it will ring again then.
        let _rings = rustix::io::read(&self.timer, &mut [0_u8; 8]);
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Events, Interest, Poller, clock};

    #[test]
    fn it_rings_once_at_the_earliest_moment() {
        let mut alarm = Alarm::new().unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&alarm, 1, Interest::READ).unwrap();
        let start = clock::monotonic_millis();
        alarm.ring_by(start + 60_000).unwrap();
        alarm.ring_by(start + 20).unwrap();
        alarm.ring_by(start + 30_000).unwrap();
        let mut events = Events::with_capacity(4);
        assert_eq!(poller.wait(&mut events, None).unwrap(), 1);
        assert!(clock::monotonic_millis() >= start + 19);
        alarm.rang();
        assert_eq!(poller.wait(&mut events, Some(std::time::Duration::ZERO)).unwrap(), 0);
    }
}
