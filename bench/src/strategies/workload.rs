//! Requests that arrive by chance: nineteen in twenty are short, one is long. The same seed gives the same requests.

/// Work of a short and of a long request, in microseconds.
pub(crate) const SHORT_US: u64 = 5_000;
pub(crate) const LONG_US: u64 = 105_000;
const LONG_PERCENT: u64 = 5;
const MEAN_US: f64 = 10_000.0;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Since the start, in microseconds.
    pub(crate) arrives: u64,
    pub(crate) work: u64,
}

/// Numbers that a seed decides.
pub(crate) struct Chance(u64);

/// An endless row of requests, as a Poisson process.
pub(crate) struct Workload {
    chance: Chance,
    now: f64,
    mean_pause_us: f64,
}

impl Workload {
    /// So many that `workers` are busy for this share of the time.
    pub(crate) fn new(seed: u64, workers: u32, load_percent: u32) -> Self {
        let mean_pause_us = MEAN_US * 100.0 / f64::from(load_percent) / f64::from(workers);
        Self { chance: Chance::new(seed), now: 0.0, mean_pause_us }
    }
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0 and at most 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.draw() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
    }
}

impl Iterator for Workload {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        self.now -= self.chance.uniform().ln() * self.mean_pause_us;
        let work = if self.chance.draw() % 100 < LONG_PERCENT { LONG_US } else { SHORT_US };
        Some(Request { arrives: self.now as u64, work })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_much_as_was_asked_for_and_the_same_for_the_same_seed() {
        let requests: Vec<Request> = Workload::new(7, 4, 85).take(200_000).collect();
        let work: u64 = requests.iter().map(|request| request.work).sum();
        let load = work as f64 / requests[requests.len() - 1].arrives as f64 / 4.0;
        assert!((0.84..0.86).contains(&load), "{load}");
        assert!(Workload::new(7, 4, 85).take(100).eq(requests.iter().copied().take(100)));
        assert!(!Workload::new(8, 4, 85).take(100).eq(requests.iter().copied().take(100)));
    }
}
