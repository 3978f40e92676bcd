//! Listeners: connections as the program gets them, however they reach this worker.
//!
//! After this worker is told to leave they stay silent, because the primary gives connections to others then: an
//! accept loop simply waits, and is ended by whatever ends the server. Must never take a connection from the
//! primary that no `accept` asked for.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll};

use oxherd_wire::{load as layout, worker::Ask};
use tokio::net::{TcpListener, TcpStream, UnixStream, unix};

use super::connection::Connection;
use super::server::Server;

/// What differs between TCP and Unix sockets.
trait Door: Sized {
    type Stream;
    type Address;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Self::Stream, Self::Address)>>;
    /// A connection that was accepted elsewhere.
    fn adopt(fd: OwnedFd) -> io::Result<(Self::Stream, Self::Address)>;
}

impl Door for TcpListener {
    type Stream = TcpStream;
    type Address = SocketAddr;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.poll_accept(context)
    }

    fn adopt(fd: OwnedFd) -> io::Result<(TcpStream, SocketAddr)> {
        let stream = std::net::TcpStream::from(fd);
        let peer = stream.peer_addr()?;
        stream.set_nonblocking(true)?;
        Ok((TcpStream::from_std(stream)?, peer))
    }
}

impl Door for tokio::net::UnixListener {
    type Stream = UnixStream;
    type Address = unix::SocketAddr;

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(UnixStream, unix::SocketAddr)>> {
        self.poll_accept(context)
    }

    fn adopt(fd: OwnedFd) -> io::Result<(UnixStream, unix::SocketAddr)> {
        let stream = std::os::unix::net::UnixStream::from(fd);
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        let peer = stream.peer_addr()?;
        Ok((stream, peer))
    }
}

/// Where connections come from.
#[derive(Debug)]
enum Source<D> {
    /// This program runs alone.
    Own(D),
    /// One socket for all workers, or one of this worker's slot: it accepts by itself.
    Shared(D, Server),
    /// The primary accepts, and hands over.
    Handed(Server),
}

impl<D: Door> Source<D> {
    fn server(&self) -> Option<&Server> {
        match self {
            Self::Own(_) => None,
            Self::Shared(_, server) | Self::Handed(server) => Some(server),
        }
    }

    async fn accept(&self) -> io::Result<Accepted<'_, D>> {
        let (door, server) = match self {
            Self::Own(door) => {
                let (stream, address) = poll_fn(|context| door.poll_accept(context)).await?;
                return Ok(Accepted { stream, address, handed_by: None });
            }
            Self::Shared(door, server) => (Some(door), server),
            Self::Handed(server) => (None, server),
        };
        loop {
            match server.channel().drive(next(door, server)).await {
                Some(Next::Own(accepted)) => {
                    let (stream, address) = accepted?;
                    return Ok(Accepted { stream, address, handed_by: None });
                }
                Some(Next::Handed(fd)) => match D::adopt(fd) {
                    Ok((stream, address)) => {
                        return Ok(Accepted { stream, address, handed_by: Some(server) });
                    }
                    // Its client is gone already.
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => count_closed(server),
                    Err(error) => {
                        count_closed(server);
                        return Err(error);
                    }
                },
                None => return pending().await,
            }
        }
    }
}

/// A connection for the program.
struct Accepted<'a, D: Door> {
    stream: D::Stream,
    address: D::Address,
    /// The server by way of which the primary handed it over.
    handed_by: Option<&'a Server>,
}

impl<D: Door> Accepted<'_, D> {
    /// For a program that does not tell when it closes the connection.
    fn untracked(self) -> (D::Stream, D::Address) {
        if let Some(server) = self.handed_by {
            count_closed(server);
        }
        (self.stream, self.address)
    }
}

enum Next<D: Door> {
    Own(io::Result<(D::Stream, D::Address)>),
    Handed(OwnedFd),
}

/// Waits for what comes first; `None` once this worker leaves. A primary hands connections over also to a worker
/// that accepts by itself: those that had come to the socket of one that left.
async fn next<D: Door>(door: Option<&D>, server: &Server) -> Option<Next<D>> {
    let mut left = pin!(server.channel().left());
    let mut came = pin!(server.queue.came.notified());
    poll_fn(|context| {
        if left.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        loop {
            if let Some(fd) = server.take() {
                return Poll::Ready(Some(Next::Handed(fd)));
            }
            if came.as_mut().poll(context).is_pending() {
                break;
            }
            came.set(server.queue.came.notified());
        }
        match door {
            Some(door) => door.poll_accept(context).map(|accepted| Some(Next::Own(accepted))),
            None => Poll::Pending,
        }
    })
    .await
}

/// A connection that was handed over is out of sight.
fn count_closed(server: &Server) {
    server.channel().page.add(layout::WORD_CLOSED, 1);
}

/// TCP connections for this worker; made by [`listen`](crate::listen).
///
/// It yields plain [`TcpStream`]s whatever the distribution. Dropping it closes the server: what waits is given to
/// other workers. With the feature `axum` it is a listener for `axum::serve`, with `stream` it
/// [turns into a stream](Self::into_stream) for tonic and others.
///
/// ```no_run
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = oxherd::listen(("::", 3000)).await?;
/// println!("listening on {}", listener.local_addr()?);
/// let (connection, peer) = listener.accept_tracked().await?;
/// # drop((connection, peer)); Ok(()) }
/// ```
#[derive(Debug)]
pub struct Listener {
    source: Source<TcpListener>,
    address: SocketAddr,
}

impl Listener {
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { address: listener.local_addr()?, source: Source::Own(listener) })
    }

    pub(super) fn shared(fd: OwnedFd, server: Server, backlog: i32) -> io::Result<Self> {
        oxherd_os::socket::listen(&fd, backlog)?;
        let listener = std::net::TcpListener::from(fd);
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self { address: listener.local_addr()?, source: Source::Shared(listener, server) })
    }

    pub(super) fn handed(server: Server, address: SocketAddr) -> Self {
        Self { source: Source::Handed(server), address }
    }

    pub(super) fn say_listening(&self, ask: &Ask<'_>) {
        if let Some(server) = self.source.server() {
            server.say_listening(ask);
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection and where it comes from. It is this worker's from then on; the primary counts it as
    /// closed at once, because it cannot know better: see [`accept_tracked`](Self::accept_tracked).
    ///
    /// Never ready once this worker is told to leave. Cancel-safe: a connection is taken and returned in one step.
    ///
    /// # Errors
    ///
    /// Those of `accept(2)`; out of descriptors (`EMFILE`) is the one to expect. Going on is right.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        Ok(self.source.accept().await?.untracked())
    }

    /// As [`accept`](Self::accept), for a connection that tells when it is closed. Such connections are counted
    /// exactly (strategy `least-connections`), and [`Worker::drained`](crate::Worker::drained) waits for them.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    pub async fn accept_tracked(&self) -> io::Result<(Connection, SocketAddr)> {
        let Accepted { stream, address, handed_by } = self.source.accept().await?;
        let channel = self.source.server().map(Server::channel);
        Ok((Connection::new(stream, channel, handed_by.is_some()), address))
    }

    /// What clients connect to: with a primary, its address.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Connections over a Unix stream socket; made by [`listen_unix`](crate::listen_unix).
///
/// ```no_run
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = oxherd::listen_unix("app.sock").await?;
/// let (stream, _peer) = listener.accept().await?;
/// # drop(stream); Ok(()) }
/// ```
#[derive(Debug)]
pub struct UnixListener {
    source: Source<tokio::net::UnixListener>,
    path: PathBuf,
}

impl UnixListener {
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let listener = tokio::net::UnixListener::bind(path)?;
        Ok(Self { source: Source::Own(listener), path: path.to_owned() })
    }

    pub(super) fn shared(fd: OwnedFd, server: Server, backlog: i32) -> io::Result<Self> {
        oxherd_os::socket::listen(&fd, backlog)?;
        let listener = std::os::unix::net::UnixListener::from(fd);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let bound = listener.local_addr()?;
        let path = bound.as_pathname().map(Path::to_owned).unwrap_or_default();
        Ok(Self { source: Source::Shared(listener, server), path })
    }

    pub(super) fn handed(server: Server, path: PathBuf) -> Self {
        Self { source: Source::Handed(server), path }
    }

    pub(super) fn say_listening(&self, ask: &Ask<'_>) {
        if let Some(server) = self.source.server() {
            server.say_listening(ask);
        }
    }

    /// The next connection. As [`Listener::accept`].
    ///
    /// # Errors
    ///
    /// Those of `accept(2)`.
    pub async fn accept(&self) -> io::Result<(UnixStream, unix::SocketAddr)> {
        Ok(self.source.accept().await?.untracked())
    }

    /// The path of the socket's file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(feature = "stream")]
pub use stream::Incoming;

#[cfg(feature = "stream")]
mod stream {
    //! A listener as a stream. One allocation for each connection that has to be waited for.

    use std::fmt;
    use std::io;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, ready};

    use futures_core::Stream;
    use tokio::net::TcpStream;

    use super::Listener;

    type Next = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

    /// Connections as a stream that never ends; made by [`Listener::into_stream`].
    pub struct Incoming {
        listener: Arc<Listener>,
        next: Option<Next>,
    }

    impl Listener {
        /// The listener as a stream, for servers that take one, such as tonic's `serve_with_incoming`.
        ///
        /// ```no_run
        /// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
        /// let incoming = oxherd::listen("[::]:50051").await?.into_stream();
        /// // Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, worker.drained())
        /// # drop(incoming); Ok(()) }
        /// ```
        pub fn into_stream(self) -> Incoming {
            Incoming { listener: Arc::new(self), next: None }
        }
    }

    impl fmt::Debug for Incoming {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Incoming").field("listener", &self.listener).finish_non_exhaustive()
        }
    }

    impl Stream for Incoming {
        type Item = io::Result<TcpStream>;

        fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            let listener = Arc::clone(&self.listener);
            let next =
                self.next.get_or_insert_with(|| Box::pin(async move { Ok(listener.accept().await?.0) }));
            let accepted = ready!(next.as_mut().poll(context));
            self.next = None;
            Poll::Ready(Some(accepted))
        }
    }
}
