//! Connections: who may have one, how many there may be, and how long one may keep still. Slow, stuck or hostile
//! clients cost a place among a limited number, and for a limited time.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::problem::Failure;
use super::state::Closing;
use crate::patience::Patient;

/// How many connections are served at a time.
pub(super) const CONNECTIONS: usize = 256;
/// How many more are told why they are not.
const REFUSALS: usize = 16;
/// How long the head of a request may take to come, and how long a connection may be idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// How long one who is refused may take to say anything.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(2);
/// How long a client may leave unread what is sent to it.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);
/// The largest head of a request, in bytes.
const HEAD_BYTES: usize = 64 << 10;
/// The pause after `accept` failed, for want of descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until `closing`, then until those in hand are answered.
pub(super) async fn serve(listener: UnixListener, router: Router, mut closing: Closing) -> io::Result<()> {
    let own = own_uid()?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.wanted() => break,
        };
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let peer = stream.peer_cred().map(|peer| peer.uid());
        let refusal = match peer {
            Ok(peer) if may_speak(peer, own) => None,
            Ok(peer) => Some(foreign(peer)),
            Err(_) => continue,
        };
        match (refusal, places.clone().try_acquire_owned()) {
            (None, Ok(place)) => drop(tokio::spawn(converse(stream, router.clone(), place, closing.clone()))),
            (None, Err(_)) => refuse(stream, full(), &refusals),
            (Some(failure), _) => refuse(stream, failure, &refusals),
        }
    }
    // All places are free when every connection has ended.
    drop(places.acquire_many(CONNECTIONS as u32).await);
    Ok(())
}

/// The user that the daemon runs as, seen as a peer would see it.
fn own_uid() -> io::Result<u32> {
    let (one, _other) = UnixStream::pair()?;
    Ok(one.peer_cred()?.uid())
}

fn may_speak(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

fn foreign(peer: u32) -> Failure {
    let text = format!("user {peer} may not speak to this daemon: only the user it runs as, and root, may");
    Failure::new(StatusCode::FORBIDDEN, text)
}

fn full() -> Failure {
    let text = format!("{CONNECTIONS} clients are connected already: close some, or try again later");
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn converse(stream: UnixStream, router: Router, place: OwnedSemaphorePermit, mut closing: Closing) {
    let service = TowerToHyperService::new(router);
    let connection =
        protocol(HEAD_PATIENCE).serve_connection(TokioIo::new(Patient::new(stream, WRITE_PATIENCE)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = closing.wanted() => None,
    };
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        // How a connection fails is the client's affair.
        drop(connection.await);
    }
    drop(place);
}

/// Says why, to a few at a time; others find the connection closed.
fn refuse(stream: UnixStream, failure: Failure, refusals: &Arc<Semaphore>) {
    let Ok(place) = refusals.clone().try_acquire_owned() else { return };
    tokio::spawn(async move {
        let service = service_fn(move |_: Request<Incoming>| {
            let answer = failure.clone().into_response();
            async move { Ok::<Response, Infallible>(answer) }
        });
        let mut protocol = protocol(REFUSAL_PATIENCE);
        protocol.keep_alive(false);
        let conversation = protocol.serve_connection(TokioIo::new(stream), service);
        drop(tokio::time::timeout(REFUSAL_PATIENCE, conversation).await);
        drop(place);
    });
}

fn protocol(head_patience: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_patience).max_buf_size(HEAD_BYTES);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_user_and_root_may_speak() {
        assert!(may_speak(1000, 1000));
        assert!(may_speak(0, 1000));
        assert!(!may_speak(1001, 1000));
        assert!(!may_speak(1000, 0), "root's daemon is root's alone");
    }

    #[test]
    fn the_own_uid_is_the_peer_s() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let uid = runtime.block_on(async { own_uid() }).unwrap();
        assert_eq!(uid, std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()));
    }
}
