//! Listening: through the primary where there is one, else directly.
//!
//! The same program serves in both cases. Must never bind by itself what the primary refused.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oxherd_wire::worker::Ask;
use tokio::net::{ToSocketAddrs, UdpSocket, lookup_host};

use super::Worker;
use super::listener::{Listener, UnixListener};

/// What a listener's backlog is unless the primary says otherwise: Node's.
pub(super) const BACKLOG: i32 = 511;
const LOWEST_FREE_PORT: u16 = 1024;
const LISTEN: &str = "listen on";
const BIND_UDP: &str = "bind UDP";

/// Why a socket could not be had. `Display` names the address, the cause and the way out.
#[derive(Debug)]
pub struct ListenError {
    /// `listen on 0.0.0.0:80`.
    what: String,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Io { error: io::Error, low_port: bool, is_path: bool },
    Twice,
    Leaving,
    Gone(String),
}

impl ListenError {
    pub(super) fn io(error: io::Error) -> Self {
        Self { what: String::new(), why: Why::Io { error, low_port: false, is_path: false } }
    }

    pub(super) fn twice() -> Self {
        Self { what: String::new(), why: Why::Twice }
    }

    pub(super) fn leaving() -> Self {
        Self { what: String::new(), why: Why::Leaving }
    }

    pub(super) fn gone(why: String) -> Self {
        Self { what: String::new(), why: Why::Gone(why) }
    }

    /// Of no address, until one was tried.
    fn nowhere() -> Self {
        Self::io(io::ErrorKind::InvalidInput.into())
    }

    fn at(mut self, verb: &str, address: SocketAddr) -> Self {
        self.what = format!("{verb} {address}");
        if let Why::Io { low_port, .. } = &mut self.why {
            *low_port = (1..LOWEST_FREE_PORT).contains(&address.port());
        }
        self
    }

    fn at_path(mut self, path: &Path) -> Self {
        self.what = format!("listen on {}", path.display());
        if let Why::Io { is_path, .. } = &mut self.why {
            *is_path = true;
        }
        self
    }

    /// The kind of error, for programs that go on after some of them: `AddrInUse`, `PermissionDenied`,
    /// `AddrNotAvailable`, …; `NotConnected` when the primary is gone or this worker was told to leave.
    pub fn kind(&self) -> io::ErrorKind {
        match &self.why {
            Why::Io { error, .. } => error.kind(),
            Why::Twice => io::ErrorKind::AddrInUse,
            Why::Leaving | Why::Gone(_) => io::ErrorKind::NotConnected,
        }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: ", self.what)?;
        match &self.why {
            Why::Io { error, low_port: true, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                f.write_str("permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)")
            }
            Why::Io { error, is_path: false, .. } if error.kind() == io::ErrorKind::AddrInUse => {
                f.write_str("address in use (`ss -lntup` shows by whom)")
            }
            Why::Io { error, is_path: true, .. } if error.kind() == io::ErrorKind::AddrInUse => {
                f.write_str("the file exists (remove it if no other program listens there)")
            }
            Why::Io { error, .. } => write!(f, "{error}"),
            Why::Twice => {
                f.write_str("this worker listens there already (use that listener, or drop it first)")
            }
            Why::Leaving => f.write_str("this worker was told to leave"),
            Why::Gone(why) => write!(f, "the primary is gone ({why})"),
        }
    }
}

impl std::error::Error for ListenError {
    /// What is behind the cause: the cause itself is what `Display` says.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.why {
            Why::Io { error, .. } => error.source(),
            Why::Twice | Why::Leaving | Why::Gone(_) => None,
        }
    }
}

impl From<ListenError> for io::Error {
    fn from(error: ListenError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Listens on a TCP address: through the primary, which shares it among its workers, or directly when this program
/// runs alone.
///
/// An address is what tokio takes: `"0.0.0.0:3000"`, `("::", 3000)`, a `SocketAddr`. Of a name that has several
/// addresses the first that works is used. Port 0 is any free one, the same for all workers.
///
/// # Errors
///
/// [`ListenError`]: the port is in use or not allowed, the name is unknown, this worker listens there already.
///
/// ```no_run
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = oxherd::listen("0.0.0.0:3000").await?;
/// loop {
///     let (stream, peer) = listener.accept().await?;
///     tokio::spawn(async move { drop((stream, peer)) });
/// }
/// # }
/// ```
pub async fn listen(address: impl ToSocketAddrs) -> Result<Listener, ListenError> {
    if let Some(worker) = crate::worker() {
        return worker.listen(address).await;
    }
    let mut failed = ListenError::nowhere();
    for address in resolve(address, LISTEN).await? {
        match Listener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = ListenError::io(error).at(LISTEN, address),
        }
    }
    Err(failed)
}

/// Listens on a Unix stream socket, as [`listen`] does on TCP. A file that is there already is an error: whether it
/// is stale is not known here.
///
/// ```no_run
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = oxherd::listen_unix("/run/app.sock").await?;
/// let (stream, _peer) = listener.accept().await?;
/// # drop(stream); Ok(()) }
/// ```
pub async fn listen_unix(path: impl AsRef<Path>) -> Result<UnixListener, ListenError> {
    let path = path.as_ref();
    match crate::worker() {
        Some(worker) => worker.listen_unix(path).await,
        None => UnixListener::bind(path).map_err(|error| ListenError::io(error).at_path(path)),
    }
}

/// Binds a UDP socket: the primary's, of which each worker gets a copy and any of them a datagram, or one's own when
/// this program runs alone.
///
/// ```no_run
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// let socket = oxherd::bind_udp("0.0.0.0:5353").await?;
/// let mut buffer = [0; 1500];
/// let (length, from) = socket.recv_from(&mut buffer).await?;
/// socket.send_to(&buffer[..length], from).await?;
/// # Ok(()) }
/// ```
pub async fn bind_udp(address: impl ToSocketAddrs) -> Result<UdpSocket, ListenError> {
    if let Some(worker) = crate::worker() {
        return worker.bind_udp(address).await;
    }
    let mut failed = ListenError::nowhere();
    for address in resolve(address, BIND_UDP).await? {
        match UdpSocket::bind(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = ListenError::io(error).at(BIND_UDP, address),
        }
    }
    Err(failed)
}

impl Worker {
    /// As [`listen`](crate::listen), for this worker.
    ///
    /// # Errors
    ///
    /// As there; also when this worker was told to leave or its primary is gone.
    pub async fn listen(&self, address: impl ToSocketAddrs) -> Result<Listener, ListenError> {
        let mut failed = ListenError::nowhere();
        for address in resolve(address, LISTEN).await? {
            match self.listen_at(address).await {
                Ok(listener) => return Ok(listener),
                Err(error) => failed = error.at(LISTEN, address),
            }
        }
        Err(failed)
    }

    /// As [`listen_unix`](crate::listen_unix), for this worker.
    ///
    /// # Errors
    ///
    /// As [`Worker::listen`]; also for a path that is not UTF-8, which the protocol cannot carry.
    pub async fn listen_unix(&self, path: impl AsRef<Path>) -> Result<UnixListener, ListenError> {
        let path = path.as_ref();
        self.ask_unix(path).await.map_err(|error| error.at_path(path))
    }

    /// As [`bind_udp`](crate::bind_udp), for this worker.
    ///
    /// # Errors
    ///
    /// As [`Worker::listen`].
    pub async fn bind_udp(&self, address: impl ToSocketAddrs) -> Result<UdpSocket, ListenError> {
        let mut failed = ListenError::nowhere();
        for address in resolve(address, BIND_UDP).await? {
            match self.bind_udp_at(address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => failed = error.at(BIND_UDP, address),
            }
        }
        Err(failed)
    }

    async fn listen_at(&self, address: SocketAddr) -> Result<Listener, ListenError> {
        let ask = |port| Ask::Tcp { address: Some(address.ip()), port, backlog: 0 };
        let name = format!("tcp {address}");
        let mut server = self.channel().ask(ask(address.port()), &name, address.port() == 0).await?;
        let said = server.sockname.unwrap_or(address);
        let listener = match server.fd.take() {
            Some(fd) => Listener::shared(fd, server, BACKLOG).map_err(ListenError::io)?,
            None => Listener::handed(server, said),
        };
        listener.say_listening(&ask(listener.address().port()));
        Ok(listener)
    }

    async fn ask_unix(&self, path: &Path) -> Result<UnixListener, ListenError> {
        let absolute = std::path::absolute(path).map_err(ListenError::io)?;
        let text = absolute.to_str().ok_or_else(|| {
            ListenError::io(io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8"))
        })?;
        let ask = Ask::Unix { path: text, backlog: 0 };
        let mut server = self.channel().ask(ask, &format!("unix {text}"), false).await?;
        let listener = match server.fd.take() {
            Some(fd) => UnixListener::shared(fd, server, BACKLOG).map_err(ListenError::io)?,
            None => UnixListener::handed(server, PathBuf::from(text)),
        };
        listener.say_listening(&ask);
        Ok(listener)
    }

    async fn bind_udp_at(&self, address: SocketAddr) -> Result<UdpSocket, ListenError> {
        let channel = self.channel();
        let name = format!("udp {address}");
        let mut server = channel.ask(Ask::Udp { address }, &name, address.port() == 0).await?;
        let fd = server
            .fd
            .take()
            .ok_or(io::ErrorKind::InvalidData)
            .map_err(|kind| ListenError::io(kind.into()))?;
        let socket = udp(fd).map_err(ListenError::io)?;
        let bound = socket.local_addr().map_err(ListenError::io)?;
        server.say_listening(&Ask::Udp { address: SocketAddr::new(address.ip(), bound.port()) });
        server.detach();
        Ok(socket)
    }
}

fn udp(fd: OwnedFd) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::from(fd);
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// The addresses that are meant. What opens them tries one after the other; the last error is told.
async fn resolve(address: impl ToSocketAddrs, verb: &str) -> Result<Vec<SocketAddr>, ListenError> {
    let found = lookup_host(address).await.map(Iterator::collect::<Vec<_>>);
    let named = |error| ListenError { what: format!("{verb} this address"), ..ListenError::io(error) };
    match found {
        Ok(addresses) if addresses.is_empty() => {
            Err(named(io::Error::new(io::ErrorKind::InvalidInput, "the name has no address")))
        }
        found => found.map_err(named),
    }
}
