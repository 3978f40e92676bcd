//! The worker's direction of the protocol: what a worker writes, and what it reads from its primary.
//!
//! Frames are those that Node itself writes as a worker, so that a primary of either kind reads them. As in the
//! rest of this crate nothing here does IO, and no input makes it panic: a worker outlives a primary that breaks.

mod inbound;
mod outbound;

pub use inbound::{FromPrimary, Reply, inner, is_internal, parse, parse_newconn};
pub use outbound::{
    Ask, Attached, answer, close, exited_after_disconnect, listening, load, online, query, user_with,
};

/// What a worker and a primary of Oxherd say of each other: the version of what they share beyond Node.
pub const EXTENSION_VERSION: u64 = 1;
