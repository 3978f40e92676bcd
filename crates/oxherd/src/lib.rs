//! The library of Oxherd: what `cluster` is to Node programs, for programs in Rust.
//!
//! The default feature `worker` is the side of a program that serves: several of them behind one address, under a
//! primary of Oxherd or of Node. The same program serves directly when it is run alone:
//!
//! ```no_run
//! # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = oxherd::listen("0.0.0.0:3000").await?;
//! loop {
//!     let (stream, _peer) = listener.accept().await?;
//!     tokio::spawn(async move { drop(stream) });
//! }
//! # }
//! ```
//!
//! | feature | brings |
//! |---|---|
//! | `worker` (default) | [`worker()`], [`listen`], messages, graceful shutdown |
//! | `stream` | listeners and messages as streams |
//! | `tower` | `http::RequestLayer`, which counts requests and reports them |
//! | `axum` | `http::serve`, and listeners for `axum::serve` |
//! | `primary` | [`Cluster`]: workers as processes or threads, supervised, reloaded without loss |
//! | `client`, `api` | a client of a running daemon's control API, and its types |

#![warn(missing_docs)]

#[cfg(feature = "api")]
pub mod api;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "primary")]
pub mod console;
#[cfg(feature = "tower")]
pub mod http;
#[cfg(feature = "primary")]
pub mod primary;
#[cfg(feature = "worker")]
mod worker;

#[cfg(feature = "primary")]
pub use primary::{
    Builder, Cluster, ClusterError, ClusterStatus, Distribution, Event, Events, Notice, Ports, Report,
    RestartWhen, Runtime, Serialization, Signal, Sockets, Status, Strategy, WorkerHandle, Workers,
};
#[cfg(feature = "stream")]
pub use worker::Incoming;
#[cfg(feature = "worker")]
pub use worker::{
    Attachment, Connection, Drained, Figures, InFlight, ListenError, Listener, Load, Message, MessageError,
    Messages, SendError, Shutdown, Tracked, UnixListener, Worker, bind_udp, listen, listen_unix, worker,
};

/// Any error: what a worker's function may fail with, and what `?` turns others into.
#[cfg(feature = "worker")]
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
