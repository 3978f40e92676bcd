//! Programs written with the library are reloaded under clients, and not one request fails.

use std::fs;
use std::path::Path;

use oxherd_e2e::places::{self, Folder};
use oxherd_e2e::{Herd, Load, http, turn};

const RELOADS: usize = 10;
/// Between two reloads, so that each happens to clients at work.
const REQUESTS: u64 = 200;

fn start(example: &str, args: &[&str]) -> Herd {
    Herd::program(places::example(example)).script_args(args).env("PORT", "0").start()
}

/// Ten reloads under clients that connect for each request and clients that keep their connections.
fn no_request_fails(example: &str, args: &[&str], has_processes: bool) {
    let _turn = turn::alone();
    let herd = start(example, args);
    let address = herd.address();
    let before = herd.serving();
    let (short, kept) = (Load::short(&address, "/", 2), Load::keep_alive(&address, "/", 4));
    for _ in 0..RELOADS {
        short.wait_more(REQUESTS);
        kept.wait_more(REQUESTS);
        herd.reload();
    }
    kept.wait_more(REQUESTS);
    let tallies = [short.stop(), kept.stop()];
    for (kind, tally) in ["short", "kept"].into_iter().zip(&tallies) {
        println!("{example} {args:?}, {RELOADS} reloads, {kind}: {tally}");
        assert_eq!(tally.failed(), 0, "{example} {args:?}, {kind}: {tally}");
    }
    if has_processes {
        let pids = tallies[1].by_pid.keys();
        assert!(
            pids.filter(|pid| !before.values().any(|old| old == *pid)).count() >= RELOADS,
            "each reload brings new ones"
        );
    }
    herd.stop();
}

#[test]
fn the_web_example_is_reloaded_under_load() {
    no_request_fails("web", &[], true);
}

#[test]
fn processes_with_listeners_of_their_own_are_reloaded_under_load() {
    no_request_fails("cluster_vs_threads", &["processes", "--kernel"], true);
}

#[test]
fn threads_are_reloaded_under_load() {
    no_request_fails("cluster_vs_threads", &["threads"], false);
}

/// Puts a copy of an example at a path, whole at once.
fn install(example: &str, path: &Path) {
    let partial = path.with_extension("partial");
    fs::copy(places::example(example), &partial).expect("the folder is writable");
    fs::rename(&partial, path).expect("the folder is writable");
}

#[test]
fn a_reload_runs_what_now_stands_at_the_path() {
    let folder = Folder::new();
    let program = folder.path().join("server");
    install("basic", &program);
    let herd = Herd::program(&program).env("PORT", "0").start();
    let address = herd.address();
    assert_eq!(http::get(&address, "/").text(), "Hello, Cluster!\n");
    // The port is any, and stays what it is: the listener is the primary's.
    install("web", &program);
    herd.reload();
    assert_eq!(http::get(&address, "/").json()["message"], "Hello from Cluster!");
    herd.stop();
}
