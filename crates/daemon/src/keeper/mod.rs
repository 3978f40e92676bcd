//! The keeper: a Host in a process of its own, which outlives every daemon.
//!
//! It is the parent of the workers and of the daemon, holds their descriptors and the fleet's last image, and starts
//! the daemon again whenever that ends. One thread, no async runtime, little memory. It must never decide about a
//! worker, look into what it holds, or end for any reason but a daemon's farewell.

mod daemon;
mod deaths;
mod doomed;
mod entry;
mod estate;
mod held;
mod parting;
mod run;
mod serve;
mod service;
mod signals;
mod start;
mod stash;
mod state;
mod strays;
mod successor;
mod upgrade;
mod watch;

pub(crate) use self::daemon::own_program;
pub use self::entry::{KeeperOptions, main, run};
pub use self::start::{StartError, become_foreground, start};

use crate::voice;

/// A line for people, in the keeper's log or on its terminal. Left out where nobody reads: that must not stop us.
fn say(what: &str) {
    voice::say_first(&format!("Keeper: {what}"));
}
