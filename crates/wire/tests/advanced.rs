//! The `advanced` serialisation against bytes that no Node would write: cut, changed, endless, explosive, deep. Seeded
//! as `generators.rs` is: `OXHERD_WIRE_SEEDS` widens it.

#![allow(clippy::unwrap_used)]

mod seeds;

use std::time::{Duration, Instant};

use oxherd_wire::{
    Decoder, FrameError, FrameOfError, MAX_READ_DEPTH, MAX_WRITTEN_DEPTH, Serialization, frame_of, line_of,
    relay, split_frames,
};
use seeds::{Random, each_seed};

const MAX: usize = 1 << 20;

/// Frames that Node has written: what a worker says, and values of all kinds. `crates/wire/tests/node.rs` has more.
const FRAMES: &[(&str, &str)] = &[
    (
        "0000002cff0f6f2203636d64220c4e4f44455f434c55535445522203616374\
         22066f6e6c696e652203736571490 07b03",
        r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#,
    ),
    ("00000003ff0f5f", "null"),
    ("00000003ff0f30", "null"),
    ("0000000aff0f6f220161490 27b01", r#"{"a":1}"#),
    ("00000004ff0f4903", "-2"),
    ("0000000bff0f4e000000000000f87f", "null"),
    ("0000000dff0f6f2201615f220162490 47b02", r#"{"b":2}"#),
    ("00000010ff0f410349022d4e000000000000f83f2400 03", "[1,null,1.5]"),
    ("0000000eff0f6108490 e22017340 0108", r#"[null,null,null,null,null,null,null,"s"]"#),
    ("0000000bff0f440000000000000000", r#""1970-01-01T00:00:00.000Z""#),
    ("0000000bff0f3b22016149023a02", r#"{"a":1}"#),
    ("0000000eff0f3b22016149024902303a04", r#"[["a",1],[1,null]]"#),
    ("00000009ff0f2749022201782c02", r#"[1,"x"]"#),
    ("0000000cff0f5a100100000000000000", r#""1""#),
    ("00000006ff0f52220 17800", r#""x""#),
    ("00000009ff0f72546d220162732201632e", r#"{"name":"TypeError","message":"b","stack":"c"}"#),
    ("00000009ff0f5c000a0300 0aff", r#"{"type":"Buffer","data":[0,10,255]}"#),
    ("0000000bff0f5c016f220161490 27b01", r#"{"a":1}"#),
    ("00000011ff0f6f2201616f7b0022016222017a5e017b02", ""),
    ("0000000fff0f6f2201616f7b002201625e017b02", r#"{"a":{},"b":{}}"#),
    ("0000000aff0f6f2201615e007b01", r#"{"a":null}"#),
    ("00000008ff0f00630 200d8", r#""\ud800""#),
    ("00000006ff0f7322 0173", r#""s""#),
    ("00000003ff0e54", "true"),
    ("00000003ff0d46", "false"),
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|each| each.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// A frame of such a value.
fn framed(value: &[u8]) -> Vec<u8> {
    [&((value.len() + 2) as u32).to_be_bytes()[..], &[0xff, 15], value].concat()
}

/// All frames above with their lengths put right, and their lines.
fn frames() -> Vec<(Vec<u8>, &'static str)> {
    let whole = FRAMES.iter().filter(|(_, line)| !line.is_empty());
    whole
        .map(|(hex, line)| {
            let raw = bytes(hex);
            let mut frame = framed(&raw[6..]);
            frame[5] = raw[5];
            (frame, *line)
        })
        .collect()
}

fn sent(line: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    frame_of(Serialization::Advanced, line.as_bytes(), &mut frame).unwrap();
    frame
}

fn decoder() -> Decoder {
    Decoder::with(Serialization::Advanced, MAX)
}

fn feed(decoder: &mut Decoder, chunk: &[u8]) -> Result<Vec<String>, FrameError> {
    let mut heard = Vec::new();
    let mut lines = decoder.feed(chunk);
    while let Some(line) = lines.next() {
        heard.push(String::from_utf8(line?.to_vec()).expect("lines are UTF-8"));
    }
    Ok(heard)
}

/// Everything that is done with a frame of a worker. Must come back, and yield JSON if anything.
fn digest(frame: &[u8]) -> bool {
    let mut decoder = decoder();
    let mut lines = decoder.feed(frame);
    let mut is_read = true;
    while let Some(frame) = lines.next_frame() {
        let Ok(frame) = frame else { return false };
        let text = std::str::from_utf8(frame.line).expect("lines are UTF-8");
        serde_json::from_str::<serde::de::IgnoredAny>(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(!text.contains('\n'));
        let mut passed_on = Vec::new();
        if relay(frame.value.unwrap(), Some(3), MAX, &mut passed_on) {
            let line = String::from_utf8(line_of(&passed_on, 2 * MAX).unwrap()).unwrap();
            assert!(line.ends_with("\"fromWorker\":3}"), "{line}");
        }
        passed_on.clear();
        if relay(frame.value.unwrap(), None, MAX, &mut passed_on) {
            assert_eq!(line_of(&passed_on, MAX).as_deref(), Some(frame.line));
        }
        is_read &= frame_of(Serialization::Advanced, frame.line, &mut Vec::new()).is_ok();
    }
    is_read
}

#[test]
fn golden_frames() {
    for (frame, line) in frames() {
        assert_eq!(String::from_utf8(line_of(&frame, MAX).unwrap()).unwrap(), line);
        assert_eq!(feed(&mut decoder(), &frame).unwrap(), [line]);
    }
    let online = frames().swap_remove(0);
    assert_eq!(online.0, bytes(FRAMES[0].0));
    assert_eq!(sent(online.1), online.0);
    assert_eq!(sent("{\"a\":1}\n"), frames()[3].0);
}

#[test]
fn several_lines_are_several_frames() {
    let both = sent("{\"type\":\"shutdown\"}\n\n \"x\"\n");
    let parts: Vec<&[u8]> = split_frames(Serialization::Advanced, &both).collect();
    assert_eq!(parts, [sent("{\"type\":\"shutdown\"}"), sent("\"x\"")]);
    let cut = [&both[..], &[0, 0, 0]].concat();
    assert_eq!(split_frames(Serialization::Advanced, &cut).last(), Some(&[0, 0, 0][..]));
    let lines: Vec<&[u8]> = split_frames(Serialization::Json, b"a\nbc\nd").collect();
    assert_eq!(lines, [&b"a\n"[..], b"bc\n", b"d"]);
    let mut json = b"x".to_vec();
    frame_of(Serialization::Json, b"{}\n", &mut json).unwrap();
    assert_eq!(json, b"x{}\n");
}

#[test]
fn what_cannot_be_sent_is_said_and_leaves_nothing() {
    let mut out = b"before".to_vec();
    for bad in [
        "{",
        "[1,]",
        "{\"a\"}",
        "{\"a\":1,}",
        "tru",
        "01",
        "1.",
        "\"\\x\"",
        "\"\u{1}\"",
        "1 2",
        "{]",
        "[}",
        "-",
    ] {
        for line in [bad.to_owned(), format!("{{}}\n{bad}\n"), format!("[{bad}]")] {
            let error = frame_of(Serialization::Advanced, line.as_bytes(), &mut out).unwrap_err();
            assert!(matches!(error, FrameOfError::NotJson { .. }), "{line}: {error}");
            assert_eq!(out, b"before");
        }
    }
    assert!(frame_of(Serialization::Advanced, b"\"\xff\"", &mut out).is_err());
    let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(frame_of(Serialization::Advanced, deep(MAX_WRITTEN_DEPTH).as_bytes(), &mut Vec::new()).is_ok());
    let error = frame_of(Serialization::Advanced, deep(100_000).as_bytes(), &mut out);
    assert_eq!(error, Err(FrameOfError::TooDeep));
    assert_eq!(out, b"before");
}

#[test]
fn a_stream_split_at_every_byte_gives_the_same_lines() {
    let (frames, expected): (Vec<_>, Vec<_>) = frames().into_iter().unzip();
    let stream = frames.concat();
    for at in 0..=stream.len() {
        let mut decoder = decoder();
        let mut heard = feed(&mut decoder, &stream[..at]).unwrap();
        let is_partial = decoder.is_partial();
        heard.extend(feed(&mut decoder, &stream[at..]).unwrap());
        assert_eq!(heard, expected, "split at {at}");
        assert_eq!(decoder.finish(), Ok(()));
        let whole = (0..=frames.len()).any(|count| frames[..count].concat().len() == at);
        assert_eq!(is_partial, !whole, "split at {at}");
    }
    let mut one_by_one = decoder();
    let heard: Vec<_> = stream.chunks(1).flat_map(|byte| feed(&mut one_by_one, byte).unwrap()).collect();
    assert_eq!(heard, expected);
}

#[test]
fn frames_dropped_early_come_at_the_next_feed() {
    let mut decoder = decoder();
    let stream = [sent("1"), sent("2"), sent("3")].concat();
    let (head, tail) = stream.split_at(stream.len() - 3);
    drop(decoder.feed(head));
    let mut lines = decoder.feed(tail);
    assert_eq!(lines.next(), Some(Ok(&b"1"[..])));
    drop(lines);
    assert_eq!(feed(&mut decoder, b"").unwrap(), ["2", "3"]);
    let mut small = Decoder::with(Serialization::Advanced, 20);
    for _ in 0..10 {
        drop(small.feed(&stream));
    }
    assert_eq!(small.feed(b"").next(), Some(Err(FrameError::TooLong { limit: 20 })));
}

#[test]
fn limits_are_those_of_the_frame_and_of_its_line() {
    let frame = sent(&format!("\"{}\"", "x".repeat(100)));
    let with = |limit| feed(&mut Decoder::with(Serialization::Advanced, limit), &frame);
    assert!(with(frame.len() - 4).is_ok());
    assert_eq!(with(frame.len() - 5), Err(FrameError::TooLong { limit: frame.len() - 5 }));
    let header = |len: u32| feed(&mut decoder(), &len.to_be_bytes());
    assert_eq!(header(u32::MAX), Err(FrameError::TooLong { limit: MAX }), "at once");
    assert_eq!(header(MAX as u32), Ok(Vec::new()));
    let buffer = framed(&[&[b'\\', 0, 10, 0x80, 0x20][..], &[200; 4096]].concat());
    assert!(feed(&mut Decoder::with(Serialization::Advanced, 5000), &buffer).is_err(), "16 KiB of digits");
    assert!(feed(&mut Decoder::with(Serialization::Advanced, 20_000), &buffer).is_ok());
    let mut failed = Decoder::with(Serialization::Advanced, 4);
    assert!(feed(&mut failed, &frame).is_err());
    assert_eq!(failed.finish(), Err(FrameError::TooLong { limit: 4 }));
    assert!(feed(&mut failed, &sent("1")).is_err());
}

#[test]
fn references_cannot_explode() {
    // Each array holds the one before ten times.
    let mut value = vec![b'A', 30];
    value.extend_from_slice(b"A\x0a0000000000$\0\x0a");
    for level in 1..30 {
        value.extend_from_slice(b"A\x0a");
        (0..10).for_each(|_| value.extend_from_slice(&[b'^', level]));
        value.extend_from_slice(b"$\0\x0a");
    }
    value.extend_from_slice(b"$\0\x1e");
    let start = Instant::now();
    assert_eq!(feed(&mut decoder(), &framed(&value)), Err(FrameError::TooLong { limit: MAX }));
    for endless in
        [&b"a\xff\xff\xff\xff\x0f@\0\xff\xff\xff\xff\x0f"[..], b"a\xff\xff\xff\xff\x0fI\xfe\xff\xff\xff\x0f0"]
    {
        assert_eq!(feed(&mut decoder(), &framed(endless)), Err(FrameError::TooLong { limit: MAX }));
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    let cycle = framed(b"o\"\x01aA\x02^\0^\x01$\0\x02\"\x01b^\x01{\x02");
    assert_eq!(feed(&mut decoder(), &cycle).unwrap(), [r#"{"a":[null,null],"b":[null,null]}"#]);
}

#[test]
fn depth_costs_no_stack_and_is_bounded() {
    for (open, close) in [
        (&b"A\x01"[..], &b"$\0\x01"[..]),
        (b"o\"\x01a", b"{\x01"),
        (b";\"\x01a", b":\x02"),
        (b";0", b":\x02"),
        (b"'", b",\x01"),
        (b"\\\x01", b""),
        (b"rc", b"."),
        (b"a\x01I\0", b"@\x01\x01"),
    ] {
        let nested = |depth| framed(&[&open.repeat(depth)[..], b"0", &close.repeat(depth)].concat());
        let mut decoder = Decoder::with(Serialization::Advanced, 8 << 20);
        let whole = if open == b";0" { 2 } else { 1 };
        // A map whose key is `null` has the value inside it; one opening is a key and a value then.
        if whole == 1 {
            assert_eq!(feed(&mut decoder, &nested(MAX_READ_DEPTH)).unwrap().len(), 1, "{open:?}");
        }
        assert!(feed(&mut decoder, &nested(MAX_READ_DEPTH + 1)).is_err());
        assert!(feed(&mut self::decoder(), &framed(&open.repeat(200_000))).is_err());
    }
    let deep = framed(
        &[&b"A\x01".repeat(MAX_WRITTEN_DEPTH)[..], b"0", &b"$\0\x01".repeat(MAX_WRITTEN_DEPTH)].concat(),
    );
    assert!(relay(&deep[4..], None, MAX, &mut Vec::new()));
    assert!(!relay(&framed(&[b"A\x01", &deep[6..], b"$\0\x01"].concat())[4..], None, MAX, &mut Vec::new()));
}

#[test]
fn time_is_linear() {
    let start = Instant::now();
    let big = 1 << 20;
    let decoder = || Decoder::with(Serialization::Advanced, 64 << 20);
    // Many objects, many names in one, many references, many entries of maps in maps, many dropped properties.
    let many = |open: &[u8], each: &[u8], close: &[u8]| {
        framed(&[open, &each.repeat(big / each.len()), close].concat())
    };
    for frame in [
        many(b"'", b"o{\0", b""),
        many(b"'o{\0", b"^\x01", b""),
        many(b"o", b"\"\x03abc0", b""),
        many(b";", b"\"\x01a0", b""),
        many(b";00", b"\"\x01a0", b""),
        many(b"", b";\"\x01a", b""),
        many(b"'", b"A\0\"\x01a^\0$\x01\0", b""),
        many(b"'", b"Z\x80\x08\xff\xff\xff\xff", b""),
        many(b"", b"\0", b"0"),
    ] {
        drop(feed(&mut decoder(), &frame));
        let mut passed_on = Vec::new();
        assert!(relay(&frame[4..], Some(1), 64 << 20, &mut passed_on) || passed_on.is_empty());
    }
    let names: Vec<String> = (0..200_000).map(|at| format!("\"{}\":[{at}]", at % 100_000)).collect();
    let line = format!("{{{}}}", names.join(","));
    let frame = sent(&line);
    assert_eq!(line_of(&frame, 64 << 20).unwrap().iter().filter(|byte| **byte == b'[').count(), 100_000);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn frames_cut_anywhere_are_refused() {
    for (frame, _) in frames() {
        for at in 6..frame.len() {
            let cut = framed(&frame[6..at]);
            let heard = feed(&mut decoder(), &cut);
            assert!(matches!(heard, Err(FrameError::NotAValue { .. })), "{cut:?}: {heard:?}");
        }
    }
    for header in [&b""[..], b"\xff", b"\xff\x10", b"\xff\x0c", b"\x0f\xff", b"\xff\x0f"] {
        let frame = [&(header.len() as u32).to_be_bytes()[..], header].concat();
        assert!(feed(&mut decoder(), &frame).is_err());
    }
}

#[test]
fn no_bytes_make_the_decoder_panic() {
    let frames = frames();
    each_seed(|_, random| {
        let noise: Vec<u8> = (0..random.below(60)).map(|_| random.next() as u8).collect();
        digest(&framed(&noise));
        let alphabet = b"_0TFIUNZSc\"^oaADyxnzsR;:',B~Vr\\{$@-?\0\x01\x02\x03\x04abEmc.";
        for _ in 0..20 {
            let tokens: Vec<u8> =
                (0..random.below(40)).map(|_| alphabet[random.below(alphabet.len())]).collect();
            digest(&framed(&tokens));
            let mut value = frames[random.below(frames.len())].0[6..].to_vec();
            for _ in 0..=random.below(3) {
                let at = random.below(value.len());
                match random.below(4) {
                    0 => value.insert(at, random.next() as u8),
                    1 if !value.is_empty() => drop(value.remove(at)),
                    2 if !value.is_empty() => value[at] = alphabet[random.below(alphabet.len())],
                    _ => {
                        let other = &frames[random.below(frames.len())].0[6..];
                        value.splice(at..at, other.iter().copied());
                    }
                }
            }
            digest(&framed(&value));
        }
    });
}

#[test]
fn json_comes_back_as_it_was() {
    each_seed(|seed, random| {
        let mut text = String::new();
        write_value(random, &mut text, 6);
        let line = String::from_utf8(line_of(&sent(&text), MAX).unwrap()).unwrap();
        let (sent, heard): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(&text).unwrap(), serde_json::from_str(&line).unwrap());
        assert_eq!(sent, heard, "seed {seed}: {text}");
        assert!(digest(&self::sent(&line)), "seed {seed}");
        let whole = format!("{{\"a\":{text}}}");
        let mut passed_on = Vec::new();
        assert!(relay(&self::sent(&whole)[4..], Some(7), MAX, &mut passed_on), "seed {seed}");
        let expected = format!("{{\"a\":{line},\"fromWorker\":7}}");
        assert_eq!(String::from_utf8(line_of(&passed_on, MAX).unwrap()).unwrap(), expected, "seed {seed}");
    });
}

fn write_value(random: &mut Random, out: &mut String, depth: usize) {
    let many = |random: &mut Random, out: &mut String, has_names: bool| {
        for at in 0..random.below(5) {
            out.push_str(if at == 0 { "" } else { "," });
            if has_names {
                let name = ["a", "b", "", "0", "12", "é", "łx", "\\u0061", "\\n"][random.below(9)];
                out.push_str(&format!("\"{name}\" :"));
            }
            write_value(random, out, depth - 1);
        }
    };
    match random.below(if depth == 0 { 3 } else { 5 }) {
        0 => out.push_str(
            ["null", "true", "false", "0", "-7", "2147483648", "-1.5E-30", "0.1", "1e21"][random.below(9)],
        ),
        1 => out.push_str(&(random.next() as i32).to_string()),
        2 => out.push_str(
            ["\"\"", "\"abc\"", "\"é\"", "\"ł🐂\"", "\"\\ud83d\\udc02\\u0000\\/\"", "\"\u{2028}\""]
                [random.below(6)],
        ),
        3 => {
            out.push('[');
            many(random, out, false);
            out.push(']');
        }
        _ => {
            out.push('{');
            many(random, out, true);
            out.push_str(" }");
        }
    }
}

#[test]
fn what_others_might_not_read_is_not_passed_on() {
    let passes = |value: &[u8], from| relay(&framed(value)[4..], from, MAX, &mut Vec::new());
    assert!(passes(b"o\"\x01a0{\x01", Some(1)));
    assert!(passes(b"A\x01I\x02$\0\x01", None));
    assert!(!passes(b"A\x01I\x02$\0\x01", Some(1)), "it is no object");
    assert!(!passes(b"o\"\x0afromWorker_{\x01", Some(1)), "it has one, though JSON does not show it");
    assert!(passes(b"o\"\x0afromWorker_{\x01", None));
    assert!(!passes(b"o\"\x01a_\"\x01a0{\x02", None), "a name twice");
    assert!(!passes(b"o\"\x01a_c\x02a\x000{\x02", None), "a name twice, once in another form");
    assert!(!passes(b"oI\x020\"\x0110{\x02", None), "an index twice");
    assert!(!passes(b"R\"\x01(\0", None), "no regular expression");
    assert!(!passes(b"\\\0\x08\x03abc", None), "half a number");
    assert!(!passes(b"A\x01I\x02\"\x06length0$\x01\x01", None));
    assert!(!passes(b"S\x01\xff", None));
    let mut frame = b"before".to_vec();
    let value = framed(b"o\"\x01d\\\0\x0a\x01x{\x01 and more");
    assert!(relay(&value[4..], Some(1 << 40), MAX, &mut frame));
    let line = line_of(&frame[6..], MAX).unwrap();
    assert_eq!(
        String::from_utf8(line).unwrap(),
        r#"{"d":{"type":"Buffer","data":[120]},"fromWorker":1099511627776}"#
    );
}

#[test]
fn a_stream_that_begins_inside_a_frame_is_joined() {
    let frames = frames();
    let ack = sent(r#"{"cmd":"NODE_HANDLE_ACK"}"#);
    let long = framed(&[&[b'\\', 0, 10, 0x80, 0x80, 4][..], &vec![0xff; 1 << 16]].concat());
    each_seed(|seed, random| {
        let mut before: Vec<u8> =
            if random.below(4) == 0 { long.clone() } else { frames[random.below(frames.len())].0.clone() };
        let cut = random.below(before.len());
        before.drain(..cut);
        if random.below(3) == 0 {
            // Bytes like those of a frame that goes on and on.
            before.splice(..0, [0, 8, 0, 0, 0xff, 15, b'"', 0xff, 0xff, 0xff, 0]);
        }
        let after: Vec<_> = (0..5).map(|_| &frames[random.below(frames.len())]).collect();
        let stream: Vec<u8> = [&before[..], &ack].concat();
        let stream = after.iter().fold(stream, |stream, (frame, _)| [stream, frame.clone()].concat());
        let mut decoder = decoder();
        decoder.resynchronise();
        let size = 1 + random.below(if before.len() > 1000 { 5000 } else { 200 });
        let heard: Vec<_> =
            stream.chunks(size).flat_map(|chunk| feed(&mut decoder, chunk).unwrap()).collect();
        let at = heard.iter().rposition(|line| line.contains("NODE_HANDLE_ACK"));
        let at = at.unwrap_or_else(|| panic!("seed {seed}: {heard:?}"));
        let expected: Vec<_> = after.iter().map(|(_, line)| *line).collect();
        assert_eq!(heard[at + 1..], expected, "seed {seed}");
        decoder.settle();
        assert_eq!(feed(&mut decoder, &ack).unwrap().len(), 1, "seed {seed}");
        assert!(feed(&mut decoder, b"\0\0\0\x01x").is_err(), "from now on it is strict");
    });
    let mut endless = decoder();
    endless.resynchronise();
    let start = Instant::now();
    let junk = [0, 0, 255, 255, 255, 15, b'A', 255, 255, 3].repeat(6000);
    let ended = (0..10_000).any(|_| feed(&mut endless, &junk).is_err());
    assert!(ended && start.elapsed() < Duration::from_secs(60));
}
