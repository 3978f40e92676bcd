//! Files with the pids of workers, for people and for tools. Nothing of ours reads them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oxherd_core::{AppSpec, Slot};

/// The file with the pid of a slot's worker, if the app has such files.
pub(crate) fn pid_file(spec: &AppSpec, slot: Slot) -> Option<PathBuf> {
    let path = PathBuf::from(spec.upkeep.pid_file.as_ref()?);
    // Where there may be several, each slot has its own.
    let is_alone = spec.instances == 1 && spec.scaling.is_none();
    Some(if is_alone { path } else { numbered(&path, slot.0) })
}

/// Writes a worker's pid, whole or not at all, so that others may read it. Unless it is sure that the worker serves,
/// one who lives keeps the file.
pub(crate) fn write(path: &Path, pid: u32, is_sure: bool) -> io::Result<()> {
    let lives = |pid: u32| Path::new(&format!("/proc/{pid}")).exists();
    if !is_sure && read(path).is_some_and(lives) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    fs::write(&fresh, format!("{pid}\n"))?;
    fs::rename(&fresh, path)
}

/// Removes the file of a worker that has ended, unless another has it by now.
pub(crate) fn remove(path: &Path, pid: u32) {
    if read(path) == Some(pid) {
        // One that stays names nobody who lives.
        drop(fs::remove_file(path));
    }
}

fn read(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The path with `-<number>` before its extension.
pub(crate) fn numbered(path: &Path, number: u32) -> PathBuf {
    let Some(stem) = path.file_stem() else { return path.to_owned() };
    let mut name = stem.to_owned();
    name.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_before_the_extension() {
        let numbered = |path: &str| numbered(Path::new(path), 3).display().to_string();
        assert_eq!(numbered("/var/log/web-out.log"), "/var/log/web-out-3.log");
        assert_eq!(numbered("/run/web.server.pid"), "/run/web.server-3.pid");
        assert_eq!(numbered("/run/web"), "/run/web-3");
        assert_eq!(numbered("/run/.web"), "/run/.web-3");
    }

    #[test]
    fn a_single_worker_has_the_file_itself() {
        let mut spec = AppSpec::new("web", "node");
        assert_eq!(pid_file(&spec, Slot(0)), None);
        spec.upkeep.pid_file = Some("/run/web.pid".into());
        assert_eq!(pid_file(&spec, Slot(0)), Some("/run/web.pid".into()));
        spec.instances = 2;
        assert_eq!(pid_file(&spec, Slot(1)), Some("/run/web-1.pid".into()));
    }
}
