//! Looking after processes that another process has started.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;
use std::os::fd::OwnedFd;

use common::{am_helper, exit_of, helper, read_line, shell, unique, wait_readable};
use oxherd_os::cgroup::Cgroups;
use oxherd_os::{CgroupChoice, Child, ExitStatus, Host, HostOptions, Output, Spawned, clock};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

fn host() -> Host {
    Host::new(HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() }).unwrap()
}

fn watch(pid: u32) -> OwnedFd {
    pidfd_open(Pid::from_raw(pid as i32).unwrap(), PidfdFlags::empty()).unwrap()
}

/// Another program of ours that starts `script`, and the number of the process it started.
fn start_elsewhere(host: &mut Host, label: &str, script: &str) -> (Spawned, u32) {
    let mut spec = helper("helper_that_keeps");
    spec.env.push(("LABEL".into(), label.into()));
    spec.env.push(("SCRIPT".into(), script.into()));
    (spec.stdout, spec.channel) = (Output::Pipe, true);
    let spawned = host.spawn(&spec).unwrap();
    let output = spawned.stdout.as_ref().unwrap();
    let line = std::iter::repeat_with(|| read_line(output)).find(|line| line.contains("started=")).unwrap();
    let pid = line.rsplit('=').next().unwrap().parse().unwrap();
    (spawned, pid)
}

/// Starts a process, and takes its exit when its channel closes.
#[test]
fn helper_that_keeps() {
    if !am_helper("helper_that_keeps") {
        return;
    }
    let variable = |name| std::env::var(name).unwrap();
    let mut spec = shell(&variable("SCRIPT"));
    spec.label = variable("LABEL");
    let mut keeper = host();
    let mut spawned = keeper.spawn(&spec).unwrap();
    println!("started={}", spawned.child.pid);
    let channel = oxherd_os::reexec::inherit(3).unwrap();
    wait_readable(&channel);
    exit_of(&mut keeper, &mut spawned.child);
}

#[test]
fn the_exit_of_anothers_child_is_known_before_and_after_it_was_taken() {
    for (script, expected) in [
        ("exit 42", ExitStatus::Code(42)),
        ("kill -KILL $$", ExitStatus::Signal { signal: libc::SIGKILL, core_dumped: false }),
    ] {
        let mut host = host();
        let script = format!("kill -STOP $$; {script}");
        let (mut keeper, pid) = start_elsewhere(&mut host, "", &script);
        let mut child = Child::adopt(pid, watch(pid), "");
        let mut late = Child::adopt(pid, watch(pid), "");
        assert_eq!(host.try_wait(&mut child).unwrap(), None);
        common::eventually("the stop", || state_of(pid).filter(|state| *state == 'T'));
        host.signal(&child, libc::SIGCONT).unwrap();
        assert_eq!(exit_of(&mut host, &mut child), expected);
        assert_eq!(state_of(pid), Some('Z'), "nobody has taken it");

        keeper.channel = None;
        exit_of(&mut host, &mut keeper.child);
        match host.try_wait(&mut late) {
            Ok(exit) => assert_eq!(exit, Some(expected)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                println!("skipped: this kernel (before 6.15) forgets how a process ended");
            }
        }
        assert_eq!(host.try_wait(&mut child).unwrap(), Some(expected));
    }
}

fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn the_tree_of_anothers_child_is_killed() {
    let mut host = host();
    let label = unique("adopted");
    let bare = "env -i sleep 600 & setsid sleep 600 & wait";
    let (mut keeper, pid) = start_elsewhere(&mut host, &label, bare);
    let child = Child::adopt(pid, watch(pid), &label);
    let members: Vec<_> = common::eventually("a tree", || {
        let labelled = host.tree_members(&label).unwrap();
        let bare = children_of(pid);
        (labelled.len() == 2 && bare.len() == 2)
            .then(|| labelled.into_iter().chain(bare).map(watch).collect())
    });
    host.kill_tree(&child).unwrap();
    members.iter().for_each(wait_readable);
    keeper.channel = None;
    exit_of(&mut host, &mut keeper.child);
}

/// The children that have become another program already.
fn children_of(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.filter(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
    })
    .collect()
}

#[test]
fn a_label_is_enough_to_kill_a_tree() {
    let mut host = host();
    let label = unique("label-only");
    let mut spec = shell("setsid sleep 600 & echo ready; wait");
    (spec.label, spec.stdout) = (label.clone(), Output::Pipe);
    let mut spawned = host.spawn(&spec).unwrap();
    assert_eq!(read_line(spawned.stdout.as_ref().unwrap()), "ready");
    host.kill_label("").unwrap();
    assert_eq!(host.try_wait(&mut spawned.child).unwrap(), None);
    host.kill_label(&label).unwrap();
    exit_of(&mut host, &mut spawned.child);
    common::eventually("the whole tree", || host.tree_members(&label).unwrap().is_empty().then_some(()));
}

#[test]
fn a_cgroup_is_found_again() {
    let usable = Cgroups::detect().and_then(|mut all| all.make("probe")).is_some();
    if !usable {
        println!("skipped: no writable cgroup2 here");
        return;
    }
    let mut first = Host::new(HostOptions::default()).unwrap();
    let mut start = || {
        let mut spec = shell("env -i setsid sh -c 'echo $$; exec sleep 600' & exit 0");
        (spec.label, spec.stdout) = (unique("found/again"), Output::Pipe);
        let mut spawned = first.spawn(&spec).unwrap();
        let escaped = watch(read_line(spawned.stdout.as_ref().unwrap()).parse().unwrap());
        let record = spawned.child.to_record();
        // Its exit is not taken, so that its group can be asked for.
        wait_readable(&spawned.child);
        let copy = spawned.child.pidfd.try_clone().unwrap();
        let adopted = Child::adopt(spawned.child.pid, copy, spawned.child.label());
        exit_of(&mut first, &mut spawned.child);
        (escaped, record, adopted, spawned)
    };
    let mut second = Host::new(HostOptions::default()).unwrap();
    let (escaped, _, adopted, _first) = start();
    assert!(adopted.has_cgroup());
    second.kill_tree(&adopted).unwrap();
    wait_readable(&escaped);

    let (escaped, record, _, first) = start();
    let pidfd = first.child.pidfd.try_clone().unwrap();
    let resumed = second.resume_child(record, pidfd);
    assert!(resumed.has_cgroup());
    second.kill_tree(&resumed).unwrap();
    wait_readable(&escaped);

    let (escaped, record, ..) = start();
    second.kill_label(&record.label).unwrap();
    wait_readable(&escaped);
}

#[test]
fn a_childs_age_is_that_of_its_process() {
    let mut host = host();
    let before = clock::boot_millis();
    let spec = shell("exec sleep 1000");
    let mut spawned = host.spawn(&spec).unwrap();
    let after = clock::boot_millis();
    common::eventually("some age", || (clock::boot_millis() > after + 30).then_some(()));
    let asked = clock::boot_millis();
    let adopted = Child::adopt(spawned.child.pid, watch(spawned.child.pid), "");
    let age = adopted.age_millis().unwrap();
    let told = clock::boot_millis();
    // The kernel cuts the start down to a hundredth of a second, the clocks to a thousandth.
    assert!((asked - after - 1..=told - before + 11).contains(&age), "{age} ms of {}", told - before);
    assert!(!adopted.has_ended());
    host.signal(&spawned.child, libc::SIGKILL).unwrap();
    wait_readable(&adopted);
    assert!(adopted.has_ended(), "nobody has taken its exit");
    assert!(adopted.age_millis().unwrap() >= age);
    exit_of(&mut host, &mut spawned.child);
    assert!(adopted.has_ended());
    assert_eq!(adopted.age_millis().unwrap_err().raw_os_error(), Some(libc::ESRCH));
}
