//! Programs that do what none should: the primary neither waits, nor leaks, nor falls.

use oxherd_core::Event;

use super::borrowers::{Pasture, SERVE};
use super::harness::{in_own_process, open_fds};
use crate::traffic::Order;

fn is_listening(event: &Event) -> bool {
    matches!(event, Event::Listening { .. })
}

/// What is there before anything is lent.
fn settled_fds(pasture: &mut Pasture) -> usize {
    pasture.herd.settle();
    open_fds()
}

/// Runs a script in as many processes to its end, beside a worker that serves on, and looks for leaks.
fn goes_on_beside(script: &str, times: usize) {
    let mut pasture = Pasture::new();
    let worker = pasture.worker(0);
    for round in 0..times {
        let before = settled_fds(&mut pasture);
        let mut bad = pasture.spawn(1, script);
        pasture.bury(&mut bad);
        drop(bad);
        pasture.herd.order(Order::RetireSlot(super::harness::APP, oxherd_core::Slot(1)));
        let after = settled_fds(&mut pasture);
        assert!(after <= before || round == 0, "{before} descriptors, then {after}");
        assert_eq!(pasture.answers(2), [worker.child.pid; 2]);
    }
    assert_eq!(pasture.herd.count_facts(is_listening).min(1), 1);
}

#[test]
fn ten_thousand_binds_take_nothing() {
    if !in_own_process() {
        return;
    }
    let script = "
for port in range(10000):
    s = socket.socket()
    try:
        s.bind((HOST, 10000 + port))
        if port % 8 == 0: s.listen(1)
    except OSError:
        pass
    s.close()";
    goes_on_beside(script, 2);
}

#[test]
fn listeners_that_are_closed_again_are_given_back() {
    let mut pasture = Pasture::new();
    let script = "
kept = socket.socket(); kept.bind((HOST, 9000)); kept.listen(1)
for port in range(1000):
    s = socket.socket()
    s.bind((HOST, 10000 + port))
    s.listen(1)
    s.close()
os._exit(7)";
    let mut worker = pasture.spawn(0, script);
    pasture.bury(&mut worker);
    assert_eq!(worker.child.exit(), Some(oxherd_os::ExitStatus::Code(7)), "none of its calls failed");
}

#[test]
fn those_that_die_between_their_calls_leave_nothing() {
    if !in_own_process() {
        return;
    }
    let script = "
bound()
if os.fork() == 0:
    os.kill(os.getppid(), 9)
    os._exit(0)
time.sleep(60)";
    goes_on_beside(script, 5);
}

#[test]
fn nonsense_is_for_the_kernel_to_judge() {
    if !in_own_process() {
        return;
    }
    let script = "
c = ctypes.CDLL(None, use_errno=True)
s = socket.socket()
for pointer, length in [(1, 16), (0, 16), (1, 0), (2**63, 16), (1, 2**31 - 1), (1, 4294967295)]:
    assert c.bind(s.fileno(), ctypes.c_void_p(pointer), ctypes.c_uint(length)) == -1
for fd in [-1, 0, 999, 2**31 - 1]:
    assert c.listen(fd, 5) == -1 and c.shutdown(fd, 2) == -1
    assert c.bind(fd, b'\\x02\\0\\x1f\\x90\\x7f\\0\\0\\1' + bytes(8), 16) == -1
s = socket.socket()
s.listen(-5)
assert s.getsockname()[1] != 0
u = socket.socket(socket.AF_UNIX); u.bind('\\0oxherd-' + str(os.getpid())); u.listen(1)
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).bind((0, 0))
t = socket.socket(); t.bind((HOST, 0))";
    let mut pasture = Pasture::new();
    let worker = pasture.worker(0);
    let mut bad = pasture.spawn(1, script);
    pasture.bury(&mut bad);
    assert_eq!(bad.child.exit(), Some(oxherd_os::ExitStatus::Code(0)));
    assert_eq!(pasture.answers(2), [worker.child.pid; 2]);
    goes_on_beside(script, 3);
}

#[test]
fn racing_the_address_and_being_interrupted_gain_nothing() {
    if !in_own_process() {
        return;
    }
    let script = "
c = ctypes.CDLL(None, use_errno=True)
address = ctypes.create_string_buffer(b'\\x02\\0' + PORT.to_bytes(2, 'big') + socket.inet_aton(HOST) + bytes(8), 16)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
def race():
    while True:
        address[2] = b'\\x1f'; address[2] = b'\\x20'
for _ in range(2): threading.Thread(target=race, daemon=True).start()
for _ in range(300):
    s = socket.socket()
    c.bind(s.fileno(), address, 16)
    c.listen(s.fileno(), 4)
    s.close()
os._exit(0)";
    goes_on_beside(script, 3);
}

#[test]
fn a_worker_that_forks_and_goes_leaves_its_children_to_be_swept() {
    let mut pasture = Pasture::new();
    let script = "
s = listener()
if os.fork() == 0:
    time.sleep(0.2)
    socket.socket().bind((HOST, PORT + 1))
    time.sleep(60)
os._exit(0)";
    let mut gone = pasture.spawn(0, script);
    pasture.bury(&mut gone);
    let worker = pasture.spawn(0, SERVE);
    pasture.until_listening(&worker);
    drop(oxherd_os::host::kill_labelled(gone.child.label()));
}
