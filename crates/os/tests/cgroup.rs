//! Cgroups of workers: real ones where the system lets us, none elsewhere.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Folder, exit_of, read_line, shell, unique, wait_readable};
use oxherd_os::cgroup::Cgroups;
use oxherd_os::{CgroupChoice, Host, HostOptions, Output};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

#[test]
fn a_whole_group_dies_and_is_removed() {
    let root = Cgroups::detect().map(|cgroups| cgroups.root().to_owned());
    let usable =
        root.as_ref().is_some_and(|_| Cgroups::detect().and_then(|mut all| all.make("probe")).is_some());
    let Some(root) = root.filter(|_| usable) else {
        println!("skipped: no writable cgroup2 here");
        return;
    };
    let mut host = Host::new(HostOptions::default()).unwrap();
    // Neither group nor label: only the cgroup still knows it.
    let mut spec = shell("env -i setsid sh -c 'echo $$; exec sleep 600' & wait");
    spec.label = unique("cgroup/../x");
    spec.stdout = Output::Pipe;
    let mut spawned = host.spawn(&spec).unwrap();
    assert!(spawned.child.has_cgroup());
    let escaped: i32 = read_line(spawned.stdout.as_ref().unwrap()).parse().unwrap();
    let where_it_is = std::fs::read_to_string(format!("/proc/{escaped}/cgroup")).unwrap();
    let base = root.join(format!("oxherd-{}", std::process::id()));
    assert!(where_it_is.contains("/oxherd-") && base.is_dir(), "{where_it_is}");
    let escaped = pidfd_open(Pid::from_raw(escaped).unwrap(), PidfdFlags::empty()).unwrap();
    host.kill_tree(&spawned.child).unwrap();
    wait_readable(&escaped);
    exit_of(&mut host, &mut spawned.child);
    drop((spawned, host));
    assert!(!base.exists(), "{} is left over", base.display());
}

#[test]
fn a_folder_that_is_no_cgroup_is_left_alone() {
    let folder = Folder::new();
    for root in [folder.path().to_owned(), folder.path().join("missing")] {
        let options = HostOptions { cgroups: CgroupChoice::At(root), ..HostOptions::default() };
        let mut host = Host::new(options).unwrap();
        let mut spec = shell("exit 0");
        spec.label = unique("plain");
        let mut spawned = host.spawn(&spec).unwrap();
        assert!(!spawned.child.has_cgroup());
        exit_of(&mut host, &mut spawned.child);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
