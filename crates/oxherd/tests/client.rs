//! The client against a daemon that dies at every possible moment: a script answers on the other side of the socket.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "client")]

use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use oxherd::client::{Client, ClientError, LogsOf, Told};
use oxherd_core::{ChangeId, ChangeOutcome};

const ACCEPTED: &str = r#"{"changes":[{"change":7,"app":0,"name":"web"}]}"#;
const DONE: &str = r#"{"change":7,"outcome":"done"}"#;

/// What the other side does with one connection.
enum Act {
    /// Closes it unread: the client may see a reset.
    Close,
    /// Reads the request and closes.
    Hear,
    /// Answers, but for the last bytes.
    Half(&'static str),
    /// Answers with this status and body.
    Answer(u16, &'static str),
    /// Answers with this status, these headers and this body.
    Headed(u16, &'static str, &'static str),
    /// Begins a stream of events and breaks it off.
    Break(&'static str),
    /// Sends a stream of events and ends it.
    Stream(&'static str),
    /// Reads the request and says nothing until the client goes.
    Silence,
}

struct Script {
    folder: PathBuf,
    heard: JoinHandle<Vec<String>>,
}

impl Script {
    fn new(acts: Vec<Act>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("oxherd-client-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join("sock")).unwrap();
        let heard = std::thread::spawn(move || acts.iter().map(|act| play(&listener, act)).collect());
        Self { folder, heard }
    }

    fn client(&self) -> Client {
        Client::at(self.folder.join("sock")).with_patience(Duration::from_secs(5))
    }

    /// The requests, once the script is through.
    fn heard(self) -> Vec<String> {
        let heard = self.heard.join().unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
        heard
    }
}

fn play(listener: &UnixListener, act: &Act) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    if matches!(act, Act::Close) {
        return String::new();
    }
    let request = read(&stream);
    let answer = |status: u16, headers: &str, body: &str| {
        format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
    };
    let chunk = |events: &str| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        format!("{head}{:x}\r\n{events}\r\n", events.len())
    };
    let bytes = match act {
        Act::Close | Act::Hear => String::new(),
        Act::Half(body) => {
            let whole = answer(200, "", body);
            whole.chars().take(whole.len() - 3).collect()
        }
        Act::Answer(status, body) => answer(*status, "", body),
        Act::Headed(status, headers, body) => answer(*status, headers, body),
        Act::Break(events) => chunk(events),
        Act::Stream(events) => chunk(events) + "0\r\n\r\n",
        Act::Silence => {
            stream.read_to_end(&mut Vec::new()).unwrap();
            String::new()
        }
    };
    stream.write_all(bytes.as_bytes()).unwrap();
    request
}

fn read(stream: &UnixStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let mut body = vec![0; header(&head, "content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}

fn header(request: &str, name: &str) -> Option<String> {
    let prefix = format!("{name}: ");
    request.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let timed = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), test).await });
    timed.expect("the test takes too long")
}

#[test]
fn a_change_is_asked_for_again_with_its_key_until_it_is_answered() {
    let script = Script::new(vec![
        Act::Close,
        Act::Hear,
        Act::Half(ACCEPTED),
        Act::Headed(503, "retry-after: 1\r\n", r#"{"error":"ending"}"#),
        Act::Answer(202, ACCEPTED),
        Act::Answer(202, ACCEPTED),
    ]);
    run(async {
        let client = script.client();
        assert_eq!(client.scale("a/b", 3).await.unwrap().changes[0].change, ChangeId(7));
        client.scale("a/b", 3).await.unwrap();
    });
    let heard = script.heard();
    let keys: Vec<_> = heard[1..].iter().map(|request| header(request, "idempotency-key").unwrap()).collect();
    assert!(keys[..4].iter().all(|key| *key == keys[0] && key.len() == 32), "{keys:?}");
    assert_ne!(keys[4], keys[0], "another call is another change");
    assert!(heard[1].starts_with("POST /v1/apps/a%2Fb/scale HTTP/1.1\r\n"), "{}", heard[1]);
    assert!(heard[1..].iter().all(|request| request.ends_with(r#"{"instances":3}"#)));
}

#[test]
fn waiting_outlives_any_number_of_daemons() {
    let under_way = r#"{"change":7,"outcome":null}"#;
    let script = Script::new(vec![
        Act::Answer(200, under_way),
        Act::Hear,
        Act::Close,
        Act::Half(DONE),
        Act::Answer(200, under_way),
        Act::Answer(200, DONE),
    ]);
    assert_eq!(run(script.client().wait(ChangeId(7))).unwrap(), ChangeOutcome::Done);
    let heard = script.heard();
    assert!(heard[0].starts_with("GET /v1/changes/7?wait=30 "), "{}", heard[0]);
    assert!(heard.iter().all(|request| header(request, "idempotency-key").is_none()));
}

#[test]
fn refusals_are_final_and_in_the_daemon_s_words() {
    let script = Script::new(vec![
        Act::Answer(409, r#"{"error":"app `web` is stopped"}"#),
        Act::Answer(503, r#"{"error":"256 clients are connected already"}"#),
        Act::Answer(500, "no json"),
        Act::Answer(200, r#"{"unknown":1}"#),
    ]);
    run(async {
        let client = script.client();
        let error = client.reload("web", None).await.unwrap_err();
        assert_eq!((error.status(), error.to_string()), (Some(409), "app `web` is stopped".into()));
        assert_eq!(client.ping().await.unwrap_err().status(), Some(503));
        assert_eq!(
            client.ping().await.unwrap_err().to_string(),
            "the daemon answered 500 Internal Server Error"
        );
        let error = client.ping().await.unwrap_err();
        assert!(matches!(error, ClientError::Strange { .. }), "{error}");
        assert!(
            error.to_string().starts_with("cannot understand the daemon's answer: /v1/ping: "),
            "{error}"
        );
    });
    script.heard();
}

#[test]
fn a_daemon_that_does_not_come_back_is_given_up() {
    let script = Script::new(vec![Act::Hear]);
    let client = script.client().with_patience(Duration::from_millis(100));
    let error = run(client.ping()).unwrap_err();
    assert!(matches!(error, ClientError::Vanished { .. }), "{error}");
    script.heard();
    let script = Script::new((0..40).map(|_| Act::Hear).collect());
    let client = script.client().with_patience(Duration::from_millis(100));
    let error = run(client.ping()).unwrap_err();
    assert!(matches!(error, ClientError::Broken { .. }), "{error}");
    // The rest of the script is not played.
    std::fs::remove_dir_all(&script.folder).unwrap();
}

#[test]
fn a_daemon_that_says_nothing_is_told_apart() {
    let script = Script::new(vec![Act::Silence]);
    let client = script.client().with_patience(Duration::from_millis(50));
    let error = run(client.ping()).unwrap_err();
    assert!(matches!(error, ClientError::Silent { .. }), "{error}");
    script.heard();
}

#[test]
fn killing_is_done_when_the_daemon_is_gone() {
    let script = Script::new(vec![Act::Hear]);
    let client = script.client().with_patience(Duration::from_millis(100));
    run(async {
        client.kill().await.unwrap();
        assert!(client.wait_end(Duration::from_secs(5)).await);
    });
    assert!(script.heard()[0].starts_with("POST /v1/kill "));
}

#[test]
fn a_stream_tells_whether_it_ended_or_broke() {
    let line = r#"{"app":0,"name":"web","slot":1,"stream":"stdout","text":"hello"}"#;
    let events: &'static str =
        Box::leak(format!(":\n\nevent: line\ndata: {line}\n\nevent: new\ndata: 1\n\nevent: dropped\ndata: {{\"count\":3}}\n\n").into_boxed_str());
    let script = Script::new(vec![Act::Stream(events), Act::Break(events)]);
    let of = LogsOf { app: Some("w b".into()), lines: Some(3), follow: true, stream: None };
    run(async {
        for breaks in [false, true] {
            let mut lines = script.client().logs(&of).await.unwrap();
            let Some(Told::Item(line)) = lines.next().await.unwrap() else { panic!("a line") };
            assert_eq!(line.text, "hello");
            assert_eq!(
                lines.next().await.unwrap(),
                Some(Told::Dropped(3)),
                "an unknown event is passed over"
            );
            match lines.next().await {
                Ok(None) => assert!(!breaks),
                Err(ClientError::Broken { .. }) => assert!(breaks),
                other => panic!("{other:?}"),
            }
        }
    });
    assert!(script.heard()[0].starts_with("GET /v1/logs?follow=true&app=w%20b&lines=3 "));
}

#[test]
fn a_socket_that_may_not_be_reached_is_no_missing_daemon() {
    let script = Script::new(vec![]);
    let error = run(Client::at(script.folder.join("x".repeat(200))).ping()).unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert!(error.to_string().starts_with("cannot reach the daemon at /"), "{error}");
    script.heard();
}
