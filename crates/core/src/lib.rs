//! Decides: supervision, restart policy, reload, scaling and balancing.
//!
//! The crate is a pure state machine. Facts come in as [`Event`]s and wishes as [`Request`]s, orders go out as
//! [`Action`]s and news as [`Notice`]s. It never does IO, reads a clock, starts a thread or draws a random
//! number: time arrives as a [`Moment`], and the same calls in the same order always give the same answers.
//!
//! [`Fleet`] is the entry; [`Balancer`] is its small sibling for the path of a connection.

#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm))]

mod action;
mod adjust;
mod app;
mod balancer;
mod choices;
mod converge;
mod desired;
mod event;
mod exit;
mod fleet;
mod ids;
mod image;
mod instance;
mod invariants;
mod lifecycle;
mod notice;
mod outbox;
mod parking;
mod policy;
mod ports;
mod recycle;
mod reload;
mod request;
mod requests;
mod restore;
mod scaling;
mod settle;
mod shares;
mod signal;
mod slots;
mod spec;
mod standby;
mod status;
mod strategy;
mod time;
mod upkeep;
mod wear;

pub use action::{Action, Parting};
pub use balancer::{Balancer, Load, MemberId, Stance, Terms};
pub use desired::{Desired, DesiredApp};
pub use event::{Event, SpawnFailure};
pub use exit::Exit;
pub use fleet::{Fleet, Limits};
pub use ids::{AppId, ChangeId, Generation, InstanceId, Label, Place, Slot};
pub use image::{Child, IMAGE_VERSION, Image, ImageError, ImageRef, Inventory, SlotRestarts};
pub use instance::{Phase, Standing};
pub use notice::{ChangeOutcome, GiveUp, Notice, RecycleReason, ReloadFailure, RetireReason};
pub use ports::{PortRange, Ports};
pub use request::{Outcome, Refusal, Request};
pub use shares::{SHARES_TOTAL, level};
pub use signal::Signal;
pub use spec::{
    AppSpec, Distribution, ListenAt, Owner, Probe, ProbeAt, RestartWhen, Scaling, Serialization, Sockets,
    SpecError,
};
pub use status::{AppStatus, FleetStatus, InstanceStatus, ReloadStatus, SlotStatus, Status};
pub use strategy::{Strategy, StrategyError};
pub use time::{Moment, Span};
pub use upkeep::{About, LogSpec, Rotate, Upkeep, WatchSpec, file_stem};
