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
mod watch;

use std::io::Write;

pub use self::entry::{KeeperOptions, main, run};
pub use self::start::{StartError, start};

/// A line for people, in the keeper's log or on its terminal.
fn say(what: &str) {
    // Nobody may be left to read it.
    drop(writeln!(std::io::stderr(), "Keeper: {what}"));
}
