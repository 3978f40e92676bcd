//! Finding and killing all that descends from a worker, wherever it went.
//!
//! A process belongs to a tree when its environment carries the tree's label exactly; it may have left the
//! process group and the session and lost its parent. Must never signal a process by a bare number: between
//! looking and killing the number may be given to another, so the pidfd is taken first and the label is
//! looked at again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Child;
use super::spec::LABEL_VARIABLE;
use crate::sys;

/// Scans at most; each but the last two found something new, so more than this is a program that outruns us.
const ROUNDS_MAX: usize = 64;
/// Scans in a row that must find nothing: a process may start another behind the scan's back and end before
/// it is reached.
const QUIET_ROUNDS: usize = 2;
/// How often a process in the middle of an exec is looked at again; usually a few times are enough.
const EXEC_PATIENCE: usize = 1000;
/// Bits of the flags in `/proc/PID/stat`: ending, and a thread of the kernel.
const EXITING_OR_KERNEL: u32 = 0x0000_0004 | 0x0020_0000;

/// The pids of the processes that carry `label`, this process left out. Those of other users, which an
/// unprivileged program may not look into, are not seen. Empty for an empty label.
///
/// Reads the environment of every visible process: about 15 µs each.
pub fn tree_members(label: &str) -> io::Result<Vec<u32>> {
    let mut scan = Scan::new(label);
    if label.is_empty() {
        return Ok(Vec::new());
    }
    Ok(all_pids()?.filter(|pid| scan.carries_label(*pid)).collect())
}

/// Where the members of a tree can be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// Among all processes, whose number has nothing to do with the tree's.
    Anywhere,
    /// Among our own descendants: the tree began with `root`, a child of this process, which takes in the orphans of
    /// its descendants. So a member is below `root`, or below a child that is not one of the Host's `own`.
    Below { root: u32, own: &'a BTreeSet<u32> },
}

/// Sends `SIGKILL` to every process that carries `label` until no new one turns up; returns the pids and
/// pidfds of those that were hit. A pidfd becomes readable when its process has ended.
pub fn kill_labelled(label: &str) -> io::Result<Vec<(u32, OwnedFd)>> {
    kill_in(Place::Anywhere, label)
}

/// The same for a tree of which more is known.
pub(super) fn kill_in(place: Place<'_>, label: &str) -> io::Result<Vec<(u32, OwnedFd)>> {
    let mut hit = Vec::new();
    if label.is_empty() {
        return Ok(hit);
    }
    let mut scan = Scan::new(label);
    let mut known = BTreeSet::new();
    let mut quiet = 0;
    for _round in 0..ROUNDS_MAX {
        let before = hit.len();
        for pid in pids_in(place)?.into_iter().filter(|pid| !known.contains(pid)).collect::<Vec<_>>() {
            if let Some(pidfd) = scan.kill(pid) {
                known.insert(pid);
                hit.push((pid, pidfd));
            }
        }
        quiet = if hit.len() == before { quiet + 1 } else { 0 };
        if quiet == QUIET_ROUNDS {
            break;
        }
    }
    Ok(hit)
}

/// The processes of this user whose label begins with `prefix`, this one left out, whoever has started them. They
/// are not this process's children unless they were before. Empty for an empty prefix.
///
/// As expensive as [`tree_members`].
pub fn find_labelled(prefix: &str) -> io::Result<Vec<Child>> {
    let mut scan = Scan::new(prefix);
    if prefix.is_empty() {
        return Ok(Vec::new());
    }
    Ok(all_pids()?.filter_map(|pid| scan.find(pid)).collect())
}

/// Looks for one label, reusing one buffer.
struct Scan {
    entry: Vec<u8>,
    environ: Vec<u8>,
    own_pid: u32,
}

impl Scan {
    fn new(label: &str) -> Self {
        let entry = format!("{LABEL_VARIABLE}={label}").into_bytes();
        Self { entry, environ: Vec::new(), own_pid: std::process::id() }
    }

    /// Whether the process carries the label; false for what is gone, hidden, or this process itself.
    fn carries_label(&mut self, pid: u32) -> bool {
        self.read_environ(pid);
        self.environ.split(|byte| *byte == 0).any(|entry| entry == self.entry)
    }

    /// The process, if its label begins as this one and still does once its pidfd is taken.
    fn find(&mut self, pid: u32) -> Option<Child> {
        self.label_of(pid)?;
        let pidfd = open(pid)?;
        let label = self.label_of(pid)?;
        Some(Child::adopt(pid, pidfd, &label))
    }

    fn label_of(&mut self, pid: u32) -> Option<String> {
        self.read_environ(pid);
        let entry = self.environ.split(|byte| *byte == 0).find(|entry| entry.starts_with(&self.entry))?;
        let label = entry.get(LABEL_VARIABLE.len() + 1..)?;
        String::from_utf8(label.to_vec()).ok()
    }

    /// Leaves the environment of the process in the buffer; nothing for what is gone, hidden, or this process itself.
    fn read_environ(&mut self, pid: u32) {
        self.environ.clear();
        if pid == self.own_pid {
            return;
        }
        for _look in 0..EXEC_PATIENCE {
            self.environ.clear();
            let file = File::open(format!("/proc/{pid}/environ"));
            if file.and_then(|mut file| file.read_to_end(&mut self.environ)).is_err() {
                return self.environ.clear();
            }
            if !self.environ.is_empty() || !is_mistaken(pid) {
                break;
            }
            std::thread::yield_now();
        }
    }

    /// Kills the process if it carries the label, both before and after its pidfd was taken.
    fn kill(&mut self, pid: u32) -> Option<OwnedFd> {
        if !self.carries_label(pid) {
            return None;
        }
        let pidfd = open(pid)?;
        let still = self.carries_label(pid);
        (still && sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL, 0).is_ok()).then_some(pidfd)
    }
}

fn open(pid: u32) -> Option<OwnedFd> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    pidfd_open(raw, PidfdFlags::empty()).ok()
}

/// Whether a process whose environment reads as empty may have one after all: an exec has taken its old
/// memory away since the file was opened, or has not filled the new one yet.
fn is_mistaken(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat_shows_environment(&stat))
}

/// Counted after the name, which may contain anything: the state is field 0, the flags 6, the environment's
/// start 47 and its end 48, both zero in the middle of an exec.
fn stat_shows_environment(stat: &str) -> bool {
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return false;
    };
    let mut fields = rest.split_whitespace();
    let (state, flags, start, end) = (fields.next(), fields.nth(5), fields.nth(40), fields.next());
    let flags = flags.and_then(|flags| flags.parse::<u32>().ok()).unwrap_or(u32::MAX);
    let is_program = !matches!(state, Some("Z" | "X")) && flags & EXITING_OR_KERNEL == 0;
    is_program && (end == Some("0") || start != end)
}

fn pids_in(place: Place<'_>) -> io::Result<Vec<u32>> {
    match place {
        Place::Anywhere => Ok(all_pids()?.collect()),
        // A kernel may be without the lists of children.
        Place::Below { root, own } => descendants(root, own).or_else(|_| pids_in(Place::Anywhere)),
    }
}

/// `root` if it lives, the children of this process that are not in `own`, and all below them.
fn descendants(root: u32, own: &BTreeSet<u32>) -> io::Result<Vec<u32>> {
    fs::metadata("/proc/thread-self/children")?;
    let mut found = children_of("self")?;
    found.retain(|pid| *pid == root || !own.contains(pid));
    let mut seen = 0;
    while let Some(pid) = found.get(seen).copied() {
        // The children of one that has ended are ours by now, and found the next time.
        found.extend(children_of(&pid.to_string()).unwrap_or_default());
        seen += 1;
    }
    Ok(found)
}

/// The children of all threads of a process.
pub(super) fn children_of(process: &str) -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread that has ended has left its children to another.
        let list = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        children.extend(list.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(children)
}

/// Whether a process is a child of this one. The caller sees to it that the number is still its own.
pub(super) fn is_our_child(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
    parent.and_then(|parent| parent.parse().ok()) == Some(std::process::id())
}

fn all_pids() -> io::Result<impl Iterator<Item = u32>> {
    let pid = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    Ok(fs::read_dir("/proc")?.filter_map(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_environment_is_explained_by_the_stat_line() {
        let line = |state: &str, flags: u32, start: u64, end: u64| {
            let middle = "7 ".repeat(40);
            format!("9 (a) b) {state} 1 9 9 0 -1 {flags} {middle}{start} {end} 0")
        };
        assert!(stat_shows_environment(&line("R", 0x40_0000, 0, 0)), "amid exec");
        assert!(stat_shows_environment(&line("R", 0x40_0000, 140_000, 140_100)), "it has one by now");
        assert!(!stat_shows_environment(&line("R", 0x40_0000, 140_000, 140_000)), "it has none");
        assert!(!stat_shows_environment(&line("I", 0x20_8040, 0, 0)), "of the kernel");
        assert!(!stat_shows_environment(&line("R", 0x40_0004, 0, 0)), "about to end");
        assert!(!stat_shows_environment(&line("Z", 0x40_0000, 0, 0)), "has ended");
    }

    #[test]
    fn descendants_are_ours_but_for_those_below_others() {
        let script = "sleep 600 & sleep 600 & echo; wait";
        let start = || {
            let mut command = std::process::Command::new("/bin/sh");
            let mut child =
                command.args(["-c", script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            child
        };
        let (one, other) = (start(), start());
        let below = |root: u32| children_of(&root.to_string()).unwrap();
        let (ones, others) = (below(one.id()), below(other.id()));
        assert!(is_our_child(one.id()) && !is_our_child(ones[0]) && !is_our_child(std::process::id()));
        let own = BTreeSet::from([one.id(), other.id()]);
        let found = descendants(one.id(), &own).unwrap();
        assert!(found.contains(&one.id()) && ones.iter().all(|pid| found.contains(pid)), "{found:?}");
        assert!(!found.contains(&other.id()) && !others.iter().any(|pid| found.contains(pid)), "{found:?}");
        let found = descendants(one.id(), &BTreeSet::new()).unwrap();
        assert!(others.iter().all(|pid| found.contains(pid)), "a stranger's may be of the tree: {found:?}");
        for pid in ones.into_iter().chain(others) {
            let pid = Pid::from_raw(pid as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        for pid in [one.id(), other.id()] {
            let pid = Pid::from_raw(pid as i32);
            rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
        }
    }

    #[test]
    fn the_fields_are_counted_right() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(stat_shows_environment(&stat));
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let bounds = [47, 48].map(|place: usize| fields[place].parse::<usize>().unwrap());
        let environ = fs::read("/proc/self/environ").unwrap();
        assert_eq!(bounds[1] - bounds[0], environ.len(), "{stat}");
    }
}
