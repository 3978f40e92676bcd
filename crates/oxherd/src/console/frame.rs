//! The frame of each line: a gutter that says who speaks, in colour on a terminal. Workers' bytes pass as they
//! are; our own lines never hold a control character.

use oxherd_engine::core::Slot;

/// Who speaks in our own lines.
const OURSELVES: &str = "oxherd";
/// The colours of slots, in turn: what stands out on dark and light ground; red is for trouble.
const SLOT_COLOURS: [&str; 8] = ["36", "33", "32", "35", "34", "96", "92", "95"];
const NEWS_COLOUR: &str = "1";
const TROUBLE_COLOUR: &str = "1;31";
const RESET: &str = "\x1b[0m";
/// The most characters of a log line: some hold what a worker said.
const LINE_CHARS_MAX: usize = 1000;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) weight: Weight,
    pub(super) text: String,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// It goes to stdout.
    News,
    /// It goes to stderr.
    Trouble,
}

/// How lines are framed on one stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    width: usize,
    colour: bool,
}

impl Line {
    pub(super) fn news(text: impl Into<String>) -> Self {
        Self { weight: Weight::News, text: text.into() }
    }

    pub(super) fn trouble(text: impl Into<String>) -> Self {
        Self { weight: Weight::Trouble, text: text.into() }
    }

    /// The same, of the app with this name.
    pub(super) fn of(self, name: Option<&str>) -> Self {
        match name {
            Some(name) => Self { text: format!("{name}: {}", self.text), ..self },
            None => self,
        }
    }
}

impl Frame {
    /// Frames for speakers whose names have up to `width` characters; longer ones may come later.
    pub(super) fn new(width: usize, colour: bool) -> Self {
        Self { width: width.max(OURSELVES.len()), colour }
    }

    /// Appends a line of our own.
    pub(super) fn log(self, line: &Line, into: &mut Vec<u8>) {
        let colour = match line.weight {
            Weight::News => NEWS_COLOUR,
            Weight::Trouble => TROUBLE_COLOUR,
        };
        self.gutter(OURSELVES, colour, into);
        into.extend_from_slice(printable(&line.text).as_bytes());
        into.push(b'\n');
    }

    /// Appends what goes before a line that the worker in this slot wrote, who is called `speaker`.
    pub(super) fn speaker(self, speaker: &str, slot: Slot, into: &mut Vec<u8>) {
        let colour = SLOT_COLOURS[slot.0 as usize % SLOT_COLOURS.len()];
        self.gutter(speaker, colour, into);
    }

    fn gutter(self, who: &str, colour: &str, into: &mut Vec<u8>) {
        let width = self.width;
        let gutter = match self.colour {
            true => format!("\x1b[{colour}m{who:<width$} |{RESET} "),
            false => format!("{who:<width$} | "),
        };
        into.extend_from_slice(gutter.as_bytes());
    }
}

/// The text without control characters, and not too long.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for (index, c) in text.chars().enumerate() {
        match c {
            _ if index == LINE_CHARS_MAX => {
                printable.push('…');
                break;
            }
            c if c.is_control() => printable.extend(c.escape_default()),
            c => printable.push(c),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(width: usize, colour: bool, write: impl Fn(Frame, &mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(Frame::new(width, colour), &mut bytes);
        bytes
    }

    #[test]
    fn gutters_are_aligned() {
        let write = |frame: Frame, into: &mut Vec<u8>| {
            frame.log(&Line::news("Hello"), into);
            frame.speaker("slot 2", Slot(2), into);
            into.extend_from_slice(b"hi\n");
            frame.speaker("slot 10", Slot(10), into);
        };
        let text = String::from_utf8(framed(7, false, write)).unwrap();
        assert_eq!(text, "oxherd  | Hello\nslot 2  | hi\nslot 10 | ");
        let text = String::from_utf8(framed(6, false, write)).unwrap();
        assert_eq!(text, "oxherd | Hello\nslot 2 | hi\nslot 10 | ");
    }

    #[test]
    fn colours_are_for_gutters_only() {
        let write = |frame: Frame, into: &mut Vec<u8>| {
            frame.log(&Line::trouble("Oh"), into);
            frame.speaker("slot 8", Slot(8), into);
        };
        let text = String::from_utf8(framed(1, true, write)).unwrap();
        assert_eq!(text, "\x1b[1;31moxherd |\x1b[0m Oh\n\x1b[36mslot 8 |\x1b[0m ");
    }

    #[test]
    fn our_lines_are_printable() {
        let line = Line::news(format!("a\nb\x1b[0m ü{}", "x".repeat(2000)));
        let text = String::from_utf8(framed(1, false, |frame, into| frame.log(&line, into))).unwrap();
        assert!(text.starts_with("oxherd | a\\nb\\u{1b}[0m üxxx"), "{text}");
        assert!(text.ends_with("x…\n") && text.lines().count() == 1);
    }
}
