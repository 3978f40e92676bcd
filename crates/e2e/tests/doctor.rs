//! What `oxherd doctor` says, and that it says what is so.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use oxherd_e2e::places::{self, Folder};

fn run(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", "60"]).arg(places::oxherd()).args(args);
    command.current_dir(folder).env("PWD", folder).stdin(Stdio::null()).output().expect("it starts")
}

/// The exit code and what was printed.
fn doctor(folder: &Path, program: &[&str]) -> (i32, String) {
    let args: Vec<&str> = ["doctor", "--"].into_iter().chain(program.iter().copied()).collect();
    let output = run(folder, &args);
    let text = String::from_utf8(output.stdout).expect("it is text");
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().expect("it ends by itself"), text)
}

#[test]
fn the_machine_is_looked_at() {
    let folder = Folder::new();
    let output = run(folder.path(), &["doctor"]);
    let text = String::from_utf8(output.stdout).expect("it is text");
    println!("{text}");
    for check in
        ["trap calls", "read memory", "copy sockets", "lend a socket", "steering", "io_uring", "cgroups"]
    {
        let line = text.lines().find(|line| line.trim_start().starts_with(check)).expect("it is tried");
        let result = line.trim_start().trim_start_matches(check).split_whitespace().next();
        assert!(matches!(result, Some("yes" | "mind" | "no")), "{line}");
    }
    let can = text.contains("Any program that binds a port");
    assert_eq!(output.status.code(), Some(if can { 0 } else { 1 }));
    assert_ne!(can, text.contains("--sockets listen-fds --listen"), "{text}");
    assert!(output.stderr.is_empty());
}

#[test]
fn programs_are_told_their_way() {
    let folder = Folder::new();
    folder.write("app.js", "");
    folder.write("app.py", "");
    let (code, text) = doctor(folder.path(), &["app.js"]);
    assert!(code == 0 && text.contains("--sockets channel"), "{text}");
    let (general, _) = doctor(folder.path(), &[]);
    for program in [&["app.py"][..], &["python3", "-m", "http.server"]] {
        let (code, text) = doctor(folder.path(), program);
        assert!(code == general && text.contains("--sockets universal"), "{text}");
        assert!(text.contains("/python3"), "{text}");
    }
}

#[test]
fn a_program_of_another_machine_is_told_what_is_left() {
    let folder = Folder::new();
    // The head of a program for 32-bit machines.
    let script =
        "printf '\\177ELF\\001\\001\\001\\0\\0\\0\\0\\0\\0\\0\\0\\0\\002\\0\\003\\0' > old && chmod 755 old";
    let made = Command::new("/bin/sh").args(["-c", script]).current_dir(folder.path()).status();
    assert!(made.expect("it starts").success());
    let (code, text) = doctor(folder.path(), &["./old"]);
    assert_eq!(code, 1);
    assert!(text.contains("built for another machine, or for 32 bits"), "{text}");
    assert!(text.contains("1. --sockets listen-fds") && text.contains("2. --sockets none"), "{text}");
}

#[test]
fn what_is_not_there_is_a_mistake() {
    let folder = Folder::new();
    let output = run(folder.path(), &["doctor", "--", "./missing"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).expect("it is text");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("cannot run ./missing: no such file"), "{stderr}");
    assert!(output.stdout.is_empty());
}

#[test]
fn within_a_herd_the_reason_is_told() {
    let folder = Folder::new();
    let (code, _) = doctor(folder.path(), &[]);
    if code != 0 {
        println!("skipped: sockets cannot be lent here anyway");
        return;
    }
    let oxherd = places::oxherd();
    folder.write("ask.sh", &format!("exec {} doctor\n", oxherd.display()));
    let args = ["run", "-i", "1", "--restart", "never", "--sockets", "universal", "ask.sh"];
    let output = run(folder.path(), &args);
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("trapped already") && text.contains("start Oxherd outside of it"), "{text}");
    assert!(text.contains("1. --sockets listen-fds"), "{text}");
}
