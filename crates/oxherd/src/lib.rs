//! The library of Oxherd.
//!
//! With the feature `client` a program talks to a running daemon as the command does; `api` brings the types
//! alone. Without features there is nothing here yet: the worker's side comes next.

#![warn(missing_docs)]

#[cfg(feature = "api")]
pub mod api;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "primary")]
pub mod console;
