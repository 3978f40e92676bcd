//! What the tests of this crate share: waiting with a deadline, children that clean up, temporary folders.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use oxherd_os::{Child, ExitStatus, Host, Output, SpawnSpec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Far longer than anything takes; only a bug lets it pass.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until the descriptor is readable (data, end of file, an exit).
pub fn wait_readable(fd: impl AsFd) {
    wait_for(fd, PollFlags::IN);
}

pub fn wait_for(fd: impl AsFd, what: PollFlags) {
    let mut fds = [PollFd::new(&fd, what)];
    let timeout = Timespec { tv_sec: DEADLINE.as_secs() as i64, tv_nsec: 0 };
    assert_eq!(poll(&mut fds, Some(&timeout)).unwrap(), 1, "nothing happened within {DEADLINE:?}");
}

pub fn is_readable(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
}

/// The exit of a child, waited for.
pub fn exit_of(host: &mut Host, child: &mut Child) -> ExitStatus {
    wait_readable(&child.pidfd);
    host.try_wait(child).unwrap().expect("a readable pidfd means an exit")
}

/// Everything until the end of a nonblocking pipe.
pub fn read_all(fd: OwnedFd) -> String {
    rustix::io::ioctl_fionbio(&fd, false).unwrap();
    let mut text = String::new();
    std::fs::File::from(fd).read_to_string(&mut text).unwrap();
    text
}

/// The next line of a nonblocking pipe, without its end.
pub fn read_line(fd: &OwnedFd) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    loop {
        wait_readable(fd);
        assert_eq!(rustix::io::read(fd, &mut byte).unwrap(), 1, "ended after {line:?}");
        match byte {
            [b'\n'] => return String::from_utf8(line).unwrap(),
            [other] => line.push(other),
        }
    }
}

/// A program with a plain environment that dies with the test.
pub fn program(name: &str, args: &[&str]) -> SpawnSpec {
    let mut spec = SpawnSpec::new(name);
    spec.args = args.iter().map(Into::into).collect();
    spec.env = vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())];
    spec.parent_death_signal = true;
    spec
}

pub fn shell(script: &str) -> SpawnSpec {
    program("/bin/sh", &["-c", script])
}

/// One test function of this very binary, which does its work only when started this way.
pub fn helper(name: &str) -> SpawnSpec {
    let mut spec =
        program(std::env::current_exe().unwrap().to_str().unwrap(), &["--exact", name, "--nocapture"]);
    spec.env.push((HELPER.into(), name.into()));
    spec.stderr = Output::Inherit;
    spec
}

const HELPER: &str = "OXHERD_TEST_HELPER";

pub fn am_helper(name: &str) -> bool {
    std::env::var(HELPER).is_ok_and(|value| value == name)
}

/// A text that no other test uses.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A folder that goes away with the value.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(unique("oxherd-os-test"));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Descriptors that a process has open, in order.
pub fn open_fds(pid: u32) -> Vec<u32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut fds: Vec<u32> =
        entries.map(|fd| fd.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    fds.sort_unstable();
    fds
}

/// Tries until it yields something, yielding the CPU in between; for facts the kernel reports no event for.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}
