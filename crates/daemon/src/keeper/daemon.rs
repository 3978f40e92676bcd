//! The daemon's process: starting it, and the sockets to it.
//!
//! Must never wait for it: what it says comes as events, and an answer that it does not fetch ends it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use oxherd_os::packet;
use oxherd_os::{Child, ExitWatch, Host, SpawnSpec};

use super::doomed::LOOK_EVERY_MS;
use super::estate::Pieces;
use super::signals::STOP_SIGNALS;
use crate::link::message::{self, Answer};

/// The running program, whatever happened to its file since.
const SELF: &str = "/proc/self/exe";
const SIGKILL: i32 = 9;

/// A daemon that runs.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) child: Child,
    pub(super) link: OwnedFd,
    pub(super) stash: OwnedFd,
    /// When it was started, in milliseconds of the monotonic clock.
    pub(super) started_ms: u64,
    pub(super) progress: Progress,
    /// Holds it for a moment when it is about to end, where that is allowed.
    pub(super) watch: Option<ExitWatch>,
    /// When to see whether it lives, in milliseconds of the monotonic clock.
    pub(super) look_at_ms: u64,
    /// Since when it is known that nothing of it runs any more.
    pub(super) doomed_since_ms: Option<u64>,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum Progress {
    /// It has not said a word.
    Started,
    /// It fetches the estate.
    TakingOver(Pieces),
    /// It tells this keeper, which is new, what there is.
    HandingOver,
    /// It has the estate.
    TakenOver,
    /// It is about to end.
    Dying,
}

impl Daemon {
    /// Starts one. Its limit of descriptors is the keeper's own: it is to hold all that the keeper does.
    pub(super) fn start(host: &mut Host, args: &[OsString], now_ms: u64) -> io::Result<Self> {
        let (link, their_link) = packet::pair()?;
        let (stash, their_stash) = packet::pair()?;
        let mut spec = SpawnSpec::new(own_program());
        // The numbers are those that a process finds what it is handed at.
        spec.args = ["daemon", "--link", "3", "--stash", "4"].map(OsString::from).to_vec();
        spec.args.extend_from_slice(args);
        spec.env = env::vars_os().collect();
        let spawned = host.spawn_with(&spec, &[their_link.as_fd(), their_stash.as_fd()]);
        let child = spawned.map_err(io::Error::other)?.child;
        let link = unblocked(link)?;
        Ok(Self::new(child, link, stash, Progress::Started, now_ms))
    }

    /// One that nobody watches yet.
    pub(super) fn new(child: Child, link: OwnedFd, stash: OwnedFd, progress: Progress, now_ms: u64) -> Self {
        let look_at_ms = now_ms + LOOK_EVERY_MS;
        let (watch, doomed_since_ms) = (None, None);
        Self { child, link, stash, started_ms: now_ms, progress, watch, look_at_ms, doomed_since_ms }
    }

    /// Answers. A daemon that does not fetch its answers cannot be helped: it is ended, and the next one will.
    pub(super) fn answer(&self, answer: &Answer, body: &[u8], fds: &[BorrowedFd<'_>]) {
        let encoded = message::encode(answer, body).map_err(io::Error::other);
        let Err(error) = encoded.and_then(|bytes| packet::send(&self.link, &bytes, fds)) else { return };
        if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            super::say(&format!("cannot answer the daemon, which is started again: {error}"));
            self.kill();
        }
    }

    /// Wishes to stop that it has been sent and has not read.
    pub(super) fn unread_signals(&self) -> Vec<i32> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.pid)).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        STOP_SIGNALS.into_iter().filter(|signal| mask & 1 << (signal - 1) != 0).collect()
    }

    /// Ends it as any accident would.
    pub(super) fn kill(&self) {
        // It may have ended by itself.
        drop(self.child.signal(SIGKILL));
    }
}

/// The path of the running program, or where that is gone or another by now, a path that only works for its own
/// children.
pub(crate) fn own_program() -> PathBuf {
    let same = |path: &Path| {
        let (own, other) = (fs::metadata(SELF).ok()?, fs::metadata(path).ok()?);
        Some((own.dev(), own.ino()) == (other.dev(), other.ino()))
    };
    let path = env::current_exe().ok().filter(|path| same(path).unwrap_or(false));
    path.unwrap_or_else(|| SELF.into())
}

/// The same socket, for sending without waiting. Receiving asks not to wait each time.
pub(super) fn unblocked(socket: OwnedFd) -> io::Result<OwnedFd> {
    // The type only lends its method: the call is the same for every descriptor.
    let socket = UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
