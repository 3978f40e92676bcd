//! One herd, from its start to its end.

use oxherd_e2e::{Herd, procs};
use rustix::process::Signal;

#[test]
fn it_serves_from_every_worker_and_stops_without_a_trace() {
    let herd = Herd::of("app.js").workers(2).start();
    let address = herd.address();
    let mut answering = herd.pids_that_answer(&address, 2);
    let mut serving: Vec<u32> = herd.serving().into_values().collect();
    answering.sort_unstable();
    serving.sort_unstable();
    assert_eq!(answering, serving);
    let lines = herd.stop();
    assert!(lines.iter().any(|line| line.text == "Stopped: 2 workers ended"), "{lines:?}");
    assert!(answering.iter().all(|pid| !procs::is_alive(*pid)));
}

#[test]
fn workers_die_with_the_primary() {
    let mut herd = Herd::of("app.js").workers(2).start();
    let address = herd.address();
    let pids = herd.pids_that_answer(&address, 2);
    herd.signal(Signal::KILL);
    herd.wait_exit(oxherd_e2e::DEADLINE);
    assert!(pids.iter().all(|pid| procs::wait_gone(*pid, oxherd_e2e::DEADLINE)));
}
