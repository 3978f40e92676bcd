//! What a keeper holds does not grow with the number of daemons it has seen.

use std::fs;

use serde_json::json;

use crate::Test;
use crate::rig::{Rig, eventually};

pub(crate) const TESTS: &[Test] = &[("nothing_grows_over_many_deaths", nothing_grows_over_many_deaths)];

/// Enough that a leak of one page or one descriptor for each death shows.
const DEATHS: usize = 200;

/// When every path has been taken often, and the allocator has what it needs.
const WARM: usize = 60;

fn anonymous_kib(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn nothing_grows_over_many_deaths() {
    let rig = Rig::of(&["--longest-pause", "0"], &[]);
    let keeper = rig.keeper.pid;
    let mut first = None;
    for death in 0..DEATHS {
        let mut daemon = rig.daemon();
        if death == 0 {
            daemon.spawn("p/a", "exec sleep 1000");
            daemon.ask(&json!({ "listen": "listener/1" }));
        }
        daemon.ask(&json!({ "image": 1 }));
        if death == WARM {
            first = Some((descriptors(keeper), anonymous_kib(keeper)));
        }
        daemon.die("kill");
    }
    let daemon = rig.daemon();
    assert_eq!(daemon.found["starts"], json!(DEATHS));
    let (fds, kib) = first.unwrap();
    eventually("descriptors", || descriptors(keeper) == fds);
    let now = anonymous_kib(keeper);
    assert!(now <= kib + 64, "anonymous memory grew from {kib} to {now} KiB");
    println!("keeper: {fds} descriptors, {now} KiB anonymous");
}
