//! What to start: the order that [`Host::spawn`](super::Host::spawn) carries out.
//!
//! Must stay serialisable and complete: a Host in another process starts exactly the same from it, so nothing
//! is taken from the environment of whoever calls.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The variable that carries a worker's label, so that its whole tree can be found again.
pub const LABEL_VARIABLE: &str = "OXHERD_INSTANCE";

/// The variable with the number of the process that handed descriptors are meant for (`sd_listen_fds(3)`).
pub const LISTEN_PID_VARIABLE: &str = "LISTEN_PID";

/// A process to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnSpec {
    /// The program. Without a slash it is looked for in the `PATH` of [`env`](Self::env); a relative path
    /// with one is relative to [`cwd`](Self::cwd).
    pub program: OsString,
    /// The arguments after the program's own name.
    pub args: Vec<OsString>,
    /// The whole environment; nothing is inherited. Of equal names the last wins. [`LABEL_VARIABLE`] is
    /// added from [`label`](Self::label), whatever is said here.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory, or `None` for the Host's.
    #[serde(with = "path_bytes")]
    pub cwd: Option<PathBuf>,
    /// Names this one instance, never used twice. Empty: no variable, and the tree is the process group only.
    pub label: String,
    /// Make a channel; the worker finds its end as descriptor 3.
    pub channel: bool,
    /// Trap the process's `bind`, `listen` and `shutdown`, and those of its descendants, so that it can be lent sockets
    /// (see [`lending`](crate::lending)).
    #[serde(default)]
    pub lend: bool,
    /// Say to the process in [`LISTEN_PID_VARIABLE`] which one it is, so that it takes the descriptors that it is handed
    /// for its own.
    #[serde(default)]
    pub listen_pid: bool,
    /// Where standard input comes from.
    #[serde(default, skip_serializing_if = "Input::is_null")]
    pub stdin: Input,
    /// Where standard output goes.
    pub stdout: Output,
    /// Where standard error goes.
    pub stderr: Output,
    /// Kill the process when the thread that spawned it ends (`PR_SET_PDEATHSIG`).
    pub parent_death_signal: bool,
    /// Soft limit of open descriptors for the process, capped at the hard limit; `None` leaves the Host's.
    pub nofile_soft: Option<u64>,
    /// Whom the process runs as; `None`: as the Host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Identity>,
}

impl SpawnSpec {
    /// A spec for `program` with an empty environment, output inherited, and everything optional left out.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            label: String::new(),
            channel: false,
            lend: false,
            listen_pid: false,
            stdin: Input::Null,
            stdout: Output::Inherit,
            stderr: Output::Inherit,
            parent_death_signal: false,
            nofile_soft: None,
            owner: None,
        }
    }

    /// The value that the process will see for `name`, [`LABEL_VARIABLE`] left aside.
    pub fn env_value(&self, name: &str) -> Option<&OsStr> {
        self.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
    }
}

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// The first group.
    pub gid: u32,
    /// All other groups.
    pub groups: Vec<u32>,
}

/// Where the standard input of a process comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// From nowhere: it is at its end.
    #[default]
    Null,
    /// From a pipe whose writing end, nonblocking, is given back. While that is open the process waits for more.
    Pipe,
}

impl Input {
    fn is_null(&self) -> bool {
        *self == Self::Null
    }
}

/// Where an output stream of a process goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// To where the Host's own goes.
    #[default]
    Inherit,
    /// Into a pipe whose reading end, nonblocking, is given back.
    Pipe,
    /// To `/dev/null`.
    Null,
}

/// Paths as bytes: serde's own rule refuses those that are not UTF-8.
pub(super) mod path_bytes {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::host) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_ref().map(|path| path.as_os_str()).serialize(serializer)
    }

    pub(in crate::host) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<OsString>::deserialize(deserializer)?.map(PathBuf::from))
    }
}
