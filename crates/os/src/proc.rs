//! Figures of processes and of the machine, from `/proc`, `/sys/fs/cgroup` and resource limits.
//!
//! Reads only, but for [`raise_fd_limit`]. Must never keep a pid: a figure belongs to whoever had the pid
//! then.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cgroup;

/// Memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident set in bytes, shared pages counted in full (`/proc/PID/statm`).
    pub rss_bytes: u64,
    /// Proportional set in bytes, shared pages counted by share (`/proc/PID/smaps_rollup`); `None` where that
    /// may not be read: another user's process, or a kernel without it.
    pub pss_bytes: Option<u64>,
}

/// Memory of a process; about 60 µs, most of it for the proportional set. `NotFound` or `ESRCH` when it is
/// gone.
pub fn memory_of(pid: u32) -> io::Result<Memory> {
    memory_in(&PathBuf::from(format!("/proc/{pid}")))
}

/// Resident set of a process in bytes, as in [`Memory::rss_bytes`]; a few µs, and it waits for nobody: the
/// proportional set takes the process's memory lock. `NotFound` or `ESRCH` when it is gone.
pub fn resident_of(pid: u32) -> io::Result<u64> {
    resident_in(&PathBuf::from(format!("/proc/{pid}")))
}

/// Memory of this process.
pub fn own_memory() -> io::Result<Memory> {
    memory_in(Path::new("/proc/self"))
}

/// CPU time that a process has used, user and system together, in milliseconds (`/proc/PID/stat`, resolution
/// 10 ms). That of its children is not in it.
pub fn cpu_millis_of(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = cpu_ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
    Ok(ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1))
}

/// How many CPUs this process may keep busy, at least 1: those of its affinity mask, no more than its
/// cgroups' quotas (v2 `cpu.max`, v1 `cpu.cfs_quota_us`), those rounded up.
pub fn cpus() -> usize {
    let mask = rustix::thread::sched_getaffinity(None).map(|set| set.count() as usize);
    // More than 1024 CPUs do not fit into the mask.
    let allowed = mask.unwrap_or_else(|_| std::thread::available_parallelism().map_or(1, usize::from));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let quota = quota_v2(&mounts, &membership).into_iter().chain(quota_v1(&mounts, &membership)).min();
    allowed.min(quota.unwrap_or(usize::MAX)).max(1)
}

/// Soft and hard limit of open descriptors of this process; `u64::MAX` for none.
pub fn fd_limit() -> (u64, u64) {
    let limit = getrlimit(Resource::Nofile);
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
}

/// Raises the soft limit of open descriptors to the hard one and returns the soft limit from before, which
/// workers should get back (programs that use `select` break with large ones): see
/// [`SpawnSpec::nofile_soft`](crate::SpawnSpec::nofile_soft).
pub fn raise_fd_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(limit.current.unwrap_or(u64::MAX))
}

fn memory_in(folder: &Path) -> io::Result<Memory> {
    let rss_bytes = resident_in(folder)?;
    let pss = fs::read_to_string(folder.join("smaps_rollup")).ok().and_then(|text| pss_bytes(&text));
    Ok(Memory { rss_bytes, pss_bytes: pss })
}

fn resident_in(folder: &Path) -> io::Result<u64> {
    let statm = fs::read_to_string(folder.join("statm"))?;
    let pages: u64 = field(&statm, 1).ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages.saturating_mul(rustix::param::page_size() as u64))
}

fn pss_bytes(smaps_rollup: &str) -> Option<u64> {
    let kibibytes: u64 = smaps_rollup.lines().find_map(|line| field(line.strip_prefix("Pss:")?, 0))?;
    Some(kibibytes.saturating_mul(1024))
}

/// Fields 14 and 15 of `/proc/PID/stat`, counted after the name, which may contain anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let (user, system): (u64, u64) = (field(rest, 11)?, field(rest, 12)?);
    Some(user.saturating_add(system))
}

fn field<T: std::str::FromStr>(text: &str, index: usize) -> Option<T> {
    text.split_whitespace().nth(index)?.parse().ok()
}

/// The tightest `cpu.max` of our group and all above it.
fn quota_v2(mounts: &str, membership: &str) -> Option<usize> {
    let own = cgroup::own_group(mounts, membership)?;
    let files = own.ancestors().map(|folder| folder.join("cpu.max"));
    files.filter_map(|file| cpu_max(&fs::read_to_string(file).ok()?)).min()
}

/// The tightest `cpu.cfs_quota_us` of our group and all above it.
fn quota_v1(mounts: &str, membership: &str) -> Option<usize> {
    let own = membership.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == "cpu").then_some(path)
    })?;
    let has_cpu = |options: &str| options.split(',').any(|name| name == "cpu");
    let is_cpu = |file_system: &str, options: &str| file_system == "cgroup" && has_cpu(options);
    let own = cgroup::folder_in_mount(mounts, is_cpu, own)
        .or_else(|| cgroup::folder_in_mount(mounts, is_cpu, "/"))?;
    let read = |folder: &Path, name: &str| fs::read_to_string(folder.join(name)).ok();
    own.ancestors()
        .filter_map(|folder| {
            let quota = field(&read(folder, "cpu.cfs_quota_us")?, 0)?;
            whole_cpus(quota, field(&read(folder, "cpu.cfs_period_us")?, 0)?)
        })
        .min()
}

/// "max 100000" is no limit; "150000 100000" is one and a half CPUs.
fn cpu_max(text: &str) -> Option<usize> {
    whole_cpus(field(text, 0)?, field(text, 1)?)
}

/// v1 writes "no quota" as -1, which does not parse.
fn whole_cpus(quota: u64, period: u64) -> Option<usize> {
    (period > 0).then(|| quota.div_ceil(period) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_rounded_up() {
        assert_eq!(cpu_max("max 100000\n"), None);
        assert_eq!(cpu_max("150000 100000\n"), Some(2));
        assert_eq!(cpu_max("100000 100000\n"), Some(1));
        assert_eq!(cpu_max("1000 0\n"), None);
        assert_eq!(field::<u64>("-1\n", 0), None);
    }

    #[test]
    fn names_with_brackets_do_not_confuse() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194304 1 0 0 0 30 12 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(42));
    }

    #[test]
    fn own_figures_are_plausible() {
        let memory = own_memory().unwrap();
        assert!(memory.rss_bytes > 100_000);
        assert!(memory.pss_bytes.is_none_or(|pss| pss > 0 && pss <= memory.rss_bytes * 2));
        assert!(memory_of(std::process::id()).is_ok());
        assert!(cpu_millis_of(std::process::id()).is_ok());
        assert!(cpus() >= 1);
        let (soft, hard) = fd_limit();
        assert!(soft > 0 && soft <= hard);
    }
}
