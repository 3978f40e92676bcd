//! Bringing a cluster to life: on the calling thread, or on one of its own; and the same program as its worker.
//!
//! The thread that starts processes lives as long as the primary: the kernel ends them when it does.

use std::error::Error;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use oxherd_engine::core::Sockets;
use oxherd_engine::host::{Estate, LocalHost, NoStash, ProcessHost};
use oxherd_engine::{EngineError, Primary, block_signals};
use tokio::runtime::Builder as RuntimeBuilder;

use super::builder::Plan;
use super::cluster::code;
use super::herald::Herald;
use super::hooks::Hooks;
use super::shared::Shared;
use super::threads::ThreadHost;
use super::{Builder, Cluster, ClusterError, Runtime};
use crate::console::Ending;
use crate::worker::set_thread_worker;
use crate::{BoxError, Worker};

/// How long a worker that ends waits for its last words to be out.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What a worker exits with that returned an error.
const FAILED: u8 = 1;
/// What a process exits with whose main thread has panicked.
const PANICKED: u8 = 101;

/// Whether this process, which is a worker, runs its function: that must not run itself once more.
static IN_FUNCTION: AtomicBool = AtomicBool::new(false);

type Running = Pin<Box<dyn Future<Output = Result<(), BoxError>>>>;

/// A worker's function with the runtime that it runs in.
#[derive(Clone)]
pub(super) struct Job {
    call: Arc<dyn Fn(Worker) -> Running + Send + Sync>,
    runtime: Runtime,
}

impl Builder {
    /// Runs the cluster until all is over: in the primary until no worker is left to run, or until it is told to end
    /// ([`signals`](Self::signals)); in a worker until `worker` has returned. Returns what the process is to exit with.
    ///
    /// In the primary that is the exit code of `oxherd run`: 0 stopped on request, or every worker has ended and none
    /// is to be restarted; 1 killed by a second signal, or an internal error; 2 it cannot start, as within a worker's
    /// function; 3 a slot has given up and no worker is left. In a worker an `Err` is reported (`{type:"error"}`), printed, and exit code 1.
    ///
    /// The calling thread becomes the primary's, and its workers die with it. Call it from `main`, before other
    /// threads are started. The worker's runtime is made here; one around it is not used.
    ///
    /// ```no_run
    /// # use oxherd::{Cluster, Worker};
    /// async fn serve(worker: Worker) -> Result<(), std::io::Error> {
    ///     println!("worker {} of slot {}", worker.id(), worker.slot());
    ///     worker.shutdown().await;
    ///     Ok(())
    /// }
    ///
    /// fn main() -> std::process::ExitCode {
    ///     Cluster::builder().signals(true).run(serve)
    /// }
    /// ```
    pub fn run<F, R, E>(self, worker: F) -> ExitCode
    where
        F: Fn(Worker) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + 'static,
        E: Into<BoxError>,
    {
        let job = Job::new(worker, self.worker_runtime());
        let ending = match process_worker() {
            Ok(Some(worker)) => return job.run_process(worker).into(),
            Ok(None) => self.plan(true, false).and_then(|plan| serve(plan, Some(job), drop)),
            Err(error) => Err(error),
        };
        match ending {
            Ok(ending) => code(ending),
            Err(error) => {
                eprintln!("oxherd: {error}");
                code(if matches!(error, ClusterError::Start(_)) { Ending::Failure } else { Ending::Usage })
            }
        }
    }

    /// Starts the cluster on a thread of its own and returns the way to it, for logic of one's own. In a worker it
    /// does not return: it runs `worker` and exits as [`run`](Self::run) would.
    ///
    /// # Errors
    /// [`ClusterError::IsWorker`] within a worker's function; an option that cannot be; the kernel refuses something.
    ///
    /// ```no_run
    /// # use oxherd::{Cluster, Worker};
    /// # async fn serve(_: Worker) -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn main_() -> Result<(), oxherd::ClusterError> {
    /// let cluster = Cluster::builder().start(serve)?;
    /// cluster.reload().await?;
    /// # Ok(()) }
    /// ```
    pub fn start<F, R, E>(self, worker: F) -> Result<Cluster, ClusterError>
    where
        F: Fn(Worker) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + 'static,
        E: Into<BoxError>,
    {
        let job = Job::new(worker, self.worker_runtime());
        if let Some(worker) = process_worker()? {
            std::process::exit(job.run_process(worker).into());
        }
        spawn(self.plan(true, true)?, Some(job))
    }

    /// Starts the cluster on a thread of its own, for a program that has asked [`oxherd::worker()`](crate::worker())
    /// itself, or whose workers are another program.
    ///
    /// ```no_run
    /// # use oxherd::{Cluster, Workers};
    /// # fn main_() -> Result<(), oxherd::ClusterError> {
    /// let cluster = Cluster::builder().program("node").args(["server.js"]).workers(Workers::Count(2)).primary()?;
    /// cluster.wait();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ClusterError::IsWorker`] in a worker; an option that cannot be; the kernel refuses something.
    pub fn primary(self) -> Result<Cluster, ClusterError> {
        if crate::worker().is_some() {
            return Err(ClusterError::IsWorker);
        }
        spawn(self.plan(false, true)?, None)
    }
}

/// This process as a worker that has its function still to run; nothing in a primary.
fn process_worker() -> Result<Option<Worker>, ClusterError> {
    match crate::worker() {
        Some(worker) if worker.is_thread() || IN_FUNCTION.load(Ordering::Acquire) => {
            Err(ClusterError::IsWorker)
        }
        worker => Ok(worker),
    }
}

/// Serves on a thread that is there for nothing else.
fn spawn(plan: Plan, job: Option<Job>) -> Result<Cluster, ClusterError> {
    if plan.settings.signals {
        // Here, so that the threads that this one starts hold them back, too.
        block_signals().map_err(|cause| EngineError::Os { what: "watch signals", cause })?;
    }
    let (tell, told) = mpsc::sync_channel(1);
    let work = move || {
        let refuse = tell.clone();
        // Whoever asked waits for it.
        if let Err(error) = serve(plan, job, move |cluster| drop(tell.send(Ok(cluster)))) {
            drop(refuse.send(Err(error)));
        }
    };
    let thread = thread::Builder::new().name("oxherd-control".into()).spawn(work);
    thread.map_err(|cause| EngineError::Os { what: "start the control thread", cause })?;
    told.recv().unwrap_or(Err(ClusterError::Ended))
}

/// The cluster, from its first to its last moment. `tell` is called once it is there.
fn serve(plan: Plan, job: Option<Job>, tell: impl FnOnce(Cluster)) -> Result<Ending, ClusterError> {
    let shared = Shared::new(plan.events.clone(), plan.spec.stop_signal, plan.are_threads);
    let cluster = Cluster { shared: Arc::clone(&shared) };
    // However it ends: a panic is an end, too.
    let obituary = Obituary(Arc::clone(&shared));
    let mut hooks = Hooks::default();
    let ending = live(plan, job, &cluster, &mut hooks, tell);
    shared.finish(*ending.as_ref().unwrap_or(&Ending::Failure));
    drop(obituary);
    hooks.finish();
    ending
}

fn live(
    plan: Plan,
    job: Option<Job>,
    cluster: &Cluster,
    hooks: &mut Hooks,
    tell: impl FnOnce(Cluster),
) -> Result<Ending, ClusterError> {
    let Plan { spec, settings, are_threads, console, events, on_event, on_report } = plan;
    // The cluster has it.
    drop(events);
    let os = |what| move |cause| EngineError::Os { what, cause };
    if settings.signals {
        // Before any thread is there, so that all hold them back.
        block_signals().map_err(os("watch signals"))?;
    }
    let host: Box<dyn ProcessHost> = match job {
        Some(job) if are_threads => Box::new(ThreadHost::new(job)),
        Some(_) | None => Box::new(LocalHost::new(false).map_err(os("supervise processes"))?),
    };
    on_event.map(|call| hooks.on_event(cluster, call)).transpose().map_err(os("start a thread"))?;
    let reports = on_report.map(|call| hooks.on_report(call)).transpose().map_err(os("start a thread"))?;
    let has_channel = spec.sockets == Sockets::Channel;
    let mut herald = Herald::new(&cluster.shared, console, spec.instances, has_channel, reports);
    let mut primary = Primary::new(&settings, host, Box::new(NoStash), &mut herald)?;
    cluster.shared.set_handle(primary.handle());
    tell(cluster.clone());
    let result = primary.run(vec![spec], Estate::default());
    drop(primary);
    Ok(herald.end(result))
}

/// Tells everybody who waits that the cluster has ended.
struct Obituary(Arc<Shared>);

impl Drop for Obituary {
    fn drop(&mut self) {
        self.0.finish(Ending::Failure);
    }
}

impl Job {
    fn new<F, R, E>(worker: F, runtime: Runtime) -> Self
    where
        F: Fn(Worker) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + 'static,
        E: Into<BoxError>,
    {
        let call = move |it: Worker| -> Running {
            let running = worker(it);
            Box::pin(async move { running.await.map_err(Into::into) })
        };
        Self { call: Arc::new(call), runtime }
    }

    /// Runs in this process, and says what to exit with.
    fn run_process(&self, worker: Worker) -> u8 {
        IN_FUNCTION.store(true, Ordering::Release);
        let code = self.run_once(worker);
        IN_FUNCTION.store(false, Ordering::Release);
        code
    }

    fn run_once(&self, worker: Worker) -> u8 {
        let work = || self.run(worker, std::future::pending());
        if tokio::runtime::Handle::try_current().is_err() {
            return work();
        }
        // A runtime cannot be made within another.
        thread::scope(|scope| scope.spawn(work).join()).unwrap_or(PANICKED)
    }

    /// Runs until it has returned, or until `killed` has: then whatever it was doing is dropped.
    pub(super) fn run(&self, worker: Worker, killed: impl Future<Output = ()>) -> u8 {
        worker.report_panics();
        let runtime = match self.build_runtime(&worker) {
            Ok(runtime) => runtime,
            Err(error) => {
                let error = format!("cannot make a runtime for the worker: {error}");
                eprintln!("Error: {error}");
                drop(worker.report_error(error, None));
                return FAILED;
            }
        };
        let work = async {
            // From here on the channel is looked after, whatever the function does.
            let _connected = worker.is_connected();
            let work = async {
                // Made within the runtime: a function may ask for it before its first await.
                let result = (self.call)(worker.clone()).await;
                conclude(&worker, result).await
            };
            first_of(work, killed).await
        };
        let code = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
        // What runs on threads of its own is not waited for, as when a process ends; not after a panic either.
        runtime.shutdown_background();
        code.unwrap_or_else(|panic| resume_unwind(panic)).unwrap_or(FAILED)
    }

    fn build_runtime(&self, worker: &Worker) -> std::io::Result<tokio::runtime::Runtime> {
        let mut builder = match self.runtime {
            Runtime::CurrentThread => RuntimeBuilder::new_current_thread(),
            Runtime::MultiThread(threads) => {
                let mut builder = RuntimeBuilder::new_multi_thread();
                builder.worker_threads(threads.max(1));
                builder
            }
        };
        if worker.is_thread() {
            // On every thread of the runtime one asks who one is, and panics are reported.
            let worker = worker.clone();
            builder.on_thread_start(move || set_thread_worker(Some(worker.clone())));
        }
        builder.enable_all().build()
    }
}

/// Reports an error, and lets the last words out.
async fn conclude(worker: &Worker, result: Result<(), BoxError>) -> u8 {
    let code = match result {
        Ok(()) => 0,
        Err(error) => {
            let said = chain(&*error);
            eprintln!("Error: {said}");
            drop(worker.report_error(said, None));
            FAILED
        }
    };
    // A primary that does not read is not waited for.
    drop(tokio::time::timeout(LAST_WORDS, worker.flush()).await);
    code
}

/// The error and what caused it, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        next = error.source();
        // Some errors say their cause themselves.
        if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

/// What `work` returns, unless the other has returned before: then nothing more of it is done.
async fn first_of<T>(work: impl Future<Output = T>, other: impl Future<Output = ()>) -> Option<T> {
    let (mut work, mut other) = (std::pin::pin!(work), std::pin::pin!(other));
    std::future::poll_fn(|context| {
        if other.as_mut().poll(context).is_ready() {
            return std::task::Poll::Ready(None);
        }
        work.as_mut().poll(context).map(Some)
    })
    .await
}
