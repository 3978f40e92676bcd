//! When a worker should leave, and how it does.
//!
//! Nobody is forced here: the futures fire, listeners fall silent, and the program ends as it sees fit. The primary
//! has a timer for those that do not.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep_until;

use super::channel::Channel;
use super::{Cause, SendError, Worker};

/// How long connections may be on their way that the primary handed over before it knew that this worker leaves.
const GRACE: Duration = Duration::from_millis(50);

type Inner = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Fires when this worker should leave; from [`Worker::shutdown`]. Stays fired.
pub struct Shutdown(Inner);

/// Fires when this worker should leave and its clients have gone elsewhere; from [`Worker::drained`].
pub struct Drained(Inner);

macro_rules! future {
    ($($name:ident),*) => {$(
        impl Future for $name {
            type Output = ();

            fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
                self.0.as_mut().poll(context)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )*};
}
future!(Shutdown, Drained);

impl Worker {
    /// Fires as soon as this worker should leave: its primary told it to (`disconnect`, `{type:"shutdown"}` or
    /// `"shutdown"`), its primary is gone, it [disconnected](Self::disconnect) itself, or a signal came that
    /// [`handle_signals`](Self::handle_signals) looks for. What [`drained`](Self::drained) says comes later and suits
    /// servers with connections that stay open.
    ///
    /// A process that never asks for this (nor for `drained`, `is_shutting_down` or `messages`) leaves as a Node
    /// worker would: it exits with 0 as soon as its primary is gone, and after a `disconnect` once its tracked
    /// connections have ended and the [linger time](Self::set_linger) is over.
    ///
    /// ```no_run
    /// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
    /// let Some(worker) = oxherd::worker() else { return Ok(()) };
    /// worker.shutdown().await;
    /// println!("closing the database");
    /// # Ok(()) }
    /// ```
    pub fn shutdown(&self) -> Shutdown {
        self.watch();
        let channel = Arc::clone(self.channel());
        Shutdown(Box::pin(async move { channel.drive(channel.told()).await }))
    }

    /// Whether [`shutdown`](Self::shutdown) has fired. Asking counts as wanting to be told, as there.
    pub fn is_shutting_down(&self) -> bool {
        self.watch();
        self.channel().is_told_to_leave()
    }

    /// As [`is_shutting_down`](Self::is_shutting_down), asked by what does not end the program.
    #[cfg_attr(not(feature = "tower"), allow(dead_code))]
    pub(crate) fn leaves(&self) -> bool {
        self.channel().is_leaving()
    }

    /// Fires when this worker should leave and either no tracked connection is open any more or the linger time is
    /// over. The signal for servers that close idle connections when they get it.
    ///
    /// Between the two moments nothing is lost: new connections go to other workers, and on those that are open the
    /// answers say `Connection: close` (`http::RequestLayer` sees to that), so that clients come back over a new
    /// one. What is idle after the linger time is closed by the server. Connections are tracked that come from
    /// [`Listener::accept_tracked`](crate::Listener::accept_tracked), as for `axum::serve`.
    ///
    /// ```no_run
    /// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
    /// let Some(worker) = oxherd::worker() else { return Ok(()) };
    /// worker.set_linger(std::time::Duration::from_secs(1));
    /// worker.drained().await;
    /// # Ok(()) }
    /// ```
    pub fn drained(&self) -> Drained {
        self.watch();
        let channel = Arc::clone(self.channel());
        Drained(Box::pin(async move { channel.drive(channel.emptied()).await }))
    }

    /// How long [`drained`](Self::drained) waits for clients that keep their connections open; 3 s unless set.
    pub fn set_linger(&self, linger: Duration) {
        self.channel().set_linger(linger);
    }

    /// From now on SIGTERM and SIGINT tell this worker to leave instead of ending the process; a second one ends it at
    /// once, with code 1. Without effect in a
    /// thread, whose process has a primary to do that. Call it within a runtime; it lasts as long as that one.
    ///
    /// # Errors
    ///
    /// `Other` without a runtime; else those of `sigaction(2)`, and none to expect.
    ///
    /// ```no_run
    /// # async fn main_() -> std::io::Result<()> {
    /// let Some(worker) = oxherd::worker() else { return Ok(()) };
    /// worker.handle_signals()?;
    /// worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn handle_signals(&self) -> io::Result<()> {
        if self.channel().identity.is_thread {
            return Ok(());
        }
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let told = told_by_signal()?;
        let channel = Arc::downgrade(self.channel());
        drop(runtime.spawn(async move {
            told.await;
            if let Some(channel) = channel.upgrade() {
                channel.leave(Cause::Signal);
            }
            end_at_next_signal();
        }));
        Ok(())
    }

    /// Leaves by its own will, as `cluster.worker.disconnect()` does: closes every server, sends what is still to be
    /// sent, says so to the primary and waits until that has acknowledged it. The channel is closed then. The
    /// primary does not count it as a crash; whether it starts another one is its affair.
    ///
    /// Connections that are open stay open: wait for [`drained`](Self::drained) before or after it.
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] when the primary goes before it has acknowledged.
    ///
    /// ```no_run
    /// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
    /// let Some(worker) = oxherd::worker() else { return Ok(()) };
    /// worker.disconnect().await?;
    /// assert!(!worker.is_connected());
    /// # Ok(()) }
    /// ```
    pub async fn disconnect(&self) -> Result<(), SendError> {
        let channel = self.channel();
        if channel.has_departed() {
            return Ok(());
        }
        if !channel.is_connected() {
            return Err(channel.gone());
        }
        channel.depart();
        channel.drive(channel.until(|| channel.has_ended())).await;
        if channel.has_departed() { Ok(()) } else { Err(channel.gone()) }
    }

    /// Waits until everything that was sent is out of this process, and attachments are acknowledged: before a
    /// process ends that has just sent something. A [`disconnect`](Self::disconnect) under way is waited for too.
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] when the primary goes before that.
    pub async fn flush(&self) -> Result<(), SendError> {
        let channel = self.channel();
        channel.drive(channel.flushed()).await;
        if channel.is_connected() { Ok(()) } else { Err(channel.gone()) }
    }

    /// Fires so long after the primary has gone, and never while there is one or none is wanted.
    #[cfg_attr(not(feature = "axum"), allow(dead_code))]
    pub(crate) fn forsaken(&self, after: Duration) -> impl Future<Output = ()> + Send + 'static {
        let channel = Arc::clone(self.channel());
        async move {
            channel.drive(channel.until(|| channel.has_ended() && !channel.has_departed())).await;
            tokio::time::sleep(after).await;
        }
    }

    /// Whether it is a thread of its primary's process.
    #[cfg(feature = "primary")]
    pub(crate) fn is_thread(&self) -> bool {
        self.channel().identity.is_thread
    }

    /// Tells it to leave, as a signal would.
    #[cfg(feature = "primary")]
    pub(crate) fn tell_to_leave(&self) {
        self.channel().leave(Cause::Signal);
    }

    /// This program wants to be told when to leave, so it is not ended.
    fn watch(&self) {
        self.channel().is_watched.store(true, Ordering::Relaxed);
    }
}

impl Channel {
    /// Waits until this worker leaves.
    pub(super) async fn left(&self) {
        self.until(|| self.is_leaving()).await;
    }

    /// Waits until the program should end.
    async fn told(&self) {
        self.until(|| self.is_told_to_leave()).await;
    }

    async fn flushed(&self) {
        self.awaited_flushes.fetch_add(1, Ordering::SeqCst);
        self.until(|| self.is_flushed() && (self.has_ended() || !self.is_departing())).await;
        self.awaited_flushes.fetch_sub(1, Ordering::SeqCst);
    }

    /// Waits until this worker leaves and its connections have ended or had their time.
    async fn emptied(&self) {
        self.told().await;
        let since = self.leaving().map_or_else(Instant::now, |(_, since)| since);
        self.until_or(since + GRACE, || !self.may_be_handed_more()).await;
        loop {
            let linger = self.linger();
            self.until_or(since + linger, || self.open() == 0 || self.linger() != linger).await;
            if self.linger() == linger {
                return;
            }
        }
    }

    /// Waits until something holds that `changed` tells of, or until then.
    async fn until_or(&self, deadline: Instant, holds: impl Fn() -> bool) {
        let mut over = pin!(sleep_until(deadline.into()));
        let mut done = pin!(self.until(holds));
        poll_fn(|context| {
            if done.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            over.as_mut().poll(context)
        })
        .await;
    }

    /// Waits until something holds that `changed` tells of.
    async fn until(&self, holds: impl Fn() -> bool) {
        let mut changed = pin!(self.changed.notified());
        loop {
            changed.as_mut().enable();
            if holds() {
                return;
            }
            changed.as_mut().await;
            changed.set(self.changed.notified());
        }
    }
}

/// Whoever asks twice does not want to wait.
pub(crate) fn end_at_next_signal() {
    if let Ok(told) = told_by_signal() {
        drop(tokio::spawn(async move {
            told.await;
            std::process::exit(1);
        }));
    }
}

/// Resolves when SIGTERM or SIGINT comes. From now on neither ends the process.
pub(crate) fn told_by_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        poll_fn(|context| {
            if terminate.poll_recv(context).is_ready() {
                return Poll::Ready(());
            }
            interrupt.poll_recv(context).map(drop)
        })
        .await;
    })
}
