//! Clients that are not to be trusted: foreign, broken, stuck or too many.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use crate::rig::{Answer, Rig, request};

#[test]
fn garbage_is_answered_and_harms_nobody() {
    let rig = Rig::with(&["web"]);
    let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(200 << 10));
    let many_headers = format!("GET /v1/ping HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(500));
    let garbage: [&[u8]; 8] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET /v1/ping HTTP/9.9\r\n\r\n",
        b"GET /v1/ping HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /v1/apps HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        long_line.as_bytes(),
        many_headers.as_bytes(),
    ];
    for bytes in garbage {
        let mut stream = rig.connect();
        // The server may have closed before the last byte.
        drop(stream.write_all(bytes));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    assert_eq!(rig.get("/v1/ping").status, 200);
}

#[test]
fn half_requests_change_nothing() {
    let rig = Rig::with(&["web"]);
    let whole = request("POST", "/v1/apps/web/scale", &[], br#"{"instances":5}"#);
    for length in 0..whole.len() {
        let mut stream = rig.connect();
        stream.write_all(&whole[..length]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 2"));
    }
    assert_eq!(rig.get("/v1/apps/web").json()["instances"], 1);
}

#[test]
fn one_connection_carries_several_requests() {
    let rig = Rig::new();
    let mut stream = rig.connect();
    stream.write_all(b"GET /v1/ping HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stream.write_all(&request("GET", "/v1/ping", &[], b"")).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2);
}

#[test]
fn too_many_connections_are_told_so_and_places_become_free() {
    let rig = Rig::new();
    let mut held: Vec<UnixStream> = (0..256)
        .map(|_| {
            let mut stream = rig.connect();
            stream.write_all(b"GET /v1/ping HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            let mut first = [0; 15];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"HTTP/1.1 200 OK");
            stream
        })
        .collect();
    let (status, error) = rig.get("/v1/ping").problem();
    assert_eq!((status, error.contains("256 clients are connected already")), (503, true), "{error}");
    drop(held.pop());
    // The server sees the end of one when it next looks; until then it says that it is full.
    while rig.get("/v1/ping").status != 200 {}
}

#[test]
fn stuck_clients_do_not_hold_up_others_or_the_end() {
    let rig = Rig::with(&["web"]);
    let silent: Vec<UnixStream> = (0..50).map(|_| rig.connect()).collect();
    let mut stuck = rig.connect();
    stuck.write_all(&request("GET", "/v1/events", &[], b"")).unwrap();
    for _ in 0..50_000 {
        rig.herd.tell(oxherd_core::Notice::Stopping { app: oxherd_core::AppId(0) });
    }
    assert_eq!(rig.get("/v1/apps").status, 200);
    drop((silent, stuck));
}

#[test]
fn another_user_is_turned_away() {
    let rig = Rig::new();
    std::fs::set_permissions(&rig.folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(rig.socket(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let socket = rig.socket();
    let asking = std::thread::spawn(move || {
        // Of this thread alone; the kernel notes who connects.
        let other = rustix::process::Uid::from_raw(54321);
        if rustix::thread::set_thread_res_uid(other, other, other).is_err() {
            return None;
        }
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.write_all(&request("GET", "/v1/ping", &[], b"")).unwrap();
        Some(Answer::read(stream))
    });
    match asking.join().unwrap() {
        Some(answer) => {
            let (status, error) = answer.problem();
            assert_eq!((status, error.starts_with("user 54321 may not speak to this daemon")), (403, true));
        }
        None => println!("not root: nobody else can be tried"),
    }
}
