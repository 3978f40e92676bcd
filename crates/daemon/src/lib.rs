//! The daemon and its keeper: a herd that outlives its manager.
//!
//! The keeper holds processes and descriptors; the daemon is the primary of all apps, and may die at any moment.
//! What is to be done with workers is the core's to decide, and the engine's to do.

#![warn(missing_docs)]

pub mod daemon;
pub mod home;
pub mod keeper;
mod ledger;
pub mod link;
pub mod logs;
pub mod patience;
mod pidfiles;
pub mod server;
pub mod state;
mod upkeep;
mod voice;
