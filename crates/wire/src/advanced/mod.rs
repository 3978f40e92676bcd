//! The `advanced` serialisation of Node's channel: frames of V8's structured clone instead of lines of JSON.
//!
//! A frame is its length (4 bytes, big endian) and one value in V8's format. Everything else in this crate speaks
//! JSON, so values are turned into lines where they come in ([`Decoder::with`](crate::Decoder::with)) and lines into
//! frames where they go out ([`frame_of`]). A message that goes from one worker to another can stay what it is
//! ([`relay`]). This must never recurse with the depth of a value, take more than linear time, or write more than
//! it was allowed: a graph of references can stand for far more than its bytes.
//!
//! # What a value becomes as JSON
//!
//! What `JSON.stringify` makes of it, but that it also keeps what that would lose or refuse:
//!
//! | value | as JSON |
//! |---|---|
//! | `undefined`, a hole, `NaN`, an infinity | `null`; a member that is `undefined` is left out |
//! | `Date` | its ISO string, `null` if it is invalid |
//! | `Map` | an object if all keys are strings, else an array of pairs |
//! | `Set` | an array |
//! | `BigInt` | a string of its decimal digits, of hexadecimal ones (`0x…`) beyond 512 bytes |
//! | `Error` | `{"name", "message", "cause", "stack"}`, the last two where it has them |
//! | `RegExp` | a string, its source |
//! | `Buffer` | `{"type":"Buffer","data":[…]}` |
//! | `ArrayBuffer`, any other view | an array of its bytes or of its numbers |
//! | a boxed number, string, boolean, `BigInt` | as the primitive |
//! | an object that appears again | itself once more |
//!
//! Lost are: named properties of arrays, the flags of a `RegExp`, `-0`, the cycle in an object that contains itself
//! (`null` stands there), and all distinctions that the table does not keep.

mod collections;
mod cut;
mod leaves;
mod read;
mod relay;
mod scan;
mod text;
mod view;
mod write;

use thiserror::Error;

pub(crate) use cut::Values;
pub use relay::relay;

/// The deepest value that is written: Node's reader recurses, and a worker dies of what it has no stack for (the
/// lowest limit found in Node 18 to 26 is 1567 values).
pub const MAX_WRITTEN_DEPTH: usize = 1000;

/// The deepest value that is read. Node's writer ends at about 4000 unless it is given more stack.
pub const MAX_READ_DEPTH: usize = 1 << 16;

/// What precedes a value: a mark, and the version that Node 18 to 26 write.
const HEADER: [u8; 2] = [0xff, 15];
/// The versions that all of them read.
const VERSIONS: std::ops::RangeInclusive<u8> = 13..=15;
/// A frame's length goes before it.
pub(crate) const LENGTH_BYTES: usize = 4;
/// Node before 22 misreads longer ones.
const MAX_FRAME_BYTES: usize = i32::MAX as usize;

/// How messages are written on a channel (`NODE_CHANNEL_SERIALIZATION_MODE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Serialization {
    /// Lines of JSON.
    #[default]
    Json,
    /// Values of V8's structured clone, which keeps `Map`, `Set`, `Date`, `BigInt`, `Buffer`, `Error` and the like.
    Advanced,
}

impl Serialization {
    /// The value of `NODE_CHANNEL_SERIALIZATION_MODE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Advanced => "advanced",
        }
    }

    /// What a value of `NODE_CHANNEL_SERIALIZATION_MODE` stands for; empty is `json`. `None` for a name that Node
    /// does not know either.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "" | "json" => Some(Self::Json),
            "advanced" => Some(Self::Advanced),
            _ => None,
        }
    }
}

/// Why a line cannot be sent. Nothing of it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameOfError {
    /// It is not JSON: whoever made it has to check it.
    #[error("message is not JSON at byte {at}")]
    NotJson {
        /// Where it ceases to be.
        at: usize,
    },
    /// Node would die of it: send a flatter one.
    #[error("message nested deeper than {MAX_WRITTEN_DEPTH} values")]
    TooDeep,
    /// Longer than 2 GiB, which Node misreads: send a shorter one.
    #[error("message longer than {MAX_FRAME_BYTES} bytes")]
    TooLong,
}

/// Appends the frames of one or more lines of JSON, each with its newline. With [`Serialization::Json`] that is the
/// lines themselves, unchecked. On an error nothing is appended.
///
/// ```
/// use oxherd_wire::{Serialization, frame_of};
///
/// let mut frame = Vec::new();
/// frame_of(Serialization::Advanced, b"{\"a\":1}\n", &mut frame)?;
/// assert_eq!(frame, b"\0\0\0\x0a\xff\x0fo\"\x01aI\x02{\x01");
/// # Ok::<(), oxherd_wire::FrameOfError>(())
/// ```
pub fn frame_of(serialization: Serialization, lines: &[u8], out: &mut Vec<u8>) -> Result<(), FrameOfError> {
    match serialization {
        Serialization::Json => {
            out.extend_from_slice(lines);
            Ok(())
        }
        Serialization::Advanced => {
            let start = out.len();
            let lines = lines.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            let framed = lines.filter(|line| !line.is_empty()).try_for_each(|line| write::frame(line, out));
            framed.inspect_err(|_| out.truncate(start))
        }
    }
}

/// Cuts the frames in `bytes` apart, which hold whole ones. What follows the last whole one comes last, as it is.
pub fn split_frames(serialization: Serialization, bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = match serialization {
            Serialization::Json => rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1),
            Serialization::Advanced => cut::frame_len(rest).map(|len| LENGTH_BYTES.saturating_add(len)),
        };
        let (frame, others) = rest.split_at(len.unwrap_or(rest.len()).min(rest.len()));
        rest = others;
        (!frame.is_empty()).then_some(frame)
    })
}

/// A value of a frame as JSON, where it is one. For whoever has a whole frame, its length included, in hand.
pub fn line_of(frame: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    read::to_json(frame.get(LENGTH_BYTES..)?, limit, &mut text).ok()?;
    Some(text)
}

/// A number in groups of 7 bits, the lowest first.
fn push_varint(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A number in a value: short where it fits.
pub(crate) fn push_number(out: &mut Vec<u8>, number: f64) {
    let whole = number as i32;
    if f64::from(whole) == number && !(whole == 0 && number.is_sign_negative()) {
        out.push(b'I');
        push_varint(out, (whole.wrapping_shl(1) ^ (whole >> 31)) as u32);
    } else {
        out.push(b'N');
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// Puts the length of the frame before it, for which there is room at `start`.
pub(crate) fn close_frame(out: &mut [u8], start: usize) -> Result<(), FrameOfError> {
    let len = out.len() - start - LENGTH_BYTES;
    if len > MAX_FRAME_BYTES {
        return Err(FrameOfError::TooLong);
    }
    if let Some(room) = out.get_mut(start..start + LENGTH_BYTES) {
        room.copy_from_slice(&(len as u32).to_be_bytes());
    }
    Ok(())
}
