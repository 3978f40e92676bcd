//! Streams of events: what is written to them, and the body that carries them. A client that does not read
//! holds up its own stream only.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::feed::{Follower, Heard};
use super::state::Closing;

/// How often a stream without events shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How much is gathered into one piece of a body, in bytes.
const PIECE_BYTES: usize = 16 << 10;

/// Where a stream's events are written to.
#[derive(Debug)]
pub(super) struct Sink {
    pieces: mpsc::Sender<Bytes>,
    gathered: Vec<u8>,
}

/// The client does not listen any more.
#[derive(Debug)]
pub(super) struct Gone;

impl Sink {
    /// Adds an event; it may wait for others to go with it until [`Self::flush`].
    pub(super) async fn event<T: Serialize>(&mut self, name: &str, data: &T) -> Result<(), Gone> {
        self.gathered.extend_from_slice(b"event: ");
        self.gathered.extend_from_slice(name.as_bytes());
        self.gathered.extend_from_slice(b"\ndata: ");
        serde_json::to_writer(&mut self.gathered, data).map_err(|_| Gone)?;
        self.gathered.extend_from_slice(b"\n\n");
        if self.gathered.len() >= PIECE_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Shows that the stream lives.
    pub(super) async fn keep_alive(&mut self) -> Result<(), Gone> {
        self.gathered.extend_from_slice(b":\n\n");
        self.flush().await
    }

    /// Sends what was gathered.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.gathered));
        self.pieces.send(piece).await.map_err(|_| Gone)
    }

    /// Waits until the client is gone.
    pub(super) async fn gone(&self) {
        self.pieces.closed().await;
    }
}

/// The next item to write; meanwhile what was gathered is sent and the stream shows that it lives. `None` at the end
/// of the feed or of the server.
pub(super) async fn next<T>(
    follower: &mut Follower<T>,
    sink: &mut Sink,
    closing: &mut Closing,
) -> Result<Option<Heard<T>>, Gone> {
    if let Some(heard) = follower.try_next() {
        return Ok(Some(heard));
    }
    loop {
        sink.flush().await?;
        tokio::select! {
            biased;
            heard = timeout(KEEP_ALIVE, follower.next()) => match heard {
                Ok(heard) => return Ok(heard),
                Err(_) => sink.keep_alive().await?,
            },
            () = sink.gone() => return Err(Gone),
            () = closing.wanted() => return Ok(None),
        }
    }
}

/// An answer that `write` fills, on a task of its own; it ends with the task or with the client.
pub(super) fn stream<F, T>(write: F) -> Response
where
    F: FnOnce(Sink) -> T,
    T: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (pieces, body) = mpsc::channel(2);
    let writing = write(Sink { pieces, gathered: Vec::new() });
    // That the client is gone is no news to anybody.
    tokio::spawn(async move { drop(writing.await) });
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")];
    (headers, Body::new(Pieces(body))).into_response()
}

/// A body made of what comes through a channel.
struct Pieces(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
