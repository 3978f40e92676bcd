//! Connections that outlive the process that had them, and what is known of them.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use common::{Folder, am_helper, eventually, helper, read_line};
use oxherd_os::socket::{LocalAddr, StreamState, TcpState, inode, local_addr, stream_state};
use oxherd_os::{CgroupChoice, ExitWatch, Host, HostOptions, Output, Watched, proc, rescue};
use rustix::io::FdFlags;

/// Has every kind of socket, and waits to be killed.
#[test]
fn helper_that_has_connections() {
    if !am_helper("helper_that_has_connections") {
        return;
    }
    let folder = std::env::var("FOLDER").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(format!("{folder}/app")).unwrap();
    let control = UnixListener::bind(format!("{folder}/control")).unwrap();
    let _datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let _unconnected =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
    let _pair = UnixStream::pair().unwrap();
    println!("port={}", tcp.local_addr().unwrap().port());
    let (read, unread) = (tcp.accept().unwrap().0, tcp.accept().unwrap().0);
    let accepted = (unix.accept().unwrap().0, control.accept().unwrap().0);
    let _copy = read.try_clone().unwrap();
    (&read).read_exact(&mut [0; 4]).unwrap();
    println!("ready");
    common::wait_readable(&unread);
    let forever = oxherd_os::reexec::inherit(3).unwrap();
    common::wait_readable(&forever);
    drop((accepted, read));
}

#[test]
fn connections_outlive_a_killed_process() {
    let mut host = Host::new(HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() }).unwrap();
    let folder = Folder::new();
    let path = |name| folder.path().join(name);
    let mut spec = helper("helper_that_has_connections");
    spec.env.push(("FOLDER".into(), folder.path().into()));
    (spec.stdout, spec.channel) = (Output::Pipe, true);
    let mut spawned = host.spawn(&spec).unwrap();
    let output = spawned.stdout.take().unwrap();
    let hear =
        |what: &str| std::iter::repeat_with(|| read_line(&output)).find(|line| line.contains(what)).unwrap();
    let port: u16 = hear("port=").rsplit('=').next().unwrap().parse().unwrap();
    let [mut read, mut unread] = [(); 2].map(|()| TcpStream::connect(("127.0.0.1", port)).unwrap());
    read.write_all(b"half of it").unwrap();
    unread.write_all(b"whole").unwrap();
    let mut client = UnixStream::connect(path("app")).unwrap();
    let _control = UnixStream::connect(path("control")).unwrap();
    hear("ready");

    let mut watch = match ExitWatch::seize(spawned.child.pid, &spawned.child) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            println!("skipped: tracing is not allowed here: {error}");
            host.kill_tree(&spawned.child).unwrap();
            common::exit_of(&mut host, &mut spawned.child);
            return;
        }
        watch => watch.unwrap(),
    };
    host.signal(&spawned.child, libc::SIGKILL).unwrap();
    eventually("the exit", || (watch.poll().unwrap() == Watched::AtExit).then_some(()));
    let taken = rescue::connections_of(spawned.child.pid, &spawned.child, &[path("control")]);
    let excepted = rescue::connections_at(spawned.child.pid, &spawned.child, &[path("control")]);
    let inodes = proc::socket_inodes_of(spawned.child.pid).unwrap();
    watch.release().unwrap();
    common::exit_of(&mut host, &mut spawned.child);
    let connections = match taken {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return println!("skipped: pidfd_getfd is not allowed here: {error}");
        }
        taken => taken.unwrap(),
    };
    assert!(
        matches!(&excepted.unwrap()[..], [one] if local_addr(one).unwrap() == LocalAddr::Unix(path("control")))
    );
    assert_eq!(connections.len(), 3, "{:?}", connections.iter().map(local_addr).collect::<Vec<_>>());
    let cloexec = |fd: &OwnedFd| rustix::io::fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC);
    assert!(connections.iter().all(cloexec));
    assert!(connections.iter().all(|fd| inodes.contains(&inode(fd).unwrap())));

    let mut seen = Vec::new();
    for connection in connections {
        let state = stream_state(&connection).unwrap();
        seen.push(match (local_addr(&connection).unwrap(), state) {
            (LocalAddr::Unix(bound), StreamState::Other { unread: 0 }) if bound == path("app") => {
                answer(connection, &mut client);
                "unix"
            }
            (LocalAddr::Inet(_), StreamState::Tcp(state)) if state.is_untouched() => {
                assert_eq!((state.bytes_received, state.unread), (5, 5));
                answer(connection, &mut unread);
                "untouched"
            }
            (LocalAddr::Inet(_), StreamState::Tcp(state)) => {
                let expected = TcpState { established: true, bytes_received: 10, bytes_sent: 0, unread: 6 };
                assert_eq!(state, expected);
                answer(connection, &mut read);
                "read"
            }
            other => panic!("{other:?}"),
        });
    }
    seen.sort_unstable();
    assert_eq!(seen, ["read", "unix", "untouched"]);
}

/// As the next holder of the connection would.
fn answer(connection: OwnedFd, client: &mut impl Read) {
    std::fs::File::from(connection).write_all(b"answered").unwrap();
    let mut text = [0; 8];
    client.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"answered");
}

#[test]
fn the_state_of_a_connection_follows_the_talk() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut server = listener.accept().unwrap().0;
    let now = |server: &TcpStream| match stream_state(server).unwrap() {
        StreamState::Tcp(state) => state,
        StreamState::Other { .. } => panic!("it is TCP"),
    };
    let becomes = |server: &TcpStream, established, bytes_received, bytes_sent, unread| {
        let wanted = TcpState { established, bytes_received, bytes_sent, unread };
        eventually(&format!("{wanted:?}, is {:?}", now(server)), || (now(server) == wanted).then_some(()));
        now(server)
    };
    assert!(becomes(&server, true, 0, 0, 0).is_untouched());
    client.write_all(b"request").unwrap();
    assert!(becomes(&server, true, 7, 0, 7).is_untouched());
    server.read_exact(&mut [0; 3]).unwrap();
    assert!(!becomes(&server, true, 7, 0, 4).is_untouched());
    server.write_all(b"answer").unwrap();
    becomes(&server, true, 7, 6, 4);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    common::wait_for(&server, rustix::event::PollFlags::RDHUP);
    assert_eq!(becomes(&server, true, 7, 6, 4), now(&server), "the client's end is no byte");
    server.read_exact(&mut [0; 4]).unwrap();
    assert_eq!(server.read(&mut [0; 4]).unwrap(), 0);
    becomes(&server, true, 7, 6, 0);
    server.shutdown(std::net::Shutdown::Write).unwrap();
    eventually("the end", || (!now(&server).established).then_some(()));
}

#[test]
fn sockets_have_numbers_and_other_files_have_none() {
    let (one, other) = UnixStream::pair().unwrap();
    let numbers = [&one, &other].map(|socket| inode(socket).unwrap());
    assert_eq!(inode(one.try_clone().unwrap()).unwrap(), numbers[0]);
    let own = proc::socket_inodes_of(std::process::id()).unwrap();
    assert!(numbers[0] != numbers[1] && numbers.iter().all(|number| own.contains(number)));
    drop(one);
    // A process that a parallel test is starting has copies, but not this one.
    assert!(!proc::socket_inodes_of(std::process::id()).unwrap().contains(&numbers[0]));
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(oxherd_os::io_errno(&inode(&file).unwrap_err()), libc::ENOTSOCK);
    assert_eq!(oxherd_os::io_errno(&stream_state(&file).unwrap_err()), libc::ENOTSOCK);
    assert!(proc::socket_inodes_of(u32::MAX).is_err());
}
