//! The disk with the home hangs, or will not have the home any more, and then the daemon dies.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oxherd_e2e::deaths::{await_start_after, replace, start_web};
use oxherd_e2e::{Clients, Home, Roll, eventually, http, places, procs, turn};

/// A frozen disk hangs everybody who writes to it: it is thawed after that time whatever happens.
const FROZEN_SECONDS_MAX: &str = "120";
/// For every single step of making a disk, in seconds.
const STEP_SECONDS_MAX: &str = "20";
const GRACE: Duration = Duration::from_secs(20);

/// A home on a disk of its own that can be frozen.
struct Disk {
    home: Home,
    /// Thaws the disk and takes it away when its standard input ends, which it does with this program at the latest.
    rescuer: Option<Child>,
}

impl Disk {
    /// Nothing where the machine cannot do it: why is printed.
    fn new(home: Home) -> Option<Self> {
        if !procs::is_root() {
            println!("skipped: only root can freeze a disk");
            return None;
        }
        let (folder, mount) = (home.folder().path().to_owned(), home.path());
        fs::create_dir(&mount).expect("the folder is ours");
        let (image, mount) = (folder.join("disk").display().to_string(), mount.display().to_string());
        let made = [
            vec!["truncate", "-s", "64M", &image],
            vec!["mkfs.ext4", "-q", "-F", &image],
            vec!["mount", "-o", "loop", &image, &mount],
        ];
        if let Some(failed) = made.iter().find(|step| !bounded(step)) {
            println!("skipped: this machine cannot do it: {failed:?}");
            return None;
        }
        let mut disk = Self { home, rescuer: None };
        let rescue = format!(
            "timeout {FROZEN_SECONDS_MAX} cat > /dev/null; exec 2> /dev/null; fsfreeze -u {mount}; \
             umount {mount} || umount -l {mount}"
        );
        let mut order = Command::new("sh");
        order.args(["-c", &rescue]).stdin(Stdio::piped()).stdout(Stdio::null());
        disk.rescuer = Some(order.spawn().expect("a shell"));
        fs::set_permissions(disk.home.path(), fs::Permissions::from_mode(0o700)).expect("it is ours");
        // Not every kernel can.
        if !disk.freeze() {
            println!("skipped: this machine cannot freeze a disk");
            return None;
        }
        disk.thaw();
        Some(disk)
    }

    fn freeze(&self) -> bool {
        bounded(&["fsfreeze", "-f", self.home.path().to_str().expect("a plain path")])
    }

    fn thaw(&self) -> bool {
        bounded(&["fsfreeze", "-u", self.home.path().to_str().expect("a plain path")])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may be thawed already.
        self.thaw();
        drop(self.home.run(&["kill"]));
        let mount = self.home.path();
        let at = mount.to_str().expect("a plain path");
        let _gone = bounded(&["umount", at]) || bounded(&["umount", "-l", at]);
        // Its standard input ends, and it finds nothing left to be done.
        self.rescuer = None;
    }
}

/// Runs a program that ends in time or is ended, and says whether it succeeded.
fn bounded(step: &[&str]) -> bool {
    let mut order = Command::new("timeout");
    order.args(["-s", "KILL", STEP_SECONDS_MAX]).args(step).stdin(Stdio::null()).stderr(Stdio::null());
    order.status().is_ok_and(|status| status.success())
}

/// Waits until a thread of the process hangs in the kernel.
fn hangs(pid: u32) {
    eventually("a thread that hangs", || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.filter_map(Result::ok);
        let mut states = threads.filter_map(|thread| {
            let mut stat = String::new();
            fs::File::open(thread.path().join("stat")).ok()?.read_to_string(&mut stat).ok()?;
            stat.rsplit_once(") ")?.1.chars().next()
        });
        states.find(|state| *state == 'D').map(drop)
    });
}

/// Two deaths while the disk is frozen; then it is thawed.
fn die_on_a_frozen_disk(disk: &Disk, losses: u64) {
    let home = &disk.home;
    start_web(home, "2");
    let script = places::fixture("counting.js");
    home.ok(&["start", script.to_str().expect("a plain path"), "--name", "talk", "-i", "1"]);
    let workers = Roll::settled(home, "web", 2);
    let clients = Clients::start(&home.address("web"));
    clients.wait_more(50);
    assert!(disk.freeze());
    let mut left = Vec::new();
    for _death in 0..2 {
        let (daemon, _, starts) = home.ping().expect("a daemon");
        hangs(daemon);
        home.kill_daemon();
        await_start_after(home, starts);
        assert!(procs::state(daemon).is_some(), "it cannot have ended");
        left.push(daemon);
        Roll::of(home, "web").assert_same_workers(&workers);
        clients.wait_more(50);
    }
    let (short, kept) = clients.stop("2 deaths on a frozen disk");
    assert!(short.failed() <= losses && kept.failed() == 0, "{short}; {kept}");
    // The herd is driven as ever.
    home.ok(&["scale", "web", "3"]);
    home.ok(&["reload", "web"]);
    assert_eq!(http::get(&home.address("web"), "/").status, 200);
    assert!(disk.thaw());
    assert!(left.into_iter().all(|daemon| procs::wait_gone(daemon, GRACE)), "they have ended with the disk");
    let told = "was killed and cannot end, as when a disk hangs: going on without it";
    eventually("what happened is told", || (home.log().matches(told).count() == 2).then_some(()));
    // What is wanted is saved again: the next keeper finds it.
    replace(home);
    home.ok(&["kill"]);
    home.ok(&["resurrect"]);
    Roll::settled(home, "web", 3);
}

#[test]
fn a_daemon_that_a_frozen_disk_holds_is_replaced() {
    let _turn = turn::alone();
    let Some(disk) = Disk::new(Home::new()) else { return };
    die_on_a_frozen_disk(&disk, 0);
}

#[test]
fn an_untraced_daemon_that_a_frozen_disk_holds_is_replaced() {
    let _turn = turn::alone();
    let Some(disk) = Disk::new(Home::new().with("OXHERD_TRACE", "off")) else { return };
    // The connection that was accepted and not handed over dies with each.
    die_on_a_frozen_disk(&disk, 2);
}

#[test]
fn a_home_that_is_refused_keeps_no_daemon_from_taking_over() {
    let _turn = turn::alone();
    let home = Home::new();
    start_web(&home, "2");
    let workers = Roll::settled(&home, "web", 2);
    let close =
        |mode| fs::set_permissions(home.path(), fs::Permissions::from_mode(mode)).expect("it is ours");
    let mut cases = vec![(0o770, "other users may write to it")];
    if !procs::is_root() {
        cases.push((0o500, "permission denied"));
    }
    for (mode, trouble) in cases {
        let before = home.log().len();
        close(mode);
        replace(&home);
        Roll::of(&home, "web").assert_same_workers(&workers);
        let news = || home.log().split_off(before);
        eventually("the trouble is told", || news().contains(trouble).then_some(()));
        home.ok(&["scale", "web", "3"]);
        home.ok(&["scale", "web", "2"]);
        let output = home.run(&["resurrect"]);
        assert!(!output.status.success(), "what is saved is not to be had");
        close(0o700);
        eventually("it is saved again", || news().contains("What is wanted is saved again").then_some(()));
        Roll::settled(&home, "web", 2).assert_same_workers(&workers);
    }
}
