//! A cgroup per worker, where the system lets us: the surest way to kill a whole tree.
//!
//! A bonus only. Whatever fails here, the answer is "no cgroup" and nobody is told. Must never touch a cgroup
//! that it has not made, nor set limits or controllers.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Folders of primaries are called this and their pid.
const PREFIX: &str = "oxherd-";
/// Longest part of a label that goes into a folder's name, in bytes; the kernel's limit for the name is 255.
const NAME_MAX: usize = 100;

/// The place where this process makes cgroups.
#[derive(Debug)]
pub struct Cgroups {
    /// The folder of the cgroup this process lives in, or was told to use.
    root: PathBuf,
    /// Our own folder in it, made when first needed.
    base: PathBuf,
    made: u64,
}

impl Cgroups {
    /// Below the cgroup2 group of this process, if there is one and it is writable.
    pub fn detect() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
        let root = group_folder(&mounts, &membership)?;
        rustix::fs::access(&root, rustix::fs::Access::WRITE_OK).ok()?;
        Some(Self::at(root))
    }

    /// Below the folder `root`.
    pub fn at(root: PathBuf) -> Self {
        let base = root.join(format!("{PREFIX}{}", std::process::id()));
        remove_abandoned(&root);
        Self { root, base, made: 0 }
    }

    /// A new, empty group, named after `label` for people who look.
    pub fn make(&mut self, label: &str) -> Option<Group> {
        if !self.base.is_dir() {
            fs::create_dir(&self.base).ok()?;
        }
        self.made += 1;
        let path = self.base.join(format!("{}{}", folder_prefix(label), self.made));
        fs::create_dir(&path).ok()?;
        let group = Group::open(path.clone());
        if group.is_none() {
            remove(&path);
        }
        group
    }

    /// The groups that were made for `label` below the same folder, by this process or another.
    pub fn find(&self, label: &str) -> Vec<Group> {
        let primaries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let primaries =
            primaries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()));
        let groups = primaries.flat_map(|entry| fs::read_dir(entry.path()).into_iter().flatten().flatten());
        groups.filter_map(|entry| Group::reopen(entry.path(), label)).collect()
    }

    /// The folder it makes groups in belongs to this one.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        remove_tree_if_empty(&self.base);
    }
}

/// One worker's cgroup. Removed when dropped, or later, when its last process has ended.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    directory: OwnedFd,
}

impl Group {
    /// The group at this path, if it was made for `label`.
    pub(crate) fn reopen(path: PathBuf, label: &str) -> Option<Self> {
        is_made_for(&path, label).then(|| Self::open(path)).flatten()
    }

    /// The group that a process lives in, or lived in if it has ended and its exit was not taken, if that was made
    /// for `label`.
    pub(crate) fn of(pid: u32, label: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        Self::reopen(group_folder(&mounts, &membership)?, label)
    }

    fn open(path: PathBuf) -> Option<Self> {
        // A folder of another file system has no such file, and is of no use.
        let is_cgroup = path.join("cgroup.procs").exists();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = is_cgroup.then(|| rustix::fs::open(&path, flags, Mode::empty()).ok()).flatten()?;
        Some(Self { directory, path })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends `SIGKILL` to everything in it, all at once; false where the kernel (before 5.14) cannot.
    pub fn kill(&self) -> bool {
        let file = OpenOptions::new().write(true).open(self.path.join("cgroup.kill"));
        file.and_then(|mut file| file.write_all(b"1")).is_ok()
    }

    /// The pids in it, those of zombies left out.
    pub fn members(&self) -> io::Result<Vec<u32>> {
        let list = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(list.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// For creating a process in it.
    pub(crate) fn directory(&self) -> RawFd {
        self.directory.as_raw_fd()
    }

    /// For moving a process into it: writing "0" moves the writer.
    pub(crate) fn open_procs(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// The folder of the cgroup that a process lives in, from the texts of `/proc/self/mountinfo` and of its
/// `/proc/PID/cgroup`.
fn group_folder(mounts: &str, membership: &str) -> Option<PathBuf> {
    let own = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut place = place.split(' ').skip(3);
        let (mount_root, mount_point) = (unescape(place.next()?), unescape(place.next()?));
        let below = Path::new(own).strip_prefix(&mount_root).ok()?;
        // A path with ".." lies outside of our cgroup namespace.
        let reachable = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        reachable.then(|| {
            if below.as_os_str().is_empty() {
                mount_point.into()
            } else {
                Path::new(&mount_point).join(below)
            }
        })
    })
}

/// mountinfo writes blanks in paths as octal escapes.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// What the names of the folders for a label begin with: something to read, and its hash, because the readable
/// part may be that of other labels too. Other versions of this program must come to the same.
fn folder_prefix(label: &str) -> String {
    let fnv = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = label.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    format!("{}-{hash:016x}-", folder_name(label))
}

/// Whether this is the folder of a group that some primary made for `label`.
fn is_made_for(path: &Path, label: &str) -> bool {
    let name_of = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let number = name_of(path).and_then(|name| name.strip_prefix(&folder_prefix(label)).map(str::to_owned));
    let primary = path.parent().and_then(name_of);
    !label.is_empty()
        && number.is_some_and(|number| number.parse::<u64>().is_ok())
        && primary.is_some_and(|name| name.starts_with(PREFIX))
}

/// A name that is one folder and none of the kernel's own files, which have a dot.
fn folder_name(label: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    label.chars().take(NAME_MAX).map(plain).collect()
}

/// Removes one group if it is empty.
fn remove(path: &Path) {
    let _in_use = fs::remove_dir(path);
}

/// Removes the groups in a primary's folder that are empty, and the folder if all were.
fn remove_tree_if_empty(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    remove(base);
}

/// Removes what primaries that are no more could not remove themselves.
fn remove_abandoned(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove_tree_if_empty(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
";

    #[test]
    fn own_group_is_found_below_the_mount() {
        let group = |membership| group_folder(HYBRID, membership);
        assert_eq!(group("1:cpu:/\n0::/\n"), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(group("0::/user.slice/a b\n"), Some("/sys/fs/cgroup/unified/user.slice/a b".into()));
        assert_eq!(group("0::/../outside\n"), None);
        assert_eq!(group("1:cpu:/\n"), None);
    }

    #[test]
    fn bind_mounted_groups_are_relative_to_their_root() {
        let mounts = "40 30 0:26 /docker/x /sys/fs\\040c rw - cgroup2 cgroup rw\n";
        assert_eq!(group_folder(mounts, "0::/docker/x/y\n"), Some("/sys/fs c/y".into()));
        assert_eq!(group_folder(mounts, "0::/docker/z\n"), None);
    }

    #[test]
    fn folders_tell_labels_apart_for_ever() {
        assert_eq!(folder_prefix("p/a:0:1:1.1"), "p_a_0_1_1_1-85770d485b631e68-");
        let path = |label| PathBuf::from(format!("/c/oxherd-7/{}12", folder_prefix(label)));
        assert!(is_made_for(&path("p/a:0"), "p/a:0"));
        assert!(!is_made_for(&path("p/a:0"), "p/a_0"));
        assert!(!is_made_for(&path(""), ""));
        assert!(!is_made_for(Path::new(&format!("/c/other/{}1", folder_prefix("x"))), "x"));
    }

    #[test]
    fn names_are_one_folder() {
        assert_eq!(folder_name("my app/../:0"), "my_app_____0");
    }
}
