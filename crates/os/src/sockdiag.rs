//! The TCP connections of a port, as the kernel lists them (`NETLINK_SOCK_DIAG`).
//!
//! Needs no privilege; it sees the network namespace of this process. Must never wait: what the kernel has to say is
//! there when it is asked.

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// Most connections that one answer may have; far beyond the descriptors of any worker.
pub const CONNECTIONS_MAX: usize = 1 << 20;

/// A message of the kernel's answer fits: it sizes them by the reader's buffer and makes none larger.
const BUFFER_BYTES: usize = 32 * 1024;
/// Most messages of one answer: each of them tells of a connection or ends it.
const MESSAGES_MAX: usize = CONNECTIONS_MAX + 2;

/// From `linux/netlink.h`.
const HEADER_BYTES: usize = 16;
const FLAG_REQUEST: u16 = 0x1;
const FLAG_DUMP: u16 = 0x300;
const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
const ATTRIBUTE_HEADER_BYTES: usize = 4;

/// From `linux/sock_diag.h` and `linux/inet_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
const RECORD_BYTES: usize = 72;
const INET_DIAG_INFO: u16 = 2;

/// What a connection has come to. Those that only the kernel still knows (`TIME-WAIT`) are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Both sides may send.
    Established,
    /// The other side has finished sending, this one has not.
    CloseWait,
    /// This side has finished sending, the other has not.
    FinWait,
    /// Both have, and the last acknowledgement is under way.
    Closing,
}

/// One connection, seen from the side whose port was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The number of the socket, as [`socket::inode`](crate::socket::inode) tells it; 0 while the connection waits to
    /// be accepted, and from when all who had it have closed it.
    pub inode: u64,
    /// What it has come to.
    pub state: ConnectionState,
    /// Payload bytes that came and that nobody has read.
    pub unread: u32,
    /// Payload bytes that were written and that the other side has not acknowledged.
    pub unsent: u32,
    /// Payload bytes that came in all.
    pub bytes_received: u64,
    /// Payload bytes that the other side has acknowledged in all.
    pub bytes_acknowledged: u64,
    /// Since payload was last sent, in milliseconds; since the connection began where none was.
    pub last_sent_ms: u32,
    /// Since payload last came, in milliseconds; since the connection began where none did.
    pub last_received_ms: u32,
    /// This side's address, an IPv4 one as such even where the listener is of IPv6.
    pub local: SocketAddr,
    /// The other side's.
    pub peer: SocketAddr,
}

impl Connection {
    /// Whether it is in a listener's queue still.
    pub fn is_waiting(&self) -> bool {
        self.inode == 0 && matches!(self.state, ConnectionState::Established | ConnectionState::CloseWait)
    }
}

/// How many TCP connections have come in, ever, as the kernel counts them for all programs of this network namespace.
#[derive(Debug)]
pub struct Openings(File);

impl Openings {
    /// Opens the kernel's figures (`/proc/net/snmp`). `NotFound` or `EACCES` where `/proc` is not what it should be.
    pub fn new() -> io::Result<Self> {
        Ok(Self(File::open("/proc/net/snmp")?))
    }

    /// The count now; some 10 µs.
    pub fn count(&self) -> io::Result<u64> {
        let mut text = [0; 8192];
        let length = self.0.read_at(&mut text, 0)?;
        let text = std::str::from_utf8(&text[..length]).map_err(|_| io::ErrorKind::InvalidData)?;
        // A line of names, then one of figures.
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
        let (names, figures) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
        let place = names.split_whitespace().position(|name| name == "PassiveOpens");
        let figure = place.and_then(|place| figures.split_whitespace().nth(place)?.parse().ok());
        figure.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// The connections whose local port is this one, of IPv4 and IPv6, in no order.
///
/// The kernel looks through its table of all connections, in pieces: some hundred µs to some ms. Of connections that
/// come and go meanwhile it may miss one, and seldom it misses another: for a decision that must not err ask twice.
/// Errors: `InvalidInput` for port 0, `ENOENT` from a kernel without socket diagnostics (`CONFIG_INET_DIAG`), `EPERM`
/// and the like where a sandbox forbids netlink, `InvalidData` for an answer that makes no sense, `OutOfMemory` for
/// more than [`CONNECTIONS_MAX`].
pub fn connections(port: u16) -> io::Result<Vec<Connection>> {
    if port == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no connection has port 0"));
    }
    let mut found = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    list(libc::AF_INET, port, &mut buffer, &mut found)?;
    match list(libc::AF_INET6, port, &mut buffer, &mut found) {
        // It answers for IPv4, so it is IPv6 that it does not have.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => {}
        result => result?,
    }
    Ok(found)
}

fn list(family: i32, port: u16, buffer: &mut [u8], found: &mut Vec<Connection>) -> io::Result<()> {
    // One of its own for each question: an answer that was not read to its end would block the next.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
    send(&socket, &question(family, port), SendFlags::empty())?;
    for _ in 0..MESSAGES_MAX {
        let length = receive(&socket, buffer)?;
        let bytes = buffer.get(..length).ok_or_else(nonsense)?;
        if read_messages(bytes, found)? == Progress::Done {
            return Ok(());
        }
        if found.len() > CONNECTIONS_MAX {
            let what = format!("port {port} has more than {CONNECTIONS_MAX} connections");
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, what));
        }
    }
    Err(nonsense())
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match recv(socket, &mut *buffer, RecvFlags::TRUNC) {
            Ok((_, length)) => return Ok(length),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn question(family: i32, port: u16) -> [u8; REQUEST_BYTES] {
    use ConnectionState::{CloseWait, Closing, Established, FinWait};
    let mut bytes = [0; REQUEST_BYTES];
    bytes[0..4].copy_from_slice(&(REQUEST_BYTES as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(FLAG_REQUEST | FLAG_DUMP).to_ne_bytes());
    let body = &mut bytes[HEADER_BYTES..];
    body[0] = family as u8;
    body[1] = libc::IPPROTO_TCP as u8;
    body[2] = 1 << (INET_DIAG_INFO - 1);
    let wanted =
        |state: &u8| matches!(ConnectionState::of(*state), Some(Established | CloseWait | FinWait | Closing));
    let states = (0..32).filter(wanted).fold(0_u32, |states, state| states | 1 << state);
    body[4..8].copy_from_slice(&states.to_ne_bytes());
    body[8..10].copy_from_slice(&port.to_be_bytes());
    bytes
}

#[derive(PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

fn read_messages(mut bytes: &[u8], found: &mut Vec<Connection>) -> io::Result<Progress> {
    while !bytes.is_empty() {
        let length = u32_at(bytes, 0).ok_or_else(nonsense)? as usize;
        let kind = u16_at(bytes, 4).ok_or_else(nonsense)?;
        let body = bytes.get(HEADER_BYTES..length).ok_or_else(nonsense)?;
        match kind {
            TYPE_DONE => {
                // A dump that failed half-way says so here.
                let status = u32_at(body, 0).unwrap_or(0).cast_signed();
                return if status < 0 {
                    Err(io::Error::from_raw_os_error(-status))
                } else {
                    Ok(Progress::Done)
                };
            }
            TYPE_ERROR => {
                let status = u32_at(body, 0).ok_or_else(nonsense)?.cast_signed();
                return Err(io::Error::from_raw_os_error(status.saturating_neg()));
            }
            SOCK_DIAG_BY_FAMILY => {
                let connection = read_record(body).ok_or_else(nonsense)?;
                found.extend(connection.filter(Connection::is_someones));
            }
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(Progress::More)
}

/// `struct inet_diag_msg` and its attributes. The outer `None` for one that makes no sense.
fn read_record(body: &[u8]) -> Option<Option<Connection>> {
    let fixed = body.get(..RECORD_BYTES)?;
    let Some(state) = ConnectionState::of(fixed[1]) else { return Some(None) };
    let family = i32::from(fixed[0]);
    let info = attribute(&body[RECORD_BYTES..], INET_DIAG_INFO);
    let since = |offset| info.and_then(|info| u32_at(info, offset)).unwrap_or(0);
    let count = |offset| info.and_then(|info| u64_at(info, offset)).unwrap_or(0);
    let (peer_fin, own_fin) = match state {
        ConnectionState::Established => (0, 0),
        ConnectionState::CloseWait => (1, 0),
        ConnectionState::FinWait => (0, 1),
        ConnectionState::Closing => (1, 1),
    };
    Some(Some(Connection {
        inode: u32_at(fixed, 68)?.into(),
        state,
        // Each side's end counts as a byte, for as long as it was not seen.
        unread: u32_at(fixed, 56)?.saturating_sub(peer_fin),
        unsent: u32_at(fixed, 60)?.saturating_sub(own_fin),
        bytes_received: count(offset_of!(libc::tcp_info, tcpi_bytes_received))
            .saturating_sub(peer_fin.into()),
        bytes_acknowledged: count(offset_of!(libc::tcp_info, tcpi_bytes_acked)),
        last_sent_ms: since(offset_of!(libc::tcp_info, tcpi_last_data_sent)),
        last_received_ms: since(offset_of!(libc::tcp_info, tcpi_last_data_recv)),
        local: SocketAddr::new(address(family, fixed.get(8..24)?)?, port_at(fixed, 4)?),
        peer: SocketAddr::new(address(family, fixed.get(24..40)?)?, port_at(fixed, 6)?),
    }))
}

impl ConnectionState {
    /// By the kernel's number (`include/net/tcp_states.h`).
    fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Established),
            4 | 5 => Some(Self::FinWait),
            8 => Some(Self::CloseWait),
            9 | 11 => Some(Self::Closing),
            _ => None,
        }
    }
}

impl Connection {
    /// Whether it waits to be accepted or is some process's; else only the kernel still ends it.
    fn is_someones(&self) -> bool {
        self.inode != 0 || self.is_waiting()
    }
}

/// The content of the first attribute of that type.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(bytes, 0)?);
        let content = bytes.get(ATTRIBUTE_HEADER_BYTES..length)?;
        if u16_at(bytes, 2)? == wanted {
            return Some(content);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

fn address(family: i32, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        libc::AF_INET => Some(IpAddr::from(Ipv4Addr::from(*bytes.first_chunk::<4>()?))),
        libc::AF_INET6 => Some(IpAddr::from(Ipv6Addr::from(*bytes.first_chunk::<16>()?)).to_canonical()),
        _ => None,
    }
}

fn port_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_ne_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's list of connections makes no sense")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_answers_are_errors_and_no_panic() {
        let mut whole = vec![0; HEADER_BYTES + RECORD_BYTES];
        let length = whole.len() as u32;
        whole[0..4].copy_from_slice(&length.to_ne_bytes());
        whole[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        whole[HEADER_BYTES] = libc::AF_INET as u8;
        whole[HEADER_BYTES + 1] = 1;
        let mut found = Vec::new();
        assert!(read_messages(&whole, &mut found).is_ok());
        assert_eq!(found.len(), 1);
        for length in 1..whole.len() {
            assert!(read_messages(&whole[..length], &mut found).is_err(), "{length} bytes");
        }
        whole[0..4].copy_from_slice(&3_u32.to_ne_bytes());
        assert!(read_messages(&whole, &mut found).is_err());
    }

    #[test]
    fn refusals_of_the_kernel_are_errors() {
        let mut bytes = vec![0; HEADER_BYTES + 4];
        bytes[0..4].copy_from_slice(&20_u32.to_ne_bytes());
        bytes[HEADER_BYTES..].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        for kind in [TYPE_ERROR, TYPE_DONE] {
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            let error = read_messages(&bytes, &mut Vec::new()).err().unwrap();
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        }
        assert_eq!(connections(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
