//! What a worker writes, line by line. Memory is bounded: a line that does not end comes in pieces. So does one that
//! its worker takes its time with: a prompt must be seen before it is answered.
//!
//! Must never wake the thread while nothing of a line is held back.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use oxherd_core::{InstanceId, Moment, Place, Span};

use crate::control::Control;
use crate::{OutputLine, Stream};

/// The longest piece of a line, in bytes.
const MAX_LINE_BYTES: usize = 64 << 10;
const READ_BYTES: usize = 16 << 10;
/// How long it is left alone for want of room.
const PATIENCE: Span = Span::from_secs(2);
/// How long the beginning of a line waits for its end before it is handed on.
const UNENDED_PATIENCE: Span = Span::from_secs(1);
/// How much one worker may have read at a time, so that one that only writes does not starve the others.
const MAX_READS: usize = 16;
/// How much of one that has ended: more than any pipe holds, be it packet by packet.
const LAST_READS: usize = 1024;
/// How long what was handed on may take to arrive before an upgrade.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);

/// One pipe of a worker.
#[derive(Debug)]
pub(super) struct Pump {
    pipe: File,
    partial: Vec<u8>,
    /// A piece of the line was given out already.
    has_begun: bool,
    /// When the oldest byte of `partial` was read; nothing once what can be handed on was.
    since: Option<Moment>,
    flow: Flow,
}

/// A line without its newline, or a piece of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) bytes: &'a [u8],
    /// It goes on where the last piece of this stream has ended.
    pub(super) goes_on: bool,
    /// The line goes on in the next piece.
    pub(super) more: bool,
}

/// How it is read while there is no room for what it brings.
#[derive(Clone, Copy, Debug)]
enum Flow {
    /// There was room.
    Free,
    /// Not, since then.
    Held(Moment),
    /// Nevertheless: a worker must not wait for a disk that hangs.
    Flooding,
}

impl Pump {
    /// With `has_begun` the first line is the rest of one whose beginning another primary has handed on.
    pub(super) fn new(pipe: OwnedFd, has_begun: bool) -> Self {
        Self { pipe: File::from(pipe), partial: Vec::new(), has_begun, since: None, flow: Flow::Free }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Whether a piece of a line was given out whose rest is still to come.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// When the beginning of a line that is held is to be handed on, if there is one.
    pub(super) fn due(&self) -> Option<Moment> {
        self.since.map(|since| since + UNENDED_PATIENCE)
    }

    /// Reads what is there and gives each line to `emit`, or a piece of one that goes on. Returns whether more may come.
    /// With `is_last` there is no later: everything that is in the pipe.
    pub(super) fn read(&mut self, now: Moment, is_last: bool, mut emit: impl FnMut(Piece<'_>)) -> bool {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..if is_last { LAST_READS } else { MAX_READS } {
            match self.pipe.read(&mut buffer) {
                Ok(0) => {
                    self.finish(emit);
                    return false;
                }
                Ok(count) => {
                    self.take(buffer.get(..count).unwrap_or_default(), now, &mut emit);
                    if count < READ_BYTES && !is_last {
                        // It is empty, or tells of itself again: one more call would find nothing.
                        return true;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Gives out what is held of a line, as far as it makes whole characters, if it was held long enough.
    pub(super) fn hand_on(&mut self, now: Moment, mut emit: impl FnMut(Piece<'_>)) {
        if self.due().is_some_and(|due| due <= now) {
            self.hand_on_now(&mut emit);
        }
    }

    /// The same, however long it was held.
    fn hand_on_now(&mut self, emit: &mut impl FnMut(Piece<'_>)) {
        self.hand_on_bytes(whole_characters(&self.partial), emit);
    }

    /// Gives out all that is held of a line, be it half a character: nobody is there to hold it any longer.
    fn hand_on_all(&mut self, emit: &mut impl FnMut(Piece<'_>)) {
        self.hand_on_bytes(self.partial.len(), emit);
    }

    fn hand_on_bytes(&mut self, count: usize, emit: &mut impl FnMut(Piece<'_>)) {
        self.since = None;
        if count == 0 {
            return;
        }
        let rest = self.partial.split_off(count);
        let goes_on = std::mem::replace(&mut self.has_begun, true);
        emit(Piece { bytes: &self.partial, goes_on, more: true });
        self.partial = rest;
    }

    /// Whether it may be read now: there is room, or there was none for too long.
    pub(super) fn may_flow(&mut self, has_room: impl FnOnce() -> bool, now: Moment) -> bool {
        if has_room() {
            self.flow = Flow::Free;
            return true;
        }
        match self.flow {
            Flow::Free => self.flow = Flow::Held(now),
            Flow::Held(since) if now.since(since) >= PATIENCE => self.flow = Flow::Flooding,
            Flow::Held(_) | Flow::Flooding => {}
        }
        matches!(self.flow, Flow::Flooding)
    }

    /// Gives out a last line without an end.
    pub(super) fn finish(&mut self, mut emit: impl FnMut(Piece<'_>)) {
        if !self.partial.is_empty() || self.has_begun {
            let goes_on = std::mem::replace(&mut self.has_begun, false);
            emit(Piece { bytes: &self.partial, goes_on, more: false });
            self.partial = Vec::new();
            self.since = None;
        }
    }

    fn take(&mut self, chunk: &[u8], now: Moment, emit: &mut impl FnMut(Piece<'_>)) {
        self.cut(chunk, emit);
        if !self.partial.is_empty() {
            self.since.get_or_insert(now);
        }
    }

    fn cut(&mut self, chunk: &[u8], emit: &mut impl FnMut(Piece<'_>)) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', line)) if self.partial.is_empty() => {
                    let goes_on = std::mem::replace(&mut self.has_begun, false);
                    emit(Piece { bytes: line, goes_on, more: false });
                }
                Some((b'\n', rest)) => {
                    self.partial.extend_from_slice(rest);
                    let goes_on = std::mem::replace(&mut self.has_begun, false);
                    emit(Piece { bytes: &self.partial, goes_on, more: false });
                    self.partial.clear();
                    self.since = None;
                }
                _ => {
                    self.partial.extend_from_slice(piece);
                    if self.partial.len() >= MAX_LINE_BYTES {
                        self.hand_on_now(emit);
                    }
                }
            }
        }
    }
}

impl Control<'_> {
    /// Hands on the beginnings of lines that were held long enough.
    pub(super) fn hand_on_output(&mut self, now: Moment) {
        let due = self.unended.iter().filter(|(_, due)| **due <= now).map(|(key, _)| *key);
        for (instance, stream) in due.collect::<Vec<_>>() {
            self.unended.remove(&(instance, stream));
            // What has come meanwhile is part of it.
            self.pump_output(instance, stream, true);
            // While there is no room its rest may be in the pipe: it is looked at again when there is.
            if !self.held_back.contains(&(instance, stream)) {
                self.with_pump(instance, stream, |pump, emit| pump.hand_on(now, emit));
            }
        }
    }

    /// Hands on all that was read, and waits until it has arrived: nothing of it is to end with this primary. That holds
    /// as long as nothing more is read.
    pub(super) fn settle_output(&mut self) {
        let instances: Vec<_> = self.children.iter().map(|state| state.place.instance).collect();
        for instance in instances {
            for stream in [Stream::Stdout, Stream::Stderr] {
                self.with_pump(instance, stream, |pump, mut emit| pump.hand_on_all(&mut emit));
            }
        }
        self.observer.settle(SETTLE_PATIENCE);
    }

    /// Notes what is held of a line of the stream, for the clock and for the primary that comes next.
    pub(super) fn note_unended(&mut self, instance: InstanceId, stream: Stream) {
        let Some(state) = self.children.get(instance) else { return };
        let pump = state.pump(stream);
        state.counters.note_amid(stream, pump.is_some_and(Pump::has_begun));
        match pump.and_then(Pump::due) {
            Some(due) => drop(self.unended.insert((instance, stream), due)),
            None => drop(self.unended.remove(&(instance, stream))),
        }
    }

    fn with_pump(
        &mut self,
        instance: InstanceId,
        stream: Stream,
        what: impl FnOnce(&mut Pump, &mut dyn FnMut(Piece<'_>)),
    ) {
        let Some(state) = self.children.get_mut(instance) else { return };
        let place = state.place;
        let observer = &mut *self.observer;
        if let Some(pump) = state.pump_mut(stream) {
            what(pump, &mut |piece| observer.output(&piece.of(place, stream)));
        }
        self.note_unended(instance, stream);
    }
}

impl<'a> Piece<'a> {
    pub(super) fn of(self, place: Place, stream: Stream) -> OutputLine<'a> {
        let Self { bytes, goes_on, more } = self;
        OutputLine { place, stream, bytes, goes_on, more }
    }
}

/// How many of these bytes can be parted from what follows without cutting a character, if it is UTF-8.
fn whole_characters(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    let last = bytes.iter().enumerate().skip(from).rev().find(|(_, byte)| **byte >= 0xc0);
    let length = |lead: u8| if lead >= 0xf0 { 4 } else { 2 + usize::from(lead >= 0xe0) };
    match last {
        Some((at, lead)) if at + length(*lead) > bytes.len() => at,
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::pipe::PipeFlags;

    use super::*;

    fn pump(has_begun: bool) -> Pump {
        Pump::new(File::open("/dev/null").unwrap().into(), has_begun)
    }

    /// How a piece is written here: `…` where it goes on.
    fn shown(piece: Piece<'_>) -> String {
        let text = String::from_utf8_lossy(piece.bytes);
        let end = |there, mark| if there { mark } else { "" };
        format!("{}{text}{}", end(piece.goes_on, "…"), end(piece.more, "…"))
    }

    fn cut(chunks: &[&str]) -> Vec<String> {
        let mut pump = pump(false);
        let mut lines = Vec::new();
        let mut emit = |piece: Piece<'_>| lines.push(shown(piece));
        chunks.iter().for_each(|chunk| pump.take(chunk.as_bytes(), Moment::from_millis(0), &mut emit));
        pump.finish(emit);
        lines
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(cut(&["one\ntwo\n"]), ["one", "two"]);
        assert_eq!(cut(&["o", "ne\nt", "wo"]), ["one", "two"]);
        assert_eq!(cut(&["\n\n"]), ["", ""]);
    }

    #[test]
    fn an_endless_line_comes_in_pieces() {
        let long = "x".repeat(MAX_LINE_BYTES);
        let piece = long.clone() + "…";
        assert_eq!(cut(&[&long, "y\n"]), [piece.as_str(), "…y"]);
        assert_eq!(cut(&[&long]), [piece.as_str(), "…"]);
        assert_eq!(cut(&[&long, "\nz"]), [piece.as_str(), "…", "z"]);
    }

    #[test]
    fn a_line_that_takes_its_time_comes_in_pieces() {
        let at = |millis| Moment::from_millis(millis);
        let mut pump = pump(false);
        let mut lines = Vec::new();
        let mut emit = |piece: Piece<'_>| lines.push(shown(piece));
        assert_eq!(pump.due(), None, "nothing is held");
        pump.take(b"Name", at(0), &mut emit);
        pump.take("? ü\u{20ac}".as_bytes().split_last().unwrap().1, at(600), &mut emit);
        assert_eq!(pump.due(), Some(at(1000)), "counted from the first byte");
        pump.hand_on(at(999), &mut emit);
        pump.hand_on(at(1000), &mut emit);
        assert_eq!(pump.due(), None, "half a character waits for the other half");
        assert!(pump.has_begun());
        pump.take(b"\xac", at(2000), &mut emit);
        assert_eq!(pump.due(), Some(at(3000)));
        pump.take(b" Ada\nnext\n", at(2500), &mut emit);
        assert_eq!((pump.due(), pump.has_begun()), (None, false));
        assert_eq!(lines, ["Name? ü…", "…€ Ada", "next"]);
    }

    #[test]
    fn half_a_character_waits_for_the_other_half_unless_nobody_is_there_for_it() {
        let at = |millis| Moment::from_millis(millis);
        let mut pump = pump(false);
        let mut pieces = Vec::new();
        let mut emit = |piece: Piece<'_>| pieces.push((piece.bytes.to_vec(), piece.goes_on, piece.more));
        pump.take(b"\xe2\x82", at(0), &mut emit);
        pump.hand_on(at(1000), &mut emit);
        assert_eq!((pump.due(), pump.has_begun()), (None, false), "nothing of it is whole");
        pump.take(b"\xac\xe2", at(2000), &mut emit);
        pump.hand_on(at(3000), &mut emit);
        pump.hand_on_all(&mut emit);
        pump.hand_on_all(&mut emit);
        assert_eq!(pieces, [("\u{20ac}".into(), false, true), (b"\xe2".to_vec(), true, true)]);
    }

    #[test]
    fn of_one_that_has_ended_all_packets_are_read() {
        let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::DIRECT | PipeFlags::NONBLOCK).unwrap();
        let mut theirs = File::from(theirs);
        (0..10).for_each(|number| theirs.write_all(format!("{number}\n").as_bytes()).unwrap());
        let mut lines = Vec::new();
        let mut pump = Pump::new(ours, false);
        assert!(pump.read(Moment::from_millis(0), true, |piece| lines.push(shown(piece))));
        assert_eq!(lines.concat(), "0123456789");
    }

    #[test]
    fn a_line_that_another_primary_has_begun_goes_on() {
        let mut pump = pump(true);
        let mut lines = Vec::new();
        pump.take(b"rest\nnext\n", Moment::from_millis(0), &mut |piece: Piece<'_>| lines.push(shown(piece)));
        assert_eq!(lines, ["…rest", "next"]);
    }

    #[test]
    fn pieces_end_between_characters() {
        assert_eq!(whole_characters("xü".as_bytes()), 3);
        for (bytes, whole) in [
            (&b"x\xc3"[..], 1),
            (b"\xe2\x82", 0),
            (b"x\xe2\x82", 1),
            (b"x\xf0\x9f\x98", 1),
            (b"x\xff", 1),
            (b"xyz", 3),
        ] {
            assert_eq!(whole_characters(bytes), whole, "{bytes:?}");
        }
        assert_eq!(whole_characters(b"\xbf\xbf\xbf\xbf"), 4, "none at all");
    }
}
