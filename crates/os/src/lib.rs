//! What Oxherd asks of the Linux kernel: processes, polling, signals, sockets, descriptors.
//!
//! This is the only crate with `unsafe`. It carries out orders and reports facts; it must never decide
//! anything (no policy, no retry timers, no knowledge of apps or of the worker protocol) and it knows no
//! other crate of the workspace. Every descriptor it makes is close-on-exec and owned by an [`OwnedFd`].
//!
//! [`OwnedFd`]: std::os::fd::OwnedFd
#![allow(unsafe_code)]
#![warn(missing_docs)]

#[cfg(not(target_os = "linux"))]
compile_error!("oxherd-os supports Linux only");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("oxherd-os supports x86-64 and aarch64 only");

pub mod alarm;
pub mod cgroup;
pub mod clock;
pub mod detach;
pub mod doom;
pub mod environment;
pub mod exit_watch;
pub mod fdpass;
pub mod files;
pub mod foreign;
pub mod host;
pub mod lending;
pub mod lock;
pub mod memfd;
pub mod notify;
pub mod packet;
pub mod poller;
pub mod proc;
pub mod reexec;
pub mod rescue;
pub mod shared;
pub mod signals;
pub mod sockdiag;
pub mod socket;
pub mod spool;
pub mod steering;
mod sys;
pub mod watch;

pub use alarm::Alarm;
pub use exit_watch::{ExitWatch, Watched};
pub use host::{
    Census, CgroupChoice, ChannelEnds, Child, ChildRecord, ExitStatus, Host, HostOptions, Identity, Input,
    Lending, Output, SpawnError, SpawnSpec, Spawned,
};
pub use poller::{Event, Events, Interest, Poller, Waker};
pub use shared::SharedWords;
pub use signals::{Signals, TerminalWatch};
pub use socket::io_errno;
pub use spool::Spool;
