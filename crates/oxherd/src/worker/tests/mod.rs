//! A worker against a primary played by hand at the other end of a socket pair.

mod connections;
mod leaving;
mod messages;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use oxherd_os::fdpass;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Identity, Worker};

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// The primary's end.
pub(crate) struct Primary {
    socket: UnixStream,
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

fn pair() -> (OwnedFd, OwnedFd) {
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    (here.into(), there.into())
}

fn worker_on(channel: OwnedFd) -> Worker {
    // A thread, so that the test's process is not ended with its primary.
    let identity = Identity { id: 7, slot: 2, generation: 3, is_thread: true };
    Worker::on_channel(channel, identity, oxherd_wire::Serialization::Json).unwrap()
}

/// A worker that is online.
pub(crate) async fn start() -> (Worker, Primary) {
    let (here, there) = pair();
    let worker = worker_on(there);
    let mut primary = Primary::on(here);
    assert_eq!(primary.line().await, r#"{"cmd":"NODE_CLUSTER","act":"online","oxherd":1,"seq":0}"#);
    (worker, primary)
}

impl Primary {
    fn on(socket: OwnedFd) -> Self {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true).unwrap();
        Self { socket: UnixStream::from_std(socket).unwrap(), bytes: Vec::new(), fds: VecDeque::new() }
    }

    pub(crate) async fn say(&mut self, line: &str) {
        self.send(line, None).await;
    }

    pub(crate) async fn hand(&mut self, line: &str, fd: impl AsFd) {
        self.send(line, Some(fd.as_fd().try_clone_to_owned().unwrap())).await;
    }

    pub(crate) async fn send(&mut self, line: &str, mut fd: Option<OwnedFd>) {
        let line = format!("{line}\n");
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            let sent = self
                .socket
                .async_io(Interest::WRITABLE, || {
                    fdpass::send(&self.socket, rest, fd.as_ref().map(OwnedFd::as_fd))
                })
                .await
                .unwrap();
            fd = None;
            rest = &rest[sent..];
        }
    }

    /// The next line, whatever it says.
    pub(crate) async fn line(&mut self) -> String {
        self.next().await.expect("the channel is open")
    }

    /// The next line; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let rest = self.bytes.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.bytes, rest);
                line.pop();
                return Some(String::from_utf8(line).unwrap());
            }
            if self.read().await == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn read(&mut self) -> usize {
        let mut chunk = vec![0; 64 << 10];
        let fds = &mut self.fds;
        let receive =
            self.socket.async_io(Interest::READABLE, || fdpass::receive(&self.socket, &mut chunk, fds));
        match timeout(PATIENCE, receive).await.expect("the worker says something") {
            Ok(received) => {
                self.bytes.extend_from_slice(&chunk[..received.bytes]);
                received.bytes
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("{error}"),
        }
    }

    /// Whether the worker has said something that was not read yet.
    fn hears(&mut self) -> bool {
        let mut chunk = vec![0; 64 << 10];
        if let Ok(received) = fdpass::receive(&self.socket, &mut chunk, &mut self.fds) {
            self.bytes.extend_from_slice(&chunk[..received.bytes]);
        }
        !self.bytes.is_empty()
    }

    fn take_fd(&mut self) -> OwnedFd {
        self.fds.pop_front().expect("a descriptor came")
    }

    /// Answers a query as Node's round-robin does. Returns the line of `listening`.
    pub(crate) async fn grant(&mut self, key: &str, port: u16) {
        let query = self.line().await;
        let ack = number(&query, "seq");
        self.say(&format!(
            r#"{{"cmd":"NODE_CLUSTER","errno":null,"key":"{key}","ack":{ack},"data":null,"sockname":{{"address":"127.0.0.1","family":"IPv4","port":{port}}},"seq":0}}"#
        ))
        .await;
    }

    /// Hands a connection over.
    pub(crate) async fn newconn(&mut self, key: &str, seq: u64, fd: impl AsFd) {
        let line = format!(
            r#"{{"cmd":"NODE_HANDLE","type":"net.Native","msg":{{"cmd":"NODE_CLUSTER","act":"newconn","key":"{key}","seq":{seq}}}}}"#
        );
        self.hand(&line, fd).await;
    }

    /// Waits for something else while the channel stays open.
    pub(crate) async fn meanwhile<F: Future>(&self, future: F) -> F::Output {
        timeout(PATIENCE, future).await.expect("it happens")
    }
}

pub(crate) fn number(line: &str, member: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    value[member].as_u64().unwrap_or_else(|| panic!("no {member} in {line}"))
}

/// A TCP connection: the client's end and the one to be handed over.
pub(crate) fn connection() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Lets every other task run that can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}
