//! What people see of a herd that a daemon runs: tables, progress, sentences, log lines.
//!
//! Data in, text out. Only `form` looks at the terminal and only `block` writes to it; nothing here asks the daemon.

pub(crate) mod block;
pub(crate) mod describe;
pub(crate) mod doctor;
pub(crate) mod flags;
pub(crate) mod form;
pub(crate) mod jlist;
pub(crate) mod kubernetes;
pub(crate) mod list;
pub(crate) mod loglines;
pub(crate) mod order;
pub(crate) mod paint;
pub(crate) mod pm2;
pub(crate) mod progress;
pub(crate) mod results;
pub(crate) mod steps;
pub(crate) mod table;
pub(crate) mod unit;
pub(crate) mod words;

#[cfg(test)]
pub(crate) mod samples;
