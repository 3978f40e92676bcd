//! Plain sockets with deadlines: where to connect, and the ways in which it can fail.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// How long one step of a conversation may take.
pub const STEP: Duration = Duration::from_secs(15);

/// Where a server can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a Unix socket.
    Unix(PathBuf),
}

/// A connection of either kind.
pub trait Connection: Read + Write + Send + fmt::Debug {
    /// Bounds each read and write.
    ///
    /// # Errors
    /// The kernel refuses.
    fn bound(&self, step: Duration) -> io::Result<()>;
}

/// How a request failed, as its client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listened.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection ended before the answer did.
    EarlyEof,
    /// No progress for too long.
    Timeout,
    /// An answer came, and it is not the expected one.
    Wrong(String),
}

impl Address {
    /// A way to an address as a log line has it; "all addresses" are reached over loopback.
    pub fn reach(shown: &str) -> Self {
        match shown.parse::<SocketAddr>() {
            Ok(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                    ip => ip,
                };
                Self::Tcp(SocketAddr::new(ip, address.port()))
            }
            Err(_) => Self::Unix(shown.into()),
        }
    }

    /// IPv4 loopback.
    pub fn v4(port: u16) -> Self {
        Self::Tcp((Ipv4Addr::LOCALHOST, port).into())
    }

    /// IPv6 loopback.
    pub fn v6(port: u16) -> Self {
        Self::Tcp((Ipv6Addr::LOCALHOST, port).into())
    }

    /// The port of a TCP address.
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp(address) => address.port(),
            Self::Unix(path) => panic!("{} has no port", path.display()),
        }
    }

    /// Connects, with a bound on this and on every later step.
    ///
    /// # Errors
    /// How it failed.
    pub fn connect(&self, step: Duration) -> Result<Box<dyn Connection>, Failure> {
        let connected: io::Result<Box<dyn Connection>> = match self {
            Self::Tcp(address) => TcpStream::connect_timeout(address, step).and_then(|stream| {
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Box<dyn Connection>)
            }),
            Self::Unix(path) => {
                UnixStream::connect(path).map(|stream| Box::new(stream) as Box<dyn Connection>)
            }
        };
        let connection = connected.map_err(|error| Failure::of(&error))?;
        connection.bound(step).map_err(|error| Failure::of(&error))?;
        Ok(connection)
    }
}

impl Connection for TcpStream {
    fn bound(&self, step: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(step))?;
        self.set_write_timeout(Some(step))
    }
}

impl Connection for UnixStream {
    fn bound(&self, step: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(step))?;
        self.set_write_timeout(Some(step))
    }
}

impl Failure {
    /// What an error of a socket means to a client.
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::UnexpectedEof => Self::EarlyEof,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Timeout,
            _ => Self::Wrong(error.to_string()),
        }
    }
}
