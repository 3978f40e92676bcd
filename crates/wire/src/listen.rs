//! A worker's wish for a socket, `queryServer`, and its echo, `listening`: raw members in, checked values out.
//!
//! It must never decide what to bind; it only makes values that cannot mean two things. What Node accepts from
//! a program (numeric strings, `false` as a backlog) is accepted here too.

use crate::fields::Fields;
use crate::inbound::ParseError;
use crate::json;

/// A worker wants a socket and waits for the reply with `ack = seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What the reply acknowledges.
    pub seq: u64,
    /// Counts the worker's attempts on this address. Part of an identity only when the port is 0.
    pub index: u64,
    /// Ticket keys of a TLS server, raw JSON. Must be repeated in the reply, whatever that says.
    pub data: Option<Vec<u8>>,
    /// A numeric IP or a path; `None` is the unspecified address.
    pub address: Option<String>,
    /// The port asked for.
    pub port: Port,
    /// What kind of socket.
    pub address_type: AddressType,
    /// `listen({fd})`: a number in the primary's own table. Never negative.
    pub fd: Option<i32>,
    /// Bit 0 asks for IPv6 only, bit 2 for address reuse (UDP).
    pub flags: Option<u32>,
    /// `None` is the default of 511, never 0.
    pub backlog: Option<u32>,
    /// Everybody may read the socket's file.
    pub readable_all: bool,
    /// Everybody may write to the socket's file.
    pub writable_all: bool,
}

/// A worker uses a socket it was given: the query again, with the real port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// As in the query.
    pub index: u64,
    /// As in the query.
    pub address: Option<String>,
    /// The port in use.
    pub port: Port,
    /// As in the query.
    pub address_type: AddressType,
    /// As in the query.
    pub fd: Option<i32>,
}

/// The `port` of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Not given: UDP `bind()` without a port, any will do.
    Absent,
    /// `null`: the socket comes from an fd.
    Null,
    /// `-1`: a path has no port.
    Path,
    /// A port, 0 for any.
    Number(u16),
}

/// The `addressType` of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressType {
    /// TCP over IPv4, or over anything where the address is `None`.
    V4,
    /// TCP over IPv6.
    V6,
    /// A Unix stream socket.
    Path,
    /// `null`: whatever the fd is.
    Fd,
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
}

impl Query {
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, ParseError> {
        Ok(Self {
            seq: fields.seq()?,
            index: read_index(fields.index)?,
            data: given(fields.data).map(|raw| raw.as_bytes().to_vec()),
            address: read_address(fields.address)?,
            port: read_port(fields.port)?,
            address_type: read_address_type(fields.address_type)?,
            fd: read_fd(fields.fd)?,
            flags: read_flags(fields.flags)?,
            backlog: read_backlog(fields.backlog),
            readable_all: fields.readable_all.is_some_and(json::is_truthy),
            writable_all: fields.writable_all.is_some_and(json::is_truthy),
        })
    }
}

impl Listening {
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, ParseError> {
        Ok(Self {
            index: read_index(fields.index)?,
            address: read_address(fields.address)?,
            port: read_port(fields.port)?,
            address_type: read_address_type(fields.address_type)?,
            fd: read_fd(fields.fd)?,
        })
    }
}

/// `null` is the same as absent everywhere but in `port` and `addressType`.
fn given(raw: Option<&str>) -> Option<&str> {
    raw.filter(|raw| *raw != "null")
}

fn malformed(what: &'static str) -> ParseError {
    ParseError::Malformed { what }
}

fn read_index(raw: Option<&str>) -> Result<u64, ParseError> {
    given(raw).map_or(Ok(0), |raw| json::unsigned(raw).ok_or(malformed("index")))
}

/// A lone surrogate in a path would name another path than the program meant, so it is refused.
fn read_address(raw: Option<&str>) -> Result<Option<String>, ParseError> {
    let exact = |raw| json::exact_string(raw).map(|text| text.into_owned()).ok_or(malformed("address"));
    given(raw).map(exact).transpose()
}

/// UDP sockets pass on what the program wrote, which may be `"5660"`.
fn read_port(raw: Option<&str>) -> Result<Port, ParseError> {
    let Some(raw) = raw else { return Ok(Port::Absent) };
    if raw == "null" {
        return Ok(Port::Null);
    }
    match whole(raw) {
        Some(-1) => Ok(Port::Path),
        Some(number) => u16::try_from(number).map(Port::Number).map_err(|_| malformed("port")),
        None => Err(malformed("port")),
    }
}

fn read_address_type(raw: Option<&str>) -> Result<AddressType, ParseError> {
    let raw = raw.ok_or(malformed("addressType"))?;
    if raw == "null" {
        return Ok(AddressType::Fd);
    }
    match (json::integer(raw), json::string(raw).as_deref()) {
        (Some(4), _) => Ok(AddressType::V4),
        (Some(6), _) => Ok(AddressType::V6),
        (Some(-1), _) => Ok(AddressType::Path),
        (_, Some(b"udp4")) => Ok(AddressType::Udp4),
        (_, Some(b"udp6")) => Ok(AddressType::Udp6),
        _ => Err(malformed("addressType")),
    }
}

/// UDP sends -1 for "no fd".
fn read_fd(raw: Option<&str>) -> Result<Option<i32>, ParseError> {
    let Some(raw) = given(raw) else { return Ok(None) };
    let number = json::integer(raw).ok_or(malformed("fd"))?;
    if number < 0 {
        return Ok(None);
    }
    i32::try_from(number).map(Some).map_err(|_| malformed("fd"))
}

fn read_flags(raw: Option<&str>) -> Result<Option<u32>, ParseError> {
    let number =
        |raw| json::unsigned(raw).and_then(|value| u32::try_from(value).ok()).ok_or(malformed("flags"));
    given(raw).map(number).transpose()
}

/// What is no backlog (`false`, 0, an object) is the default, as in Node; a number too large is only a wish.
fn read_backlog(raw: Option<&str>) -> Option<u32> {
    match whole(raw?) {
        Some(number) if number > 0 => Some(u32::try_from(number).unwrap_or(u32::MAX)),
        _ => None,
    }
}

/// A whole number, or a string that is one.
fn whole(raw: &str) -> Option<i64> {
    match json::exact_string(raw) {
        Some(text) => text.parse().ok(),
        None => json::integer(raw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Inbound, parse};

    fn query(members: &str) -> Result<Query, ParseError> {
        let line = format!(r#"{{"cmd":"NODE_CLUSTER","act":"queryServer",{members},"seq":1}}"#);
        match parse(line.as_bytes())? {
            Inbound::Query(query) => Ok(query),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_captured_query() {
        let found =
            query(r#""index":0,"data":null,"address":null,"port":33629,"addressType":4,"backlog":false"#);
        let expected = Query {
            seq: 1,
            index: 0,
            data: None,
            address: None,
            port: Port::Number(33629),
            address_type: AddressType::V4,
            fd: None,
            flags: None,
            backlog: None,
            readable_all: false,
            writable_all: false,
        };
        assert_eq!(found.unwrap(), expected);
    }

    #[test]
    fn queries_of_every_kind_of_socket() {
        let path = query(
            r#""index":1,"data":null,"address":"/srv/\u0000u.sock","port":-1,"addressType":-1,"backlog":77,"readableAll":true"#,
        )
        .unwrap();
        assert_eq!(path.address.as_deref(), Some("/srv/\0u.sock"));
        assert_eq!((path.port, path.address_type, path.backlog), (Port::Path, AddressType::Path, Some(77)));
        assert!(path.readable_all && !path.writable_all);

        let udp =
            query(r#""index":0,"data":null,"address":"0.0.0.0","addressType":"udp4","fd":-1,"flags":4"#)
                .unwrap();
        assert_eq!(
            (udp.port, udp.address_type, udp.fd, udp.flags),
            (Port::Absent, AddressType::Udp4, None, Some(4))
        );

        let fd =
            query(r#""index":0,"data":null,"address":null,"port":null,"addressType":null,"fd":5"#).unwrap();
        assert_eq!((fd.port, fd.address_type, fd.fd), (Port::Null, AddressType::Fd, Some(5)));

        let tls = query(r#""index":0,"data":{"ticketKeys":"36ea"},"address":"::1","port":0,"addressType":6"#)
            .unwrap();
        assert_eq!(tls.data.as_deref(), Some(&br#"{"ticketKeys":"36ea"}"#[..]));
        assert_eq!((tls.port, tls.address_type), (Port::Number(0), AddressType::V6));
    }

    #[test]
    fn what_programs_write_is_taken() {
        let udp = query(r#""port":"5660","addressType":"udp6","flags":null"#).unwrap();
        assert_eq!((udp.port, udp.index, udp.flags), (Port::Number(5660), 0, None));
        for (backlog, expected) in [
            ("0", None),
            ("-1", None),
            ("{}", None),
            ("\"9\"", Some(9)),
            ("1e12", Some(u32::MAX)),
            ("1e999", None),
        ] {
            let found = query(&format!(r#""port":1,"addressType":4,"backlog":{backlog}"#)).unwrap();
            assert_eq!(found.backlog, expected, "{backlog}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_malformed() {
        for (members, member) in [
            (r#""port":{},"addressType":4"#, "port"),
            (r#""port":65536,"addressType":4"#, "port"),
            (r#""port":1.5,"addressType":4"#, "port"),
            (r#""port":1"#, "addressType"),
            (r#""port":1,"addressType":5"#, "addressType"),
            (r#""port":1,"addressType":4,"address":7"#, "address"),
            (r#""port":1,"addressType":4,"address":"\ud800""#, "address"),
            (r#""port":1,"addressType":4,"fd":"x""#, "fd"),
            (r#""port":1,"addressType":4,"fd":4294967296"#, "fd"),
            (r#""port":1,"addressType":4,"flags":-1"#, "flags"),
            (r#""port":1,"addressType":4,"index":-1"#, "index"),
        ] {
            let error = query(members).unwrap_err();
            assert!(matches!(error, ParseError::Malformed { what } if what == member), "{members}: {error}");
        }
    }

    #[test]
    fn listening_tells_the_real_port() {
        let line = br#"{"cmd":"NODE_CLUSTER","act":"listening","index":0,"data":null,"address":null,"port":4567,"addressType":4,"backlog":0,"seq":2}"#;
        let expected = Listening {
            index: 0,
            address: None,
            port: Port::Number(4567),
            address_type: AddressType::V4,
            fd: None,
        };
        assert_eq!(parse(line).unwrap(), Inbound::Listening(expected));
    }
}
