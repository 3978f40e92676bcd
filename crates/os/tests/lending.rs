//! Trapped calls of real programs: what they pass, what they are answered, and what they cannot do to the Host.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use common::{
    Folder, am_helper, eventually, exit_of, helper, is_readable, open_fds, program, read_line, wait_for,
    wait_readable,
};
use oxherd_os::foreign;
use oxherd_os::lending::{
    Answer, Call, Trapped, Traps, address_of, carry_options, descriptor_of, is_watched, pending_of, socket_of,
};
use oxherd_os::proc::socket_inodes_of;
use oxherd_os::socket::{self, LocalAddr};
use oxherd_os::{CgroupChoice, Child, ExitStatus, Host, HostOptions, Lending, Output, SpawnSpec};
use rustix::event::PollFlags;

/// With it a filter needs no `no_new_privs`.
const CAP_SYS_ADMIN: u32 = 21;

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

    /// A Python script, which finds what it needs imported, and the C library as `c`.
    fn python(script: &str) -> Self {
        let before = "import ctypes, os, select, socket, threading\nc = ctypes.CDLL(None, use_errno=True)";
        Self::start(program("python3", &["-uc", &format!("{before}\n{script}")]))
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

#[test]
fn addresses_of_all_families() {
    let folder = Folder::new();
    let path = folder.path().join("socket");
    let lent = Lent::python(&format!(
        "def bind(family, address, kind=socket.SOCK_STREAM):
    try:
        socket.socket(family, kind).bind(address)
    except OSError:
        pass
bind(socket.AF_INET6, ('::1', 443, 0, 7))
bind(socket.AF_INET, ('0.0.0.0', 53), socket.SOCK_DGRAM)
bind(socket.AF_UNIX, {path:?})
bind(socket.AF_UNIX, b'\\0name')
bind(socket.AF_NETLINK, (0, 0), socket.SOCK_RAW)
print('through')"
    ));
    let expected = [
        inet("[::1%7]:443"),
        inet("0.0.0.0:53"),
        LocalAddr::Unix(path.clone()),
        LocalAddr::Abstract(b"name".into()),
    ];
    for address in expected {
        let bind = lent.next();
        assert_eq!(address_of(&bind).unwrap(), address);
        lent.traps.answer(bind.id, Answer::Done).unwrap();
    }
    let netlink = lent.next();
    assert_eq!(address_of(&netlink).unwrap_err().kind(), ErrorKind::Unsupported);
    lent.traps.answer(netlink.id, Answer::Continue).unwrap();
    assert_eq!(lent.line(), "through");
    assert!(!path.exists(), "nothing was bound");
}

#[test]
fn nonsense_is_left_to_the_kernel() {
    let lent = Lent::python(
        "s = socket.socket()
page = c.mmap
page.restype = ctypes.c_void_p
end = page(None, 4096, 3, 0x22, -1, ctypes.c_long(0)) + 4096
c.munmap(ctypes.c_void_p(end), ctypes.c_size_t(4096))
for address, length in [(16, 16), (end - 4, 16), (end - 16, 1 << 31), (end - 16, 129), (end - 16, 1)]:
    print(c.bind(s.fileno(), ctypes.c_void_p(address), ctypes.c_uint(length)), ctypes.get_errno())
print(c.bind(999, ctypes.c_void_p(end - 16), 16), ctypes.get_errno())",
    );
    for errno in [libc::EFAULT, libc::EFAULT, libc::EINVAL, libc::EINVAL, libc::EINVAL] {
        let bind = lent.next();
        assert_eq!(address_of(&bind).unwrap_err().kind(), ErrorKind::InvalidInput, "{bind:?}");
        lent.traps.answer(bind.id, Answer::Continue).unwrap();
        assert_eq!(lent.line(), format!("-1 {errno}"));
    }
    let bind = lent.next();
    assert_eq!(socket_of(&bind).unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert_eq!(descriptor_of(bind.thread, 999).unwrap_err().kind(), ErrorKind::NotFound);
    lent.traps.answer(bind.id, Answer::Continue).unwrap();
    assert_eq!(lent.line(), format!("-1 {}", libc::EBADF));
}

#[test]
fn what_was_read_once_is_what_is_bound() {
    let lent = Lent::python(
        "import itertools
address = (ctypes.c_ubyte * 16)(2, 0, 0, 0, 127, 0, 0, 1)
def race():
    for turn in itertools.cycle([1, 2]):
        address[7] = turn
threading.Thread(target=race, daemon=True).start()
for _ in range(200):
    s = socket.socket()
    c.bind(s.fileno(), address, 16)
    print(*s.getsockname())",
    );
    for _bind in 0..200 {
        let bind = lent.next();
        let (LocalAddr::Inet(address), own) = (address_of(&bind).unwrap(), socket_of(&bind).unwrap()) else {
            panic!("an address of IPv4");
        };
        assert!(lent.traps.is_pending(bind.id));
        foreign::share_port(&own).unwrap();
        foreign::bind_to(&own, address).unwrap();
        let LocalAddr::Inet(bound) = socket::local_addr(&own).unwrap() else { panic!("it is bound") };
        lent.traps.answer(bind.id, Answer::Done).unwrap();
        assert_eq!(address.ip(), bound.ip());
        assert_eq!(lent.line(), format!("{} {}", bound.ip(), bound.port()));
    }
}

#[test]
fn ten_thousand_binds_leave_nothing_behind() {
    let mut lent = Lent::python(
        "s = socket.socket()
for _ in range(10000):
    try:
        s.bind(('127.0.0.1', 1))
    except OSError:
        pass",
    );
    let mut inodes = std::collections::BTreeSet::new();
    for _bind in 0..10_000 {
        let bind = lent.next();
        assert_eq!(address_of(&bind).unwrap(), inet("127.0.0.1:1"));
        let own = socket_of(&bind).unwrap();
        inodes.insert(socket::inode(&own).unwrap());
        lent.traps.answer(bind.id, Answer::Failed(libc::EADDRINUSE)).unwrap();
    }
    assert_eq!(lent.exit(), ExitStatus::Code(0));
    assert_eq!(inodes.len(), 1);
    assert!(socket_inodes_of(std::process::id()).unwrap().is_disjoint(&inodes), "a duplicate was left open");
    assert!(!is_readable(&lent.traps) || lent.traps.receive().unwrap().is_none());
}

#[test]
fn nobody_is_answered_who_is_gone() {
    let mut lent = Lent::python("socket.socket().bind(('127.0.0.1', 1))");
    let bind = lent.next();
    lent.host.signal(&lent.child, libc::SIGKILL).unwrap();
    assert_eq!(lent.exit(), ExitStatus::Signal { signal: libc::SIGKILL, core_dumped: false });
    assert!(!lent.traps.is_pending(bind.id));
    assert_eq!(lent.traps.answer(bind.id, Answer::Done).unwrap_err().kind(), ErrorKind::NotFound);
    let put = lent.traps.put(bind.id, &lent.stdout, bind.call.fd(), true);
    assert_eq!(put.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(address_of(&bind).is_err() && socket_of(&bind).is_err());
    wait_for(&lent.traps, PollFlags::empty());
    // The hang-up is there for a poller, whatever it is asked for.
    let poller = oxherd_os::Poller::new().unwrap();
    poller.add(&lent.traps, 7, oxherd_os::Interest::READ).unwrap();
    let mut events = oxherd_os::Events::with_capacity(1);
    assert_eq!(poller.wait(&mut events, Some(common::DEADLINE)).unwrap(), 1);
    assert!(events.iter().all(|event| event.hangup));
}

#[test]
fn a_call_whose_caller_ended_before_it_was_received_is_none() {
    let mut lent = Lent::python("socket.socket().bind(('127.0.0.1', 1))");
    wait_readable(&lent.traps);
    lent.host.signal(&lent.child, libc::SIGKILL).unwrap();
    lent.exit();
    assert_eq!(lent.traps.receive().unwrap(), None);
}

#[test]
fn a_polite_signal_waits_for_the_answer() {
    let mut lent = Lent::python(
        "import signal
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'told\\n'))
try:
    c.bind(0, 0, 0)
    print(ctypes.get_errno())
finally:
    os._exit(3)",
    );
    let bind = lent.next();
    lent.host.signal(&lent.child, libc::SIGTERM).unwrap();
    assert!(lent.traps.is_pending(bind.id));
    lent.traps.answer(bind.id, Answer::Failed(libc::EINTR)).unwrap();
    assert_eq!(lent.line(), "told");
    assert_eq!(lent.line(), libc::EINTR.to_string());
    assert_eq!(lent.exit(), ExitStatus::Code(3));
}

#[test]
fn who_is_stopped_is_lent_a_socket_all_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut lent = Lent::python("s = socket.socket()\ns.bind(('127.0.0.1', 1))\nprint(s.getsockname()[1])");
    let bind = lent.next();
    lent.host.signal(&lent.child, libc::SIGSTOP).unwrap();
    match lent.traps.put(bind.id, &listener, bind.call.fd(), true) {
        Ok(()) => lent.traps.answer(bind.id, Answer::Done).unwrap(),
        // Before Linux 5.19 the signal breaks the call off.
        Err(error) => return assert_eq!(error.kind(), ErrorKind::NotFound),
    }
    lent.host.signal(&lent.child, libc::SIGCONT).unwrap();
    assert_eq!(lent.line(), listener.local_addr().unwrap().port().to_string());
    assert_eq!(lent.exit(), ExitStatus::Code(0));
}

#[test]
fn threads_and_descendants_are_trapped_too() {
    let mut lent = Lent::python(
        "def bind(port):
    s = socket.socket()
    s.bind(('127.0.0.1', port))
    print(port)
waiting = threading.Thread(target=bind, args=[1])
waiting.start()
child = os.fork()
if child == 0:
    bind(2)
    os._exit(0)
waiting.join()
os.waitpid(child, 0)",
    );
    let mut calls = [lent.next(), lent.next()].map(|bind| (address_of(&bind).unwrap(), bind));
    calls.sort_by_key(|(address, _)| format!("{address:?}"));
    let [(_, thread), (_, descendant)] = calls;
    assert!(thread.thread != lent.child.pid && descendant.thread != lent.child.pid);
    for bind in [descendant, thread] {
        assert_eq!(socket::local_addr(socket_of(&bind).unwrap()).unwrap(), inet("0.0.0.0:0"));
        assert!(descriptor_of(bind.thread, bind.call.fd()).unwrap().close_on_exec);
        lent.traps.answer(bind.id, Answer::Done).unwrap();
        assert_eq!(lent.line(), if bind == thread { "1" } else { "2" });
    }
    assert_eq!(lent.exit(), ExitStatus::Code(0));
}

#[test]
fn a_thread_is_looked_into_though_its_process_has_lost_the_first() {
    let lent = Lent::python(
        "def bind():
    while open('/proc/self/stat').read().rsplit(')', 1)[1].split()[0] != 'Z':
        pass
    socket.socket().bind(('127.0.0.1', 1))
    os._exit(0)
threading.Thread(target=bind).start()
c.syscall({}, 0)"
            .replace("{}", &libc::SYS_exit.to_string())
            .as_str(),
    );
    let bind = lent.next();
    assert_eq!(address_of(&bind).unwrap(), inet("127.0.0.1:1"));
    assert_eq!(socket::local_addr(socket_of(&bind).unwrap()).unwrap(), inet("0.0.0.0:0"));
    assert!(!is_watched(bind.thread, bind.call.fd()).unwrap());
    lent.traps.answer(bind.id, Answer::Done).unwrap();
}

#[test]
fn a_socket_in_an_epoll_set_is_known() {
    let lent = Lent::python(
        "watched, copied, other = socket.socket(), socket.socket(), socket.socket()
set = select.epoll()
for s in [watched, copied.dup()]:
    set.register(s.fileno())
for s in [watched, copied, other]:
    s.bind(('127.0.0.1', 1))",
    );
    for is_in in [true, true, false] {
        let bind = lent.next();
        assert_eq!(is_watched(bind.thread, bind.call.fd()).unwrap(), is_in, "{bind:?}");
        lent.traps.answer(bind.id, Answer::Done).unwrap();
    }
}

#[test]
fn the_writing_side_is_shut_down_without_asking() {
    let mut lent = Lent::python("socket.socketpair()[0].shutdown(socket.SHUT_WR)\nprint('done')");
    assert_eq!(lent.line(), "done");
    assert_eq!(lent.exit(), ExitStatus::Code(0));
}

#[test]
fn a_call_that_was_received_and_forgotten_is_found_again() {
    let lent = Lent::python(
        "def bind(port):
    socket.socket().bind(('127.0.0.1', port))
bind(1)
bind(2)
threads = [threading.Thread(target=bind, args=[port]) for port in (3, 4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]",
    );
    let pids = [lent.child.pid];
    let known = lent.next();
    assert_eq!(pending_of(&lent.traps, known.id, &pids).unwrap(), None, "it is recorded");
    lent.traps.answer(known.id, Answer::Done).unwrap();
    let forgotten = lent.next();
    assert_eq!(pending_of(&lent.traps, known.id, &pids).unwrap(), Some(forgotten));
    assert_eq!(pending_of(&lent.traps, known.id, &[std::process::id()]).unwrap(), None, "not theirs");
    assert_eq!(pending_of(&lent.traps, forgotten.id, &pids).unwrap(), None);
    assert_eq!(pending_of(&lent.traps, known.id, &[u32::MAX >> 4]).unwrap(), None, "gone");
    lent.traps.answer(forgotten.id, Answer::Done).unwrap();
    let both = [lent.next(), lent.next()];
    assert_eq!(pending_of(&lent.traps, known.id, &pids).unwrap(), None, "one of two");
    lent.traps.answer(both[0].id, Answer::Done).unwrap();
    let left = || pending_of(&lent.traps, known.id, &pids).unwrap();
    assert_eq!(eventually("the answered one has left the call", left), both[1]);
}

#[test]
fn nothing_of_the_host_gets_into_the_program() {
    let lent = Lent::start({
        let mut spec =
            program("python3", &["-uSEc", "import _socket\n_socket.socket().bind(('127.0.0.1', 1))"]);
        // Far fewer than the Host has open, should other tests run beside this one.
        spec.nofile_soft = Some(8);
        spec
    });
    let bind = lent.next();
    assert_eq!(open_fds(lent.child.pid), [0, 1, 2, 3]);
    assert_eq!(bind.call.fd(), 3);
    let beyond = lent.traps.put(bind.id, &lent.stdout, 8, false);
    assert_eq!(beyond.unwrap_err().raw_os_error(), Some(libc::EBADF));
    let status = std::fs::read_to_string(format!("/proc/{}/status", lent.child.pid)).unwrap();
    let mine = std::fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = mine.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    let may_do_without = u64::from_str_radix(capabilities, 16).unwrap() & 1 << CAP_SYS_ADMIN != 0;
    let no_new_privs = if may_do_without { "NoNewPrivs:\t0" } else { "NoNewPrivs:\t1" };
    assert!(status.contains(no_new_privs), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
}

#[test]
fn helper_within() {
    if !am_helper("helper_within") {
        return;
    }
    let mut spec = program("true", &[]);
    spec.lend = true;
    let mut host = Host::new(HostOptions::default()).unwrap();
    let mut spawned = host.spawn(&spec).unwrap();
    println!("{:?}", spawned.lending);
    assert_eq!(exit_of(&mut host, &mut spawned.child), ExitStatus::Code(0));
}

#[test]
fn within_another_supervisor_a_process_runs_without() {
    let mut lent = Lent::start(helper("helper_within"));
    let said = loop {
        let line = lent.line();
        if line.contains("Impossible") {
            break line;
        }
    };
    assert!(said.contains("trapped already") && said.contains("outside"), "{said}");
    assert_eq!(lent.exit(), ExitStatus::Code(0));
}

/// Runs a helper of this file in a container of sorts: a filter answers one system call with an error.
fn without(call: libc::c_long, errno: i32, name: &str) -> SpawnSpec {
    let script = format!(
        "import ctypes, os, struct, sys
c = ctypes.CDLL(None)
ops = [(0x20, 0, 0, 0), (0x15, 0, 1, {call}), (6, 0, 0, 0x50000 | {errno}), (6, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *op) for op in ops))
filter = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', len(ops), ctypes.addressof(code)))
assert c.prctl(38, 1, 0, 0, 0) == 0 and c.prctl(22, 2, filter) == 0
os.execv(sys.argv[1], sys.argv[1:])"
    );
    let inner = helper(name);
    let mut spec = program("python3", &["-c", &script]);
    spec.args.push(inner.program);
    spec.args.extend(inner.args);
    (spec.env, spec.stdout) = (inner.env, Output::Pipe);
    spec
}

#[test]
fn what_a_container_or_an_old_kernel_lacks_is_named() {
    let cases = [
        (libc::SYS_seccomp, libc::EPERM, "the container's filter forbids seccomp notifications"),
        (libc::SYS_seccomp, libc::ENOSYS, "this kernel knows no seccomp notifications"),
        (libc::SYS_pidfd_getfd, libc::EPERM, "pidfd_getfd is needed: the container's filter forbids it"),
        (libc::SYS_pidfd_getfd, libc::ENOSYS, "pidfd_getfd is needed: this kernel has none"),
        (libc::SYS_process_vm_readv, libc::EPERM, "process_vm_readv is needed: the container's"),
    ];
    for (call, errno, reason) in cases {
        let mut host =
            Host::new(HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() }).unwrap();
        let mut spawned = host.spawn(&without(call, errno, "helper_within")).unwrap();
        let said = common::read_all(spawned.stdout.take().unwrap());
        assert!(said.contains("Impossible(") && said.contains(reason), "{said}");
        assert_eq!(exit_of(&mut host, &mut spawned.child), ExitStatus::Code(0), "it runs without");
    }
}
