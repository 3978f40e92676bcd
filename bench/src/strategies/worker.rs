//! The program that is measured: its thread is blocked for as long as a request asks, as by a calculation, but without
//! the CPU time, so that four of them fit on a small machine.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
/// A request has about 60 bytes.
const REQUEST_MAX_BYTES: usize = 1024;
const WORK_MAX_US: u64 = 1_000_000;

pub(crate) struct WorkerOptions {
    /// Without a primary: so many threads share one queue. 0: a worker of a primary.
    pub(crate) threads: usize,
}

pub(crate) fn run(options: &WorkerOptions) -> Result<(), String> {
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok());
    let port: u16 = port.ok_or("$PORT must be the port to listen on")?;
    let served = match options.threads {
        0 => serve_as_worker(port),
        threads => serve_from_one_queue(port, threads),
    };
    served.map_err(|error| format!("cannot serve port {port}: {error}"))
}

/// The ideal: the kernel's queue, and whoever is free takes the next.
fn serve_from_one_queue(port: u16, threads: usize) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let serve = || -> io::Result<()> {
        loop {
            let (mut stream, _) = listener.accept()?;
            let mut head = [0; REQUEST_MAX_BYTES];
            // A request this short comes in one piece; a client that is gone is none.
            let Ok(length) = stream.read(&mut head) else { continue };
            work(head.get(..length).unwrap_or_default());
            drop(stream.write_all(ANSWER));
        }
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(serve)).collect();
        all.into_iter().try_for_each(|one| one.join().unwrap_or(Err(io::ErrorKind::Other.into())))
    })
}

fn serve_as_worker(port: u16) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = oxherd::listen(("127.0.0.1", port)).await.map_err(io::Error::other)?;
        if let Some(worker) = oxherd::worker() {
            tokio::spawn(async move {
                worker.shutdown().await;
                std::process::exit(0);
            });
        }
        let load = oxherd::Load::of_current();
        loop {
            let (connection, _) = listener.accept_tracked().await?;
            tokio::spawn(serve(connection, load.clone()));
        }
    })
}

async fn serve(mut connection: impl AsyncRead + AsyncWrite + Unpin, load: oxherd::Load) {
    let mut head = [0; REQUEST_MAX_BYTES];
    let Ok(length) = connection.read(&mut head).await else { return };
    let in_flight = load.begin();
    // The whole thread is blocked: that is the point.
    work(head.get(..length).unwrap_or_default());
    if connection.write_all(ANSWER).await.is_err() {
        in_flight.fail();
        return;
    }
    drop((in_flight, connection.shutdown().await));
}

fn work(request: &[u8]) {
    let text = String::from_utf8_lossy(request);
    let micros = text.strip_prefix("GET /").and_then(|rest| rest.split(' ').next()?.parse().ok());
    thread::sleep(Duration::from_micros(micros.unwrap_or(0).min(WORK_MAX_US)));
}
