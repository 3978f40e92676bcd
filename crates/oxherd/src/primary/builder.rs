//! What a cluster is to be: every option that `oxherd run` has, and those that only a program can have.
//!
//! It describes; `run.rs` carries out.

use std::env;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oxherd_engine::core::{
    AppSpec, Distribution, Limits, ListenAt, Ports, RestartWhen, Serialization, Signal, Sockets, Span,
    SpecError, Strategy,
};
use oxherd_engine::{Report, Settings};
use tokio::sync::broadcast::Sender;

use super::program::started_from;
use super::{Cluster, ClusterError, Event, Events, Workers};

/// Events that wait for a listener that is slow.
const EVENT_CAPACITY: usize = 1024;
/// Room is made for all of them at the start.
const EVENT_CAPACITY_MAX: usize = 1 << 20;
/// What another primary has set for this process, as its worker, is nothing to those of this one.
const NOT_INHERITED: [&str; 4] =
    ["NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "NODE_UNIQUE_ID", "NODE_APP_INSTANCE"];
const OWN_PREFIX: &str = "OXHERD_";

pub(super) type OnEvent = Box<dyn FnMut(&Cluster, Event) + Send>;
pub(super) type OnReport = Box<dyn FnMut(&Report) + Send>;

/// The tokio runtime in which a worker's function runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// One thread: with a worker for each CPU there is nothing to gain from more.
    #[default]
    CurrentThread,
    /// So many threads, at least 1.
    MultiThread(usize),
}

/// Describes a cluster; from [`Cluster::builder`].
///
/// Each option has the meaning and the default of the option of `oxherd run` with the same name, unless its text says
/// otherwise.
///
/// ```no_run
/// use oxherd::{Cluster, Workers};
/// use std::process::ExitCode;
/// use std::time::Duration;
///
/// async fn serve(worker: oxherd::Worker) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
///     let listener = worker.listen("0.0.0.0:3000").await?;
///     loop {
///         let (stream, _) = listener.accept().await?;
///         tokio::spawn(async move { drop(stream) });
///     }
/// }
///
/// fn main() -> ExitCode {
///     Cluster::builder()
///         .workers(Workers::PerCpu)
///         .max_restarts(5)
///         .restart_delay(Duration::from_secs(1))
///         .signals(true)
///         .run(serve)
/// }
/// ```
pub struct Builder {
    pub(super) spec: AppSpec,
    pub(super) problem: Option<ClusterError>,
    bad_variable: Option<ClusterError>,
    workers: Workers,
    distribution: Option<Distribution>,
    recall: bool,
    signals: bool,
    status_interval: Duration,
    stays: Option<bool>,
    console: bool,
    runtime: Runtime,
    capacity: usize,
    events: Option<Sender<Event>>,
    on_event: Option<OnEvent>,
    on_report: Option<OnReport>,
}

/// A builder whose options have been looked at.
pub(super) struct Plan {
    pub(super) spec: AppSpec,
    pub(super) settings: Settings,
    pub(super) are_threads: bool,
    pub(super) console: bool,
    pub(super) events: Sender<Event>,
    pub(super) on_event: Option<OnEvent>,
    pub(super) on_report: Option<OnReport>,
}

macro_rules! options {
    ($($(#[$doc:meta])* $name:ident: $kind:ty => |$it:ident, $value:ident| $set:expr;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $value: $kind) -> Self {
            let $it = &mut self;
            $set;
            self
        }
    )*};
}

impl Builder {
    pub(super) fn new() -> Self {
        let mut problem = None;
        let program = started_from().unwrap_or_else(|error| {
            problem = Some(ClusterError::NoProgram(error));
            PathBuf::new()
        });
        let folder = env::current_dir().unwrap_or_else(|error| {
            problem.get_or_insert(ClusterError::NoFolder(error));
            PathBuf::from("/")
        });
        let name =
            program.file_stem().map_or_else(|| "app".into(), |stem| stem.to_string_lossy().into_owned());
        let mut spec = AppSpec::new(name, String::new());
        spec.args = env::args_os().skip(1).filter_map(|arg| arg.into_string().ok()).collect();
        spec.env = inherited_environment();
        let mut builder = Self {
            spec,
            problem,
            bad_variable: None,
            workers: Workers::default(),
            distribution: None,
            recall: true,
            signals: false,
            status_interval: Duration::from_secs(30),
            stays: None,
            console: true,
            runtime: Runtime::default(),
            capacity: EVENT_CAPACITY,
            events: None,
            on_event: None,
            on_report: None,
        };
        builder.set_program(&program);
        builder.set_cwd(&folder);
        builder
    }

    options! {
        /// How many workers, and of which kind; one process for each CPU unless set.
        workers: Workers => |it, workers| it.workers = workers;
        /// What the cluster is called in reports; the program's name without its extension unless set.
        name: impl Into<String> => |it, name| it.spec.name = name.into();
        /// The file that workers execute: this program, by the path it was started from, unless set. One that is not
        /// built with this library is fine, too: `node` with a script as its argument.
        program: impl AsRef<Path> => |it, program| it.set_program(program.as_ref());
        /// The arguments of the workers, without the program itself: those of this process unless set.
        args: impl IntoIterator<Item = impl Into<String>> => |it, args| {
            it.spec.args = args.into_iter().map(Into::into).collect()
        };
        /// The folder in which workers start: the current one unless set.
        cwd: impl AsRef<Path> => |it, folder| it.set_cwd(folder.as_ref());
        /// Variables for the workers, beyond those of this process.
        envs: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)> => |it, variables| {
            match variables_of(variables) {
                Ok(variables) => it.spec.env.extend(variables),
                Err(problem) => it.bad_variable = Some(problem),
            }
        };
        /// How connections reach the workers: `Handoff` unless set; `Kernel` for threads, unless the strategy needs
        /// the other, and where workers are lent their sockets.
        distribution: Distribution => |it, distribution| it.distribution = Some(distribution);
        /// Which worker gets the next connection: `LeastBusy` unless set.
        strategy: Strategy => |it, strategy| it.spec.strategy = strategy;
        /// Each slot's share under [`Strategy::Weighted`]; a slot beyond the list has 1.
        weights: impl Into<Vec<u32>> => |it, weights| it.spec.weights = weights.into();
        /// How messages are written on the channels of Node workers: as JSON unless set. Workers built with this library
        /// speak either.
        serialization: Serialization => |it, serialization| it.spec.serialization = serialization;
        /// How workers come by their sockets: over the channel unless set. Under [`Sockets::Universal`] they may be
        /// any [`program`](Self::program) that binds a port.
        sockets: Sockets => |it, sockets| it.spec.sockets = sockets;
        /// The ports at which workers are lent listeners under [`Sockets::Universal`]: all unless set.
        ports: Ports => |it, ports| it.spec.ports = ports;
        /// A listener that workers are started with under [`Sockets::ListenFds`]: an IP address with a port, or the
        /// absolute path of a Unix socket.
        listen: (impl Into<String>, impl Into<String>) => |it, listener| {
            it.spec.listen.push(ListenAt { name: listener.0.into(), address: listener.1.into() })
        };
        /// How many booted workers wait before they listen, ready to take the slot of one that dies; none unless set.
        standby: u32 => |it, count| it.spec.standby = count;
        /// Which exits are followed by a respawn: all that nobody asked for, unless set.
        restart: RestartWhen => |it, when| it.spec.restart = when;
        /// A fixed wait before each respawn, to the millisecond; 100 ms doubling to 15 s unless set.
        restart_delay: Duration => |it, delay| it.spec.restart_delay = Some(span(delay));
        /// The time in which unstable exits are counted; 60 s unless set.
        restart_window: Duration => |it, window| it.spec.restart_window = span(window);
        /// A slot gives up at this many unstable exits within the restart window; 16 unless set.
        max_restarts: u32 => |it, count| it.spec.max_restarts = count;
        /// A slot gives up at this many reported errors and failures within the error window; off unless set.
        max_errors: u32 => |it, count| it.spec.max_errors = Some(count);
        /// The time in which errors are counted; 60 s unless set.
        error_window: Duration => |it, window| it.spec.error_window = span(window);
        /// An exit before this age is unstable; 1 s unless set. A worker that never listens is ready at this age.
        min_uptime: Duration => |it, age| it.spec.min_uptime = span(age);
        /// Whether a worker is ready when it says so ([`Worker::ready`](crate::Worker::ready)), not when it listens.
        wait_ready: bool => |it, wait| it.spec.wait_ready = wait;
        /// How long a successor may take to be ready before its reload is aborted; 30 s unless set.
        listen_timeout: Duration => |it, time| it.spec.listen_timeout = span(time);
        /// How long a worker may take to finish what is in hand; 10 s unless set.
        drain_timeout: Duration => |it, time| it.spec.drain_timeout = span(time);
        /// How long a worker may live after the stop signal; 5 s unless set.
        kill_timeout: Duration => |it, time| it.spec.kill_timeout = span(time);
        /// The polite signal; `SIGTERM` unless set.
        stop_signal: Signal => |it, signal| it.spec.stop_signal = signal;
        /// Whether workers are told to stop by the plain message `"shutdown"` in place of `{type:"shutdown"}`.
        shutdown_with_message: bool => |it, plain| it.spec.shutdown_with_message = plain;
        /// How many slots a reload replaces at a time; 1 unless set.
        parallel: u32 => |it, count| it.spec.parallel = count;
        /// How many handed-over connections a worker may leave unanswered; 2 unless set.
        handoff_window: u32 => |it, count| it.spec.handoff_window = count;
        /// The longest message that a worker may send, in bytes; 64 MiB unless set.
        max_message: usize => |it, bytes| it.spec.max_message = bytes;
        /// Tell, once per crossing, when a worker holds more than so many bytes of resident memory; off unless set.
        /// Of a thread it is the memory of the whole process.
        memory_warning: u64 => |it, bytes| it.spec.memory_warning = Some(bytes);
        /// Whether connections are taken back from a worker that does not pick them up; they are unless set.
        recall: bool => |it, recall| it.recall = recall;
        /// The time between two status reports; 30 s unless set. [`Duration::ZERO`]: none.
        status_interval: Duration => |it, interval| it.status_interval = interval;
        /// Whether signals are turned into requests, as `oxherd run` does: `SIGTERM` and `SIGINT` drain and end (a
        /// second one kills), `SIGHUP` reloads, `SIGTTIN` and `SIGTTOU` scale by one. Off unless set.
        ///
        /// They are held back in the calling thread and in those that it starts from then on, so the cluster is to be
        /// started before other threads are.
        signals: bool => |it, signals| it.signals = signals;
        /// Whether log lines and reports are printed as `oxherd run` prints them; they are unless set. Without, lines
        /// that workers write are passed on as they are.
        console: bool => |it, console| it.console = console;
        /// Whether the cluster goes on when no worker is left to run: unless set it does when it was made by
        /// [`start`](Self::start) or [`primary`](Self::primary), whose owner may fork, and not by [`run`](Self::run).
        stays: bool => |it, stays| it.stays = Some(stays);
        /// In which runtime the workers' function runs; in one of a single thread unless set.
        runtime: Runtime => |it, runtime| it.runtime = runtime;
        /// How many events wait for a listener that is slow, from 1 to 1,048,576; 1,024 unless set.
        event_capacity: usize => |it, events| it.capacity = events;
    }

    /// One variable for the workers, beyond those of this process.
    #[must_use]
    pub fn env(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.envs([(key, value)])
    }

    /// Calls this with every event, on a thread of its own. It may take its time: events wait, up to
    /// [`event_capacity`](Self::event_capacity).
    #[must_use]
    pub fn on_event(mut self, call: impl FnMut(&Cluster, Event) + Send + 'static) -> Self {
        self.on_event = Some(Box::new(call));
        self
    }

    /// Calls this with every status report, on a thread of its own.
    #[must_use]
    pub fn on_report(mut self, call: impl FnMut(&Report) + Send + 'static) -> Self {
        self.on_report = Some(Box::new(call));
        self
    }

    /// What happens from the very first moment on; [`Cluster::events`] begins when it is asked for. As many events
    /// wait as were [allowed](Self::event_capacity) until now.
    ///
    /// ```no_run
    /// # use oxherd::{Cluster, Event, Worker};
    /// # async fn serve(_: Worker) -> Result<(), std::io::Error> { Ok(()) }
    /// # fn main_() -> Result<(), oxherd::ClusterError> {
    /// let mut builder = Cluster::builder();
    /// let mut events = builder.events();
    /// let cluster = builder.start(serve)?;
    /// while let Some(event) = events.blocking_recv() {
    ///     if let Event::Serving { workers, addresses } = event {
    ///         println!("{workers} workers on {addresses:?}");
    ///     }
    /// }
    /// # drop(cluster); Ok(()) }
    /// ```
    pub fn events(&mut self) -> Events {
        let capacity = self.capacity;
        Events::new(self.events.get_or_insert_with(|| sender(capacity)).subscribe())
    }

    pub(super) fn worker_runtime(&self) -> Runtime {
        self.runtime
    }

    /// Checks the options. `has_function`: there is one for threads to run; `stays`: unless that was chosen.
    pub(super) fn plan(mut self, has_function: bool, stays: bool) -> Result<Plan, ClusterError> {
        let are_threads = self.workers.are_threads();
        match self.problem.take() {
            Some(ClusterError::NoProgram(error)) if !are_threads && self.spec.program.is_empty() => {
                return Err(ClusterError::NoProgram(error));
            }
            Some(ClusterError::NoFolder(error)) if self.spec.cwd == "/" => {
                return Err(ClusterError::NoFolder(error));
            }
            Some(_) | None => {}
        }
        if let Some(problem) = self.bad_variable.take() {
            return Err(problem);
        }
        if are_threads && !has_function {
            return Err(ClusterError::NoFunction);
        }
        if are_threads && self.spec.sockets != Sockets::Channel {
            return Err(ClusterError::ThreadsByChannel(self.spec.sockets));
        }
        self.spec.instances = self.workers.count();
        self.spec.distribution = self.chosen_distribution(are_threads);
        let settings = Settings {
            status_interval: Some(self.status_interval).filter(|interval| !interval.is_zero()),
            recall: self.recall,
            signals: self.signals,
            stays: self.stays.unwrap_or(stays),
            may_be_empty: self.workers == Workers::None,
        };
        check(&self.spec, &settings)?;
        Ok(Plan {
            spec: self.spec,
            settings,
            are_threads,
            console: self.console,
            events: self.events.unwrap_or_else(|| sender(self.capacity)),
            on_event: self.on_event,
            on_report: self.on_report,
        })
    }

    /// Threads have listeners of their own, unless somebody is to choose among them.
    fn chosen_distribution(&self, are_threads: bool) -> Distribution {
        let of_threads = AppSpec { distribution: Distribution::Kernel, ..self.spec.clone() };
        let usual = match are_threads && of_threads.check_choices().is_ok() {
            true => Distribution::Kernel,
            false => AppSpec::usual_distribution(self.spec.sockets),
        };
        self.distribution.unwrap_or(usual)
    }

    fn set_program(&mut self, program: &Path) {
        match program.to_str() {
            Some(program) => self.spec.program = program.to_owned(),
            None => {
                let why = format!("{} is not UTF-8", program.display());
                self.problem = Some(ClusterError::NoProgram(io::Error::other(why)));
            }
        }
    }

    fn set_cwd(&mut self, folder: &Path) {
        match folder.to_str() {
            Some(folder) => self.spec.cwd = folder.to_owned(),
            None => {
                let why = format!("{} is not UTF-8", folder.display());
                self.problem = Some(ClusterError::NoFolder(io::Error::other(why)));
            }
        }
    }
}

impl fmt::Debug for Builder {
    /// Without the environment, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.spec.name)
            .field("program", &self.spec.program)
            .field("args", &self.spec.args)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

fn sender(capacity: usize) -> Sender<Event> {
    Sender::new(capacity.clamp(1, EVENT_CAPACITY_MAX))
}

fn check(spec: &AppSpec, settings: &Settings) -> Result<(), SpecError> {
    spec.check(Limits { may_be_empty: settings.may_be_empty, ..Limits::default() })
}

/// Variables as they are added to an environment.
pub(super) fn variables_of(
    variables: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
) -> Result<Vec<(String, String)>, ClusterError> {
    let mut checked = Vec::new();
    for (key, value) in variables {
        let (key, value) = (key.into(), value.into());
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            return Err(ClusterError::BadVariable(key));
        }
        checked.push((key, value));
    }
    Ok(checked)
}

fn inherited_environment() -> Vec<(String, String)> {
    let texts =
        env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(key, _)| !NOT_INHERITED.contains(&key.as_str()) && !key.starts_with(OWN_PREFIX)).collect()
}

/// To the millisecond; what is longer than there is time is for ever.
fn span(duration: Duration) -> Span {
    Span::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
