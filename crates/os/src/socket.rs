//! Making listeners, accepting, and asking sockets what they hold.
//!
//! Every socket is nonblocking and close-on-exec from birth. Must never unlink a path: whether a socket file
//! is stale is for the caller to decide.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    getsockname, ipproto, listen as listen_on, socket_with, sockopt,
};

use crate::sys;

/// Longest path of a Unix socket in bytes, the terminating zero not counted.
pub const UNIX_PATH_MAX: usize = 107;

/// States in `tcp_info`.
const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE_WAIT: u8 = 8;

const BORN: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// What kind of socket a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// A stream that does not listen: a connection, as a rule.
    Stream,
    /// A stream socket that listens.
    Listener,
    /// A datagram socket.
    Datagram {
        /// Of IPv6.
        v6: bool,
    },
}

/// How to open a TCP listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
    pub backlog: i32,
    /// Whether an IPv6 listener refuses IPv4 clients; `None` leaves the system's default.
    pub v6_only: Option<bool>,
    /// Join the address's group of listeners. All members must belong to one user.
    pub reuse_port: bool,
    /// Also call `listen`. Without it the socket is only bound and takes its place in a group later, by
    /// [`listen`].
    pub listen_now: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 511, v6_only: None, reuse_port: false, listen_now: true }
    }
}

/// Whom the file of a Unix socket lets in beyond its owner, on top of the umask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnixMode {
    /// Readable for all (`a+r`).
    pub readable_all: bool,
    /// Writable for all (`a+w`), which is what connecting needs.
    pub writable_all: bool,
}

/// What a socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddr {
    /// IPv4 or IPv6.
    Inet(SocketAddr),
    /// A path, as it was bound.
    Unix(PathBuf),
    /// A name in Linux's abstract namespace, without the leading zero byte.
    Abstract(Vec<u8>),
    /// Not bound to a name, or of another family.
    Unnamed,
}

/// Who is at the other end of a Unix stream socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The process that connected, or that called `listen`; 0 when it is not visible from here (another pid
    /// namespace). It may have ended since, and its number may be another's.
    pub pid: u32,
    /// Its effective user then.
    pub uid: u32,
    /// Its effective group then.
    pub gid: u32,
}

/// How far the talk over a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// A TCP connection, of which the kernel keeps count.
    Tcp(TcpState),
    /// A connection of another kind, such as a Unix socket: what was read and written before is not known.
    Other {
        /// Bytes that wait to be read.
        unread: u64,
    },
}

/// Counts of a TCP connection, as seen from this side (`TCP_INFO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpState {
    /// It can still be answered: established, or only the other side has finished sending.
    pub established: bool,
    /// Payload bytes that came in all.
    pub bytes_received: u64,
    /// Payload bytes that this side has written in all, sent or not yet. On the connecting side of kernels
    /// before 4.19 one more.
    pub bytes_sent: u64,
    /// Of those that came, how many nobody has read yet.
    pub unread: u64,
}

impl TcpState {
    /// Whether nobody has read or answered anything on this connection yet, so that anybody may do so without
    /// its client noticing.
    pub fn is_untouched(&self) -> bool {
        self.established && self.bytes_sent == 0 && self.unread == self.bytes_received
    }
}

/// A TCP listener with `SO_REUSEADDR`. Errors are those of `bind(2)`: `EADDRINUSE`, `EACCES` (a low port),
/// `EADDRNOTAVAIL`; and `EAFNOSUPPORT` from a machine without IPv6.
pub fn listen_tcp(address: SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let socket = socket_with(family_of(address), SocketType::STREAM, BORN, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    set_v6_only(&socket, address, options.v6_only)?;
    if options.reuse_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    bind(&socket, &address)?;
    if options.listen_now {
        listen_on(&socket, options.backlog)?;
    }
    Ok(socket)
}

/// `listen(2)` on a bound socket: the moment it joins its group, at the next index. On a listening socket it
/// changes the backlog.
pub fn listen(socket: impl AsFd, backlog: i32) -> io::Result<()> {
    Ok(listen_on(socket, backlog)?)
}

/// A Unix stream listener at `path`, or in the abstract namespace when that begins with a zero byte.
///
/// Of the absolute path and the one relative to the working directory the shorter is bound. Errors:
/// `EADDRINUSE` when the path exists, a stale socket file included; `ENAMETOOLONG` beyond [`UNIX_PATH_MAX`];
/// `ENOENT`, `EACCES` for the folder.
pub fn listen_unix(path: &Path, backlog: i32, mode: UnixMode) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, BORN, None)?;
    match path.as_os_str().as_bytes() {
        [0, name @ ..] => bind(&socket, &SocketAddrUnix::new_abstract_name(name)?)?,
        _ => {
            let path = shorter(path);
            bind(&socket, &SocketAddrUnix::new(&*path)?)?;
            open_to_all(&path, mode)?;
        }
    }
    listen_on(&socket, backlog)?;
    Ok(socket)
}

/// A Unix stream listener at the absolute `path` that only its owner (and root) may connect to: the file is born
/// with mode 0600, whatever the umask, so that there is no moment at which others may. Errors as for
/// [`listen_unix`].
pub fn listen_unix_private(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, BORN, None)?;
    // The file gets the socket's own mode, less the umask.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &address)?;
    listen_on(&socket, backlog)?;
    Ok(socket)
}

/// Whether a listener is behind the socket file at `path`; asks without waiting. A file that nobody listens at, or
/// that is no socket, or is not there: `false`. Errors are the others of `connect(2)`: `EACCES` (not ours),
/// `EPROTOTYPE` (a socket of another type).
pub fn somebody_listens(path: &Path) -> io::Result<bool> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, BORN, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        // The queue of one that is busy is full.
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A bound UDP socket. Errors as for [`listen_tcp`].
pub fn bind_udp(
    address: SocketAddr,
    v6_only: Option<bool>,
    reuse_addr: bool,
    reuse_port: bool,
) -> io::Result<OwnedFd> {
    let socket = socket_with(family_of(address), SocketType::DGRAM, BORN, Some(ipproto::UDP))?;
    set_v6_only(&socket, address, v6_only)?;
    if reuse_addr {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if reuse_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

/// The next waiting connection, nonblocking and close-on-exec; one system call, the peer's address is not
/// asked for. Errors: `EAGAIN` (none waiting), `ECONNABORTED` (gone while waiting; try the next), `EMFILE`,
/// `ENFILE`, `ENOBUFS`, `ENOMEM` (the connection keeps waiting), `EINVAL` (the listener was shut down).
#[inline]
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    Ok(accept_with(listener, BORN)?)
}

/// Ends the listening of a socket for all who hold a copy of it, as closing the last copy would: who waits is
/// reset, and the address is free for others. Errors mean that it does not listen.
pub fn stop_listening(socket: impl AsFd) {
    let _not_listening = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

/// What the socket is bound to.
pub fn local_addr(socket: impl AsFd) -> io::Result<LocalAddr> {
    let address = getsockname(socket)?;
    match address.address_family() {
        AddressFamily::INET | AddressFamily::INET6 => {
            Ok(SocketAddr::try_from(address).map_or(LocalAddr::Unnamed, LocalAddr::Inet))
        }
        AddressFamily::UNIX => Ok(unix_name(address)),
        _ => Ok(LocalAddr::Unnamed),
    }
}

/// What kind of socket it is. `ENOTSOCK` for what is none, `EPROTONOSUPPORT` for one of another kind.
pub fn kind_of(socket: impl AsFd) -> io::Result<SocketKind> {
    let kind = sockopt::socket_type(&socket)?;
    if kind == SocketType::DGRAM {
        return Ok(SocketKind::Datagram { v6: sockopt::socket_domain(&socket)? == AddressFamily::INET6 });
    }
    if kind != SocketType::STREAM {
        return Err(Errno::PROTONOSUPPORT.into());
    }
    Ok(if sockopt::socket_acceptconn(&socket)? { SocketKind::Listener } else { SocketKind::Stream })
}

/// Bytes that wait to be read, at a stream socket or pipe (`FIONREAD`, alias `SIOCINQ`). `EINVAL` for a
/// listener.
pub fn unread_bytes(fd: impl AsFd) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(fd)?)
}

/// Connections that wait to be accepted at a TCP listener; `None` for other sockets, which do not tell. For a
/// TCP socket that does not listen the number means something else (unacknowledged segments).
pub fn accept_queue_len(listener: impl AsFd) -> io::Result<Option<u32>> {
    match sys::get_option::<libc::tcp_info>(listener.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO) {
        Ok(info) => Ok(Some(info.tcpi_unacked)),
        Err(error) if matches!(io_errno(&error), libc::EOPNOTSUPP | libc::ENOPROTOOPT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How far the talk over a connected stream socket has come. Errors: `EINVAL` for a listening Unix socket,
/// `ENOTSOCK`.
pub fn stream_state(socket: impl AsFd) -> io::Result<StreamState> {
    let info: libc::tcp_info = match sys::get_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO) {
        Ok(info) => info,
        Err(error) if matches!(io_errno(&error), libc::EOPNOTSUPP | libc::ENOPROTOOPT) => {
            return Ok(StreamState::Other { unread: unread_bytes(socket)? });
        }
        Err(error) => return Err(error),
    };
    // A listening socket has nothing to read and says so with an error.
    let unread = unread_bytes(&socket).unwrap_or(0);
    let fin = u64::from(info.tcpi_state == TCP_CLOSE_WAIT);
    let sent = info.tcpi_bytes_sent.saturating_sub(info.tcpi_bytes_retrans).max(info_acked(&info));
    Ok(StreamState::Tcp(TcpState {
        established: matches!(info.tcpi_state, TCP_ESTABLISHED | TCP_CLOSE_WAIT),
        // The other side's end counts as a byte.
        bytes_received: info.tcpi_bytes_received.saturating_sub(fin),
        bytes_sent: sent.saturating_add(info.tcpi_notsent_bytes.into()),
        unread,
    }))
}

/// The number of a socket that all its copies in all processes share, as in `/proc/PID/fd`; see
/// [`socket_inodes_of`](crate::proc::socket_inodes_of). `ENOTSOCK` for what is no socket.
pub fn inode(socket: impl AsFd) -> io::Result<u64> {
    let stat = rustix::fs::fstat(socket)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Socket {
        return Err(Errno::NOTSOCK.into());
    }
    Ok(stat.st_ino)
}

/// Who is at the other end of a Unix stream socket, as of when it connected (`SO_PEERCRED`). `ENOTCONN` for one
/// that is not connected and for sockets of other families.
pub fn peer_credentials(socket: impl AsFd) -> io::Result<Peer> {
    let peer: libc::ucred = sys::get_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED)?;
    if peer.uid == u32::MAX {
        return Err(Errno::NOTCONN.into());
    }
    Ok(Peer { pid: u32::try_from(peer.pid).unwrap_or(0), uid: peer.uid, gid: peer.gid })
}

/// The error number behind an `io::Error`, `EIO` when it has none.
pub fn io_errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Payload bytes that the other side has acknowledged, where the kernel does not count those sent (before 4.19).
fn info_acked(info: &libc::tcp_info) -> u64 {
    if info.tcpi_bytes_sent == 0 { info.tcpi_bytes_acked } else { 0 }
}

fn family_of(address: SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

fn set_v6_only(socket: &OwnedFd, address: SocketAddr, v6_only: Option<bool>) -> io::Result<()> {
    match (address, v6_only) {
        (SocketAddr::V6(_), Some(only)) => Ok(sockopt::set_ipv6_v6only(socket, only)?),
        (SocketAddr::V6(_), None) | (SocketAddr::V4(_), _) => Ok(()),
    }
}

/// The shorter of the absolute path and the one relative to the working directory.
fn shorter(path: &Path) -> PathBuf {
    let Ok(here) = std::env::current_dir() else {
        return path.to_owned();
    };
    let absolute = here.join(path);
    let relative = absolute.strip_prefix(&here).unwrap_or(&absolute);
    let relative_is_usable = !relative.as_os_str().is_empty();
    if relative_is_usable && relative.as_os_str().len() < absolute.as_os_str().len() {
        relative.to_owned()
    } else {
        absolute
    }
}

fn open_to_all(path: &Path, mode: UnixMode) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut extra = 0;
    if mode.readable_all {
        extra |= 0o444;
    }
    if mode.writable_all {
        extra |= 0o222;
    }
    if extra == 0 {
        return Ok(());
    }
    let mut permissions = std::fs::symlink_metadata(path)?.permissions();
    permissions.set_mode(permissions.mode() | extra);
    std::fs::set_permissions(path, permissions)
}

fn unix_name(address: SocketAddrAny) -> LocalAddr {
    let Ok(address) = SocketAddrUnix::try_from(address) else {
        return LocalAddr::Unnamed;
    };
    if let Some(path) = address.path() {
        return LocalAddr::Unix(PathBuf::from(OsStr::from_bytes(path.to_bytes())));
    }
    // A socket without a name looks like one with an empty abstract name.
    let name = address.abstract_name().filter(|name| !name.is_empty());
    name.map_or(LocalAddr::Unnamed, |name| LocalAddr::Abstract(name.to_vec()))
}

/// Whether the error means "not now": the descriptor is not ready, or (for a sender of descriptors) too many
/// are in flight.
pub fn is_transient(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::AGAIN | Errno::INTR | Errno::TOOMANYREFS))
}
