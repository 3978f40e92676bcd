//! How a line is written: as it is, behind a date, or as a JSON record. Bytes only; it knows no file.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use oxherd_core::LogSpec;
use serde::Serialize;

use super::moment::Format;

/// How the lines of an app are written.
#[derive(Debug, Default)]
pub(super) struct Style {
    format: Option<Format>,
    json: bool,
    /// The last moment that was shown, in milliseconds, and how.
    last: Option<(u64, String)>,
}

/// What is known of a line besides its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) at_ms: u64,
    pub(super) app: &'a str,
    /// The number of the slot among all.
    pub(super) number: Option<u32>,
    pub(super) stream: usize,
    /// It goes on with an earlier piece that stands right before it.
    pub(super) goes_on: bool,
    /// Another piece of it will come.
    pub(super) more: bool,
}

/// A line as JSON.
#[derive(Serialize)]
struct Record<'a> {
    message: &'a str,
    timestamp: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    process_id: Option<u32>,
    app_name: &'a str,
    /// The message goes on in the next record of this stream.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

impl Style {
    pub(super) fn new(spec: &LogSpec) -> Self {
        Self { format: spec.date_format.as_deref().map(Format::new), json: spec.json, last: None }
    }

    /// Whether a line in pieces is one record for each of them.
    pub(super) fn is_of_records(&self) -> bool {
        self.json
    }

    /// Appends the line, with its end if it is whole.
    pub(super) fn write(&mut self, text: &mut Vec<u8>, line: &[u8], about: &About<'_>) {
        if self.json {
            return self.write_record(text, line, about);
        }
        if self.format.is_some() && !about.goes_on {
            text.extend_from_slice(self.date(about.at_ms).as_bytes());
            text.extend_from_slice(b": ");
        }
        text.extend_from_slice(line);
        if !about.more {
            text.push(b'\n');
        }
    }

    fn write_record(&mut self, text: &mut Vec<u8>, line: &[u8], about: &About<'_>) {
        let message = String::from_utf8_lossy(line);
        let record = Record {
            message: &message,
            timestamp: self.date(about.at_ms),
            kind: if about.stream == 0 { "out" } else { "err" },
            process_id: about.number,
            app_name: about.app,
            more: about.more,
        };
        // There is nothing in it that JSON cannot say.
        drop(serde_json::to_writer(&mut *text, &record));
        text.push(b'\n');
    }

    fn date(&mut self, at_ms: u64) -> &str {
        let of_seconds = self.format.as_ref().is_some_and(Format::is_of_seconds);
        let key = if of_seconds { at_ms / 1000 } else { at_ms };
        if self.last.as_ref().is_none_or(|(last, _)| *last != key) {
            let shown = show(self.format.as_ref(), at_ms);
            self.last = Some((key, shown));
        }
        self.last.as_ref().map_or("", |(_, shown)| shown)
    }
}

/// In local time by a format, or else as `2026-11-23T22:04:05.123Z`.
pub(super) fn show(format: Option<&Format>, at_ms: u64) -> String {
    let at = Timestamp::from_millisecond(i64::try_from(at_ms).unwrap_or(0)).unwrap_or_default();
    match format {
        Some(format) => format.show(&at.to_zoned(TimeZone::system())),
        None => Format::new("YYYY-MM-DDTHH:mm:ss.SSS[Z]").show(&at.to_zoned(TimeZone::UTC)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(spec: &LogSpec, lines: &[(&[u8], bool, bool)]) -> String {
        let mut style = Style::new(spec);
        let mut text = Vec::new();
        for (line, goes_on, more) in lines {
            let about = About {
                at_ms: 1_772_422_445_067,
                app: "web",
                number: Some(3),
                stream: 1,
                goes_on: *goes_on,
                more: *more,
            };
            style.write(&mut text, line, &about);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    #[test]
    fn lines_are_as_they_were_or_dated_or_records() {
        assert_eq!(written(&LogSpec::default(), &[(b"a", false, true), (b"b", true, false)]), "ab\n");
        let dated = LogSpec { date_format: Some("[at] X".into()), ..LogSpec::default() };
        assert_eq!(
            written(&dated, &[(b"a", false, true), (b"b", true, false), (b"c", false, false)]),
            "at 1772422445: ab\nat 1772422445: c\n"
        );
        let json = LogSpec { json: true, ..LogSpec::default() };
        assert_eq!(
            written(&json, &[(b"a \"\xff\"", false, true), (b"", true, false)]),
            "{\"message\":\"a \\\"\u{fffd}\\\"\",\"timestamp\":\"2026-03-02T03:34:05.067Z\",\"type\":\"err\",\
             \"process_id\":3,\"app_name\":\"web\",\"more\":true}\n\
             {\"message\":\"\",\"timestamp\":\"2026-03-02T03:34:05.067Z\",\"type\":\"err\",\
             \"process_id\":3,\"app_name\":\"web\"}\n"
        );
    }
}
