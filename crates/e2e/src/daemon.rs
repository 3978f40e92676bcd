//! A daemon with its keeper in a home of its own, driven by the command as a person would.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::client::Address;
use crate::places::{self, Folder};
use crate::turn::Turn;
use crate::{eventually, procs, turn};

const TAG: &str = "HERD_TAG";
/// No process group has this number.
const NO_GROUP: u32 = u32::MAX;
const GRACE: Duration = Duration::from_secs(10);

/// A home, and whatever runs for it. Nothing of it is left when the value is gone, or the test fails.
#[derive(Debug)]
pub struct Home {
    folder: Folder,
    tag: String,
    env: Vec<(String, OsString)>,
    _turn: Rc<Turn>,
}

impl Home {
    /// A new home, without a daemon.
    #[allow(clippy::new_without_default, reason = "it makes something on disk")]
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let turn = turn::shared();
        let tag = format!("home-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Self { folder: Folder::new(), tag, env: Vec::new(), _turn: turn }
    }

    /// Sets a variable for every command, and so for the daemon and for workers.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// A folder beside the home, for what a test needs.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The home folder.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The folder that the home is in, for whatever else a test needs.
    pub fn surroundings(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Writes a file beside the home.
    pub fn write(&self, name: &str, text: &str) -> String {
        self.folder.write(name, text).to_str().expect("a plain path").to_owned()
    }

    /// `oxherd` with these arguments, ready to be run.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_of(&places::oxherd(), args)
    }

    /// The same of another build.
    pub fn command_of(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env("OXHERD_HOME", self.path()).env(TAG, &self.tag).stdin(Stdio::null());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let node = places::node(places::DEFAULT_NODE);
        let folder = node.parent().expect("a program is in a folder").to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(folder).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(paths).expect("no colon in a folder's name"));
        command
    }

    /// Runs `oxherd` with these arguments.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program can be run")
    }

    /// The same, which must end with code 0; returns its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        self.stdout_of("oxherd", args, self.run(args))
    }

    /// The stdout of a run of this program, which must have ended with code 0.
    pub(crate) fn stdout_of(&self, program: &str, args: &[&str], output: Output) -> String {
        let Output { status, stdout, stderr } = output;
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{program} {args:?}: {status}\n{stdout}{stderr}\n{}", self.log());
        stdout.into_owned()
    }

    /// What `ls --json` says.
    pub fn herd(&self) -> Value {
        serde_json::from_str(&self.ok(&["ls", "--json"])).expect("it is JSON")
    }

    /// The pids of an app's workers, slot by slot, and of its standbys.
    pub fn pids(&self, app: &str) -> Vec<u64> {
        pids_in(&self.herd(), |it| it["name"] == app)
    }

    /// Where an app listens.
    pub fn address(&self, app: &str) -> Address {
        eventually("an address", || {
            let herd = self.herd();
            let app = herd["apps"].as_array()?.iter().find(|it| it["name"] == app)?.clone();
            let address = app["slots"][0]["workers"][0]["addresses"][0].as_str()?.to_owned();
            Some(Address::reach(&address))
        })
    }

    /// The daemon and its keeper, and how many daemons there were, as `ping` says.
    pub fn ping(&self) -> Option<(u32, u32, u32)> {
        let output = self.run(&["ping"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = |before: &str| {
            let rest = text.split_once(before)?.1;
            rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
        };
        Some((number("daemon ")?, number("keeper ")?, number("(start ")?))
    }

    /// Kills the daemon, and returns what it was.
    pub fn kill_daemon(&self) -> (u32, u32) {
        let (daemon, _, starts) = eventually("a daemon", || self.ping());
        procs::kill(daemon, Signal::KILL);
        (daemon, starts)
    }

    /// Where the control API is.
    pub fn api(&self) -> Address {
        Address::Unix(self.path().join("oxherd.sock"))
    }

    /// Kills the keeper, and returns what it was.
    pub fn kill_keeper(&self) -> u32 {
        let (_, keeper, _) = eventually("a daemon", || self.ping());
        procs::kill(keeper, Signal::KILL);
        keeper
    }

    /// Processes of this home that are neither the daemon nor its keeper nor a worker that it tells of.
    pub fn strays(&self) -> Vec<String> {
        // Those that come and go meanwhile are in only one of both.
        let before = self.processes();
        let (daemon, keeper, _) = eventually("a daemon", || self.ping());
        let herd = self.herd();
        let mut known: Vec<u64> = pids_in(&herd, |_| true);
        known.extend([daemon, keeper].map(u64::from));
        let strays =
            before.into_iter().filter(|pid| !known.contains(&u64::from(*pid)) && procs::is_alive(*pid));
        strays.map(procs::describe).collect()
    }

    /// The daemon's own log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("daemon.log")).unwrap_or_default()
    }

    /// All living processes of this home.
    pub fn processes(&self) -> Vec<u32> {
        procs::carrying(&format!("{TAG}={}", self.tag), NO_GROUP)
    }
}

fn pids_in(herd: &Value, of: impl Fn(&Value) -> bool) -> Vec<u64> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let apps: Vec<Value> = list(&herd["apps"]).into_iter().filter(of).collect();
    let slots = apps.iter().flat_map(|app| list(&app["slots"]));
    let standbys =
        apps.iter().flat_map(|app| list(&app["standbys"])).map(|standby| standby["worker"].clone());
    let workers = slots.flat_map(|slot| list(&slot["workers"])).chain(standbys);
    workers.filter_map(|worker| worker["pid"].as_u64()).collect()
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        // A test may have ended it itself.
        drop(self.run(&["kill"]));
        let left: Vec<u32> =
            self.processes().into_iter().filter(|pid| !procs::wait_gone(*pid, GRACE)).collect();
        let named: Vec<String> = left.iter().map(|pid| procs::describe(*pid)).collect();
        left.iter().for_each(|pid| procs::kill(*pid, Signal::KILL));
        assert!(left.is_empty() || std::thread::panicking(), "processes are left behind: {named:?}");
    }
}
