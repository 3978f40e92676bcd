//! Taking the exits of orphans. One test only: it takes those of every child of this process.
#![allow(clippy::unwrap_used)]

mod common;

use common::{eventually, exit_of, read_line, shell};
use oxherd_os::{CgroupChoice, ExitStatus, Host, HostOptions, Output};
use rustix::process::{Pid, PidfdFlags, child_subreaper, pidfd_open};

#[test]
fn orphans_are_reaped_and_own_children_are_not() {
    let before = child_subreaper().unwrap();
    let options = HostOptions { reap_strangers: true, cgroups: CgroupChoice::Off };
    let mut host = Host::new(options.clone()).unwrap();
    let other = Host::new(options).unwrap();
    drop(other);
    assert!(child_subreaper().unwrap().is_some(), "one Host of two is left");

    // Ends before the orphan does, and so hides it from a wait for anybody.
    let mut own = host.spawn(&shell("exit 3")).unwrap();
    common::wait_readable(&own.child);
    let mut spec = shell("sh -c 'read line <&3 || true' & echo $!");
    (spec.stdout, spec.channel) = (Output::Pipe, true);
    let mut parent = host.spawn(&spec).unwrap();
    let orphan = read_line(parent.stdout.as_ref().unwrap()).parse().ok().and_then(Pid::from_raw).unwrap();
    let pidfd = pidfd_open(orphan, PidfdFlags::empty()).unwrap();
    exit_of(&mut host, &mut parent.child);
    drop(parent.channel.take());
    common::wait_readable(&pidfd);

    let reaped = eventually("reaping", || Some(host.reap_strangers().unwrap()).filter(|count| *count > 0));
    assert_eq!(reaped, 1);
    assert_eq!(exit_of(&mut host, &mut own.child), ExitStatus::Code(3));
    assert_eq!(host.reap_strangers().unwrap(), 0);
    drop(host);
    assert_eq!(child_subreaper().unwrap().is_some(), before.is_some());
}
