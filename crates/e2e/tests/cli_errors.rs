//! What is wrong with a command line is said in one line on stderr, with the exit code 2, and nothing is started.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use oxherd_e2e::places::{self, Folder};
use oxherd_e2e::{Herd, procs};

/// Runs `oxherd` in a folder. It must end by itself.
fn oxherd(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", "20"]).arg(places::oxherd()).args(args);
    command.current_dir(folder).env("PWD", folder).stdin(Stdio::null()).output().expect("it starts")
}

/// The one line with which it refuses.
fn refused(folder: &Path, args: &[&str]) -> String {
    let output = oxherd(folder, args);
    let stderr = String::from_utf8(output.stderr).expect("it is text");
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    let line = stderr.trim_end().strip_prefix("oxherd: ");
    line.unwrap_or_else(|| panic!("{args:?}: {stderr}")).to_owned()
}

/// A folder with a script, a folder and a text in it.
fn furnished() -> Folder {
    let folder = Folder::new();
    folder.write("app.js", "require('node:fs').writeFileSync('started', '');\n");
    folder.write("notes.txt", "no program\n");
    std::fs::create_dir(folder.path().join("lib")).expect("it is ours");
    folder
}

#[test]
fn wrong_values_are_named() {
    let folder = furnished();
    let cases: [(&[&str], &str); 14] = [
        (
            &["-i", "0"],
            "invalid value '0' for '--instances <N|max|io|-1>': give a number from 1, max (one per CPU), io (two) or -1 (all CPUs but one)",
        ),
        (
            &["-i", "x"],
            "invalid value 'x' for '--instances <N|max|io|-1>': give a number from 1, max (one per CPU), io (two) or -1 (all CPUs but one)",
        ),
        (&["-i", "99999"], "99999 instances are more than the limit of 1024"),
        (
            &["--distribution", "magic"],
            "invalid value 'magic' for '--distribution <D>': unknown distribution `magic` (handoff, kernel or shared)",
        ),
        (
            &["--restart", "maybe"],
            "invalid value 'maybe' for '--restart <WHEN>': unknown restart rule `maybe` (always, on-failure or never)",
        ),
        (
            &["--drain-timeout", "30"],
            "invalid value '30' for '--drain-timeout <TIME>': it has no unit: write 30ms, 30s, 30m or 30h",
        ),
        (
            &["--kill-timeout", "soon"],
            "invalid value 'soon' for '--kill-timeout <TIME>': write a number and its unit, such as 250ms, 1.5s, 30s, 2m or 1h",
        ),
        (
            &["--status-interval", "9000h"],
            "invalid value '9000h' for '--status-interval <TIME>': it is longer than a year",
        ),
        (&["--max-restarts", "0"], "invalid value '0' for '--max-restarts <N>': it must be at least 1"),
        (
            &["--stop-signal", "SIGFOO"],
            "invalid value 'SIGFOO' for '--stop-signal <SIGNAL>': unknown signal `SIGFOO` (try SIGTERM or 15)",
        ),
        (&["--env", "FOO"], "invalid value 'FOO' for '--env <K=V>': it has no `=`: write FOO=value"),
        (
            &["--max-restrats", "3"],
            "unexpected argument '--max-restrats' found; tip: a similar argument exists: '--max-restarts'; tip: to pass '--max-restrats' as a value, use '-- --max-restrats'",
        ),
        (&["--cwd", "missing"], "cannot use --cwd missing: it does not exist; name an existing folder"),
        (&["--cwd", "notes.txt"], "cannot use --cwd notes.txt: it is not a folder; name an existing folder"),
    ];
    assert_refused(&folder, &cases);
    assert!(!folder.path().join("started").exists(), "nothing was started");
}

#[test]
fn strategies_that_cannot_be_had_are_named() {
    let folder = furnished();
    let cases: [(&[&str], &str); 8] = [
        (
            &["--strategy", "best"],
            "invalid value 'best' for '--strategy <S>': unknown strategy `best` (available: least-busy, round-robin, least-connections, weighted, random, sticky)",
        ),
        (
            &["--strategy", "sticky"],
            "strategy `sticky` needs distribution `kernel`, and this is `handoff`: choose `kernel`, or another strategy",
        ),
        (
            &["--weights", "3,-1"],
            "invalid value '3,-1' for '--weights <N,N>': a weight is a whole number from 0 to 1000000, not -1",
        ),
        (
            &["--weights", "3,1"],
            "weights have no effect with strategy `least-busy`: choose `weighted`, or leave them out",
        ),
        (
            &["--strategy", "weighted", "--weights", "0,0"],
            "all weights are 0: at least one must be 1 or more",
        ),
        (
            &["--strategy", "weighted", "--distribution", "shared"],
            "strategy `weighted` has no effect with distribution `shared`, where a connection is whose worker comes first: choose distribution `handoff` or `kernel`, or leave the strategy out",
        ),
        (
            &["--strategy", "least-connections", "--distribution", "shared"],
            "strategy `least-connections` has no effect with distribution `shared`, where a connection is whose worker comes first: choose distribution `handoff` or `kernel`, or leave the strategy out",
        ),
        (
            &["--strategy", "random", "--sockets", "none"],
            "strategy `random` needs workers that get their connections over the channel, and these bind their own sockets: leave the strategy out, or set sockets to `channel` where the program speaks Node's cluster protocol",
        ),
    ];
    assert_refused(&folder, &cases);
    assert!(!folder.path().join("started").exists(), "nothing was started");
}

fn assert_refused(folder: &Folder, cases: &[(&[&str], &str)]) {
    for (args, wanted) in cases {
        let args: Vec<&str> = ["run"].iter().chain(*args).chain(&["app.js"]).copied().collect();
        assert_eq!(refused(folder.path(), &args), *wanted);
    }
}

#[test]
fn what_cannot_be_run_is_named() {
    let folder = furnished();
    let here = folder.path().display().to_string();
    let refused = |args: &[&str]| refused(folder.path(), &[&["run"], args].concat());
    assert_eq!(refused(&[]), "the following required arguments were not provided: <SCRIPT>");
    assert!(
        refused(&["missing.js"]).starts_with(&format!("cannot run missing.js: no such file in {here}; "))
    );
    assert_eq!(
        refused(&["lib"]),
        "cannot run lib: it is a folder; name the file in it, such as lib/index.js"
    );
    assert_eq!(
        refused(&["/dev/null"]),
        "cannot run /dev/null: it is not a regular file; name a script or a program"
    );
    assert_eq!(
        refused(&["notes.txt"]),
        "cannot run notes.txt: it is not executable and no interpreter is known for it; name one with \
         --interpreter, or make it executable (chmod +x)"
    );
    assert_eq!(
        refused(&["--interpreter", "no-such-program", "app.js"]),
        "cannot run app.js: interpreter no-such-program is not on PATH; install it, or name another with \
         --interpreter"
    );
    assert_eq!(
        refused(&["--interpreter", "/no/such/node", "app.js"]),
        "cannot run app.js: interpreter /no/such/node does not exist; install it, or name another with \
         --interpreter"
    );
    // Nobody, not even root, executes what has no permission for it.
    let line = refused(&["--interpreter", "./notes.txt", "app.js"]);
    assert!(line.starts_with("cannot run app.js: interpreter ./notes.txt "), "{line}");
    assert!(!folder.path().join("started").exists(), "nothing was started");
}

#[test]
fn without_permission_nothing_starts() {
    if procs::is_root() {
        return println!("skipped: root has every permission");
    }
    let folder = furnished();
    let script = folder.path().join("app.js");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o000)).expect("it is ours");
    let node = places::node(places::DEFAULT_NODE).display().to_string();
    let line = refused(folder.path(), &["run", "--interpreter", &node, "app.js"]);
    assert_eq!(
        line,
        "cannot read app.js: permission denied; check the permissions of the file and of its folders"
    );
}

#[test]
fn an_unknown_command_is_a_mistake_and_help_is_none() {
    let folder = Folder::new();
    let line = refused(folder.path(), &["rnu", "app.js"]);
    assert!(line.starts_with("unrecognized subcommand 'rnu'"), "{line}");
    let nothing = oxherd(folder.path(), &[]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(nothing.stdout.is_empty() && !nothing.stderr.is_empty());

    let help = oxherd(folder.path(), &["run", "--help"]);
    let text = String::from_utf8(help.stdout).expect("it is text");
    assert!(help.status.success() && help.stderr.is_empty());
    let codes = text.split("Exit codes:\n").nth(1).expect("they are listed");
    let codes: Vec<&str> = codes.lines().map_while(|line| line.strip_prefix("  ")?.get(..1)).collect();
    assert_eq!(codes, ["0", "1", "2", "3"]);
    let version = oxherd(folder.path(), &["--version"]);
    assert!(version.status.success() && version.stdout.starts_with(b"oxherd "));
}

/// A program that passes the checks and still cannot be executed: found out by the first attempt.
#[test]
fn what_the_kernel_does_not_execute_is_named_after_one_attempt() {
    let folder = Folder::new();
    let script = folder.write("app.js", "");
    let broken = folder.write("node", "\x7fELF is not all that it takes\n");
    std::fs::set_permissions(&broken, PermissionsExt::from_mode(0o755)).expect("it is ours");
    let lines = Herd::run(["-i", "2", "--interpreter"], script).args([&broken]).start().wait_code(2);
    let errors: Vec<&str> =
        lines.iter().filter(|line| line.is_error).map(|line| line.text.as_str()).collect();
    let last = errors.last().expect("it says so");
    assert!(
        last.starts_with("Gave up on 2 slots, no worker is left: slot 0: ") && last.contains("node"),
        "{last}"
    );
    assert!(!lines.iter().any(|line| line.text.contains("respawn")), "{errors:?}");
}

/// The port of somebody else: the worker hears of it as under Node's own primary, and the slot gives up in the end.
#[test]
fn a_port_in_use_ends_with_giving_up() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = other.local_addr().expect("it is bound").port();
    let args = ["--max-restarts", "2", "--restart-delay", "10ms"];
    let lines = Herd::of("app.js").workers(2).args(args).env("PORT", port.to_string()).start().wait_code(3);
    let told = |text: &str| lines.iter().filter(|line| line.is_error && line.text.contains(text)).count();
    let address = format!("Cannot listen on 127.0.0.1:{port}: ");
    assert!(told(&address) > 0, "the primary says why");
    assert!(told("EADDRINUSE") > 0, "Node says why");
    assert_eq!(told("gives up"), 2);
}
