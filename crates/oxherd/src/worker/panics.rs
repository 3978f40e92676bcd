//! Panics are told to the primary before the thread goes on to die of them.
//!
//! Must never wait for long, nor for a lock that the panicking thread may hold itself.

use std::backtrace::Backtrace;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Worker;
use super::detect::find;
use super::sending::error_line;

/// How long a dying thread waits for its primary to take the report.
const PATIENCE: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(1);

impl Worker {
    /// Tells the primary of an error: `{type:"error", error, stack}`. It is counted, kept, shown, and feeds the
    /// window after which the primary stops to respawn.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// ```no_run
    /// # fn work() -> Result<(), std::io::Error> { Ok(()) }
    /// # let Some(worker) = oxherd::worker() else { return };
    /// if let Err(error) = work() {
    ///     drop(worker.report_error(&error, Some("while it worked")));
    /// }
    /// ```
    pub fn report_error(
        &self,
        error: impl std::fmt::Display,
        stack: Option<&str>,
    ) -> Result<(), super::SendError> {
        self.channel().send(error_line(&error.to_string(), stack), None)
    }

    /// From now on a panic in any thread is reported as [`report_error`](Self::report_error) does, with its place,
    /// thread and backtrace, before the thread goes on. The hook that was there runs first, so the usual message
    /// still appears. Reports of a thread worker go to its own channel.
    ///
    /// ```no_run
    /// # let Some(worker) = oxherd::worker() else { return };
    /// worker.report_panics();
    /// ```
    pub fn report_panics(&self) {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            let before = take_hook();
            set_hook(Box::new(move |panic| {
                before(panic);
                // The worker is found then and there, because threads may have their own.
                if let Some(worker) = find() {
                    worker.report_panic(panic);
                }
            }));
        });
    }

    fn report_panic(&self, panic: &PanicHookInfo<'_>) {
        let said = panic.payload_as_str().unwrap_or("a panic whose payload is no text");
        let thread = thread::current();
        let name = thread.name().unwrap_or("<unnamed>");
        let place = panic.location().map_or_else(|| "an unknown place".into(), ToString::to_string);
        let trace = Backtrace::force_capture();
        let stack = format!("thread '{name}' panicked at {place}: {said}\n{trace}");
        self.send_now(error_line(said, Some(&stack)));
    }

    /// Sends a line and waits, but not long, until it is out.
    fn send_now(&self, line: Vec<u8>) {
        let deadline = Instant::now() + PATIENCE;
        let mut line = Some(line);
        loop {
            let told = self.channel().try_tell(|outbox| {
                if let Some(line) = line.take() {
                    // Text on one level is never too deep.
                    let _queued = outbox.queue(line, None);
                }
            });
            let is_out = told && self.channel().try_is_flushed();
            let rest = deadline.saturating_duration_since(Instant::now());
            if is_out || rest.is_zero() {
                return;
            }
            if told {
                wait_writable(self.channel().socket.as_ref(), rest);
            } else {
                thread::sleep(RETRY);
            }
        }
    }
}

fn wait_writable(socket: &std::os::fd::OwnedFd, rest: Duration) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(rest.subsec_nanos()) };
    let mut fds = [PollFd::new(socket, PollFlags::OUT)];
    // A wait that is cut short only means another try.
    let _ready = poll(&mut fds, Some(&timeout));
    // What waits behind a descriptor under way is not made to go by a writable socket.
    thread::sleep(RETRY);
}
