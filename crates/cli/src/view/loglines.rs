//! Lines that workers wrote, behind a gutter that says whose they are. The lines themselves pass as they are.

use std::collections::BTreeMap;

use oxherd::api::{LogLine, OutputStream};
use oxherd_daemon::logs::show_moment;
use oxherd_engine::core::AppId;
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
}

#[derive(Serialize)]
struct Record<'a> {
    message: &'a str,
    timestamp: Option<String>,
    #[serde(rename = "type")]
    kind: &'a str,
    process_id: Option<u32>,
    app_name: &'a str,
}

impl Gutters {
    pub(crate) fn new(look: Look, colour: bool) -> Self {
        Self { colour, look, wide: 0, turns: BTreeMap::new() }
    }

    /// The line with its end.
    pub(crate) fn frame(&mut self, line: &LogLine) -> String {
        match self.look.kind {
            // What goes on is not cut.
            Kind::Raw if line.more => self.marked(&line.text),
            Kind::Raw => format!("{}{}\n", self.date(line), self.marked(&line.text)),
            Kind::Json => self.record(line),
            Kind::Pairs => self.pairs(line),
            Kind::Framed { as_pm2 } => self.framed(line, as_pm2),
        }
    }

    fn framed(&mut self, line: &LogLine, as_pm2: bool) -> String {
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
        format!("{} {}{}\n", gutter.show(self.colour), self.date(line), self.marked(&line.text))
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
        };
        serde_json::to_string(&record).unwrap_or_default() + "\n"
    }

    fn pairs(&self, line: &LogLine) -> String {
        let format = self.look.timestamp.as_deref().unwrap_or("YYYY-MM-DDTHH:mm:ssZ");
        let stamp = line.at_ms.map(|at| format!("timestamp={} ", show_moment(Some(format), at)));
        let id = line.number.map(|number| format!("id={number} "));
        let (stamp, id) = (stamp.unwrap_or_default(), id.unwrap_or_default());
        format!("{stamp}app={} {id}type={} message={:?}\n", line.name, kind(line.stream), line.text)
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
    use oxherd_engine::core::Slot;

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
