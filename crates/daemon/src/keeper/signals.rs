//! Signals that reach the keeper and are meant for the daemon.
//!
//! Must never act on one itself, except when people insist and no daemon is there to obey.

use std::io;

use oxherd_os::Signals;

pub(super) const SIGCHLD: i32 = 17;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGUSR1: i32 = 10;
const SIGUSR2: i32 = 12;
const SIGPIPE: i32 = 13;
const SIGTERM: i32 = 15;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;

/// Wishes to stop.
pub(super) const STOP_SIGNALS: [i32; 3] = [SIGINT, SIGQUIT, SIGTERM];

/// More wishes to stop than "stop" and "kill" mean nothing.
const REMEMBERED_MAX: usize = 2;

/// Blocks what is forwarded, and the news of children; `SIGPIPE` only so that nobody dies of it.
pub(super) fn block() -> io::Result<Signals> {
    Signals::block(&[SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGTERM, SIGTTIN, SIGTTOU])
}

/// Whether the daemon is to have it.
pub(super) fn is_forwarded(signal: i32) -> bool {
    matches!(signal, SIGHUP | SIGINT | SIGQUIT | SIGUSR1 | SIGUSR2 | SIGTERM | SIGTTIN | SIGTTOU)
}

/// Signals that came while no daemon was ready for them. Only wishes to stop are worth remembering: one that
/// starts has nothing to reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remembered(Vec<i32>);

impl Remembered {
    /// Those that an earlier program has remembered.
    pub(super) fn from_list(list: Vec<i32>) -> Self {
        Self(list)
    }

    pub(super) fn as_list(&self) -> &[i32] {
        &self.0
    }

    pub(super) fn add(&mut self, signal: i32) {
        if STOP_SIGNALS.contains(&signal) {
            self.0.push(signal);
        }
        self.0.truncate(REMEMBERED_MAX);
    }

    /// Whether people have said it more than once.
    pub(super) fn insists(&self) -> bool {
        self.0.len() >= REMEMBERED_MAX
    }

    pub(super) fn take(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_to_stop_are_remembered() {
        let mut remembered = Remembered::default();
        for signal in [SIGHUP, SIGTERM, SIGUSR1] {
            remembered.add(signal);
        }
        assert!(!remembered.insists());
        for _time in 0..2 {
            remembered.add(SIGINT);
            assert!(remembered.insists());
        }
        assert_eq!(remembered.take(), [SIGTERM, SIGINT]);
        assert!(remembered.take().is_empty());
    }
}
