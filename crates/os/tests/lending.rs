//! Trapped calls of real programs: what they pass, what they are answered, and what they cannot do to the Host.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use common::{exit_of, program, read_line, wait_readable};
use oxherd_os::lending::{
    Answer, Call, Trapped, Traps, address_of, carry_options, descriptor_of, is_watched, socket_of,
};
use oxherd_os::socket::{self, LocalAddr};
use oxherd_os::{CgroupChoice, Child, ExitStatus, Host, HostOptions, Lending, Output, SpawnSpec};

/// A program whose calls are trapped.
struct Lent {
    host: Host,
    child: Child,
    traps: Traps,
    stdout: OwnedFd,
}

impl Lent {
    fn start(mut spec: SpawnSpec) -> Self {
        let mut host =
            Host::new(HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() }).unwrap();
        (spec.lend, spec.stdout) = (true, Output::Pipe);
        let spawned = host.spawn(&spec).unwrap();
        let traps = match spawned.lending {
            Lending::On(fd) => Traps::of(fd),
            other => panic!("{other:?}"),
        };
        Self { host, child: spawned.child, traps, stdout: spawned.stdout.unwrap() }
    }

    /// A Python script, which finds `socket`, `os` and `sys` imported.
    fn python(script: &str) -> Self {
        Self::start(program("python3", &["-uc", &format!("import os, socket, sys, threading\n{script}")]))
    }

    /// The next call, waited for.
    fn next(&self) -> Trapped {
        loop {
            wait_readable(&self.traps);
            if let Some(trapped) = self.traps.receive().unwrap() {
                return trapped;
            }
        }
    }

    fn line(&self) -> String {
        read_line(&self.stdout)
    }

    fn exit(&mut self) -> ExitStatus {
        exit_of(&mut self.host, &mut self.child)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        drop(self.host.kill_tree(&self.child));
    }
}

fn inet(text: &str) -> LocalAddr {
    LocalAddr::Inet(text.parse().unwrap())
}

#[test]
fn calls_come_with_their_arguments_and_are_answered() {
    let mut lent = Lent::python(
        "s = socket.socket()
s.bind(('127.0.0.1', 80))
s.listen(77)
s.shutdown(socket.SHUT_RDWR)
s.shutdown(socket.SHUT_RD)
print('lived')",
    );
    let bind = lent.next();
    assert_eq!(address_of(&bind).unwrap(), inet("127.0.0.1:80"));
    assert!(lent.traps.is_pending(bind.id) && bind.thread == lent.child.pid);
    lent.traps.answer(bind.id, Answer::Done).unwrap();
    let listen = lent.next();
    assert!(matches!(listen.call, Call::Listen { backlog: 77, .. }), "{listen:?}");
    assert_eq!(listen.id, bind.id.wrapping_add(1), "ids are consecutive");
    assert!(!lent.traps.is_pending(bind.id));
    lent.traps.answer(listen.id, Answer::Done).unwrap();
    for _how in 0..2 {
        let shutdown = lent.next();
        assert_eq!(shutdown.call, Call::Shutdown { fd: bind.call.fd() });
        lent.traps.answer(shutdown.id, Answer::Done).unwrap();
    }
    assert_eq!(lent.line(), "lived");
    assert_eq!(lent.exit(), ExitStatus::Code(0));
}

#[test]
fn another_socket_takes_the_place_of_the_programs_own() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut lent = Lent::python(
        "s = socket.socket()
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
s.bind(('127.0.0.1', 1))
s.listen()
print(os.get_inheritable(s.fileno()), s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
c, _ = s.accept()
c.sendall(b'served')",
    );
    let bind = lent.next();
    let own = socket_of(&bind).unwrap();
    let inode = socket::inode(&own).unwrap();
    let descriptor = descriptor_of(bind.thread, bind.call.fd()).unwrap();
    assert!(descriptor.close_on_exec && !descriptor.nonblocking);
    assert!(!is_watched(bind.thread, bind.call.fd()).unwrap());
    carry_options(&own, &listener);
    lent.traps.put(bind.id, &listener, bind.call.fd(), descriptor.close_on_exec).unwrap();
    lent.traps.answer(bind.id, Answer::Done).unwrap();
    let listen = lent.next();
    let lent_socket = socket_of(&listen).unwrap();
    assert_eq!(socket::inode(&lent_socket).unwrap(), socket::inode(&listener).unwrap());
    assert_ne!(socket::inode(&lent_socket).unwrap(), inode);
    lent.traps.answer(listen.id, Answer::Done).unwrap();
    assert_eq!(lent.line(), "False 1");
    let mut client = TcpStream::connect(address).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "served");
    assert_eq!(lent.exit(), ExitStatus::Code(0));
}

#[test]
fn a_call_goes_on_or_fails_as_it_is_told() {
    let mut lent = Lent::python(
        "s = socket.socket()
for address in [('127.0.0.1', 0), ('127.0.0.1', 1)]:
    try:
        s.bind(address)
        print(s.getsockname()[1])
    except OSError as error:
        print(error.errno)",
    );
    lent.traps.answer(lent.next().id, Answer::Continue).unwrap();
    let port: u16 = lent.line().parse().unwrap();
    assert_ne!(port, 0);
    lent.traps.answer(lent.next().id, Answer::Failed(libc::EADDRINUSE)).unwrap();
    assert_eq!(lent.line(), libc::EADDRINUSE.to_string());
    assert_eq!(lent.exit(), ExitStatus::Code(0));
}
