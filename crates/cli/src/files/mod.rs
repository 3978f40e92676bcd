//! A server of a folder's files over HTTP. It is a worker like any other: it binds a port, and is told to stop by a signal.
//!
//! Never leads out of the folder, never follows a link that does, never has a whole file in memory.

mod answer;
mod body;
mod path;
mod range;
mod types;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use oxherd_daemon::patience::Patient;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// How long a client may take for the head of a request.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take nothing of an answer.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// So many connections are served at a time; others wait.
const CONNECTIONS_MAX: usize = 1024;
/// The longest pause before another try to accept.
const PAUSE: Duration = Duration::from_millis(100);

/// What is served, and how.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// The folder, without links in its path.
    pub(crate) root: PathBuf,
    /// Answer this file where there is no such file.
    pub(crate) fallback: Option<PathBuf>,
    /// List folders.
    pub(crate) lists: bool,
    /// The value that the header `authorization` must have.
    pub(crate) authorization: Option<String>,
}

/// Serves until a signal tells it to stop; requests under way are answered.
pub(crate) async fn serve(address: SocketAddr, site: Site) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let site = Arc::new(site);
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Each connection holds a receiver: when all are gone, all have ended.
    let (stop, stopping) = watch::channel(false);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            _ = terminated.recv() => break,
            _ = interrupted.recv() => break,
        };
        match accepted {
            Ok((stream, place)) => {
                let connection = connection(stream, Arc::clone(&site), stopping.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            // Descriptors may be short for a moment.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    drop((listener, stopping));
    stop.send_replace(true);
    stop.closed().await;
    Ok(())
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn connection(stream: TcpStream, site: Arc<Site>, mut stopping: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(answer::answer(&site, &request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    let stream = TokioIo::new(Patient::new(stream, WRITE_PATIENCE));
    let connection = server.serve_connection(stream, service);
    tokio::pin!(connection);
    tokio::select! {
        // A client that breaks off is no concern of others.
        _ended = &mut connection => return,
        _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}
