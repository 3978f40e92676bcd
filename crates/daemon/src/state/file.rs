//! The file with the saved state: how it is read, and what becomes of one that cannot be.
//!
//! Must never overwrite or remove a file that it could not read. Nothing depends on the time that is in the file.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oxherd_core::DesiredApp;
use oxherd_os::clock::wall_millis;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use thiserror::Error;

use crate::home::{Fresh, cause};

/// The version that this build writes. A change to what is written is a new version, and a migration here.
pub const STATE_VERSION: u32 = 1;
/// A file longer than that is none of ours.
const STATE_BYTES_MAX: u64 = 256 << 20;

/// What is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedState {
    /// [`STATE_VERSION`].
    pub version: u32,
    /// When it was saved, in milliseconds since the Unix epoch; for people only.
    pub saved_at_ms: u64,
    /// The apps of the daemon that saved it.
    pub apps: Vec<DesiredApp>,
    /// Apps of an earlier daemon that nobody has resurrected. Their ids mean nothing any more.
    pub dormant: Vec<DesiredApp>,
}

/// Why a file holds no state.
#[derive(Debug, Error)]
pub enum Fault {
    /// It is not there.
    #[error("it is not there")]
    Missing,
    /// It could not be read at all, and may be whole.
    #[error("{}", cause(.0))]
    Unread(#[source] io::Error),
    /// It is damaged, or not ours.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Another version wrote it.
    #[error("it has version {found}, this build reads version {STATE_VERSION}")]
    Version {
        /// The file's version.
        found: u64,
    },
}

/// Why no state could be had. Both files are as they were.
#[derive(Debug, Error)]
pub enum StateError {
    /// Neither file holds one. Mend what hinders, or go on without: see [`Store::begin_anew`](super::Store::begin_anew).
    #[error(
        "Cannot read the saved state: {}: {fault}; {}: {spare_fault}",
        file.display(), spare.display()
    )]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        fault: Fault,
        /// The version before it.
        spare: PathBuf,
        /// What is wrong with that.
        spare_fault: Fault,
    },
    /// A file that is there may not be read, or the disk fails: it may be whole, so it is not replaced.
    #[error("Cannot read {}: {fault}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        fault: Fault,
    },
    /// The thread that saves could not be started: the system has no room for one.
    #[error("cannot start a thread to save the state: {}", cause(.0))]
    NoThread(#[source] io::Error),
    /// A file that holds no state could not be moved out of the way of the next save.
    #[error("cannot rename {}: {} (move it away)", file.display(), cause(source))]
    Stuck {
        /// The file.
        file: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Where the version before the current one is kept.
pub(super) fn spare_of(file: &Path) -> PathBuf {
    with_suffix(file, ".bak")
}

/// The saved state, and lines for people if it was not to be had the usual way. Without files it is empty.
pub(super) fn load(file: &Path) -> Result<(SavedState, Vec<String>), StateError> {
    let spare = spare_of(file);
    let fault = match read(file) {
        Ok(Some(state)) => return Ok((state, Vec::new())),
        Ok(None) => return load_spare_alone(file, &spare),
        Err(fault @ Fault::Unread(_)) => return Err(StateError::Unreadable { file: file.to_owned(), fault }),
        Err(fault) => fault,
    };
    match read(&spare).and_then(|state| state.ok_or(Fault::Missing)) {
        Ok(state) => {
            let aside = set_aside(file)?;
            let line = format!(
                "Cannot use {}: {fault}; it is now {}, and the version before it is used, with {}",
                file.display(),
                aside.display(),
                count(&state)
            );
            Ok((state, vec![line]))
        }
        Err(spare_fault) => Err(StateError::Unusable { file: file.to_owned(), fault, spare, spare_fault }),
    }
}

/// Moves both files out of the way, for beginning with nothing. Returns a line for each.
pub(super) fn set_both_aside(file: &Path) -> Result<Vec<String>, StateError> {
    let present =
        [file.to_owned(), spare_of(file)].into_iter().filter(|file| fs::symlink_metadata(file).is_ok());
    let kept = |file: PathBuf| {
        let aside = set_aside(&file)?;
        let (file, aside) = (file.display(), aside.display());
        Ok(format!("Kept {file} as {aside} (to have its apps again: `oxherd kill`, repair it, move it back)"))
    };
    present.map(kept).collect()
}

/// Writes the state in place of the file, whose version so far becomes the spare.
pub(super) fn save(file: &Path, apps: &[DesiredApp], dormant: &[Arc<DesiredApp>]) -> io::Result<()> {
    let fresh = Fresh::write(file, |writer| {
        // One app in a line, for people who compare versions.
        write!(writer, r#"{{"version":{STATE_VERSION},"saved_at_ms":{},"apps":["#, wall_millis())?;
        write_apps(writer, apps.iter())?;
        writer.write_all(br#"],"dormant":["#)?;
        write_apps(writer, dormant.iter().map(Arc::as_ref))?;
        writer.write_all(b"]}\n")
    })?;
    keep_spare(file)?;
    fresh.put()
}

pub(super) fn write_apps<'a>(
    writer: &mut impl Write,
    apps: impl ExactSizeIterator<Item = &'a DesiredApp>,
) -> io::Result<()> {
    let last = apps.len();
    for (index, app) in (1..).zip(apps) {
        writer.write_all(if index == 1 { b"\n" } else { b"" })?;
        serde_json::to_writer(&mut *writer, app).map_err(io::Error::from)?;
        writer.write_all(if index == last { b"\n" } else { b",\n" })?;
    }
    Ok(())
}

/// Makes the spare a second name of the current file, in one step: there is a whole file under the first name at
/// every moment.
fn keep_spare(file: &Path) -> io::Result<()> {
    let (spare, link) = (spare_of(file), with_suffix(file, ".tmp-spare"));
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    match fs::hard_link(file, &link) {
        Ok(()) => fs::rename(&link, &spare),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A file system without links: a reader finds the spare in the moment between.
        Err(_) => fs::rename(file, &spare),
    }
}

/// No file means that nothing was ever saved, unless a save was cut between its steps or somebody removed it.
fn load_spare_alone(file: &Path, spare: &Path) -> Result<(SavedState, Vec<String>), StateError> {
    match read(spare) {
        Ok(None) => Ok((SavedState::default(), Vec::new())),
        Ok(Some(state)) => {
            let line = format!(
                "{} is missing; {} is used, with {} (remove both to begin with no apps)",
                file.display(),
                spare.display(),
                count(&state)
            );
            Ok((state, vec![line]))
        }
        Err(fault @ Fault::Unread(_)) => Err(StateError::Unreadable { file: spare.to_owned(), fault }),
        Err(spare_fault) => Err(StateError::Unusable {
            file: file.to_owned(),
            fault: Fault::Missing,
            spare: spare.to_owned(),
            spare_fault,
        }),
    }
}

/// What the file holds; nothing when it is not there.
pub(super) fn read(path: &Path) -> Result<Option<SavedState>, Fault> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::Unread(error)),
    };
    if !metadata.is_file() {
        return Err(Fault::Damaged("it is not a file".into()));
    }
    if metadata.len() > STATE_BYTES_MAX {
        let megabytes = metadata.len() >> 20;
        return Err(Fault::Damaged(format!("{megabytes} MiB are more than a saved state has")));
    }
    let bytes = fs::read(path).map_err(Fault::Unread)?;
    parse(&bytes).map(Some)
}

fn parse(bytes: &[u8]) -> Result<SavedState, Fault> {
    #[derive(Deserialize)]
    struct Stamp {
        version: u64,
    }
    let stamp: Stamp = serde_json::from_slice(bytes).map_err(damage)?;
    let state: SavedState = match stamp.version {
        1 => serde_json::from_slice(bytes).map_err(damage)?,
        found => return Err(Fault::Version { found }),
    };
    check(&state).map_err(Fault::Damaged)?;
    Ok(state)
}

/// Where the file is wrong. What stands there is not told: it may be a secret of somebody's environment.
fn damage(error: serde_json::Error) -> Fault {
    let what = match error.classify() {
        Category::Eof => "it ends too early",
        Category::Syntax | Category::Io => "it is no JSON",
        Category::Data => "something unexpected is there",
    };
    Fault::Damaged(format!("{what} (line {}, column {})", error.line(), error.column()))
}

/// What the types cannot say.
fn check(state: &SavedState) -> Result<(), String> {
    let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
    if let Some(twice) = state.apps.iter().find(|app| !ids.insert(app.app)) {
        return Err(format!("two apps have the id {}", twice.app.0));
    }
    let mut all = state.apps.iter().chain(&state.dormant);
    match all.find(|app| app.spec.name.is_empty() || !names.insert(&app.spec.name)) {
        Some(app) if app.spec.name.is_empty() => Err("an app has no name".into()),
        Some(app) => Err(format!("two apps have the name `{}`", app.spec.name)),
        None => Ok(()),
    }
}

/// Renames the file to a name that was free.
fn set_aside(file: &Path) -> Result<PathBuf, StateError> {
    let aside = (wall_millis()..)
        .map(|ms| with_suffix(file, &format!(".broken-{ms}")))
        .find(|path| fs::symlink_metadata(path).is_err())
        .unwrap_or_else(|| with_suffix(file, ".broken"));
    fs::rename(file, &aside).map_err(|source| StateError::Stuck { file: file.to_owned(), source })?;
    Ok(aside)
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    file.with_file_name(name)
}

fn count(state: &SavedState) -> String {
    match state.apps.len() + state.dormant.len() {
        1 => "1 app".into(),
        count => format!("{count} apps"),
    }
}
