//! One `oxherd run` and everything below it. Whatever it has started is gone when the value is, or the test fails.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::client::Address;
use crate::lines::{Line, Lines, Mark};
use crate::terminal::Terminal;
use crate::turn::Turn;
use crate::workers::{self, Event, WorkerLine};
use crate::{DEADLINE, eventually, http, load, places, procs, turn};

/// The variable by which every process of one herd can be told; workers inherit it.
const TAG: &str = "HERD_TAG";
/// How long processes may take to vanish after the primary was killed.
const LEFTOVER_GRACE: Duration = Duration::from_secs(5);
/// What the primary has killed before it ended may be seen on its way out for so long.
const DYING_GRACE: Duration = Duration::from_millis(300);
const TAIL_LINES: usize = 60;

/// What is to be run.
#[derive(Debug)]
pub struct Builder {
    what: What,
    args: Vec<OsString>,
    script_args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    node: Option<PathBuf>,
    cwd: Option<PathBuf>,
    under: Vec<OsString>,
}

/// Which program is the primary.
#[derive(Debug)]
enum What {
    /// `oxherd` with a verb, for a script.
    Oxherd { verb: &'static str, script: OsString },
    /// A program that is a primary by itself.
    Program(PathBuf),
}

/// A running primary.
#[derive(Debug)]
pub struct Herd {
    child: Child,
    pidfd: OwnedFd,
    exited: Option<ExitStatus>,
    lines: Lines,
    tag: String,
    /// Dropped last, when nothing runs any more.
    _turn: Rc<Turn>,
}

impl Builder {
    fn of(what: What) -> Self {
        Self {
            what,
            args: Vec::new(),
            script_args: Vec::new(),
            env: Vec::new(),
            node: None,
            cwd: None,
            under: Vec::new(),
        }
    }

    /// The number of workers.
    #[must_use]
    pub fn workers(self, count: u32) -> Self {
        self.args(["-i", &count.to_string()])
    }

    /// Options of `oxherd run`.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|it| it.as_ref().to_owned()));
        self
    }

    /// Arguments of the script, or of a program of its own.
    #[must_use]
    pub fn script_args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.script_args.extend(args.into_iter().map(|it| it.as_ref().to_owned()));
        self
    }

    /// One more variable in the environment of the primary, and so of its workers.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.into(), value.as_ref().to_owned()));
        self
    }

    /// The release line of Node to run with; without, [`places::DEFAULT_NODE`].
    #[must_use]
    pub fn node(mut self, line: &str) -> Self {
        self.node = Some(places::node(line));
        self
    }

    /// Leaves the choice of the interpreter to `oxherd`.
    #[must_use]
    pub fn own_interpreter(mut self) -> Self {
        self.node = None;
        self
    }

    /// The folder to start in.
    #[must_use]
    pub fn cwd(mut self, folder: &Path) -> Self {
        self.cwd = Some(folder.to_owned());
        self
    }

    /// Starts it by way of another program, which becomes it: `["prlimit", "--nofile=64"]`.
    #[must_use]
    pub fn under(mut self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.under.extend(words.into_iter().map(|it| it.as_ref().to_owned()));
        self
    }

    /// Starts it.
    pub fn start(self) -> Herd {
        let (mut herd, [stdout, stderr]) = self.start_piped();
        herd.lines.gather(File::from(stdout), false);
        herd.lines.gather(File::from(stderr), true);
        herd
    }

    /// Starts it, and leaves the reading of its stdout and stderr to the caller.
    pub fn start_piped(self) -> (Herd, [OwnedFd; 2]) {
        let mut herd = self.start_with(|command| {
            command.process_group(0);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        });
        let stdout = herd.child.stdout.take().expect("it is piped");
        let stderr = herd.child.stderr.take().expect("it is piped");
        (herd, [stdout.into(), stderr.into()])
    }

    /// Starts it in a terminal of its own, which is its stdin, stdout and stderr. Without colours, unless its
    /// environment says otherwise.
    pub fn start_on_terminal(mut self) -> (Herd, Terminal) {
        let (terminal, end) = Terminal::open();
        let own: Vec<OsString> = ["setsid", "--ctty"].map(OsString::from).into();
        self.under.splice(0..0, own);
        self.env.insert(0, ("NO_COLOR".into(), "1".into()));
        let herd = self.start_with(|command| {
            let another = || Stdio::from(end.try_clone().expect("a descriptor is free"));
            command.stdin(another()).stdout(another()).stderr(another());
        });
        drop(end);
        let mut herd = herd;
        herd.lines.gather(terminal.reader(), false);
        (herd, terminal)
    }

    fn start_with(self, connect: impl FnOnce(&mut Command)) -> Herd {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let turn = turn::shared();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{}-{number}", std::process::id());
        let mut command = dying_with_us();
        command.args(&self.under);
        match &self.what {
            What::Oxherd { verb, script } => {
                command.arg(places::oxherd()).arg(verb).args(&self.args);
                if let Some(node) = &self.node {
                    command.arg("--interpreter").arg(node);
                }
                command.arg(script);
                if !self.script_args.is_empty() {
                    command.arg("--").args(&self.script_args);
                }
            }
            What::Program(program) => {
                command.arg(program).args(&self.script_args);
            }
        }
        command.env("NODE_PATH", places::node_modules()).env(TAG, &tag).envs(self.env);
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd).env_remove("PWD");
        }
        connect(&mut command);
        let child = command.spawn().expect("the program starts");
        let pidfd = procs::pidfd(child.id()).expect("a child that nobody has reaped has a pidfd");
        Herd { child, pidfd, exited: None, lines: Lines::default(), tag, _turn: turn }
    }
}

/// A command whose process is killed when this thread ends, so that nothing survives a killed test.
fn dying_with_us() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    command
}

impl Herd {
    /// A herd of a program from the fixtures folder, or of one by its absolute path.
    pub fn of(script: impl AsRef<Path>) -> Builder {
        let script = script.as_ref();
        let path = match script.is_absolute() {
            true => script.to_owned(),
            false => places::fixture(script.to_str().expect("fixtures have plain names")),
        };
        let mut builder = Self::run([""; 0], path);
        builder.node = Some(places::node(places::DEFAULT_NODE));
        builder
    }

    /// `oxherd run ARGS SCRIPT` as it is written here: nothing is looked up and no interpreter is chosen.
    pub fn run(args: impl IntoIterator<Item = impl AsRef<OsStr>>, script: impl Into<OsString>) -> Builder {
        Builder::of(What::Oxherd { verb: "run", script: script.into() }).args(args)
    }

    /// A program that is primary and worker in one, such as an example.
    pub fn program(path: impl Into<PathBuf>) -> Builder {
        Builder::of(What::Program(path.into()))
    }

    /// `oxherd runtime ARGS FILE`, with the home in `home`: the keeper is what the herd knows as its primary.
    pub fn runtime(
        home: &Path,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        file: impl Into<OsString>,
    ) -> Builder {
        let what = What::Oxherd { verb: "runtime", script: file.into() };
        Builder::of(what).args(args).env("OXHERD_HOME", home)
    }

    /// The primary's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that was printed.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.since(Mark::START)
    }

    /// What was printed since.
    pub fn since(&self, mark: Mark) -> Vec<Line> {
        self.lines.since(mark)
    }

    /// The end of what was printed.
    pub fn mark(&self) -> Mark {
        self.lines.mark()
    }

    /// Waits for a line since `mark`; gives it back with the mark behind it.
    pub fn wait_line(
        &self,
        mark: Mark,
        limit: Duration,
        what: &str,
        wanted: impl FnMut(&Line) -> bool,
    ) -> (Line, Mark) {
        let found = self.lines.wait(mark, limit, wanted);
        found.unwrap_or_else(|| panic!("no line within {limit:?}: {what}\n{}", self.tail()))
    }

    /// Waits for a line since `mark` that contains `text`, from anybody.
    pub fn wait_text(&self, mark: Mark, text: &str) -> (Line, Mark) {
        self.wait_line(mark, DEADLINE, text, |line| line.text.contains(text))
    }

    /// Waits for an event of any worker since `mark`.
    pub fn wait_event(&self, mark: Mark, event: Event) -> (WorkerLine, Mark) {
        let is_it = |line: &Line| WorkerLine::parse(line).is_some_and(|it| it.event == event);
        let (line, mark) = self.wait_line(mark, DEADLINE, &format!("{event:?}"), is_it);
        (WorkerLine::parse(&line).expect("it was parsed before"), mark)
    }

    /// Waits until all workers serve, and gives back the addresses as the line has them.
    pub fn wait_serving(&self) -> Vec<String> {
        let is_it = |line: &Line| line.is_of_primary() && serving_addresses(&line.text).is_some();
        let (line, _) = self.wait_line(Mark::START, DEADLINE, "workers serve", is_it);
        serving_addresses(&line.text).unwrap_or_default()
    }

    /// Waits until all workers serve, and gives back the first address as one that can be connected to.
    pub fn address(&self) -> Address {
        let addresses = self.wait_serving();
        addresses.first().map(|address| Address::reach(address)).expect("it serves somewhere")
    }

    /// The workers that serve, by the log: pid by slot.
    pub fn serving(&self) -> std::collections::BTreeMap<u32, u32> {
        workers::serving(&workers::of(&self.lines()))
    }

    /// Waits until this many workers serve, by the log.
    pub fn wait_count(&self, count: usize) -> Vec<u32> {
        eventually(&format!("{count} workers that serve"), || {
            let serving = self.serving();
            (serving.len() == count).then(|| serving.into_values().collect())
        })
    }

    /// Asks until `count` different processes have answered, and gives back their ids.
    pub fn pids_that_answer(&self, address: &Address, count: usize) -> Vec<u32> {
        let mut pids = std::collections::BTreeSet::new();
        eventually(&format!("answers from {count} processes"), || {
            pids.insert(load::pid_of(&http::get(address, "/")).expect("the answer tells the process"));
            (pids.len() >= count).then(|| pids.iter().copied().collect())
        })
    }

    /// Sends a signal to the primary.
    pub fn signal(&self, signal: Signal) {
        procs::kill(self.pid(), signal);
    }

    /// Reloads, waits until that is done, and gives back how long it took.
    pub fn reload(&self) -> Duration {
        let mark = self.mark();
        let started = std::time::Instant::now();
        self.signal(Signal::HUP);
        self.wait_line(mark, DEADLINE, "a reload that ends", |line| line.text.starts_with("Reload is done"));
        started.elapsed()
    }

    /// Waits for the end of the primary.
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        if let Some(status) = self.exited {
            return status;
        }
        let gone = procs::wait_pidfd(&self.pidfd, limit);
        assert!(gone, "the primary is still there after {limit:?}\n{}", self.tail());
        let status = self.child.try_wait().expect("it is our child").expect("its pidfd said that it is over");
        self.exited = Some(status);
        status
    }

    /// Waits for the end of the primary, which must have this code and leave nothing behind.
    pub fn wait_code(&mut self, code: i32) -> Vec<Line> {
        let status = self.wait_exit(DEADLINE);
        assert_eq!(status.code(), Some(code), "the primary's exit is {status}\n{}", self.tail());
        self.check_leftovers(DYING_GRACE);
        self.lines.finish();
        self.lines()
    }

    /// Stops it politely: code 0, nothing left. Gives back everything that was printed.
    pub fn stop(mut self) -> Vec<Line> {
        self.signal(Signal::TERM);
        self.wait_code(0)
    }

    /// The living processes of this herd, the primary included.
    pub fn processes(&self) -> Vec<u32> {
        procs::carrying(&format!("{TAG}={}", self.tag), self.pid())
    }

    /// The last lines of the log, for messages.
    pub fn tail(&self) -> String {
        self.lines.tail(TAIL_LINES)
    }

    /// Nothing may be left of a primary that is gone; what is left all the same is killed first.
    fn check_leftovers(&self, grace: Duration) {
        let left: Vec<u32> =
            self.processes().into_iter().filter(|pid| !procs::wait_gone(*pid, grace)).collect();
        let named: Vec<String> = left.iter().map(|pid| procs::describe(*pid)).collect();
        for pid in &left {
            procs::kill(*pid, Signal::KILL);
        }
        assert!(
            left.is_empty() || std::thread::panicking(),
            "processes are left behind: {named:?}\n{}",
            self.tail()
        );
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        if self.exited.is_none() {
            self.signal(Signal::KILL);
            self.wait_exit(LEFTOVER_GRACE);
            self.check_leftovers(LEFTOVER_GRACE);
        }
        if std::thread::panicking() {
            eprintln!("the last lines of the herd:\n{}", self.tail());
        }
    }
}

/// The addresses of "4 workers serve A, B, after 1.0 s".
fn serving_addresses(text: &str) -> Option<Vec<String>> {
    let rest = text.split_once(" workers serve ").or_else(|| text.split_once(" worker serves "))?.1;
    let (addresses, _) = rest.rsplit_once(", after ")?;
    Some(addresses.split(", ").map(|it| it.trim_end_matches(" (all addresses)").to_owned()).collect())
}
