//! Whether anything of a process can still run.
#![allow(clippy::unwrap_used)]

mod common;

use common::{eventually, is_readable, shell, wait_readable};
use oxherd_os::{CgroupChoice, ExitStatus, ExitWatch, Host, HostOptions, Watched, doom};

#[test]
fn only_who_is_beyond_its_exit_is_doomed() {
    let mut host = Host::new(HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() }).unwrap();
    let mut spec = shell("read line <&3");
    spec.channel = true;
    let mut child = host.spawn(&spec).unwrap();
    let (pid, child) = (child.child.pid, &mut child.child);
    assert!(!doom::is_doomed(pid, &*child).unwrap());
    host.signal(child, libc::SIGSTOP).unwrap();
    assert!(!doom::is_doomed(pid, &*child).unwrap(), "it can be continued");
    if let Ok(mut watch) = ExitWatch::seize(pid, &*child) {
        host.signal(child, libc::SIGKILL).unwrap();
        eventually("the exit", || (watch.poll().unwrap() == Watched::AtExit).then_some(()));
        assert!(!doom::is_doomed(pid, &*child).unwrap(), "its tracer has it in hand");
        watch.release().unwrap();
    }
    host.signal(child, libc::SIGKILL).unwrap();
    wait_readable(&*child);
    assert!(doom::is_doomed(pid, &*child).unwrap() && is_readable(&*child));
    let killed = ExitStatus::Signal { signal: libc::SIGKILL, core_dumped: false };
    assert_eq!(doom::fate_of(pid, &*child), Some(killed));
    assert_eq!(host.try_wait(child).unwrap(), Some(killed));
    assert!(doom::is_doomed(pid, &*child).is_err(), "nobody knows whose the number is now");
}
