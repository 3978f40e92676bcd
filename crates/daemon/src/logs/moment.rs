//! Dates in the language of moment.js, as far as logs need it: `YYYY-MM-DD HH:mm:ss.SSS Z`. What is in square brackets,
//! and every letter that means nothing, stays as it is. Names are English.

use std::fmt::Write;

use jiff::Zoned;
use jiff::civil::Weekday;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// Longest first, so that the first that fits is the one that is meant.
const TOKENS: [&str; 49] = [
    "YYYY", "YY", "Y", "MMMM", "MMM", "MM", "Mo", "M", "DDDD", "DDDo", "DDD", "DD", "Do", "D", "dddd", "ddd",
    "dd", "do", "d", "E", "e", "HH", "H", "hh", "h", "kk", "k", "mm", "m", "ss", "s", "ZZ", "Z", "A", "a",
    "X", "x", "Qo", "Q", "WW", "W", "GGGG", "LTS", "LT", "LLLL", "LLL", "LL", "L", "S",
];

/// A date format, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Token(&'static str),
    /// So many digits of the second's fraction.
    Fraction(usize),
}

impl Format {
    pub(super) fn new(format: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = format;
        while let Some(first) = rest.chars().next() {
            if let Some((text, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                push_text(&mut parts, text);
                rest = after;
                continue;
            }
            let fraction = rest.len() - rest.trim_start_matches('S').len();
            let token = TOKENS.iter().find(|token| rest.starts_with(**token));
            let length = match token {
                _ if fraction > 0 => {
                    parts.push(Part::Fraction(fraction.min(9)));
                    fraction
                }
                Some(token) => {
                    parts.push(Part::Token(token));
                    token.len()
                }
                None => {
                    push_text(&mut parts, first.encode_utf8(&mut [0; 4]));
                    first.len_utf8()
                }
            };
            rest = rest.get(length..).unwrap_or_default();
        }
        Self { parts }
    }

    /// Whether two moments of one second look the same.
    pub(super) fn is_of_seconds(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Fraction(_) | Part::Token("x")))
    }

    pub(super) fn show(&self, at: &Zoned) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Fraction(digits) => {
                    let nanos = format!("{:09}", at.subsec_nanosecond());
                    text.push_str(nanos.get(..*digits).unwrap_or(&nanos));
                }
                Part::Token(token) => put(&mut text, token, at),
            }
        }
        text
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(before)) => before.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

fn put(text: &mut String, token: &str, at: &Zoned) {
    let hour12 = |hour: i8| if hour % 12 == 0 { 12 } else { hour % 12 };
    let month = MONTHS.get(usize::from(at.month().unsigned_abs()) - 1).copied().unwrap_or_default();
    let day = weekday(at.weekday());
    let whole = |format: &str| Format::new(format).show(at);
    let shown = match token {
        "YYYY" | "Y" => format!("{:04}", at.year()),
        "YY" => format!("{:02}", at.year().rem_euclid(100)),
        "MMMM" => month.to_owned(),
        "MMM" => month.get(..3).unwrap_or(month).to_owned(),
        "MM" => format!("{:02}", at.month()),
        "Mo" => ordinal(i64::from(at.month())),
        "M" => at.month().to_string(),
        "DDDD" => format!("{:03}", at.day_of_year()),
        "DDDo" => ordinal(i64::from(at.day_of_year())),
        "DDD" => at.day_of_year().to_string(),
        "DD" => format!("{:02}", at.day()),
        "Do" => ordinal(i64::from(at.day())),
        "D" => at.day().to_string(),
        "dddd" => day.to_owned(),
        "ddd" => day.get(..3).unwrap_or(day).to_owned(),
        "dd" => day.get(..2).unwrap_or(day).to_owned(),
        "do" => ordinal(i64::from(at.weekday().to_sunday_zero_offset())),
        "d" | "e" => at.weekday().to_sunday_zero_offset().to_string(),
        "E" => at.weekday().to_monday_one_offset().to_string(),
        "HH" => format!("{:02}", at.hour()),
        "H" => at.hour().to_string(),
        "hh" => format!("{:02}", hour12(at.hour())),
        "h" => hour12(at.hour()).to_string(),
        "kk" => format!("{:02}", if at.hour() == 0 { 24 } else { at.hour() }),
        "k" => (if at.hour() == 0 { 24 } else { at.hour() }).to_string(),
        "mm" => format!("{:02}", at.minute()),
        "m" => at.minute().to_string(),
        "ss" => format!("{:02}", at.second()),
        "s" => at.second().to_string(),
        "Z" => offset(at, ":"),
        "ZZ" => offset(at, ""),
        "A" => if at.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        "a" => if at.hour() < 12 { "am" } else { "pm" }.to_owned(),
        "X" => at.timestamp().as_second().to_string(),
        "x" => at.timestamp().as_millisecond().to_string(),
        "Q" => ((at.month() + 2) / 3).to_string(),
        "Qo" => ordinal(i64::from((at.month() + 2) / 3)),
        "WW" => format!("{:02}", at.date().iso_week_date().week()),
        "W" => at.date().iso_week_date().week().to_string(),
        "GGGG" => format!("{:04}", at.date().iso_week_date().year()),
        "LT" => whole("h:mm A"),
        "LTS" => whole("h:mm:ss A"),
        "L" => whole("MM/DD/YYYY"),
        "LL" => whole("MMMM D, YYYY"),
        "LLL" => whole("MMMM D, YYYY h:mm A"),
        "LLLL" => whole("dddd, MMMM D, YYYY h:mm A"),
        other => other.to_owned(),
    };
    text.push_str(&shown);
}

fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

fn ordinal(number: i64) -> String {
    let end = match (number % 10, number % 100) {
        (1, tens) if tens != 11 => "st",
        (2, tens) if tens != 12 => "nd",
        (3, tens) if tens != 13 => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

fn offset(at: &Zoned, between: &str) -> String {
    let seconds = at.offset().seconds();
    let minutes = seconds.abs() / 60;
    let mut text = String::from(if seconds < 0 { "-" } else { "+" });
    // Writing to a string does not fail.
    let _written = write!(text, "{:02}{between}{:02}", minutes / 60, minutes % 60);
    text
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use jiff::tz::{Offset, TimeZone};

    use super::*;

    fn show(format: &str, hour: i8) -> String {
        let zone = TimeZone::fixed(Offset::from_seconds(-(3 * 3600 + 1800)).unwrap());
        let at = date(2026, 3, 2).at(hour, 4, 5, 67_000_000).to_zoned(zone).unwrap();
        Format::new(format).show(&at)
    }

    #[test]
    fn formats_read_as_moment_shows_them() {
        let shown = [
            ("YYYY-MM-DDTHH:mm:ss", "2026-03-02T00:04:05"),
            ("YYYY-MM-DD HH:mm:ss.SSS Z", "2026-03-02 00:04:05.067 -03:30"),
            ("YY/M/D H:m:s ZZ", "26/3/2 0:4:5 -0330"),
            ("ddd MMM Do, dddd MMMM DDDD", "Mon Mar 2nd, Monday March 061"),
            ("hh:mm A [at] h a k", "12:04 AM at 12 am 24"),
            ("DD-MM-YYYY | HH:mm", "02-03-2026 | 00:04"),
            ("Q W E d S SSSSSS", "1 10 1 1 0 067000"),
            (
                "LT; LTS; L; LL; LLL; LLLL",
                "12:04 AM; 12:04:05 AM; 03/02/2026; March 2, 2026; \
              March 2, 2026 12:04 AM; Monday, March 2, 2026 12:04 AM",
            ),
            ("X x", "1772422445 1772422445067"),
            ("[", "["),
        ];
        for (format, expected) in shown {
            assert_eq!(show(format, 0), expected, "{format}");
        }
        assert_eq!(show("hh A H", 13), "01 PM 13");
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 13, 21, 112].map(ordinal).join(" "),
            "1st 2nd 3rd 4th 11th 12th 13th 21st 112th"
        );
    }

    #[test]
    fn only_fractions_differ_within_a_second() {
        assert!(Format::new("HH:mm:ss Z").is_of_seconds());
        assert!(!Format::new("HH:mm:ss.SSS").is_of_seconds());
        assert!(Format::new("[SSS]").is_of_seconds());
    }
}
