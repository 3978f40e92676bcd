//! Another build takes over under load: keeper and daemon become it in place, and workers notice nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use oxherd_e2e::deaths::start_web;
use oxherd_e2e::{Chance, Clients, Home, Load, Roll, eventually, places, turn};

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn program_of(pid: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).expect("it runs")
}

/// What a build says of itself.
fn version(home: &Home, program: &Path) -> String {
    let output = home.command_of(program, &["--version"]).output().expect("it runs");
    let said = String::from_utf8(output.stdout).expect("it is text");
    said.trim().strip_prefix("oxherd ").expect("it is Oxherd").to_owned()
}

/// Upgrades, and checks that `program` serves and that the keeper is the same process.
fn upgrade(home: &Home, program: &Path) {
    let (daemon, keeper, starts) = home.ping().expect("a daemon");
    let said = home.ok(&["upgrade", text(program)]);
    let (new_daemon, new_keeper, new_starts) = home.ping().expect("a daemon");
    let version = version(home, program);
    assert!(said.contains(&format!(" to {version} (daemon {new_daemon}), keeper {keeper}")), "{said}");
    assert_eq!((new_keeper, new_starts), (keeper, starts + 1));
    assert_ne!(new_daemon, daemon);
    let pong = home.ok(&["ping"]);
    assert!(pong.contains(&format!("oxherd {version},")), "{pong}");
    let real = program.canonicalize().expect("it exists");
    assert_eq!((program_of(keeper), program_of(new_daemon)), (real.clone(), real));
}

#[test]
fn upgrades_between_two_builds_cost_no_request() {
    let _turn = turn::alone();
    let home = Home::new();
    let (this, other) = (places::oxherd(), places::other_oxherd());
    assert_ne!(version(&home, &this), version(&home, &other), "two builds that can be told apart");
    assert_ne!(fs::read(&this).expect("readable"), fs::read(&other).expect("readable"));
    start_web(&home, "3");
    let mut chance = Chance::seeded();
    let workers = Roll::settled(&home, "web", 3);
    let clients = Clients::start(&home.address("web"));
    for program in [&other, &this].into_iter().cycle().take(8) {
        clients.wait_more(20 + chance.below(150));
        upgrade(&home, program);
        Roll::of(&home, "web").assert_untouched(&workers);
    }
    clients.wait_more(100);
    Roll::settled(&home, "web", 3).assert_untouched(&workers);
    assert!(!home.log().contains("died too often"), "an upgrade is no accident: {}", home.log());
    clients.stop_unharmed("8 upgrades");
}

#[test]
fn a_reload_goes_on_in_another_build() {
    let _turn = turn::alone();
    let home = Home::new();
    let gate = home.folder().write("gate", "");
    let home = home.with("GATE", &gate);
    let script = places::fixture("gated.js");
    home.ok(&["start", text(&script), "--name", "web", "-i", "3"]);
    let before = Roll::settled(&home, "web", 3);
    let load = Load::short(&home.address("web"), "/", 6);
    fs::remove_file(&gate).expect("it was open");
    let mut reload = home.command(&["reload", "web"]).stdout(Stdio::null()).spawn().expect("it runs");
    for program in [places::other_oxherd(), places::oxherd()] {
        eventually("a successor that starts", || {
            Roll::of(&home, "web").seats.iter().any(|seat| seat.status == "starting").then_some(())
        });
        load.wait_more(20);
        upgrade(&home, &program);
    }
    home.folder().write("gate", "");
    let status = eventually("the end of the reload", || reload.try_wait().expect("it is our child"));
    assert!(status.success(), "{status}");
    assert!(Roll::settled(&home, "web", 3).pids().is_disjoint(&before.pids()));
    let short = load.stop();
    println!("2 upgrades during a reload: {short}");
    assert_eq!(short.failed(), 0, "{short}");
}

#[test]
fn what_cannot_take_over_is_refused_and_the_old_serves_on() {
    let home = Home::new();
    start_web(&home, "2");
    let workers = Roll::settled(&home, "web", 2);
    let clients = Clients::start(&home.address("web"));
    let before = home.ping();
    let folder = home.folder();
    let script = |name: &str, line: &str| {
        let path = folder.write(name, &format!("#!/bin/sh\n{line}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        path
    };
    let newer = r#"echo '{"version":"9.9.9","protocol":1,"states":[7]}'"#;
    let refused = [
        (folder.path().join("missing"), "no such program"),
        (folder.write("notes.txt", "not a program\n"), "ermission denied"),
        (script("true", "exit 0"), "does not answer `keeper --check` as Oxherd does"),
        (script("false", "exit 1"), "does not know `keeper --check`"),
        (places::node(places::DEFAULT_NODE), "does not know `keeper --check`"),
        (script("stuck", "exec sleep 60"), "does not answer `keeper --check` within 5 s"),
        (script("newer", newer), "(version 9.9.9): it cannot go on from version"),
        (folder.path().to_owned(), "ermission denied"),
    ];
    for (program, why) in refused {
        let output = home.run(&["upgrade", text(&program)]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{}: {said}", program.display());
        assert!(said.contains(why) && said.contains(text(&program)), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(home.ping(), before, "{}", program.display());
    }
    clients.wait_more(20);
    Roll::settled(&home, "web", 2).assert_untouched(&workers);
    clients.stop_unharmed("8 refused upgrades");
}
