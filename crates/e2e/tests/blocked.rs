//! A worker that is blocked keeps nobody waiting but its own client, and those it had picked up before.

use std::time::Duration;

use oxherd_e2e::{Address, Herd, Load, Tally, http, turn};

const WORKERS: u32 = 3;
const CLIENTS: usize = 6;
/// How many unanswered connections a worker may have.
const WINDOW_PLACES: usize = 2;
const BUSY: &str = "/busy?ms=2000";
/// Who waits longer than this waited for the blocked worker.
const PATIENCE: Duration = Duration::from_secs(1);
const ROUNDS: usize = 2;

fn herd(args: &[&str]) -> (Herd, Address) {
    let herd = Herd::of("app.js").workers(WORKERS).args(args).start();
    let address = herd.address();
    herd.pids_that_answer(&address, WORKERS as usize);
    (herd, address)
}

/// Blocks one idle worker and sends the load while it is blocked: nobody is inside.
fn blocked_before_the_load(args: &[&str]) -> Vec<Tally> {
    let (herd, address) = herd(args);
    let tallies = (0..ROUNDS).map(|_| {
        let mark = herd.mark();
        std::thread::scope(|scope| {
            let blocking = scope.spawn(|| http::get(&address, BUSY));
            herd.wait_text(mark, "busy for 2000 ms");
            let load = Load::short(&address, "/", CLIENTS);
            assert_eq!(blocking.join().expect("it was answered").status, 200);
            load.wait_more(100);
            load.stop()
        })
    });
    let tallies = tallies.collect();
    herd.stop();
    tallies
}

#[test]
fn with_recall_nobody_waits_for_a_blocked_worker() {
    let _turn = turn::alone();
    for tally in blocked_before_the_load(&[]) {
        let waited = tally.slower_than(PATIENCE);
        println!("with recall, {waited} waited longer than {PATIENCE:?}: {tally}");
        assert_eq!((waited, tally.failed()), (0, 0), "{tally}");
    }
}

#[test]
fn without_recall_one_client_waits_for_each_place_in_the_window() {
    let _turn = turn::alone();
    for tally in blocked_before_the_load(&["--no-recall"]) {
        let waited = tally.slower_than(PATIENCE);
        println!("without recall, {waited} waited longer than {PATIENCE:?}: {tally}");
        assert_eq!(tally.failed(), 0, "{tally}");
        assert!((1..=WINDOW_PLACES).contains(&waited), "{waited} waited: {tally}");
    }
}

#[test]
fn under_load_only_those_inside_wait_for_a_worker_that_blocks() {
    let _turn = turn::alone();
    let (herd, address) = herd(&[]);
    for _ in 0..ROUNDS {
        let load = Load::short(&address, "/", CLIENTS);
        load.wait_more(100);
        let inside = http::get(&address, BUSY).json()["inside"].as_u64().expect("it tells");
        load.wait_more(100);
        let tally = load.stop();
        let waited = tally.slower_than(PATIENCE);
        println!("with recall and {inside} inside, {waited} waited longer than {PATIENCE:?}: {tally}");
        assert_eq!(tally.failed(), 0, "{tally}");
        assert!(waited as u64 <= inside, "{waited} waited, {inside} were inside: {tally}");
    }
    herd.stop();
}

#[test]
fn a_wholly_blocked_herd_loses_nobody() {
    let _turn = turn::alone();
    let herd = Herd::of("app.js").workers(1).start();
    let address = herd.address();
    let load = Load::short(&address, "/", CLIENTS);
    load.wait_more(50);
    http::get(&address, "/busy?ms=700");
    load.wait_more(50);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally}");
    herd.stop();
}
