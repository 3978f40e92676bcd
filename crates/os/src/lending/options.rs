//! Carrying over what a program has set on its socket to the one that it is lent in its place.
//!
//! Must never fail for an option that this kernel, user or kind of socket does not have.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::sys;

/// Options of the kernel's headers that the C library's lack, or has for some targets only.
const SO_BUF_LOCK: i32 = 72;
const BUFFER_SENDING: i32 = 1;
const BUFFER_RECEIVING: i32 = 2;
const UDP_SEGMENT: i32 = 103;
const UDP_GRO: i32 = 104;

/// Options with a number as their value, which a program gets as it has set it. What makes a socket's identity
/// (`SO_REUSEADDR`, `SO_REUSEPORT`, `IPV6_V6ONLY`, the device) is not among them.
const NUMBERS: &[(i32, i32)] = &[
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::SOL_SOCKET, libc::SO_BROADCAST),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMP),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL),
    (libc::SOL_SOCKET, libc::SO_BUSY_POLL),
    (libc::SOL_SOCKET, libc::SO_MARK),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_CORK),
    (libc::IPPROTO_TCP, libc::TCP_MAXSEG),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_SYNCNT),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP),
    (libc::IPPROTO_TCP, libc::TCP_QUICKACK),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_FASTOPEN),
    (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TTL),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IP, libc::IP_RECVERR),
    (libc::IPPROTO_IP, libc::IP_RECVTOS),
    (libc::IPPROTO_IP, libc::IP_RECVTTL),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP),
    (libc::IPPROTO_UDP, UDP_SEGMENT),
    (libc::IPPROTO_UDP, UDP_GRO),
    (libc::SOL_SOCKET, libc::SO_PASSCRED),
];

/// Longest name of a way of congestion control, in bytes (`TCP_CA_NAME_MAX`).
const CONGESTION_BYTES: usize = 16;

/// Sets on `to` what a program has set on `from` before it was bound: blocking mode, buffers, keep-alive, `TCP_NODELAY`,
/// `TCP_DEFER_ACCEPT`, `TCP_FASTOPEN` and the like. What cannot be set is left.
///
/// About 100 system calls of a fraction of a microsecond. The blocking mode is that of the open file, and so of all
/// who hold a copy of it.
pub fn carry_options(from: impl AsFd, to: impl AsFd) {
    let (from, to) = (from.as_fd(), to.as_fd());
    for (level, name) in NUMBERS {
        carry::<i32>(from, to, *level, *name);
    }
    carry_buffers(from, to);
    carry::<Pair>(from, to, libc::SOL_SOCKET, libc::SO_LINGER);
    carry::<Time>(from, to, libc::SOL_SOCKET, libc::SO_RCVTIMEO);
    carry::<Time>(from, to, libc::SOL_SOCKET, libc::SO_SNDTIMEO);
    carry::<[u8; CONGESTION_BYTES]>(from, to, libc::IPPROTO_TCP, libc::TCP_CONGESTION);
    let wanted = fcntl_getfl(from).map(|flags| flags & OFlags::NONBLOCK);
    if let (Ok(wanted), Ok(flags)) = (wanted, fcntl_getfl(to))
        && flags & OFlags::NONBLOCK != wanted
    {
        let _stays_as_it_is = fcntl_setfl(to, (flags - OFlags::NONBLOCK) | wanted);
    }
}

/// Sets an option where it differs.
fn carry<T: sys::PlainData + PartialEq>(from: BorrowedFd<'_>, to: BorrowedFd<'_>, level: i32, name: i32) {
    let Ok(wanted) = sys::get_option::<T>(from, level, name) else { return };
    if sys::get_option::<T>(to, level, name).is_ok_and(|has| has != wanted) {
        // Some are only for the privileged, or for sockets that do not listen yet.
        drop(sys::set_option(to, level, name, &wanted));
    }
}

/// Buffers have no fixed size until a program gives them one.
fn carry_buffers(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    let fixed = sys::get_option::<i32>(from, libc::SOL_SOCKET, SO_BUF_LOCK);
    for (bit, name, force) in [
        (BUFFER_SENDING, libc::SO_SNDBUF, libc::SO_SNDBUFFORCE),
        (BUFFER_RECEIVING, libc::SO_RCVBUF, libc::SO_RCVBUFFORCE),
    ] {
        let sizes = [from, to].map(|socket| sys::get_option::<i32>(socket, libc::SOL_SOCKET, name));
        // Kernels before 5.16 do not say whether it is fixed.
        let is_fixed = fixed.as_ref().map_or(true, |fixed| fixed & bit != 0);
        if let [Ok(wanted), Ok(has)] = sizes
            && is_fixed
            && wanted != has
        {
            // The kernel doubles what it is given.
            let half = wanted / 2;
            if sys::set_option(to, libc::SOL_SOCKET, force, &half).is_err() {
                drop(sys::set_option(to, libc::SOL_SOCKET, name, &half));
            }
        }
    }
}

/// `struct linger`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Pair(i32, i32);

/// `struct timeval` of 64-bit machines.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Time(i64, i64);

// SAFETY: integers only.
unsafe impl sys::PlainData for Pair {}
// SAFETY: integers only.
unsafe impl sys::PlainData for Time {}
// SAFETY: integers only.
unsafe impl sys::PlainData for [u8; CONGESTION_BYTES] {}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::time::Duration;

    use rustix::net::{AddressFamily, SocketType, socket, sockopt};

    use super::*;

    #[test]
    fn what_was_set_before_bind_holds_for_the_lent_socket() {
        let from = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        sockopt::set_tcp_nodelay(&from, true).unwrap();
        sockopt::set_socket_keepalive(&from, true).unwrap();
        sockopt::set_tcp_keepidle(&from, Duration::from_secs(77)).unwrap();
        sockopt::set_socket_linger(&from, Some(Duration::from_secs(3))).unwrap();
        sockopt::set_socket_recv_buffer_size(&from, 40_000).unwrap();
        sys::set_option(from.as_fd(), libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, &7).unwrap();
        sys::set_option(from.as_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN, &5).unwrap();
        fcntl_setfl(&from, OFlags::NONBLOCK).unwrap();
        let send_buffer = sockopt::socket_send_buffer_size(&listener).unwrap();
        carry_options(&from, &listener);
        assert!(sockopt::tcp_nodelay(&listener).unwrap() && sockopt::socket_keepalive(&listener).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&listener).unwrap(), Duration::from_secs(77));
        assert_eq!(sockopt::socket_linger(&listener).unwrap(), Some(Duration::from_secs(3)));
        assert_eq!(sockopt::socket_recv_buffer_size(&listener).unwrap(), 80_000);
        assert_eq!(sockopt::socket_send_buffer_size(&listener).unwrap(), send_buffer);
        for name in [libc::TCP_DEFER_ACCEPT, libc::TCP_FASTOPEN] {
            let [wanted, has] = [from.as_fd(), listener.as_fd()]
                .map(|fd| sys::get_option::<i32>(fd, libc::IPPROTO_TCP, name));
            assert_eq!(wanted.unwrap(), has.unwrap());
        }
        assert!(fcntl_getfl(&listener).unwrap().contains(OFlags::NONBLOCK));
        fcntl_setfl(&from, OFlags::empty()).unwrap();
        carry_options(&from, &listener);
        assert!(!fcntl_getfl(&listener).unwrap().contains(OFlags::NONBLOCK));
    }

    #[test]
    fn a_datagram_server_gets_what_it_asked_for() {
        let from = socket(AddressFamily::INET6, SocketType::DGRAM, None).unwrap();
        let to = UdpSocket::bind("[::1]:0").unwrap();
        for (level, name) in
            [(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO), (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS)]
        {
            sys::set_option(from.as_fd(), level, name, &1).unwrap();
        }
        carry_options(&from, &to);
        let has = |name| sys::get_option::<i32>(to.as_fd(), libc::IPPROTO_IPV6, name).unwrap();
        assert_eq!([has(libc::IPV6_RECVPKTINFO), has(libc::IPV6_RECVTCLASS)], [1, 1]);
    }
}
