//! Text with colours that knows how wide it is on a terminal. What comes from elsewhere is made harmless here: no
//! control character passes.

use std::fmt::Write;

/// How a piece of text is painted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Paint {
    #[default]
    Plain,
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
    /// One of the colours that tell apps apart, in turn.
    Turn(usize),
}

/// What stands out on dark and light ground; red is for trouble.
const TURN: [&str; 8] = ["36", "33", "32", "35", "34", "96", "92", "95"];
const RESET: &str = "\x1b[0m";

impl Paint {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("1"),
            Self::Dim => Some("2"),
            Self::Green => Some("32"),
            Self::Yellow => Some("33"),
            Self::Red => Some("31"),
            Self::Turn(turn) => TURN.get(turn % TURN.len()).copied(),
        }
    }
}

/// One line in pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Styled {
    parts: Vec<(Paint, String)>,
}

impl Styled {
    pub(crate) fn new(paint: Paint, text: impl AsRef<str>) -> Self {
        Self::default().and(paint, text)
    }

    pub(crate) fn and(mut self, paint: Paint, text: impl AsRef<str>) -> Self {
        self.parts.push((paint, printable(text.as_ref())));
        self
    }

    pub(crate) fn width(&self) -> usize {
        self.parts.iter().map(|(_, text)| width(text)).sum()
    }

    /// The text in its colours, or without.
    pub(crate) fn show(&self, colour: bool) -> String {
        let mut shown = String::new();
        for (paint, text) in &self.parts {
            match paint.code().filter(|_| colour && !text.is_empty()) {
                // Writing to a string cannot fail.
                Some(code) => drop(write!(shown, "\x1b[{code}m{text}{RESET}")),
                None => shown.push_str(text),
            }
        }
        shown
    }

    /// The same, cut where it is wider than `most`.
    pub(crate) fn cut(&self, most: usize) -> Self {
        if self.width() <= most {
            return self.clone();
        }
        let mut parts = Vec::new();
        let mut left = most;
        for (paint, text) in &self.parts {
            let wide = width(text);
            if wide >= left {
                parts.push((*paint, cut(text, left)));
                break;
            }
            left -= wide;
            parts.push((*paint, text.clone()));
        }
        Self { parts }
    }
}

/// Cuts a text that is wider than `most`; an ellipsis stands for the rest.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if width(text) < most || most == 0 {
        return if most == 0 { String::new() } else { text.into() };
    }
    let mut kept = String::new();
    let mut left = most - 1;
    for c in text.chars() {
        let wide = char_width(c);
        if wide > left {
            break;
        }
        left -= wide;
        kept.push(c);
    }
    kept.push('…');
    kept
}

/// Breaks a text between words where it is wider than `most`; what follows is indented. A word that is too wide is left
/// to the terminal, which knows that it is one.
pub(crate) fn wrap(text: &str, most: usize, indent: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut kept = String::new();
        for word in line.split_inclusive(' ') {
            let is_begun = !kept.trim_start().is_empty();
            if is_begun && width(&kept) + width(word.trim_end()) > most {
                lines.push(kept.trim_end().to_owned());
                kept = indent.to_owned();
            }
            kept.push_str(word);
        }
        lines.push(kept.trim_end().to_owned());
    }
    lines.join("\n")
}

/// The text without control characters.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// How many columns of a terminal a text takes.
pub(crate) fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(char_width).sum() }
}

/// Nearly what terminals do: letters of East Asia and pictures take two columns, marks above letters none.
fn char_width(c: char) -> usize {
    const NONE: [(u32, u32); 6] = [
        (0x300, 0x36f),
        (0x1ab0, 0x1aff),
        (0x1dc0, 0x1dff),
        (0x200b, 0x200f),
        (0x20d0, 0x20ff),
        (0xfe00, 0xfe0f),
    ];
    const TWO: [(u32, u32); 10] = [
        (0x1100, 0x115f),
        (0x2e80, 0x303e),
        (0x3041, 0xa4cf),
        (0xac00, 0xd7a3),
        (0xf900, 0xfaff),
        (0xfe30, 0xfe6f),
        (0xff00, 0xff60),
        (0xffe0, 0xffe6),
        (0x1f300, 0x1faff),
        (0x20000, 0x3fffd),
    ];
    let code = u32::from(c);
    let is_in = |ranges: &[(u32, u32)]| ranges.iter().any(|(first, last)| (*first..=*last).contains(&code));
    match () {
        () if code < 0x300 => 1,
        () if is_in(&NONE) => 0,
        () if is_in(&TWO) => 2,
        () => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_broken_between_words() {
        let text = "web: the start failed: see `oxherd logs`";
        assert_eq!(wrap(text, 40, "  "), text);
        assert_eq!(wrap(text, 24, "  "), "web: the start failed:\n  see `oxherd logs`");
        assert_eq!(wrap("a /very/long/path b", 8, ""), "a\n/very/long/path\nb");
        assert_eq!(wrap("one\ntwo", 8, ""), "one\ntwo");
    }

    #[test]
    fn widths_are_those_of_a_terminal() {
        assert_eq!(["web", "wéb", "日本", "e\u{301}", "🐂"].map(width), [3, 3, 4, 1, 2]);
    }

    #[test]
    fn cuts_end_in_an_ellipsis_and_fit() {
        let shown = |most| Styled::new(Paint::Bold, "abc").and(Paint::Plain, "defg").cut(most).show(false);
        assert_eq!(
            [0, 1, 3, 4, 6, 7, 9].map(shown),
            ["", "…", "ab…", "abc…", "abcde…", "abcdefg", "abcdefg"]
        );
        assert_eq!(cut("日本語", 4), "日…");
        assert!((0..8).all(|most| width(&cut("日本語", most)) <= most));
    }

    #[test]
    fn colours_are_left_out_when_not_wanted() {
        let line = Styled::new(Paint::Green, "up").and(Paint::Plain, " \x1b[2J");
        assert_eq!(line.show(true), "\x1b[32mup\x1b[0m \\u{1b}[2J");
        assert_eq!(line.show(false), "up \\u{1b}[2J");
    }
}
