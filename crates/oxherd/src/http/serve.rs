//! Serving a router of axum as a worker, or alone.
//!
//! The graceful end is the point here: no request is cut that was begun, and clients are told to go elsewhere
//! before their connections are closed. Must never end before axum says that it is done.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::time::sleep;

use super::RequestLayer;
use crate::worker::told_by_signal;
use crate::{Connection, Listener};

/// How long accepting rests when the process is out of descriptors or memory.
const REST: Duration = Duration::from_millis(200);

/// Serves a router until it is told to leave, with a [`RequestLayer`] around it, and ends gracefully.
///
/// As a worker it leaves when the primary says so or is gone, or at SIGTERM and SIGINT: it finishes what it has
/// begun, answers with `Connection: close`, and closes idle connections once [`Worker::drained`](crate::Worker::drained) fires. Alone it
/// leaves at SIGTERM and SIGINT; a second signal ends it at once. Handlers may ask for
/// `ConnectInfo<`[`PeerAddr`]`>`.
///
/// # Errors
///
/// None that a client can cause. `io::Error` when signals cannot be handled.
///
/// ```no_run
/// use axum::{Router, routing::get};
///
/// # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
/// let router = Router::new().route("/", get(|| async { "hello" }));
/// oxherd::http::serve(oxherd::listen("0.0.0.0:3000").await?, router).await?;
/// # Ok(()) }
/// ```
pub async fn serve(listener: Listener, router: Router) -> io::Result<()> {
    let service = router.layer(RequestLayer::new()).into_make_service_with_connect_info::<PeerAddr>();
    let server = axum::serve(listener, service);
    let Some(worker) = crate::worker() else {
        let told = told_by_signal()?;
        let told_once = async move {
            told.await;
            end_at_next_signal();
        };
        return server.with_graceful_shutdown(told_once).await;
    };
    worker.handle_signals()?;
    server.with_graceful_shutdown(worker.drained()).await?;
    // What it said last is sent; a primary that is gone does not hear it.
    drop(worker.flush().await);
    Ok(())
}

/// Whoever asks twice does not want to wait.
fn end_at_next_signal() {
    if let Ok(told) = told_by_signal() {
        tokio::spawn(async move {
            told.await;
            std::process::exit(1);
        });
    }
}

/// Where a connection comes from, for `ConnectInfo`.
///
/// ```no_run
/// use axum::extract::ConnectInfo;
/// use oxherd::http::PeerAddr;
///
/// async fn whoami(ConnectInfo(PeerAddr(peer)): ConnectInfo<PeerAddr>) -> String {
///     peer.to_string()
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

impl Connected<IncomingStream<'_, Listener>> for PeerAddr {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.accept_tracked().await {
                Ok(accepted) => return accepted,
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => sleep(REST).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Listener::local_addr(self)
    }
}

/// The next one may well be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn serving_can_be_spawned() {
        fn is_send<T: Send>(_: T) {}
        let listener = crate::listen("127.0.0.1:0").await.unwrap();
        is_send(serve(listener, Router::new()));
    }
}
