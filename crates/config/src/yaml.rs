//! YAML as a [`Document`]. Scalars are what YAML 1.2's core schema makes of them: `yes`, `on` and `no` are strings. Anchors
//! and merge keys (`<<`) are followed, within a limit.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use crate::diagnostics::{Place, shown};
use crate::tree::{DEPTH_MAX, Document, Entry, Fault, Node, Repeated, Value};

/// More values than this, counting those that anchors stand for, are refused.
const NODES_MAX: usize = 200_000;
const MERGE: &str = "<<";

/// Reads a text as a whole.
pub(crate) fn read(text: &str) -> Result<Document, Fault> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        text,
        depth: 0,
        count: 0,
        anchors: BTreeMap::new(),
        repeated: Vec::new(),
    };
    let mut root = None;
    loop {
        let (event, place) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            Event::StreamEnd => break,
            _ if root.is_some() => {
                let what = "there is a second document in the file: one list of apps is all there can be";
                return Err(fault(place, what));
            }
            event => root = Some(reader.node(event, place)?),
        }
    }
    let root = root.unwrap_or(Node { place: 0..0, value: Value::Null });
    Ok(Document { root, repeated: reader.repeated })
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    text: &'a str,
    depth: usize,
    count: usize,
    /// What anchors stand for, and how many values are in it.
    anchors: BTreeMap<usize, (Node, usize)>,
    repeated: Vec<Repeated>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Place), Fault> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, place_of(span, self.text))),
            Some(Err(error)) => Err(self.explain(&error)),
            None => Ok((Event::StreamEnd, self.text.len()..self.text.len())),
        }
    }

    fn node(&mut self, event: Event<'a>, place: Place) -> Result<Node, Fault> {
        let before = self.count;
        self.count += 1;
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                let value = match tag.as_deref() {
                    Some(tag) if tag.suffix() == "str" || !is_plain => Value::Text(text.into_owned()),
                    Some(_) | None if is_plain => plain(&text),
                    Some(_) | None => Value::Text(text.into_owned()),
                };
                (anchor, Node { place, value })
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.nested(place, Self::list)?),
            Event::MappingStart(_, anchor, _) => (anchor, self.nested(place, Self::object)?),
            Event::Alias(anchor) => return self.alias(anchor, place),
            _ => return Err(fault(place, "a value is wanted here")),
        };
        self.check_count(&node.place)?;
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), self.count - before));
        }
        Ok(node)
    }

    /// A copy of what the anchor stands for, at the place where it is used. A number stays where it is written: its digits
    /// may be wanted as they stand there.
    fn alias(&mut self, anchor: usize, place: Place) -> Result<Node, Fault> {
        let Some((node, count)) = self.anchors.get(&anchor) else {
            return Err(fault(place, "the anchor is not complete here"));
        };
        self.count += count;
        let stands = if matches!(node.value, Value::Number(_)) { &node.place } else { &place };
        let node = Node { place: stands.clone(), value: node.value.clone() };
        self.check_count(&place)?;
        Ok(node)
    }

    fn check_count(&self, place: &Place) -> Result<(), Fault> {
        match self.count {
            0..=NODES_MAX => Ok(()),
            _ => Err(fault(
                place.clone(),
                format!("there are more than {NODES_MAX} values, counting those of anchors"),
            )),
        }
    }

    fn nested(
        &mut self,
        place: Place,
        inner: fn(&mut Self) -> Result<(Value, usize), Fault>,
    ) -> Result<Node, Fault> {
        if self.depth == DEPTH_MAX {
            return Err(fault(place, format!("lists and objects are nested deeper than {DEPTH_MAX}")));
        }
        self.depth += 1;
        let (value, end) = inner(self)?;
        self.depth -= 1;
        let start = place.start;
        Ok(Node { place: start..end.max(place.end), value })
    }

    fn list(&mut self) -> Result<(Value, usize), Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, place) => return Ok((Value::List(items), place.end)),
                (event, place) => items.push(self.node(event, place)?),
            }
        }
    }

    fn object(&mut self) -> Result<(Value, usize), Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Node> = Vec::new();
        loop {
            let (event, key_place) = self.next()?;
            if event == Event::MappingEnd {
                merge(&mut entries, merged);
                return Ok((Value::Object(entries), key_place.end));
            }
            let Event::Scalar(key, ..) = event else {
                return Err(fault(key_place, "a key is a plain text"));
            };
            let key = key.into_owned();
            let (event, place) = self.next()?;
            let node = self.node(event, place)?;
            match entries.iter().find(|entry| entry.key == key) {
                _ if key == MERGE => merged.push(node),
                Some(entry) => {
                    let first = entry.key_place.clone();
                    self.repeated.push(Repeated { key, place: key_place, first });
                }
                None => entries.push(Entry { key, key_place, node }),
            }
        }
    }

    /// The parser's words, at its place.
    fn explain(&self, error: &ScanError) -> Fault {
        let marker = error.marker();
        let at = marker.byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        let end = self.text.get(at..).and_then(|rest| rest.chars().next()).map_or(at, |c| at + c.len_utf8());
        fault(at..end, shown(&error.info()))
    }
}

/// What `<<` brings: an object, or a list of them; what stands in the object itself wins, then what comes first.
fn merge(entries: &mut Vec<Entry>, merged: Vec<Node>) {
    for node in merged {
        match node.value {
            Value::Object(more) => {
                for entry in more {
                    if entries.iter().all(|known| known.key != entry.key) {
                        entries.push(entry);
                    }
                }
            }
            Value::List(items) => merge(entries, items),
            value => {
                let key_place = node.place.clone();
                entries.push(Entry { key: MERGE.into(), key_place, node: Node { place: node.place, value } });
            }
        }
    }
}

/// A scalar without quotes, by the core schema.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Flag(true),
        "false" | "False" | "FALSE" => return Value::Flag(false),
        _ => {}
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let radix = |prefix: &str, radix: u32| {
        digits.strip_prefix(prefix).and_then(|rest| u64::from_str_radix(rest, radix).ok())
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Value::Number(format!("{sign}{number}"));
    }
    if is_number(digits) {
        return Value::Number(format!("{sign}{}", tidied(digits)));
    }
    Value::Text(text.into())
}

/// `digits [. digits] [e sign? digits]`, or `. digits`.
fn is_number(text: &str) -> bool {
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => (text, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    is_digits(whole)
        && is_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && !exponent.is_empty()
        && is_digits(exponent)
}

/// As JSON has it: without zeros in front, and with digits around the point.
fn tidied(digits: &str) -> String {
    let (mantissa, exponent) = digits.find(['e', 'E']).map_or((digits, ""), |at| digits.split_at(at));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{whole}{point}{fraction}{exponent}")
}

fn place_of(span: Span, text: &str) -> Place {
    let at = |offset: Option<usize>| offset.unwrap_or(0).min(text.len());
    let (start, end) = (at(span.start.byte_offset()), at(span.end.byte_offset()));
    start..end.max(start)
}

fn fault(place: Place, what: impl Into<String>) -> Fault {
    Fault { place, what: what.into(), hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<String, String> {
        read(text).map(|document| document.root.value.to_json()).map_err(|fault| fault.what)
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        let text = "[1, -2, 0x1f, 0o17, 014, 1.50, .5, 1e3, true, False, yes, on, no, ~, null, '1', \"true\", !!str 5, 1.2.3, 1G, 10s]";
        let wanted = r#"[1,-2,31,15,14,1.5,0.5,1000,true,false,"yes","on","no",null,null,"1","true","5","1.2.3","1G","10s"]"#;
        assert_eq!(json(text).as_deref(), Ok(wanted));
    }

    #[test]
    fn anchors_and_merges_are_followed() {
        let text = "base: &base\n  instances: 2\n  env: {A: 1}\napps:\n  - <<: *base\n    script: a.js\n    instances: 3\n  - <<: [*base]\n    script: b.js\n";
        let wanted = r#"{"base":{"instances":2,"env":{"A":1}},"apps":[{"script":"a.js","instances":3,"env":{"A":1}},{"script":"b.js","instances":2,"env":{"A":1}}]}"#;
        assert_eq!(json(text).as_deref(), Ok(wanted));
    }

    #[test]
    fn places_are_those_of_the_text() {
        let text = "apps:\n  - script: \"ä.js\"\n    ünï: [1, x]\n";
        let Value::Object(top) = read(text).unwrap().root.value else { panic!("an object") };
        let slice = |place: &Place| text.get(place.clone()).unwrap();
        assert_eq!(slice(&top[0].key_place), "apps");
        let Value::List(apps) = &top[0].node.value else { panic!("a list") };
        let Value::Object(app) = &apps[0].value else { panic!("an object") };
        assert_eq!((slice(&app[0].key_place), slice(&app[0].node.place)), ("script", "\"ä.js\""));
        assert_eq!((slice(&app[1].key_place), slice(&app[1].node.place)), ("ünï", "[1, x]"));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in ["a: b: c", "[1", "a: *b", "? [1]\n: 2", "a: 1\n---\nb: 2", "a: \"x", "{a: 1"] {
            assert!(json(text).is_err(), "{text}: {:?}", json(text));
        }
        assert!(read("a: 1\na: 2").unwrap().repeated.len() == 1);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let item = format!("*a{}", level - 1);
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [item.as_str(); 10].join(", ")));
        }
        assert!(json(&bomb).unwrap_err().contains("more than 200000 values"));
        assert!(json(&"[".repeat(100_000)).is_err());
        assert_eq!(json("").as_deref(), Ok("null"));
    }
}
