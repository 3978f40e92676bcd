//! From a wish to a job: the folder, the program, the environment, and what to doubt. It looks at the machine, and
//! starts nothing.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use oxherd_core::{
    AppSpec, Distribution, LogSpec, Scaling, Serialization, Signal, Sockets, Span, SpecError, Upkeep,
};
use thiserror::Error;

use crate::about;
use crate::environment::{self, EnvFilter};
use crate::owner::{self, Account, OwnerError};
use crate::program::{Program, ProgramError, Wanted, absolute, is_line, words};
use crate::serve::{self, Served, Written};
use crate::values::{self, Instances, Variable};

/// What PM2 allows between its stop signal and the kill.
const PM2_KILL_TIMEOUT: Span = Span::from_millis(1600);

/// Where a wish was written: what is wrong with it names things as they are spelled there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Options of a command. The script is relative to the current folder, or a program on `PATH`, or a line for the
    /// shell.
    #[default]
    CommandLine,
    /// Words of a command line, as one would type them: the script is relative to the current folder, or a program on
    /// `PATH`.
    Words,
    /// Keys of a file. The script is relative to the workers' folder, or a program on `PATH`, or a line for the shell.
    File,
}

/// What somebody asks for, before anything was looked at.
#[derive(Clone, Debug)]
pub struct Wish {
    pub origin: Origin,
    /// The script as written.
    pub script: String,
    /// Whether the script is a line for the shell, as far as anybody has looked.
    pub is_line: bool,
    /// Whether it is a server of files, whatever else there is of the script's name.
    pub is_file_server: bool,
    /// The script's name without its extension if there is none; that of the program with which a line begins.
    pub name: Option<String>,
    /// By the script's extension or its first line if there is none.
    pub interpreter: Option<String>,
    pub interpreter_args: Vec<String>,
    /// Arguments of the script.
    pub args: Vec<String>,
    /// Folder of the workers.
    pub cwd: Option<String>,
    /// What is added to the caller's environment; the last of a name wins.
    pub env: Vec<Variable>,
    /// What is left out of the caller's environment.
    pub filter_env: EnvFilter,
    /// The user to run as, by name or number.
    pub user: Option<String>,
    /// The group to run as, likewise.
    pub group: Option<String>,
    pub instances: Instances,
    /// The bounds between which their number follows the load; `instances` is then not looked at.
    pub scaling: Option<(Instances, Instances)>,
    /// By the sockets if there is none.
    pub distribution: Option<Distribution>,
    /// By the program if there is none.
    pub sockets: Option<Sockets>,
    /// All that needs no looking at. What the fields above decide is filled in by [`Wish::prepare`], and paths in its
    /// upkeep may be relative to the workers' folder.
    pub rest: AppSpec,
}

/// Where a wish is made.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The folder that paths are relative to: the current one, or the file's.
    pub folder: PathBuf,
    /// The caller's environment.
    pub environment: Vec<(OsString, OsString)>,
    /// CPUs that may be used.
    pub cpus: usize,
    /// Which `env_<name>` of a file is laid over its `env`.
    pub env_name: Option<String>,
    /// The folder of log files whose place nobody chose.
    pub logs: Option<PathBuf>,
    /// The program that serves files when it is told so (`serve-files`), if there is one.
    pub file_server: Option<PathBuf>,
    /// Whether the program was called as `pm2`: its defaults and its lenience with unknown keys then apply.
    pub as_pm2: bool,
}

/// What is to be started, and what should be said before.
#[derive(Clone, Debug)]
pub struct Job {
    pub spec: AppSpec,
    pub doubts: Vec<String>,
}

/// Why nothing can be started.
#[derive(Debug, Error)]
pub enum JobError {
    /// The folder that the command was called in is gone.
    #[error("cannot find the current folder: {}; change to one that exists", words(.0))]
    NoCurrentFolder(#[source] io::Error),
    /// The workers' folder does not exist.
    #[error("cannot use {} {folder}: {cause}; name an existing folder", origin.cwd())]
    NoFolder { folder: String, cause: &'static str, origin: Origin },
    /// The workers' folder cannot be told to others.
    #[error("cannot run in {folder}: the path is not UTF-8; choose another folder with {}", origin.cwd())]
    NotText { folder: String, origin: Origin },
    /// What is said of a server of files cannot be had.
    #[error("{0}")]
    Served(String),
    /// PM2's own server of files, which is a verb here.
    #[error(
        "`serve` as a script is not offered: `oxherd serve PATH PORT` serves files (--spa, --basic-auth-username)"
    )]
    FileServer,
    /// The script cannot be run.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Nobody can be run as that user.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// What was chosen does not go together.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

impl Origin {
    /// How the workers' folder is named.
    pub fn cwd(self) -> &'static str {
        self.spelled("--cwd", "`cwd`")
    }

    /// How the interpreter is named.
    pub fn interpreter(self) -> &'static str {
        self.spelled("--interpreter", "`interpreter`")
    }

    /// How the interpreter's arguments are named.
    pub fn node_args(self) -> &'static str {
        self.spelled("--node-args", "`node_args`")
    }

    /// Where the script's own arguments stand.
    pub fn args(self) -> &'static str {
        self.spelled("after --", "in `args`")
    }

    /// How the script's own arguments are named.
    pub fn its_args(self) -> &'static str {
        self.spelled("arguments after --", "`args`")
    }

    fn spelled(self, option: &'static str, key: &'static str) -> &'static str {
        match self {
            Self::CommandLine | Self::Words => option,
            Self::File => key,
        }
    }
}

impl Surroundings {
    /// Those of this process.
    pub fn of_caller() -> Result<Self, JobError> {
        Ok(Self {
            folder: current_folder().map_err(JobError::NoCurrentFolder)?,
            environment: std::env::vars_os().collect(),
            // It honours both the affinity mask and the quota of the cgroup.
            cpus: thread::available_parallelism().map_or(1, usize::from),
            env_name: None,
            logs: None,
            file_server: None,
            as_pm2: false,
        })
    }

    /// Where the caller looks for programs.
    fn path(&self) -> Option<String> {
        let path = self.environment.iter().find(|(key, _)| key == "PATH")?;
        path.1.to_str().map(str::to_owned)
    }

    /// The same for the wishes of a file, which may be named relative to the folder. Under PM2 they are relative to
    /// where it was called.
    pub fn beside(mut self, file: &Path) -> Self {
        if self.as_pm2 {
            return self;
        }
        let file: PathBuf = self.folder.join(file).components().collect();
        self.folder = file.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
        self
    }
}

impl Wish {
    /// A wish with no more in it than the script.
    pub fn new(origin: Origin, script: impl Into<String>) -> Self {
        Self {
            origin,
            script: script.into(),
            is_line: false,
            is_file_server: false,
            name: None,
            interpreter: None,
            interpreter_args: Vec::new(),
            args: Vec::new(),
            cwd: None,
            env: Vec::new(),
            filter_env: EnvFilter::default(),
            user: None,
            group: None,
            instances: Instances::Count(1),
            scaling: None,
            distribution: None,
            sockets: None,
            rest: AppSpec::new("", ""),
        }
    }

    /// The same with PM2's defaults where they differ from ours.
    #[must_use]
    pub fn as_pm2(mut self) -> Self {
        self.rest.stop_signal = Signal::INT;
        self.rest.kill_timeout = PM2_KILL_TIMEOUT;
        self.rest.upkeep.logs.per_slot = true;
        self
    }

    /// PM2's `fork`. Where nobody chose otherwise, a worker that has no need of a channel has none, for that would keep Node
    /// alive after its work is done; it is lent its sockets, so that two of them can be there while one is replaced.
    pub fn fork_as_pm2(&mut self) {
        if self.sockets.is_some() || self.distribution.is_some() {
            return;
        }
        self.rest.upkeep.about.fork = true;
        let rest = &self.rest;
        let needs_channel = rest.wait_ready
            || rest.shutdown_with_message
            || rest.health_interval.is_some()
            || rest.max_requests.is_some()
            || rest.serialization == Serialization::Advanced
            || !rest.listen.is_empty();
        if !needs_channel {
            self.sockets = Some(Sockets::Universal);
        }
    }

    /// What the app is called.
    pub fn name(&self) -> String {
        let usual = || {
            let first = self.script.split_whitespace().next().filter(|_| self.is_line);
            let name =
                first.map_or_else(|| Path::new(&self.script).file_stem(), |it| Path::new(it).file_name());
            name.and_then(|name| name.to_str()).map(str::to_owned)
        };
        self.name.clone().or_else(usual).unwrap_or_else(|| "app".into())
    }

    /// Looks whether the script is a line for the shell: it is no file's name.
    pub(crate) fn settle_line(&mut self, folder: &Path) {
        let cwd = self.cwd.as_deref().filter(|_| self.origin == Origin::File).unwrap_or(".");
        let is_file = || absolute(&absolute(folder, cwd), &self.script).exists();
        self.is_line = self.origin != Origin::Words && is_line(&self.script) && !is_file();
    }

    /// Looks whether it can be had, and what exactly it comes to.
    pub fn prepare(&self, surroundings: &Surroundings) -> Result<Job, JobError> {
        let mut wish = self.clone();
        wish.settle_line(&surroundings.folder);
        wish.looked_at(surroundings)
    }

    fn looked_at(&self, surroundings: &Surroundings) -> Result<Job, JobError> {
        let cwd = self.workers_folder(&surroundings.folder)?;
        if self.serves_files(surroundings, &cwd) {
            return self.served(surroundings, &cwd);
        }
        let inherited = surroundings.environment.iter().filter(|(key, _)| self.filter_env.lets(key)).cloned();
        let (mut env, doubts) = environment::compose(inherited, &self.env);
        let moves = self.cwd.is_some() || self.origin == Origin::File;
        if moves {
            self.put_usual(&mut env, "PWD", &cwd);
        }
        let account = owner::find(self.user.as_deref(), self.group.as_deref())?;
        if let Some(Account { names: Some((name, home)), .. }) = &account {
            for (key, value) in [("HOME", home), ("USER", name), ("LOGNAME", name)] {
                self.put_usual(&mut env, key, value);
            }
        }
        let path = environment::get(&env, "PATH").map(str::to_owned).or_else(|| surroundings.path());
        let program = self.find_program(&surroundings.folder, &cwd, path.as_deref())?;
        let mut spec = self.spec(program, cwd, env, surroundings);
        spec.owner = account.map(|account| account.owner);
        spec.check_texts()?;
        spec.check_choices()?;
        Ok(Job { spec, doubts })
    }

    /// Whether PM2 would serve files in place of running a program of that name.
    fn serves_files(&self, surroundings: &Surroundings, cwd: &str) -> bool {
        let is_meant =
            surroundings.as_pm2 || self.env.iter().any(|variable| variable.key.starts_with(serve::PREFIX));
        let is_there = || absolute(Path::new(cwd), &self.script).exists();
        let is_named = self.origin == Origin::File && self.script == serve::SCRIPT;
        self.is_file_server || is_named && is_meant && !is_there()
    }

    /// PM2's server of files becomes the one that there is.
    fn served(&self, surroundings: &Surroundings, cwd: &str) -> Result<Job, JobError> {
        let program = surroundings.file_server.as_deref().and_then(Path::to_str);
        let program = program.ok_or(JobError::FileServer)?;
        let mut doubts = Vec::new();
        let written = if self.is_file_server { Written::Keys } else { Written::Variables };
        let served = Served::of(&self.env, written, &mut doubts).map_err(JobError::Served)?;
        if !self.args.is_empty() {
            doubts.push("`args` have no effect: variables say what is served".into());
        }
        let name = self.name();
        let wish = Self {
            script: program.into(),
            is_line: false,
            is_file_server: false,
            name: Some(name.clone()),
            interpreter: Some("none".into()),
            args: served.command(Path::new(cwd)).map_err(JobError::Served)?,
            sockets: self.sockets.or(Some(Sockets::Universal)),
            ..self.clone()
        };
        let mut job = wish.looked_at(surroundings)?;
        job.spec.env.extend(served.authorization().map(|value| (serve::AUTHORIZATION.into(), value)));
        job.doubts.extend(doubts.into_iter().map(|doubt| format!("{name}: {doubt}")));
        Ok(job)
    }

    /// Sets a variable unless it was asked for.
    fn put_usual(&self, env: &mut Vec<(String, String)>, key: &str, value: &str) {
        if !self.env.iter().any(|variable| variable.key == key) {
            environment::put(env, key.into(), value.into());
        }
    }

    fn find_program(&self, folder: &Path, cwd: &str, path: Option<&str>) -> Result<Program, ProgramError> {
        let folder = match self.origin {
            Origin::CommandLine | Origin::Words => folder,
            Origin::File => Path::new(cwd),
        };
        Wanted {
            script: &self.script,
            interpreter: self.interpreter.as_deref(),
            interpreter_args: &self.interpreter_args,
            args: &self.args,
            folder,
            path,
            origin: self.origin,
        }
        .find()
    }

    fn spec(
        &self,
        program: Program,
        cwd: String,
        env: Vec<(String, String)>,
        surroundings: &Surroundings,
    ) -> AppSpec {
        let sockets = self.sockets.unwrap_or(program.sockets);
        let resolve = |count: Instances| count.resolve(surroundings.cpus);
        let scaling = self.scaling.map(|(min, max)| Scaling { min: resolve(min), max: resolve(max) });
        let is_fork = sockets == Sockets::None || (surroundings.as_pm2 && sockets != Sockets::Channel);
        AppSpec {
            name: self.name(),
            instances: scaling.map_or_else(|| resolve(self.instances), |scaling| scaling.min),
            distribution: self.distribution.unwrap_or_else(|| AppSpec::usual_distribution(sockets)),
            sockets,
            scaling,
            upkeep: self.upkeep(&program, &cwd, surroundings, is_fork),
            program: program.program,
            args: program.args,
            cwd,
            env,
            ..self.rest.clone()
        }
    }

    /// What others do for the app, with absolute paths and what there is to know of the command.
    fn upkeep(&self, program: &Program, cwd: &str, surroundings: &Surroundings, is_fork: bool) -> Upkeep {
        let mut upkeep = self.rest.upkeep.clone();
        let here = Path::new(cwd);
        if let Some(path) = upkeep.logs.both.as_mut().filter(|path| path.is_empty()) {
            let folder = surroundings.logs.as_deref().unwrap_or(here);
            *path = folder.join(values::usual_log(&self.name())).to_string_lossy().into_owned();
        }
        // The parts were text, and so is the whole.
        let whole = |path: &mut String| *path = absolute(here, path).to_string_lossy().into_owned();
        let LogSpec { out, err, both, .. } = &mut upkeep.logs;
        for path in [out, err, both].into_iter().flatten() {
            match values::is_nowhere(path) {
                true => *path = values::NOWHERE.into(),
                false => whole(path),
            }
        }
        upkeep.pid_file.iter_mut().for_each(whole);
        upkeep.watch.iter_mut().flat_map(|watch| &mut watch.paths).for_each(whole);
        let (about, written) = (&mut upkeep.about, &program.written);
        about.script.clone_from(&written.script);
        about.args.clone_from(&written.args);
        about.interpreter = written.interpreter.clone().unwrap_or_else(|| "none".into());
        about.interpreter_args.clone_from(&written.interpreter_args);
        about.env = self.env.iter().map(|it| (it.key.clone(), it.value.clone())).collect();
        about.filter_env = self.filter_env.to_string();
        about.fork |= is_fork;
        let is_script = written.interpreter.is_some();
        let folder = Path::new(&written.script).parent().filter(|_| is_script).unwrap_or(here);
        about.version = about::version(folder);
        upkeep
    }

    fn workers_folder(&self, here: &Path) -> Result<String, JobError> {
        let (wanted, origin) = (self.cwd.as_deref(), self.origin);
        let folder = wanted.map_or_else(|| here.to_owned(), |wanted| absolute(here, wanted));
        let refuse = |cause| JobError::NoFolder { folder: wanted.unwrap_or(".").into(), cause, origin };
        let metadata = fs::metadata(&folder).map_err(|cause| refuse(words(&cause)))?;
        if !metadata.is_dir() {
            return Err(refuse("it is not a folder"));
        }
        let text = folder.to_str().map(str::to_owned);
        text.ok_or_else(|| JobError::NotText { folder: folder.display().to_string(), origin })
    }
}

/// The current folder by the name that the shell gave it, where that is true. A symbolic link in it stays, so
/// that a reload follows the link to where it points by then.
fn current_folder() -> io::Result<PathBuf> {
    let real = std::env::current_dir()?;
    let named = std::env::var_os("PWD").map(PathBuf::from).filter(|named| named.is_absolute());
    Ok(named.filter(|named| is_same(named, &real)).unwrap_or(real))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    id(one).is_some() && id(one) == id(other)
}
