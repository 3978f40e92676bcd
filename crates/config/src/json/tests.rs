//! The reader against examples, and against serde_json where both must agree.

use super::*;
use crate::tree::{Node, Value};

fn read(text: &str) -> Result<Document, Fault> {
    super::read(text, Dialect::Json)
}

fn value(text: &str) -> Value {
    read(text).unwrap_or_else(|fault| panic!("{text}: {}", fault.what)).root.value
}

/// What is wrong, and the part of the text that is meant.
fn wrong(text: &str) -> String {
    let fault = read(text).expect_err(text);
    format!("{} @{}", fault.what, text.get(fault.place).expect("places lie between characters"))
}

#[test]
fn values_are_read_as_they_stand() {
    assert_eq!(value(" null "), Value::Null);
    let Value::List(items) = value("[true, false]") else { panic!("a list") };
    assert_eq!(
        items.iter().map(|item| &item.value).collect::<Vec<_>>(),
        [&Value::Flag(true), &Value::Flag(false)]
    );
    assert_eq!(value("-12.50e+3"), Value::Number("-12.50e+3".into()));
    assert_eq!(
        value(r#""a\"\\\/\b\f\n\r\té\ud83d\ude00ü""#),
        Value::Text("a\"\\/\u{8}\u{c}\n\r\té😀ü".into())
    );
    assert_eq!(value("{}"), Value::Object(Vec::new()));
}

#[test]
fn places_are_those_of_the_text() {
    let text = "{ \"ä\" : [ 1 , \"b\" ] }";
    let root = read(text).unwrap().root;
    let Value::Object(entries) = root.value else { panic!("an object") };
    let Value::List(items) = &entries[0].node.value else { panic!("a list") };
    let slice = |place: &Place| text.get(place.clone()).unwrap();
    assert_eq!(slice(&root.place), text);
    assert_eq!(slice(&entries[0].key_place), "\"ä\"");
    assert_eq!(slice(&entries[0].node.place), "[ 1 , \"b\" ]");
    assert_eq!(items.iter().map(|item| slice(&item.place)).collect::<Vec<_>>(), ["1", "\"b\""]);
}

#[test]
fn faults_are_explained() {
    let texts = [
        "",
        "{",
        "[1",
        "[1,",
        "[1 2]",
        "{\"a\" 1}",
        "{\"a\": }",
        "{\"a\": 1,}",
        "[1,]",
        "{\"a\": 1 \"b\": 2}",
        "{\"a\": 1]",
        "[1}",
        "{a: 1}",
        "{'a': 1}",
        "['a']",
        "[,]",
        "{,}",
        "// x\n{}",
        "{ /* x */ }",
        "# x",
        "nul",
        "True",
        "NaN",
        "undefined",
        "01",
        "1.",
        ".5",
        "-",
        "+1",
        "1e",
        "0x1F",
        "1_000",
        "\"abc\n\"",
        "\"abc",
        "\"a\tb\"",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\",
        "{} {}",
        "1 2",
        "é",
        "`a`",
    ];
    let lines: Vec<String> = texts.iter().map(|text| format!("{text:?}: {}", wrong(text))).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_key_that_comes_again_is_told_and_left_out() {
    let document = read("{\"a\": 1, \"b\": {\"a\": 2}, \"\\u0061\": {\"a\": 3}}").unwrap();
    let Value::Object(entries) = &document.root.value else { panic!("an object") };
    assert_eq!(entries.len(), 2);
    assert_eq!(document.repeated.len(), 1);
    assert_eq!((document.repeated[0].first.clone(), document.repeated[0].place.clone()), (1..4, 24..32));
}

#[test]
fn depth_is_limited() {
    let nest = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nest(DEPTH_MAX)).is_ok());
    assert!(read(&nest(DEPTH_MAX + 1)).is_err_and(|fault| fault.place == (DEPTH_MAX..DEPTH_MAX + 1)));
    assert!(read(&"[".repeat(1 << 20)).is_err());
    assert!(read(&"{\"a\":".repeat(1 << 18)).is_err());
}

/// What serde_json makes of it. A number that is too large for it is still a number.
fn by_serde(text: &str) -> Result<serde_json::Value, bool> {
    serde_json::from_str(text).map_err(|error| error.to_string().contains("out of range"))
}

fn same(node: &Node, other: &serde_json::Value) -> bool {
    use serde_json::Value as Other;
    match (&node.value, other) {
        (Value::Null, Other::Null) => true,
        (Value::Flag(one), Other::Bool(other)) => one == other,
        (Value::Number(one), Other::Number(other)) => {
            let close = |one: f64, other: f64| (one - other).abs() <= one.abs() * 1e-12;
            one.parse().is_ok_and(|one| other.as_f64().is_some_and(|other| close(one, other)))
        }
        (Value::Text(one), Other::String(other)) => one == other,
        (Value::List(one), Other::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Other::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|entry| other.get(&entry.key).is_some_and(|other| same(&entry.node, other)))
        }
        _ => false,
    }
}

/// Not good, but the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

#[test]
fn garbage_is_judged_as_serde_json_does() {
    const PIECES: [&str; 40] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"b\"",
        "\"\\u00e9\"",
        "\\",
        "\\u",
        "d800",
        "\\ud83d\\ude00",
        "1",
        "0",
        "-",
        ".",
        "5",
        "e",
        "E+",
        "true",
        "false",
        "null",
        " ",
        "\n",
        "\r\n",
        "\t",
        "\u{7f}",
        "\0",
        "é",
        "😀",
        "\u{feff}",
        "{\"a\":",
        "[1,",
        "{\"k\":[",
        "]}",
        "\"a\":1,",
        "x",
        "'",
    ];
    const BASE: &str =
        "{\"apps\": [{\"script\": \"a.js\", \"args\": [\"-x\", 1.5e3], \"env\": {\"A\": null}}]}";
    let (mut accepted, mut dice) = (0, Dice(7));
    for round in 0..60_000 {
        let mut text = if round % 2 == 0 { String::new() } else { BASE.to_owned() };
        for _ in 0..=dice.below(if round % 2 == 0 { 12 } else { 3 }) {
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let (one, other) = (places[dice.below(places.len())], places[dice.below(places.len())]);
            let end = if dice.below(2) == 0 { one } else { other.clamp(one, text.len().min(one + 9)) };
            let end = if text.is_char_boundary(end) { end } else { one };
            text.replace_range(one..end, PIECES[dice.below(PIECES.len())]);
        }
        match (read(&text), by_serde(&text)) {
            (Ok(document), Ok(other)) => {
                accepted += 1;
                assert!(!document.repeated.is_empty() || same(&document.root, &other), "{text:?}");
            }
            (Err(fault), Err(_)) => assert!(text.get(fault.place.clone()).is_some(), "{text:?}: {fault:?}"),
            (Ok(_), Err(true)) => {}
            (mine, other) => panic!("{text:?}: {mine:?} {other:?}"),
        }
    }
    assert!(accepted > 1000, "{accepted}");
}

#[test]
fn json5_is_read_as_people_write_it() {
    let value = |text: &str| {
        super::super::json::read(text, Dialect::Json5).map(|it| it.root.value.to_json()).map_err(|it| it.what)
    };
    let good = [
        ("// x\n{ /* y */ a: 1, 'b': \"c\", $d_1: [1, 2,], }", r#"{"a":1,"b":"c","$d_1":[1,2]}"#),
        ("[+1, .5, 5., 0x1F, -0xa, 1e3, -.5e-1]", "[1,0.5,5,31,-10,1000,-0.05]"),
        (
            "['it\\'s', 'a\\\nb', '\\x41\\v\\0\\q', 'tab\there']",
            "[\"it's\",\"ab\",\"A\\u000b\\u0000q\",\"tab\\there\"]",
        ),
        ("{\u{a0}ünï: null} // end", r#"{"ünï":null}"#),
        ("[]", "[]"),
    ];
    for (text, wanted) in good {
        assert_eq!(value(text), Ok(wanted.into()), "{text}");
    }
    let bad = [
        "{1a: 1}",
        "[,]",
        "{a: 1,,}",
        "# x\n{}",
        "/* x",
        "[NaN]",
        "['a]",
        "[0x]",
        "[.]",
        "{a b: 1}",
        "['\\1']",
        "[undefined]",
    ];
    for text in bad {
        assert!(value(text).is_err(), "{text}");
    }
}
