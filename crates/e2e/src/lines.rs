//! What a program has printed so far, with the time of each line. Reading never waits for whoever looks.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where in the output something was. Lines at and after it are "since".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

impl Mark {
    /// Before the first line.
    pub const START: Self = Self(0);
}

/// One line of output.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was read.
    pub at: Instant,
    /// Whether it came on stderr.
    pub is_error: bool,
    /// Who speaks: `oxherd`, or `slot N`. Empty where there is no gutter.
    pub who: String,
    /// What is said.
    pub text: String,
}

impl Line {
    fn parse(raw: &str, is_error: bool) -> Self {
        let (who, text) = match raw.split_once(" | ").or_else(|| Some((raw.strip_suffix(" |")?, ""))) {
            Some((who, text)) if who.trim() == "oxherd" || who.starts_with("slot ") => (who.trim(), text),
            _ => ("", raw),
        };
        Self { at: Instant::now(), is_error, who: who.to_owned(), text: text.to_owned() }
    }

    /// Whether a worker wrote it.
    pub fn is_of_worker(&self) -> bool {
        self.who.starts_with("slot ")
    }

    /// Whether it is a log line of the primary.
    pub fn is_of_primary(&self) -> bool {
        self.who == "oxherd"
    }
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Vec<Line>>,
    grown: Condvar,
}

/// All lines of a program, gathered by a thread for each of its streams.
#[derive(Debug, Default)]
pub struct Lines {
    shared: Arc<Shared>,
    readers: Vec<JoinHandle<()>>,
}

impl Lines {
    /// Gathers a stream until its end.
    pub fn gather(&mut self, stream: impl Read + Send + 'static, is_error: bool) {
        let shared = Arc::clone(&self.shared);
        self.readers.push(std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut raw = Vec::new();
            while reader.read_until(b'\n', &mut raw).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&raw);
                let line = Line::parse(text.trim_end_matches('\n'), is_error);
                shared.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                shared.grown.notify_all();
                raw.clear();
            }
            shared.grown.notify_all();
        }));
    }

    /// Waits for the ends of all streams, which come when the last writer has closed them.
    pub fn finish(&mut self) {
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
    }

    /// The end of what there is.
    pub fn mark(&self) -> Mark {
        Mark(self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner).len())
    }

    /// What was printed since.
    pub fn since(&self, mark: Mark) -> Vec<Line> {
        let lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.get(mark.0..).unwrap_or_default().to_vec()
    }

    /// The first line since `mark` of which `wanted` is true, as soon as it is there; and the mark behind it.
    pub fn wait(
        &self,
        mark: Mark,
        limit: Duration,
        mut wanted: impl FnMut(&Line) -> bool,
    ) -> Option<(Line, Mark)> {
        let until = Instant::now() + limit;
        let mut next = mark.0;
        let mut lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while let Some(line) = lines.get(next) {
                next += 1;
                if wanted(line) {
                    return Some((line.clone(), Mark(next)));
                }
            }
            let left = until.checked_duration_since(Instant::now())?;
            (lines, _) = self.shared.grown.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The last lines, for a message about a failure.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.since(Mark::START);
        let from = lines.len().saturating_sub(count);
        let shown = lines[from..].iter().map(|line| format!("  {:>6} | {}", line.who, line.text));
        shown.collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gutter_says_who_speaks() {
        let parse = |raw| {
            let line = Line::parse(raw, false);
            (line.who, line.text)
        };
        assert_eq!(parse("oxherd | a | b"), ("oxherd".into(), "a | b".into()));
        assert_eq!(parse("slot 3 | hello"), ("slot 3".into(), "hello".into()));
        assert_eq!(parse("slot 3 | "), ("slot 3".into(), "".into()));
        assert_eq!(parse("oxherd  | wide"), ("oxherd".into(), "wide".into()));
        assert_eq!(parse("error: a | b"), ("".into(), "error: a | b".into()));
    }
}
