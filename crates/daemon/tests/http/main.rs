//! The control API over a real socket, in front of a fake herd: the core's own fleet, with processes that only
//! exist in it.
#![allow(clippy::unwrap_used)]

mod changes;
mod herd;
mod reach;
mod reads;
mod rig;
mod streams;
mod takeover;
mod trust;
