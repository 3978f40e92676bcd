//! Sockets that a program has made and somebody else now holds a duplicate of: what they are, and how they are bound
//! in the program's place.
//!
//! What is done to a duplicate is done to the program's own socket: they are one. Never closes one, and never
//! decides whether it should be bound.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, SocketFlags, SocketType, bind, connect, ipproto, socket_with, sockopt,
};

use crate::lending;

/// `IPPROTO_MPTCP`.
const MPTCP: u32 = 262;

/// What kind of socket a program has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// Multipath TCP: it shares no group with TCP, though it serves TCP clients too.
    Mptcp,
    /// UDP over IPv4 or IPv6.
    Udp,
    /// A Unix stream socket.
    UnixStream,
    /// Anything else.
    Other,
}

/// A socket as its program has set it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nature {
    /// What kind it is.
    pub kind: Kind,
    /// Of an IPv6 socket: whether it refuses IPv4.
    pub v6_only: Option<bool>,
    /// It may share its address with others (`SO_REUSEPORT`).
    pub shares_port: bool,
    /// It may take an address that others have or had (`SO_REUSEADDR`).
    pub reuses_address: bool,
    /// It listens.
    pub listens: bool,
}

/// What a socket is. `ENOTSOCK` for what is none.
pub fn nature_of(socket: impl AsFd) -> io::Result<Nature> {
    let socket = socket.as_fd();
    let (family, kind) = (sockopt::socket_domain(socket)?, sockopt::socket_type(socket)?);
    let protocol = sockopt::socket_protocol(socket)?.map(Protocol::as_raw).map(|it| it.get());
    let is_ip = family == AddressFamily::INET || family == AddressFamily::INET6;
    let kind = if kind == SocketType::STREAM && family == AddressFamily::UNIX {
        Kind::UnixStream
    } else if kind == SocketType::STREAM && is_ip && protocol == Some(ipproto::TCP.as_raw().get()) {
        Kind::Tcp
    } else if kind == SocketType::STREAM && is_ip && protocol == Some(MPTCP) {
        Kind::Mptcp
    } else if kind == SocketType::DGRAM && is_ip && protocol == Some(ipproto::UDP.as_raw().get()) {
        Kind::Udp
    } else {
        Kind::Other
    };
    let v6_only = if family == AddressFamily::INET6 { Some(sockopt::ipv6_v6only(socket)?) } else { None };
    Ok(Nature {
        kind,
        v6_only,
        shares_port: is_ip && sockopt::socket_reuseport(socket)?,
        reuses_address: is_ip && sockopt::socket_reuseaddr(socket)?,
        listens: sockopt::socket_acceptconn(socket)?,
    })
}

/// Lets a socket that is not bound yet share its address with others of its user, and, for TCP, take an address at
/// which only connections of the past are left.
pub fn share_port(socket: impl AsFd) -> io::Result<()> {
    if sockopt::socket_type(&socket)? == SocketType::STREAM {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    Ok(sockopt::set_socket_reuseport(&socket, true)?)
}

/// `bind(2)` to an IP address.
pub fn bind_to(socket: impl AsFd, address: SocketAddr) -> io::Result<()> {
    Ok(bind(socket, &address)?)
}

/// Whether calls on it fail rather than wait. That is of the open file: all who hold it share it.
pub fn is_nonblocking(socket: impl AsFd) -> io::Result<bool> {
    Ok(fcntl_getfl(socket)?.contains(OFlags::NONBLOCK))
}

/// From now on calls on it fail rather than wait, for all who hold it.
pub fn set_nonblocking(socket: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&socket)?;
    Ok(fcntl_setfl(socket, flags | OFlags::NONBLOCK)?)
}

/// From now on calls on it wait, for all who hold it.
pub fn set_blocking(socket: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&socket)?;
    Ok(fcntl_setfl(socket, flags - OFlags::NONBLOCK)?)
}

/// Another socket for the address of one that shares its port: of the same kind, with what its program has set on it,
/// bound and not listening, nonblocking. The errors are those of `bind(2)`.
pub fn beside(first: impl AsFd, address: SocketAddr) -> io::Result<OwnedFd> {
    let first = first.as_fd();
    let (family, kind) = (sockopt::socket_domain(first)?, sockopt::socket_type(first)?);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, sockopt::socket_protocol(first)?)?;
    lending::carry_options(first, &socket);
    // Those were the program's wishes for its own.
    set_nonblocking(&socket)?;
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, sockopt::ipv6_v6only(first)?)?;
    }
    share_port(&socket)?;
    belong_with(&socket, first)?;
    bind_to(&socket, address)?;
    Ok(socket)
}

/// Gives a socket to the user to whom another belongs: only those of one user share an address, whatever process holds
/// them. Takes privilege where they differ.
pub fn belong_with(socket: impl AsFd, first: impl AsFd) -> io::Result<()> {
    let owner = fstat(first)?.st_uid;
    if fstat(&socket)?.st_uid != owner {
        std::os::unix::fs::fchown(socket, Some(owner), None)?;
    }
    Ok(())
}

/// Begins a TCP connection, nonblocking: it is there, or has failed, when it becomes writable (see
/// [`failure_of`]).
pub fn connect_to(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Why a connection could not be made, or was lost; asking takes the reason away.
pub fn failure_of(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::socket_error(socket)??)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::socket;

    #[test]
    fn kinds_are_told_apart() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let nature = nature_of(&tcp).unwrap();
        assert_eq!((nature.kind, nature.v6_only), (Kind::Tcp, None));
        assert!(nature.listens && nature.reuses_address && !nature.shares_port);
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(nature_of(&udp).unwrap().kind, Kind::Udp);
        let folder = std::env::temp_dir().join(format!("oxherd-foreign-{}", std::process::id()));
        let unix = UnixListener::bind(&folder).unwrap();
        assert_eq!(nature_of(&unix).unwrap().kind, Kind::UnixStream);
        std::fs::remove_file(folder).unwrap();
        assert!(nature_of(std::fs::File::open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn a_duplicate_is_bound_for_its_program() {
        let flags = SocketFlags::CLOEXEC;
        let own = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        let duplicate = own.try_clone().unwrap();
        share_port(&duplicate).unwrap();
        bind_to(&duplicate, "127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(nature_of(&own).unwrap().shares_port);
        let socket::LocalAddr::Inet(address) = socket::local_addr(&own).unwrap() else { panic!() };
        assert_ne!(address.port(), 0);
        let other = beside(&own, address).unwrap();
        assert!(is_nonblocking(&other).unwrap() && !is_nonblocking(&own).unwrap());
        assert_eq!(socket::local_addr(&other).unwrap(), socket::LocalAddr::Inet(address));
        socket::listen(&own, 5).unwrap();
        let client = connect_to(address).unwrap();
        failure_of(&client).unwrap();
        socket::accept(&own).unwrap();
        assert!(!is_nonblocking(&own).unwrap());
        set_nonblocking(&duplicate).unwrap();
        assert!(is_nonblocking(&own).unwrap());
    }

    #[test]
    fn sockets_of_one_address_belong_to_one_user() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root may give sockets away");
            return;
        }
        let first = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        std::os::unix::fs::fchown(&first, Some(4711), None).unwrap();
        share_port(&first).unwrap();
        bind_to(&first, "127.0.0.1:0".parse().unwrap()).unwrap();
        let socket::LocalAddr::Inet(address) = socket::local_addr(&first).unwrap() else { panic!() };
        socket::listen(&first, 1).unwrap();
        let own = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        share_port(&own).unwrap();
        assert_eq!(bind_to(&own, address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        belong_with(&own, &first).unwrap();
        bind_to(&own, address).unwrap();
        beside(&first, address).unwrap();
    }
}
