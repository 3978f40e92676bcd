//! Messages to the primary and, through it, to other workers.
//!
//! Sending never waits: a message goes at once, or is queued within bounds, or is refused with the reason.

use oxherd_wire as wire;
use serde::Serialize;
use thiserror::Error;

use super::{Attachment, Worker};

/// Why a message was not sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nobody is there to read it any more; [`Worker::shutdown`] has fired.
    #[error("cannot send: the primary is gone ({why})")]
    Gone {
        /// How the channel ended.
        why: String,
    },
    /// The primary does not read, and 16 MiB wait for it already. Send less, or later.
    #[error("cannot send: the primary does not read, and its queue is full (send later)")]
    Full,
    /// The primary takes no message of this length: it would end the channel. Nothing is known of a Node primary,
    /// which has no limit.
    #[error(
        "cannot send: the message is {bytes} bytes long and the primary takes {limit} (send it in parts)"
    )]
    TooLong {
        /// How long it is as JSON, with what goes around it.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// The value is nothing that JSON can say.
    #[error("cannot send: the message cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
    /// The channel is Node's with `serialization: 'advanced'`, and Node would die of the message.
    #[error("cannot send: {why}")]
    Unsendable {
        /// What is wrong with it.
        why: String,
    },
    /// An object whose member `cmd` begins with `NODE_` is a frame of the protocol: the other side would never see
    /// it. Name the member otherwise.
    #[error(
        "cannot send: a message must not have a `cmd` that begins with NODE_ (it is Node's own; rename it)"
    )]
    Reserved,
    /// The socket that should ride on the message cannot be made nonblocking.
    #[error("cannot send: the attachment cannot be used")]
    Attachment(#[source] std::io::Error),
}

/// Which worker a message is for.
#[derive(Serialize)]
#[serde(untagged)]
enum Target {
    Worker(u64),
    All(&'static str),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Routed<'a, T: ?Sized> {
    target_worker: Target,
    r#type: &'a str,
    data: &'a T,
}

#[derive(Serialize)]
struct Ready {
    r#type: &'static str,
    pid: u32,
}

#[derive(Serialize)]
struct Report<'a> {
    r#type: &'static str,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<&'a str>,
}

impl Worker {
    /// Sends any value that serialises, as one JSON message.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing was sent then.
    ///
    /// ```no_run
    /// # fn main_() -> Result<(), oxherd::SendError> {
    /// # let Some(worker) = oxherd::worker() else { return Ok(()) };
    /// #[derive(serde::Serialize)]
    /// struct Progress { done: u32, of: u32 }
    /// worker.send(&Progress { done: 1, of: 10 })?;
    /// # Ok(()) }
    /// ```
    pub fn send<T: Serialize + ?Sized>(&self, message: &T) -> Result<(), SendError> {
        let channel = self.channel();
        channel.ensure_task();
        channel.send_soon(line_of(message)?)
    }

    /// As [`send`](Self::send), with a socket that rides on the message. It is the receiver's then; here it is
    /// closed. A primary that does not want it closes it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_with<T: Serialize + ?Sized>(
        &self,
        message: &T,
        attachment: impl Into<Attachment>,
    ) -> Result<(), SendError> {
        let raw = json_of(message)?;
        let attachment = attachment.into();
        let mut line = Vec::with_capacity(raw.len() + 64);
        wire::worker::user_with(&mut line, &raw, attachment.kind());
        let fd = attachment.into_sendable().map_err(SendError::Attachment)?;
        let channel = self.channel();
        channel.ensure_task();
        channel.send(line, Some(fd))
    }

    /// Sends `{targetWorker, type, data}`, which the primary passes on to that worker, with this one's id as
    /// `fromWorker`. Of a worker that is not there nothing comes back. A Node primary passes on only what its
    /// program passes on.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// ```no_run
    /// # fn main_() -> Result<(), oxherd::SendError> {
    /// # let Some(worker) = oxherd::worker() else { return Ok(()) };
    /// worker.send_to(2, "health-check", &())?;
    /// worker.broadcast("cache-update", &["users", "prices"])?;
    /// # Ok(()) }
    /// ```
    pub fn send_to<T: Serialize + ?Sized>(&self, worker: u64, kind: &str, data: &T) -> Result<(), SendError> {
        self.send(&Routed { target_worker: Target::Worker(worker), r#type: kind, data })
    }

    /// As [`send_to`](Self::send_to), to all other workers of the app.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn broadcast<T: Serialize + ?Sized>(&self, kind: &str, data: &T) -> Result<(), SendError> {
        self.send(&Routed { target_worker: Target::All("all"), r#type: kind, data })
    }

    /// Says that this worker is ready to serve: `{type:"ready", pid}`. Only needed under `wait_ready`; otherwise
    /// listening says it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn ready(&self) -> Result<(), SendError> {
        self.channel().send(line_of(&Ready { r#type: "ready", pid: std::process::id() })?, None)
    }
}

/// An error as the primary understands it. Text always serialises.
pub(super) fn error_line(error: &str, stack: Option<&str>) -> Vec<u8> {
    line_of(&Report { r#type: "error", error, stack }).unwrap_or_default()
}

fn line_of<T: Serialize + ?Sized>(message: &T) -> Result<Vec<u8>, SendError> {
    let mut line = json_of(message)?;
    line.push(b'\n');
    Ok(line)
}

pub(crate) fn json_of<T: Serialize + ?Sized>(message: &T) -> Result<Vec<u8>, SendError> {
    let raw = serde_json::to_vec(message).map_err(SendError::Encode)?;
    let may_be_internal = raw.windows(5).any(|bytes| bytes == b"NODE_");
    if may_be_internal && wire::worker::is_internal(&raw) { Err(SendError::Reserved) } else { Ok(raw) }
}
