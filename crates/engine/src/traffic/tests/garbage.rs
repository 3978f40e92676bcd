//! A worker that breaks the protocol is condemned, leaves nothing behind and harms nobody else.

use std::fs::File;
use std::os::unix::net::UnixStream;

use super::harness::{Herd, in_own_process, open_fds};

fn file() -> File {
    File::open("/dev/null").unwrap()
}

#[test]
fn lines_that_are_none() {
    for line in ["", "{", "undefined", "{\"cmd\":\"NODE_CLUSTER\",\"act\":\"close\"}", "\u{feff}1"] {
        let mut herd = Herd::new();
        let mut worker = herd.attach(0);
        worker.say(line);
        worker.say(r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#);
        herd.settle();
        assert!(herd.is_condemned(&worker), "{line:?}");
        assert_eq!(herd.told.len(), 1, "what follows does not count");
        assert!(herd.settle() < 5);
    }
}

#[test]
fn an_endless_line() {
    let mut herd = Herd::new();
    herd.spec.max_message = 1 << 20;
    let mut worker = herd.attach(0);
    for _ in 0..40 {
        if herd.is_condemned(&worker) {
            return;
        }
        worker.write(&[b'x'; 32 << 10]);
        herd.settle();
    }
    panic!("it goes on for ever");
}

#[test]
fn descriptors_leave_no_trace() {
    if !in_own_process() {
        return;
    }
    let before = open_fds();
    for case in 0..7 {
        let mut herd = Herd::new();
        let mut worker = herd.attach(0);
        match case {
            // A descriptor on half a frame, and then nothing or something else.
            0 => worker.send_fd(b"{\"cmd\":\"NODE_HANDLE\",\"type\"", file()),
            1 => {
                worker.send_fd(b"{\"cmd\":", file());
                herd.settle();
                worker.write(b"5}\n");
            }
            2 => worker.send_fd(b"{\"a\":1}\n", file()),
            3 => {
                worker.send_fd(b"{\"cmd\":\"NODE_HANDLE\"", file());
                worker.send_fd(b",\"type\"", file());
            }
            4 => send_two(worker.end.as_ref().unwrap()),
            5 => worker.send_fd(b"{\"cmd\":\"NODE_HANDLE\",\"type\":\"net.Socket\",\"msg\":1}\n", file()),
            _ => worker.send_fd(b"garbage\n", file()),
        }
        herd.settle();
        let is_fine = case == 0 || case == 5;
        assert_eq!(herd.is_condemned(&worker), !is_fine, "case {case}");
        herd.bury(&mut worker);
        drop((herd, worker));
        assert_eq!(open_fds(), before, "case {case}");
    }
}

fn send_two(end: &UnixStream) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::os::fd::AsFd;
    let (one, other) = (file(), file());
    let fds = [one.as_fd(), other.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let line = b"{\"cmd\":\"NODE_HANDLE\",\"type\":\"x\",\"msg\":1}\n";
    sendmsg(end, &[std::io::IoSlice::new(line)], &mut control, SendFlags::empty()).unwrap();
}

#[test]
fn a_sound_descriptor_is_acknowledged_once_even_if_sent_again() {
    let mut herd = Herd::new();
    let mut worker = herd.attach(0);
    let twice = br#"{"cmd":"NODE_HANDLE","type":"net.Native","msg":{"cmd":"NODE_HANDLE","type":"net.Socket","msg":"ready"}}"#;
    worker.send_fd(&[&twice[..], b"\n"].concat(), file());
    herd.settle();
    assert_eq!(worker.hear_all(), [r#"{"cmd":"NODE_HANDLE_ACK"}"#]);
    assert!(herd.fact(|event| matches!(event, oxherd_core::Event::Ready { .. })), "the message counts");
    worker.say(r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":1}"#);
    herd.settle();
    assert_eq!(worker.hear_all(), [r#"{"cmd":"NODE_HANDLE_NACK"}"#]);
}

#[test]
fn its_connections_go_to_others_when_it_is_dead() {
    let mut herd = Herd::new();
    let (mut bad, address) = herd.worker(0);
    let (mut good, _) = herd.worker(1);
    let _client = super::harness::client(address, 3);
    herd.settle();
    bad.say("garbage");
    herd.pass(1000);
    assert!(good.take().is_none(), "it may be serving it");
    herd.bury(&mut bad);
    assert_eq!(good.take().unwrap().name(), 3);
}
