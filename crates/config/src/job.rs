//! From a wish to a job: the folder, the program, the environment, and what to doubt. It looks at the machine, and
//! starts nothing.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use oxherd_core::{AppSpec, Distribution, Sockets, SpecError};
use thiserror::Error;

use crate::environment;
use crate::program::{Program, ProgramError, Wanted, absolute, words};
use crate::values::{Instances, Variable};

/// Where a wish was written: what is wrong with it names things as they are spelled there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Options of a command. The script is relative to the current folder.
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
    /// The script's name without its extension if there is none.
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
    pub instances: Instances,
    /// By the sockets if there is none.
    pub distribution: Option<Distribution>,
    /// By the program if there is none.
    pub sockets: Option<Sockets>,
    /// All that needs no looking at. What the fields above decide is filled in by [`Wish::prepare`].
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
    /// The script cannot be run.
    #[error(transparent)]
    Program(#[from] ProgramError),
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
        })
    }

    /// The same for the wishes of a file, which may be named relative to the folder.
    pub fn beside(mut self, file: &Path) -> Self {
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
            name: None,
            interpreter: None,
            interpreter_args: Vec::new(),
            args: Vec::new(),
            cwd: None,
            env: Vec::new(),
            instances: Instances::Count(1),
            distribution: None,
            sockets: None,
            rest: AppSpec::new("", ""),
        }
    }

    /// What the app is called.
    pub fn name(&self) -> String {
        let stem = || Path::new(&self.script).file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
        self.name.clone().or_else(stem).unwrap_or_else(|| "app".into())
    }

    /// Looks whether it can be had, and what exactly it comes to.
    pub fn prepare(&self, surroundings: &Surroundings) -> Result<Job, JobError> {
        let (mut env, doubts) = environment::compose(surroundings.environment.iter().cloned(), &self.env);
        let cwd = self.workers_folder(&surroundings.folder)?;
        let moves = self.cwd.is_some() || self.origin == Origin::File;
        if moves && !self.env.iter().any(|variable| variable.key == "PWD") {
            environment::put(&mut env, "PWD".into(), cwd.clone());
        }
        let program = self.find_program(&surroundings.folder, &cwd, environment::get(&env, "PATH"))?;
        let instances = self.instances.resolve(surroundings.cpus);
        let spec = self.spec(program, cwd, env, instances);
        spec.check_choices()?;
        Ok(Job { spec, doubts })
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

    fn spec(&self, program: Program, cwd: String, env: Vec<(String, String)>, instances: u32) -> AppSpec {
        let sockets = self.sockets.unwrap_or(program.sockets);
        AppSpec {
            name: self.name(),
            program: program.program,
            args: program.args,
            cwd,
            env,
            instances,
            distribution: self.distribution.unwrap_or_else(|| AppSpec::usual_distribution(sockets)),
            sockets,
            ..self.rest.clone()
        }
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
