//! A machine that boots: systemd as the first process of namespaces of its own, over the programs of this one. Its
//! network is this one's, so that clients reach what it serves.
//!
//! As root only, where systemd is installed and a hierarchy of cgroups of the second version can be written to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;

use crate::places::{self, Folder};
use crate::turn::Turn;
use crate::{eventually, eventually_within, procs, turn};

const SYSTEMD: &str = "/lib/systemd/systemd";
/// What a machine under load may take to boot.
const BOOT_TIME: Duration = Duration::from_secs(60);
/// Services of distributions that have no business here.
const MASKED: [&str; 9] = [
    "getty.target",
    "systemd-logind.service",
    "systemd-resolved.service",
    "systemd-networkd.service",
    "systemd-timesyncd.service",
    "systemd-update-utmp.service",
    "systemd-sysusers.service",
    "timers.target",
    "remote-fs.target",
];

/// A machine that is up.
#[derive(Debug)]
pub struct Machine {
    folder: Folder,
    cgroup: PathBuf,
    shell: Child,
    first: u32,
    _turn: Rc<Turn>,
}

impl Machine {
    /// Boots one; or says why that cannot be here.
    pub fn boot() -> Result<Self, String> {
        let turn = turn::shared();
        let cgroup = may_boot()?.join(format!("machine-{}", std::process::id()));
        let folder = Folder::new();
        furnish(folder.path()).expect("the folder is writable");
        fs::create_dir_all(&cgroup).map_err(|error| format!("cannot make {}: {error}", cgroup.display()))?;
        let (shell, first) = start(folder.path(), &cgroup);
        Ok(Self { folder, cgroup, shell, first, _turn: turn })
    }

    /// Pulls the plug and boots again. Only what is in the folder is left.
    pub fn crash(&mut self) {
        self.end();
        (self.shell, self.first) = start(self.folder.path(), &self.cgroup);
    }

    /// What outlives a crash.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The home folder of the user `ox`.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("ox")
    }

    /// A command inside, as root.
    pub fn command(&self, words: &[&str]) -> Command {
        self.inside(&[], Path::new("/root"), words)
    }

    /// `oxherd` inside, as the user `ox`.
    pub fn oxherd(&self, words: &[&str]) -> Output {
        let user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
        let program = self.folder.path().join("oxherd").display().to_string();
        let words = [&[program.as_str()], words].concat();
        self.inside(&user, &self.home(), &words).output().expect("nsenter starts")
    }

    /// What a command prints that must succeed.
    pub fn ok(&self, words: &[&str]) -> String {
        told(&words.join(" "), &self.command(words).output().expect("nsenter starts"))
    }

    /// One property of a service.
    pub fn property(&self, service: &str, name: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "-p", name, service]).trim().to_owned()
    }

    /// The program under test, in the folder that outlives the machine.
    pub fn program(&self) -> String {
        self.folder.path().join("oxherd").display().to_string()
    }

    fn inside(&self, user: &[&str], home: &Path, words: &[&str]) -> Command {
        let node = places::node(places::DEFAULT_NODE);
        let path =
            [node.parent().expect("a folder"), "/usr/sbin".as_ref(), "/usr/bin".as_ref(), "/bin".as_ref()];
        let path = std::env::join_paths(path).expect("plain paths");
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.first.to_string(), "-m", "-p", "-C", "-u", "-i", "env", "-i"]);
        command.arg(format!("PATH={}", path.display())).arg(format!("HOME={}", home.display()));
        command.args(user).args(words).stdin(Stdio::null());
        command
    }

    fn end(&mut self) {
        if procs::is_alive(self.first) {
            procs::kill(self.first, Signal::KILL);
        }
        eventually("the end of the machine", || self.shell.try_wait().expect("it is our child"));
        eventually("no process in its cgroups", || remove_tree(&self.cgroup).ok());
        fs::create_dir_all(&self.cgroup).expect("it was there");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = fs::read_to_string(self.folder.path().join("console.log")).unwrap_or_default();
            let journal = self.command(&["journalctl", "--no-pager", "-n", "100"]).output();
            let journal = journal.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
            println!("the console:\n{console}\nthe journal:\n{}", journal.unwrap_or_default());
        }
        self.end();
        drop(fs::remove_dir(&self.cgroup));
    }
}

/// What a command printed that has succeeded.
pub fn told(what: &str, output: &Output) -> String {
    let said = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it).into_owned());
    assert!(output.status.success(), "{what}: {}\n{}\n{}", output.status, said[0], said[1]);
    let [stdout, _] = said;
    stdout
}

/// The folder of cgroups in which one for the machine can be made.
fn may_boot() -> Result<PathBuf, String> {
    if !procs::is_root() {
        return Err("a machine can only be booted by root".into());
    }
    if !Path::new(SYSTEMD).is_file() {
        return Err(format!("there is no {SYSTEMD}"));
    }
    if let Some(lacks) =
        ["unshare", "nsenter", "setpriv", "pivot_root"].into_iter().find(|it| !procs::is_on_path(it))
    {
        return Err(format!("there is no {lacks}"));
    }
    let probe = ["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--fork"];
    let may = "mount --make-rprivate / && mount -t tmpfs x /tmp && mount -t proc x /proc && mount -t cgroup2 x /tmp";
    let probe = Command::new("unshare").args(probe).args(["sh", "-c", may]).output();
    match probe {
        Ok(output) if output.status.success() => {}
        _ => return Err("the kernel refuses namespaces, or mounts in them".into()),
    }
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let of_cgroups = fields.find(|it| it.get(2) == Some(&"cgroup2")).map(|it| PathBuf::from(it[1]));
    of_cgroups.ok_or_else(|| "no cgroups of the second version are mounted".into())
}

/// What stands on the disk before the first boot.
fn furnish(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    fs::create_dir(folder.join("etc"))?;
    fs::create_dir(folder.join("ox"))?;
    std::os::unix::fs::chown(folder.join("ox"), Some(1000), Some(1000))?;
    for name in MASKED {
        std::os::unix::fs::symlink("/dev/null", folder.join("etc").join(name))?;
    }
    fs::copy(places::oxherd(), folder.join("oxherd")).map(drop)
}

/// The shell that has entered the cgroup and the namespaces, and the first process in them.
fn start(folder: &Path, cgroup: &Path) -> (Child, u32) {
    let script = "echo $$ > \"$1\"/cgroup.procs; shift; \
        exec unshare --mount --pid --cgroup --uts --ipc --fork --kill-child sh \"$@\"";
    let console = fs::File::create(folder.join("console.log")).expect("the folder is writable");
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(cgroup).arg(places::fixture("boot/enter.sh")).arg(folder);
    shell.arg(places::tool("node-22")).stdin(Stdio::null());
    shell.stdout(console.try_clone().expect("a descriptor is free")).stderr(console);
    let shell = shell.spawn().expect("there is a shell");
    let first = eventually("the first process", || procs::children(shell.id()).first().copied());
    let is_up = || {
        let mut ask = Command::new("nsenter");
        ask.args(["-t", &first.to_string(), "-m", "-p", "systemctl", "is-system-running"]);
        let said = ask.stderr(Stdio::null()).output().expect("nsenter starts").stdout;
        matches!(String::from_utf8_lossy(&said).trim(), "running" | "degraded").then_some(())
    };
    eventually_within(BOOT_TIME, "a machine that is up", is_up);
    (shell, first)
}

/// A cgroup without processes, and all below it.
fn remove_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}
