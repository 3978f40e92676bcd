//! A thread that writes, behind a bounded queue, so that a reader who has stopped reading holds up nobody.
//!
//! What does not fit is dropped and counted, and the count is told in its place once the queue moves again.
//! [`Printer::print`] never waits for a reader.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a full nonblocking stream is left alone.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// A buffer that has grown beyond this is given back once it is written.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Lines that nobody will see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) lines: u64,
    /// Why they could not be written; `None`: they did not fit.
    pub(super) error: Option<String>,
}

/// The front of the queue. It belongs to the thread that has something to say.
#[derive(Debug)]
pub(super) struct Printer {
    shared: Arc<Shared>,
    bytes_max: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: Vec<u8>,
    loss: Loss,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// No more is to come.
    Closing,
    /// Nothing is written any more: all is, or the reader has gone.
    Ended,
}

impl Printer {
    /// Starts a thread that writes to `sink` and tells of losses with the bytes that `tell` makes.
    pub(super) fn start(
        sink: impl Write + Send + 'static,
        bytes_max: usize,
        tell: impl Fn(&Loss) -> Vec<u8> + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let writer = Writer { sink, tell, shared: Arc::clone(&shared) };
        thread::Builder::new().name("oxherd-output".into()).spawn(|| writer.run())?;
        Ok(Self { shared, bytes_max })
    }

    /// Queues lines that stay together, the last of which may go on with the next ones, or drops them.
    pub(super) fn print(&self, lines: &[u8]) {
        let mut state = self.shared.lock();
        if state.phase == Phase::Ended {
            return;
        }
        // After a drop nothing is taken until the queue moves, so that the count stands where the gap is.
        let has_gap = state.loss.lines > 0 && state.loss.error.is_none();
        if has_gap || state.queue.len() + lines.len() > self.bytes_max {
            state.loss.lines += count_lines(lines);
            state.loss.error = None;
            return;
        }
        state.queue.extend_from_slice(lines);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Waits until all is written or `until` has come; says which.
    pub(super) fn finish(self, until: Instant) -> bool {
        let mut state = self.shared.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
        }
        self.shared.changed.notify_all();
        while state.phase != Phase::Ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something to write, and for the end of it. `None`: there is nothing and nothing will come.
    fn next(&self, emptied: Vec<u8>) -> Option<(Vec<u8>, Loss)> {
        let mut state = self.lock();
        loop {
            if !state.queue.is_empty() || (state.phase == Phase::Closing && state.loss.lines > 0) {
                let queue = std::mem::replace(&mut state.queue, emptied);
                return Some((queue, std::mem::take(&mut state.loss)));
            }
            if state.phase != Phase::Open {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes what could not be written. Says whether to go on.
    fn failed(&self, lines: u64, error: &io::Error) -> bool {
        let mut state = self.lock();
        state.loss.lines += lines;
        state.loss.error = Some(error.to_string());
        error.kind() != io::ErrorKind::BrokenPipe && state.phase == Phase::Open
    }

    fn end(&self) {
        let mut state = self.lock();
        state.phase = Phase::Ended;
        state.queue = Vec::new();
        drop(state);
        self.changed.notify_all();
    }
}

struct Writer<W, T> {
    sink: W,
    tell: T,
    shared: Arc<Shared>,
}

impl<W: Write, T: Fn(&Loss) -> Vec<u8>> Writer<W, T> {
    fn run(mut self) {
        let mut emptied = Vec::new();
        let mut last = b'\n';
        while let Some((mut queue, loss)) = self.shared.next(emptied) {
            let lines_before = count_lines(&queue);
            if loss.lines > 0 {
                if *queue.last().unwrap_or(&last) != b'\n' {
                    queue.push(b'\n');
                }
                queue.extend_from_slice(&(self.tell)(&loss));
            }
            let outcome = write_all(&mut self.sink, &queue);
            let written = outcome.as_ref().map_or_else(|(written, _)| *written, |()| queue.len());
            last = queue.get(..written).and_then(<[u8]>::last).copied().unwrap_or(last);
            if let Err((written, error)) = outcome {
                let unwritten = lines_before.saturating_sub(count_lines(queue.get(..written).unwrap_or(&[])));
                if !self.shared.failed(unwritten + loss.lines, &error) {
                    break;
                }
            }
            emptied = recycle(queue);
        }
        self.shared.end();
    }
}

/// Writes all, also to a nonblocking stream. A failure comes with the number of bytes before it.
fn write_all(sink: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match sink.write(rest) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

fn recycle(mut buffer: Vec<u8>) -> Vec<u8> {
    if buffer.capacity() > KEPT_BYTES_MAX {
        return Vec::new();
    }
    buffer.clear();
    buffer
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// A sink that says what it was given and waits to be told what comes of it.
    struct Gate {
        given: Sender<String>,
        answers: Receiver<io::Result<()>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.given.send(String::from_utf8_lossy(bytes).into_owned()).ok();
            self.answers.recv().unwrap_or(Ok(())).map(|()| bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated(bytes_max: usize) -> (Printer, Receiver<String>, Sender<io::Result<()>>) {
        let ((given, given_rx), (answers_tx, answers)) = (channel(), channel());
        let tell = |loss: &Loss| format!("[{} {:?}]\n", loss.lines, loss.error).into_bytes();
        let printer = Printer::start(Gate { given, answers }, bytes_max, tell).unwrap();
        (printer, given_rx, answers_tx)
    }

    fn until() -> Instant {
        Instant::now() + DEADLINE
    }

    #[test]
    fn a_stalled_reader_costs_lines_but_no_time() {
        let (printer, given, answers) = gated(12);
        printer.print(b"first\n");
        assert_eq!(given.recv_timeout(DEADLINE).unwrap(), "first\n");
        for line in ["a1234\n", "b1234\n", "c1234\n", "d\ne\n", "f\n"] {
            printer.print(line.as_bytes());
        }
        answers.send(Ok(())).unwrap();
        assert_eq!(given.recv_timeout(DEADLINE).unwrap(), "a1234\nb1234\n[4 None]\n");
        answers.send(Ok(())).unwrap();
        printer.print(b"last\n");
        assert_eq!(given.recv_timeout(DEADLINE).unwrap(), "last\n");
        answers.send(Ok(())).unwrap();
        assert!(printer.finish(until()));
        assert!(given.recv().is_err(), "nothing is left");
    }

    #[test]
    fn a_loss_is_told_on_a_line_of_its_own() {
        let (printer, given, answers) = gated(6);
        printer.print(b"begun");
        assert_eq!(given.recv_timeout(DEADLINE).unwrap(), "begun");
        printer.print(b"too long\n");
        let finished = thread::spawn(move || printer.finish(until()));
        answers.send(Ok(())).unwrap();
        assert_eq!(given.recv_timeout(DEADLINE).unwrap(), "\n[1 None]\n");
        answers.send(Ok(())).unwrap();
        assert!(finished.join().unwrap());
    }

    #[test]
    fn the_end_does_not_wait_for_a_stalled_reader() {
        let (printer, given, answers) = gated(100);
        printer.print(b"first\n");
        given.recv_timeout(DEADLINE).unwrap();
        assert!(!printer.finish(Instant::now()));
        drop(answers);
    }

    #[test]
    fn a_reader_that_has_gone_is_not_missed() {
        let (printer, given, answers) = gated(100);
        printer.print(b"first\n");
        given.recv_timeout(DEADLINE).unwrap();
        answers.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        // The sink is dropped when the thread ends.
        assert!(given.recv().is_err());
        for _ in 0..1000 {
            printer.print(b"nobody reads this\n");
        }
        assert!(printer.finish(until()));
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (printer, given, answers) = gated(100);
        printer.print(b"one\ntwo\n");
        given.recv_timeout(DEADLINE).unwrap();
        printer.print(b"three\n");
        answers.send(Err(io::Error::other("disk full"))).unwrap();
        assert_eq!(given.recv_timeout(DEADLINE).unwrap(), "three\n[2 Some(\"disk full\")]\n");
        answers.send(Ok(())).unwrap();
        assert!(printer.finish(until()));
    }

    #[test]
    fn a_lasting_failure_ends_with_the_printer() {
        let (printer, given, answers) = gated(100);
        printer.print(b"one\n");
        given.recv_timeout(DEADLINE).unwrap();
        answers.send(Err(io::Error::other("disk full"))).unwrap();
        // With its answers gone the sink takes everything, so only the first write fails.
        drop(answers);
        assert!(printer.finish(until()));
    }

    #[test]
    fn a_full_nonblocking_stream_is_tried_again() {
        let (printer, given, answers) = gated(100);
        printer.print(b"one\n");
        for answer in [Err(io::ErrorKind::WouldBlock.into()), Err(io::ErrorKind::Interrupted.into()), Ok(())]
        {
            assert_eq!(given.recv_timeout(DEADLINE).unwrap(), "one\n");
            answers.send(answer).unwrap();
        }
        assert!(printer.finish(until()));
    }
}
