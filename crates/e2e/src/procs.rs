//! Processes as `/proc` shows them, and waiting for their ends. It signals only what it is told to.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, kill_process, pidfd_open, prlimit,
};

/// Sends a signal to one process; one that is gone already is fine.
pub fn kill(pid: u32, signal: Signal) {
    let result = kill_process(known(pid), signal);
    assert!(matches!(result, Ok(()) | Err(rustix::io::Errno::SRCH)), "cannot signal {pid}: {result:?}");
}

/// Whether there is such a process, and it is more than its last status.
pub fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// The letter for its state.
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Stops a process, and waits until it takes nothing more.
pub fn stop(pid: u32) {
    kill(pid, Signal::STOP);
    let is_stopped = |thread: &u32| state(*thread).is_none_or(|state| state == 'T');
    crate::eventually("a stopped process", || threads(pid).iter().all(is_stopped).then_some(()));
}

fn threads(pid: u32) -> Vec<u32> {
    let folders = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok()).collect()
}

/// Waits for the end of a process. False when it is still there in the end.
pub fn wait_gone(pid: u32, limit: Duration) -> bool {
    match pidfd_open(known(pid), PidfdFlags::empty()) {
        Ok(fd) => wait_pidfd(&fd, limit),
        Err(_) => true,
    }
}

pub(crate) fn pidfd(pid: u32) -> Option<OwnedFd> {
    pidfd_open(known(pid), PidfdFlags::empty()).ok()
}

pub(crate) fn wait_pidfd(fd: &OwnedFd, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("cannot poll a pidfd: {error}"),
        }
    }
}

/// All living processes whose environment has this entry, or whose process group is `group`.
pub fn carrying(entry: &str, group: u32) -> Vec<u32> {
    let folders = fs::read_dir("/proc").expect("/proc is mounted").filter_map(Result::ok);
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_alive(*pid) && (has_entry(*pid, entry) || group_of(*pid) == Some(group))).collect()
}

fn has_entry(pid: u32, entry: &str) -> bool {
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environ.split(|byte| *byte == 0).any(|it| it == entry.as_bytes())
}

/// The process group of a process.
pub fn group_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(2)?.parse().ok()
}

/// The processes whose parent it is, zombies included.
pub fn children(parent: u32) -> Vec<u32> {
    let folders = fs::read_dir("/proc").expect("/proc is mounted").filter_map(Result::ok);
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// The parent of a process.
pub fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The process of a thread.
pub fn process_of(thread: u32) -> Option<u32> {
    status_field(thread, "Tgid")?.parse().ok()
}

/// What a process is, for a message.
pub fn describe(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    format!("{pid} ({})", words.join(" ").trim_end())
}

/// How many descriptors a process has open.
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// What a process's descriptors lead to, by their numbers.
pub fn files(pid: u32) -> BTreeMap<u32, PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    let number = |name: &OsStr| name.to_str()?.parse().ok();
    entries.filter_map(|it| Some((number(&it.file_name())?, fs::read_link(it.path()).ok()?))).collect()
}

/// Sets a running process's limit of open files so that it can open just `more`. Gives back the limit.
pub fn leave_open_files(pid: u32, more: usize) -> u64 {
    let open = files(pid);
    let mut free = (0..).filter(|number| !open.contains_key(number));
    let limit = free.nth(more).map(u64::from).expect("there are numbers enough");
    let limits = Rlimit { current: Some(limit), maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(Some(known(pid)), Resource::Nofile, limits).expect("a limit below the hard one may be set");
    limit
}

/// A field of a process's status that is a set of signals, such as `SigIgn`.
pub fn signal_mask(pid: u32, field: &str) -> u64 {
    let text = status_field(pid, field).unwrap_or_default();
    u64::from_str_radix(&text, 16).unwrap_or_else(|_| panic!("no signal mask {field} of {pid}: {text:?}"))
}

/// A process's resident memory in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    kib_field(pid, "VmRSS") * 1024
}

/// The most resident memory that a process ever had, in bytes.
pub fn peak_bytes(pid: u32) -> u64 {
    kib_field(pid, "VmHWM") * 1024
}

fn kib_field(pid: u32, field: &str) -> u64 {
    status_field(pid, field).and_then(|text| text.trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn status_field(pid: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// How much CPU time a process has used, user and system.
pub fn cpu_time(pid: u32) -> Duration {
    const TICKS_PER_SECOND: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    let field = |at: usize| fields.get(at).and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((field(11) + field(12)) * 1000 / TICKS_PER_SECOND)
}

/// Whether this test may do everything.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a program of this name can be found.
pub fn is_on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(name).is_file())
}

fn known(pid: u32) -> Pid {
    Pid::from_raw(pid as i32).expect("a process has a positive id")
}
