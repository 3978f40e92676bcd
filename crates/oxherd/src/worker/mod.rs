//! The worker's side: what a program says and hears as one of several behind one address.
//!
//! A worker has a channel to its primary, of Oxherd or of Node. Over it come connections or listening sockets,
//! messages, and the word to leave. Nothing here supervises anything, and nothing but the process's end makes a
//! worker let go of a connection that it has taken.

mod attachment;
mod channel;
mod connection;
mod detect;
mod inbox;
mod leave;
mod listen;
mod listener;
mod load;
mod messages;
mod outbox;
mod panics;
mod sending;
mod server;
mod task;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

pub use attachment::Attachment;
pub use connection::{Connection, Tracked};
pub use detect::worker;
#[cfg_attr(not(feature = "primary"), allow(unused_imports))]
pub(crate) use detect::{MODE, set_thread_worker};
pub use leave::{Drained, Shutdown};
#[cfg_attr(not(feature = "axum"), allow(unused_imports))]
pub(crate) use leave::{end_at_next_signal, told_by_signal};
pub use listen::{ListenError, bind_udp, listen, listen_unix};
#[cfg(feature = "stream")]
pub use listener::Incoming;
pub use listener::{Listener, UnixListener};
pub use load::{Figures, InFlight, Load};
pub use messages::{Message, MessageError, Messages};
pub use sending::SendError;
#[cfg(feature = "primary")]
pub(crate) use sending::json_of;

use channel::Channel;
use oxherd_wire::Serialization;

/// Which worker one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: u64,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) is_thread: bool,
}

/// Why a worker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The primary said `disconnect`.
    Disconnect,
    /// A message said `shutdown`.
    Message,
    /// A signal came.
    Signal,
    /// The program wants to.
    Own,
    /// Nobody is at the other end any more.
    PrimaryGone,
}

/// This process or thread as a worker; from [`worker()`]. Clones are the same worker.
///
/// All methods may be called from any thread. Those that do not wait need no runtime; those that do need tokio with
/// IO and time enabled.
///
/// ```no_run
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// let Some(worker) = oxherd::worker() else { return Ok(()) };
/// worker.report_panics();
/// let listener = worker.listen("0.0.0.0:3000").await?;
/// worker.ready()?;
/// worker.shutdown().await;
/// # drop(listener); Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Worker {
    channel: Arc<Channel>,
}

impl Worker {
    /// Makes a worker of the worker's end of a channel that is written like this, and says that it is online.
    pub(crate) fn on_channel(
        channel: OwnedFd,
        identity: Identity,
        serialization: Serialization,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&channel, true)?;
        let worker = Self { channel: Channel::new(channel, identity, serialization) };
        worker.channel.tell(|outbox| outbox.owe(oxherd_wire::worker::online));
        worker.channel.ensure_task();
        Ok(worker)
    }

    /// The id that the primary gave this worker, from 1 up and never used again; `worker.id` in Node.
    pub fn id(&self) -> u64 {
        self.channel.identity.id
    }

    /// The slot that this worker fills, from 0 up. Its successor after a reload or a crash fills the same. Under a
    /// Node primary, which has none, the id less one.
    pub fn slot(&self) -> u32 {
        self.channel.identity.slot
    }

    /// Which generation of the program's code and configuration this is; each reload makes the next. 0 under a Node
    /// primary.
    pub fn generation(&self) -> u32 {
        self.channel.identity.generation
    }

    /// Whether the channel to the primary is open.
    pub fn is_connected(&self) -> bool {
        self.channel.ensure_task();
        self.channel.is_connected()
    }

    /// The messages for this worker. Those that came before wait.
    pub fn messages(&self) -> Messages {
        self.channel.ensure_task();
        Messages::new(Arc::clone(&self.channel))
    }

    /// The figures of this worker, to count requests with. With `http::RequestLayer` there is no need to.
    pub fn load(&self) -> Load {
        self.channel.ensure_task();
        Load::new(Arc::clone(&self.channel.page))
    }

    /// How long this worker has lived.
    pub fn uptime(&self) -> Duration {
        self.channel.began.elapsed()
    }

    fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }
}
