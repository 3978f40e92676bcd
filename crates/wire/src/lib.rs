//! Node's cluster protocol: lines in, lines out, whether they are written as `json` or as `advanced` values
//! ([`Serialization`]). At the root as the primary speaks it, in [`worker`] as a worker does.
//!
//! This crate turns bytes into frames and frames into bytes, and keeps the two pieces of arithmetic that
//! belong to the byte stream itself: how far frames that carry an fd may be pipelined ([`Pacing`]) and which
//! frames the worker has not read yet ([`Ledger`]). It must never do IO, hold an fd, look at a clock or panic
//! on anything a worker sends: a worker is not trusted.
//!
//! ```
//! use oxherd_wire::{Decoder, Inbound, parse};
//!
//! let mut decoder = Decoder::new(oxherd_wire::DEFAULT_MAX_MESSAGE_BYTES);
//! let mut lines = decoder.feed(b"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"online\",\"seq\":0}\n\"rea");
//! while let Some(line) = lines.next() {
//!     assert!(matches!(parse(line?)?, Inbound::Online { .. }));
//! }
//! drop(lines);
//! assert!(decoder.is_partial());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(missing_docs)]

mod advanced;
mod fields;
mod frame;
mod inbound;
mod json;
mod ledger;
mod listen;
pub mod load;
mod message;
mod outbound;
mod pacing;
pub mod worker;

pub use advanced::{
    FrameOfError, MAX_READ_DEPTH, MAX_WRITTEN_DEPTH, Serialization, frame_of, line_of, relay, split_frames,
};
pub use frame::{DEFAULT_MAX_MESSAGE_BYTES, Decoder, Frame, FrameError, KEPT_CAPACITY_BYTES, Lines};
pub use inbound::{
    HandleFrame, HandleType, Inbound, MAX_HANDLE_WRAPS, ParseError, PerConnection, parse,
    parse_per_connection,
};
pub use ledger::{FrameKind, Ledger, MAX_RECALL_BYTES, MAX_RECORDS, Recall};
pub use listen::{AddressType, Listening, Port, Query};
pub use message::{Convention, MAX_ERROR_TEXT_BYTES, Target, UserMessage, push_with_sender, with_sender};
pub use outbound::{
    HANDLE_ACK, HANDLE_NACK, HandleKind, NewConn, SHUTDOWN_OBJECT, SHUTDOWN_STRING, ack, disconnect, hello,
    reply_error, reply_round_robin, reply_shared, socket_all_closed, socket_count, user,
};
pub use pacing::{Pacing, SAFE_HANDLE_BYTES, SAFE_SPAN_BYTES};
