//! A small HTTP server on the library's worker side, without a framework: what tests run under primaries of both
//! kinds.
//!
//! It answers every request with who it is, echoes messages and what rides on them, and leaves when told to. It
//! checks nothing: the test does. `PORT` is where it listens (0 unless set); with `LAZY` it never asks to be told
//! when to leave.

#![allow(clippy::unwrap_used, reason = "a test program that cannot go on should say where")]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use oxherd::{Attachment, Connection, Listener, Message, Worker};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

fn main() {
    // Before there is any other thread.
    let worker = oxherd::worker();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(worker));
}

async fn run(worker: Option<Worker>) {
    let port = std::env::var("PORT").map_or(0, |port| port.parse().unwrap());
    let listener = match oxherd::listen(("127.0.0.1", port)).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(3);
        }
    };
    if std::env::var_os("TWICE").is_some() {
        println!("{}", oxherd::listen(("127.0.0.1", port)).await.unwrap_err());
    }
    others().await;
    println!("{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(accept(listener));
    let Some(worker) = worker else { return serving.await.unwrap() };
    worker.report_panics();
    if is_lazy() {
        worker.set_linger(Duration::from_millis(100));
        return serving.await.unwrap();
    }
    worker.set_linger(Duration::from_secs(1));
    worker.send(&json!({"type": "hello", "slot": worker.slot(), "generation": worker.generation()})).unwrap();
    tokio::spawn(hear(worker.clone()));
    worker.drained().await;
    let open = std::pin::pin!(closed(&worker));
    // What is idle after the linger time is closed by the end of the process.
    drop(tokio::time::timeout(Duration::from_secs(2), open).await);
    drop(worker.flush().await);
}

/// Says who it is over a Unix socket at `UNIX_PATH` and a UDP socket at port `UDP_PORT`, where they are set.
async fn others() {
    let pid = std::process::id().to_string();
    if let Some(path) = std::env::var_os("UNIX_PATH") {
        let listener = oxherd::listen_unix(path).await.unwrap();
        let pid = pid.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(pid.as_bytes()).await.unwrap();
            }
        });
    }
    if let Ok(port) = std::env::var("UDP_PORT") {
        let socket = oxherd::bind_udp(("127.0.0.1", port.parse().unwrap())).await.unwrap();
        tokio::spawn(async move {
            loop {
                let (_, from) = socket.recv_from(&mut [0; 64]).await.unwrap();
                socket.send_to(pid.as_bytes(), from).await.unwrap();
            }
        });
    }
}

/// Whether the program never asks when to leave.
fn is_lazy() -> bool {
    std::env::var_os("LAZY").is_some()
}

/// Waits until no request is in hand.
async fn closed(worker: &Worker) {
    while worker.load().figures().in_flight > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn accept(listener: Listener) {
    loop {
        let (connection, peer) = listener.accept_tracked().await.unwrap();
        tokio::spawn(async move { drop(serve(connection, peer).await) });
    }
}

/// Requests without bodies, one after the other.
async fn serve(connection: Connection, _peer: SocketAddr) -> io::Result<()> {
    let load = oxherd::Load::of_current();
    let mut stream = BufReader::new(connection);
    loop {
        let mut head = String::new();
        loop {
            let before = head.len();
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
            if head.len() - before <= 2 {
                break;
            }
        }
        let request = load.begin();
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path == "/panic" {
            tokio::spawn(async { panic!("asked to") });
        }
        let leaves = !is_lazy() && oxherd::worker().is_some_and(|worker| worker.is_shutting_down());
        let closes = leaves || head.to_ascii_lowercase().contains("connection: close");
        let body = json!({
            "pid": std::process::id(),
            "worker": oxherd::worker().map(|worker| worker.id()),
            "path": path,
            "node": std::env::vars().filter(|(name, _)| name.starts_with("NODE_CHANNEL")).count(),
        })
        .to_string();
        let connection = if closes { "Connection: close\r\n" } else { "" };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{connection}\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(answer.as_bytes()).await?;
        drop(request);
        if closes {
            return stream.get_mut().shutdown().await;
        }
    }
}

async fn hear(worker: Worker) {
    let mut messages = worker.messages();
    while let Some(mut message) = messages.recv().await {
        match message.kind().as_deref() {
            Some("give") => give(&worker).await,
            Some("leave") => {
                let worker = worker.clone();
                tokio::spawn(async move { worker.disconnect().await });
            }
            Some("shutdown") => {}
            _ => echo(&worker, &mut message).await,
        }
    }
}

/// Sends a message back, and says something over what came with it.
async fn echo(worker: &Worker, message: &mut Message) {
    let with = match message.take_attachment() {
        None => "nothing",
        Some(Attachment::TcpStream(stream)) => {
            let mut stream = TcpStream::from_std(stream).unwrap();
            stream.write_all(b"hello from the worker").await.unwrap();
            "stream"
        }
        Some(Attachment::TcpListener(listener)) => {
            let listener = TcpListener::from_std(listener).unwrap();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(b"hello from the worker").await.unwrap();
            });
            "listener"
        }
        Some(Attachment::UdpSocket(socket)) => {
            let socket = UdpSocket::from_std(socket).unwrap();
            tokio::spawn(async move {
                let (_, from) = socket.recv_from(&mut [0; 64]).await.unwrap();
                socket.send_to(b"hello from the worker", from).await.unwrap();
            });
            "udp"
        }
        Some(_) => "something else",
    };
    let said: Value = message.parse().unwrap();
    worker.send(&json!({"type": "echo", "worker": worker.id(), "said": said, "with": with})).unwrap();
}

/// Gives one end of a connection away and says something over the other.
async fn give(worker: &Worker) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (kept, given) = tokio::join!(TcpStream::connect(address), listener.accept());
    let given = given.unwrap().0.into_std().unwrap();
    worker.send_with(&json!({"type": "gift"}), given).unwrap();
    let mut kept = kept.unwrap();
    tokio::spawn(async move {
        kept.write_all(b"hello from the worker").await.unwrap();
        let mut answer = String::new();
        kept.read_to_string(&mut answer).await.unwrap();
        oxherd::worker().unwrap().send(&json!({"type": "thanks", "said": answer})).unwrap();
    });
}
