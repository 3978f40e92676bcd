//! From what is wished for to a job: the folder, the name and the doubts. It looks, and starts nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oxherd_core::{AppSpec, Distribution, Sockets};
use thiserror::Error;

use crate::program::{Program, ProgramError, absolute, words};

/// Why nothing can be started.
#[derive(Debug, Error)]
pub enum JobError {
    /// The folder that the command was called in is gone.
    #[error("cannot find the current folder: {}; change to one that exists", words(.0))]
    NoCurrentFolder(#[source] io::Error),
    /// `--cwd` leads nowhere.
    #[error("cannot use --cwd {folder}: {cause}; name an existing folder")]
    NoFolder { folder: String, cause: &'static str },
    /// The workers' folder cannot be told to others.
    #[error("cannot run in {0}: the path is not UTF-8; choose another folder with --cwd")]
    NotText(String),
    /// The script cannot be run.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// What is to be started, and what should be said before.
#[derive(Debug)]
pub struct Job {
    pub spec: AppSpec,
    pub doubts: Vec<String>,
}

/// What an app is called unless somebody says so: as its script is, without the extension.
pub fn name_of(script: &str) -> String {
    let stem = Path::new(script).file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    stem.unwrap_or_else(|| "app".into())
}

/// Several workers of a program that binds its own sockets may collide; say so before they do.
pub fn doubt_of_sharing(
    program: &Program,
    instances: u32,
    distribution: Option<Distribution>,
) -> Option<String> {
    let shares = program.sockets == Sockets::Channel;
    if shares || (instances == 1 && distribution.is_none()) {
        return None;
    }
    let name =
        Path::new(&program.program).file_name().map_or_else(String::new, |it| it.display().to_string());
    Some(format!(
        "{name} is not Node: sharing a port for other programs comes later, each of the {instances} workers \
         binds its own (-i 1 runs one)"
    ))
}

pub fn workers_folder(here: &Path, wanted: Option<&str>) -> Result<String, JobError> {
    let folder = wanted.map_or_else(|| here.to_owned(), |wanted| absolute(here, wanted));
    let refuse = |cause| JobError::NoFolder { folder: wanted.unwrap_or(".").into(), cause };
    let metadata = fs::metadata(&folder).map_err(|cause| refuse(words(&cause)))?;
    if !metadata.is_dir() {
        return Err(refuse("it is not a folder"));
    }
    folder.to_str().map(str::to_owned).ok_or_else(|| JobError::NotText(folder.display().to_string()))
}

/// The current folder by the name that the shell gave it, where that is true. A symbolic link in it stays, so
/// that a reload follows the link to where it points by then.
pub fn current_folder() -> io::Result<PathBuf> {
    let real = std::env::current_dir()?;
    let named = std::env::var_os("PWD").map(PathBuf::from).filter(|named| named.is_absolute());
    Ok(named.filter(|named| is_same(named, &real)).unwrap_or(real))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    id(one).is_some() && id(one) == id(other)
}
