//! Wishes and files as written become checked configuration, with diagnostics that point at the line.
//!
//! The command line and files share one way from a [`Wish`] to an `AppSpec`: [`Wish::prepare`]. A file is read by
//! [`load`] or [`read`] into [`RawApp`]s, which [`jobs`] turns into what is to be started. Nothing is started here.

mod about;
mod diagnostics;
mod difference;
mod draft;
pub mod environment;
mod file;
mod job;
mod json;
mod keys;
mod owner;
mod plan;
pub mod program;
mod raw;
mod schema;
mod script;
mod serve;
mod statics;
mod toml;
mod tree;
mod typed;
pub mod values;
mod yaml;

#[cfg(test)]
mod testing;

pub use diagnostics::{Diagnostic, Diagnostics, Spot};
pub use difference::{Difference, differences};
pub use file::{FILE_BYTES_MAX, STDIN, is_config, jobs, load, read};
pub use job::{Job, JobError, Origin, Surroundings, Wish};
pub use keys::nearest_of;
pub use owner::OwnerError;
pub use plan::{Deed, GivenUp, Running, Step, plan, renewal};
pub use raw::RawApp;
pub use schema::schema;
pub use serve::{AUTHORIZATION, Served};
