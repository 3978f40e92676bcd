//! The ways into a keeper: from the command line, and as the front of a program in the foreground.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oxherd_os::{detach, proc, reexec};

use super::deaths::{Deaths, LONGEST_DELAY_MS};
use super::run::{Keeper, Settings};
use super::{strays, successor, upgrade};
use crate::home::{Home, HomeError};
use crate::link::{LOCK, SPECS};

/// What a starter hears when all is well.
pub(super) const READY: &str = "ready";
/// What it hears when another keeper has the home.
pub(super) const RUNS_ALREADY: &str = "a daemon runs already";
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
    /// The apps of a keeper in the foreground, as JSON in a file that only this descriptor names.
    pub specs: Option<OwnedFd>,
    /// The home's lock; kept for as long as a keeper or a daemon lives.
    pub lock: Option<OwnedFd>,
    /// Is told, in a line, when the first daemon serves or why it cannot.
    pub starter: Option<OwnedFd>,
    /// The longest pause before a start, in milliseconds, when daemons die again and again.
    pub longest_pause_ms: u64,
}

impl KeeperOptions {
    /// A keeper for this home, and everything optional left out.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self {
            home: home.into(),
            foreground: false,
            daemon_args: Vec::new(),
            specs: None,
            lock: None,
            starter: None,
            longest_pause_ms: LONGEST_DELAY_MS,
        }
    }
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
    let deaths = Deaths::new(options.longest_pause_ms);
    match Keeper::new(settings, deaths, Starter::new(options.starter)) {
        Ok(mut keeper) => {
            if options.lock.is_some() {
                take_home(&mut keeper);
            }
            for (name, fd) in [(LOCK, options.lock), (SPECS, options.specs)] {
                if fd.is_some() {
                    keeper.held.stash.put(name.into(), Vec::new(), fd);
                }
            }
            keeper.run()
        }
        Err(error) => {
            super::say(&format!("cannot begin: {error}"));
            FAILURE
        }
    }
}

/// Clears up after an earlier keeper of the home, now that it is held, and lets the next one know of this.
fn take_home(keeper: &mut Keeper) {
    if let Ok(home) = Home::at(Path::new(&keeper.settings.home)) {
        strays::end_strays(&home, &mut keeper.host);
        strays::leave_mark(&home, &keeper.settings.primary);
    }
}

/// `oxherd keeper …`: `args` is what comes after that word, `version` says which build this is. Returns the exit code.
///
/// - `--home DIR [--detach] [--foreground] [--specs FD] [--longest-pause MS] [-- ARGS]` keeps the home's daemons, which are
///   started with `ARGS`. Detached, it leaves the terminal and says over its standard input how the first start went. In the
///   foreground it runs the apps in the file `FD`, and ends with them.
/// - `--check` prints which states of other keepers this program can go on from, as JSON.
/// - `--resume FD` goes on from the state of the program that this process was before.
/// - `--successor` starts a keeper, detached, that takes over from the daemon at the other end of its standard
///   input, whose keeper has died.
pub fn main(args: impl IntoIterator<Item = OsString>, version: &str) -> u8 {
    match Way::of(args) {
        Ok(Way::Home(way)) => keep_home(way),
        Ok(Way::Check) => over(upgrade::check(version)),
        Ok(Way::Resume(fd)) => go_on(upgrade::resume(fd)),
        Ok(Way::StepAside) => over(successor::step_aside()),
        Ok(Way::TakeOver) => go_on(successor::take_over()),
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
    StepAside,
    TakeOver,
}

#[derive(Debug)]
struct HomeWay {
    options: KeeperOptions,
    detach: bool,
}

impl Way {
    fn of(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut args = args.into_iter();
        let mut way = HomeWay { options: KeeperOptions::new(""), detach: false };
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--check") => return Ok(Self::Check),
                Some("--successor") => return Ok(Self::StepAside),
                Some("--successor-proper") => return Ok(Self::TakeOver),
                Some("--resume") => return Ok(Self::Resume(number(args.next(), "--resume")?)),
                Some("--detach") => way.detach = true,
                Some("--foreground") => way.options.foreground = true,
                Some("--home") => way.options.home = args.next().map(PathBuf::from).unwrap_or_default(),
                Some("--specs") => {
                    let specs = reexec::inherit(number(args.next(), "--specs")?);
                    way.options.specs = Some(specs.map_err(|error| format!("cannot use --specs: {error}"))?);
                }
                Some("--longest-pause") => {
                    way.options.longest_pause_ms = number(args.next(), "--longest-pause")?
                }
                Some("--") => way.options.daemon_args.extend(args.by_ref()),
                _ => return Err(format!("unknown argument {arg:?}")),
            }
        }
        if way.options.home.as_os_str().is_empty() {
            return Err("--home needs a folder".into());
        }
        Ok(Self::Home(way))
    }
}

fn over(result: io::Result<()>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            super::say(&error.to_string());
            FAILURE
        }
    }
}

/// Keeps on where another left off.
fn go_on(keeper: io::Result<Keeper>) -> u8 {
    match keeper {
        Ok(keeper) => keeper.run(),
        Err(error) => {
            super::say(&format!("cannot go on from where the keeper before was: {error}"));
            FAILURE
        }
    }
}

fn number<T: FromStr>(arg: Option<OsString>, option: &str) -> Result<T, String> {
    let number = arg.and_then(|arg| arg.to_str()?.parse().ok());
    number.ok_or_else(|| format!("{option} needs a number"))
}

fn keep_home(HomeWay { mut options, detach }: HomeWay) -> u8 {
    if detach {
        match leave() {
            Ok(starter) => options.starter = Some(starter),
            Err(error) => {
                super::say(&format!("cannot leave the terminal: {error}"));
                return FAILURE;
            }
        }
    }
    let why = match hold(&mut options) {
        Ok(true) => return run(options),
        Ok(false) => {
            let home = options.home.display();
            super::say(&format!(
                "{RUNS_ALREADY} in {home}: `oxherd kill` ends it with its apps, and makes room"
            ));
            RUNS_ALREADY.to_owned()
        }
        Err(error) => {
            super::say(&error.to_string());
            error.to_string()
        }
    };
    Starter::new(options.starter).tell(Err(why));
    FAILURE
}

/// Takes the home for this keeper; false when another has it.
fn hold(options: &mut KeeperOptions) -> Result<bool, HomeError> {
    let home = Home::at(&options.home)?;
    home.prepare()?;
    options.home = home.folder().to_owned();
    options.lock = home.lock()?;
    Ok(options.lock.is_some())
}

/// Lets go of whoever started this process; what it is told by comes back.
fn leave() -> io::Result<OwnedFd> {
    detach::leave_session()?;
    close_inherited()?;
    detach::take_stdin()
}

/// Closes what this program was started with by chance: somebody may wait for the end of a pipe.
fn close_inherited() -> io::Result<()> {
    let numbers: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // What this program has opened itself, and the standard streams, are refused.
    numbers.into_iter().for_each(|number| drop(reexec::inherit(number)));
    Ok(())
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

    /// The pipe to whoever still waits.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }
}
