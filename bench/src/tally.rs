//! What the clients saw: answers by the worker that gave them, times, and failures by kind.

use std::io;
use std::time::Duration;

/// Bounds the memory of a long run; 100 s at 10,000 connections a second.
const LATENCIES_MAX: usize = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Refused,
    Reset,
    /// End of file before the whole answer.
    Short,
    /// Complete, and not what the server sends.
    Wrong,
    Stuck,
    Other,
}

impl Failure {
    pub(crate) const ALL: [Self; 6] =
        [Self::Refused, Self::Reset, Self::Short, Self::Wrong, Self::Stuck, Self::Other];

    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::WouldBlock => Self::Short,
            _ => Self::Other,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Short => "short",
            Self::Wrong => "wrong",
            Self::Stuck => "stuck",
            Self::Other => "other",
        }
    }
}

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) served: u64,
    pub(crate) by_pid: Vec<(u32, u64)>,
    pub(crate) latencies_us: Vec<u32>,
    pub(crate) elapsed: Duration,
    failures: [u64; Failure::ALL.len()],
}

impl Tally {
    pub(crate) fn serve(&mut self, pid: u32, latency: Duration) {
        self.served += 1;
        match self.by_pid.iter_mut().find(|(known, _)| *known == pid) {
            Some((_, count)) => *count += 1,
            None => self.by_pid.push((pid, 1)),
        }
        if self.latencies_us.len() < LATENCIES_MAX {
            self.latencies_us.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        }
    }

    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failures[failure as usize] += 1;
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    pub(crate) fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counted = Failure::ALL.into_iter().zip(self.failures);
        counted.filter(|&(_, count)| count > 0).map(|(failure, count)| (failure.name(), count))
    }

    /// The share of the worker that served most.
    pub(crate) fn busiest_share(&self) -> f64 {
        let most = self.by_pid.iter().map(|&(_, count)| count).max().unwrap_or(0);
        most as f64 / self.served.max(1) as f64
    }
}

/// The pid that a whole, correct answer carries.
pub(crate) fn served_by(answer: &[u8]) -> Result<u32, Failure> {
    if answer.is_empty() {
        return Err(Failure::Short);
    }
    let text = std::str::from_utf8(answer).map_err(|_| Failure::Wrong)?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Err(Failure::Short) };
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(Failure::Wrong);
    }
    let Some(line) = body.strip_suffix('\n') else { return Err(Failure::Short) };
    line.strip_prefix("pid ").and_then(|pid| pid.parse().ok()).ok_or(Failure::Wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_names_its_worker() {
        assert_eq!(served_by(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\npid 42\n"), Ok(42));
        assert_eq!(served_by(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\npid 42"), Err(Failure::Short));
        assert_eq!(served_by(b"HTTP/1.1 200 OK\r\nA"), Err(Failure::Short));
        assert_eq!(served_by(b""), Err(Failure::Short));
        assert_eq!(served_by(b"HTTP/1.1 503 No\r\n\r\npid 42\n"), Err(Failure::Wrong));
    }

    #[test]
    fn failures_are_kept_by_kind_and_shares_by_worker() {
        let mut tally = Tally::default();
        tally.fail(Failure::Reset);
        tally.fail(Failure::Reset);
        for pid in [1, 2, 2, 2] {
            tally.serve(pid, Duration::from_micros(5));
        }
        assert_eq!(tally.failures().collect::<Vec<_>>(), [("reset", 2)]);
        assert!((tally.busiest_share() - 0.75).abs() < 1e-9);
    }
}
