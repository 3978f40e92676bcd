//! `/livez` and `/readyz` over TCP, for whoever runs a herd in a container. They tell nothing but yes or no.
//!
//! Anybody may ask: what is answered is a word, and whoever is slow costs a place among a few.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use oxherd_core::{AppStatus, FleetStatus, Status};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::state::State;

/// How many may ask at a time; others wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// How long one may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may be there at all.
const LIFETIME: Duration = Duration::from_secs(60);
/// A daemon that takes longer to say how things are is stuck.
const STUCK: Duration = Duration::from_secs(5);
/// The pause after `accept` failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers for as long as the daemon lives.
pub(super) async fn serve(listener: TcpListener, state: Arc<State>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(answer(&state, &request).await) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
            // How a connection fails is the client's affair.
            drop(timeout(LIFETIME, server.serve_connection(TokioIo::new(stream), service)).await);
            drop(place);
        });
    }
}

async fn answer(state: &State, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let survey = || async { timeout(STUCK, state.survey()).await.ok().and_then(Result::ok) };
    let (status, text) = match request.uri().path() {
        // It lives if the thread that decides answers; what it is about to do is no matter.
        "/livez" => match survey().await {
            Some(_) => (StatusCode::OK, "alive\n".to_owned()),
            None => (StatusCode::SERVICE_UNAVAILABLE, "the daemon does not answer\n".to_owned()),
        },
        "/readyz" => match survey().await.map(|survey| unready(&survey.status)) {
            Some(None) => (StatusCode::OK, "ready\n".to_owned()),
            Some(Some(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            None => (StatusCode::SERVICE_UNAVAILABLE, "the daemon does not answer\n".to_owned()),
        },
        _ => (StatusCode::NOT_FOUND, "/livez and /readyz are answered\n".to_owned()),
    };
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

/// Why clients should not come: an app has nobody who serves, or all are on their way out.
fn unready(status: &FleetStatus) -> Option<String> {
    let serves = |app: &AppStatus| app.slots.iter().any(|slot| slot.status == Status::Online);
    let mut wanted = status.apps.iter().filter(|app| app.up).peekable();
    if wanted.peek().is_none() {
        return Some("no app is to run".into());
    }
    wanted.find(|app| !serves(app)).map(|app| format!("{} has no worker that is ready", app.name))
}
