//! The floor's Node workers up to the point where they serve: start, `online`, `queryServer`, `listening`. Not
//! measured, so it may parse and allocate; must leave nothing unread on the channel.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::child::{Guarded, Output};
use crate::contestant::SERVER_JS;

const BOOT_LIMIT: Duration = Duration::from_secs(10);
/// One key for the one server that each worker has; the worker treats it as opaque.
const KEY: &str = "bench:0";
/// The same frame for every connection: nothing obliges `seq` to be unique.
pub(crate) const NEW_CONNECTION: &[u8] = concat!(
    r#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_CLUSTER","act":"newconn","key":"bench:0","seq":1}}"#,
    "\n"
)
.as_bytes();
pub(crate) const ACCEPTED: &[u8] = br#""accepted":true"#;
pub(crate) const REJECTED: &[u8] = br#""accepted":false"#;

pub(crate) struct FloorWorker {
    pub(crate) channel: UnixStream,
    pub(crate) process: Guarded,
}

impl FloorWorker {
    pub(crate) fn start(node: &Path, id: usize) -> Result<Self, String> {
        let (channel, theirs) =
            UnixStream::pair().map_err(|error| format!("cannot make a channel: {error}"))?;
        let mut command = Command::new(node);
        command
            .arg(SERVER_JS)
            .env("NODE_CHANNEL_FD", std::os::fd::AsRawFd::as_raw_fd(&theirs).to_string())
            .env("NODE_UNIQUE_ID", id.to_string());
        let process = Guarded::spawn(&mut command, Some(theirs.as_fd()), Output::Inherited)
            .map_err(|error| format!("cannot start {}: {error}", node.display()))?;
        Ok(Self { channel, process })
    }

    /// Answers the worker until it listens on `port`, which the floor itself has bound.
    pub(crate) fn await_listening(&mut self, port: u16) -> Result<(), String> {
        let broken = |error: std::io::Error| format!("worker {}: {error}", self.process.pid());
        self.channel.set_read_timeout(Some(BOOT_LIMIT)).map_err(broken)?;
        let mut lines = BufReader::new(&self.channel);
        let mut line = String::new();
        loop {
            line.clear();
            if lines.read_line(&mut line).map_err(broken)? == 0 {
                return Err(format!("worker {} ended while booting", self.process.pid()));
            }
            let frame: Value = serde_json::from_str(&line).map_err(|error| format!("{error} in {line}"))?;
            match frame.get("act").and_then(Value::as_str) {
                Some("queryServer") => {
                    (&self.channel).write_all(round_robin_reply(&frame, port).as_bytes()).map_err(broken)?;
                }
                Some("listening") if lines.buffer().is_empty() => return Ok(()),
                Some("listening") => return Err("the worker says more than expected".to_owned()),
                Some(_) | None => {}
            }
        }
    }
}

fn round_robin_reply(query: &Value, port: u16) -> String {
    let mut reply = json!({
        "cmd": "NODE_CLUSTER", "errno": null, "key": KEY, "ack": query.get("seq"), "data": null,
        "sockname": { "address": "127.0.0.1", "family": "IPv4", "port": port }, "seq": 0,
    })
    .to_string();
    reply.push('\n');
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prepared_frame_is_the_protocol_s_and_carries_our_key() {
        let frame: Value = serde_json::from_slice(NEW_CONNECTION).unwrap();
        assert_eq!(frame["type"], "net.Native");
        assert_eq!(frame["msg"]["act"], "newconn");
        assert_eq!(frame["msg"]["key"], KEY);
    }

    #[test]
    fn the_reply_names_the_query_and_claims_the_asked_port() {
        let reply: Value = serde_json::from_str(&round_robin_reply(&json!({ "seq": 7 }), 4567)).unwrap();
        assert_eq!((&reply["ack"], &reply["sockname"]["port"]), (&json!(7), &json!(4567)));
    }
}
