//! What this process says of itself, in lines on its standard error, which is a file in the home as a rule.
//!
//! A disk may hang, and whoever writes to it with it. Lines for a file are left in a bounded queue; a thread that
//! lives only while there are some writes them. Must never make anybody wait who does not ask to.

use std::io::{self, Write};
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use oxherd_os::{Events, Interest, Poller};

/// What may wait to be written.
const BYTES_MAX: usize = 64 << 10;
/// The thread only writes.
const STACK_BYTES: usize = 64 << 10;
/// Far longer than a file takes.
pub(crate) const MOMENT: Duration = Duration::from_millis(50);

/// There is one standard error.
static STATE: Mutex<State> = Mutex::new(State { queue: Vec::new(), lost: 0, is_writing: false });
static WRITTEN: Condvar = Condvar::new();

struct State {
    queue: Vec<u8>,
    /// Lines for which there was no room, and of which the file does not tell yet.
    lost: u64,
    /// There is a thread, which has taken what was in the queue.
    is_writing: bool,
}

/// Says a line. To a reader it is left out while that does not read; to a file it is written soon.
pub(crate) fn say(line: &str) {
    match has_room() {
        // Nobody may be left to read it.
        Ok(true) => drop(writeln!(io::stderr(), "{line}")),
        Ok(false) => {}
        Err(_) => leave(line),
    }
}

/// The same, and waits for a moment until it is written: whoever hears what comes next can read it then. Not while
/// a line before it still waits.
pub(crate) fn say_first(line: &str) {
    let is_behind = lock().is_writing;
    say(line);
    if !is_behind {
        flush(MOMENT);
    }
}

/// Waits until all is written; `false` if that takes longer.
pub(crate) fn flush(timeout: Duration) -> bool {
    let waited = WRITTEN.wait_timeout_while(lock(), timeout, |state| state.is_writing);
    !waited.unwrap_or_else(PoisonError::into_inner).0.is_writing
}

/// Whether a pipe or a terminal takes a line; an error from a file, which cannot be asked.
fn has_room() -> io::Result<bool> {
    let poller = Poller::new()?;
    poller.add(io::stderr(), 0, Interest::WRITE)?;
    Ok(poller.wait(&mut Events::with_capacity(1), Some(Duration::ZERO))? > 0)
}

fn leave(line: &str) {
    let mut state = lock();
    if state.queue.len() + line.len() >= BYTES_MAX {
        state.lost += 1;
        return;
    }
    state.queue.extend_from_slice(line.as_bytes());
    state.queue.push(b'\n');
    if !state.is_writing {
        let writer = thread::Builder::new().name("voice".into()).stack_size(STACK_BYTES);
        // Where there is no room for a thread the line waits for the next one.
        state.is_writing = writer.spawn(write_all).is_ok();
    }
}

/// Writes until nothing is left.
fn write_all() {
    while let Some(lines) = next() {
        // A full disk loses it.
        drop(io::stderr().write_all(&lines));
    }
}

fn next() -> Option<Vec<u8>> {
    let mut state = lock();
    if state.queue.is_empty() {
        state.is_writing = false;
        WRITTEN.notify_all();
        return None;
    }
    let lost = mem::take(&mut state.lost);
    if lost > 0 {
        // They came after those that are taken now.
        state.queue.extend_from_slice(format!("{lost} lines lost: the disk was too slow\n").as_bytes());
    }
    Some(mem::take(&mut state.queue))
}

/// The fields are set one by one and never half.
fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
