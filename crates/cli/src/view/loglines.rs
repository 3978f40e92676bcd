//! Lines that workers wrote, behind a gutter that says whose they are. The lines themselves pass as they are.

use std::collections::BTreeMap;

use oxherd::api::{LogLine, OutputStream};
use oxherd_engine::core::AppId;

use super::paint::{Paint, Styled, width};

/// Who speaks where the lines of a stream are told apart.
const ERROR_MARK: &str = "!";

/// Frames lines.
#[derive(Debug)]
pub(crate) struct Gutters {
    colour: bool,
    raw: bool,
    /// The widest gutter so far: lines stay aligned, and none is held back for it.
    wide: usize,
    turns: BTreeMap<AppId, usize>,
}

impl Gutters {
    pub(crate) fn new(raw: bool, colour: bool) -> Self {
        Self { colour, raw, wide: 0, turns: BTreeMap::new() }
    }

    /// The line with its end.
    pub(crate) fn frame(&mut self, line: &LogLine) -> String {
        if self.raw {
            return format!("{}\n", line.text);
        }
        let who = match line.slot {
            Some(slot) => format!("{}:{}", line.name, slot.0),
            None => line.name.clone(),
        };
        self.wide = self.wide.max(width(&who));
        let next = self.turns.len();
        let paint = Paint::Turn(*self.turns.entry(line.app).or_insert(next));
        let (mark, mark_paint) = match line.stream {
            OutputStream::Stdout => ("|", paint),
            OutputStream::Stderr => (ERROR_MARK, Paint::Red),
        };
        let blanks = " ".repeat(self.wide.saturating_sub(width(&who)));
        let gutter = Styled::new(paint, format!("{who}{blanks} ")).and(mark_paint, mark);
        format!("{} {}\n", gutter.show(self.colour), line.text)
    }
}

#[cfg(test)]
mod tests {
    use oxherd_engine::core::Slot;

    use super::*;

    fn line(app: u32, name: &str, slot: Option<u32>, stream: OutputStream) -> LogLine {
        LogLine {
            app: AppId(app),
            name: name.into(),
            slot: slot.map(Slot),
            stream,
            text: "hi \x1b[1mthere".into(),
        }
    }

    fn framed(raw: bool, colour: bool) -> String {
        let mut gutters = Gutters::new(raw, colour);
        let lines = [
            line(0, "web", None, OutputStream::Stdout),
            line(0, "web", Some(11), OutputStream::Stderr),
            line(4, "api", Some(0), OutputStream::Stdout),
        ];
        lines.iter().map(|line| gutters.frame(line)).collect()
    }

    #[test]
    fn gutters_tell_apps_and_streams_apart() {
        assert_eq!(
            framed(false, false),
            "web | hi \x1b[1mthere\nweb:11 ! hi \x1b[1mthere\napi:0  | hi \x1b[1mthere\n"
        );
        let colours = framed(false, true);
        assert!(colours.starts_with("\x1b[36mweb \x1b[0m\x1b[36m|\x1b[0m hi"), "{colours:?}");
        assert!(colours.contains("\x1b[31m!\x1b[0m") && colours.contains("\x1b[33mapi:0"), "{colours:?}");
    }

    #[test]
    fn raw_lines_have_no_gutter() {
        assert_eq!(framed(true, true), "hi \x1b[1mthere\n".repeat(3));
    }
}
