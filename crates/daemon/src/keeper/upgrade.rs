//! Becoming another program: same process, same children, same descriptors.
//!
//! The daemon is killed as any accident would kill it; what follows is a daemon's death with an exec in between.
//! Must never exec what has not said that it can go on from here.

use std::env;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oxherd_os::memfd::{memfd, read_memfd};
use oxherd_os::{Events, ExitStatus, Interest, Output, Poller, SpawnSpec, clock, reexec};
use serde::{Deserialize, Serialize};

use super::run::{After, Keeper, Stage};
use super::state::{self, STATE, STATES_READ, State};
use crate::link::message::{Answer, PROTOCOL};
use crate::voice;

/// How long a program may take to say what it can go on from.
const CHECK_TIME: Duration = Duration::from_secs(5);
/// The most that it may say, in bytes.
const CHECK_BYTES_MAX: u64 = 4096;
/// What the kernel says of a program whose file is gone.
const DELETED: &[u8] = b" (deleted)";

/// Why there can be no upgrade now.
const DISK_HANGS: &str = "the disk with the daemon's log does not answer";

/// What a program says of itself with `keeper --check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Check {
    version: String,
    /// Its keeper and its daemon speak this version to each other.
    protocol: u32,
    /// The versions of a keeper's state that it can go on from.
    states: Vec<u32>,
}

/// `keeper --check`.
pub(super) fn check(version: &str) -> io::Result<()> {
    let own = Check { version: version.into(), protocol: PROTOCOL, states: STATES_READ.into() };
    serde_json::to_writer(io::stdout(), &own)?;
    io::Write::write_all(&mut io::stdout(), b"\n")
}

/// `keeper --resume FD`: the keeper that this process was before.
pub(super) fn resume(number: i32) -> io::Result<Keeper> {
    let bytes = read_memfd(reexec::inherit(number)?)?;
    let (state, image) = State::decode(&bytes).map_err(io::Error::other)?;
    if !STATES_READ.contains(&state.version) {
        return Err(io::Error::other(format!("version {} of a keeper's state is not known", state.version)));
    }
    state.into_keeper(image)
}

impl Keeper {
    pub(super) fn on_upgrade(&mut self, program: Option<String>) {
        let program = program.map_or_else(own_path, |program| Ok(PathBuf::from(program)));
        match program.and_then(|program| self.check_program(&program).map(|()| program)) {
            Ok(program) => {
                self.answer(&Answer::Done);
                self.after = After::Program(program);
                if let Stage::Running(daemon) = &self.stage {
                    daemon.kill();
                }
            }
            Err(why) => self.refuse(&why),
        }
    }

    /// Asks a program whether it can go on from here.
    fn check_program(&mut self, program: &Path) -> Result<(), String> {
        let shown = program.display();
        if !voice::flush(voice::MOMENT) {
            return Err(format!("cannot upgrade to {shown}: {DISK_HANGS}"));
        }
        if !program.is_absolute() {
            return Err(format!("cannot upgrade to {shown}: give its full path"));
        }
        let said =
            self.ask_program(program).map_err(|error| format!("cannot upgrade to {shown}: {error}"))?;
        let check: Check = serde_json::from_str(&said).map_err(|_| {
            format!("cannot upgrade to {shown}: it does not answer `keeper --check` as Oxherd does")
        })?;
        if check.states.contains(&STATE) {
            return Ok(());
        }
        Err(format!(
            "cannot upgrade to {shown} (version {}): it cannot go on from version {STATE} of a keeper's state, \
             only from {:?}; stop all apps and start them with the new version",
            check.version, check.states
        ))
    }

    /// What the program says to `keeper --check`.
    fn ask_program(&mut self, program: &Path) -> io::Result<String> {
        let mut spec = SpawnSpec::new(program);
        spec.args = ["keeper", "--check"].map(OsString::from).to_vec();
        spec.env = env::vars_os().collect();
        (spec.stdout, spec.stderr) = (Output::Pipe, Output::Null);
        let spawned = self.host.spawn(&spec).map_err(io::Error::other)?;
        let mut child = spawned.child;
        let said = match &spawned.stdout {
            Some(pipe) => hear(pipe, &child.pidfd),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        let exit = self.host.try_wait(&mut child);
        if matches!(exit, Ok(None)) {
            // It goes on after having said its word, or has not said it.
            drop(self.host.kill_tree(&child));
            self.held.parting.push(child.into());
        }
        match exit {
            Ok(Some(ExitStatus::Code(0)) | None) => said,
            Ok(Some(_)) => {
                Err(io::Error::other("it does not know `keeper --check`: it is not Oxherd, or too old"))
            }
            Err(error) => Err(error),
        }
    }

    /// Goes on as that program, or if that fails with another daemon of this one.
    pub(super) fn become_program(&mut self, program: &Path) {
        self.last_exit = None;
        let error = self.exec(program);
        let failure = format!("cannot become {}: {error}", program.display());
        super::say(&failure);
        self.upgrade_failure = Some(failure);
        self.stage = Stage::Due(clock::monotonic_millis());
    }

    /// Returns only on failure.
    fn exec(&self, program: &Path) -> io::Error {
        if !voice::flush(voice::MOMENT) {
            // The thread that waits for the disk cannot be ended, and an exec would wait for its end.
            return io::Error::other(DISK_HANGS);
        }
        let state = State::of(self).encode(self.held.image.as_deref()).map_err(io::Error::other);
        let state = match state.and_then(|bytes| memfd("oxherd-keeper", &bytes)) {
            Ok(state) => state,
            Err(error) => return error,
        };
        let mut keep = state::descriptors(self);
        keep.push(state.as_fd());
        let number = state.as_raw_fd().to_string();
        reexec::exec(program, &["keeper", "--resume", &number], &keep)
    }
}

/// Where the running program was started from, whatever stands there now.
fn own_path() -> Result<PathBuf, String> {
    let path = env::current_exe().map_err(|error| format!("cannot tell where this program is: {error}"))?;
    let bytes = path.as_os_str().as_bytes();
    let path = bytes.strip_suffix(DELETED).unwrap_or(bytes);
    Ok(OsString::from_vec(path.to_vec()).into())
}

/// All that a program writes until it closes the pipe and ends.
fn hear(pipe: &OwnedFd, pidfd: &OwnedFd) -> io::Result<String> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "it does not answer `keeper --check` within 5 s");
    let poller = Poller::new()?;
    poller.add(pidfd, 0, Interest::READ)?;
    let give_up_at = Instant::now() + CHECK_TIME;
    let mut events = Events::with_capacity(1);
    // What it writes is far less than what a pipe holds: it can end before anybody reads.
    while poller.wait(&mut events, Some(give_up_at.saturating_duration_since(Instant::now())))? == 0 {
        if Instant::now() >= give_up_at {
            return Err(late());
        }
    }
    let mut said = String::new();
    let mut pipe = std::fs::File::from(pipe.try_clone()?).take(CHECK_BYTES_MAX);
    match pipe.read_to_string(&mut said) {
        // Somebody that it has started holds the pipe too.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(said),
    }
}
