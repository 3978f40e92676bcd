//! `set`, `get`, `unset`, `multiset`, `conf`: settings that tools keep here, in a file of the home that only its owner
//! reads. oxherd itself obeys none of them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::commands::daemon::{Ending, fail, lasting_home, status_of};
use crate::exit::ExitStatus;
use crate::options::{ConfOptions, GetOptions, MultisetOptions, SetOptions, UnsetOptions};
use crate::replace::replace;
use crate::voice::{complain, print, tell};

/// The file in the home folder.
const FILE: &str = "conf.json";
/// Longer files are refused.
const BYTES_MAX: u64 = 1 << 20;

type Settings = BTreeMap<String, String>;

pub(super) fn set(options: &SetOptions) -> ExitStatus {
    status_of(put_all(&[(options.key.clone(), options.value.clone())]))
}

pub(super) fn multiset(options: &MultisetOptions) -> ExitStatus {
    // One word with blanks in it, as PM2 has it, or one for each.
    let words: Vec<String> = match &options.pairs[..] {
        [one] => one.split_whitespace().map(str::to_owned).collect(),
        many => many.to_vec(),
    };
    let (pairs, rest) = words.as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        complain("settings are pairs: give a value for each key");
        return ExitStatus::Usage;
    }
    let pairs: Vec<_> = pairs.iter().map(|[key, value]| (key.clone(), value.clone())).collect();
    status_of(put_all(&pairs))
}

pub(super) fn get(options: &GetOptions) -> ExitStatus {
    status_of(show(options.key.as_deref()))
}

pub(super) fn conf(options: &ConfOptions) -> ExitStatus {
    status_of(match (&options.key, &options.value) {
        (Some(key), Some(value)) => put_all(&[(key.clone(), value.clone())]),
        (key, _) => show(key.as_deref()),
    })
}

pub(super) fn unset(options: &UnsetOptions) -> ExitStatus {
    status_of(forget(&options.key))
}

fn put_all(pairs: &[(String, String)]) -> Ending<ExitStatus> {
    let path = file()?;
    let mut settings = read(&path)?;
    for (key, value) in pairs {
        settings.insert(key.clone(), value.clone());
    }
    write(&path, &settings)?;
    pairs.iter().for_each(|(key, value)| tell(&format!("{key} is set to {value}")));
    Ok(ExitStatus::Success)
}

fn show(key: Option<&str>) -> Ending<ExitStatus> {
    let settings = read(&file()?)?;
    match key {
        None => print(&settings.iter().map(|(key, value)| format!("{key} {value}\n")).collect::<String>()),
        Some(key) => match settings.get(key) {
            Some(value) => print(&format!("{value}\n")),
            None => return Err(unknown(key, &settings)),
        },
    }
    Ok(ExitStatus::Success)
}

fn forget(key: &str) -> Ending<ExitStatus> {
    let path = file()?;
    let mut settings = read(&path)?;
    match key {
        "all" => settings.clear(),
        key if settings.remove(key).is_none() => return Err(unknown(key, &settings)),
        _ => {}
    }
    write(&path, &settings)?;
    tell(&format!("{key} is set no more"));
    Ok(ExitStatus::Success)
}

fn unknown(key: &str, settings: &Settings) -> ExitStatus {
    let meant = oxherd_config::nearest_of(key, settings.keys().map(String::as_str));
    let tip =
        meant.map_or_else(|| "`get` lists the settings".to_owned(), |it| format!("did you mean `{it}`?"));
    complain(&format!("there is no setting `{key}`: {tip}"));
    ExitStatus::Failure
}

/// In a home that is made if it is missing.
fn file() -> Ending<PathBuf> {
    let home = lasting_home()?;
    home.prepare().map_err(|error| fail(&error, ExitStatus::Failure))?;
    Ok(home.folder().join(FILE))
}

fn read(path: &Path) -> Ending<Settings> {
    let refuse = |why: &dyn std::fmt::Display| {
        fail(&format!("cannot read {}: {why}; mend it or move it away", path.display()), ExitStatus::Failure)
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Settings::new()),
        Err(error) => return Err(refuse(&error)),
        Ok(metadata) if metadata.len() > BYTES_MAX => return Err(refuse(&"it is longer than 1 MiB")),
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(|error| refuse(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| refuse(&error))
}

/// In one step: a reader finds the old file or the new one.
fn write(path: &Path, settings: &Settings) -> Ending<()> {
    let bytes = serde_json::to_vec_pretty(settings).map_err(io::Error::other);
    bytes
        .and_then(|bytes| replace(path, &bytes, 0o600))
        .map_err(|error| fail(&format!("cannot write {}: {error}", path.display()), ExitStatus::Failure))
}
