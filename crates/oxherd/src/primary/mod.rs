//! The primary's side: a cluster of workers, as processes or threads, in ten lines or with one's own logic.
//!
//! [`Cluster::builder`] describes it; [`run`](Builder::run), [`start`](Builder::start) and
//! [`primary`](Builder::primary) bring it to life. The same program is primary and worker: a worker process runs
//! `main` again, and where it comes to `run` or `start` it runs the worker's function instead.
//!
//! The primary's work is done by the engine of `oxherd run`; nothing here decides who lives.

mod builder;
mod cluster;
mod error;
mod events;
mod handle;
mod herald;
mod hooks;
mod program;
mod run;
mod shared;
mod threads;
mod workers;

pub use builder::{Builder, Runtime};
pub use cluster::{Cluster, ClusterStatus};
pub use error::ClusterError;
pub use events::{Event, Events};
pub use handle::WorkerHandle;
pub use workers::Workers;

/// What the engine speaks of: options, news, figures.
pub use oxherd_engine::core::{
    AppStatus, Distribution, InstanceStatus, Notice, PortRange, Ports, RestartWhen, Serialization, Signal,
    SlotStatus, Sockets, Status, Strategy,
};
pub use oxherd_engine::{Alert, AppReport, Report, WorkerReport};
