//! What an embedder chooses about the engine itself, and how it fails.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// What is chosen for a primary, apart from its apps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often the status report is told; never when `None`.
    pub status_interval: Option<Duration>,
    /// Take connections back from a worker that does not pick them up while another is idle.
    pub recall: bool,
    /// Turn signals into requests, as `oxherd run` does.
    pub signals: bool,
    /// Go on when no app has anything left to run.
    pub stays: bool,
    /// An app may have no slot at all until one is forked.
    pub may_be_empty: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            status_interval: Some(Duration::from_secs(30)),
            recall: true,
            signals: true,
            stays: false,
            may_be_empty: false,
        }
    }
}

/// Why a primary could not run.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The kernel refused something that the primary needs.
    #[error("cannot {what}: {cause}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// An app was refused.
    #[error(transparent)]
    Refused(#[from] oxherd_core::Refusal),
}
