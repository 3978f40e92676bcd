//! The worker of these measurements: this program again, which writes lines when it is told to, and says how long it
//! took. What it is told and what it says are files beside its app's own.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stats::quantile;

/// Between two looks at whether it is told to begin.
const LOOK: Duration = Duration::from_millis(10);
/// Lines are written in bursts this far apart, so that the clock is not what is measured.
const BURST: Duration = Duration::from_millis(10);
/// How much of a long line is written at a time.
const BLOCK_BYTES: usize = 64 << 10;
/// What a line ends with: with its number it has 100 bytes, its newline among them.
const REST: &str =
    " of an app that writes as servers do, one line for each request, with its path and its state\n";

/// What is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// So many lines in each second, for so many seconds.
    Flow { rate: u64, seconds: u64 },
    /// So many lines, as fast as they are taken; and once more so many when it is told again.
    Burst { lines: u64, more: u64 },
    /// One line of so many bytes.
    Long { bytes: usize },
    /// Every byte, most of them no UTF-8.
    Bytes,
}

/// A job, and the files by which it is told and tells.
pub(crate) struct WriterOptions {
    pub(crate) job: Job,
    pub(crate) file: PathBuf,
}

impl Job {
    /// As the worker's command line has it.
    pub(crate) fn words(self) -> Vec<String> {
        let words = |name: &str, numbers: &[u64]| {
            std::iter::once(name.to_owned()).chain(numbers.iter().map(u64::to_string)).collect()
        };
        match self {
            Self::Flow { rate, seconds } => words("flow", &[rate, seconds]),
            Self::Burst { lines, more } => words("burst", &[lines, more]),
            Self::Long { bytes } => words("long", &[bytes as u64]),
            Self::Bytes => words("bytes", &[]),
        }
    }

    pub(crate) fn from_words(words: &[String]) -> Option<Self> {
        let (name, numbers) = words.split_first()?;
        let numbers: Vec<u64> = numbers.iter().map(|word| word.parse().ok()).collect::<Option<_>>()?;
        match (name.as_str(), numbers.as_slice()) {
            ("flow", &[rate, seconds]) => Some(Self::Flow { rate, seconds }),
            ("burst", &[lines, more]) => Some(Self::Burst { lines, more }),
            ("long", &[bytes]) => Some(Self::Long { bytes: bytes as usize }),
            ("bytes", []) => Some(Self::Bytes),
            _ => None,
        }
    }
}

/// A line, with its end.
pub(crate) fn line(number: u64) -> String {
    format!("{number:07}{REST}")
}

/// The number of a line that is whole, without its end.
pub(crate) fn number_of(line: &[u8]) -> Option<u64> {
    let (number, rest) = line.split_at_checked(7)?;
    let is_whole = rest == REST.trim_end().as_bytes();
    std::str::from_utf8(number).ok()?.parse().ok().filter(|_| is_whole)
}

/// Lines of bytes of every kind; a newline only at their ends.
pub(crate) fn bytes() -> Vec<u8> {
    let mut all = Vec::new();
    for round in 0..1000_u32 {
        all.extend(
            (0..=255_u8)
                .map(|byte| byte.wrapping_mul(7).wrapping_add(round as u8))
                .filter(|byte| *byte != b'\n'),
        );
        all.push(b'\n');
    }
    all
}

/// Where it says how that went.
pub(crate) fn report(file: &Path, turn: u32) -> PathBuf {
    file.with_extension(format!("report-{turn}"))
}

/// What tells it to go on.
pub(crate) fn order(file: &Path, turn: u32) -> PathBuf {
    file.with_extension(format!("go-{turn}"))
}

/// Plays the worker; ends only by a signal, because managers start anew what ends.
pub(crate) fn play(options: &WriterOptions) -> Result<(), String> {
    let WriterOptions { job, file } = options;
    turn(file, 1, || write(*job))?;
    if let Job::Burst { lines, more } = job {
        turn(file, 2, || write_lines(*lines..lines + more))?;
    }
    loop {
        std::thread::park();
    }
}

fn turn(file: &Path, number: u32, write: impl FnOnce() -> io::Result<Vec<u32>>) -> Result<(), String> {
    let order = order(file, number);
    while !order.exists() {
        std::thread::sleep(LOOK);
    }
    let start = Instant::now();
    let mut times = write().map_err(|error| format!("cannot write: {error}"))?;
    let wall = start.elapsed();
    times.sort_unstable();
    let said = json!({
        "wall_ms": wall.as_secs_f64() * 1e3, "p50_us": quantile(&times, 0.5), "p99_us": quantile(&times, 0.99),
        "max_us": times.last(),
    });
    let report = report(file, number);
    let unfinished = report.with_extension("unfinished");
    let written = fs::write(&unfinished, said.to_string()).and_then(|()| fs::rename(&unfinished, &report));
    written.map_err(|error| format!("cannot write {}: {error}", report.display()))
}

/// What a worker has said, if it has.
pub(crate) fn said(file: &Path, turn: u32) -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(report(file, turn)).ok()?).ok()
}

/// Returns how long each write took, in microseconds.
fn write(job: Job) -> io::Result<Vec<u32>> {
    match job {
        Job::Flow { rate, seconds } => flow(rate, seconds),
        Job::Burst { lines, .. } => write_lines(0..lines),
        Job::Long { bytes } => {
            let block = vec![b'x'; BLOCK_BYTES];
            let mut left = bytes;
            let mut times = Vec::new();
            while left > 0 {
                let count = left.min(BLOCK_BYTES);
                times.push(write_timed(&block[..count])?);
                left -= count;
            }
            times.push(write_timed(b"\n")?);
            Ok(times)
        }
        Job::Bytes => write_timed(&bytes()).map(|time| vec![time]),
    }
}

fn flow(rate: u64, seconds: u64) -> io::Result<Vec<u32>> {
    let (start, all) = (Instant::now(), rate * seconds);
    let mut times = Vec::with_capacity(all as usize);
    let mut next = 0;
    while next < all {
        // After a time in which it was held up it catches up.
        let due = ((start.elapsed() + BURST).as_secs_f64() * rate as f64) as u64;
        times.extend(write_lines(next..due.min(all))?);
        next = due.min(all).max(next);
        std::thread::sleep(BURST);
    }
    Ok(times)
}

fn write_lines(numbers: std::ops::Range<u64>) -> io::Result<Vec<u32>> {
    numbers.map(|number| write_timed(line(number).as_bytes())).collect()
}

/// One line, one write: nothing is kept back as `std`'s own buffer would.
fn write_timed(bytes: &[u8]) -> io::Result<u32> {
    let start = Instant::now();
    let mut out = crate::sys::unbuffered_stdout();
    out.write_all(bytes)?;
    Ok(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_known_by_its_number_and_whole() {
        let text = line(1234);
        assert_eq!((text.len(), number_of(text.trim_end().as_bytes())), (100, Some(1234)));
        let bytes = text.as_bytes();
        for torn in [&b""[..], b"0001234", &bytes[..98], bytes, &bytes[1..99]] {
            assert_eq!(number_of(torn), None, "{}", String::from_utf8_lossy(torn));
        }
    }

    #[test]
    fn a_job_is_known_by_its_words() {
        let jobs = [
            Job::Flow { rate: 1, seconds: 2 },
            Job::Burst { lines: 3, more: 4 },
            Job::Long { bytes: 5 },
            Job::Bytes,
        ];
        for job in jobs {
            assert_eq!(Job::from_words(&job.words()), Some(job));
        }
        assert_eq!(Job::from_words(&["flow".to_owned()]), None);
    }

    #[test]
    fn bytes_of_every_kind_are_in_lines() {
        let all = bytes();
        assert_eq!(all.iter().filter(|byte| **byte == b'\n').count(), 1000);
        assert!((0..=255).all(|byte| all.contains(&byte)) && std::str::from_utf8(&all).is_err());
    }
}
