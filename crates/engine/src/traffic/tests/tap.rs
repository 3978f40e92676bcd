//! Messages of programs, heard by an embedder, sent by one, and with descriptors on them.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::harness::{Herd, Worker, is_advanced};
use crate::Alert;
use crate::link::Budget;
use crate::traffic::orders::{Delivery, News, Order, Parcel};

/// What was passed on: who, what, and whether a descriptor came with it.
fn passed_on(herd: &mut Herd) -> Vec<(u32, String, bool)> {
    let news = std::mem::take(&mut herd.told);
    let messages = news.into_iter().filter_map(|news| match news {
        News::Message(delivery) => Some(delivery),
        _ => None,
    });
    messages.map(taken).collect()
}

fn taken(delivery: Delivery) -> (u32, String, bool) {
    let raw = String::from_utf8(delivery.raw).unwrap();
    (delivery.place.slot.0, raw, delivery.attachment.is_some())
}

fn send(herd: &mut Herd, worker: &Worker, message: &str, attachment: Option<OwnedFd>) {
    let permit = Budget::default().take(Budget::cost(message.len(), attachment.is_some())).unwrap();
    let instance = worker.place.instance;
    herd.order(Order::Send(Parcel { instance, message: message.into(), attachment, permit }));
}

/// Two ends that are known to belong together by what goes through them.
fn are_connected(mut one: UnixStream, other: OwnedFd) {
    let mut other = UnixStream::from(other);
    other.set_nonblocking(false).unwrap();
    one.write_all(b"x").unwrap();
    let mut byte = [0];
    other.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[test]
fn every_message_is_heard_in_order_and_none_without_a_wish() {
    for (mut herd, heard) in [(Herd::tapped(), true), (Herd::new(), false)] {
        let mut worker = herd.attach(3);
        let messages = [r#"{"type":"ready"}"#, "7", r#"{"type":"stats","stats":{}}"#, r#""ready""#];
        messages.iter().for_each(|message| worker.say(message));
        worker.say(r#"{"cmd":"NODE_internal"}"#);
        herd.settle();
        let expected: Vec<_> = messages.iter().map(|it| (3, (*it).to_owned(), false)).collect();
        assert_eq!(passed_on(&mut herd), if heard { expected } else { Vec::new() });
    }
}

#[test]
fn a_descriptor_is_passed_on_and_acknowledged() {
    let mut herd = Herd::tapped();
    let mut worker = herd.attach(0);
    let (one, other) = UnixStream::pair().unwrap();
    let frame = worker.framed(r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"a":1}}"#);
    worker.send_fd(&frame, &other);
    herd.settle();
    assert_eq!(worker.hear_all(), [r#"{"cmd":"NODE_HANDLE_ACK"}"#]);
    let news = std::mem::take(&mut herd.told);
    let Some(News::Message(delivery)) = news.into_iter().next() else { panic!("no message") };
    assert_eq!(delivery.raw, br#"{"a":1}"#);
    are_connected(one, delivery.attachment.unwrap());
}

#[test]
fn an_embedder_sends_to_one_worker() {
    let mut herd = Herd::new();
    let (mut worker, mut other) = (herd.attach(0), herd.attach(1));
    send(&mut herd, &worker, "{\"a\":\n1}", None);
    let heard = if is_advanced() { "{\"a\":1}" } else { "{\"a\": 1}" };
    assert_eq!((worker.hear_all(), other.hear_all()), (vec![heard.to_owned()], vec![]));
    let (one, far) = UnixStream::pair().unwrap();
    send(&mut herd, &worker, "5", Some(far.into()));
    assert_eq!(worker.hear_all(), [r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":5}"#]);
    are_connected(one, worker.fds.pop_front().unwrap());
    worker.say(r#"{"cmd":"NODE_HANDLE_ACK"}"#);
    herd.settle();
    herd.bury(&mut worker);
    send(&mut herd, &worker, "6", None);
}

#[test]
fn a_descriptor_goes_along_from_worker_to_worker() {
    let mut herd = Herd::new();
    let (mut sender, mut receiver) = (herd.attach(0), herd.attach(1));
    let (one, other) = UnixStream::pair().unwrap();
    let id = receiver.place.instance.worker_id();
    let inner = format!(r#"{{"targetWorker":{id},"data":1}}"#);
    let frame = sender.framed(&format!(r#"{{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{inner}}}"#));
    sender.send_fd(&frame, other.as_fd());
    herd.settle();
    let from = sender.place.instance.worker_id();
    let line = receiver.hear().unwrap();
    assert!(line.contains("net.Socket") && line.contains(&format!(r#""fromWorker":{from}"#)), "{line}");
    are_connected(one, receiver.fds.pop_front().unwrap());
}

#[test]
fn a_refused_descriptor_is_told() {
    let mut herd = Herd::new();
    let mut worker = herd.attach(0);
    let (_one, far) = UnixStream::pair().unwrap();
    send(&mut herd, &worker, "5", Some(far.into()));
    worker.say(r#"{"cmd":"NODE_HANDLE_NACK"}"#);
    herd.settle();
    let dropped = |news: &News| matches!(news, News::Alert(Alert::MessagesDropped { count: 1, .. }));
    assert!(herd.told.iter().any(dropped));
}

#[test]
fn what_is_not_taken_is_lost_and_counted() {
    let mut herd = Herd::tapped();
    let mut worker = herd.attach(0);
    worker.end.as_ref().unwrap().set_nonblocking(true).unwrap();
    let long = format!("\"{}\"", "x".repeat(60 << 10));
    for _ in 0..400 {
        worker.say(&long);
        herd.settle();
    }
    // Told although there never is room again, and little of it.
    let told = lost(&herd);
    assert!((4..10).contains(&told.len()) && told.starts_with(&[1, 1, 2, 4]), "{told:?}");
    let kept = passed_on(&mut herd).len() as u64;
    assert!((200..400).contains(&kept), "{kept}");
    worker.say("1");
    herd.settle();
    assert_eq!(told.iter().chain(&lost(&herd)).sum::<u64>(), 400 - kept);
}

#[test]
fn what_is_lost_is_told_at_the_latest_when_the_worker_ends() {
    let mut herd = Herd::tapped();
    let mut worker = herd.attach(0);
    let long = format!("\"{}\"", "x".repeat(60 << 10));
    let kept = |herd: &Herd| herd.told.iter().filter(|news| matches!(news, News::Message(_))).count() as u64;
    let mut said = 0;
    while said - kept(&herd) < 7 {
        worker.say(&long);
        herd.settle();
        said += 1;
    }
    assert_eq!(lost(&herd), [1, 1, 2]);
    herd.bury(&mut worker);
    assert_eq!(lost(&herd), [1, 1, 2, 3]);
}

/// What was told to be lost.
fn lost(herd: &Herd) -> Vec<u64> {
    let alerts = herd.told.iter().filter_map(|news| match news {
        News::Alert(Alert::MessagesLost { count, .. }) => Some(*count),
        _ => None,
    });
    alerts.collect()
}
