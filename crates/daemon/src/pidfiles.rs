//! Files with the pids of workers, for people and for tools. Nothing of ours reads them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oxherd_core::{AppId, AppSpec, Desired, Notice, Slot};

/// Which files there are to be, by what is heard of workers. It touches none itself.
#[derive(Debug, Default)]
pub(crate) struct PidFiles {
    specs: BTreeMap<AppId, Arc<AppSpec>>,
    /// Who lives, the latest to serve last: it keeps its file's name when its app is forgotten before it ends.
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    app: AppId,
    slot: Slot,
    pid: u32,
    serves: bool,
    path: Option<PathBuf>,
}

/// What is to be done with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A worker's pid belongs into it; `is_sure` when it serves there now.
    Write { path: PathBuf, pid: u32, is_sure: bool },
    /// The worker has none any more.
    Remove { path: PathBuf, pid: u32 },
}

impl PidFiles {
    /// Learns what is wanted: files may have other names now.
    pub(crate) fn know(&mut self, desired: &Desired) -> Vec<Change> {
        self.specs = desired.apps.iter().map(|app| (app.app, Arc::new(app.spec.clone()))).collect();
        let mut changes = Vec::new();
        for worker in &mut self.workers {
            let Some(spec) = self.specs.get(&worker.app) else { continue };
            let path = pid_file(spec, worker.slot);
            if path != worker.path {
                let (pid, is_sure) = (worker.pid, worker.serves);
                changes.extend(worker.path.take().map(|path| Change::Remove { path, pid }));
                changes.extend(path.clone().map(|path| Change::Write { path, pid, is_sure }));
                worker.path = path;
            }
        }
        changes
    }

    /// Hears of a worker.
    pub(crate) fn hear(&mut self, notice: &Notice, pid: u32) -> Option<Change> {
        let (place, is_sure, has_ended) = match notice {
            Notice::Forked { place } => (place, false, false),
            Notice::Ready { place, .. } => (place, true, false),
            Notice::Exited { place, .. } => (place, false, true),
            _ => return None,
        };
        let at = self.workers.iter().position(|it| it.app == place.app && it.pid == pid);
        let known = at.map(|at| self.workers.remove(at));
        let named = || self.specs.get(&place.app).and_then(|spec| pid_file(spec, place.slot));
        let path = known.and_then(|worker| worker.path).or_else(named);
        if has_ended {
            return path.map(|path| Change::Remove { path, pid });
        }
        let (app, slot) = (place.app, place.slot);
        self.workers.push(Worker { app, slot, pid, serves: is_sure, path: path.clone() });
        path.map(|path| Change::Write { path, pid, is_sure })
    }
}

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
    use oxherd_core::{DesiredApp, Exit, Generation, InstanceId, Place, Span};

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

    /// Wanted is one app with that many workers, and their pids in that file.
    fn desired(path: &str, instances: u32) -> Desired {
        let mut spec = AppSpec::new("web", "node");
        spec.upkeep.pid_file = Some(path.into());
        spec.instances = instances;
        let app = DesiredApp { app: AppId(0), generation: Generation(1), spec, instances, up: true };
        Desired { apps: vec![app] }
    }

    fn forked() -> Notice {
        let (app, slot) = (AppId(0), Slot(0));
        Notice::Forked {
            place: Place {
                app,
                slot,
                generation: Generation(1),
                instance: InstanceId { starts: 1, number: 1 },
            },
        }
    }

    #[test]
    fn a_file_has_the_name_that_is_wanted_and_goes_with_its_worker() {
        let write = |path: &str| Change::Write { path: path.into(), pid: 7, is_sure: false };
        let remove = |path: &str| Change::Remove { path: path.into(), pid: 7 };
        let mut files = PidFiles::default();
        assert_eq!(files.hear(&forked(), 7), None);
        assert_eq!(files.know(&desired("/run/a.pid", 1)), [write("/run/a.pid")]);
        assert_eq!(files.know(&desired("/run/a.pid", 1)), []);
        assert_eq!(files.know(&desired("/run/a.pid", 2)), [remove("/run/a.pid"), write("/run/a-0.pid")]);
        assert_eq!(files.know(&Desired { apps: Vec::new() }), []);
        let Notice::Forked { place } = forked() else { panic!("it is one") };
        let exited = Notice::Exited { place, exit: Exit::Code(0), uptime: Span::ZERO, wanted: true };
        assert_eq!(files.hear(&exited, 7), Some(remove("/run/a-0.pid")));
        assert_eq!(files.hear(&exited, 7), None);
    }
}
