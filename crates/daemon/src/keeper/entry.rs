//! The ways into a keeper: from the command line, and as the front of a program in the foreground.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;

use oxherd_os::{detach, lock, proc};

use super::run::{Keeper, Settings};
use crate::link::LOCK;

/// What a starter hears when all is well.
pub(super) const READY: &str = "ready";
/// What it hears when another keeper has the home.
pub(super) const RUNS_ALREADY: &str = "a daemon runs already";
/// The file in the home that a keeper locks.
const LOCK_FILE: &str = "lock";
/// The code for a wrong command line.
const USAGE: u8 = 2;
const FAILURE: u8 = 1;

/// What a keeper is started with.
#[derive(Debug)]
pub struct KeeperOptions {
    /// The home folder, for the daemons.
    pub home: PathBuf,
    /// It serves one configuration, on a terminal perhaps, and not a home.
    pub foreground: bool,
    /// What daemons are started with, after `daemon --link 3 --stash 4`.
    pub daemon_args: Vec<OsString>,
    /// The home's lock; kept for as long as a keeper or a daemon lives.
    pub lock: Option<OwnedFd>,
    /// Is told, in a line, when the first daemon serves or why it cannot.
    pub starter: Option<OwnedFd>,
}

/// Keeps, until a daemon says farewell or the first one cannot start; returns the exit code.
pub fn run(options: KeeperOptions) -> u8 {
    let settings = Settings {
        home: options.home.into_os_string(),
        foreground: options.foreground,
        daemon_args: options.daemon_args,
        nofile: proc::raise_fd_limit().ok(),
        // The standard library's hasher has random keys.
        primary: format!("{:016x}", RandomState::new().hash_one(std::process::id())),
    };
    let starter = Starter::new(options.starter);
    match Keeper::new(settings, starter) {
        Ok(mut keeper) => {
            if options.lock.is_some() {
                keeper.held.stash.put(LOCK.into(), Vec::new(), options.lock);
            }
            keeper.run()
        }
        Err(error) => {
            super::say(&format!("cannot begin: {error}"));
            FAILURE
        }
    }
}

/// `oxherd keeper …`: `args` is what comes after that word. Returns the exit code.
///
/// - `--home DIR [--detach] [--foreground] [-- ARGS]` keeps the home's daemons, which are started with `ARGS`.
///   Detached, it leaves the terminal and says over its standard input how the first start went.
/// - `--check` prints which states of other keepers this program can go on from, as JSON.
/// - `--resume FD` goes on from the state of the program that this process was before.
/// - `--successor` takes over from the daemon at the other end of its standard input, whose keeper has died.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    match Way::of(args) {
        Ok(Way::Home(way)) => keep_home(way),
        Ok(Way::Check) => FAILURE,
        Ok(Way::Resume(_)) => FAILURE,
        Ok(Way::Successor) => FAILURE,
        Err(wrong) => {
            super::say(&wrong);
            USAGE
        }
    }
}

/// What the command line asks for.
#[derive(Debug)]
enum Way {
    Home(HomeWay),
    Check,
    Resume(RawFd),
    Successor,
}

#[derive(Debug, Default)]
struct HomeWay {
    home: PathBuf,
    detach: bool,
    foreground: bool,
    daemon_args: Vec<OsString>,
}

impl Way {
    fn of(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut args = args.into_iter();
        let mut way = HomeWay::default();
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--check") => return Ok(Self::Check),
                Some("--successor") => return Ok(Self::Successor),
                Some("--resume") => {
                    let number = args.next().and_then(|number| number.to_str()?.parse().ok());
                    return number
                        .map(Self::Resume)
                        .ok_or_else(|| "--resume needs a descriptor's number".into());
                }
                Some("--detach") => way.detach = true,
                Some("--foreground") => way.foreground = true,
                Some("--home") => way.home = args.next().map(PathBuf::from).unwrap_or_default(),
                Some("--") => way.daemon_args.extend(args.by_ref()),
                _ => return Err(format!("unknown argument {arg:?}")),
            }
        }
        if way.home.as_os_str().is_empty() {
            return Err("--home needs a folder".into());
        }
        Ok(Self::Home(way))
    }
}

fn keep_home(way: HomeWay) -> u8 {
    let starter = match if way.detach { detach().map(Some) } else { Ok(None) } {
        Ok(starter) => starter,
        Err(error) => {
            super::say(&format!("cannot leave the terminal: {error}"));
            return FAILURE;
        }
    };
    let HomeWay { home, foreground, daemon_args, .. } = way;
    let path = home.join(LOCK_FILE);
    let why = match lock::try_lock(&path) {
        Ok(Some(lock)) => {
            return run(KeeperOptions { home, foreground, daemon_args, lock: Some(lock), starter });
        }
        Ok(None) => RUNS_ALREADY.to_owned(),
        Err(error) => format!("cannot lock {}: {error}", path.display()),
    };
    if starter.is_none() {
        super::say(&why);
    }
    Starter::new(starter).tell(Err(why));
    FAILURE
}

fn detach() -> io::Result<OwnedFd> {
    detach::leave_session()?;
    detach::take_stdin()
}

/// Whoever waits for the first daemon, if anybody does.
#[derive(Debug)]
pub(super) struct Starter(Option<File>);

impl Starter {
    pub(super) fn new(pipe: Option<OwnedFd>) -> Self {
        Self(pipe.map(File::from))
    }

    /// Says it once.
    pub(super) fn tell(&mut self, outcome: Result<(), String>) {
        if let Some(mut pipe) = self.0.take() {
            let line = outcome.err().unwrap_or_else(|| READY.to_owned());
            // Whoever waited may have gone.
            drop(pipe.write_all(line.as_bytes()));
        }
    }
}
