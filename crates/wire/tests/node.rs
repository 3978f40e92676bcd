//! The `advanced` serialisation against every Node: what `process.send` writes becomes the JSON it should, what is
//! written here arrives as what it stands for, and what is passed on is the same at the other end.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "nobody else starts or waits for children here")]

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oxherd_wire::{DEFAULT_MAX_MESSAGE_BYTES, Decoder, Serialization, frame_of, relay};

const NODES: [&str; 5] = ["18", "20", "22", "24", "26"];
/// Far longer than anything takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// JSON that `JSON.parse` takes, to be written as values.
const LINES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "2147483647",
    "-2147483648",
    "2147483648",
    "4294967296",
    "1.5",
    "-1.5E-30",
    "1e999",
    "123456789012345678901234567890",
    "\"\"",
    "\"ready\"",
    "\"a\\\"b\\\\c\\/\\b\\f\\n\\r\\t\\u0000\"",
    "\"é\u{ff}\"",
    "\"\\u00e9x\"",
    "\"łódź 🐂\"",
    "\"\\ud83d\\udc02\"",
    "\"\\ud800\"",
    "\"x\\udc00é\"",
    "[]",
    "{}",
    "[1,[2,[3,[]]],{}]",
    r#"{"a":1,"b":[{"c":null}],"é":"ł","ł":1}"#,
    r#"{"0":1,"12":2,"01":3,"4294967294":4,"4294967295":5,"-1":6,"2147483648":7}"#,
    r#"{"a":1,"b":[1,2],"a":{"x":[3,4]},"b":[[5]],"c":[]}"#,
    r#"{"1":1,"\u0031":2}"#,
    r#"{"a":{"b":1,"b":2,"b":3}}"#,
    r#"{"":1}"#,
    r#"{"constructor":1,"toString":2}"#,
    " [ 1 , 2 ] ",
    r#"{"cmd":"NODE_","type":"x"}"#,
    r#"{"ł":{"a":[]},"\ud800":"\udfff"}"#,
];

/// A Node at the other end of a channel.
struct Peer {
    child: Child,
    channel: UnixStream,
    decoder: Decoder,
    read: Vec<u8>,
}

impl Peer {
    fn start(line: &str) -> Self {
        let (channel, other) = UnixStream::pair().unwrap();
        channel.set_read_timeout(Some(DEADLINE)).unwrap();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/node/peer.js");
        // A program's other descriptors cannot be had without unsafe code; a shell moves this one.
        let child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 0</dev/null"#])
            .args([node(line), script])
            .env("NODE_CHANNEL_FD", "3")
            .env("NODE_CHANNEL_SERIALIZATION_MODE", Serialization::Advanced.name())
            .stdin(Stdio::from(OwnedFd::from(other)))
            .spawn()
            .unwrap();
        let decoder = Decoder::with(Serialization::Advanced, DEFAULT_MAX_MESSAGE_BYTES);
        Self { child, channel, decoder, read: Vec::new() }
    }

    /// The next message: its line, and its value.
    fn hear(&mut self) -> (String, Vec<u8>) {
        self.next().expect("the channel ended")
    }

    fn hear_or_end(&mut self) -> Option<String> {
        self.next().map(|(line, _)| line)
    }

    fn next(&mut self) -> Option<(String, Vec<u8>)> {
        loop {
            let mut lines = self.decoder.feed(&self.read);
            if let Some(frame) = lines.next_frame() {
                let frame = frame.unwrap();
                let heard = (String::from_utf8(frame.line.to_vec()).unwrap(), frame.value.unwrap().to_vec());
                drop(lines);
                self.read.clear();
                return Some(heard);
            }
            drop(lines);
            self.read.resize(5000, 0);
            let count = self.channel.read(&mut self.read).ok().filter(|count| *count > 0)?;
            self.read.truncate(count);
        }
    }

    fn say(&mut self, line: &str) {
        let mut frame = Vec::new();
        frame_of(Serialization::Advanced, line.as_bytes(), &mut frame).unwrap();
        self.channel.write_all(&frame).unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It is gone already, unless a test has failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn node(line: &str) -> PathBuf {
    // target/debug/deps and target/tools are neighbours but for one folder.
    let program = std::env::current_exe().unwrap();
    let beside = || program.ancestors().nth(3).unwrap().join("tools");
    let tools = std::env::var_os("OXHERD_TOOLS").map_or_else(beside, PathBuf::from);
    let path = tools.join(format!("node-{line}/bin/node"));
    assert!(path.is_file(), "there is no Node {line} at {}: `cargo xtask tools` installs it", path.display());
    path
}

#[derive(serde::Deserialize)]
struct Sent<'a> {
    index: usize,
    text: String,
    #[serde(borrow)]
    value: &'a serde_json::value::RawValue,
}

#[test]
fn what_node_writes_and_reads() {
    for line in NODES {
        let mut peer = Peer::start(line);
        let mut values = Vec::new();
        loop {
            let (line, value) = peer.hear();
            if line == "\"sent\"" {
                break;
            }
            let sent: Sent<'_> =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(sent.value.get(), sent.text, "value {} of Node", sent.index);
            values.push(value);
        }
        assert!(values.len() > 120, "Node {line}: {}", values.len());
        check_lines(&mut peer, line);
        check_relay(&mut peer, line, &values);
        peer.say("\"end\"\n");
        assert!(peer.child.wait().unwrap().success());
    }
}

fn check_lines(peer: &mut Peer, line: &str) {
    for text in LINES {
        let quoted = serde_json::to_string(text).unwrap();
        peer.say(&format!("{{\"text\":{quoted},\"value\":{text}}}\n"));
        let (verdict, _) = peer.hear();
        assert_eq!(verdict, "\"same\"", "Node {line}");
    }
    let deep = format!(
        "{{\"text\":\"\",\"value\":{}{}}}",
        "{\"a\":".repeat(998) + "[",
        "]".to_owned() + &"}".repeat(998)
    );
    peer.say(&deep);
    assert!(peer.hear().0.contains("wrong"), "it was read, though it is not what the text says");
}

fn check_relay(peer: &mut Peer, line: &str, values: &[Vec<u8>]) {
    let mut refused = 0;
    for value in values {
        let mut frame = Vec::new();
        if !relay(value, Some(7), DEFAULT_MAX_MESSAGE_BYTES, &mut frame) {
            assert!(frame.is_empty());
            refused += 1;
            continue;
        }
        peer.channel.write_all(&frame).unwrap();
        let (verdict, _) = peer.hear();
        assert_eq!(verdict, "\"same\"", "Node {line}");
    }
    let half_floats = usize::from(matches!(line, "24" | "26"));
    assert_eq!(refused, 3 + half_floats, "only the values with a regular expression, and a Float16Array");
    check_changed(peer, line, values);
}

/// Whatever is passed on is read: otherwise a worker could kill another.
fn check_changed(peer: &mut Peer, line: &str, values: &[Vec<u8>]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound.max(1) as u64) as usize
    };
    let tags = b"_0TFIUNZSc\"^oaADyxnzsR;:',B~Vr\\{$@-?\0\x01\x02\x03\x04abEmc.";
    let short: Vec<&Vec<u8>> = values.iter().filter(|value| value.len() < 3000).collect();
    let mut passed_on = 0;
    for _ in 0..rounds() {
        let mut value = short[below(short.len())].clone();
        for _ in 0..=below(3) {
            let at = 2 + below(value.len() - 2);
            match below(4) {
                0 => value.insert(at, tags[below(tags.len())]),
                1 if value.len() > 4 => drop(value.remove(at)),
                2 => {
                    let other = short[below(short.len())];
                    let from = 2 + below(other.len() - 2);
                    let to = from + below((other.len() - from).min(40));
                    value.splice(at..at, other[from..to].iter().copied());
                }
                _ => value[at] = tags[below(tags.len())],
            }
        }
        let mut frame = Vec::new();
        if relay(&value, Some(7), DEFAULT_MAX_MESSAGE_BYTES, &mut frame) {
            passed_on += 1;
            peer.channel.write_all(&frame).unwrap();
            let verdict = peer.hear_or_end().unwrap_or_else(|| panic!("Node {line} died of {value:?}"));
            assert!(verdict.contains("same") || verdict.contains("wrong"), "Node {line}: {verdict}");
        }
    }
    println!("Node {line}: {passed_on} changed values were passed on");
    assert!(passed_on > rounds() / 50);
}

/// How many changed values are tried.
fn rounds() -> usize {
    let given = std::env::var("OXHERD_WIRE_SEEDS").ok().and_then(|text| text.parse::<usize>().ok());
    given.map_or(5000, |seeds| seeds * 10)
}
