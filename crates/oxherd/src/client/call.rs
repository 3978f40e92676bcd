//! One call: a connection, a request, an answer; and again, as long as patience lasts. It must never repeat a
//! request that changes something without its key.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::ClientError;
use crate::api::Problem;

/// How long a call waits for an answer, and for a daemon that broke off to come back.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long nobody may listen after a connection broke: between a keeper's end and its successor.
const GAP: Duration = Duration::from_secs(2);
/// The first pause before another try; each is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// The largest answer, in bytes.
const ANSWER_BYTES: usize = 256 << 20;

/// A request that may be sent several times.
#[derive(Debug)]
pub(super) struct Call {
    method: &'static str,
    path: String,
    body: Bytes,
    key: Option<String>,
    within: Duration,
}

impl Call {
    pub(super) fn get(path: &str) -> Self {
        Self { method: "GET", path: path.to_owned(), body: Bytes::new(), key: None, within: PATIENCE }
    }

    /// A request that changes something, and is known again by its key.
    pub(super) fn change(method: &'static str, path: &str, body: Vec<u8>) -> Self {
        Self { method, path: path.to_owned(), body: body.into(), key: Some(random_key()), within: PATIENCE }
    }

    /// How long one answer may take.
    pub(super) fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut builder =
            Request::builder().method(self.method).uri(&self.path).header(header::HOST, "oxherd");
        if let Some(key) = &self.key {
            builder = builder.header("idempotency-key", key);
        }
        if !self.body.is_empty() {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
        }
        let strange = |error| ClientError::Strange { what: format!("{}: {error}", self.path) };
        builder.body(Full::new(self.body.clone())).map_err(strange)
    }
}

/// Why one try failed.
enum Failed {
    /// Nobody listens.
    Nobody,
    /// It may help to try again.
    Broken(String),
    /// No answer came in time.
    Silent,
    /// It does not help to try again.
    Final(ClientError),
}

/// The body of the answer to `call`.
pub(super) async fn answer(socket: &Path, call: &Call, patience: Duration) -> Result<Bytes, ClientError> {
    let mut tries = Tries::new(socket, patience);
    loop {
        match timeout(call.within, whole(socket, call)).await.unwrap_or(Err(Failed::Silent)) {
            Ok(body) => return Ok(body),
            Err(failed) => tries.after(failed, call).await?,
        }
    }
}

/// The answer to `call`, with its body still to come.
pub(super) async fn open(socket: &Path, call: &Call, patience: Duration) -> Result<Incoming, ClientError> {
    let mut tries = Tries::new(socket, patience);
    loop {
        match timeout(call.within, head(socket, call)).await.unwrap_or(Err(Failed::Silent)) {
            Ok(response) => return Ok(response.into_body()),
            Err(failed) => tries.after(failed, call).await?,
        }
    }
}

/// Whether nobody listens.
pub(super) async fn is_closed(socket: &Path) -> bool {
    matches!(connect(socket).await, Err(Failed::Nobody))
}

/// How often and how long a call has been tried.
struct Tries<'a> {
    socket: &'a Path,
    patience: Duration,
    broken_since: Option<Instant>,
    nobody_since: Option<Instant>,
    pause: Duration,
}

impl<'a> Tries<'a> {
    fn new(socket: &'a Path, patience: Duration) -> Self {
        Self { socket, patience, broken_since: None, nobody_since: None, pause: PAUSE_MIN }
    }

    /// Waits a little if another try is due.
    async fn after(&mut self, failed: Failed, call: &Call) -> Result<(), ClientError> {
        let now = Instant::now();
        let socket = self.socket.to_owned();
        match failed {
            Failed::Final(error) => return Err(error),
            Failed::Silent => return Err(ClientError::Silent { secs: call.within.as_secs() }),
            Failed::Nobody if self.broken_since.is_none() => return Err(ClientError::NotRunning { socket }),
            Failed::Nobody if now - *self.nobody_since.get_or_insert(now) >= GAP.min(self.patience) => {
                return Err(ClientError::Vanished { socket });
            }
            Failed::Nobody => (),
            Failed::Broken(what) if now - *self.broken_since.get_or_insert(now) >= self.patience => {
                return Err(ClientError::Broken { what });
            }
            Failed::Broken(_) => self.nobody_since = None,
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

async fn whole(socket: &Path, call: &Call) -> Result<Bytes, Failed> {
    collect(head(socket, call).await?).await
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, Failed> {
    let collected = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    collected.map(|body| body.to_bytes()).map_err(|error| Failed::Broken(error.to_string()))
}

/// An answer that is a success.
async fn head(socket: &Path, call: &Call) -> Result<Response<Incoming>, Failed> {
    let stream = connect(socket).await?;
    let broken = |error: hyper::Error| Failed::Broken(with_cause(&error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // What becomes of the connection is seen by who reads from it.
    tokio::spawn(async move { drop(connection.await) });
    let request = call.request().map_err(Failed::Final)?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    // A daemon that is ending says when to try again: its successor will know.
    let again =
        status == StatusCode::SERVICE_UNAVAILABLE && response.headers().contains_key(header::RETRY_AFTER);
    let body = collect(response).await?;
    let error = match serde_json::from_slice(&body) {
        Ok(Problem { error }) => error,
        Err(_) => format!("the daemon answered {status}"),
    };
    if again { Err(Failed::Broken(error)) } else { Err(refused(status, error)) }
}

fn refused(status: StatusCode, error: String) -> Failed {
    Failed::Final(ClientError::Refused { status: status.as_u16(), error })
}

async fn connect(socket: &Path) -> Result<UnixStream, Failed> {
    UnixStream::connect(socket).await.map_err(|cause| match cause.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => Failed::Nobody,
        // The queue of connections is full.
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Failed::Broken(cause.to_string()),
        _ => Failed::Final(unreachable_at(socket, cause)),
    })
}

fn unreachable_at(socket: &Path, cause: io::Error) -> ClientError {
    ClientError::Unreachable { socket: socket.to_owned(), cause }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// A key that nobody else draws: the hasher is seeded by the kernel's random numbers.
fn random_key() -> String {
    let part = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", part(), part())
}

/// A part of a path or a query: every byte that could mean something there is escaped.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'.' => {
                escaped.push(char::from(byte))
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_an_app_is_called_stays_in_its_place() {
        assert_eq!(escape("web-1_a.b~"), "web-1_a.b~");
        assert_eq!(escape("a/b?c=d&e#f é%"), "a%2Fb%3Fc%3Dd%26e%23f%20%C3%A9%25");
    }

    #[test]
    fn keys_are_all_different() {
        let keys: std::collections::BTreeSet<String> = (0..1000).map(|_| random_key()).collect();
        assert_eq!(keys.len(), 1000);
        assert!(keys.iter().all(|key| key.len() == 32));
    }
}
