//! The channel's task: reads, sends what could not be sent at once, and measures how late the event loop runs.
//!
//! It runs on whatever runtime the program happens to use, and ends with it; whoever waits for something of the
//! channel then starts it again on the runtime that he waits on. Must never hold a lock while it waits.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use oxherd_wire::load as layout;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep_until};

use super::channel::{Channel, TASK_NONE, TASK_OVER, TASK_RUNS};
use super::inbox::Read;

/// How long a connection waits to be accepted by the program before it is given back. Tests play the primary by
/// hand, and a busy machine is slow at that.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 25 });
/// How often the event loop's lag is measured.
const PULSE: Duration = Duration::from_millis(250);
/// Reads in a row before others get a turn.
const READS_PER_TURN: usize = 16;

impl Channel {
    /// Sees to it that the channel's task runs, if there is a runtime for it here.
    pub(super) fn ensure_task(self: &Arc<Self>) {
        if self.task.load(Ordering::Acquire) != TASK_NONE {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        if self.task.compare_exchange(TASK_NONE, TASK_RUNS, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            let running = Running { channel: Arc::clone(self), is_over: false };
            drop(runtime.spawn(running.run()));
        }
    }

    /// Waits for `future` while the channel's task runs, wherever it has to be started anew.
    pub(super) async fn drive<F: Future>(self: &Arc<Self>, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            let mut lost = pin!(self.task_lost.notified());
            lost.as_mut().enable();
            self.ensure_task();
            let output = poll_fn(|context| {
                if let Poll::Ready(output) = future.as_mut().poll(context) {
                    return Poll::Ready(Some(output));
                }
                lost.as_mut().poll(context).map(|()| None)
            });
            match output.await {
                Some(output) => return output,
                None => tokio::task::yield_now().await,
            }
        }
    }
}

/// The running task. When it is dropped before the channel's end, its runtime has ended.
struct Running {
    channel: Arc<Channel>,
    is_over: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Another try would end the same way.
            self.channel.end("its task has panicked: build the runtime with `enable_all`");
            self.is_over = true;
        }
        let state = if self.is_over { TASK_OVER } else { TASK_NONE };
        self.channel.task.store(state, Ordering::Release);
        self.channel.task_lost.notify_waiters();
    }
}

enum Event {
    Readable,
    Writable,
    Kicked,
    Overdue,
    Pulse,
}

impl Running {
    async fn run(mut self) {
        let why = match self.watched() {
            Ok(socket) => serve(&self.channel, &socket).await,
            Err(error) => format!("its channel cannot be watched: {error}"),
        };
        self.channel.end(&why);
        self.channel.close_inbox();
        self.is_over = true;
        self.channel.leave_unattended();
    }

    /// The channel as this runtime sees it. A copy, because another runtime may have to watch it later.
    fn watched(&self) -> io::Result<UnixStream> {
        UnixStream::from_std(self.channel.socket.try_clone()?.into())
    }
}

/// Serves the channel until its end. Says why that came.
async fn serve(channel: &Channel, socket: &UnixStream) -> String {
    let mut due = Instant::now() + PULSE;
    let mut pulse = interval_at(due, PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut overdue = pin!(sleep_until(due));
    let mut awaits_overdue = false;
    loop {
        if !awaits_overdue && channel.is_waited_for() {
            overdue.as_mut().reset(Instant::now() + PATIENCE);
            awaits_overdue = true;
        }
        let patience = awaits_overdue.then_some(overdue.as_mut());
        match next_event(channel, socket, patience, &mut pulse).await {
            Event::Readable => {
                if let Some(why) = read(channel, socket).await {
                    return why;
                }
            }
            Event::Writable => flush(channel, socket),
            Event::Kicked => channel.flush_deferred(),
            Event::Overdue => {
                awaits_overdue = false;
                channel.give_back(PATIENCE);
            }
            Event::Pulse => {
                let now = Instant::now();
                note_lag(channel, now.saturating_duration_since(due));
                due = now + PULSE;
                // Not every hindrance (descriptors in flight, memory) ends with an event.
                channel.flush();
                channel.leave_unattended();
            }
        }
    }
}

async fn next_event(
    channel: &Channel,
    socket: &UnixStream,
    mut overdue: Option<Pin<&mut Sleep>>,
    pulse: &mut Interval,
) -> Event {
    let mut kicked = pin!(channel.kick.notified());
    poll_fn(|context| {
        if kicked.as_mut().poll(context).is_ready() {
            return Poll::Ready(Event::Kicked);
        }
        if socket.poll_read_ready(context).is_ready() {
            return Poll::Ready(Event::Readable);
        }
        if channel.is_blocked.load(Ordering::Relaxed) && socket.poll_write_ready(context).is_ready() {
            return Poll::Ready(Event::Writable);
        }
        if overdue.as_mut().is_some_and(|overdue| overdue.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Event::Overdue);
        }
        pulse.poll_tick(context).map(|_| Event::Pulse)
    })
    .await
}

/// Reads what is there, and says why the channel has ended if it has. What is owed for it goes after the program's
/// tasks had a turn: their answers then go with it.
async fn read(channel: &Channel, socket: &UnixStream) -> Option<String> {
    let mut end = None;
    for _ in 0..READS_PER_TURN {
        let read = socket.try_io(Interest::READABLE, || match channel.read_once() {
            Read::Some => Ok(None),
            Read::Nothing => Err(io::ErrorKind::WouldBlock.into()),
            Read::End(why) => Ok(Some(why)),
        });
        match read {
            Ok(None) => {}
            Ok(Some(why)) => end = Some(why),
            Err(_) => break,
        }
        if end.is_some() {
            break;
        }
    }
    tokio::task::yield_now().await;
    channel.flush();
    end
}

/// Writes on, and waits for the socket again where it takes no more.
fn flush(channel: &Channel, socket: &UnixStream) {
    let _blocked = socket.try_io(Interest::WRITABLE, || {
        channel.flush();
        if channel.is_blocked.load(Ordering::Relaxed) {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(())
        }
    });
}

/// Peaks are taken as they are and decay, so that a primary that looks now and then sees them.
fn note_lag(channel: &Channel, lag: Duration) {
    let measured = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
    let before = channel.page.get(layout::WORD_LAG_US);
    channel.page.set(layout::WORD_LAG_US, measured.max(before / 2));
}
