//! Messages both ways, and what rides on them.

use std::os::fd::OwnedFd;

use oxherd_os::SharedWords;
use oxherd_wire::load as layout;
use serde::Deserialize;

use super::*;

#[test]
fn outside_a_runtime_nothing_is_put_off() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (worker, mut primary) = runtime.block_on(async {
        let (worker, mut primary) = start().await;
        let mut messages = worker.messages();
        for number in 0..3 {
            primary.say(&number.to_string()).await;
        }
        assert_eq!(primary.meanwhile(messages.recv()).await.unwrap().raw(), "0");
        (worker, primary)
    });
    // Two wait for the program, and nobody drives the channel now.
    worker.send("said").unwrap();
    assert!(primary.hears(), "it is out");
    drop(runtime);
}
use crate::{Attachment, SendError};

#[tokio::test]
async fn who_is_asked_whether_it_is_well_says_so_and_others_hear_nothing() {
    let (worker, mut primary) = start().await;
    let mut messages = worker.messages();
    primary.say(r#"{"type":"health-check"}"#).await;
    assert_eq!(primary.line().await, r#"{"type":"healthy"}"#);
    primary.say(r#"{"type":"health-check","fromWorker":3}"#).await;
    let heard = messages.recv().await.unwrap();
    assert_eq!(heard.from_worker(), Some(3), "what another worker says is the program's");
}

#[tokio::test]
async fn messages_come_in_order_and_are_parsed() {
    #[derive(Debug, Deserialize)]
    struct Update {
        key: String,
    }
    #[derive(Debug, Deserialize)]
    struct Envelope {
        data: Update,
    }
    let (worker, mut primary) = start().await;
    primary.say(r#"{"type":"cache-update","data":{"key":"users"},"fromWorker":3}"#).await;
    primary.say("7").await;
    primary.say(r#"{"cmd":"NODE_other"}"#).await;
    primary.say(r#"{"type":7}"#).await;
    let mut messages = worker.messages();
    let first = messages.recv().await.unwrap();
    assert_eq!((first.kind().as_deref(), first.from_worker()), (Some("cache-update"), Some(3)));
    assert_eq!(first.parse::<Envelope>().unwrap().data.key, "users");
    let error = first.parse::<Update>().unwrap_err().to_string();
    assert_eq!(
        error,
        "message is no Update: missing field `key` at line 1 column 61 (it is {\"type\":\"cache-update\",\"data\":{\"key\":\"users\"},\"fromWorker\":3})"
    );
    let second = messages.recv().await.unwrap();
    assert_eq!((second.raw(), second.kind(), second.parse::<u8>().unwrap()), ("7", None, 7));
    let third = messages.recv().await.unwrap();
    assert_eq!((third.raw(), third.kind(), third.from_worker()), (r#"{"type":7}"#, None, None));
}

#[tokio::test]
async fn a_program_that_does_not_look_loses_the_oldest() {
    let (worker, mut primary) = start().await;
    for number in 0..1030 {
        primary.say(&number.to_string()).await;
        settle().await;
    }
    primary.say(r#""shutdown""#).await;
    worker.shutdown().await;
    let mut messages = worker.messages();
    assert_eq!(messages.recv().await.unwrap().raw(), "7");
    assert_eq!(messages.dropped(), 7);
}

#[tokio::test]
async fn what_is_sent_is_json_on_one_line() {
    let (worker, mut primary) = start().await;
    worker.send(&("a\nb", 1)).unwrap();
    worker.ready().unwrap();
    worker.send_to(3, "health-check", &()).unwrap();
    worker.broadcast("cache-update", &["x"]).unwrap();
    worker.report_error("it broke", Some("here")).unwrap();
    worker.report_error("it broke", None).unwrap();
    assert_eq!(primary.line().await, r#"["a\nb",1]"#);
    assert_eq!(primary.line().await, format!(r#"{{"type":"ready","pid":{}}}"#, std::process::id()));
    assert_eq!(primary.line().await, r#"{"targetWorker":3,"type":"health-check","data":null}"#);
    assert_eq!(primary.line().await, r#"{"targetWorker":"all","type":"cache-update","data":["x"]}"#);
    assert_eq!(primary.line().await, r#"{"type":"error","error":"it broke","stack":"here"}"#);
    assert_eq!(primary.line().await, r#"{"type":"error","error":"it broke"}"#);

    let reserved = worker.send(&serde_json::json!({"cmd": "NODE_mine"})).unwrap_err();
    assert!(matches!(reserved, SendError::Reserved), "{reserved}");
    worker.send(&serde_json::json!({"text": "NODE_mine"})).unwrap();
    assert_eq!(primary.line().await, r#"{"text":"NODE_mine"}"#);
    let odd = std::collections::HashMap::from([((1, 2), 3)]);
    assert!(matches!(worker.send(&odd), Err(SendError::Encode(_))));
}

#[tokio::test]
async fn what_the_socket_does_not_take_waits_in_order_and_within_bounds() {
    let (worker, mut primary) = start().await;
    let text = "x".repeat(100_000);
    let mut sent = 0_u64;
    let refused = loop {
        match worker.send(&(sent, &text)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, SendError::Full), "{refused}");
    assert!(sent > 160, "{sent}");
    // A frame of the protocol overtakes all that have not begun to go.
    let (_client, server) = connection();
    primary.newconn("nobody's", 5, &server).await;
    settle().await;
    let mut overtook = false;
    for number in 0..sent {
        let mut line = primary.line().await;
        while !line.starts_with('[') {
            overtook |= number < sent - 1;
            line = primary.line().await;
        }
        assert!(line.starts_with(&format!("[{number},")), "{number}");
    }
    assert!(overtook);
    worker.flush().await.unwrap();
    worker.send(&"room again").unwrap();
}

#[tokio::test]
async fn one_attachment_is_under_way_at_a_time() {
    let (worker, mut primary) = start().await;
    let (client, server) = connection();
    let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    worker.send_with(&"one", server).unwrap();
    worker.send_with(&"two", unix).unwrap();
    worker.send(&"three").unwrap();
    assert_eq!(primary.line().await, r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":"one"}"#);
    let passed = std::net::TcpStream::from(primary.take_fd());
    assert_eq!(passed.peer_addr().unwrap(), client.local_addr().unwrap());
    settle().await;
    assert!(!primary.hears(), "the second waits, and what is behind it too");

    primary.say(r#"{"cmd":"NODE_HANDLE_NACK"}"#).await;
    assert_eq!(primary.line().await, r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":"one"}"#);
    primary.take_fd();
    primary.say(r#"{"cmd":"NODE_HANDLE_ACK"}"#).await;
    assert_eq!(primary.line().await, r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":"two"}"#);
    primary.take_fd();
    assert_eq!(primary.line().await, r#""three""#);
    // One more than there is to answer.
    primary.say(r#"{"cmd":"NODE_HANDLE_ACK"}"#).await;
    primary.say(r#"{"cmd":"NODE_HANDLE_ACK"}"#).await;
    worker.flush().await.unwrap();
}

#[tokio::test]
async fn attachments_are_what_the_socket_says() {
    let (worker, mut primary) = start().await;
    let (client, server) = connection();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let sockets: [(&str, OwnedFd); 5] = [
        ("net.Socket", server.into()),
        ("net.Server", listener.into()),
        ("dgram.Socket", udp.into()),
        ("net.Native", unix.into()),
        ("net.Socket", std::fs::File::open("/dev/null").unwrap().into()),
    ];
    for (kind, fd) in sockets {
        let line = format!(r#"{{"cmd":"NODE_HANDLE","type":"{kind}","msg":{{"a":1}},"key":"6::::5701"}}"#);
        primary.hand(&line, fd).await;
        assert_eq!(primary.line().await, r#"{"cmd":"NODE_HANDLE_ACK"}"#);
    }
    let mut messages = worker.messages();
    let mut next = async || messages.recv().await.unwrap().take_attachment();
    let Some(Attachment::TcpStream(stream)) = next().await else { panic!("no stream") };
    assert_eq!(stream.peer_addr().unwrap(), client.local_addr().unwrap());
    assert!(matches!(next().await, Some(Attachment::TcpListener(_))));
    assert!(matches!(next().await, Some(Attachment::UdpSocket(_))));
    assert!(matches!(next().await, Some(Attachment::UnixStream(_))));
    assert!(next().await.is_none(), "a file is no attachment");

    primary.say(r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"6::::5701"}"#).await;
    assert_eq!(primary.line().await, r#"{"cmd":"NODE_SOCKET_COUNT","key":"6::::5701","count":0}"#);
    primary.say(r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"6::::5701"}"#).await;
    assert_eq!(primary.line().await, r#"{"cmd":"NODE_SOCKET_ALL_CLOSED","key":"6::::5701"}"#);
}

#[tokio::test]
async fn what_the_primary_does_not_take_is_not_sent() {
    let (worker, mut primary) = start().await;
    worker.send(&"x".repeat(100)).unwrap();
    assert_eq!(primary.line().await.len(), 102);
    primary.say(r#"{"cmd":"NODE_OXHERD_HELLO","version":1,"maxMessage":70}"#).await;
    assert!(primary.line().await.contains("oxherd.load"));
    let refused = worker.send(&"x".repeat(69)).unwrap_err();
    assert!(matches!(refused, SendError::TooLong { bytes: 71, limit: 70 }), "{refused}");
    worker.send(&"x".repeat(68)).unwrap();
    assert_eq!(primary.line().await.len(), 70);
}

#[tokio::test]
async fn a_primary_that_says_hello_gets_the_page() {
    let (worker, mut primary) = start().await;
    for _ in 0..2 {
        // Not acknowledged the first time: the primary may be another one than before.
        primary.say(r#"{"cmd":"NODE_OXHERD_HELLO","version":1}"#).await;
        assert_eq!(
            primary.line().await,
            r#"{"cmd":"NODE_HANDLE","type":"oxherd.load","msg":{"cmd":"NODE_OXHERD_LOAD"}}"#
        );
        let page = SharedWords::of(primary.take_fd()).unwrap();
        let request = worker.load().begin();
        let word = |word: usize| page.words()[word].load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((word(layout::WORD_MAGIC), word(layout::WORD_IN_FLIGHT)), (layout::MAGIC, 1));
        request.fail();
        assert_eq!(word(layout::WORD_IN_FLIGHT), 0);
        assert!(word(layout::WORD_REQUESTS) > 0 && word(layout::WORD_ERRORS) > 0);
    }
}

#[test]
fn a_panic_is_told_before_the_thread_dies_of_it() {
    let (here, there) = pair();
    let thread = std::thread::Builder::new().name("herder".into()).spawn(move || {
        // Without a runtime: nobody but the hook sends it.
        let worker = worker_on(there);
        crate::worker::set_thread_worker(Some(worker.clone()));
        worker.report_panics();
        panic!("the fence is open");
    });
    assert!(thread.unwrap().join().is_err());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lines: Vec<String> = runtime.block_on(async {
        let mut primary = Primary::on(here);
        let mut lines = Vec::new();
        while let Some(line) = primary.next().await {
            lines.push(line);
        }
        lines
    });
    let told: serde_json::Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!((&told["type"], &told["error"]), (&"error".into(), &"the fence is open".into()));
    let stack = told["stack"].as_str().unwrap();
    assert!(stack.starts_with("thread 'herder' panicked at "), "{stack}");
    assert!(stack.contains("messages.rs:"), "{stack}");
}
