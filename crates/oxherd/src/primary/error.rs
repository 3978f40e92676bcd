//! What can go wrong with a cluster, each with its way out.

use std::io;

use oxherd_engine::EngineError;
use oxherd_engine::core::{Refusal, Sockets, SpecError};
use thiserror::Error;

/// Why a cluster cannot be had, or does not do as it is asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// This process, or this thread, is a worker: only a primary has workers.
    #[error(
        "cannot start a cluster: this is a worker of one already; ask `oxherd::worker()` first and start none \
         where it gives a worker"
    )]
    IsWorker,
    /// It is not known which program the workers are to run.
    #[error("cannot tell which program this is: {0}; name the workers' with `program`")]
    NoProgram(#[source] io::Error),
    /// The current folder, where workers start, is not there.
    #[error("cannot use the current folder: {0}; name another with `cwd`")]
    NoFolder(#[source] io::Error),
    /// An option that cannot be.
    #[error("cannot start the cluster: {0}")]
    Option(#[from] SpecError),
    /// A variable that no environment can hold. Its value is not shown: it may be a secret.
    #[error(
        "cannot give workers the variable {0:?}: a name must not be empty nor have `=` or NUL in it, a value no NUL"
    )]
    BadVariable(String),
    /// Threads run a function of this program, and none was given.
    #[error("cannot start threads without their function: use `run` or `start`")]
    NoFunction,
    /// Threads are no programs that could be lent sockets.
    #[error(
        "threads get their sockets over the channel, not by `{0}`: leave `sockets` out, or use processes"
    )]
    ThreadsByChannel(Sockets),
    /// Threads share the environment of their process.
    #[error("cannot give a thread an environment of its own: fork it without, or use processes")]
    NoEnvironment,
    /// The kernel refuses something that the primary needs.
    #[error("cannot start the cluster: {0}")]
    Start(#[from] EngineError),
    /// The cluster is no more.
    #[error("the cluster has ended: start another")]
    Ended,
    /// What was asked for cannot be done now.
    #[error(transparent)]
    Refused(Refusal),
    /// A successor was not ready; those that served go on.
    #[error("the reload is aborted: {0}; the old workers go on")]
    ReloadAborted(String),
    /// A slot gave up, or ended, before every worker was ready.
    #[error("not every worker is ready: a slot has given up or finished; its events say why")]
    NotServing,
    /// A later wish took the place of this one: another reload, a restart, or the end of the cluster.
    #[error("a later request took the place of this one")]
    Superseded,
    /// The worker has ended.
    #[error("worker {0} has ended: `workers()` lists those that live")]
    WorkerGone(u64),
    /// The worker's channel is closed.
    #[error("cannot send to worker {0}: it is disconnected")]
    Disconnected(u64),
    /// The value is nothing that JSON can say, or a frame of the protocol.
    #[error(transparent)]
    Message(#[from] crate::SendError),
    /// The worker would take it for a breach of the protocol.
    #[error(
        "cannot send: the message is {bytes} bytes long and may have {limit}; send it in parts, or where it is"
    )]
    TooLong {
        /// How long it is as JSON.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Too much waits to be sent already.
    #[error("cannot send: too many messages wait already; send fewer, or later")]
    Full,
}
