//! The daemon: the primary of all apps of a home, started by its keeper and by nobody else.
//!
//! It joins the engine with the control server, the logs and the saved state, and may die at any moment: what must
//! outlive it is with the keeper or on the disk before anybody hears of it.

mod driver;
mod faces;
mod observer;
mod opening;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oxherd_core::{AppSpec, Outcome};
use oxherd_engine::host::{Entry, Estate};
use oxherd_engine::{EngineError, Primary, Settings};
use oxherd_os::memfd::read_memfd;
use oxherd_os::{exit_watch, proc};
use thiserror::Error;

pub use self::faces::{Console, Faces, Manner, Render};

use self::driver::{HerdDriver, Saved};
use self::observer::DaemonObserver;
use self::opening::{Late, open_store};
use crate::home::{Home, HomeError, in_time};
use crate::ledger::Ledger;
use crate::link::{self, Connected, Greeting, KeeperHost, LinkError, Notes, SPECS};
use crate::logs::Logs;
use crate::server::{About, Changes, Server, feed};
use crate::state::StateError;
use crate::upkeep::Upkeep;
use crate::voice;

/// The entry of the control socket's listener.
const API: &str = "api";
/// The entry of the table of changes.
const CHANGES: &str = "changes";
/// The entry of what is wanted.
const DESIRED: &str = "desired";
/// How long the end waits for what is still to be written.
const FLUSH_TIME: Duration = Duration::from_secs(5);
/// How long clients may take to fetch their last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long the end waits for what it says of itself.
const LAST_WORDS: Duration = Duration::from_millis(500);
const USAGE: u8 = 2;
const FAILURE: u8 = 1;

/// Why a daemon cannot serve.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// A wrong command line: only keepers write it.
    #[error("wrong arguments for a daemon: {0}; `oxherd start` starts one")]
    Usage(String),
    /// There is no keeper, or it speaks another version.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The home folder cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The saved state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The kernel refuses what the daemon needs.
    #[error("cannot {what}: {cause}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// The primary could not begin, or cannot go on.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What a keeper starts a daemon with.
#[derive(Debug)]
struct Args {
    link: RawFd,
    stash: RawFd,
    /// How it talks in the foreground.
    manner: Manner,
    /// Where probes are answered.
    probes: Option<SocketAddr>,
}

/// `oxherd daemon --link FD --stash FD …`: runs until all apps have been ended on purpose. Returns the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>, faces: Faces) -> u8 {
    die_where_it_panics();
    let args = match Args::of(args) {
        Ok(args) => args,
        Err(error) => return complain(&error, USAGE),
    };
    // The signals that the keeper forwards must wait until the engine takes them.
    if let Err(cause) = oxherd_engine::block_signals() {
        return complain(&DaemonError::Os { what: "watch signals", cause }, FAILURE);
    }
    let connected = match link::connect(args.link, args.stash) {
        Ok(connected) => connected,
        Err(error) => return complain(&error.into(), FAILURE),
    };
    match serve(&args, connected, faces) {
        Ok(code) => code,
        Err(error) => complain(&error, FAILURE),
    }
}

fn complain(error: &DaemonError, code: u8) -> u8 {
    voice::say(&format!("Daemon: {error}"));
    voice::flush(LAST_WORDS);
    code
}

/// A panic must not unwind: what is dropped on the way would close connections that the keeper can still save.
fn die_where_it_panics() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        voice::say(&format!("Thread '{}' {info}", thread.name().unwrap_or("without a name")));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            voice::say(&trace.to_string());
        }
        voice::flush(LAST_WORDS);
        std::process::abort();
    }));
}

/// Serves until the end. Whoever waits for the daemon hears whether it could begin.
fn serve(args: &Args, connected: Connected, faces: Faces) -> Result<u8, DaemonError> {
    let Connected { mut host, stash, greeting, estate } = connected;
    // Where tracing is restricted the keeper needs this to hold the daemon at its exit.
    drop(exit_watch::allow_tracer(greeting.keeper_pid));
    // A limit that cannot be raised shows when it is met.
    drop(proc::raise_fd_limit());
    match Begun::new(args, &mut host, &greeting, estate, faces) {
        Ok(begun) => begun.run(host, stash, &greeting),
        Err(error) => {
            host.refuse(error.to_string());
            // The first that cannot begin ends the keeper; a later one is tried again.
            if greeting.starts == 0 {
                oxherd_engine::host::ProcessHost::farewell(&mut host, FAILURE);
            }
            Err(error)
        }
    }
}

/// Everything that a daemon needs, found to be in order.
struct Begun {
    version: &'static str,
    settings: Settings,
    specs: Vec<AppSpec>,
    estate: Estate,
    home: Home,
    logs: Logs,
    observer: DaemonObserver,
    intake: crate::server::Intake,
    changes: Changes,
    listener: UnixListener,
    saved: Arc<Saved>,
    ledger: Ledger,
    upkeep: Upkeep,
    lock: Option<OwnedFd>,
    probes: Option<TcpListener>,
}

impl Begun {
    fn new(
        args: &Args,
        host: &mut KeeperHost,
        greeting: &Greeting,
        mut estate: Estate,
        faces: Faces,
    ) -> Result<Self, DaemonError> {
        let os = |what| move |cause| DaemonError::Os { what, cause };
        let home = Home::at(Path::new(&greeting.home))?;
        estate.desired =
            take(&mut estate.entries, DESIRED).and_then(|it| serde_json::from_slice(&it.meta).ok());
        let saved = open_home(&home, &mut estate, greeting, host)?;
        let listener = take_listener(&mut estate.entries, &home, host)?;
        let changes =
            take(&mut estate.entries, CHANGES).and_then(|entry| Changes::from_bytes(&entry.meta).ok());
        let specs = first_specs(&mut estate)?;
        let logs = Logs::start(&home, alert_line).map_err(os("start the log writer"))?;
        let (news, intake) = feed();
        let console = greeting.foreground.then(|| (faces.console)(args.manner));
        let ledger = Ledger::from_entries(&mut estate.entries, host.notes());
        let upkeep = Upkeep::start(home.folder(), alert_line).map_err(os("start the upkeep"))?;
        let books = (Arc::clone(&saved), ledger.clone(), upkeep.clone());
        let observer = DaemonObserver::new(logs.clone(), news, books, faces.render, console);
        let settings = Settings { status_interval: None, stays: !greeting.foreground, ..Settings::default() };
        let probes = args.probes.map(|address| listen_for_probes(address, greeting)).transpose()?.flatten();
        Ok(Self {
            version: faces.version,
            settings,
            specs,
            estate,
            home,
            logs,
            observer,
            intake,
            changes: changes.unwrap_or_default(),
            listener,
            saved,
            ledger,
            upkeep,
            lock: host
                .lock()
                .map(|lock| lock.try_clone_to_owned())
                .transpose()
                .map_err(os("hold the lock"))?,
            probes,
        })
    }

    fn run(
        mut self,
        host: KeeperHost,
        stash: link::KeeperStash,
        greeting: &Greeting,
    ) -> Result<u8, DaemonError> {
        let os = |what| move |cause| DaemonError::Os { what, cause };
        self.tell_of_the_past(greeting);
        let (notes, ready) = (host.notes(), host.readiness().map_err(os("talk to the keeper"))?);
        let keeper = host.keeper();
        let mut primary = Primary::new(&self.settings, Box::new(host), Box::new(stash), &mut self.observer)?;
        let about = About {
            version: self.version.into(),
            keeper_pid: keeper,
            starts: greeting.starts,
            upgrades: greeting.upgrades,
            upgrade_failure: greeting.upgrade_failure.clone(),
            home: self.home.folder().to_owned(),
        };
        let books = (self.ledger.clone(), self.upkeep.clone());
        let driver = HerdDriver::new(primary.handle(), self.logs.clone(), Arc::clone(&self.saved), books);
        self.upkeep.reach(primary.handle());
        let keep = keeper_of_changes(&notes);
        let files = Box::new(self.logs.clone());
        let server = Server::new(about, Box::new(driver), files, self.intake, self.changes, keep)
            .with_probes(self.probes);
        let api = server.spawn(self.listener).map_err(os("serve the control socket"))?;
        // Who hears that it serves can read what it has said.
        voice::flush(voice::MOMENT);
        ready.tell();
        let outcome = primary.run(self.specs, self.estate);
        if let Err(error @ EngineError::Os { .. }) = &outcome {
            // As with a panic: what is held can still be saved, and another daemon may fare better.
            alert_line(format!("Daemon: {error}"));
            voice::flush(LAST_WORDS);
            std::process::abort();
        }
        let verdict = primary.verdict();
        // Who asked for the end hears of it.
        drop(api.close(LAST_ANSWERS));
        if let Some(lock) = self.lock {
            in_time(FLUSH_TIME, move || self.home.clear(lock.as_fd()));
        }
        self.logs.close(FLUSH_TIME);
        self.saved.close(FLUSH_TIME);
        let mut host = primary.into_host();
        let code = self.observer.end(outcome.as_ref().ok().copied(), verdict, code_of(&outcome));
        host.farewell(code);
        outcome?;
        Ok(code)
    }

    /// What the keeper knows and people should.
    fn tell_of_the_past(&mut self, greeting: &Greeting) {
        if let Some(exit) = &greeting.last_exit {
            self.observer.say(&format!("The daemon before this one ended ({exit})"));
        }
        if !greeting.trust_image {
            self.observer
                .say("Daemons have died too often: going on from what is wanted and from what lives");
        }
        if let Some(why) = &greeting.untraced {
            self.observer.say(&format!("A connection may be lost when the daemon is killed: {why}"));
        }
        if let Some(why) = &greeting.upgrade_failure {
            self.observer.say(&format!("The upgrade has failed: {why}"));
        }
    }
}

fn keeper_of_changes(notes: &Notes) -> crate::server::Keep {
    let notes = notes.clone();
    Box::new(move |bytes| notes.put(CHANGES, bytes))
}

fn take(entries: &mut Vec<Entry>, name: &str) -> Option<Entry> {
    let at = entries.iter().position(|entry| entry.name == name)?;
    Some(entries.swap_remove(at))
}

/// The control socket goes on listening from one daemon to the next: clients that come in between wait.
fn take_listener(
    entries: &mut Vec<Entry>,
    home: &Home,
    host: &KeeperHost,
) -> Result<UnixListener, DaemonError> {
    let os = |cause| DaemonError::Os { what: "serve the control socket", cause };
    let fd = match take(entries, API).and_then(|entry| entry.fd) {
        Some(fd) => fd,
        None => match host.lock() {
            Some(lock) => home.bind_control_socket(lock)?,
            None => {
                let lock = home.lock()?.ok_or(DaemonError::Usage("another daemon has the home".into()))?;
                home.bind_control_socket(lock.as_fd())?
            }
        },
    };
    let fd = Arc::new(fd);
    host.notes().put_fd(API, Arc::clone(&fd));
    Ok(UnixListener::from(fd.try_clone().map_err(os)?))
}

fn alert_line(line: String) {
    observer::log(&line);
}

/// Finds the home fit for use, or where an earlier daemon has served in it already, goes on with it as it is: its socket
/// is with the keeper, and nothing else of it is needed.
fn open_home(
    home: &Home,
    estate: &mut Estate,
    greeting: &Greeting,
    host: &KeeperHost,
) -> Result<Arc<Saved>, DaemonError> {
    let is_takeover = estate.entries.iter().any(|entry| entry.name == API);
    // What is wanted is known to nobody else.
    let last_resort = estate.image.is_none() && estate.desired.is_none() && !estate.children.is_empty();
    if is_takeover {
        let saved = Arc::new(match greeting.foreground {
            true => Saved::nowhere(host.notes(), home),
            false => Saved::awaited(host.notes(), home),
        });
        let late = Late::open(home.clone(), greeting.keeper_pid, Arc::clone(&saved));
        if last_resort && !greeting.foreground {
            estate.desired = late.last();
        }
        return Ok(saved);
    }
    home.prepare()?;
    // Nothing needs the file.
    drop(home.write_pid(greeting.keeper_pid));
    if greeting.foreground {
        return Ok(Arc::new(Saved::nowhere(host.notes(), home)));
    }
    let (kept, last) = open_store(home)?;
    if last_resort {
        estate.desired = Some(last);
    }
    Ok(Arc::new(Saved::opened(host.notes(), home, kept)))
}

/// The apps that a keeper in the foreground was started for, until some daemon has begun with them.
fn first_specs(estate: &mut Estate) -> Result<Vec<AppSpec>, DaemonError> {
    let fd = take(&mut estate.entries, SPECS).and_then(|entry| entry.fd);
    let Some(fd) = fd.filter(|_| estate.desired.is_none()) else { return Ok(Vec::new()) };
    // One that did not come as far has left nothing but the image of a fleet without apps.
    estate.image = None;
    let unreadable = |cause| DaemonError::Os { what: "read what is to be run", cause };
    let bytes = read_memfd(fd).map_err(unreadable)?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(io::Error::other(error)))
}

/// A daemon that takes over serves all the same.
fn listen_for_probes(address: SocketAddr, greeting: &Greeting) -> Result<Option<TcpListener>, DaemonError> {
    match TcpListener::bind(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(cause) if greeting.starts == 0 => Err(DaemonError::Os { what: "listen for probes", cause }),
        Err(error) => {
            alert_line(format!("Cannot listen for probes at {address}: {error}"));
            Ok(None)
        }
    }
}

fn code_of(outcome: &Result<Outcome, EngineError>) -> u8 {
    match outcome {
        Ok(Outcome::Stopped | Outcome::AllEnded) => 0,
        Ok(Outcome::GaveUp) => 3,
        Err(EngineError::Refused(_)) => USAGE,
        Ok(Outcome::Killed) | Err(EngineError::Os { .. }) => FAILURE,
    }
}

impl Args {
    fn of(args: impl IntoIterator<Item = OsString>) -> Result<Self, DaemonError> {
        let mut args = args.into_iter();
        let (mut link, mut stash, mut manner, mut probes) = (None, None, Manner::default(), None);
        while let Some(arg) = args.next() {
            if arg == "--probes" {
                probes = args.next().and_then(|address| address.to_str()?.parse().ok());
                continue;
            }
            let mut number = || args.next().and_then(|number| number.to_str()?.parse().ok());
            match arg.to_str() {
                Some("--link") => link = number(),
                Some("--stash") => stash = number(),
                Some(option) if manner.take(option) => {}
                _ => return Err(DaemonError::Usage(format!("{arg:?}"))),
            }
        }
        match (link, stash) {
            (Some(link), Some(stash)) => Ok(Self { link, stash, manner, probes }),
            _ => Err(DaemonError::Usage("--link or --stash is missing".into())),
        }
    }
}
