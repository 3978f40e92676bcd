//! Frames towards a worker that hardly reads: whole, in order, each descriptor once, and no spinning.

use std::io::Read;
use std::os::unix::net::UnixStream;

use oxherd_wire::Serialization;

use super::harness::{Herd, client, clients, newconn_seq};
use crate::traffic::channel::{Outgoing, Sent};
use crate::traffic::{Order, READ_BYTES};

fn tiny_pair() -> (UnixStream, UnixStream) {
    let (primary, worker) = UnixStream::pair().unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&primary, 4608).unwrap();
    (primary, worker)
}

#[test]
fn frames_stay_whole_and_descriptors_single() {
    let mut herd = Herd::without_recall();
    herd.spec.handoff_window = 64;
    let (primary, worker) = tiny_pair();
    let mut slow = herd.attach_with(0, primary, worker);
    let address = slow.listen(&mut herd, 0);
    herd.order(Order::Admit(slow.place.instance));
    let mut chatty = herd.attach(1);
    let id = slow.place.instance.worker_id();
    let mut clients = Vec::new();
    for round in 0..40 {
        clients.push(client(address, round));
        let text = "x".repeat(1 + 700 * round as usize);
        chatty.say(&format!(r#"{{"targetWorker":{id},"fromWorker":9,"n":{round},"text":"{text}"}}"#));
        assert!(herd.settle() < 50);
    }
    let (mut names, mut messages) = (Vec::new(), Vec::new());
    herd.until("all came", |_| {
        while let Some(line) = slow.hear() {
            assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
            if newconn_seq(&line).is_some() {
                let connection = slow.fds.pop_front().expect("its descriptor came with it");
                names.push(super::harness::name_of(&connection.into()));
                slow.say(r#"{"cmd":"NODE_HANDLE_ACK"}"#);
            } else {
                messages.push(super::harness::number_after(&line, r#""n":"#).unwrap());
            }
        }
        (names.len() + messages.len() == 80).then_some(())
    });
    assert_eq!(names, (0..40).collect::<Vec<_>>());
    assert_eq!(messages, (0..40).collect::<Vec<_>>());
    assert!(slow.fds.is_empty());
}

#[test]
fn a_frame_that_may_be_cut_holds_the_next_one_without_spinning() {
    let mut herd = Herd::without_recall();
    let (mut worker, address) = herd.worker(0);
    let mut chatty = herd.attach(1);
    let id = worker.place.instance.worker_id();
    let text = "x".repeat(66_000);
    chatty.say(&format!(r#"{{"targetWorker":{id},"fromWorker":9,"text":"{text}"}}"#));
    herd.settle();
    let _clients = clients(address, 0..2);
    herd.settle();
    assert!(worker.hear().unwrap().contains("xxx"));
    let first = worker.take().unwrap();
    assert!(worker.hear().is_none(), "the second waits for the acknowledgement of the first");
    herd.settle();
    assert_eq!(worker.take().expect("and comes with it, before the answer").name(), 1);
    worker.answer(&first, true);
    // A socket behind a held frame waits without keeping the poller busy.
    chatty.say(&format!(r#"{{"targetWorker":{id},"fromWorker":9,"text":"{text}"}}"#));
    herd.settle();
    let _third = client(address, 2);
    herd.settle();
    worker.query(r#""index":0,"data":null,"address":"127.0.0.1","port":0,"addressType":"udp4","fd":-1"#);
    assert!(herd.settle() < 20);
    assert!(herd.settle() < 20);
    assert!(worker.hear().unwrap().contains("xxx"));
    let _third = worker.take().unwrap();
    assert!(worker.hear().is_none());
    herd.settle();
    assert!(worker.hear().unwrap().contains("dgram.Native"));
    assert_eq!(worker.fds.len(), 1);
}

#[test]
fn messages_are_dropped_and_told_when_too_much_waits() {
    let mut herd = Herd::new();
    let (mut deaf, _) = herd.worker(0);
    let mut chatty = herd.attach(1);
    chatty.end.as_ref().unwrap().set_nonblocking(false).unwrap();
    let id = deaf.place.instance.worker_id();
    let text = "x".repeat(100_000);
    for n in 0..400 {
        chatty.say(&format!(r#"{{"targetWorker":{id},"fromWorker":9,"n":{n},"text":"{text}"}}"#));
        herd.settle();
    }
    let mut heard = 0;
    let count = herd.until("it reads", |herd| {
        heard += deaf.hear_all().len() as u64;
        herd.told.iter().find_map(|news| match news {
            crate::traffic::News::Alert(crate::Alert::MessagesDropped { count, .. }) => Some(*count),
            _ => None,
        })
    });
    heard += deaf.hear_all().len() as u64;
    assert!(count > 100);
    assert_eq!(heard + count, 400);
}

#[test]
fn the_end_of_a_channel_is_an_end_whatever_waits() {
    let mut herd = Herd::without_recall();
    let (mut worker, _) = herd.worker(0);
    let mut chatty = herd.attach(1);
    let id = worker.place.instance.worker_id();
    chatty.end.as_ref().unwrap().set_nonblocking(false).unwrap();
    for _ in 0..20 {
        let text = "x".repeat(60_000);
        chatty.say(&format!(r#"{{"targetWorker":{id},"text":"{text}"}}"#));
        herd.settle();
    }
    worker.end.take().unwrap().read_exact(&mut [0; 10]).unwrap();
    herd.settle();
    assert!(herd.fact(|event| matches!(event, oxherd_core::Event::ChannelClosed { .. })));
    assert!(herd.settle() < 5);
}

#[test]
fn what_gathered_frames_wait_for_is_told_with_the_one_that_comes_behind() {
    let (primary, worker) = UnixStream::pair().unwrap();
    let mut out = Outgoing::new(primary.into(), Serialization::Advanced);
    out.watch_reader(&worker.into());
    let frame = |len: usize| [&(len as u32 - 4).to_be_bytes()[..], &vec![0; len - 4]].concat();
    // The next frame's length would lie across the end of a read.
    let mut left = READ_BYTES - 2;
    while left > 0 {
        let len = left.min(1000);
        assert_eq!(out.send_frames(&frame(len)), Sent::Whole);
        left -= len;
    }
    assert_eq!(out.gather(&frame(10_000)), None);
    assert_eq!(out.gather(&frame(10_000)), Some(Sent::Starved));
    assert_eq!(out.gather(&frame(10)), Some(Sent::Queued));
}
