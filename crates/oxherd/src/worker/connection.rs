//! A connection that tells when it is closed.
//!
//! It is the stream and a counter, nothing more: no buffering, no copy, no change of what is read or written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use oxherd_wire::load as layout;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::channel::Channel;

/// A TCP connection that is counted until it is dropped; made by
/// [`Listener::accept_tracked`](crate::Listener::accept_tracked).
///
/// ```no_run
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// use tokio::io::AsyncWriteExt;
///
/// let listener = oxherd::listen("127.0.0.1:3000").await?;
/// let (mut connection, _peer) = listener.accept_tracked().await?;
/// connection.get_ref().set_nodelay(true)?;
/// connection.write_all(b"hello\n").await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    tracked: Tracked,
}

/// Keeps a connection counted until it is dropped; from [`Connection::into_parts`].
#[derive(Debug)]
#[must_use = "the connection counts as closed when this is dropped"]
pub struct Tracked(#[allow(dead_code, reason = "it is held to be dropped")] Option<Counted>);

#[derive(Debug)]
struct Counted {
    channel: Arc<Channel>,
    was_handed: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, channel: Option<&Arc<Channel>>, was_handed: bool) -> Self {
        let counted = channel.map(|channel| {
            channel.count_opened();
            Counted { channel: Arc::clone(channel), was_handed }
        });
        Self { stream, tracked: Tracked(counted) }
    }

    /// The stream, to ask it or to set its options.
    pub fn get_ref(&self) -> &TcpStream {
        &self.stream
    }

    /// The plain stream, for servers that take nothing else, and what keeps it counted meanwhile.
    ///
    /// ```no_run
    /// # async fn serve(stream: tokio::net::TcpStream) {}
    /// # async fn main_(connection: oxherd::Connection) {
    /// let (stream, tracked) = connection.into_parts();
    /// tokio::spawn(async move {
    ///     serve(stream).await;
    ///     drop(tracked);
    /// });
    /// # }
    /// ```
    pub fn into_parts(self) -> (TcpStream, Tracked) {
        (self.stream, self.tracked)
    }

    /// The plain stream. From now on the connection counts as closed.
    pub fn into_inner(self) -> TcpStream {
        self.stream
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.was_handed {
            self.channel.page.add(layout::WORD_CLOSED, 1);
        }
        self.channel.count_closed();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
