//! Killing all that descends from a worker.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::fd::OwnedFd;

use common::{exit_of, read_line, shell, unique, wait_readable};
use oxherd_os::{CgroupChoice, Host, HostOptions, Output, Spawned};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

fn host() -> Host {
    Host::new(HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() }).unwrap()
}

/// Starts a script and waits for its first line.
fn start(host: &mut Host, label: &str, script: &str) -> (Spawned, String) {
    let mut spec = shell(script);
    spec.label = label.to_owned();
    spec.stdout = Output::Pipe;
    let spawned = host.spawn(&spec).unwrap();
    let line = read_line(spawned.stdout.as_ref().unwrap());
    (spawned, line)
}

fn watch(pid: u32) -> OwnedFd {
    pidfd_open(Pid::from_raw(pid as i32).unwrap(), PidfdFlags::empty()).unwrap()
}

#[test]
fn a_descendant_that_left_group_session_and_parent_is_killed() {
    let mut host = host();
    let label = unique("tree");
    // The inner sleep leads a session of its own; its parents end as soon as it is told so.
    let script =
        "setsid sh -c 'setsid sh -c \"echo \\$\\$; exec sleep 600\" & wait' & read line <&3 || true; exit 0";
    let mut spec = shell(script);
    spec.label.clone_from(&label);
    (spec.stdout, spec.channel) = (Output::Pipe, true);
    let mut spawned = host.spawn(&spec).unwrap();
    let escaped: u32 = read_line(spawned.stdout.as_ref().unwrap()).parse().unwrap();
    let members = host.tree_members(&label).unwrap();
    assert!(members.contains(&escaped) && members.len() >= 3, "{members:?}");
    let escaped = watch(escaped);

    drop(spawned.channel.take());
    exit_of(&mut host, &mut spawned.child);
    assert!(!common::is_readable(&escaped), "it outlives its worker");
    let members: Vec<_> = host.tree_members(&label).unwrap().into_iter().map(watch).collect();
    host.kill_tree(&spawned.child).unwrap();
    wait_readable(&escaped);
    members.iter().for_each(wait_readable);
    assert_eq!(host.tree_members(&label).unwrap(), []);
    // They had become our children, and no other reaps them.
    assert_eq!(host.reap_strangers().unwrap(), members.len());
}

#[test]
fn kill_tree_of_a_living_worker_leaves_its_exit_to_try_wait() {
    let mut host = host();
    let (mut spawned, _) = start(&mut host, &unique("living"), "sleep 600 & echo ready; wait");
    host.kill_tree(&spawned.child).unwrap();
    wait_readable(&spawned.child);
    host.reap_strangers().unwrap();
    exit_of(&mut host, &mut spawned.child);
    assert_eq!(host.living(), 0);
}

#[test]
fn the_label_must_match_exactly() {
    let mut host = host();
    let label = unique("label");
    let longer = format!("{label}1");
    let (mut first, _) = start(&mut host, &label, "echo ready; exec sleep 600");
    let (mut second, _) = start(&mut host, &longer, "echo ready; exec sleep 600");
    assert_eq!(host.tree_members(&label).unwrap(), [first.child.pid]);
    host.kill_tree(&first.child).unwrap();
    exit_of(&mut host, &mut first.child);
    assert_eq!(host.try_wait(&mut second.child).unwrap(), None);
    assert_eq!(host.tree_members(&longer).unwrap(), [second.child.pid]);
    host.kill_tree(&second.child).unwrap();
    exit_of(&mut host, &mut second.child);
}

#[test]
fn a_member_of_the_group_without_the_label_is_killed() {
    let mut host = host();
    let script = "env -i sh -c 'echo $$; exec sleep 600' & read line <&3 || true; exit 0";
    let mut spec = shell(script);
    spec.label = unique("group");
    (spec.stdout, spec.channel) = (Output::Pipe, true);
    let mut spawned = host.spawn(&spec).unwrap();
    let bare = watch(read_line(spawned.stdout.as_ref().unwrap()).parse().unwrap());
    host.kill_tree(&spawned.child).unwrap();
    wait_readable(&bare);
    exit_of(&mut host, &mut spawned.child);
}

#[test]
fn an_empty_label_matches_nobody() {
    let mut host = host();
    assert_eq!(host.tree_members("").unwrap(), []);
    let (mut spawned, _) = start(&mut host, "", "echo ready; exec sleep 600");
    host.kill_tree(&spawned.child).unwrap();
    exit_of(&mut host, &mut spawned.child);
}

#[test]
fn processes_are_found_by_the_beginning_of_their_label() {
    let mut host = host();
    let prefix = unique("prefix");
    let (mut one, _) = start(&mut host, &format!("{prefix}/a"), "echo; exec sleep 600");
    let (mut other, _) = start(&mut host, &format!("{prefix}/b"), "echo; exec sleep 600");
    let (mut stranger, _) = start(&mut host, &format!("{prefix}-c"), "echo; exec sleep 600");
    let found = oxherd_os::host::find_labelled(&format!("{prefix}/")).unwrap();
    let mut labels: Vec<_> = found.iter().map(|child| (child.label(), child.pid)).collect();
    labels.sort_unstable();
    let expected = [(one.child.label(), one.child.pid), (other.child.label(), other.child.pid)];
    assert_eq!(labels, expected);
    assert!(oxherd_os::host::find_labelled("").unwrap().is_empty());
    for spawned in [&mut one, &mut other, &mut stranger] {
        host.kill_tree(&spawned.child).unwrap();
        exit_of(&mut host, &mut spawned.child);
    }
}
