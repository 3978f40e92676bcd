//! What a worker says: one line in, one [`Inbound`] out.
//!
//! A line must never do more here than be told apart: nothing is answered, remembered or copied that can be
//! borrowed, and no input makes it panic, recurse or run longer than a few passes over the line.

use std::borrow::Cow;

use thiserror::Error;

use crate::fields::Fields;
use crate::json;
use crate::listen::{Listening, Query};
use crate::message::UserMessage;

/// How often a `NODE_HANDLE` may wrap another one. Node wraps once more for each of its 3 retransmissions.
pub const MAX_HANDLE_WRAPS: usize = 8;

/// A line from a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound<'a> {
    /// The answer to a frame of ours that carried `seq = ack`; to a `newconn` it says whether it was taken.
    Answer {
        /// The `seq` of the frame that is answered.
        ack: u64,
        /// `false` also where the member is absent.
        accepted: bool,
    },
    /// The oldest outstanding fd frame arrived with its fd.
    HandleAck,
    /// The oldest outstanding fd frame arrived without its fd.
    HandleNack,
    /// A frame that owns the next received fd. Answer it with one `HANDLE_ACK`, or `HANDLE_NACK` without an fd.
    Handle(HandleFrame<'a>),
    /// The worker's first frame.
    Online {
        /// It speaks Oxherd's extension: it awaits [`hello`](crate::hello).
        oxherd: bool,
    },
    /// The worker wants a socket and waits for a reply.
    Query(Query),
    /// A server or UDP socket is in use. May be missing or come twice.
    Listening(Listening),
    /// The server with this key of ours was closed in the worker.
    Close {
        /// The key given in the reply to the query.
        key: Cow<'a, str>,
    },
    /// The worker leaves of its own will once `seq` is acknowledged.
    ExitedAfterDisconnect {
        /// What to acknowledge.
        seq: u64,
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
    /// An internal frame that means nothing to a primary. To be ignored, and never shown to users.
    OtherInternal,
    /// Anything else: the program's own message.
    User(UserMessage<'a>),
}

/// A `NODE_HANDLE` frame, unwrapped from the retransmissions around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandleFrame<'a> {
    /// What the sender says the fd is.
    pub kind: HandleType,
    /// Names the server that accepted the socket, when the sender keeps track of it.
    pub key: Option<Cow<'a, str>>,
    /// The inner message, as written.
    pub message: &'a [u8],
}

impl<'a> HandleFrame<'a> {
    /// The inner message, read as if it had come alone. It is never a [`Inbound::Handle`] again.
    pub fn inner(&self) -> Result<Inbound<'a>, ParseError> {
        match parse(self.message)? {
            Inbound::Handle(_) => Err(ParseError::Malformed { what: "msg" }),
            inner => Ok(inner),
        }
    }
}

/// The `type` of a `NODE_HANDLE` frame. What the fd really is must be asked of the fd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandleType {
    /// `net.Native`, a raw stream handle.
    NetNative,
    /// `dgram.Native`, a raw UDP handle.
    DgramNative,
    /// `net.Socket`, a connection.
    NetSocket,
    /// `net.Server`, a listening socket.
    NetServer,
    /// `dgram.Socket`, a bound UDP socket.
    DgramSocket,
    /// `net.BoundSocket`, bound and not listening.
    NetBoundSocket,
    /// `oxherd.load`, the worker's page of figures; see [`load`](crate::load).
    Load,
    /// A name unknown to us, or none.
    Other,
}

/// Why a line cannot be read. A worker that sends one is not speaking the protocol: drop it.
#[derive(Debug, Error)]
pub enum ParseError {
    /// Nothing, or white space only.
    #[error("empty line")]
    Empty,
    /// Not UTF-8.
    #[error("line is not UTF-8")]
    NotUtf8(#[source] std::str::Utf8Error),
    /// Not one JSON value.
    #[error("line is not JSON")]
    NotJson(#[source] serde_json::Error),
    /// An internal frame with a member that is missing or of the wrong type.
    #[error("internal message with a bad `{what}`")]
    Malformed {
        /// The member's name.
        what: &'static str,
    },
}

/// Reads one line, its newline already removed.
pub fn parse(line: &[u8]) -> Result<Inbound<'_>, ParseError> {
    match parse_per_connection(line) {
        Some(PerConnection::HandleAck) => return Ok(Inbound::HandleAck),
        Some(PerConnection::Accepted { ack }) => return Ok(Inbound::Answer { ack, accepted: true }),
        None => {}
    }
    let text = std::str::from_utf8(line).map_err(ParseError::NotUtf8)?.trim_matches(json::SPACE);
    match text.as_bytes().first() {
        None => Err(ParseError::Empty),
        Some(b'{') => parse_object(text),
        Some(_) => {
            json::check(text).map_err(ParseError::NotJson)?;
            Ok(Inbound::User(UserMessage { raw: text.as_bytes() }))
        }
    }
}

/// One of the two lines that come for every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PerConnection {
    /// As [`Inbound::HandleAck`].
    HandleAck,
    /// As [`Inbound::Answer`] with `accepted: true`.
    Accepted {
        /// The `seq` of the frame that is answered.
        ack: u64,
    },
}

/// Recognises the two lines that come for every connection, in the exact form that Node writes. Of any other
/// line it says nothing: [`parse`] reads all of them, these two included, at a little more cost.
#[inline]
pub fn parse_per_connection(line: &[u8]) -> Option<PerConnection> {
    if line == br#"{"cmd":"NODE_HANDLE_ACK"}"# {
        return Some(PerConnection::HandleAck);
    }
    let rest = line.strip_prefix(br#"{"cmd":"NODE_CLUSTER","ack":"#)?;
    let (ack, rest) = split_number(rest)?;
    let rest = rest.strip_prefix(br#","accepted":true,"seq":"#)?;
    let (_, rest) = split_number(rest)?;
    (rest == b"}").then_some(PerConnection::Accepted { ack })
}

/// A plain decimal of up to 19 digits, which always fit, without a leading zero, which JSON forbids.
fn split_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() || digits.len() > 19 || (digits.len() > 1 && digits.starts_with(b"0")) {
        return None;
    }
    Some((digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')), rest))
}

fn parse_object(text: &str) -> Result<Inbound<'_>, ParseError> {
    let fields = Fields::read(text)?;
    let Some(cmd) = fields.internal_cmd() else {
        return Ok(Inbound::User(UserMessage { raw: text.as_bytes() }));
    };
    match &*cmd {
        b"NODE_CLUSTER" => parse_cluster(&fields),
        b"NODE_HANDLE" => unwrap_handle(fields).map(Inbound::Handle),
        b"NODE_HANDLE_ACK" => Ok(Inbound::HandleAck),
        b"NODE_HANDLE_NACK" => Ok(Inbound::HandleNack),
        b"NODE_SOCKET_GET_COUNT" => Ok(Inbound::SocketCountQuery { key: fields.key()? }),
        b"NODE_SOCKET_NOTIFY_CLOSE" => Ok(Inbound::SocketCloseQuery { key: fields.key()? }),
        _ => Ok(Inbound::OtherInternal),
    }
}

/// An `ack` decides before an `act`, as in Node.
fn parse_cluster<'a>(fields: &Fields<'a>) -> Result<Inbound<'a>, ParseError> {
    if let Some(ack) = fields.ack.filter(|raw| *raw != "null") {
        return parse_answer(ack, fields.accepted);
    }
    let act = fields.act.and_then(json::string);
    match act.as_deref() {
        Some(b"online") => {
            let version = fields.oxherd.and_then(json::unsigned);
            Ok(Inbound::Online { oxherd: version.is_some_and(|version| version > 0) })
        }
        Some(b"queryServer") => Query::read(fields).map(Inbound::Query),
        Some(b"listening") => Listening::read(fields).map(Inbound::Listening),
        Some(b"close") => Ok(Inbound::Close { key: fields.key()? }),
        Some(b"exitedAfterDisconnect") => Ok(Inbound::ExitedAfterDisconnect { seq: fields.seq()? }),
        _ => Ok(Inbound::OtherInternal),
    }
}

fn parse_answer(ack: &str, accepted: Option<&str>) -> Result<Inbound<'static>, ParseError> {
    let ack = json::unsigned(ack).ok_or(ParseError::Malformed { what: "ack" })?;
    match accepted {
        Some("true") => Ok(Inbound::Answer { ack, accepted: true }),
        Some("false") | None => Ok(Inbound::Answer { ack, accepted: false }),
        Some(_) => Err(ParseError::Malformed { what: "accepted" }),
    }
}

/// Goes in until the message is no longer a `NODE_HANDLE`. The number of steps is bounded because each one
/// reads all the rest of the line again.
pub(crate) fn unwrap_handle(mut fields: Fields<'_>) -> Result<HandleFrame<'_>, ParseError> {
    for _ in 0..MAX_HANDLE_WRAPS {
        let msg = fields.msg.ok_or(ParseError::Malformed { what: "msg" })?;
        if msg.starts_with('{') {
            let inner = Fields::read(msg)?;
            if inner.internal_cmd().as_deref() == Some(b"NODE_HANDLE") {
                fields = inner;
                continue;
            }
        }
        let kind = handle_type(fields.kind);
        let key = fields.lossy_key();
        return Ok(HandleFrame { kind, key, message: msg.as_bytes() });
    }
    Err(ParseError::Malformed { what: "msg" })
}

fn handle_type(raw: Option<&str>) -> HandleType {
    match raw.and_then(json::string).as_deref() {
        Some(b"net.Native") => HandleType::NetNative,
        Some(b"dgram.Native") => HandleType::DgramNative,
        Some(b"net.Socket") => HandleType::NetSocket,
        Some(b"net.Server") => HandleType::NetServer,
        Some(b"dgram.Socket") => HandleType::DgramSocket,
        Some(b"net.BoundSocket") => HandleType::NetBoundSocket,
        Some(b"oxherd.load") => HandleType::Load,
        _ => HandleType::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(line: &[u8]) -> bool {
        matches!(parse(line), Ok(Inbound::User(_)))
    }

    #[test]
    fn captured_lines_of_a_worker() {
        let close = r#"{"cmd":"NODE_CLUSTER","act":"close","key":"K:null:33629:4:undefined:0","seq":4}"#;
        let cases = [
            (r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#, Inbound::Online { oxherd: false }),
            (r#"{"cmd":"NODE_CLUSTER","act":"online","oxherd":1,"seq":0}"#, Inbound::Online { oxherd: true }),
            (
                r#"{"cmd":"NODE_CLUSTER","act":"online","oxherd":"x","seq":0}"#,
                Inbound::Online { oxherd: false },
            ),
            (r#"{"cmd":"NODE_HANDLE_ACK"}"#, Inbound::HandleAck),
            (r#"{"cmd":"NODE_HANDLE_NACK"}"#, Inbound::HandleNack),
            (
                r#"{"cmd":"NODE_CLUSTER","ack":1,"accepted":true,"seq":3}"#,
                Inbound::Answer { ack: 1, accepted: true },
            ),
            (
                r#"{"cmd":"NODE_CLUSTER","ack":17,"accepted":false,"seq":3}"#,
                Inbound::Answer { ack: 17, accepted: false },
            ),
            (close, Inbound::Close { key: "K:null:33629:4:undefined:0".into() }),
            (
                r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":4}"#,
                Inbound::ExitedAfterDisconnect { seq: 4 },
            ),
            (
                r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"6::::5701"}"#,
                Inbound::SocketCountQuery { key: "6::::5701".into() },
            ),
            (
                r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"6::::5701"}"#,
                Inbound::SocketCloseQuery { key: "6::::5701".into() },
            ),
            (r#"{"cmd":"NODE_user"}"#, Inbound::OtherInternal),
            (r#"{"cmd":"NODE_CLUSTER","act":"dance"}"#, Inbound::OtherInternal),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line.as_bytes()).unwrap(), expected, "{line}");
            assert_eq!(parse(format!(" \t{line} \r").as_bytes()).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn the_fast_path_agrees_with_the_full_one() {
        for (ack, seq) in [("0", "0"), ("9999999999999999999", "1"), ("18446744073709551615", "4")] {
            let fast = format!(r#"{{"cmd":"NODE_CLUSTER","ack":{ack},"accepted":true,"seq":{seq}}}"#);
            let full = format!(r#"{{"cmd":"NODE_CLUSTER","accepted":true,"ack":{ack},"seq":{seq}}}"#);
            assert_eq!(parse(fast.as_bytes()).unwrap(), parse(full.as_bytes()).unwrap());
        }
        for bad in ["01", "", "-1", "1.5", "{}", "\"1\""] {
            let line = format!(r#"{{"cmd":"NODE_CLUSTER","ack":{bad},"accepted":true,"seq":1}}"#);
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
        let twice = br#"{"cmd":"NODE_CLUSTER","ack":1,"accepted":true,"seq":3,"ack":2}"#;
        assert_eq!(parse(twice).unwrap(), Inbound::Answer { ack: 2, accepted: true });
    }

    #[test]
    fn any_json_value_is_a_user_message() {
        for line in ["null", "true", "1", "\"s\"", "[]", "{}", "\"\\ud800\"", "1e999", "{\"\\udc00\":1}"] {
            assert!(user(line.as_bytes()), "{line}");
        }
        for line in [
            r#"{"cmd":"NODE_"}"#,
            r#"{"cmd":5}"#,
            r#"{"cmd":"node_x"}"#,
            r#"["NODE_CLUSTER"]"#,
            r#"{"cmd":"NODE_x","cmd":1}"#,
        ] {
            assert!(user(line.as_bytes()), "{line}");
        }
        assert_eq!(parse(b" [1 ]\r").unwrap(), Inbound::User(UserMessage { raw: b"[1 ]" }));
        let escaped = br#"{"c\u006dd":"\u004eODE_CLUSTER","act":"online"}"#;
        assert_eq!(parse(escaped).unwrap(), Inbound::Online { oxherd: false });
    }

    #[test]
    fn depth_is_no_matter() {
        let depth = 100_000;
        let line = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(user(line.as_bytes()));
        let line = format!("{{\"a\":{}1{}}}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(user(line.as_bytes()));
    }

    #[test]
    fn garbage_is_refused() {
        for line in [&b""[..], b" \r", b"\t"] {
            assert!(matches!(parse(line), Err(ParseError::Empty)));
        }
        assert!(matches!(parse(b"\"\xff\""), Err(ParseError::NotUtf8(_))));
        assert!(matches!(parse(b"{\"\xff\":1}"), Err(ParseError::NotUtf8(_))));
        for line in ["{", "{}x", "undefined", "1 2", "NaN", "'a'", "[1,]", "\u{a0}1", "\u{feff}1", "-", "+1"]
        {
            assert!(matches!(parse(line.as_bytes()), Err(ParseError::NotJson(_))), "{line}");
        }
        for (line, member) in [
            (r#"{"cmd":"NODE_CLUSTER","act":"close"}"#, "key"),
            (r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect"}"#, "seq"),
            (r#"{"cmd":"NODE_CLUSTER","ack":1,"accepted":"yes"}"#, "accepted"),
            (r#"{"cmd":"NODE_HANDLE","type":"net.Native"}"#, "msg"),
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(matches!(error, ParseError::Malformed { what } if what == member), "{line}");
        }
    }

    #[test]
    fn a_page_of_figures_is_told_apart() {
        let line = br#"{"cmd":"NODE_HANDLE","type":"oxherd.load","msg":{"cmd":"NODE_OXHERD_LOAD"}}"#;
        let Inbound::Handle(frame) = parse(line).unwrap() else { panic!("not a handle") };
        assert_eq!((frame.kind, frame.inner().unwrap()), (HandleType::Load, Inbound::OtherInternal));
    }

    #[test]
    fn handles_are_unwrapped() {
        let plain = r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"a":"sock"},"key":"6::::5701"}"#;
        let mut line = plain.to_owned();
        for _ in 0..MAX_HANDLE_WRAPS {
            let Inbound::Handle(frame) = parse(line.as_bytes()).unwrap() else { panic!("{line}") };
            assert_eq!(frame.kind, HandleType::NetSocket);
            assert_eq!(frame.key.as_deref(), Some("6::::5701"));
            assert_eq!(frame.message, br#"{"a":"sock"}"#);
            assert!(matches!(frame.inner(), Ok(Inbound::User(_))));
            line = format!(r#"{{"cmd":"NODE_HANDLE","type":"net.Native","msg":{line}}}"#);
        }
        assert!(matches!(parse(line.as_bytes()), Err(ParseError::Malformed { what: "msg" })));

        let internal = br#"{"cmd":"NODE_HANDLE","type":"x","msg":{"cmd":"NODE_CLUSTER","act":"online"}}"#;
        let Inbound::Handle(frame) = parse(internal).unwrap() else { panic!("not a handle") };
        assert_eq!(
            (frame.kind, frame.inner().unwrap()),
            (HandleType::Other, Inbound::Online { oxherd: false })
        );
    }
}
