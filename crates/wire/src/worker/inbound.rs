//! What a primary says: one line in, one [`FromPrimary`] out.
//!
//! A line must never do more here than be told apart. Keys and ticket data belong to the primary and stay the raw
//! JSON that it wrote, because a worker only ever repeats them.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use crate::fields::Fields;
use crate::inbound::{HandleFrame, ParseError, unwrap_handle};
use crate::json;
use crate::message::UserMessage;

/// A line from a primary, Node's or ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromPrimary<'a> {
    /// Answers the frame of ours that carried `seq = ack`.
    Reply(Reply<'a>),
    /// A connection for the listener with this key; its fd rides on the frame around this one.
    NewConn {
        /// Raw JSON, as in the reply to the query.
        key: &'a str,
        /// What the answer acknowledges; without it no answer is expected.
        seq: Option<u64>,
    },
    /// Close every server, finish, leave.
    Disconnect,
    /// The oldest outstanding fd frame arrived with its fd.
    HandleAck,
    /// The oldest outstanding fd frame arrived without its fd.
    HandleNack,
    /// A frame that owns the next received fd; see [`inner`]. Answer it with one `HANDLE_ACK`, or `HANDLE_NACK`
    /// without an fd.
    Handle(HandleFrame<'a>),
    /// A primary of Oxherd: it may be sent the page of figures.
    Hello {
        /// What it speaks.
        version: u64,
        /// The longest message that it takes, in bytes of JSON, if it says so: a longer one breaks the protocol.
        max_message: Option<u64>,
    },
    /// How many sockets with this key do we hold? Answer with `socket_count`.
    SocketCountQuery {
        /// The key to repeat.
        key: Cow<'a, str>,
    },
    /// Say so when no socket with this key is left. Answer with `socket_all_closed`.
    SocketCloseQuery {
        /// The key to repeat.
        key: Cow<'a, str>,
    },
    /// An internal frame that means nothing to a worker. To be ignored, and never shown to users.
    OtherInternal,
    /// Anything else: a message for the program.
    User(UserMessage<'a>),
}

/// The answer to a query, or the acknowledgement of `exitedAfterDisconnect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The `seq` of the frame that is answered.
    pub ack: u64,
    /// Why the query failed: the number of an error, positive (`98`).
    pub errno: Option<i32>,
    /// Raw JSON: names the socket in `newconn` and `close`.
    pub key: Option<&'a str>,
    /// What the socket is bound to, where connections come one by one.
    pub sockname: Option<SocketAddr>,
}

/// Reads one line, its newline already removed.
pub fn parse(line: &[u8]) -> Result<FromPrimary<'_>, ParseError> {
    if line == br#"{"cmd":"NODE_HANDLE_ACK"}"# {
        return Ok(FromPrimary::HandleAck);
    }
    let text = std::str::from_utf8(line).map_err(ParseError::NotUtf8)?.trim_matches(json::SPACE);
    match text.as_bytes().first() {
        None => Err(ParseError::Empty),
        Some(b'{') => parse_object(text),
        Some(_) => {
            json::check(text).map_err(ParseError::NotJson)?;
            Ok(FromPrimary::User(UserMessage { raw: text.as_bytes() }))
        }
    }
}

/// Recognises the frame that hands a connection over, in the exact form that primaries write: its key, as raw JSON,
/// and its `seq`. Of any other line it says nothing: [`parse`] reads all of them, this one included, at more cost.
#[inline]
pub fn parse_newconn(line: &[u8]) -> Option<(&str, u64)> {
    const HEAD: &[u8] =
        br#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","act":"newconn","key":"#;
    let rest = line.strip_prefix(HEAD)?.strip_suffix(b"}}")?;
    let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, seq) = rest.split_at(rest.len() - digits);
    let key = rest.strip_suffix(br#","seq":"#)?;
    let inside = key.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let is_plain = !inside.iter().any(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    let seq =
        std::str::from_utf8(seq).ok().filter(|seq| *seq == "0" || !seq.starts_with('0'))?.parse().ok()?;
    is_plain.then(|| std::str::from_utf8(key).ok())?.map(|key| (key, seq))
}

/// The message inside an fd frame, read as if it had come alone. It is never a [`FromPrimary::Handle`] again.
pub fn inner<'a>(frame: &HandleFrame<'a>) -> Result<FromPrimary<'a>, ParseError> {
    match parse(frame.message)? {
        FromPrimary::Handle(_) => Err(ParseError::Malformed { what: "msg" }),
        inner => Ok(inner),
    }
}

/// Whether the other side would take this JSON value for a frame of the protocol, and never show it to its program.
pub fn is_internal(raw: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(raw) else { return false };
    let text = text.trim_matches(json::SPACE);
    text.starts_with('{') && Fields::read(text).is_ok_and(|fields| fields.internal_cmd().is_some())
}

fn parse_object(text: &str) -> Result<FromPrimary<'_>, ParseError> {
    let fields = Fields::read(text)?;
    let Some(cmd) = fields.internal_cmd() else {
        return Ok(FromPrimary::User(UserMessage { raw: text.as_bytes() }));
    };
    match &*cmd {
        b"NODE_CLUSTER" => parse_cluster(&fields),
        b"NODE_HANDLE" => unwrap_handle(fields).map(FromPrimary::Handle),
        b"NODE_HANDLE_ACK" => Ok(FromPrimary::HandleAck),
        b"NODE_HANDLE_NACK" => Ok(FromPrimary::HandleNack),
        b"NODE_SOCKET_GET_COUNT" => Ok(FromPrimary::SocketCountQuery { key: fields.key()? }),
        b"NODE_SOCKET_NOTIFY_CLOSE" => Ok(FromPrimary::SocketCloseQuery { key: fields.key()? }),
        b"NODE_OXHERD_HELLO" => {
            let number = |field: Option<&str>| field.and_then(json::unsigned);
            let version = number(fields.version).unwrap_or(0);
            Ok(FromPrimary::Hello { version, max_message: number(fields.max_message) })
        }
        _ => Ok(FromPrimary::OtherInternal),
    }
}

/// An `ack` decides before an `act`, as in Node.
fn parse_cluster<'a>(fields: &Fields<'a>) -> Result<FromPrimary<'a>, ParseError> {
    if let Some(ack) = fields.ack.filter(|raw| *raw != "null") {
        return parse_reply(ack, fields).map(FromPrimary::Reply);
    }
    match fields.act.and_then(json::string).as_deref() {
        Some(b"newconn") => {
            let key = fields.raw_key().ok_or(ParseError::Malformed { what: "key" })?;
            Ok(FromPrimary::NewConn { key, seq: fields.seq.and_then(json::unsigned) })
        }
        Some(b"disconnect") => Ok(FromPrimary::Disconnect),
        _ => Ok(FromPrimary::OtherInternal),
    }
}

fn parse_reply<'a>(ack: &str, fields: &Fields<'a>) -> Result<Reply<'a>, ParseError> {
    let malformed = |what| ParseError::Malformed { what };
    Ok(Reply {
        ack: json::unsigned(ack).ok_or(malformed("ack"))?,
        errno: read_errno(fields.errno).ok_or(malformed("errno"))?,
        key: fields.raw_key(),
        sockname: fields.sockname.and_then(read_sockname),
    })
}

/// `null`, 0 and nothing at all are success.
fn read_errno(raw: Option<&str>) -> Option<Option<i32>> {
    let Some(raw) = raw.filter(|raw| *raw != "null") else { return Some(None) };
    let errno = i32::try_from(json::integer(raw)?.unsigned_abs()).ok()?;
    Some((errno != 0).then_some(errno))
}

/// A name that cannot be read is none: the socket works without.
fn read_sockname(raw: &str) -> Option<SocketAddr> {
    if !raw.starts_with('{') {
        return None;
    }
    let (mut address, mut port) = (None, None);
    json::members(raw, |name, value| match name {
        b"address" => address = json::exact_string(value),
        b"port" => port = json::unsigned(value),
        _ => {}
    })
    .ok()?;
    let address: IpAddr = address?.parse().ok()?;
    Some(SocketAddr::new(address, u16::try_from(port?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound;
    use crate::{HandleKind, HandleType, NewConn};

    fn reply(line: &str) -> Reply<'_> {
        match parse(line.as_bytes()).unwrap() {
            FromPrimary::Reply(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn captured_replies() {
        let key = r#""null:4567:4:undefined:0""#;
        let line = r#"{"cmd":"NODE_CLUSTER","errno":null,"key":"null:4567:4:undefined:0","ack":1,"data":null,"sockname":{"address":"::","family":"IPv6","port":4567},"seq":0}"#;
        let expected = Reply { ack: 1, errno: None, key: Some(key), sockname: "[::]:4567".parse().ok() };
        assert_eq!(reply(line), expected);
        let line = r#"{"cmd":"NODE_CLUSTER","errno":-98,"key":"null:5601:4:undefined:0","ack":1,"data":null,"seq":0}"#;
        assert_eq!(reply(line).errno, Some(98));
        let acknowledged = Reply { ack: 4, errno: None, key: None, sockname: None };
        assert_eq!(reply(r#"{"cmd":"NODE_CLUSTER","ack":4,"seq":1}"#), acknowledged);
        let shared = r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","errno":0,"key":"null:41595:4:undefined:0","ack":1,"data":null,"seq":0}}"#;
        let FromPrimary::Handle(frame) = parse(shared.as_bytes()).unwrap() else { panic!("no handle") };
        assert_eq!(frame.kind, HandleType::NetNative);
        assert!(matches!(inner(&frame), Ok(FromPrimary::Reply(Reply { ack: 1, errno: None, .. }))));
    }

    #[test]
    fn captured_orders() {
        let line = br#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","act":"newconn","key":"null:4567:4:undefined:0","seq":2}}"#;
        let FromPrimary::Handle(frame) = parse(line).unwrap() else { panic!("no handle") };
        let expected = FromPrimary::NewConn { key: r#""null:4567:4:undefined:0""#, seq: Some(2) };
        assert_eq!(inner(&frame).unwrap(), expected);
        let cases = [
            (r#"{"cmd":"NODE_CLUSTER","act":"disconnect","seq":3}"#, FromPrimary::Disconnect),
            (r#"{"cmd":"NODE_HANDLE_ACK"}"#, FromPrimary::HandleAck),
            (r#"{"cmd":"NODE_HANDLE_NACK"}"#, FromPrimary::HandleNack),
            (
                r#"{"cmd":"NODE_OXHERD_HELLO","version":1}"#,
                FromPrimary::Hello { version: 1, max_message: None },
            ),
            (
                r#"{"cmd":"NODE_OXHERD_HELLO","version":1,"maxMessage":70}"#,
                FromPrimary::Hello { version: 1, max_message: Some(70) },
            ),
            (
                r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"6::::5701"}"#,
                FromPrimary::SocketCountQuery { key: "6::::5701".into() },
            ),
            (
                r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"6::::5701"}"#,
                FromPrimary::SocketCloseQuery { key: "6::::5701".into() },
            ),
            (r#"{"cmd":"NODE_CLUSTER","act":"dance","seq":3}"#, FromPrimary::OtherInternal),
            (r#"{"cmd":"NODE_user"}"#, FromPrimary::OtherInternal),
            (
                r#"{"cmd":"NODE_CLUSTER","act":"newconn","key":7}"#,
                FromPrimary::NewConn { key: "7", seq: None },
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line.as_bytes()).unwrap(), expected, "{line}");
            assert_eq!(parse(format!(" {line}\r").as_bytes()).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn the_short_way_agrees_with_the_full_one() {
        let full = |line: &[u8]| match parse(line) {
            Ok(FromPrimary::Handle(frame)) => match inner(&frame) {
                Ok(FromPrimary::NewConn { key, seq: Some(seq) }) => Some((key.to_owned(), seq)),
                _ => None,
            },
            _ => None,
        };
        for (key, seq) in [("k:1", 0), ("é", 17), ("a", u64::MAX), ("", 5)] {
            let mut line = Vec::new();
            NewConn::new(key).render(seq, &mut line);
            let line = line.trim_ascii_end();
            let (found, number) = parse_newconn(line).unwrap();
            assert_eq!(Some((found.to_owned(), number)), full(line));
        }
        let odd = |tail: &str| {
            format!(
                r#"{{"cmd":"NODE_HANDLE","type":"net.Native","msg":{{"cmd":"NODE_CLUSTER","act":"newconn","key":{tail}}}}}"#
            )
        };
        for tail in [
            r#""a\"b","seq":1"#,
            r#""a","x":"","seq":1"#,
            r#""a","seq":01"#,
            r#""a","seq":"#,
            r#"7,"seq":1"#,
            r#"","seq":1"#,
            r#""a","seq":18446744073709551616"#,
        ] {
            assert_eq!(parse_newconn(odd(tail).as_bytes()), None, "{tail}");
        }
    }

    #[test]
    fn what_our_own_primary_writes_is_read() {
        let mut out = Vec::new();
        outbound::reply_shared(&mut out, HandleKind::DgramNative, 0, 5, "k\"", None);
        let FromPrimary::Handle(frame) = parse(out.trim_ascii_end()).unwrap() else { panic!("no handle") };
        assert_eq!(frame.kind, HandleType::DgramNative);
        let Ok(FromPrimary::Reply(reply)) = inner(&frame) else { panic!("no reply") };
        assert_eq!((reply.ack, reply.key), (5, Some(r#""k\"""#)));
        out.clear();
        NewConn::new("k\"").render(9, &mut out);
        let FromPrimary::Handle(frame) = parse(out.trim_ascii_end()).unwrap() else { panic!("no handle") };
        assert_eq!(inner(&frame).unwrap(), FromPrimary::NewConn { key: r#""k\"""#, seq: Some(9) });
    }

    #[test]
    fn messages_are_the_programs() {
        for line in ["null", "1", "\"shutdown\"", "[]", "{}", "\"\\ud800\"", r#"{"cmd":"NODE_"}"#] {
            assert!(matches!(parse(line.as_bytes()), Ok(FromPrimary::User(_))), "{line}");
        }
        assert!(is_internal(br#" {"cmd":"NODE_user"}"#));
        for raw in [&br#"{"cmd":"NODE_"}"#[..], b"{\"cmd\":1}", b"[\"NODE_user\"]", b"\xff", b"{"] {
            assert!(!is_internal(raw));
        }
    }

    #[test]
    fn nonsense_is_told_apart() {
        for line in [&b""[..], b"{", b"\"\xff\"", b"undefined"] {
            assert!(parse(line).is_err());
        }
        for (line, member) in [
            (r#"{"cmd":"NODE_CLUSTER","ack":"x"}"#, "ack"),
            (r#"{"cmd":"NODE_CLUSTER","ack":1,"errno":"x"}"#, "errno"),
            (r#"{"cmd":"NODE_CLUSTER","ack":1,"errno":1e300}"#, "errno"),
            (r#"{"cmd":"NODE_CLUSTER","act":"newconn"}"#, "key"),
            (r#"{"cmd":"NODE_HANDLE"}"#, "msg"),
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(matches!(error, ParseError::Malformed { what } if what == member), "{line}");
        }
        let odd = r#"{"cmd":"NODE_CLUSTER","ack":1,"sockname":{"address":7,"port":"x"}}"#;
        assert_eq!(reply(odd).sockname, None);
    }
}
