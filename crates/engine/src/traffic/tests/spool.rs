//! A primary dies while half of a frame is written: its successor writes the other half.

use oxherd_core::{Event, Parting};
use oxherd_os::fdpass;

use super::harness::{Herd, Worker, client, in_own_process, newconn_seq, open_fds};
use super::keeper::{MemoryStash, succeed};
use crate::Alert;
use crate::traffic::{News, Order};

/// A worker that listens, and one that sends to it.
fn two_workers(herd: &mut Herd) -> (Worker, Worker, std::net::SocketAddr) {
    let (deaf, address) = herd.worker(0);
    let chatty = herd.attach(1);
    chatty.end.as_ref().unwrap().set_nonblocking(false).unwrap();
    (deaf, chatty, address)
}

/// Has `from` send a message of about so many bytes to `to`, as far as `to` can take it without reading.
fn send(herd: &mut Herd, from: &mut Worker, to: &Worker, name: u32, bytes: usize) {
    let id = to.place.instance.worker_id();
    let text = "x".repeat(bytes);
    let frame =
        from.framed(&format!(r#"{{"targetWorker":{id},"fromWorker":9,"name":{name},"text":"{text}"}}"#));
    for piece in frame.chunks(50_000) {
        from.write(piece);
        herd.settle();
    }
}

/// The name of the message that a line is, if it is one.
fn name_of(line: &str) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_str(line).expect("a frame is never cut");
    value["name"].as_u64()
}

/// The names of the messages that a worker has heard so far. Nothing else has come but what it ignores.
fn hear(worker: &mut Worker) -> Vec<u64> {
    let lines = worker.hear_all();
    assert!(lines.iter().all(|line| newconn_seq(line).is_none()), "a connection");
    lines.iter().filter_map(|line| name_of(line)).collect()
}

/// Reads until its fence has come and refuses it; returns the names of the messages before.
fn hear_through_fence(herd: &mut Herd, worker: &mut Worker) -> Vec<u64> {
    let mut names = Vec::new();
    loop {
        let line = herd.until("a fence", |_| worker.hear());
        names.extend(name_of(&line));
        let Some(seq) = newconn_seq(&line) else { continue };
        worker.fds.pop_front().expect("its descriptor came with it");
        worker.say(r#"{"cmd":"NODE_HANDLE_ACK"}"#);
        worker.say(&format!(r#"{{"cmd":"NODE_CLUSTER","ack":{seq},"accepted":false,"seq":9}}"#));
        herd.settle();
        return names;
    }
}

#[test]
fn the_next_primary_sends_the_rest_before_anything_else() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let (mut deaf, mut chatty, address) = two_workers(&mut old);
    for name in 0..4 {
        send(&mut old, &mut chatty, &deaf, name, 150_000);
    }
    let mut herd = succeed(old, &stash, &[&deaf, &chatty]);
    // The second did not fit; the third and the fourth were in nobody's hands but the old primary's.
    assert_eq!(hear_through_fence(&mut herd, &mut deaf), [0, 1]);
    hear_through_fence(&mut herd, &mut chatty);
    let _client = client(address, 7);
    herd.settle();
    assert_eq!(deaf.take().unwrap().name(), 7);
    // What is long goes on to arrive.
    send(&mut herd, &mut chatty, &deaf, 5, 150_000);
    herd.settle();
    assert_eq!(hear(&mut deaf), [5]);
}

#[test]
fn a_frame_may_take_several_primaries() {
    let stash = MemoryStash::default();
    let mut herd = Herd::kept(&stash);
    let (mut deaf, mut chatty, _) = two_workers(&mut herd);
    send(&mut herd, &mut chatty, &deaf, 1, 3_000_000);
    let mut deaths = 0;
    let mut read = 0;
    let mut buffer = vec![0; 64 << 10];
    let mut first = Vec::new();
    while read < 3_000_000 {
        herd = succeed(herd, &stash, &[&deaf, &chatty]);
        deaths += 1;
        // As much as lies there, and a little of what follows.
        for _ in 0..4 {
            let end = deaf.end.as_ref().unwrap();
            let Ok(received) = fdpass::receive(end, &mut buffer, &mut deaf.fds) else { break };
            read += received.bytes;
            first.extend_from_slice(&buffer[..received.bytes]);
            herd.settle();
        }
    }
    assert!(deaths > 5, "{deaths}");
    deaf.take_for_read(&first);
    let line = deaf.hear().expect("it is whole");
    let message: serde_json::Value = serde_json::from_str(&line).expect("and as it was sent");
    assert_eq!(message["text"].as_str().unwrap().len(), 3_000_000);
    assert!(deaf.hear().is_none_or(|line| line.starts_with("{\"cmd\":")), "another frame follows");
}

#[test]
fn a_worker_that_leaves_gets_the_rest_too() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let (mut deaf, mut chatty, _) = two_workers(&mut old);
    send(&mut old, &mut chatty, &deaf, 1, 500_000);
    old.order(Order::Disconnect(deaf.place.instance, Parting::Object));
    let mut herd = succeed(old, &stash, &[&deaf, &chatty]);
    assert_eq!(herd.until("the rest", |_| Some(hear(&mut deaf)).filter(|it| !it.is_empty())), [1]);
    herd.settle();
    assert_eq!(hear(&mut deaf), Vec::<u64>::new());
}

#[test]
fn the_spool_is_kept_once_and_goes_with_the_channel() {
    let stash = MemoryStash::default();
    let mut herd = Herd::kept(&stash);
    let (mut deaf, mut chatty, _) = two_workers(&mut herd);
    send(&mut herd, &mut chatty, &deaf, 0, 20_000);
    let about_spools = || stash.history().into_iter().filter(|it| it.contains("spool/")).collect::<Vec<_>>();
    assert_eq!(about_spools(), Vec::<String>::new(), "what goes in one piece needs none");
    for name in 1..4 {
        send(&mut herd, &mut chatty, &deaf, name, 150_000);
        assert_eq!(about_spools().len(), 1);
        assert!(hear(&mut deaf).contains(&u64::from(name)));
    }
    send(&mut herd, &mut chatty, &deaf, 4, 500_000);
    deaf.say("nonsense");
    herd.settle();
    assert!(herd.is_condemned(&deaf));
    let label = super::harness::label_of(deaf.place);
    assert_eq!(about_spools(), [format!("put spool/{label}"), format!("remove spool/{label}")]);
}

#[test]
fn without_a_descriptor_for_it_a_long_frame_goes_as_it_is() {
    if !in_own_process() {
        return;
    }
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let mut herd = Herd::new();
    let (mut deaf, mut chatty, _) = two_workers(&mut herd);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(open_fds() as u64 - 1), ..limit }).unwrap();
    send(&mut herd, &mut chatty, &deaf, 1, 150_000);
    send(&mut herd, &mut chatty, &deaf, 2, 500_000);
    setrlimit(Resource::Nofile, limit).unwrap();
    assert_eq!(hear(&mut deaf), [1]);
    let mut names = Vec::new();
    herd.until("the other", |_| {
        names.extend(hear(&mut deaf));
        (names == [2]).then_some(())
    });
}

#[test]
fn what_the_old_primary_had_read_of_a_long_frame_is_nobodys_fault() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let (deaf, mut chatty, _) = two_workers(&mut old);
    let text = "x".repeat(1 << 20);
    let frame = chatty.framed(&format!(r#"{{"type":"x","text":"{{\"cmd\":\"NODE_CLUSTER\"}}{text}"}}"#));
    let (begun, rest) = frame.split_at(600_000);
    for piece in begun.chunks(50_000) {
        chatty.write(piece);
        old.settle();
    }
    let mut herd = succeed(old, &stash, &[&deaf, &chatty]);
    for piece in rest.chunks(50_000) {
        chatty.write(piece);
        herd.settle();
    }
    hear_through_fence(&mut herd, &mut chatty);
    assert!(!herd.is_condemned(&chatty));
    chatty.say(r#""ready""#);
    herd.settle();
    assert!(herd.fact(|event| matches!(event, Event::Ready { .. })));
    assert!(!herd.told.iter().any(|news| matches!(news, News::Alert(Alert::MessagesDropped { .. }))));
}

#[test]
fn a_fence_never_comes_with_the_rest_of_a_connection() {
    let stash = MemoryStash::default();
    let mut old = Herd::kept(&stash);
    let (mut deaf, mut chatty, address) = two_workers(&mut old);
    // The worker's first read takes the message and half of the connection behind it.
    send(&mut old, &mut chatty, &deaf, 0, (64 << 10) - 120);
    let _client = client(address, 7);
    old.settle();
    let mut buffer = vec![0; 64 << 10];
    let first = fdpass::receive(deaf.end.as_ref().unwrap(), &mut buffer, &mut deaf.fds).unwrap();
    assert_eq!((first.bytes, first.fds), (64 << 10, 1));
    deaf.take_for_read(&buffer);
    assert!(deaf.hear_unread().iter().all(|line| newconn_seq(line).is_none()), "only half of it");
    let mut herd = succeed(old, &stash, &[&deaf, &chatty]);
    let second = fdpass::receive(deaf.end.as_ref().unwrap(), &mut buffer, &mut deaf.fds).unwrap();
    deaf.take_for_read(&buffer[..second.bytes]);
    assert!(deaf.hear_unread().iter().any(|line| newconn_seq(line).is_some()), "its frame is whole");
    assert_eq!(second.fds, 0, "no other descriptor has come by then");
    deaf.fds.clear();
    herd.until("the fence", |_| deaf.hear().filter(|line| newconn_seq(line).is_some()));
    assert_eq!(deaf.fds.len(), 1);
}
