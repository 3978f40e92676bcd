//! The managers that are measured, each in a home of its own. Whatever happens, nothing of one outlives its value:
//! all that it starts carries a mark in its environment and is looked for at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::command::{self, Ran};
use super::process::with_environment;
use crate::contestant::SERVER_JS;
use crate::sys;

/// Long enough for a manager that stops its apps one by one.
const LIMIT: Duration = Duration::from_secs(120);
const MARK: &str = "OXHERD_BENCH_MARK";
const GONE_LIMIT: Duration = Duration::from_secs(10);
const GONE_STEP: Duration = Duration::from_millis(20);
/// Kept away from both: they would change what is measured.
const SCRUBBED: [&str; 6] = [
    "NODE_OPTIONS",
    "NODE_CHANNEL_FD",
    "NODE_UNIQUE_ID",
    "NODE_CLUSTER_SCHED_POLICY",
    "OXHERD_INSTANCE",
    "PORT",
];

static HOMES: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Oxherd,
    Pm2,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Oxherd, Self::Pm2];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oxherd => "oxherd",
            Self::Pm2 => "pm2",
        }
    }
}

/// Where the programs are.
pub(crate) struct Programs {
    pub(crate) node: PathBuf,
    pub(crate) oxherd: PathBuf,
    pub(crate) pm2: PathBuf,
}

/// The processes that a manager runs of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pids {
    pub(crate) daemon: u32,
    pub(crate) keeper: Option<u32>,
}

impl Pids {
    pub(crate) fn all(self) -> Vec<u32> {
        [Some(self.daemon), self.keeper].into_iter().flatten().collect()
    }
}

pub(crate) struct Manager<'a> {
    side: Side,
    programs: &'a Programs,
    home: PathBuf,
}

impl<'a> Manager<'a> {
    /// Nothing runs yet.
    pub(crate) fn new(side: Side, programs: &'a Programs) -> Result<Self, String> {
        let number = HOMES.fetch_add(1, Ordering::Relaxed);
        let name = format!("oxherd-bench-{}-{number}", std::process::id());
        let home = std::env::temp_dir().join(name);
        fs::create_dir(&home).map_err(|error| format!("cannot make {}: {error}", home.display()))?;
        Ok(Self { side, programs, home })
    }

    pub(crate) fn start_server(&self, name: &str, workers: usize, port: u16) -> Result<Ran, String> {
        let workers = workers.to_string();
        let mut command = self.command(&["start", SERVER_JS, "-i", &workers, "--name", name]);
        // PM2's daemon, and with it its cluster's workers, are what its command is run by.
        if self.side == Side::Oxherd && self.programs.node != Path::new("node") {
            command.arg("--interpreter").arg(&self.programs.node);
        }
        command::run(command.env("PORT", port.to_string()), LIMIT)
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn run(&self, args: &[&str]) -> Result<Ran, String> {
        command::run(&mut self.command(args), LIMIT)
    }

    /// Who does the work now.
    pub(crate) fn pids(&self) -> Result<Pids, String> {
        match self.side {
            Side::Oxherd => {
                let said = self.run(&["ping"])?.said;
                pids_in(&said).ok_or_else(|| format!("`oxherd ping` names no processes: {said}"))
            }
            Side::Pm2 => {
                let path = self.home.join("pm2.pid");
                let text = fs::read_to_string(&path)
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                let daemon = text.trim().parse().map_err(|error| format!("{}: {error}", path.display()))?;
                Ok(Pids { daemon, keeper: None })
            }
        }
    }

    /// Ends it with all its apps; what it leaves behind is killed and is an error.
    pub(crate) fn end(self) -> Result<(), String> {
        self.run(&["kill"])?;
        match self.leftovers()? {
            0 => Ok(()),
            count => Err(format!("{count} processes outlived `{} kill`", self.side.name())),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = match self.side {
            Side::Oxherd => Command::new(&self.programs.oxherd),
            Side::Pm2 => {
                let mut command = Command::new(&self.programs.node);
                command.arg(&self.programs.pm2);
                command
            }
        };
        for name in SCRUBBED {
            command.env_remove(name);
        }
        // PM2's own word for saying nothing to anybody but the user.
        command.env("OXHERD_HOME", &self.home).env("PM2_HOME", &self.home).env("PM2_DISCRETE_MODE", "true");
        command.env(MARK, &self.home).args(args);
        command
    }

    fn marked(&self) -> Result<Vec<u32>, String> {
        with_environment(&format!("{MARK}={}", self.home.display()))
            .map_err(|error| format!("cannot read /proc: {error}"))
    }

    /// Waits a little for what is on its way out, then kills; returns how many had to be killed.
    fn leftovers(&self) -> Result<usize, String> {
        let deadline = Instant::now() + GONE_LIMIT;
        let mut left = self.marked()?;
        while !left.is_empty() && Instant::now() < deadline {
            std::thread::sleep(GONE_STEP);
            left = self.marked()?;
        }
        left.iter().for_each(|pid| sys::signal_process(*pid, libc::SIGKILL));
        Ok(left.len())
    }
}

impl Drop for Manager<'_> {
    fn drop(&mut self) {
        if self.marked().is_ok_and(|left| !left.is_empty()) {
            // Best effort on the way out of an error; the leftovers are killed in any case.
            drop(self.run(&["kill"]));
            drop(self.leftovers());
        }
        drop(fs::remove_dir_all(&self.home));
    }
}

/// `pong: oxherd 0.1.0, daemon 41 (start 0), keeper 40, home /h`
fn pids_in(said: &str) -> Option<Pids> {
    let after = |word: &str| {
        let rest = said.split_once(word)?.1;
        rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
    };
    Some(Pids { daemon: after(", daemon ")?, keeper: Some(after(", keeper ")?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::{Guarded, Output};

    #[test]
    fn a_pong_names_both_processes() {
        let said = "pong: oxherd 0.1.0, daemon 41 (start 0), keeper 40, home /tmp/7, daemon 9\n";
        assert_eq!(pids_in(said), Some(Pids { daemon: 41, keeper: Some(40) }));
        assert_eq!(pids_in("no daemon is running"), None);
    }

    #[test]
    fn what_carries_the_mark_is_found_and_the_home_is_removed() {
        let programs = Programs { node: "node".into(), oxherd: "/bin/true".into(), pm2: "pm2".into() };
        let manager = Manager::new(Side::Oxherd, &programs).expect("a folder in the temporary one");
        let home = manager.home.clone();
        let mut sleep = Command::new("/bin/sleep");
        let sleep = Guarded::spawn(sleep.arg("1000").env(MARK, &home), None, Output::Captured);
        let sleep = sleep.expect("there is a sleep");
        while manager.marked() != Ok(vec![sleep.pid()]) {
            std::thread::yield_now();
        }
        drop(sleep);
        assert_eq!(manager.end(), Ok(()));
        assert!(!home.exists());
    }
}
