//! Wishes and files as written become checked configuration.
//!
//! The command line and files share one way from a wish to an `AppSpec`. Nothing is started here.

pub mod environment;
pub mod job;
pub mod program;
pub mod values;

#[cfg(test)]
mod testing;
