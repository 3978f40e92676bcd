//! Where the daemon may not be traced its own sockets end with it: what that costs at most, counted.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use oxherd_e2e::deaths::{replace, start_web};
use oxherd_e2e::{Chance, Clients, Home, Roll, places, procs, turn};

const DEATHS: u64 = 12;

/// Kills the daemon again and again, and counts.
fn count_losses(home: &Home, how: &str) {
    let mut chance = Chance::seeded();
    let workers = Roll::of(home, "web");
    let clients = Clients::start(&home.address("web"));
    for _death in 0..DEATHS {
        clients.wait_more(20 + chance.below(100));
        replace(home);
        Roll::of(home, "web").assert_untouched(&workers);
    }
    clients.wait_more(100);
    let (short, kept) = clients.stop(&format!("{DEATHS} deaths, {how}"));
    println!("{how}: {} of {} requests lost in {DEATHS} deaths", short.failed(), short.all());
    // The one connection that was accepted and not handed over.
    assert!(short.failed() <= DEATHS, "{short}");
    assert_eq!(short.failed(), short.reset + short.early_eof, "{short}");
    assert_eq!(kept.failed(), 0, "what a worker has is safe: {kept}");
}

#[test]
fn without_tracing_a_death_costs_one_request_at_most() {
    let _turn = turn::alone();
    let home = Home::new().with("OXHERD_TRACE", "off");
    start_web(&home, "3");
    count_losses(&home, "tracing switched off");
    let log = home.log();
    assert_eq!(log.matches("Keeper: the daemon is not traced (OXHERD_TRACE=off)").count(), 1, "{log}");
    assert!(log.contains("A connection may be lost when the daemon is killed: "), "{log}");
}

/// The kernel lets nobody but root look into a program whose file may not be read.
#[test]
fn where_the_kernel_refuses_a_death_costs_one_request_at_most() {
    if procs::is_root() {
        return println!("root may trace everything: for other users only");
    }
    let _turn = turn::alone();
    let home = Home::new();
    let program = home.folder().path().join("oxherd");
    fs::copy(places::oxherd(), &program).expect("the folder is writable");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o111)).expect("it is ours");
    let script = places::fixture("app.js");
    let started = home
        .command_of(&program, &["start", script.to_str().expect("a plain path"), "--name", "web", "-i", "3"])
        .output()
        .expect("it runs");
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    count_losses(&home, "a program that may not be read");
    assert!(home.log().contains("Keeper: cannot trace the daemon: "), "{}", home.log());
}
