//! What a worker says to its primary: each function appends one whole line, newline included.
//!
//! An encoder must never write half a line or anything but the byte-exact shape that Node's workers write, the
//! `oxherd` member of [`online`] and the [`load`] frame excepted. Which fd rides on a line is the caller's affair.

use std::net::{IpAddr, SocketAddr};

use crate::outbound::{push, push_number, push_raw, push_seq, push_string};
use crate::worker::EXTENSION_VERSION;

/// A socket that a worker wants, or has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// A TCP listener.
    Tcp {
        /// Where; `None` is every address of the machine, IPv6 where it has that.
        address: Option<IpAddr>,
        /// 0 for any; in [`listening`] the real one.
        port: u16,
        /// Connections that may wait; 0 for the default of 511.
        backlog: u32,
    },
    /// A Unix stream listener.
    Unix {
        /// The absolute path.
        path: &'a str,
        /// Connections that may wait; 0 for the default of 511.
        backlog: u32,
    },
    /// A UDP socket.
    Udp {
        /// Where; port 0 for any, in [`listening`] the real one.
        address: SocketAddr,
    },
}

/// What a program's fd is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// A connection, TCP or Unix.
    Socket,
    /// A listening socket, TCP or Unix.
    Server,
    /// A bound UDP socket over IPv4.
    Udp4,
    /// A bound UDP socket over IPv6.
    Udp6,
}

/// The first frame, which brings the primary's `online` event. It says that this worker speaks Oxherd's extension;
/// Node's primary passes over the member.
pub fn online(out: &mut Vec<u8>, seq: u64) {
    push(out, r#"{"cmd":"NODE_CLUSTER","act":"online","oxherd":"#);
    push_number(out, EXTENSION_VERSION);
    end(out, seq);
}

/// Asks for a socket. `index` tells several sockets of this worker on one address apart; it only matters for
/// port 0, of which each index is another port.
pub fn query(out: &mut Vec<u8>, seq: u64, index: u64, ask: &Ask<'_>) {
    push_ask(out, "queryServer", index, ask);
    end(out, seq);
}

/// Says that the socket is in use: the query's members again, with the real port.
pub fn listening(out: &mut Vec<u8>, seq: u64, index: u64, ask: &Ask<'_>) {
    push_ask(out, "listening", index, ask);
    end(out, seq);
}

/// Says that the socket is closed. `key` is the raw JSON that came in the reply.
pub fn close(out: &mut Vec<u8>, seq: u64, key: &str) {
    push(out, r#"{"cmd":"NODE_CLUSTER","act":"close","key":"#);
    push_raw(out, key.as_bytes());
    end(out, seq);
}

/// Says that this worker wants to leave. The primary acknowledges it; the channel is closed then.
pub fn exited_after_disconnect(out: &mut Vec<u8>, seq: u64) {
    push(out, r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect""#);
    end(out, seq);
}

/// Answers a `newconn` that had a `seq`, after its `HANDLE_ACK`: taken, or to be given to another worker.
pub fn answer(out: &mut Vec<u8>, seq: u64, ack: u64, accepted: bool) {
    push(out, r#"{"cmd":"NODE_CLUSTER","ack":"#);
    push_number(out, ack);
    push(out, r#","accepted":"#);
    push(out, if accepted { "true" } else { "false" });
    end(out, seq);
}

/// A program's message with an fd. `raw` must be one JSON value and not blank.
pub fn user_with(out: &mut Vec<u8>, raw: &[u8], attached: Attached) {
    push(out, r#"{"cmd":"NODE_HANDLE","type":""#);
    push(out, attached.name());
    push(out, r#"","msg":"#);
    push_raw(out, raw.trim_ascii());
    match attached {
        Attached::Socket | Attached::Server => {}
        Attached::Udp4 => push(out, r#","dgramType":"udp4""#),
        Attached::Udp6 => push(out, r#","dgramType":"udp6""#),
    }
    push(out, "}\n");
}

/// The page of exact figures, whose fd rides on this line. Only for a primary that said hello: Node dies of it.
pub fn load(out: &mut Vec<u8>) {
    push(out, "{\"cmd\":\"NODE_HANDLE\",\"type\":\"oxherd.load\",\"msg\":{\"cmd\":\"NODE_OXHERD_LOAD\"}}\n");
}

impl Attached {
    fn name(self) -> &'static str {
        match self {
            Self::Socket => "net.Socket",
            Self::Server => "net.Server",
            Self::Udp4 | Self::Udp6 => "dgram.Socket",
        }
    }
}

fn push_ask(out: &mut Vec<u8>, act: &str, index: u64, ask: &Ask<'_>) {
    push(out, r#"{"cmd":"NODE_CLUSTER","act":""#);
    push(out, act);
    push(out, r#"","index":"#);
    push_number(out, index);
    push(out, r#","data":null,"address":"#);
    match *ask {
        Ask::Tcp { address: None, port, backlog } => {
            push(out, "null");
            push_place(out, port, "4");
            push_backlog(out, backlog);
        }
        Ask::Tcp { address: Some(address), port, backlog } => {
            push_ip(out, address);
            push_place(out, port, if address.is_ipv4() { "4" } else { "6" });
            push(out, r#","flags":0"#);
            push_backlog(out, backlog);
        }
        Ask::Unix { path, backlog } => {
            push_string(out, path);
            push(out, r#","port":-1,"addressType":-1"#);
            push_backlog(out, backlog);
        }
        Ask::Udp { address } => {
            push_ip(out, address.ip());
            push_place(out, address.port(), if address.is_ipv4() { r#""udp4""# } else { r#""udp6""# });
            push(out, r#","fd":-1,"flags":0"#);
        }
    }
}

fn push_ip(out: &mut Vec<u8>, address: IpAddr) {
    push_string(out, &address.to_string());
}

fn push_place(out: &mut Vec<u8>, port: u16, address_type: &str) {
    push(out, r#","port":"#);
    push_number(out, port.into());
    push(out, r#","addressType":"#);
    push(out, address_type);
}

fn push_backlog(out: &mut Vec<u8>, backlog: u32) {
    push(out, r#","backlog":"#);
    push_number(out, backlog.into());
}

fn end(out: &mut Vec<u8>, seq: u64) {
    push_seq(out, seq);
    push(out, "}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AddressType, HandleType, Inbound, Port};

    fn line(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"before".to_vec();
        write(&mut out);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    #[test]
    fn frames_are_as_node_writes_them() {
        let any = |port| Ask::Tcp { address: None, port, backlog: 0 };
        assert_eq!(
            line(|out| query(out, 1, 0, &any(4567))),
            "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"queryServer\",\"index\":0,\"data\":null,\"address\":null,\
             \"port\":4567,\"addressType\":4,\"backlog\":0,\"seq\":1}\n"
        );
        assert_eq!(
            line(|out| listening(out, 2, 0, &any(4567))),
            "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"listening\",\"index\":0,\"data\":null,\"address\":null,\
             \"port\":4567,\"addressType\":4,\"backlog\":0,\"seq\":2}\n"
        );
        let key = r#""K:null:33629:4:undefined:0""#;
        assert_eq!(
            line(|out| close(out, 4, key)),
            "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"close\",\"key\":\"K:null:33629:4:undefined:0\",\"seq\":4}\n"
        );
        assert_eq!(
            line(|out| close(out, 4, "7")),
            "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"close\",\"key\":7,\"seq\":4}\n"
        );
        assert_eq!(
            line(|out| exited_after_disconnect(out, 4)),
            "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"exitedAfterDisconnect\",\"seq\":4}\n"
        );
        for accepted in [true, false] {
            assert_eq!(
                line(|out| answer(out, 3, 1, accepted)),
                format!("{{\"cmd\":\"NODE_CLUSTER\",\"ack\":1,\"accepted\":{accepted},\"seq\":3}}\n")
            );
        }
    }

    #[test]
    fn every_address_is_asked_for_as_node_does() {
        let asked = |ask: Ask<'_>| {
            let text = line(|out| query(out, 1, 2, &ask));
            let head = "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"queryServer\",\"index\":2,\"data\":null,";
            text.strip_prefix(head).and_then(|rest| rest.strip_suffix(",\"seq\":1}\n")).unwrap().to_owned()
        };
        let tcp =
            |address: &str, port| Ask::Tcp { address: Some(address.parse().unwrap()), port, backlog: 77 };
        assert_eq!(
            asked(tcp("127.0.0.1", 80)),
            r#""address":"127.0.0.1","port":80,"addressType":4,"flags":0,"backlog":77"#
        );
        assert_eq!(
            asked(tcp("::1", 0)),
            r#""address":"::1","port":0,"addressType":6,"flags":0,"backlog":77"#
        );
        assert_eq!(
            asked(Ask::Unix { path: "/srv/u.sock", backlog: 0 }),
            r#""address":"/srv/u.sock","port":-1,"addressType":-1,"backlog":0"#
        );
        let udp = |address: &str| Ask::Udp { address: address.parse().unwrap() };
        assert_eq!(
            asked(udp("0.0.0.0:5660")),
            r#""address":"0.0.0.0","port":5660,"addressType":"udp4","fd":-1,"flags":0"#
        );
        assert_eq!(asked(udp("[::]:0")), r#""address":"::","port":0,"addressType":"udp6","fd":-1,"flags":0"#);
    }

    #[test]
    fn messages_with_an_fd_are_as_captured() {
        let cases = [
            (
                r#"{"a":"sock"}"#,
                Attached::Socket,
                r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"a":"sock"}}"#,
            ),
            (
                r#"{"a":"server"}"#,
                Attached::Server,
                r#"{"cmd":"NODE_HANDLE","type":"net.Server","msg":{"a":"server"}}"#,
            ),
            (
                r#"{"a":"udp"}"#,
                Attached::Udp4,
                r#"{"cmd":"NODE_HANDLE","type":"dgram.Socket","msg":{"a":"udp"},"dgramType":"udp4"}"#,
            ),
        ];
        for (raw, attached, expected) in cases {
            assert_eq!(line(|out| user_with(out, raw.as_bytes(), attached)), format!("{expected}\n"));
        }
        assert!(
            line(|out| user_with(out, b"[1,\n2]", Attached::Udp6))
                .ends_with("[1, 2],\"dgramType\":\"udp6\"}\n")
        );
    }

    #[test]
    fn the_primary_reads_what_the_worker_writes() {
        let mut out = Vec::new();
        online(&mut out, 0);
        assert_eq!(out, b"{\"cmd\":\"NODE_CLUSTER\",\"act\":\"online\",\"oxherd\":1,\"seq\":0}\n");
        let read = |text: &[u8]| format!("{:?}", crate::parse(text.trim_ascii_end()).unwrap());
        assert!(read(&out).starts_with("Online"), "{}", read(&out));

        out.clear();
        query(&mut out, 7, 1, &Ask::Tcp { address: Some("::1".parse().unwrap()), port: 80, backlog: 9 });
        let Inbound::Query(asked) = crate::parse(out.trim_ascii_end()).unwrap() else { panic!("no query") };
        assert_eq!((asked.seq, asked.index, asked.port), (7, 1, Port::Number(80)));
        assert_eq!((asked.address_type, asked.backlog), (AddressType::V6, Some(9)));

        out.clear();
        user_with(&mut out, b"{\"a\":1}", Attached::Server);
        let Inbound::Handle(handle) = crate::parse(out.trim_ascii_end()).unwrap() else {
            panic!("no handle")
        };
        assert_eq!((handle.kind, handle.message), (HandleType::NetServer, &b"{\"a\":1}"[..]));

        out.clear();
        load(&mut out);
        let Inbound::Handle(handle) = crate::parse(out.trim_ascii_end()).unwrap() else {
            panic!("no handle")
        };
        assert_eq!(handle.message, br#"{"cmd":"NODE_OXHERD_LOAD"}"#);
    }
}
