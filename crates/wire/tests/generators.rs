//! Decoder and parser under generated input: whatever a worker writes, and however the kernel cuts it.
//!
//! Each property runs over seeds from 0; `OXHERD_WIRE_SEEDS` says how many. A failing assertion prints its seed.

mod seeds;

use oxherd_wire::{
    Convention, Decoder, FrameError, FrameKind, Inbound, Ledger, NewConn, Pacing, Target, UserMessage, parse,
    with_sender, worker,
};
use seeds::{Random, each_seed};

const FRAMES: &[&str] = &[
    r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":null,"port":33629,"addressType":4,"backlog":false,"seq":1}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":{"ticketKeys":"36eaf8f5"},"address":"::1","port":4608,"addressType":6,"flags":0,"backlog":0,"seq":1}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"0.0.0.0","port":5660,"addressType":"udp4","fd":-1,"flags":0,"seq":1}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"queryServer","index":0,"data":null,"address":"/srv/u.sock","port":-1,"addressType":-1,"backlog":0,"readableAll":true,"seq":2}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"listening","index":0,"data":null,"address":null,"port":33629,"addressType":4,"backlog":false,"seq":2}"#,
    r#"{"cmd":"NODE_HANDLE_ACK"}"#,
    r#"{"cmd":"NODE_HANDLE_NACK"}"#,
    r#"{"cmd":"NODE_CLUSTER","ack":1,"accepted":true,"seq":3}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"close","key":"K:null:33629:4:undefined:0","seq":4}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":4}"#,
    r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"a":"sock"},"key":"6::::5701"}}"#,
    r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"6::::5701"}"#,
    r#"{"echo":[1,"é"," "]}"#,
    r#"{"type":"metrics","data":{"requests":1,"errors":0,"memory":{"rss":4096},"uptime":1.5}}"#,
    r#"{"type":"error","error":{"a":"\ud800"},"stack":"at x"}"#,
    r#"{"targetWorker":"all","type":"t","data":{}}"#,
    r#""ready""#,
    "null",
];

const FRAMES_OF_PRIMARIES: &[&str] = &[
    r#"{"cmd":"NODE_CLUSTER","errno":null,"key":"null:4567:4:undefined:0","ack":1,"data":null,"sockname":{"address":"::","family":"IPv6","port":4567},"seq":0}"#,
    r#"{"cmd":"NODE_CLUSTER","errno":-98,"key":"null:5601:4:undefined:0","ack":1,"data":null,"seq":0}"#,
    r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","errno":0,"key":"k","ack":1,"data":null,"seq":0}}"#,
    r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","act":"newconn","key":"k","seq":2}}"#,
    r#"{"cmd":"NODE_CLUSTER","act":"disconnect","seq":3}"#,
    r#"{"cmd":"NODE_CLUSTER","ack":4,"seq":1}"#,
    r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"6::::5701"}"#,
    r#"{"cmd":"NODE_OXHERD_HELLO","version":1}"#,
    r#"{"type":"shutdown"}"#,
];

/// Feeds the chunks and takes every line; a failure ends it, as it ends a channel.
fn cut<'a>(max: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Result<(), FrameError>) {
    let mut decoder = Decoder::new(max);
    let mut taken = Vec::new();
    for chunk in chunks {
        let mut lines = decoder.feed(chunk);
        while let Some(line) = lines.next() {
            match line {
                Ok(line) => taken.push(line.to_vec()),
                Err(error) => return (taken, Err(error)),
            }
        }
    }
    let end = decoder.finish();
    (taken, end)
}

/// The plain meaning of the decoder: lines up to the first that is too long, then whether the end is clean.
fn expected_cut(max: usize, bytes: &[u8]) -> (Vec<Vec<u8>>, Result<(), FrameError>) {
    let mut pieces: Vec<_> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let tail = pieces.pop().unwrap_or_default();
    if let Some(at) = pieces.iter().position(|line| line.len() > max) {
        pieces.truncate(at);
        return (pieces, Err(FrameError::TooLong { limit: max }));
    }
    let end = match tail.len() {
        0 => Ok(()),
        long if long > max => Err(FrameError::TooLong { limit: max }),
        _ => Err(FrameError::Truncated),
    };
    (pieces, end)
}

fn random_chunks<'a>(random: &mut Random, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    let longest = 1 + random.below(300);
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at(random.below(longest + 1).min(bytes.len()));
        chunks.push(head);
        bytes = rest;
    }
    chunks
}

fn stream(random: &mut Random, frames: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..frames {
        bytes.extend_from_slice(random.pick(FRAMES).as_bytes());
        bytes.extend_from_slice(random.pick(&["\n", "\n", "\n", "\r\n", " \n"]).as_bytes());
    }
    bytes
}

/// Everything that is done with a line of a worker. Must come back.
fn digest(line: &[u8]) -> String {
    match parse(line) {
        Ok(Inbound::User(message)) => format!("{:?} {:?}", message.convention(), with_sender(message.raw, 3)),
        Ok(Inbound::Handle(frame)) => format!("{frame:?} {:?}", frame.inner()),
        other => format!("{other:?}"),
    }
}

/// As [`digest`], in the worker's direction.
fn digest_as_worker(line: &[u8]) {
    if let Ok(worker::FromPrimary::Handle(frame)) = worker::parse(line) {
        drop(worker::inner(&frame));
    }
    worker::is_internal(line);
    if let Some((key, seq)) = worker::parse_newconn(line) {
        let Ok(worker::FromPrimary::Handle(frame)) = worker::parse(line) else { panic!("no handle") };
        let inner = worker::inner(&frame).expect("it is whole");
        assert_eq!(inner, worker::FromPrimary::NewConn { key, seq: Some(seq) });
    }
}

#[test]
fn a_stream_split_at_every_byte_gives_the_same_lines() {
    let bytes: Vec<u8> = FRAMES.iter().flat_map(|frame| [frame.as_bytes(), b"\n"].concat()).collect();
    let expected: Vec<_> = FRAMES.iter().map(|frame| frame.as_bytes().to_vec()).collect();
    for at in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(at);
        assert_eq!(cut(4096, [head, tail]), (expected.clone(), Ok(())), "split at {at}");
    }
    assert_eq!(cut(4096, bytes.chunks(1)), (expected, Ok(())));
}

#[test]
fn a_thousand_frames_in_one_chunk() {
    let bytes = stream(&mut Random::new(1), 1000);
    let (lines, end) = cut(4096, [&bytes[..]]);
    assert_eq!((lines.len(), end), (1000, Ok(())));
    for line in lines {
        parse(&line).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&line)));
    }
}

#[test]
fn splitting_and_limits_mean_the_same_for_any_stream() {
    each_seed(|seed, random| {
        let frames = random.below(30);
        let mut bytes = stream(random, frames);
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len() + 1);
            bytes.insert(at, random.next() as u8);
        }
        bytes.truncate(bytes.len() - random.below(3).min(bytes.len()));
        let max = 1 + random.below(200);
        let expected = expected_cut(max, &bytes);
        assert_eq!(cut(max, random_chunks(random, &bytes)), expected, "seed {seed}");
    });
}

#[test]
fn lines_dropped_early_are_not_lost() {
    each_seed(|seed, random| {
        let bytes = stream(random, 20);
        let mut decoder = Decoder::new(1 << 20);
        let mut taken = Vec::new();
        for chunk in random_chunks(random, &bytes) {
            let mut lines = decoder.feed(chunk);
            for _ in 0..random.below(3) {
                taken.extend(lines.next().map(|line| line.unwrap().to_vec()));
            }
        }
        let mut lines = decoder.feed(b"");
        while let Some(line) = lines.next() {
            taken.push(line.unwrap().to_vec());
        }
        drop(lines);
        assert_eq!(decoder.finish(), Ok(()), "seed {seed}");
        assert_eq!((taken, Ok(())), expected_cut(1 << 20, &bytes), "seed {seed}");
    });
}

#[test]
fn no_bytes_make_the_parser_panic() {
    each_seed(|seed, random| {
        let noise: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        digest(&noise);
        let alphabet = br#"{}[]",:\u0d8eE+-.1NODE_cmd tfn"#;
        let tokens: Vec<u8> = (0..random.below(60)).map(|_| alphabet[random.below(alphabet.len())]).collect();
        let accepted = parse(&tokens).is_ok();
        let json = serde_json::from_slice::<serde::de::IgnoredAny>(&tokens).is_ok();
        assert!(json || !accepted, "seed {seed}: {}", String::from_utf8_lossy(&tokens));
        for _ in 0..20 {
            let mut frame = random.pick(FRAMES).as_bytes().to_vec();
            mutate(random, &mut frame);
            digest(&frame);
            let mut frame = random.pick(FRAMES_OF_PRIMARIES).as_bytes().to_vec();
            mutate(random, &mut frame);
            digest_as_worker(&frame);
        }
    });
}

fn mutate(random: &mut Random, frame: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let at = random.below(frame.len());
        match random.below(5) {
            0 => frame.insert(at, random.next() as u8),
            1 if !frame.is_empty() => drop(frame.remove(at)),
            2 if !frame.is_empty() => frame[at] = random.next() as u8,
            3 => frame.truncate(at),
            _ => {
                let other = random.pick(FRAMES).as_bytes();
                let from = random.below(other.len());
                frame.splice(at..at, other[from..].iter().copied());
            }
        }
    }
}

#[test]
fn every_json_value_is_taken_whole() {
    each_seed(|seed, random| {
        let mut text = String::new();
        write_value(random, &mut text, 6);
        let line = [random.pick(&["", " ", "\t"]), &text, random.pick(&["", "\r", " \r"])].concat();
        match parse(line.as_bytes()) {
            Ok(Inbound::User(message)) => assert_eq!(message.raw, text.as_bytes(), "seed {seed}"),
            other => panic!("seed {seed}: {other:?} from {line}"),
        }
        digest(line.as_bytes());
        let sent = with_sender(text.as_bytes(), 9);
        match parse(&sent) {
            Ok(Inbound::User(_)) => {}
            other => panic!("seed {seed}: {other:?} from {}", String::from_utf8_lossy(&sent)),
        }
        let routed = with_sender(br#"{"targetWorker":2}"#, 9);
        let expected = Convention::Routed { target: Target::Worker(2), has_sender: true };
        assert_eq!(UserMessage { raw: &routed }.convention(), expected);
    });
}

fn write_value(random: &mut Random, out: &mut String, depth: usize) {
    match random.below(if depth == 0 { 3 } else { 5 }) {
        0 => out.push_str(random.pick(&["null", "true", "false", "0", "-0", "1e999", "-1.5E-30", "4567"])),
        1 => (0..=random.below(40)).for_each(|_| out.push(char::from(b'1' + random.below(9) as u8))),
        2 => write_string(random, out),
        3 => write_many(random, out, ['[', ']'], |random, out| write_value(random, out, depth - 1)),
        _ => write_many(random, out, ['{', '}'], |random, out| {
            write_string(random, out);
            out.push_str(random.pick(&[":", " : ", ":\t"]));
            write_value(random, out, depth - 1);
        }),
    }
}

fn write_many(
    random: &mut Random,
    out: &mut String,
    brackets: [char; 2],
    mut item: impl FnMut(&mut Random, &mut String),
) {
    out.push(brackets[0]);
    for at in 0..random.below(4) {
        out.push_str(if at == 0 { "" } else { "," });
        item(random, out);
    }
    out.push_str(random.pick(&["", " "]));
    out.push(brackets[1]);
}

fn write_string(random: &mut Random, out: &mut String) {
    let pieces = [
        "a", "cmd", "type", "error", "stats", "data", "é", "\u{2028}", "🐂", "\\ud800", "\\udc00", "\\u0000",
        "\\n", "\\\"", "\\\\", "}", "]", " ",
    ];
    out.push('"');
    (0..random.below(4)).for_each(|_| out.push_str(random.pick(&pieces)));
    out.push('"');
}

#[test]
fn deep_messages_cost_no_stack() {
    let depth = 100_000;
    for (open, close) in [("[", "]"), ("{\"error\":", "}"), ("{\"cmd\":\"NODE_HANDLE\",\"msg\":", "}")] {
        let deep = format!("{}null{}", open.repeat(depth), close.repeat(depth));
        for line in [
            deep.clone(),
            format!(r#"{{"type":"error","error":{deep}}}"#),
            format!(r#"{{"type":"metrics","data":{{"memory":{deep}}}}}"#),
            format!(r#"{{"cmd":"NODE_HANDLE","type":"x","msg":{deep}}}"#),
            format!(r#"{{"cmd":"NODE_CLUSTER","act":"queryServer","port":{deep},"addressType":4,"seq":1}}"#),
            open.repeat(depth),
        ] {
            digest(line.as_bytes());
            digest_as_worker(line.as_bytes());
        }
        let data = format!(r#"{{"x":{deep}}}"#);
        assert!(matches!(parse(data.as_bytes()), Ok(Inbound::User(_))));
    }
}

/// A worker that reads random amounts of whole frames, against the ledger and the pacing.
#[test]
fn the_ledger_never_names_a_frame_that_was_read() {
    each_seed(|seed, random| {
        let prepared = NewConn::new("K:1");
        let (mut ledger, mut pacing) = (Ledger::new(), Pacing::new());
        let mut queue: Vec<(usize, FrameKind)> = Vec::new();
        for seq in 0..200 {
            match random.below(4) {
                0 => {
                    let len = 1 + random.below(100);
                    ledger.wrote(len, FrameKind::Plain);
                    pacing.sent_plain(len);
                    queue.push((len, FrameKind::Plain));
                }
                1 => {
                    let mut line = Vec::new();
                    prepared.render(seq, &mut line);
                    assert!(pacing.may_send_handle(), "seed {seed}");
                    ledger.wrote(line.len(), FrameKind::Handle(seq));
                    pacing.sent_handle(line.len());
                    queue.push((line.len(), FrameKind::Handle(seq)));
                }
                2 => {
                    let read = random.below(queue.len() + 1);
                    for (_, kind) in queue.drain(..read) {
                        if let FrameKind::Handle(token) = kind {
                            assert!(pacing.answered(), "seed {seed}");
                            if random.below(2) == 0 {
                                ledger.peer_read(token);
                            }
                        }
                    }
                }
                _ => check_recall(seed, random, &mut ledger, &mut queue, &mut pacing),
            }
        }
    });
}

fn check_recall(
    seed: u64,
    random: &mut Random,
    ledger: &mut Ledger,
    queue: &mut Vec<(usize, FrameKind)>,
    pacing: &mut Pacing,
) {
    let unread: usize = queue.iter().map(|(len, _)| len).sum();
    let handle_at = queue.iter().position(|(_, kind)| *kind != FrameKind::Plain);
    let clean = handle_at.is_some_and(|at| queue[at..].iter().all(|(_, kind)| *kind != FrameKind::Plain));
    let Some(recall) = ledger.recall(unread as u64) else {
        assert!(!clean, "seed {seed}: refused {queue:?}");
        return;
    };
    assert!(clean, "seed {seed}: recalled {queue:?}");
    let (plain, handles) = queue.split_at(handle_at.expect("a clean queue has an fd frame"));
    assert_eq!(
        recall.plain_prefix_bytes,
        plain.iter().map(|(len, _)| *len as u64).sum::<u64>(),
        "seed {seed}"
    );
    let tokens: Vec<_> = handles.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(
        recall.handles.iter().map(|token| FrameKind::Handle(*token)).collect::<Vec<_>>(),
        tokens,
        "seed {seed}"
    );

    let plain: Vec<_> = plain.to_vec();
    let taken = 1 + random.below(recall.handles.len());
    queue.drain(..plain.len() + taken);
    for token in &recall.handles[..taken] {
        assert!(ledger.took_back(*token), "seed {seed}");
        pacing.took_back_handle();
    }
    for (len, _) in plain {
        ledger.wrote(len, FrameKind::Plain);
        pacing.sent_plain(len);
        queue.push((len, FrameKind::Plain));
    }
}
