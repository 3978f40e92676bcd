//! A keeper in a folder of its own, and the daemons that it starts, as a test holds them.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use oxherd_os::{
    CgroupChoice, Child, Events, ExitStatus, Host, HostOptions, Interest, Output, Poller, SpawnSpec,
};
use serde_json::{Value, json};

/// Far longer than anything takes; only a bug lets it pass.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

thread_local! {
    /// Whoever loses its parent in a test comes to this program.
    static HOST: RefCell<Host> = RefCell::new(
        Host::new(HostOptions { reap_strangers: true, cgroups: CgroupChoice::Off }).unwrap(),
    );
}

/// A folder whose daemons come to the test.
pub(crate) struct Home {
    folder: PathBuf,
    listener: UnixListener,
}

impl Home {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("oxherd-keeper-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let listener = UnixListener::bind(folder.join(CONTROL)).unwrap();
        Self { folder, listener }
    }

    /// The folder, which goes away with the value.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The next daemon that comes up.
    pub(crate) fn daemon(&self) -> Daemon {
        wait_readable(&self.listener, "no daemon has come up");
        Daemon::new(self.listener.accept().unwrap().0)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        end_everybody();
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// Where daemons find the test, in their home.
pub(crate) const CONTROL: &str = "control";

/// A keeper.
pub(crate) struct Rig {
    home: Home,
    pub(crate) keeper: Child,
}

impl Rig {
    /// A keeper for a home, whose daemons do as the test says.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// The same with daemons that are told something else by their command line.
    pub(crate) fn with(daemon_args: &[&str]) -> Self {
        Self::of(&[], daemon_args)
    }

    /// The same with a keeper that is told more by its own command line.
    pub(crate) fn of(keeper_args: &[&str], daemon_args: &[&str]) -> Self {
        let home = Home::new();
        let mut spec = SpawnSpec::new(std::env::current_exe().unwrap());
        spec.args = vec!["keeper".into(), "--home".into(), home.folder().into()];
        spec.args.extend(keeper_args.iter().chain(&["--"]).chain(daemon_args).map(Into::into));
        spec.env = std::env::vars_os().collect();
        spec.cwd = Some(home.folder().to_owned());
        // To see what it says, and what daemons panic of, run the test with KEEPER_TALKS=1.
        if std::env::var_os("KEEPER_TALKS").is_none() {
            spec.stderr = Output::Null;
        }
        let keeper = HOST.with_borrow_mut(|host| host.spawn(&spec)).unwrap().child;
        Self { home, keeper }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.home.folder()
    }

    pub(crate) fn daemon(&self) -> Daemon {
        self.home.daemon()
    }

    /// How the keeper ended.
    pub(crate) fn end(&mut self) -> ExitStatus {
        exit_of(&mut self.keeper)
    }
}

/// A daemon that does as it is told.
pub(crate) struct Daemon {
    lines: BufReader<UnixStream>,
    /// What it was told and given at its start.
    pub(crate) found: Value,
}

impl Daemon {
    fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut it = Self { lines: BufReader::new(stream), found: Value::Null };
        it.found = it.hear().expect("a daemon says what it has found");
        it
    }

    /// The next thing that it says, unless it ends.
    pub(crate) fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        let count = self.lines.read_line(&mut line).unwrap_or(0);
        (count > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    pub(crate) fn tell(&mut self, wish: &Value) {
        self.lines.get_mut().write_all(format!("{wish}\n").as_bytes()).unwrap();
    }

    /// Tells it to do something, and hears what came of it.
    pub(crate) fn ask(&mut self, wish: &Value) -> Value {
        self.tell(wish);
        self.hear().unwrap_or_else(|| panic!("the daemon has ended at {wish}"))
    }

    /// Tells it to end, in this way.
    pub(crate) fn die(mut self, how: &str) {
        self.tell(&json!({ "die": how }));
        assert_eq!(self.hear(), None);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.found["pid"].as_u64().unwrap() as u32
    }

    pub(crate) fn greeting(&self) -> &Value {
        &self.found["greeting"]
    }

    /// Starts a shell script as a worker; returns its pid.
    pub(crate) fn spawn(&mut self, label: &str, script: &str) -> u32 {
        let spawned = self.ask(&json!({ "spawn": label, "script": script }));
        spawned["pid"].as_u64().unwrap_or_else(|| panic!("{spawned}")) as u32
    }
}

pub(crate) fn exit_of(child: &mut Child) -> ExitStatus {
    wait_readable(&child.pidfd, "a process does not end");
    HOST.with_borrow_mut(|host| host.try_wait(child)).unwrap().unwrap()
}

/// Waits for a descriptor.
pub(crate) fn wait_readable(fd: impl AsFd, what: &str) {
    let poller = Poller::new().unwrap();
    poller.add(fd, 0, Interest::READ).unwrap();
    let mut events = Events::with_capacity(1);
    assert_eq!(poller.wait(&mut events, Some(DEADLINE)).unwrap(), 1, "{what}");
}

/// Tries until it holds; for facts that the kernel reports no event for.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}

/// Whether a process is there and not a zombie.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !matches!(rest.trim_start().chars().next(), Some('Z' | 'X')))
}

/// Ends whatever a test has left: all are descendants of this process, or become so when their parents end.
pub(crate) fn end_everybody() {
    eventually("all processes of the test have ended", || {
        HOST.with_borrow_mut(|host| host.reap_strangers()).unwrap();
        let children = descendants();
        for pid in &children {
            signal(*pid, "KILL");
        }
        children.is_empty()
    });
}

/// Children of this process that live.
pub(crate) fn descendants() -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("children")).ok());
    let list = lists.collect::<String>();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).filter(|pid| lives(*pid)).collect()
}

/// Sends a signal by the shell's own `kill`, as people do.
pub(crate) fn signal(pid: u32, name: &str) {
    let spec = {
        let mut spec = SpawnSpec::new("/bin/sh");
        spec.args = vec!["-c".into(), format!("kill -{name} {pid} 2>/dev/null").into()];
        spec
    };
    let mut child = HOST.with_borrow_mut(|host| host.spawn(&spec)).unwrap().child;
    exit_of(&mut child);
}
