//! Listeners and what they tell.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use common::{Folder, eventually, unique, wait_readable};
use oxherd_os::io_errno;
use oxherd_os::socket::{
    ListenOptions, LocalAddr, SocketKind, UnixMode, accept, accept_queue_len, bind_udp, kind_of, listen,
    listen_tcp, listen_unix, listen_unix_private, local_addr, peer_credentials, somebody_listens,
    unread_bytes,
};
use rustix::fs::OFlags;
use rustix::io::FdFlags;

fn address_of(fd: &OwnedFd) -> SocketAddr {
    match local_addr(fd).unwrap() {
        LocalAddr::Inet(address) => address,
        other => panic!("not an IP address: {other:?}"),
    }
}

fn any(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn assert_born_well(fd: impl AsFd) {
    assert!(rustix::fs::fcntl_getfl(&fd).unwrap().contains(OFlags::NONBLOCK));
    assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
}

#[test]
fn connections_wait_and_are_counted() {
    let listener = listen_tcp(any("127.0.0.1:0"), &ListenOptions::default()).unwrap();
    assert_born_well(&listener);
    assert_eq!(io_errno(&accept(&listener).unwrap_err()), libc::EAGAIN);
    let mut clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address_of(&listener)).unwrap()).collect();
    eventually("three waiting", || accept_queue_len(&listener).unwrap().filter(|count| *count == 3));
    let connection = accept(&listener).unwrap();
    assert_born_well(&connection);
    assert_eq!(accept_queue_len(&listener).unwrap(), Some(2));
    clients[0].write_all(b"hello").unwrap();
    wait_readable(&connection);
    assert_eq!(unread_bytes(&connection).unwrap(), 5);
}

#[test]
fn a_taken_address_is_an_error() {
    let listener = listen_tcp(any("127.0.0.1:0"), &ListenOptions::default()).unwrap();
    let error = listen_tcp(address_of(&listener), &ListenOptions::default()).unwrap_err();
    assert_eq!(io_errno(&error), libc::EADDRINUSE);
}

#[test]
fn bound_without_listening() {
    let options = ListenOptions { listen_now: false, ..ListenOptions::default() };
    let socket = listen_tcp(any("127.0.0.1:0"), &options).unwrap();
    let address = address_of(&socket);
    assert!(TcpStream::connect(address).is_err());
    listen(&socket, 8).unwrap();
    TcpStream::connect(address).unwrap();
}

#[test]
fn v6_only_decides_about_ipv4_clients() {
    for only in [true, false] {
        let options = ListenOptions { v6_only: Some(only), ..ListenOptions::default() };
        let listener = match listen_tcp(any("[::]:0"), &options) {
            Ok(listener) => listener,
            Err(error) if io_errno(&error) == libc::EAFNOSUPPORT => return println!("skipped: no IPv6 here"),
            Err(error) => panic!("{error}"),
        };
        let port = address_of(&listener).port();
        assert_eq!(TcpStream::connect(("127.0.0.1", port)).is_err(), only);
    }
}

#[test]
fn unix_paths_modes_and_stale_files() {
    let folder = Folder::new();
    let path = folder.path().join("a.sock");
    let all = UnixMode { readable_all: true, writable_all: true };
    let listener = listen_unix(&path, 8, all).unwrap();
    assert_born_well(&listener);
    let LocalAddr::Unix(bound) = local_addr(&listener).unwrap() else { panic!("not a path") };
    assert_eq!(std::env::current_dir().unwrap().join(bound), path);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o666, 0o666);
    assert_eq!(accept_queue_len(&listener).unwrap(), None);
    let _client = UnixStream::connect(&path).unwrap();
    accept(&listener).unwrap();
    drop(listener);
    assert!(path.exists(), "closing never unlinks");
    let error = listen_unix(&path, 8, UnixMode::default()).unwrap_err();
    assert_eq!(io_errno(&error), libc::EADDRINUSE);
    let long = folder.path().join("x".repeat(108));
    assert_eq!(io_errno(&listen_unix(&long, 8, UnixMode::default()).unwrap_err()), libc::ENAMETOOLONG);
}

#[test]
fn abstract_names_need_no_file() {
    let name = unique("oxherd-abstract");
    let listener = listen_unix(&PathBuf::from(format!("\0{name}")), 8, UnixMode::default()).unwrap();
    assert_eq!(local_addr(&listener).unwrap(), LocalAddr::Abstract(name.clone().into_bytes()));
    assert!(!Path::new(&name).exists());
    assert_eq!(local_addr(UnixStream::pair().unwrap().0).unwrap(), LocalAddr::Unnamed);
}

#[test]
fn udp_sockets_may_share() {
    let first = bind_udp(any("127.0.0.1:0"), None, false, true).unwrap();
    assert_born_well(&first);
    let address = address_of(&first);
    bind_udp(address, None, false, true).unwrap();
    assert_eq!(io_errno(&bind_udp(address, None, false, false).unwrap_err()), libc::EADDRINUSE);
    let shared = bind_udp(any("127.0.0.1:0"), None, true, false).unwrap();
    bind_udp(address_of(&shared), None, true, false).unwrap();
}

#[test]
fn a_private_socket_is_born_private_and_tells_whether_it_is_alive() {
    let folder = Folder::new();
    let path = folder.path().join("s.sock");
    assert!(!somebody_listens(&path).unwrap());
    let listener = listen_unix_private(&path, 0).unwrap();
    assert_born_well(&listener);
    assert_eq!(std::fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    // A full queue is a listener too.
    let waiting: Vec<_> = (0..4).map(|_| somebody_listens(&path).unwrap()).collect();
    assert_eq!(waiting, [true; 4]);
    drop(listener);
    assert!(!somebody_listens(&path).unwrap());
    assert_eq!(io_errno(&listen_unix_private(&path, 8).unwrap_err()), libc::EADDRINUSE);
}

#[test]
fn the_other_end_of_a_unix_socket_is_known() {
    let folder = Folder::new();
    let path = folder.path().join("p.sock");
    let listener = listen_unix(&path, 8, UnixMode::default()).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let accepted = accept(&listener).unwrap();
    for end in [client.as_fd(), accepted.as_fd()] {
        let peer = peer_credentials(end).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
    }
    let tcp = listen_tcp(any("127.0.0.1:0"), &ListenOptions::default()).unwrap();
    assert_eq!(io_errno(&peer_credentials(&tcp).unwrap_err()), libc::ENOTCONN);
}

#[test]
fn sockets_tell_their_kind() {
    let kind = |socket: &dyn AsFd| kind_of(socket.as_fd()).map_err(|error| io_errno(&error));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!((kind(&listener), kind(&stream)), (Ok(SocketKind::Listener), Ok(SocketKind::Stream)));
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(kind(&udp), Ok(SocketKind::Datagram { v6: false }));
    let null = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(kind(&null), Err(88), "ENOTSOCK");
}
