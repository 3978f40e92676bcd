//! What a worker can do without end costs the primary only so much.

use super::harness::{Herd, Worker};
use crate::traffic::News;

fn flood(herd: &mut Herd, worker: &mut Worker, line: &str, times: usize) {
    worker.end.as_ref().unwrap().set_nonblocking(false).unwrap();
    let lines = format!("{line}\n").repeat(500);
    for _ in 0..times / 500 {
        worker.write(lines.as_bytes());
        herd.settle();
        if herd.is_condemned(worker) {
            break;
        }
    }
    worker.end.as_ref().unwrap().set_nonblocking(true).unwrap();
}

#[test]
fn news_is_bounded() {
    for line in [r#"{"type":"request"}"#, r#""ready""#, r#"{"type":"error","error":"x"}"#] {
        let mut herd = Herd::new();
        let mut worker = herd.attach(0);
        flood(&mut herd, &mut worker, line, 20_000);
        assert!(herd.told.len() <= 1000, "{line}: {}", herd.told.len());
        herd.pass(1000);
        worker.say(r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#);
        herd.settle();
        assert!(herd.fact(|event| matches!(event, oxherd_core::Event::Online { .. })));
    }
}

#[test]
fn replies_to_one_that_never_reads_are_bounded() {
    let mut herd = Herd::new();
    let mut worker = herd.attach(0);
    flood(&mut herd, &mut worker, r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"k"}"#, 1_000_000);
    assert!(herd.is_condemned(&worker));
}

#[test]
fn listeners_are_bounded_and_unused_ones_go_first() {
    let mut herd = Herd::new();
    let mut worker = herd.attach(0);
    let query = |index| {
        format!(r#""index":{index},"data":null,"address":"127.0.0.1","port":0,"addressType":"udp4","fd":-1"#)
    };
    let mut granted = 0;
    for index in 0..600 {
        let reply = worker.ask(&mut herd, &query(index));
        granted += usize::from(reply.contains(r#""errno":0"#));
        worker.fds.clear();
        worker.say(r#"{"cmd":"NODE_HANDLE_ACK"}"#);
    }
    assert_eq!(granted, 512);
    assert!(herd.told.iter().any(|news| matches!(news, News::Alert(crate::Alert::CannotListen { .. }))));
    herd.bury(&mut worker);
    let mut next = herd.attach(0);
    assert!(next.ask(&mut herd, &query(1000)).contains(r#""errno":0"#));
}

#[test]
fn opening_and_closing_for_ever_leaves_nothing() {
    let mut herd = Herd::new();
    let mut worker = herd.attach(0);
    for _ in 0..300 {
        let reply =
            worker.ask(&mut herd, r#""index":0,"data":null,"address":"127.0.0.1","port":0,"addressType":4"#);
        let key = super::harness::key_of(&reply);
        worker.say(&format!(r#"{{"cmd":"NODE_CLUSTER","act":"close","key":"{key}","seq":1}}"#));
        herd.settle();
    }
    assert_eq!(herd.traffic.listeners.iter().count(), 0);
}

#[test]
fn huge_ticket_keys_are_refused() {
    let mut herd = Herd::new();
    let mut worker = herd.attach(0);
    worker.end.as_ref().unwrap().set_nonblocking(false).unwrap();
    let data = "x".repeat(100_000);
    let members =
        format!(r#""index":0,"data":{{"ticketKeys":"{data}"}},"address":null,"port":0,"addressType":4"#);
    let query = format!("{{\"cmd\":\"NODE_CLUSTER\",\"act\":\"queryServer\",{members},\"seq\":1}}\n");
    worker.write(query.as_bytes());
    worker.end.as_ref().unwrap().set_nonblocking(true).unwrap();
    let reply = herd.until("a reply", |_| worker.hear());
    assert!(reply.contains(r#""errno":-22"#) && reply.len() < 1000);
}

#[test]
fn answers_without_acknowledgements_do_not_pile_up() {
    let mut herd = Herd::new();
    let (mut worker, address) = herd.worker(0);
    for name in 0..1100 {
        if herd.is_condemned(&worker) {
            return;
        }
        let _client = super::harness::client(address, name);
        herd.settle();
        let line = worker.hear().unwrap();
        worker.fds.clear();
        let seq = super::harness::newconn_seq(&line).unwrap();
        worker.say(&format!(r#"{{"cmd":"NODE_CLUSTER","ack":{seq},"accepted":true,"seq":1}}"#));
        herd.settle();
    }
    panic!("it goes on for ever");
}
