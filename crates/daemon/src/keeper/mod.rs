//! The keeper: a Host in a process of its own, which outlives every daemon.
//!
//! It is the parent of the workers and of the daemon, holds their descriptors and the fleet's last image, and starts
//! the daemon again whenever that ends. One thread, no async runtime, little memory. It must never decide about a
//! worker, look into what it holds, or end for any reason but a daemon's farewell.

mod daemon;
mod deaths;
mod entry;
mod estate;
mod held;
mod run;
mod serve;
mod signals;
mod start;
mod stash;
mod state;
mod strays;
mod successor;
mod upgrade;
mod watch;

use std::io::{self, Write};
use std::time::Duration;

use oxherd_os::{Events, Interest, Poller};

pub(crate) use self::daemon::own_program;
pub use self::entry::{KeeperOptions, main, run};
pub use self::start::{StartError, become_foreground, start};

/// A line for people, in the keeper's log or on its terminal. Left out where nobody reads: that must not stop us.
fn say(what: &str) {
    let mut stderr = io::stderr();
    if would_write().unwrap_or(true) {
        drop(writeln!(stderr, "Keeper: {what}"));
    }
}

/// Whether a pipe or a terminal takes a line; an error from a file, which always does.
fn would_write() -> io::Result<bool> {
    let poller = Poller::new()?;
    poller.add(io::stderr(), 0, Interest::WRITE)?;
    Ok(poller.wait(&mut Events::with_capacity(1), Some(Duration::ZERO))? > 0)
}
