//! The members of an internal frame, found in one pass over the line and still raw.
//!
//! It must never keep a member that no internal frame has, so that a line of any size costs the same.

use std::borrow::Cow;

use crate::inbound::ParseError;
use crate::json;

/// The members that any internal frame may have, raw. Of duplicates the last one counts.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a> {
    cmd: Option<&'a str>,
    pub(crate) act: Option<&'a str>,
    pub(crate) ack: Option<&'a str>,
    pub(crate) accepted: Option<&'a str>,
    pub(crate) kind: Option<&'a str>,
    pub(crate) msg: Option<&'a str>,
    key: Option<&'a str>,
    pub(crate) seq: Option<&'a str>,
    pub(crate) index: Option<&'a str>,
    pub(crate) data: Option<&'a str>,
    pub(crate) address: Option<&'a str>,
    pub(crate) port: Option<&'a str>,
    pub(crate) address_type: Option<&'a str>,
    pub(crate) fd: Option<&'a str>,
    pub(crate) flags: Option<&'a str>,
    pub(crate) backlog: Option<&'a str>,
    pub(crate) readable_all: Option<&'a str>,
    pub(crate) writable_all: Option<&'a str>,
    pub(crate) errno: Option<&'a str>,
    pub(crate) sockname: Option<&'a str>,
    pub(crate) version: Option<&'a str>,
    pub(crate) max_message: Option<&'a str>,
    pub(crate) oxherd: Option<&'a str>,
}

impl<'a> Fields<'a> {
    pub(crate) fn read(text: &'a str) -> Result<Self, ParseError> {
        let mut fields = Self::default();
        json::members(text, |name, raw| {
            if let Some(slot) = fields.slot(name) {
                *slot = Some(raw);
            }
        })
        .map_err(ParseError::NotJson)?;
        Ok(fields)
    }

    fn slot(&mut self, name: &[u8]) -> Option<&mut Option<&'a str>> {
        Some(match name {
            b"cmd" => &mut self.cmd,
            b"act" => &mut self.act,
            b"ack" => &mut self.ack,
            b"accepted" => &mut self.accepted,
            b"type" => &mut self.kind,
            b"msg" => &mut self.msg,
            b"key" => &mut self.key,
            b"seq" => &mut self.seq,
            b"index" => &mut self.index,
            b"data" => &mut self.data,
            b"address" => &mut self.address,
            b"port" => &mut self.port,
            b"addressType" => &mut self.address_type,
            b"fd" => &mut self.fd,
            b"flags" => &mut self.flags,
            b"backlog" => &mut self.backlog,
            b"readableAll" => &mut self.readable_all,
            b"writableAll" => &mut self.writable_all,
            b"errno" => &mut self.errno,
            b"sockname" => &mut self.sockname,
            b"version" => &mut self.version,
            b"maxMessage" => &mut self.max_message,
            b"oxherd" => &mut self.oxherd,
            _ => return None,
        })
    }

    /// The value of an internal frame's `cmd`; `None` for the program's own messages.
    pub(crate) fn internal_cmd(&self) -> Option<Cow<'a, [u8]>> {
        let cmd = json::string(self.cmd?)?;
        (cmd.starts_with(b"NODE_") && cmd.len() > b"NODE_".len()).then_some(cmd)
    }

    /// As it was written, whatever kind of value it is.
    pub(crate) fn raw_key(&self) -> Option<&'a str> {
        self.key
    }

    pub(crate) fn lossy_key(&self) -> Option<Cow<'a, str>> {
        self.key.and_then(json::lossy_string)
    }

    pub(crate) fn key(&self) -> Result<Cow<'a, str>, ParseError> {
        self.lossy_key().ok_or(ParseError::Malformed { what: "key" })
    }

    pub(crate) fn seq(&self) -> Result<u64, ParseError> {
        self.seq.and_then(json::unsigned).ok_or(ParseError::Malformed { what: "seq" })
    }
}
