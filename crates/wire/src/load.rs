//! The page of figures that a worker shares with its primary: what stands in which of its 64 words.
//!
//! A layout only: nothing here maps memory or reads a figure. A word's place and meaning never change.

/// Marks a page of this layout.
pub const MAGIC: u64 = 0x6f78_6865_7264_0001;

/// Word: [`MAGIC`].
pub const WORD_MAGIC: usize = 0;
/// Word: connections handed over by the primary and taken, ever.
pub const WORD_SEEN: usize = 1;
/// Word: of those, closed or given away untracked, ever.
pub const WORD_CLOSED: usize = 2;
/// Word: requests in flight.
pub const WORD_IN_FLIGHT: usize = 3;
/// Word: requests, ever.
pub const WORD_REQUESTS: usize = 4;
/// Word: failed requests, ever.
pub const WORD_ERRORS: usize = 5;
/// Word: how late the event loop runs, in microseconds; peaks decay.
pub const WORD_LAG_US: usize = 6;
/// Word: open connections that are tracked, however they came.
pub const WORD_OPEN: usize = 7;
/// Word: the latencies of all requests, summed up, in microseconds.
pub const WORD_LATENCY_SUM_US: usize = 8;
/// First word of the histogram of latencies.
pub const WORD_LATENCY: usize = 16;
/// Words of the histogram: bucket `i` counts latencies of `2^i` to `2^(i+1)` microseconds, less for the first and
/// more for the last.
pub const LATENCY_BUCKETS: usize = 32;

/// The bucket of a latency.
pub fn latency_bucket(micros: u64) -> usize {
    let log = micros.max(1).ilog2() as usize;
    log.min(LATENCY_BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_a_power_of_two() {
        for (micros, bucket) in
            [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (1023, 9), (1024, 10), (u64::MAX, 31)]
        {
            assert_eq!(latency_bucket(micros), bucket, "{micros}");
        }
    }
}
