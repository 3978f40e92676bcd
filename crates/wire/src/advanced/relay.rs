//! Passing a value on to another worker as it is, so that nothing of it is lost.
//!
//! V8's reader throws at what it does not like, and a Node program dies of that. No worker must be able to do so to
//! another, so a value is passed on only where nothing in it is doubtful; the caller sends its JSON then.

use std::hash::{BuildHasher, RandomState};

use super::read::{Fault, Reader};
use super::{LENGTH_BYTES, MAX_FRAME_BYTES, MAX_WRITTEN_DEPTH, close_frame, push_number, push_varint};

/// With more objects of Node's own kind in it no value is passed on as it is.
const MAX_HOSTS: usize = 100;
/// The member by which the receiver knows who sent it.
const SENDER: &[u8] = b"\"fromWorker\"";

/// Appends the frame of a value that a worker wrote ([`Frame::value`](crate::Frame::value)), with the member
/// `fromWorker` added where `from` is given. False, and nothing is appended, for one that cannot be passed on as it
/// is: because it is no object or has such a member already where one is to be added, because a Node worker might
/// not be able to read it (a `RegExp`, a `Float16Array`, names given twice, anything nested deeper than [`MAX_WRITTEN_DEPTH`]), or
/// because its JSON would be longer than `limit` bytes.
///
/// [`MAX_WRITTEN_DEPTH`]: crate::MAX_WRITTEN_DEPTH
pub fn relay(value: &[u8], from: Option<u64>, limit: usize, out: &mut Vec<u8>) -> bool {
    match examine(value, limit) {
        Ok(checks) if checks.is_sound => checks.write(value, from, out),
        Ok(_) | Err(_) => false,
    }
}

fn examine(value: &[u8], limit: usize) -> Result<Checks, Fault> {
    let mut text = Vec::new();
    let mut reader = Reader::new(value, limit, &mut text, Some(Checks::new()));
    reader.run()?;
    let end = reader.at;
    let mut checks = reader.checks.take().unwrap_or_else(Checks::new);
    checks.end = end;
    Ok(checks)
}

/// What is found out on the way through a value.
#[derive(Debug)]
pub(super) struct Checks {
    is_sound: bool,
    /// Hashes of the names in the objects that are open. A chance collision only makes the value doubtful.
    names: Vec<u64>,
    hasher: RandomState,
    /// Of the outermost object: where its end is, and how many members it has.
    top: Option<(usize, u32)>,
    has_sender: bool,
    /// How many objects there are that Node reads with functions of JavaScript, which take more of the stack.
    hosts: usize,
    /// Where the value ends.
    end: usize,
}

impl Checks {
    fn new() -> Self {
        Self {
            is_sound: true,
            names: Vec::new(),
            hasher: RandomState::new(),
            top: None,
            has_sender: false,
            hosts: 0,
            end: 0,
        }
    }

    pub(super) fn doubt(&mut self) {
        self.is_sound = false;
    }

    pub(super) fn note_depth(&mut self, depth: usize) {
        self.is_sound &= depth <= MAX_WRITTEN_DEPTH;
    }

    pub(super) fn note_host(&mut self, is_plain: bool) {
        self.hosts += 1;
        self.is_sound &= is_plain && self.hosts <= MAX_HOSTS;
    }

    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    /// A member's name, as JSON.
    pub(super) fn note_name(&mut self, name: &[u8], is_top: bool) {
        self.names.push(self.hasher.hash_one(name));
        self.has_sender |= is_top && name == SENDER;
    }

    /// The name of an array's property: none that an array has anyhow.
    pub(super) fn note_name_of_array(&mut self, name: &[u8]) {
        let is_index = name.get(1).is_some_and(u8::is_ascii_digit);
        self.is_sound &= !is_index && name != b"\"length\"";
    }

    pub(super) fn close_names(&mut self, from: usize) {
        let names = self.names.get_mut(from..).unwrap_or_default();
        names.sort_unstable();
        self.is_sound &= names.windows(2).all(|pair| pair[0] != pair[1]);
        self.names.truncate(from);
    }

    pub(super) fn note_end(&mut self, end: usize, members: u32, is_top: bool) {
        if is_top {
            self.top = Some((end, members));
        }
    }

    fn write(&self, value: &[u8], from: Option<u64>, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let whole = value.get(..self.end).unwrap_or_default();
        if whole.len() > MAX_FRAME_BYTES / 2 {
            return false;
        }
        out.extend_from_slice(&[0; LENGTH_BYTES]);
        match (from, self.top) {
            (None, _) => out.extend_from_slice(whole),
            (Some(from), Some((end, members))) if !self.has_sender => {
                out.extend_from_slice(value.get(..end).unwrap_or_default());
                out.push(b'"');
                push_varint(out, SENDER.len() as u32 - 2);
                out.extend(SENDER.iter().filter(|byte| **byte != b'"'));
                push_number(out, from as f64);
                out.push(b'{');
                push_varint(out, members + 1);
            }
            (Some(_), _) => {
                out.truncate(start);
                return false;
            }
        }
        close_frame(out, start).is_ok()
    }
}
