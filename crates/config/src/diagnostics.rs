//! What is wrong with a file, and where: line, column, the line itself and a caret. It never prints.

use std::error::Error;
use std::fmt;
use std::ops::Range;

/// A stretch of a file's text, in bytes.
pub(crate) type Place = Range<usize>;

/// More than this of a line is not shown; the file may be a single line.
const EXCERPT_CHARS_MAX: usize = 100;
/// Of a line that is too long, so much is shown before the place.
const EXCERPT_CHARS_BEFORE: usize = 40;
/// More findings than this are only counted.
const FINDINGS_MAX: usize = 50;
/// A name that is longer is cut short in messages.
const NAME_CHARS_MAX: usize = 60;

/// Everything that is wrong with a file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    /// The file as it was named.
    pub file: String,
    /// At least one.
    pub list: Vec<Diagnostic>,
    /// How many more there are.
    pub more: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What it is, in one line.
    pub what: String,
    /// What may help.
    pub hint: Option<String>,
    /// Where it is, unless the file as a whole is meant.
    pub spot: Option<Spot>,
}

/// A place in a file as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The line, or a part of it when it is long.
    pub excerpt: String,
    /// Which characters of the excerpt are meant; never empty.
    pub marked: Range<usize>,
}

/// A file's name and text, and how to find a line in it.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
    line_starts: Vec<usize>,
}

/// What is found while a file is read. Nothing is lost by going on after the first.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<(Place, String, Option<String>)>,
    more: usize,
}

impl Source {
    pub(crate) fn new(name: String, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { name, text: text.into(), line_starts: std::iter::once(0).chain(ends).collect() }
    }

    /// The line, counted from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    /// One character, by its line and column, counted from 1. What lies beyond the text is its end.
    pub(crate) fn place(&self, line: usize, column: usize) -> Place {
        let Some(start) = self.line_starts.get(line.saturating_sub(1)) else {
            return self.text.len()..self.text.len();
        };
        let text = self.slice(&(*start..self.text.len())).lines().next().unwrap_or("");
        let (at, c) = match text.char_indices().nth(column.saturating_sub(1)) {
            Some((at, c)) => (at, c.len_utf8()),
            None => (text.len(), 0),
        };
        start + at..start + at + c
    }

    pub(crate) fn slice(&self, place: &Place) -> &str {
        self.text.get(place.clone()).unwrap_or("")
    }

    fn spot(&self, place: &Place) -> Spot {
        let line = self.line(place.start);
        let start = self.line_starts[line - 1];
        let text = self.slice(&(start..self.text.len())).lines().next().unwrap_or("");
        // A place may be behind what is shown of its line: at the end of one that ends in CR LF.
        let end = place.end.clamp(place.start, (start + text.len()).max(place.start));
        let from = self.slice(&(start..place.start)).chars().count();
        let marked = self.slice(&(place.start..end)).chars().count().max(1);
        let (excerpt, shift) = excerpt(text, from);
        let shown = excerpt.chars().count();
        let first = (from + shift.1).saturating_sub(shift.0);
        let last = (first + marked).min(shown.max(first + 1));
        Spot { line, column: from + 1, excerpt, marked: first..last }
    }
}

/// The part of a line that is shown, and how many characters before it were left out and put there.
fn excerpt(line: &str, from: usize) -> (String, (usize, usize)) {
    let plain = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    let count = line.chars().count();
    if count <= EXCERPT_CHARS_MAX {
        return (line.chars().map(plain).collect(), (0, 0));
    }
    let left = from.saturating_sub(EXCERPT_CHARS_BEFORE);
    let mut text: String = line.chars().skip(left).take(EXCERPT_CHARS_MAX).map(plain).collect();
    if left + EXCERPT_CHARS_MAX < count {
        text.push('…');
    }
    if left > 0 {
        text.insert(0, '…');
    }
    (text, (left, usize::from(left > 0)))
}

impl Findings {
    /// Takes note of something wrong.
    pub(crate) fn add(&mut self, place: &Place, what: impl Into<String>, hint: Option<String>) {
        if self.list.len() < FINDINGS_MAX {
            self.list.push((place.clone(), on_one_line(&what.into()), hint));
        } else {
            self.more += 1;
        }
    }

    /// The outcome: the value if nothing is wrong.
    pub(crate) fn conclude<T>(mut self, source: &Source, value: T) -> Result<T, Diagnostics> {
        if self.list.is_empty() {
            return Ok(value);
        }
        self.list.sort_by_key(|(place, ..)| place.start);
        let point = |(place, what, hint)| Diagnostic { what, hint, spot: Some(source.spot(&place)) };
        let list = self.list.into_iter().map(point).collect();
        Err(Diagnostics { file: source.name.clone(), list, more: self.more })
    }
}

impl Diagnostics {
    /// Something wrong with the file as a whole.
    pub(crate) fn of_file(file: String, what: impl Into<String>) -> Self {
        let diagnostic = Diagnostic { what: on_one_line(&what.into()), hint: None, spot: None };
        Self { file, list: vec![diagnostic], more: 0 }
    }

    /// Something wrong at one place.
    pub(crate) fn at(source: &Source, place: &Place, what: impl Into<String>, hint: Option<String>) -> Self {
        let spot = Some(source.spot(place));
        let diagnostic = Diagnostic { what: on_one_line(&what.into()), hint, spot };
        Self { file: source.name.clone(), list: vec![diagnostic], more: 0 }
    }

    /// Both, of the same file.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.list.extend(other.list);
        self.more += other.more;
        self
    }
}

impl fmt::Display for Diagnostics {
    /// Lines without the last line's end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write_one(f, &self.file, diagnostic)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more like these", self.file),
        }
    }
}

fn write_one(f: &mut fmt::Formatter<'_>, file: &str, diagnostic: &Diagnostic) -> fmt::Result {
    let Diagnostic { what, hint, spot } = diagnostic;
    let Some(Spot { line, column, excerpt, marked }) = spot else {
        return write!(f, "{file}: {what}");
    };
    let digits = line.to_string().len();
    let (before, carets) = (" ".repeat(marked.start), "^".repeat(marked.len()));
    writeln!(f, "{file}:{line}:{column}: {what}")?;
    writeln!(f, "  {line} | {excerpt}")?;
    write!(f, "  {:digits$} | {before}{carets}", "")?;
    match hint {
        Some(hint) => write!(f, " {hint}"),
        None => Ok(()),
    }
}

impl Error for Diagnostics {}

/// What may quote anything, fit for a terminal and for those who read line by line.
fn on_one_line(what: &str) -> String {
    let plain = |c: char| match c {
        '\n' | '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    what.chars().map(plain).collect()
}

/// A name of somebody's choice, fit for a message.
pub(crate) fn shown(name: &str) -> String {
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut text: String = name.chars().take(NAME_CHARS_MAX).map(plain).collect();
    if name.chars().nth(NAME_CHARS_MAX).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, place: Place, hint: Option<&str>) -> String {
        let source = Source::new("a.json".into(), text);
        Diagnostics::at(&source, &place, "no", hint.map(str::to_owned)).to_string()
    }

    #[test]
    fn a_place_is_drawn_with_its_line() {
        assert_eq!(
            drawn("{\n  \"ä\": 1,\n  \"b\": 2\n}", 15..18, Some("why?")),
            "a.json:3:3: no\n  3 |   \"b\": 2\n    |   ^^^ why?"
        );
        assert_eq!(drawn("\u{feff}\t\"ä\": 1", 5..7, None), "a.json:1:5: no\n  1 |  \"ä\": 1\n    |     ^^");
        assert_eq!(drawn("", 0..0, None), "a.json:1:1: no\n  1 | \n    | ^");
    }

    #[test]
    fn a_place_over_several_lines_ends_with_its_first() {
        assert_eq!(drawn("[{\n}]", 1..4, None), "a.json:1:2: no\n  1 | [{\n    |  ^");
        assert_eq!(drawn("[\r\n", 1..3, None), "a.json:1:2: no\n  1 | [\n    |  ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}HERE{}", "a".repeat(300), "b".repeat(300));
        let lines = drawn(&text, 300..304, None);
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines[0], "a.json:1:301: no");
        assert_eq!(lines[1], format!("  1 | …{}HERE{}…", "a".repeat(40), "b".repeat(56)));
        assert_eq!(lines[2], format!("    | {}^^^^", " ".repeat(41)));
        let whole = drawn(&text, 300..604, None);
        assert!(whole.lines().all(|line| line.chars().count() < 110), "{whole}");
    }

    #[test]
    fn no_more_than_a_screenful_is_kept() {
        let mut findings = Findings::default();
        (0..60).for_each(|_| findings.add(&(0..1), "no", None));
        let diagnostics = findings.conclude(&Source::new("a.json".into(), "x"), ()).unwrap_err();
        assert_eq!((diagnostics.list.len(), diagnostics.more), (50, 10));
        assert!(diagnostics.to_string().ends_with("\na.json: and 10 more like these"));
    }

    #[test]
    fn names_are_plain_and_short() {
        assert_eq!(shown("a\u{1b}[1mb"), "a\u{fffd}[1mb");
        assert_eq!(shown(&"x".repeat(99)).chars().count(), NAME_CHARS_MAX + 1);
    }
}
