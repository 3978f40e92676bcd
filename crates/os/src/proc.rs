//! Figures of processes from `/proc`, and the limit of open descriptors.
//!
//! Reads only, but for [`raise_fd_limit`]. Must never keep a pid: a figure belongs to whoever had the pid
//! then.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{clock, sys};

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

/// CPU time that a process has used, user and system together, in milliseconds: its CPU clock, which costs a fraction
/// of what reading `/proc/PID/stat` does. That of its children is not in it. `EINVAL` when it is gone.
pub fn cpu_millis_of(pid: u32) -> io::Result<u64> {
    Ok(cpu_micros_of(pid)? / 1000)
}

/// The same in microseconds.
pub fn cpu_micros_of(pid: u32) -> io::Result<u64> {
    /// The kernel's word for the clock of a whole process that counts what its threads have run.
    const PROCESS_SCHEDULED: i32 = 2;
    let clock = !pid.cast_signed() << 3 | PROCESS_SCHEDULED;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the kernel to fill; a clock that is none is an error.
    sys::check(unsafe { libc::clock_gettime(clock, &mut time) }.into())?;
    let (seconds, nanos) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
    Ok(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000))
}

/// How long a process has used the CPU or its first thread has waited for one, in microseconds: what it was busy for,
/// also on a machine where others are busier. Where the kernel does not tell of waiting, the CPU time alone.
pub fn busy_micros_of(pid: u32) -> io::Result<u64> {
    let used = cpu_micros_of(pid)?;
    let told = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let waited: u64 = field(&told, 1).unwrap_or(0);
    Ok(used.saturating_add(waited / 1000))
}

/// How long ago the process was started, in milliseconds (`/proc/PID/stat`; up to 10 ms more than it is). The
/// kernel dates processes by `CLOCK_BOOTTIME`, so time that the machine was suspended counts, unlike in the
/// difference of two [`monotonic_millis`](clock::monotonic_millis). `NotFound` or `ESRCH` when it is gone.
pub fn age_millis_of(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let now = clock::boot_millis();
    let ticks = start_ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
    let started = ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1);
    Ok(now.saturating_sub(started))
}

/// The numbers of all sockets that a process has open, as [`socket::inode`](crate::socket::inode) tells them; a
/// few µs for each descriptor (`/proc/PID/fd`). `NotFound` or `ESRCH` when it is gone, `EACCES` for a process that
/// may not be looked into: another user's, or one that is not dumpable.
pub fn socket_inodes_of(pid: u32) -> io::Result<BTreeSet<u64>> {
    Ok(sockets_of(pid)?.into_iter().map(|(_, inode)| inode).collect())
}

/// A variable of the environment that a process was given when its program was started, whatever it has made of it
/// since (`/proc/PID/environ`). `None` where it had none of that name. Errors as with [`socket_inodes_of`].
pub fn variable_of(pid: u32, name: &str) -> io::Result<Option<OsString>> {
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    let mut entries = environment.split(|byte| *byte == 0);
    let value = entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    Ok(value.map(|value| OsStr::from_bytes(value).to_owned()))
}

/// The environment that a process was given when its program was started, or what it has written in its place since.
/// What is not UTF-8 is replaced. Errors as with [`socket_inodes_of`].
pub fn environment(pid: u32) -> io::Result<Vec<(String, String)>> {
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    let pair = |entry: &[u8]| {
        let text = String::from_utf8_lossy(entry);
        text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    Ok(environment.split(|byte| *byte == 0).filter_map(pair).collect())
}

/// Whether a path means the same file to a process, or thread, as to this one: it has the same root and the same mounts. Not
/// so where that cannot be seen.
pub fn sees_our_files(pid: u32) -> bool {
    let root = |path: &str| fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
    let mounts = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let (theirs, own) = (mounts(&pid.to_string()), mounts("self"));
    theirs.is_some() && theirs == own && root(&format!("/proc/{pid}/root")) == root("/proc/self/root")
}

/// The descriptors of a process that are sockets, with the sockets' numbers.
pub(crate) fn sockets_of(pid: u32) -> io::Result<Vec<(RawFd, u64)>> {
    let socket = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, inode))
    };
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?;
    // What was closed meanwhile is none of them.
    Ok(entries.filter_map(Result::ok).filter_map(socket).collect())
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

/// Field 22 of `/proc/PID/stat`, counted after the name, which may contain anything.
fn start_ticks(stat: &str) -> Option<u64> {
    field(stat.rsplit_once(')')?.1, 19)
}

fn field<T: std::str::FromStr>(text: &str, index: usize) -> Option<T> {
    text.split_whitespace().nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_confuse() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194304 1 0 0 0 30 12 0 0 20 0 1 0 5 6 7";
        assert_eq!(start_ticks(stat), Some(5));
        assert_eq!(start_ticks("7 (a) S 1 7"), None);
    }

    #[test]
    fn variables_are_those_of_the_start() {
        let path = std::env::var_os("PATH");
        assert_eq!(variable_of(std::process::id(), "PATH").unwrap(), path);
        assert_eq!(variable_of(std::process::id(), "PAT").unwrap(), None);
        assert!(variable_of(u32::MAX >> 4, "PATH").is_err());
    }

    #[test]
    fn own_figures_are_plausible() {
        let memory = own_memory().unwrap();
        assert!(memory.rss_bytes > 100_000);
        assert!(memory.pss_bytes.is_none_or(|pss| pss > 0 && pss <= memory.rss_bytes * 2));
        assert!(memory_of(std::process::id()).is_ok());
        let before = cpu_millis_of(std::process::id()).unwrap();
        while cpu_millis_of(std::process::id()).unwrap() == before {}
        assert!(cpu_millis_of(u32::MAX >> 4).is_err());
        let (soft, hard) = fd_limit();
        assert!(soft > 0 && soft <= hard);
    }
}
