//! Sockets that ride on messages.
//!
//! The kernel passes a copy: whoever sends a socket gives its own away. Must never pass on anything but a socket,
//! because a Node program at the other end would die of it.

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use oxherd_wire::worker::Attached;
use rustix::net::{AddressFamily, SocketType, sockopt};

/// A socket that rides on a message: in Node the second argument of `send`, and of the `message` event.
///
/// The sockets are those of `std`, nonblocking, because a primary or a thread without a runtime has them in hand
/// too; tokio's take them over with `from_std` and give them with `into_std`.
///
/// ```no_run
/// # async fn main_(stream: tokio::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
/// use oxherd::Attachment;
///
/// let Some(worker) = oxherd::worker() else { return Ok(()) };
/// worker.send_with(&"yours now", Attachment::TcpStream(stream.into_std()?))?;
///
/// let mut messages = worker.messages();
/// if let Some(Attachment::TcpListener(listener)) = messages.recv().await.and_then(|mut it| it.take_attachment()) {
///     let listener = tokio::net::TcpListener::from_std(listener)?;
/// #   drop(listener);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Attachment {
    /// A connection over TCP; a `net.Socket` in Node.
    TcpStream(TcpStream),
    /// A TCP listener; a `net.Server` in Node.
    TcpListener(TcpListener),
    /// A connection over a Unix socket; a `net.Socket` in Node.
    UnixStream(UnixStream),
    /// A Unix listener; a `net.Server` in Node.
    UnixListener(UnixListener),
    /// A UDP socket; a `dgram.Socket` in Node.
    UdpSocket(UdpSocket),
}

impl Attachment {
    /// What it is called on the wire.
    pub(crate) fn kind(&self) -> Attached {
        match self {
            Self::TcpStream(_) | Self::UnixStream(_) => Attached::Socket,
            Self::TcpListener(_) | Self::UnixListener(_) => Attached::Server,
            Self::UdpSocket(socket) => match socket.local_addr() {
                Ok(address) if address.is_ipv6() => Attached::Udp6,
                _ => Attached::Udp4,
            },
        }
    }

    /// Node needs it nonblocking.
    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::TcpStream(socket) => socket.set_nonblocking(true),
            Self::TcpListener(socket) => socket.set_nonblocking(true),
            Self::UnixStream(socket) => socket.set_nonblocking(true),
            Self::UnixListener(socket) => socket.set_nonblocking(true),
            Self::UdpSocket(socket) => socket.set_nonblocking(true),
        }
    }

    /// The descriptor, ready to be sent.
    pub(crate) fn into_sendable(self) -> io::Result<OwnedFd> {
        self.set_nonblocking()?;
        Ok(self.into())
    }
}

impl From<Attachment> for OwnedFd {
    fn from(attachment: Attachment) -> Self {
        match attachment {
            Attachment::TcpStream(socket) => socket.into(),
            Attachment::TcpListener(socket) => socket.into(),
            Attachment::UnixStream(socket) => socket.into(),
            Attachment::UnixListener(socket) => socket.into(),
            Attachment::UdpSocket(socket) => socket.into(),
        }
    }
}

impl TryFrom<OwnedFd> for Attachment {
    type Error = io::Error;

    /// What kind of socket it is, is asked of the socket. `InvalidInput` for what is none of these.
    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        let family = sockopt::socket_domain(fd.as_fd())?;
        let is_inet = family == AddressFamily::INET || family == AddressFamily::INET6;
        let is_unix = family == AddressFamily::UNIX;
        let listens = sockopt::socket_acceptconn(fd.as_fd()).unwrap_or(false);
        let kind = sockopt::socket_type(fd.as_fd())?;
        let attachment = match (kind, listens) {
            (SocketType::STREAM, false) if is_inet => Self::TcpStream(fd.into()),
            (SocketType::STREAM, true) if is_inet => Self::TcpListener(fd.into()),
            (SocketType::STREAM, false) if is_unix => Self::UnixStream(fd.into()),
            (SocketType::STREAM, true) if is_unix => Self::UnixListener(fd.into()),
            (SocketType::DGRAM, _) if is_inet => Self::UdpSocket(fd.into()),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "no socket that can be attached")),
        };
        attachment.set_nonblocking()?;
        Ok(attachment)
    }
}

macro_rules! from_socket {
    ($($socket:ident),*) => {$(
        impl From<$socket> for Attachment {
            fn from(socket: $socket) -> Self {
                Self::$socket(socket)
            }
        }
    )*};
}
from_socket!(TcpStream, TcpListener, UnixStream, UnixListener, UdpSocket);
