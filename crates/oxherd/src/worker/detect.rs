//! Finding out whether this process, or this thread, is a worker.
//!
//! The environment says so, as Node's does; a thread is told by the primary that started it. Must never take over a
//! descriptor that is not a channel.

use std::cell::RefCell;
use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use oxherd_os::{environment, reexec};
use oxherd_wire::Serialization;
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::{Identity, Worker};

const CHANNEL: &str = "NODE_CHANNEL_FD";
/// Says how the channel is written.
pub(crate) const MODE: &str = "NODE_CHANNEL_SERIALIZATION_MODE";
const UNIQUE_ID: &str = "NODE_UNIQUE_ID";

thread_local! {
    static OF_THREAD: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// This thread or process as a worker; `None` when the program runs alone.
///
/// A process is a worker when its environment says so (`NODE_CHANNEL_FD` and `NODE_UNIQUE_ID`, set by a primary of
/// Oxherd or of Node). The first call tells the primary that this worker is online. Further calls, on any thread,
/// return the same worker; a thread that a primary started as a worker gets its own. No runtime is needed.
///
/// Call it first thing in `main`: the variables are removed then, so that programs started from here do not take
/// themselves for workers. Once there are other threads the environment cannot be changed.
///
/// ```no_run
/// match oxherd::worker() {
///     Some(worker) => println!("worker {} in slot {}", worker.id(), worker.slot()),
///     None => println!("running alone"),
/// }
/// ```
pub fn worker() -> Option<Worker> {
    let worker = find()?;
    worker.channel().ensure_task();
    Some(worker)
}

/// As [`worker`], but starts nothing.
pub(super) fn find() -> Option<Worker> {
    static OF_PROCESS: OnceLock<Option<Worker>> = OnceLock::new();
    // A thread that is being torn down has none.
    let own = OF_THREAD.try_with(|own| own.borrow().clone()).ok().flatten();
    own.or_else(|| OF_PROCESS.get_or_init(of_process).clone())
}

/// Makes the current thread a worker, or none again.
#[cfg_attr(not(feature = "primary"), allow(dead_code))]
pub(crate) fn set_thread_worker(worker: Option<Worker>) {
    OF_THREAD.with(|own| drop(own.replace(worker)));
}

fn of_process() -> Option<Worker> {
    let unique_id = env::var(UNIQUE_ID).ok().filter(|id| !id.is_empty())?;
    let number = env::var(CHANNEL).ok()?.parse().ok()?;
    let serialization = Serialization::named(&env::var(MODE).unwrap_or_default())?;
    let channel = take_channel(number).ok()?;
    let identity = Identity {
        id: unique_id.parse().unwrap_or(0),
        slot: slot(&unique_id),
        generation: generation(),
        is_thread: false,
    };
    let worker = Worker::on_channel(channel, identity, serialization).ok()?;
    environment::remove_if_alone(&[CHANNEL, MODE, UNIQUE_ID]);
    Some(worker)
}

fn take_channel(number: i32) -> io::Result<OwnedFd> {
    let channel = reexec::inherit(number)?;
    let is_unix = sockopt::socket_domain(&channel)? == AddressFamily::UNIX;
    if is_unix && sockopt::socket_type(&channel)? == SocketType::STREAM {
        return Ok(channel);
    }
    Err(io::ErrorKind::InvalidInput.into())
}

/// Node's primaries have no slots; there the id, which counts from 1, comes nearest.
fn slot(unique_id: &str) -> u32 {
    let set =
        ["OXHERD_SLOT", "NODE_APP_INSTANCE"].into_iter().find_map(|name| env::var(name).ok()?.parse().ok());
    set.unwrap_or_else(|| unique_id.parse::<u32>().unwrap_or(1).saturating_sub(1))
}

/// The third number of `app:slot:generation:instance`.
fn generation() -> u32 {
    let label = env::var("OXHERD_INSTANCE").unwrap_or_default();
    label.split(':').nth(2).and_then(|generation| generation.parse().ok()).unwrap_or(0)
}
