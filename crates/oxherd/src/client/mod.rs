//! A client of the control API, over the daemon's Unix socket.
//!
//! It must stay light, and must never start a daemon: that is for the command to do.
//!
//! The daemon may die and come back at any moment. A call whose connection breaks is made again, for as long as
//! the client's patience lasts; one that changes something carries a key by which the daemon knows it again, so
//! that nothing is done twice. Streams tell that they broke, because what happened in between is not known.
//!
//! The calls need a tokio runtime with IO and time; the one of a single thread is enough:
//!
//! ```no_run
//! use oxherd::client::{Client, ClientError};
//!
//! async fn restart_everything() -> Result<(), ClientError> {
//!     let client = Client::at("/home/me/.oxherd/oxherd.sock");
//!     for change in client.restart("all").await?.changes {
//!         println!("{}: {:?}", change.name, client.wait(change.change).await?);
//!     }
//!     Ok(())
//! }
//!
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
//! if let Err(error) = runtime.block_on(restart_everything()) {
//!     eprintln!("{error}");
//! }
//! ```

mod call;
mod error;
mod reach;
mod stream;

use std::path::{Path, PathBuf};
use std::time::Duration;

use oxherd_core::{AppSpec, ChangeId, ChangeOutcome, Slot};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use crate::api::{
    Accepted, AdjustApp, AppView, ChangeView, Herd, LogLine, NewsItem, OutputStream, Pong, RecycleApp,
    ReloadApp, RestartApp, ScaleApp, StartApp, StartApps, Upgrade,
};

pub use error::ClientError;
pub use stream::{Events, Told};

use call::{Call, PATIENCE, escape};

/// How long one look at a change may take; it is looked at again and again.
const LOOK: Duration = Duration::from_secs(30);
/// The pause after a look that ended early without an answer, and between two looks at an ending daemon.
const PAUSE: Duration = Duration::from_millis(50);

/// A way to the daemon. It holds no connection open between calls.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    patience: Duration,
}

/// Which lines [`Client::logs`] is to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogsOf {
    /// Of which apps: a selector; all when `None`.
    pub app: Option<String>,
    /// How many of the last lines of each file come first; the daemon's default when `None`.
    pub lines: Option<u64>,
    /// Go on with the lines that are written from now on.
    pub follow: bool,
    /// Of one stream only.
    pub stream: Option<OutputStream>,
}

impl Client {
    /// A client of the daemon that listens at `socket`. Nothing is sent yet.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), patience: PATIENCE }
    }

    /// How long a call may be without an answer, and how long a daemon that broke off may take to come back; 30
    /// seconds unless chosen otherwise.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who is there.
    ///
    /// # Errors
    /// As for every call: see [`ClientError`].
    pub async fn ping(&self) -> Result<Pong, ClientError> {
        self.get("/v1/ping").await
    }

    /// All apps.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn apps(&self) -> Result<Herd, ClientError> {
        self.get("/v1/apps").await
    }

    /// The apps that `selector` names.
    ///
    /// # Errors
    /// There are none (404), or see [`ClientError`].
    pub async fn some_apps(&self, selector: &str) -> Result<Herd, ClientError> {
        self.get(&format!("/v1/apps?app={}", escape(selector))).await
    }

    /// One app, by its id or name.
    ///
    /// # Errors
    /// There is no such app (status 404), or see [`ClientError`].
    pub async fn app(&self, selector: &str) -> Result<AppView, ClientError> {
        self.get(&format!("/v1/apps/{}", escape(selector))).await
    }

    /// Keeps a new app running.
    ///
    /// # Errors
    /// The name is taken (409), the spec is not valid (422), or see [`ClientError`].
    pub async fn start_new(&self, spec: AppSpec) -> Result<Accepted, ClientError> {
        self.change("POST", "/v1/apps", &StartApp { spec }).await
    }

    /// Keeps several new apps running: all of them or none.
    ///
    /// # Errors
    /// As for [`Self::start_new`].
    pub async fn start_all(&self, specs: Vec<AppSpec>) -> Result<Accepted, ClientError> {
        self.change("POST", "/v1/apps", &StartApps { specs }).await
    }

    /// Starts stopped apps again. `selector` is a name, a namespace, an id, `/a regular expression/` for names, or `all`,
    /// here as below.
    ///
    /// # Errors
    /// There is no such app (404), the daemon is ending (409), or see [`ClientError`].
    pub async fn start(&self, selector: &str) -> Result<Accepted, ClientError> {
        self.verb(selector, "start", &Nothing {}).await
    }

    /// Stops apps and keeps their configuration.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub async fn stop(&self, selector: &str) -> Result<Accepted, ClientError> {
        self.verb(selector, "stop", &Nothing {}).await
    }

    /// Stops every worker, then starts them again.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub async fn restart(&self, selector: &str) -> Result<Accepted, ClientError> {
        self.verb(selector, "restart", &Nothing {}).await
    }

    /// Stops every worker of an app, then starts them again by another configuration.
    ///
    /// # Errors
    /// As for [`Self::start`], and the spec is not valid or has another name (422).
    pub async fn restart_by(&self, selector: &str, spec: AppSpec) -> Result<Accepted, ClientError> {
        self.verb(selector, "restart", &RestartApp { spec: Some(spec) }).await
    }

    /// Replaces every worker without loss; with a `spec`, by that configuration.
    ///
    /// # Errors
    /// As for [`Self::start`], and the app is stopped (409), or the spec is not valid (422).
    pub async fn reload(&self, selector: &str, spec: Option<AppSpec>) -> Result<Accepted, ClientError> {
        self.verb(selector, "reload", &ReloadApp { spec }).await
    }

    /// Has an app go by another configuration at once, without replacing a worker.
    ///
    /// # Errors
    /// As for [`Self::start`], and the configuration differs in what workers were started with (409), or is not valid
    /// (422).
    pub async fn adjust(&self, selector: &str, spec: AppSpec) -> Result<Accepted, ClientError> {
        self.verb(selector, "adjust", &AdjustApp { spec }).await
    }

    /// Replaces the worker of one slot without loss.
    ///
    /// # Errors
    /// As for [`Self::start`], and the app is stopped (409), or it has no such slot (404).
    pub async fn recycle(&self, selector: &str, slot: Slot) -> Result<Accepted, ClientError> {
        self.verb(selector, "recycle", &RecycleApp { slot }).await
    }

    /// Keeps so many slots filled.
    ///
    /// # Errors
    /// As for [`Self::start`], and the app is stopped (409), or the number is not allowed (422).
    pub async fn scale(&self, selector: &str, instances: u32) -> Result<Accepted, ClientError> {
        self.verb(selector, "scale", &ScaleApp { instances }).await
    }

    /// Stops apps and forgets them.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub async fn delete(&self, selector: &str) -> Result<Accepted, ClientError> {
        self.change("DELETE", &format!("/v1/apps/{}", escape(selector)), &Nothing {}).await
    }

    /// How a change stands.
    ///
    /// # Errors
    /// The change is not known (404), or see [`ClientError`].
    pub async fn change_of(&self, change: ChangeId) -> Result<ChangeView, ClientError> {
        self.get(&format!("/v1/changes/{}", change.0)).await
    }

    /// Waits until a change is through, however long that takes and however often the daemon dies meanwhile.
    ///
    /// # Errors
    /// The daemon ended for good, or as for [`Self::change_of`].
    pub async fn wait(&self, change: ChangeId) -> Result<ChangeOutcome, ClientError> {
        let path = format!("/v1/changes/{}?wait={}", change.0, LOOK.as_secs());
        loop {
            let asked = Instant::now();
            let call = Call::get(&path).within(LOOK + self.patience);
            let view: ChangeView = self.call(&call).await?;
            match view.outcome {
                Some(outcome) => return Ok(outcome),
                // A daemon that is ending answers at once.
                None if asked.elapsed() < PAUSE => sleep(PAUSE).await,
                None => (),
            }
        }
    }

    /// Follows the news: of the apps that `app` selects, or of all.
    ///
    /// # Errors
    /// There is no such app (404), or see [`ClientError`].
    pub async fn events(&self, app: Option<&str>) -> Result<Events<NewsItem>, ClientError> {
        let query = app.map(|app| format!("?app={}", escape(app))).unwrap_or_default();
        self.stream(&format!("/v1/events{query}"), "notice").await
    }

    /// Reads what workers wrote, and follows what they write.
    ///
    /// # Errors
    /// There is no such app (404), a file cannot be read (500), or see [`ClientError`].
    pub async fn logs(&self, of: &LogsOf) -> Result<Events<LogLine>, ClientError> {
        let mut query = format!("?follow={}", of.follow);
        if let Some(app) = &of.app {
            query = format!("{query}&app={}", escape(app));
        }
        if let Some(lines) = of.lines {
            query = format!("{query}&lines={lines}");
        }
        match of.stream {
            Some(OutputStream::Stdout) => query.push_str("&stream=stdout"),
            Some(OutputStream::Stderr) => query.push_str("&stream=stderr"),
            None => (),
        }
        self.stream(&format!("/v1/logs{query}"), "line").await
    }

    /// Has the log files opened anew, after somebody has moved them away.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reopen_logs(&self) -> Result<(), ClientError> {
        let call = Call::change("POST", "/v1/logs/reopen", Vec::new());
        call::answer(&self.socket, &call, self.patience).await.map(drop)
    }

    /// Runs what was saved, apart from what runs already.
    ///
    /// # Errors
    /// Nothing was saved, or it cannot be read (409), or see [`ClientError`].
    pub async fn resurrect(&self) -> Result<Accepted, ClientError> {
        self.change("POST", "/v1/resurrect", &Nothing {}).await
    }

    /// Has keeper and daemon go on as another program; as the one that they were started from when `None`. Who is
    /// there afterwards, [`Self::ping`] tells.
    ///
    /// # Errors
    /// The program cannot be used (409), or see [`ClientError`].
    pub async fn upgrade(&self, program: Option<&str>) -> Result<Accepted, ClientError> {
        let body = Upgrade { program: program.map(str::to_owned) };
        self.change("POST", "/v1/upgrade", &body).await
    }

    /// Drains all apps and ends the daemon. It has ended when [`Self::wait_end`] returns.
    ///
    /// # Errors
    /// See [`ClientError`]. That the daemon ended before it answered is none.
    pub async fn kill(&self) -> Result<(), ClientError> {
        let first = self.change::<Accepted, _>("POST", "/v1/kill", &Nothing {}).await;
        match first {
            Err(ClientError::Vanished { .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Waits until no daemon listens any more, at most for `limit`; tells whether that is so.
    pub async fn wait_end(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            if call::is_closed(&self.socket).await {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(PAUSE).await;
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(&Call::get(path).within(self.patience)).await
    }

    async fn verb<B: Serialize>(
        &self,
        selector: &str,
        verb: &str,
        body: &B,
    ) -> Result<Accepted, ClientError> {
        self.change("POST", &format!("/v1/apps/{}/{verb}", escape(selector)), body).await
    }

    async fn change<T: DeserializeOwned, B: Serialize>(
        &self,
        method: &'static str,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body =
            serde_json::to_vec(body).map_err(|error| ClientError::Strange { what: error.to_string() })?;
        self.call(&Call::change(method, path, body).within(self.patience)).await
    }

    async fn call<T: DeserializeOwned>(&self, call: &Call) -> Result<T, ClientError> {
        let body = call::answer(&self.socket, call, self.patience).await?;
        serde_json::from_slice(&body)
            .map_err(|error| ClientError::Strange { what: format!("{}: {error}", call.path()) })
    }

    async fn stream<T>(&self, path: &str, name: &'static str) -> Result<Events<T>, ClientError> {
        let call = Call::get(path).within(self.patience);
        let body = call::open(&self.socket, &call, self.patience).await?;
        Ok(Events::new(body, name))
    }
}

/// The body `{}`.
#[derive(Serialize)]
struct Nothing {}
