//! When to start the next daemon after one has died, and whether the image may have been to blame.
//!
//! Pure: times come in. Must never say "not at all": workers keep running, and somebody has to look after them.

use serde::{Deserialize, Serialize};

/// So many deaths within [`WINDOW_MS`] are no accident.
const SUSPICIOUS: usize = 3;
/// A daemon that lives longer has not died of its start.
const WINDOW_MS: u64 = 10_000;
const FIRST_DELAY_MS: u64 = 250;
/// What [`Deaths::new`] is usually given.
pub(super) const LONGEST_DELAY_MS: u64 = 1_000;

/// The deaths that count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Deaths {
    longest_delay_ms: u64,
    /// When the last few happened, in milliseconds of the monotonic clock.
    times_ms: Vec<u64>,
    /// Deaths since it became suspicious, that one included.
    strikes: u32,
    /// Early deaths in a row.
    row: u32,
}

impl Deaths {
    /// None so far. No start is put off for longer than this.
    pub(super) fn new(longest_delay_ms: u64) -> Self {
        Self { longest_delay_ms, times_ms: Vec::new(), strikes: 0, row: 0 }
    }

    /// A daemon that was started at `started_ms` has died; returns when the next one is to start.
    pub(super) fn record(&mut self, started_ms: u64, now_ms: u64) -> u64 {
        if now_ms.saturating_sub(started_ms) > WINDOW_MS {
            *self = Self::new(self.longest_delay_ms);
        }
        self.row += 1;
        self.times_ms.retain(|time| now_ms.saturating_sub(*time) <= WINDOW_MS);
        self.times_ms.push(now_ms);
        let surplus = self.times_ms.len().saturating_sub(SUSPICIOUS);
        self.times_ms.drain(..surplus);
        if self.strikes > 0 || self.times_ms.len() == SUSPICIOUS {
            self.strikes += 1;
        }
        now_ms + self.delay_ms()
    }

    /// Whether the next daemon may use the image.
    pub(super) fn trust_image(&self) -> bool {
        self.strikes == 0
    }

    /// How many in a row have died early.
    pub(super) fn row(&self) -> u32 {
        self.row
    }

    /// The first start without the image comes at once.
    fn delay_ms(&self) -> u64 {
        match self.strikes {
            0 | 1 => 0,
            strikes => (FIRST_DELAY_MS << (strikes - 2).min(10)).min(self.longest_delay_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_within_ten_seconds_cost_the_image_and_then_time() {
        let mut deaths = Deaths::new(LONGEST_DELAY_MS);
        let mut now = 50_000;
        let mut delays = Vec::new();
        for _death in 0..9 {
            let started = now;
            now += 100;
            let next = deaths.record(started, now);
            delays.push((next - now, deaths.trust_image()));
            now = next;
        }
        let expected = [0, 0, 0, 250, 500, 1000, 1000, 1000, 1000];
        let trusted = [true, true, false, false, false, false, false, false, false];
        assert_eq!(delays, expected.into_iter().zip(trusted).collect::<Vec<_>>());
        assert_eq!(deaths.row(), 9);
    }

    #[test]
    fn a_long_life_is_a_new_beginning() {
        let mut deaths = Deaths::new(LONGEST_DELAY_MS);
        for _death in 0..5 {
            deaths.record(1000, 1000);
        }
        assert_eq!(deaths.record(2000, 12_001), 12_001);
        assert!(deaths.trust_image());
        assert_eq!(deaths.row(), 1);
    }

    #[test]
    fn deaths_far_apart_do_not_add_up() {
        let mut deaths = Deaths::new(LONGEST_DELAY_MS);
        for now in [9_000, 18_000, 27_000, 36_000] {
            assert_eq!(deaths.record(now - 9_000, now), now);
            assert!(deaths.trust_image());
        }
    }
}
