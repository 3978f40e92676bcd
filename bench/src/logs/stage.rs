//! One app that writes, and what is seen of its manager meanwhile; and the disk that is full. What either leaves goes
//! with its manager.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::SETTLE;
use super::writer::{self, Job};
use crate::daemon::manager::Manager;
use crate::daemon::process::{Memory, cpu_ms};
use crate::sys;

/// Between two looks at the manager's memory and at the files.
const LOOK: Duration = Duration::from_millis(25);
/// What the full disk has room for, and what of it is taken until there is to be room.
const DISK_BYTES: usize = 4 << 20;
const BALLAST_BYTES: usize = 3 << 20;

pub(crate) struct Stage<'a> {
    manager: &'a Manager<'a>,
    name: String,
    /// The job's own files are beside it.
    file: PathBuf,
    log: PathBuf,
}

/// What was seen of a manager while workers wrote.
pub(crate) struct Watch {
    pub(crate) wall_ms: f64,
    /// Of all its processes.
    pub(crate) cpu_ms: f64,
    /// The most that they had at a time, pages that others share counted by share.
    pub(crate) peak_kib: f64,
}

impl<'a> Stage<'a> {
    /// Starts a worker that is ready to do the job; its output goes to a file in that folder, or where the manager keeps
    /// such files.
    pub(crate) fn start(
        manager: &'a Manager<'a>,
        name: &str,
        job: Job,
        folder: Option<&Path>,
    ) -> Result<Self, String> {
        let file = manager.home().join(format!("{name}.json"));
        let program =
            std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let mut args = vec!["logs-writer".to_owned(), file.display().to_string()];
        args.extend(job.words());
        let mut app = json!({
            "name": name, "script": program, "interpreter": "none", "exec_mode": "fork", "args": args,
            "merge_logs": true, "log_rotate": false,
        });
        let log = folder.map_or_else(
            || manager.home().join(format!("logs/{name}-out.log")),
            |folder| if folder == Path::new("/dev") { "/dev/full".into() } else { folder.join("out.log") },
        );
        if folder.is_some() {
            app["out_file"] = json!(log);
        }
        let written = fs::write(&file, json!({ "apps": [app] }).to_string());
        written.map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        manager.run(&["start", &file.display().to_string()])?;
        Ok(Self { manager, name: name.to_owned(), file, log })
    }

    pub(crate) fn bytes(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |metadata| metadata.len())
    }

    pub(crate) fn text(&self) -> Vec<u8> {
        if fs::metadata(&self.log).is_ok_and(|metadata| metadata.is_file()) {
            fs::read(&self.log).unwrap_or_default()
        } else {
            Vec::new()
        }
    }

    /// What the worker says of its turn, once it is through.
    pub(crate) fn said(&self, turn: u32) -> Option<Value> {
        writer::said(&self.file, turn)
    }

    pub(crate) fn end(&self) -> Result<(), String> {
        self.manager.run(&["delete", &self.name]).map(drop)
    }
}

/// Lets the workers take their turn and looks on until all is done, or until nobody waits any longer.
pub(crate) fn watch(
    manager: &Manager<'_>,
    stages: &[Stage<'_>],
    turn: u32,
    patience: Duration,
    is_done: impl Fn() -> bool,
) -> Result<Watch, String> {
    let pids = manager.pids()?.all();
    std::thread::sleep(SETTLE);
    let (before, start) = (cpu_ms(&pids)?, Instant::now());
    for stage in stages {
        let order = writer::order(&stage.file, turn);
        fs::write(&order, "").map_err(|error| format!("cannot write {}: {error}", order.display()))?;
    }
    let mut peak_kib: f64 = 0.0;
    while start.elapsed() < patience && !is_done() {
        if sys::stop_requested() {
            return Err("interrupted".to_owned());
        }
        let memory = pids.iter().map(|pid| Ok(Memory::of(*pid)?.pss)).sum::<Result<f64, String>>()?;
        peak_kib = peak_kib.max(memory);
        std::thread::sleep(LOOK);
    }
    let wall_ms = start.elapsed().as_secs_f64() * 1e3;
    Ok(Watch { wall_ms, cpu_ms: cpu_ms(&pids)? - before, peak_kib })
}

/// A small disk of its own where that is allowed, or else a file that takes nothing.
pub(crate) struct Disk {
    mounted: Option<PathBuf>,
}

impl Disk {
    pub(crate) fn make(home: &Path) -> Self {
        let folder = home.join("disk");
        let mount = |folder: &Path| {
            let size = format!("size={DISK_BYTES},mode=700");
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder);
            mount.output().is_ok_and(|output| output.status.success())
        };
        let mounted = fs::create_dir(&folder).is_ok() && mount(&folder);
        Self { mounted: mounted.then_some(folder) }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.mounted.as_deref().unwrap_or(Path::new("/dev"))
    }

    /// Leaves it with less room than will be needed.
    pub(crate) fn fill(&self) -> Result<(), String> {
        let Some(folder) = &self.mounted else { return Ok(()) };
        fs::write(folder.join("ballast"), vec![0; BALLAST_BYTES]).map_err(|error| format!("ballast: {error}"))
    }

    pub(crate) fn make_room(&self) -> Result<(), String> {
        let Some(folder) = &self.mounted else { return Ok(()) };
        fs::remove_file(folder.join("ballast")).map_err(|error| format!("ballast: {error}"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(folder) = &self.mounted {
            // What is still open on it goes with its manager.
            drop(Command::new("umount").arg("-l").arg(folder).output());
        }
    }
}
