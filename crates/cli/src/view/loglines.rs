//! Lines that workers wrote, behind a gutter that says whose they are. The lines themselves pass as they are. One that
//! comes in pieces stays one, unless somebody else's comes in between.

use std::collections::BTreeMap;

use oxherd::api::{LogLine, OutputStream};
use oxherd_daemon::logs::show_moment;
use oxherd_engine::core::{AppId, Slot};
use serde::Serialize;

use super::paint::{Paint, Styled, width};

/// Who speaks where the lines of a stream are told apart.
const ERROR_MARK: &str = "!";

/// How lines look.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) kind: Kind,
    /// A date in the language of moment.js goes before each line that has a moment.
    pub(crate) timestamp: Option<String>,
    /// Is marked.
    pub(crate) highlight: Option<String>,
}

impl Look {
    /// Behind a gutter, and nothing else.
    pub(crate) fn plain() -> Self {
        Self { kind: Kind::Framed { as_pm2: false }, timestamp: None, highlight: None }
    }
}

/// What a line is turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Behind a gutter.
    Framed {
        /// With the slot's number in front, `0|web | `.
        as_pm2: bool,
    },
    /// As they are.
    Raw,
    /// One JSON record each.
    Json,
    /// `key=value` pairs.
    Pairs,
}

/// Frames lines.
#[derive(Debug)]
pub(crate) struct Gutters {
    colour: bool,
    look: Look,
    /// The widest gutter so far: lines stay aligned, and none is held back for it.
    wide: usize,
    turns: BTreeMap<AppId, usize>,
    /// Whose line has no end yet.
    amid: Option<(AppId, Option<Slot>, OutputStream)>,
}

#[derive(Serialize)]
struct Record<'a> {
    message: &'a str,
    timestamp: Option<String>,
    #[serde(rename = "type")]
    kind: &'a str,
    process_id: Option<u32>,
    app_name: &'a str,
    /// The message goes on in the next record of this stream.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

impl Gutters {
    pub(crate) fn new(look: Look, colour: bool) -> Self {
        Self { colour, look, wide: 0, turns: BTreeMap::new(), amid: None }
    }

    /// The line, with its end if it is whole.
    pub(crate) fn frame(&mut self, line: &LogLine) -> String {
        match self.look.kind {
            Kind::Raw => self.piece(line, |gutters| gutters.date(line)),
            Kind::Json => self.record(line),
            Kind::Pairs => self.pairs(line),
            Kind::Framed { as_pm2 } => self.piece(line, |gutters| gutters.gutter(line, as_pm2)),
        }
    }

    /// Ends the line that has no end yet, before somebody else speaks.
    pub(crate) fn end(&mut self) -> &'static str {
        if self.amid.take().is_some() { "\n" } else { "" }
    }

    fn piece(&mut self, line: &LogLine, start: impl FnOnce(&mut Self) -> String) -> String {
        // A line from a file that several slots share has no slot: whose it is nobody knows.
        let source = (line.app, line.slot, line.stream);
        let goes_on = line.goes_on && self.amid == Some(source);
        if line.goes_on && !goes_on && line.text.is_empty() && !line.more {
            // It was ended already.
            return String::new();
        }
        let start = if goes_on { String::new() } else { format!("{}{}", self.end(), start(self)) };
        self.amid = line.more.then_some(source);
        format!("{start}{}{}", self.marked(&line.text), if line.more { "" } else { "\n" })
    }

    fn gutter(&mut self, line: &LogLine, as_pm2: bool) -> String {
        let who = match (line.slot, line.number) {
            (_, Some(number)) if as_pm2 => format!("{number}|{}", line.name),
            (Some(slot), _) if line.at_ms.is_some() => format!("{}:{}", line.name, slot.0),
            _ => line.name.clone(),
        };
        self.wide = self.wide.max(width(&who));
        let next = self.turns.len();
        let paint = Paint::Turn(*self.turns.entry(line.app).or_insert(next));
        let (mark, mark_paint) = match line.stream {
            OutputStream::Stdout => ("|", paint),
            OutputStream::Stderr if as_pm2 => ("|", Paint::Red),
            OutputStream::Stderr => (ERROR_MARK, Paint::Red),
        };
        let blanks = " ".repeat(self.wide.saturating_sub(width(&who)));
        let gutter = Styled::new(paint, format!("{who}{blanks} ")).and(mark_paint, mark);
        format!("{} {}", gutter.show(self.colour), self.date(line))
    }

    fn record(&self, line: &LogLine) -> String {
        // One that was read from a file of records is one.
        let is_record = line.at_ms.is_none() && line.text.starts_with("{\"message\":");
        if is_record {
            return format!("{}\n", line.text);
        }
        let record = Record {
            message: &line.text,
            timestamp: line.at_ms.map(|at| show_moment(self.look.timestamp.as_deref(), at)),
            kind: kind(line.stream),
            process_id: line.number,
            app_name: &line.name,
            more: line.more,
        };
        serde_json::to_string(&record).unwrap_or_default() + "\n"
    }

    fn pairs(&self, line: &LogLine) -> String {
        let format = self.look.timestamp.as_deref().unwrap_or("YYYY-MM-DDTHH:mm:ssZ");
        let stamp = line.at_ms.map(|at| format!("timestamp={} ", show_moment(Some(format), at)));
        let id = line.number.map(|number| format!("id={number} "));
        let (stamp, id) = (stamp.unwrap_or_default(), id.unwrap_or_default());
        let more = if line.more { " more=true" } else { "" };
        format!("{stamp}app={} {id}type={} message={:?}{more}\n", line.name, kind(line.stream), line.text)
    }

    fn date(&self, line: &LogLine) -> String {
        match (&self.look.timestamp, line.at_ms) {
            (Some(format), Some(at)) => format!("{}: ", show_moment(Some(format), at)),
            _ => String::new(),
        }
    }

    fn marked(&self, text: &str) -> String {
        match self.look.highlight.as_deref().filter(|wanted| self.colour && !wanted.is_empty()) {
            Some(wanted) => text.replace(wanted, &format!("\x1b[7m{wanted}\x1b[27m")),
            None => text.to_owned(),
        }
    }
}

fn kind(stream: OutputStream) -> &'static str {
    match stream {
        OutputStream::Stdout => "out",
        OutputStream::Stderr => "err",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(app: u32, name: &str, slot: Option<u32>, stream: OutputStream) -> LogLine {
        LogLine {
            app: AppId(app),
            name: name.into(),
            slot: slot.map(Slot),
            stream,
            number: slot.map(|slot| slot + 40),
            at_ms: slot.map(|_| 1_772_422_445_067),
            text: "hi \x1b[1mthere".into(),
            goes_on: false,
            more: false,
        }
    }

    fn framed(kind: Kind, colour: bool) -> String {
        let look = Look { kind, timestamp: None, highlight: None };
        shown(look, colour)
    }

    fn shown(look: Look, colour: bool) -> String {
        let mut gutters = Gutters::new(look, colour);
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
            framed(Kind::Framed { as_pm2: false }, false),
            "web | hi \x1b[1mthere\nweb:11 ! hi \x1b[1mthere\napi:0  | hi \x1b[1mthere\n"
        );
        let colours = framed(Kind::Framed { as_pm2: false }, true);
        assert!(colours.starts_with("\x1b[36mweb \x1b[0m\x1b[36m|\x1b[0m hi"), "{colours:?}");
        assert!(colours.contains("\x1b[31m!\x1b[0m") && colours.contains("\x1b[33mapi:0"), "{colours:?}");
    }

    #[test]
    fn a_line_in_pieces_is_one_unless_somebody_else_speaks() {
        let piece = |slot, text: &str, goes_on, more| LogLine {
            text: text.into(),
            goes_on,
            more,
            ..line(0, "web", slot, OutputStream::Stdout)
        };
        let lines = [
            piece(None, "from a file", false, true),
            piece(None, " of several", true, true),
            piece(Some(0), "?", true, false),
            LogLine { at_ms: None, ..piece(Some(0), "from its own file", false, true) },
            piece(Some(0), "!", true, false),
            piece(Some(0), "a", false, true),
            piece(Some(0), "b", true, true),
            piece(Some(1), "other", false, true),
            piece(Some(0), "c", true, false),
            piece(Some(1), "", true, false),
        ];
        let all = |kind| {
            let mut gutters = Gutters::new(Look { kind, timestamp: None, highlight: None }, false);
            let text: String = lines.iter().map(|line| gutters.frame(line)).collect();
            text + gutters.end()
        };
        assert_eq!(
            all(Kind::Framed { as_pm2: false }),
            "web | from a file of several\nweb:0 | ?\nweb   | from its own file!\nweb:0 | ab\nweb:1 | other\nweb:0 | c\n"
        );
        assert_eq!(all(Kind::Raw), "from a file of several\n?\nfrom its own file!\nab\nother\nc\n");
        assert!(all(Kind::Pairs).contains(" message=\"other\" more=true\n"));
        assert_eq!(all(Kind::Json).matches("\"more\":true").count(), 6);
    }

    #[test]
    fn raw_lines_have_no_gutter() {
        assert_eq!(framed(Kind::Raw, true), "hi \x1b[1mthere\n".repeat(3));
    }

    #[test]
    fn lines_look_as_is_wished() {
        let pm2 = framed(Kind::Framed { as_pm2: true }, false);
        assert_eq!(pm2, "web | hi \x1b[1mthere\n51|web | hi \x1b[1mthere\n40|api | hi \x1b[1mthere\n");
        let json = framed(Kind::Json, false);
        let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
        let expected = serde_json::json!({
            "message": "hi \u{1b}[1mthere", "timestamp": "2026-03-02T03:34:05.067Z", "type": "out", "process_id": 40,
            "app_name": "api"
        });
        assert_eq!(last, expected);
        let look = |kind| Look { kind, timestamp: Some("X".into()), highlight: Some("hi".into()) };
        let pairs = shown(look(Kind::Pairs), false);
        assert!(pairs.starts_with("app=web type=out message=\"hi "), "{pairs}");
        assert!(pairs.contains("\ntimestamp=1772422445 app=web id=51 type=err message="), "{pairs}");
        let raw = shown(look(Kind::Raw), true);
        assert_eq!(raw.lines().next(), Some("\x1b[7mhi\x1b[27m \x1b[1mthere"));
        assert!(raw.ends_with("1772422445: \x1b[7mhi\x1b[27m \x1b[1mthere\n"));
    }
}
