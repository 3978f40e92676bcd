//! What the primary says to a worker: each function appends one whole line, newline included.
//!
//! An encoder must never write half a line, a line that Node cannot read, or anything but the byte-exact shape
//! that Node's own primary writes. Which fd rides on a line is the caller's affair.

use std::net::SocketAddr;

use crate::advanced::{self, LENGTH_BYTES, Serialization, frame_of};

/// Answers a `NODE_HANDLE` frame that came with its fd. Exactly one answer per frame: a surplus one kills Node.
pub const HANDLE_ACK: &[u8] = b"{\"cmd\":\"NODE_HANDLE_ACK\"}\n";

/// Answers a `NODE_HANDLE` frame that came without its fd.
pub const HANDLE_NACK: &[u8] = b"{\"cmd\":\"NODE_HANDLE_NACK\"}\n";

/// Asks a program to finish, in the form most programs listen for.
pub const SHUTDOWN_OBJECT: &[u8] = b"{\"type\":\"shutdown\"}\n";

/// Asks a program to finish, in PM2's form (`shutdown_with_message`).
pub const SHUTDOWN_STRING: &[u8] = b"\"shutdown\"\n";

/// Answers the first frame of a worker that speaks Oxherd's extension: it may send what Node's primary would die
/// of, and no message longer than so many bytes. Node's worker passes over it.
pub fn hello(out: &mut Vec<u8>, max_message: usize) {
    push(out, r#"{"cmd":"NODE_OXHERD_HELLO","version":1,"maxMessage":"#);
    push_number(out, max_message as u64);
    push(out, "}\n");
}

/// What kind of socket a shared reply carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandleKind {
    /// A TCP or Unix stream socket.
    NetNative,
    /// A UDP socket.
    DgramNative,
}

impl HandleKind {
    fn name(self) -> &'static str {
        match self {
            Self::NetNative => "net.Native",
            Self::DgramNative => "dgram.Native",
        }
    }
}

/// Replies to a query: connections will come one by one. `sockname` is what the worker's `server.address()`
/// says, `None` for a Unix path; its port must be the one asked for unless that was 0. `data` is what the query
/// had, or the first that any worker had for this listener.
pub fn reply_round_robin(
    out: &mut Vec<u8>,
    seq: u64,
    ack: u64,
    key: &str,
    data: Option<&[u8]>,
    sockname: Option<SocketAddr>,
) {
    push_reply(out, None, key, ack, data);
    if let Some(address) = sockname {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let (ip, port) = (address.ip(), address.port());
        push(out, &format!(r#","sockname":{{"address":"{ip}","family":"{family}","port":{port}}}"#));
    }
    push_seq(out, seq);
    push(out, "}\n");
}

/// Replies to a query with the socket itself, whose fd rides on this line.
pub fn reply_shared(out: &mut Vec<u8>, kind: HandleKind, seq: u64, ack: u64, key: &str, data: Option<&[u8]>) {
    push_envelope(out, kind);
    push_reply(out, Some(0), key, ack, data);
    push_seq(out, seq);
    push(out, "}}\n");
}

/// Replies to a query that it failed. `errno` is negative (`-98`); Node dies of a positive one, so its sign is
/// set here, and 0, which would mean success, becomes `EINVAL`.
pub fn reply_error(out: &mut Vec<u8>, seq: u64, ack: u64, key: &str, data: Option<&[u8]>, errno: i32) {
    let errno = match i64::from(errno) {
        0 => -22,
        given => -given.abs(),
    };
    push_reply(out, Some(errno), key, ack, data);
    push_seq(out, seq);
    push(out, "}\n");
}

/// Acknowledges a worker's `exitedAfterDisconnect`.
pub fn ack(out: &mut Vec<u8>, seq: u64, ack: u64) {
    push(out, r#"{"cmd":"NODE_CLUSTER","ack":"#);
    push_number(out, ack);
    push_seq(out, seq);
    push(out, "}\n");
}

/// Asks a worker to close its servers, finish its connections and leave.
pub fn disconnect(out: &mut Vec<u8>, seq: u64) {
    push(out, r#"{"cmd":"NODE_CLUSTER","act":"disconnect""#);
    push_seq(out, seq);
    push(out, "}\n");
}

/// A program's message. `raw` must be one JSON value: a Node worker dies of anything else. Newlines, which JSON
/// allows between tokens, become spaces; of a blank `raw` nothing is written.
pub fn user(out: &mut Vec<u8>, raw: &[u8]) {
    let raw = raw.trim_ascii();
    if raw.is_empty() {
        return;
    }
    push_raw(out, raw);
    out.push(b'\n');
}

/// Answers a [`SocketCountQuery`](crate::Inbound::SocketCountQuery). A primary that closes what users send it
/// holds 0.
pub fn socket_count(out: &mut Vec<u8>, key: &str, count: u64) {
    push(out, r#"{"cmd":"NODE_SOCKET_COUNT","key":"#);
    push_string(out, key);
    push(out, r#","count":"#);
    push_number(out, count);
    push(out, "}\n");
}

/// Answers a [`SocketCloseQuery`](crate::Inbound::SocketCloseQuery), once no socket with this key is held.
pub fn socket_all_closed(out: &mut Vec<u8>, key: &str) {
    push(out, r#"{"cmd":"NODE_SOCKET_ALL_CLOSED","key":"#);
    push_string(out, key);
    push(out, "}\n");
}

/// The line that hands over one connection, made once per worker and listener. The connection's fd rides on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewConn {
    head: Vec<u8>,
    /// What precedes the number in the value of the same line.
    head_of_value: Vec<u8>,
}

impl NewConn {
    /// Prepares the line for the key that was given in the reply to the query.
    pub fn new(key: &str) -> Self {
        let mut head = Vec::new();
        push_envelope(&mut head, HandleKind::NetNative);
        push(&mut head, r#"{"cmd":"NODE_CLUSTER","act":"newconn","key":"#);
        push_string(&mut head, key);
        push(&mut head, r#","seq":"#);
        let mut made = Self { head, head_of_value: Vec::new() };
        let mut line = Vec::new();
        made.render(0, &mut line);
        let framed = frame_of(Serialization::Advanced, &line, &mut made.head_of_value);
        debug_assert!(framed.is_ok(), "a line of ours is JSON");
        let len = made.head_of_value.len().saturating_sub(NUMBER_0.len() + ENDS_OF_VALUE.len());
        made.head_of_value.truncate(len);
        made.head_of_value.drain(..LENGTH_BYTES.min(len));
        made
    }

    /// Appends the frame of the line with this `seq`, as a channel needs it.
    pub fn frame(&self, serialization: Serialization, seq: u64, out: &mut Vec<u8>) {
        match serialization {
            Serialization::Json => self.render(seq, out),
            Serialization::Advanced => {
                let start = out.len();
                out.extend_from_slice(&[0; LENGTH_BYTES]);
                out.extend_from_slice(&self.head_of_value);
                advanced::push_number(out, seq as f64);
                out.extend_from_slice(ENDS_OF_VALUE);
                let closed = advanced::close_frame(out, start);
                debug_assert!(closed.is_ok(), "it is short");
            }
        }
    }

    /// Appends the line with this `seq`, which the worker's answer will repeat as `ack`.
    pub fn render(&self, seq: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        push_number(out, seq);
        push(out, "}}\n");
    }
}

/// The number 0 in a value.
const NUMBER_0: &[u8] = b"I\0";
/// The ends of the two objects in the value of a [`NewConn`], with the numbers of their members.
const ENDS_OF_VALUE: &[u8] = b"{\x04{\x03";

fn push_envelope(out: &mut Vec<u8>, kind: HandleKind) {
    push(out, r#"{"cmd":"NODE_HANDLE","type":""#);
    push(out, kind.name());
    push(out, r#"","msg":"#);
}

/// A reply up to its `data`, which is always there: a TLS worker dies where it is missing.
fn push_reply(out: &mut Vec<u8>, errno: Option<i64>, key: &str, ack: u64, data: Option<&[u8]>) {
    push(out, r#"{"cmd":"NODE_CLUSTER","errno":"#);
    match errno {
        None => push(out, "null"),
        Some(errno) => {
            if errno < 0 {
                out.push(b'-');
            }
            push_number(out, errno.unsigned_abs());
        }
    }
    push(out, r#","key":"#);
    push_string(out, key);
    push(out, r#","ack":"#);
    push_number(out, ack);
    push(out, r#","data":"#);
    push_raw(out, data.unwrap_or(b"null"));
}

pub(crate) fn push_seq(out: &mut Vec<u8>, seq: u64) {
    push(out, r#","seq":"#);
    push_number(out, seq);
}

pub(crate) fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// JSON on one line.
pub(crate) fn push_raw(out: &mut Vec<u8>, raw: &[u8]) {
    let start = out.len();
    out.extend_from_slice(raw);
    for byte in out.iter_mut().skip(start).filter(|byte| **byte == b'\n') {
        *byte = b' ';
    }
}

pub(crate) fn push_number(out: &mut Vec<u8>, number: u64) {
    let start = out.len();
    let mut rest = number;
    loop {
        out.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

/// A JSON string, escaped as `JSON.stringify` does.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => push(out, "\\\""),
            b'\\' => push(out, "\\\\"),
            b'\n' => push(out, "\\n"),
            b'\r' => push(out, "\\r"),
            b'\t' => push(out, "\\t"),
            0x08 => push(out, "\\b"),
            0x0c => push(out, "\\f"),
            0..0x20 => push(out, &format!("\\u{byte:04x}")),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prepared_connection_is_what_its_line_is() {
        for key in ["L7", "K:1", "é\"\\", "ł\u{1f402}", ""] {
            let prepared = NewConn::new(key);
            for seq in [0, 1, 4096, i32::MAX as u64, 1 << 32 | 5] {
                for serialization in [Serialization::Json, Serialization::Advanced] {
                    let (mut line, mut expected, mut frame) = (Vec::new(), Vec::new(), b"before".to_vec());
                    prepared.render(seq, &mut line);
                    frame_of(serialization, &line, &mut expected).unwrap();
                    prepared.frame(serialization, seq, &mut frame);
                    assert_eq!(frame[6..], expected, "{key} {seq}");
                }
            }
        }
    }

    fn line(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"before".to_vec();
        write(&mut out);
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix("before").unwrap().to_owned()
    }

    #[test]
    fn replies_are_as_captured() {
        let any = Some("[::]:4567".parse().unwrap());
        assert_eq!(
            line(|out| reply_round_robin(out, 0, 1, "null:4567:4:undefined:0", None, any)),
            "{\"cmd\":\"NODE_CLUSTER\",\"errno\":null,\"key\":\"null:4567:4:undefined:0\",\"ack\":1,\"data\":null,\
             \"sockname\":{\"address\":\"::\",\"family\":\"IPv6\",\"port\":4567},\"seq\":0}\n"
        );
        let loopback = Some("127.0.0.1:33629".parse().unwrap());
        assert_eq!(
            line(|out| reply_round_robin(out, 0, 1, "K:null:33629:4:undefined:0", None, loopback)),
            "{\"cmd\":\"NODE_CLUSTER\",\"errno\":null,\"key\":\"K:null:33629:4:undefined:0\",\"ack\":1,\
             \"data\":null,\"sockname\":{\"address\":\"127.0.0.1\",\"family\":\"IPv4\",\"port\":33629},\"seq\":0}\n"
        );
        assert_eq!(
            line(|out| reply_round_robin(out, 5, 9, "/srv/u.sock", Some(b"{\"ticketKeys\":\"36\"}"), None)),
            "{\"cmd\":\"NODE_CLUSTER\",\"errno\":null,\"key\":\"/srv/u.sock\",\"ack\":9,\
             \"data\":{\"ticketKeys\":\"36\"},\"seq\":5}\n"
        );
        assert_eq!(
            line(|out| reply_shared(out, HandleKind::NetNative, 0, 1, "null:41595:4:undefined:0", None)),
            "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\"msg\":{\"cmd\":\"NODE_CLUSTER\",\"errno\":0,\
             \"key\":\"null:41595:4:undefined:0\",\"ack\":1,\"data\":null,\"seq\":0}}\n"
        );
        assert_eq!(
            line(|out| reply_shared(out, HandleKind::DgramNative, 0, 1, "0.0.0.0:5660:udp4:-1:0", None)),
            "{\"cmd\":\"NODE_HANDLE\",\"type\":\"dgram.Native\",\"msg\":{\"cmd\":\"NODE_CLUSTER\",\"errno\":0,\
             \"key\":\"0.0.0.0:5660:udp4:-1:0\",\"ack\":1,\"data\":null,\"seq\":0}}\n"
        );
    }

    #[test]
    fn errors_are_always_negative() {
        let expected = "{\"cmd\":\"NODE_CLUSTER\",\"errno\":-98,\"key\":\"null:5601:4:undefined:0\",\"ack\":1,\
                        \"data\":null,\"seq\":0}\n";
        for errno in [-98, 98] {
            assert_eq!(line(|out| reply_error(out, 0, 1, "null:5601:4:undefined:0", None, errno)), expected);
        }
        assert!(line(|out| reply_error(out, 0, 1, "", None, 0)).contains("\"errno\":-22,"));
        assert!(line(|out| reply_error(out, 0, 1, "", None, i32::MIN)).contains("\"errno\":-2147483648,"));
    }

    #[test]
    fn connections_are_as_captured() {
        let prepared = NewConn::new("K:null:33629:4:undefined:0");
        assert_eq!(
            line(|out| prepared.render(1, out)),
            "{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Native\",\"msg\":{\"cmd\":\"NODE_CLUSTER\",\"act\":\"newconn\",\
             \"key\":\"K:null:33629:4:undefined:0\",\"seq\":1}}\n"
        );
        assert!(line(|out| prepared.render(u64::MAX, out)).ends_with(",\"seq\":18446744073709551615}}\n"));
        assert!(line(|out| prepared.render(0, out)).ends_with(",\"seq\":0}}\n"));
    }

    #[test]
    fn the_short_frames() {
        assert_eq!(line(|out| ack(out, 1, 4)), "{\"cmd\":\"NODE_CLUSTER\",\"ack\":4,\"seq\":1}\n");
        assert_eq!(
            line(|out| disconnect(out, 2)),
            "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"disconnect\",\"seq\":2}\n"
        );
        assert_eq!(
            line(|out| socket_count(out, "6::::5701", 0)),
            "{\"cmd\":\"NODE_SOCKET_COUNT\",\"key\":\"6::::5701\",\"count\":0}\n"
        );
        assert_eq!(
            line(|out| socket_all_closed(out, "6::::5701")),
            "{\"cmd\":\"NODE_SOCKET_ALL_CLOSED\",\"key\":\"6::::5701\"}\n"
        );
    }

    #[test]
    fn a_message_is_always_one_line() {
        assert_eq!(line(|out| user(out, b"{\n  \"a\": 1\r\n}\n")), "{   \"a\": 1\r }\n");
        assert_eq!(line(|out| user(out, b" \n")), "");
    }

    #[test]
    fn keys_are_escaped() {
        let key = "a\"\\\n\r\t\u{8}\u{c}\u{0}\u{1f}é\u{2028}/";
        let text = line(|out| socket_all_closed(out, key));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["key"], key);
        assert_eq!(text.matches('\n').count(), 1);
        assert!(text.contains("\\u0000\\u001f"));
    }
}
