//! Serving a router of axum as a worker, or alone.
//!
//! The graceful end is the point here: no request is cut that was begun, and clients are told to go elsewhere
//! before their connections are closed. Must never end before axum says that it is done.

use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::time::sleep;

use super::RequestLayer;
use crate::worker::{end_at_next_signal, told_by_signal};
use crate::{Connection, Listener};

/// How long accepting rests when the process is out of descriptors or memory.
const REST: Duration = Duration::from_millis(200);
/// How long requests in hand may take when the primary is gone: nobody else ends a worker then that does not end.
const FORSAKEN_MAX: Duration = Duration::from_secs(10);

/// Serves a router until it is told to leave, with a [`RequestLayer`] around it, and ends gracefully.
///
/// As a worker it leaves when the primary says so or is gone, or at SIGTERM and SIGINT: it finishes what it has
/// begun, answers with `Connection: close`, and closes idle connections once [`Worker::drained`](crate::Worker::drained)
/// fires. Without a primary, which would end it, it takes 10 s at most for that. Alone it leaves at SIGTERM and SIGINT.
/// A second signal ends the process at once. Handlers may ask for `ConnectInfo<`[`PeerAddr`]`>`.
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
    let served = server.with_graceful_shutdown(worker.drained()).into_future();
    let (mut served, mut forsaken) = (pin!(served), pin!(worker.forsaken(FORSAKEN_MAX)));
    let served = poll_fn(|context| match served.as_mut().poll(context) {
        Poll::Ready(served) => Poll::Ready(served),
        Poll::Pending => forsaken.as_mut().poll(context).map(Ok),
    });
    served.await?;
    // What it said last is sent; a primary that is gone does not hear it.
    drop(worker.flush().await);
    Ok(())
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
    use axum::extract::ConnectInfo;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::worker::set_thread_worker;
    use crate::worker::tests::{Primary, connection, start};

    #[tokio::test]
    async fn serving_can_be_spawned() {
        fn is_send<T: Send>(_: T) {}
        let listener = crate::listen("127.0.0.1:0").await.unwrap();
        is_send(serve(listener, Router::new()));
    }

    /// A client whose connection the primary has handed over.
    async fn client(primary: &mut Primary, seq: u64) -> TcpStream {
        let (client, server) = connection();
        primary.newconn("k", seq, &server).await;
        client.set_nonblocking(true).unwrap();
        TcpStream::from_std(client).unwrap()
    }

    async fn ask(client: &mut TcpStream) -> String {
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 4096];
        let length = client.read(&mut answer).await.unwrap();
        answer.truncate(length);
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_worker_told_to_leave_sends_its_clients_away() {
        let (worker, mut primary) = start().await;
        set_thread_worker(Some(worker.clone()));
        let (listener, ()) = tokio::join!(crate::listen("127.0.0.1:4000"), primary.grant("k", 4000));
        let handler = |ConnectInfo(PeerAddr(peer)): ConnectInfo<PeerAddr>| async move { peer.to_string() };
        let serving = tokio::spawn(serve(listener.unwrap(), Router::new().route("/", get(handler))));
        let mut busy = client(&mut primary, 1).await;
        let mut idle = client(&mut primary, 2).await;
        let answer = ask(&mut busy).await;
        assert!(answer.ends_with(&busy.local_addr().unwrap().to_string()), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
        ask(&mut idle).await;
        assert_eq!((worker.load().figures().requests, worker.load().figures().connections), (2, 2));

        worker.set_linger(Duration::from_millis(100));
        primary.say(r#"{"cmd":"NODE_CLUSTER","act":"disconnect","seq":3}"#).await;
        worker.shutdown().await;
        let answer = ask(&mut busy).await;
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(busy.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(idle.read(&mut [0]).await.unwrap(), 0, "what is idle is closed after the linger time");
        serving.await.unwrap().unwrap();
        set_thread_worker(None);
    }

    #[tokio::test]
    async fn the_figures_are_reported() {
        let (worker, mut primary) = start().await;
        set_thread_worker(Some(worker));
        let (listener, ()) = tokio::join!(crate::listen("127.0.0.1:4000"), primary.grant("k", 4000));
        let layer = RequestLayer::new().report_every(Duration::from_millis(20));
        let router = Router::new().layer(layer);
        tokio::spawn(async move { axum::serve(listener.unwrap(), router).await });
        let mut client = client(&mut primary, 1).await;
        assert!(ask(&mut client).await.starts_with("HTTP/1.1 404"));
        let mut line = String::new();
        while !line.contains("stats") {
            line = primary.line().await;
        }
        let stats: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&stats["stats"]["requests"], &stats["stats"]["errors"]), (&1.into(), &1.into()));
        assert!(stats["stats"]["latencyMs"]["mean"].as_f64().unwrap() > 0.0, "{line}");
        let metrics: serde_json::Value = serde_json::from_str(&primary.line().await).unwrap();
        assert!(metrics["data"]["memory"].as_u64().unwrap() > 1 << 20, "{metrics}");
        set_thread_worker(None);
    }
}
