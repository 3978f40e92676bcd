//! A running cluster, for a program's own logic: what can be asked of it, and what it tells.
//!
//! A handle only: dropping it ends nothing. The primary runs on a thread of its own.

use std::future::poll_fn;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;

use oxherd_engine::core::{AppStatus, ChangeOutcome, Refusal, ReloadFailure, Request};
use oxherd_engine::{Handle, Report};
use serde::Serialize;
use tokio::sync::oneshot;

use super::builder::variables_of;
use super::shared::{APP, Shared, WorkerState};
use super::{Builder, ClusterError, Events, WorkerHandle};
use crate::console::{Ending, abort_reason};
use crate::worker::json_of;

/// A cluster of workers and the way to it; `cluster` of Node, in the primary.
///
/// Made by [`Cluster::builder`]. Cheap to clone, and usable from any thread and any executor. When the last handle
/// is dropped the cluster goes on; when the process ends, so do its workers.
///
/// ```no_run
/// use oxherd::{Cluster, Workers};
///
/// # async fn serve(_: oxherd::Worker) -> Result<(), std::io::Error> { Ok(()) }
/// # async fn main_() -> Result<(), oxherd::ClusterError> {
/// let cluster = Cluster::builder().workers(Workers::Count(2)).start(serve)?;
/// cluster.scale(3).await?;
/// let special = cluster.fork_with([("ROLE", "cron")]).await?;
/// println!("worker {} does the chores", special.id());
/// cluster.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(super) shared: Arc<Shared>,
}

/// What a cluster looks like at a moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// Its slots and who is in them.
    pub slots: AppStatus,
    /// Figures of its workers and of the primary.
    pub report: Report,
}

impl Cluster {
    /// Begins to describe a cluster. What this program is, where it stands and what its environment is are looked at
    /// now.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Fills one more slot: the first that has finished or given up, else a new one.
    ///
    /// # Errors
    /// The cluster is about to end, or has as many workers as it may.
    pub async fn fork(&self) -> Result<WorkerHandle, ClusterError> {
        self.fork_with([] as [(String, String); 0]).await
    }

    /// As [`fork`](Self::fork): whoever fills the slot from now on, its respawns included, has these variables beyond
    /// those of the cluster.
    ///
    /// # Errors
    /// As with [`fork`](Self::fork); [`ClusterError::BadVariable`]; the cluster consists of threads, and `env` is not
    /// empty.
    pub async fn fork_with<K: Into<String>, V: Into<String>>(
        &self,
        env: impl IntoIterator<Item = (K, V)>,
    ) -> Result<WorkerHandle, ClusterError> {
        let env = variables_of(env)?;
        if self.shared.are_threads && !env.is_empty() {
            return Err(ClusterError::NoEnvironment);
        }
        let (tell, told) = oneshot::channel();
        // Who asked may have stopped waiting.
        self.handle()?.fork(APP, env, move |place| drop(tell.send(place)));
        let place = self.or_end(told).await?.map_err(ClusterError::Refused)?;
        let known = self.shared.worker(place.instance.worker_id());
        let state = known.unwrap_or_else(|| Arc::new(WorkerState::dead(place)));
        Ok(WorkerHandle::new(&self.shared, state))
    }

    /// The workers that live, in the order of their slots.
    pub fn workers(&self) -> Vec<WorkerHandle> {
        self.shared.workers().into_iter().map(|state| WorkerHandle::new(&self.shared, state)).collect()
    }

    /// The worker with this id, while it lives.
    pub fn worker(&self, id: u64) -> Option<WorkerHandle> {
        self.shared.worker(id).map(|state| WorkerHandle::new(&self.shared, state))
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        Events::new(self.shared.subscribe())
    }

    /// Sends a value to every worker that is connected; returns how many that are.
    ///
    /// # Errors
    /// The value cannot be JSON or is too long; too much waits already: then some may have got it.
    pub fn broadcast<T: Serialize + ?Sized>(&self, message: &T) -> Result<usize, ClusterError> {
        let json = json_of(message)?;
        let mut count = 0;
        for worker in self.workers().into_iter().filter(WorkerHandle::is_connected) {
            match worker.send_json(json.clone(), None) {
                Ok(()) => count += 1,
                // It has ended since.
                Err(ClusterError::Disconnected(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Replaces every worker without loss, successor first, by the program that now stands where this one was
    /// started from. Returns when that is done.
    ///
    /// # Errors
    /// [`ClusterError::ReloadAborted`] when a successor is not ready: then the old workers go on.
    /// [`ClusterError::Superseded`] when the cluster is restarted or told to end meanwhile.
    pub async fn reload(&self) -> Result<(), ClusterError> {
        self.change(Request::Reload { app: APP, spec: None }).await
    }

    /// Keeps so many slots filled, at least 1, and returns when all serve and the others are gone.
    ///
    /// # Errors
    /// More than there may be, or not all become ready.
    pub async fn scale(&self, workers: u32) -> Result<(), ClusterError> {
        self.change(Request::Scale { app: APP, instances: workers }).await
    }

    /// Stops every worker, then starts them again; [`reload`](Self::reload) makes nobody wait. Returns when all
    /// serve.
    ///
    /// # Errors
    /// Not all become ready.
    pub async fn restart(&self) -> Result<(), ClusterError> {
        self.change(Request::Restart { app: APP, spec: None }).await
    }

    /// What the cluster looks like now.
    ///
    /// # Errors
    /// It has ended.
    pub async fn status(&self) -> Result<ClusterStatus, ClusterError> {
        let (tell, told) = oneshot::channel();
        self.handle()?.survey(Vec::new(), move |survey| drop(tell.send(survey)));
        let survey = self.or_end(told).await?;
        let slots = survey.status.apps.into_iter().next().ok_or(ClusterError::Ended)?;
        Ok(ClusterStatus { slots, report: survey.report })
    }

    /// Has every worker finish and leave, and returns when the cluster has ended, with its exit code.
    pub async fn shutdown(&self) -> ExitCode {
        self.ask_to_end(Request::Shutdown);
        self.ended().await
    }

    /// Kills every worker, and returns when the cluster has ended, with its exit code.
    pub async fn kill(&self) -> ExitCode {
        self.ask_to_end(Request::Kill);
        self.ended().await
    }

    /// Returns when the cluster has ended, with its exit code: that of `oxherd run`.
    pub async fn ended(&self) -> ExitCode {
        let mut ended = self.shared.ended();
        // The sender lives as long as this handle.
        drop(ended.wait_for(|ended| *ended).await);
        code(self.shared.ending().unwrap_or(Ending::Failure))
    }

    /// The same for a thread without an executor: it waits.
    pub fn wait(&self) -> ExitCode {
        code(self.shared.wait())
    }

    fn ask_to_end(&self, request: Request) {
        if let Some(handle) = self.shared.handle() {
            handle.request(request, drop);
        }
    }

    /// Makes a wish and waits until it has come true.
    async fn change(&self, request: Request) -> Result<(), ClusterError> {
        let (tell, told) = oneshot::channel();
        let (tell_end, end) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.handle()?.request(request, move |accepted| {
            let accepted: Result<_, Refusal> = accepted;
            let answer = accepted.map(|change| shared.await_change(change, tell_end));
            drop(tell.send(answer));
        });
        self.or_end(told).await?.map_err(ClusterError::Refused)?;
        match self.or_end(end).await? {
            ChangeOutcome::Done => Ok(()),
            // The old workers do not go on either.
            ChangeOutcome::ReloadAborted(ReloadFailure::Superseded) => Err(ClusterError::Superseded),
            ChangeOutcome::ReloadAborted(why) => Err(ClusterError::ReloadAborted(abort_reason(&why))),
            ChangeOutcome::Failed => Err(ClusterError::NotServing),
            ChangeOutcome::Superseded => Err(ClusterError::Superseded),
        }
    }

    fn handle(&self) -> Result<&Handle, ClusterError> {
        self.shared.handle().ok_or(ClusterError::Ended)
    }

    /// What is told, unless the cluster ends before.
    async fn or_end<T>(&self, told: oneshot::Receiver<T>) -> Result<T, ClusterError> {
        let mut ended = self.shared.ended();
        let mut over = pin!(ended.wait_for(|ended| *ended));
        let mut told = pin!(told);
        poll_fn(|context| {
            if let Poll::Ready(answer) = told.as_mut().poll(context) {
                return Poll::Ready(answer.map_err(|_| ClusterError::Ended));
            }
            match over.as_mut().poll(context) {
                Poll::Ready(_) => Poll::Ready(told.try_recv().map_err(|_| ClusterError::Ended)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

pub(super) fn code(ending: Ending) -> ExitCode {
    ending.code().into()
}
