//! A lenient view of JSON text: members of an object as they were written, and the few scalars we need.
//!
//! It must never recurse with the depth of its input, refuse a lone surrogate or a huge number, or build a
//! tree. Node writes lone surrogates as `"\ud800"`, so decoded strings are bytes (WTF-8), not `str`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What JSON calls white space.
pub(crate) const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Calls `each` with every member's decoded name and raw value, in the order written, duplicates too. Fails if
/// `json` is not exactly one object.
pub(crate) fn members<'a>(json: &'a str, each: impl FnMut(&[u8], &'a str)) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_map(Members(each))?;
    reader.end()
}

/// Checks that `json` is exactly one value.
pub(crate) fn check(json: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(json).map(|_| ())
}

/// A string's content; `None` if `raw` is not a string.
pub(crate) fn string(raw: &str) -> Option<Cow<'_, [u8]>> {
    if !raw.starts_with('"') {
        return None;
    }
    serde_json::from_str::<Text<'_>>(raw).ok().map(|text| text.0)
}

/// A string's content as valid UTF-8; `None` if it is not a string or has a lone surrogate.
pub(crate) fn exact_string(raw: &str) -> Option<Cow<'_, str>> {
    match string(raw)? {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// A string's content, lone surrogates replaced; `None` if `raw` is not a string.
pub(crate) fn lossy_string(raw: &str) -> Option<Cow<'_, str>> {
    Some(match string(raw)? {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    })
}

/// A number that is whole, however it is written (`3`, `3.0`, `3e0`).
pub(crate) fn integer(raw: &str) -> Option<i64> {
    if let Ok(exact) = raw.parse::<i64>() {
        return Some(exact);
    }
    let float = number(raw)?;
    (float.fract() == 0.0 && float.abs() <= MAX_SAFE).then_some(float as i64)
}

/// A whole number that is not negative.
pub(crate) fn unsigned(raw: &str) -> Option<u64> {
    raw.parse::<u64>().ok().or_else(|| integer(raw).and_then(|value| u64::try_from(value).ok()))
}

/// A count as programs report it: fractions are cut off, negative numbers and anything else are no count.
pub(crate) fn count(raw: &str) -> Option<u64> {
    if let Ok(exact) = raw.parse::<u64>() {
        return Some(exact);
    }
    let float = number(raw)?;
    (float >= 0.0 && float.is_finite()).then_some(float as u64)
}

/// What JavaScript makes of a value in a condition.
pub(crate) fn is_truthy(raw: &str) -> bool {
    match raw {
        "false" | "null" | "\"\"" => false,
        _ => number(raw).is_none_or(|value| value != 0.0),
    }
}

/// The whole numbers that a double holds exactly.
const MAX_SAFE: f64 = 9_007_199_254_740_992.0;

/// The caller's text is a checked JSON value, so one that starts like a number is one. Rust's own reader also
/// takes `inf` and `nan`, which JSON does not have.
fn number(raw: &str) -> Option<f64> {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then(|| raw.parse().ok())?
}

/// A JSON string as bytes. Asking serde_json for bytes instead of `str` is what lets lone surrogates pass.
struct Text<'a>(Cow<'a, [u8]>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(bytes)))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(bytes.to_vec())))
    }
}

struct Members<F>(F);

impl<'de, F: FnMut(&[u8], &'de str)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Text<'de>>()? {
            let value: &'de RawValue = map.next_value()?;
            (self.0)(&name.0, value.get());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_raw_and_in_order() {
        let mut seen = Vec::new();
        let text = " {\"a\\u0062\" : [1, 2] ,\"\\ud800\":1e999,\"a\":\"\\udfff\",\"a\":{}} ";
        members(text, |name, raw| seen.push((name.to_vec(), raw))).unwrap();
        let names: Vec<_> = seen.iter().map(|(name, _)| name.as_slice()).collect();
        assert_eq!(names, [&b"ab"[..], b"\xed\xa0\x80", b"a", b"a"]);
        assert_eq!(
            seen.iter().map(|(_, raw)| *raw).collect::<Vec<_>>(),
            ["[1, 2]", "1e999", "\"\\udfff\"", "{}"]
        );
        for bad in ["[]", "{} {}", "{\"a\":1,}", "{", "{\"a\":\"\u{1}\"}", "{\"a\":01}", "{a:1}"] {
            assert!(members(bad, |_, _| ()).is_err(), "{bad}");
        }
    }

    #[test]
    fn scalars() {
        assert_eq!(integer("-1"), Some(-1));
        assert_eq!(integer("4567.0"), Some(4567));
        assert_eq!(integer("1e3"), Some(1000));
        assert_eq!(integer("1.5"), None);
        assert_eq!(integer("1e999"), None);
        assert_eq!(unsigned("18446744073709551615"), Some(u64::MAX));
        assert_eq!(unsigned("-1"), None);
        assert_eq!(count("3.9"), Some(3));
        assert_eq!(count("-0.5"), None);
        assert_eq!(count("1e999"), None);
        assert_eq!(count("null"), None);
        assert_eq!(lossy_string("\"a\\ud800\"").as_deref(), Some("a\u{fffd}\u{fffd}\u{fffd}"));
        assert_eq!(exact_string("\"a\\ud800\""), None);
        assert_eq!(exact_string("\"\\u00e9\"").as_deref(), Some("é"));
        assert_eq!(string("12"), None);
    }

    #[test]
    fn truth_is_as_in_javascript() {
        for no in ["false", "null", "0", "-0", "0.0e5", "\"\""] {
            assert!(!is_truthy(no), "{no}");
        }
        for yes in ["true", "1", "{}", "[]", "\"0\"", "-1e-3"] {
            assert!(is_truthy(yes), "{yes}");
        }
    }
}
