//! A daemon hangs with a disk, and is killed.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::Test;
use crate::rig::{Rig, eventually, signal};

pub(crate) const TESTS: &[Test] =
    &[("a_daemon_that_cannot_end_is_left_behind", a_daemon_that_cannot_end_is_left_behind)];

/// A disk that can be frozen.
struct Disk {
    mount: PathBuf,
    image: PathBuf,
    /// Thaws it and takes it away when its standard input ends, with this program at the latest.
    rescuer: Option<Child>,
}

impl Disk {
    /// Nothing where the machine cannot do it.
    fn new() -> Option<Self> {
        let name = format!("oxherd-disk-{}", std::process::id());
        let (mount, image) = (std::env::temp_dir().join(&name), std::env::temp_dir().join(name + ".img"));
        let (at, of) = (mount.to_str().unwrap(), image.to_str().unwrap());
        fs::create_dir(&mount).unwrap();
        let mut disk = Self { rescuer: None, mount: mount.clone(), image: image.clone() };
        let steps = [
            &["truncate", "-s", "64M", of][..],
            &["mkfs.ext4", "-q", "-F", of],
            &["mount", "-o", "loop", of, at],
        ];
        if !steps.iter().all(|step| bounded(step)) {
            return None;
        }
        let rescue = format!(
            "timeout 120 cat > /dev/null; exec 2> /dev/null; fsfreeze -u {at}; umount {at} || umount -l {at}"
        );
        let mut order = Command::new("sh");
        disk.rescuer = Some(order.args(["-c", &rescue]).stdin(Stdio::piped()).spawn().unwrap());
        (disk.freeze() && disk.thaw()).then_some(disk)
    }

    fn path(&self) -> &Path {
        &self.mount
    }

    fn freeze(&self) -> bool {
        bounded(&["fsfreeze", "-f", self.mount.to_str().unwrap()])
    }

    fn thaw(&self) -> bool {
        bounded(&["fsfreeze", "-u", self.mount.to_str().unwrap()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may be thawed already, or not be there.
        self.thaw();
        let at = self.mount.to_str().unwrap();
        let _gone = bounded(&["umount", at]) || bounded(&["umount", "-l", at]);
        // Its standard input ends, and it finds nothing left to be done.
        self.rescuer = None;
        drop((fs::remove_dir(&self.mount), fs::remove_file(&self.image)));
    }
}

/// Runs a program that ends in time or is ended, and says whether it succeeded.
fn bounded(step: &[&str]) -> bool {
    let mut order = Command::new("timeout");
    order.args(["-s", "KILL", "20"]).args(step).stdin(Stdio::null()).stderr(Stdio::null());
    order.status().is_ok_and(|status| status.success())
}

fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Its only thread hangs, so it does not even come to its exit stop while the disk does not answer; then the keeper has
/// become another program.
fn a_daemon_that_cannot_end_is_left_behind() {
    let rig = Rig::new();
    let Some(disk) = Disk::new() else {
        return println!("skipped: this user or this machine cannot freeze a disk");
    };
    let mut daemon = rig.daemon();
    daemon.ask(&json!({ "image": 1 }));
    let port = daemon.ask(&json!({ "listen": "listener/1" })).as_u64().unwrap() as u16;
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    daemon.ask(&json!({ "accept": "listener/1" }));
    assert!(disk.freeze());
    daemon.tell(&json!({ "write": disk.path().join("file").to_str().unwrap() }));
    let stuck = daemon.pid();
    eventually("it hangs", || state_of(stuck) == Some('D'));
    signal(stuck, "KILL");
    let mut next = rig.daemon();
    assert_eq!((&next.found["starts"], &next.found["image"]), (&json!(1), &json!(true)));
    assert_eq!(next.found["connections"], 1, "what it had is saved");
    assert_eq!(next.greeting()["last_exit"], Value::Null, "nobody knows yet");
    assert_eq!(state_of(stuck), Some('D'));
    client.write_all(b"x").unwrap();
    next.ask(&json!({ "serve": 1 }));
    next.tell(&json!({ "upgrade": std::env::current_exe().unwrap().to_str().unwrap() }));
    let mut next = rig.daemon();
    assert_eq!(next.found["starts"], 2);
    assert!(disk.thaw());
    eventually("it has ended, and its exit is taken", || state_of(stuck).is_none());
    next.ask(&json!({ "put": "x/y", "meta": "" }));
}
