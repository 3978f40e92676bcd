//! How a process ended, as far as anybody knows.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Signal;

/// The end of a process. A signal is never exit code 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It returned or called `exit` with this code.
    Code(i32),
    /// A signal ended it.
    Signal(Signal),
    /// It ended while nobody was watching.
    Unknown,
}

impl Exit {
    /// Whether the process itself said that all went well.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "code {code}"),
            Self::Signal(signal) => write!(f, "{signal}"),
            Self::Unknown => f.write_str("unknown status"),
        }
    }
}
