//! What the tests of home, logs and state share: folders that clean up, and disks that are small or read-only.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use oxherd_os::files::own_user;

/// Far longer than anything takes; only a bug lets it pass.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A folder of its own for one test, possibly with a file system of its own.
pub(crate) struct Scratch {
    path: PathBuf,
    is_mounted: bool,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let name = format!("oxherd-daemon-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self { path, is_mounted: false }
    }

    /// A disk of that size, or nothing, loudly, where none may be mounted.
    pub(crate) fn disk(size: &str) -> Option<Self> {
        let mut scratch = Self::new();
        scratch.is_mounted = scratch.mount(&["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "none"]);
        if !scratch.is_mounted {
            eprintln!("SKIPPED: a file system can only be mounted by root");
            return None;
        }
        Some(scratch)
    }

    pub(crate) fn make_read_only(&self) {
        assert!(self.mount(&["-o", "remount,ro"]));
    }

    pub(crate) fn make_writable(&self) {
        assert!(self.mount(&["-o", "remount,rw"]));
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn mount(&self, args: &[&str]) -> bool {
        let output = Command::new("mount").args(args).arg(&self.path).output();
        output.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_mounted {
            assert!(Command::new("umount").arg("-l").arg(&self.path).status().unwrap().success());
        }
        std::fs::remove_dir_all(&self.path).unwrap();
    }
}

/// Whether permissions do not hold for this user, which is told loudly.
pub(crate) fn skips_as_root() -> bool {
    let is_root = own_user() == 0;
    if is_root {
        eprintln!("SKIPPED: permissions do not hold for root");
    }
    is_root
}

/// Waits until `holds`, with a deadline.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}
