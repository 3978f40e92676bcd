//! Why a call to the daemon failed. Texts only.

use std::path::PathBuf;

use thiserror::Error;

/// Why a call failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens: start a daemon, `oxherd start` does.
    #[error("no daemon is running at {}", socket.display())]
    NotRunning {
        /// Where it should be.
        socket: PathBuf,
    },
    /// The daemon belongs to another user: choose your own with `OXHERD_HOME`.
    #[error("cannot reach the daemon at {}: {}", socket.display(), plain(cause))]
    Unreachable {
        /// Where it should be.
        socket: PathBuf,
        /// What the kernel says.
        #[source]
        cause: std::io::Error,
    },
    /// The daemon ended while it was asked, and did not come back.
    #[error("the daemon at {} ended before it answered", socket.display())]
    Vanished {
        /// Where it was.
        socket: PathBuf,
    },
    /// The daemon refused; the text says why and what to do.
    #[error("{error}")]
    Refused {
        /// The HTTP status: 404, 409, 422 …
        status: u16,
        /// The daemon's own words.
        error: String,
    },
    /// The connection broke, and trying again did not help: see whether the daemon keeps dying.
    #[error("the connection to the daemon broke: {what}")]
    Broken {
        /// What was seen of it.
        what: String,
    },
    /// The daemon is there and does not answer: see what it is doing.
    #[error("the daemon did not answer within {secs} s")]
    Silent {
        /// How long it was waited for.
        secs: u64,
    },
    /// The answer is not what this client knows: the daemon is of another version, `oxherd upgrade` helps.
    #[error("cannot understand the daemon's answer: {what}")]
    Strange {
        /// What was strange about it.
        what: String,
    },
}

/// What the kernel says, without its capital and its number.
fn plain(cause: &std::io::Error) -> String {
    let text = cause.to_string();
    let text = text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

impl ClientError {
    /// The HTTP status, if the daemon refused.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::NotRunning { .. }
            | Self::Unreachable { .. }
            | Self::Vanished { .. }
            | Self::Broken { .. }
            | Self::Silent { .. }
            | Self::Strange { .. } => None,
        }
    }
}
