//! What a started process is given, and what it is not.
#![allow(clippy::unwrap_used)]

mod common;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{
    Folder, am_helper, exit_of, helper, open_fds, program, read_all, read_line, shell, wait_readable,
};
use oxherd_os::{
    CgroupChoice, ExitStatus, Host, HostOptions, Identity, Input, Output, SpawnError, SpawnSpec,
};
use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

fn host() -> Host {
    Host::new(HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() }).unwrap()
}

fn stdout_of(mut spec: SpawnSpec) -> String {
    let mut host = host();
    spec.stdout = Output::Pipe;
    let mut spawned = host.spawn(&spec).unwrap();
    let text = read_all(spawned.stdout.take().unwrap());
    assert_eq!(exit_of(&mut host, &mut spawned.child), ExitStatus::Code(0));
    text
}

/// Writes an executable by another process: were it open for writing here, a child of a parallel test would
/// hold it open too for a moment, and it could not be executed ("text file busy").
fn write_file(path: &Path, content: &str, mode: u32) {
    let mut shell = std::process::Command::new("/bin/sh");
    assert!(
        shell.args(["-c", "printf %s \"$1\" > \"$0\""]).arg(path).arg(content).status().unwrap().success()
    );
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn failure_of(spec: &SpawnSpec) -> SpawnError {
    let mut host = host();
    let error = host.spawn(spec).expect_err("must not start");
    assert_eq!(host.living(), 0);
    error
}

#[test]
fn only_the_intended_descriptors_are_open() {
    let mut host = host();
    let open = |_| rustix::fs::open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let crowd: Vec<_> = (0..50).map(open).collect();
    // As if it had been inherited from whoever started the primary.
    rustix::io::fcntl_setfd(&crowd[25], rustix::io::FdFlags::empty()).unwrap();
    for (channel, expected) in [(true, vec![0, 1, 2, 3]), (false, vec![0, 1, 2])] {
        // While it is loaded a program has its libraries open; the line tells that this is over.
        let mut spec = shell("echo ready; kill -STOP $$");
        spec.channel = channel;
        (spec.stdout, spec.stderr) = (Output::Pipe, Output::Null);
        let mut spawned = host.spawn(&spec).unwrap();
        assert_eq!(read_line(spawned.stdout.as_ref().unwrap()), "ready");
        assert_eq!(open_fds(spawned.child.pid), expected);
        host.kill_tree(&spawned.child).unwrap();
        let killed = ExitStatus::Signal { signal: libc::SIGKILL, core_dumped: false };
        assert_eq!(exit_of(&mut host, &mut spawned.child), killed);
        assert_eq!(host.try_wait(&mut spawned.child).unwrap(), Some(killed));
    }
}

#[test]
fn both_ends_of_a_channel_are_as_node_expects() {
    let mut host = host();
    let mut spec = program("sleep", &["600"]);
    spec.channel = true;
    let mut spawned = host.spawn(&spec).unwrap();
    let ends = spawned.channel.take().unwrap();
    let blocking = |fd: &dyn AsFd| !rustix::fs::fcntl_getfl(fd.as_fd()).unwrap().contains(OFlags::NONBLOCK);
    assert!(!blocking(&ends.primary), "the primary must never block");
    assert!(blocking(&ends.worker), "the worker chooses for itself");
    for end in [&ends.primary, &ends.worker] {
        assert!(rustix::io::fcntl_getfd(end).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        assert!(sockopt::socket_send_buffer_size(end).unwrap() >= 212_992);
    }
    let its_end = std::fs::read_link(format!("/proc/{}/fd/3", spawned.child.pid)).unwrap();
    assert!(its_end.to_str().unwrap().starts_with("socket:"));
    host.signal(&spawned.child, libc::SIGKILL).unwrap();
    exit_of(&mut host, &mut spawned.child);
}

#[test]
fn a_worker_speaks_over_descriptor_3() {
    let mut host = host();
    let mut spec = shell("read line <&3; echo \"got $line\" >&3");
    spec.channel = true;
    let mut spawned = host.spawn(&spec).unwrap();
    let ends = spawned.channel.take().unwrap();
    drop(ends.worker);
    rustix::io::write(&ends.primary, b"hello\n").unwrap();
    assert_eq!(read_all(ends.primary), "got hello\n");
    assert_eq!(exit_of(&mut host, &mut spawned.child), ExitStatus::Code(0));
}

#[test]
fn signals_are_unblocked_and_default() {
    // Rust programs ignore SIGPIPE; the mask is the Host's whole set.
    let status = stdout_of(program("cat", &["/proc/self/status"]));
    for field in ["SigBlk:", "SigIgn:", "SigCgt:"] {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
}

#[test]
fn it_leads_its_own_process_group() {
    let mut host = host();
    let mut spawned = host.spawn(&program("sleep", &["600"])).unwrap();
    let pid = Pid::from_raw(spawned.child.pid as i32);
    assert_eq!(rustix::process::getpgid(pid).unwrap(), pid.unwrap());
    host.signal_group(&spawned.child, libc::SIGTERM).unwrap();
    let ended = exit_of(&mut host, &mut spawned.child);
    assert_eq!(ended, ExitStatus::Signal { signal: libc::SIGTERM, core_dumped: false });
    assert!(host.signal(&spawned.child, libc::SIGTERM).is_err());
}

#[test]
fn the_environment_is_exactly_the_specs() {
    let mut spec = program("env", &[]);
    spec.label = "app:0:1".into();
    spec.env.push(("A".into(), "1".into()));
    spec.env.push(("A".into(), "2 3".into()));
    spec.env.push(("OXHERD_INSTANCE".into(), "forged".into()));
    assert_eq!(stdout_of(spec), "PATH=/usr/local/bin:/usr/bin:/bin\nA=2 3\nOXHERD_INSTANCE=app:0:1\n");
}

#[test]
fn working_directory_and_relative_programs() {
    let folder = Folder::new();
    let script = folder.path().join("here");
    write_file(&script, "#!/bin/sh\npwd\n", 0o755);
    let mut spec = program("./here", &[]);
    spec.cwd = Some(folder.path().to_owned());
    assert_eq!(stdout_of(spec.clone()).trim(), folder.path().canonicalize().unwrap().to_str().unwrap());
    spec.cwd = None;
    spec.program = "here".into();
    assert!(matches!(failure_of(&spec), SpawnError::NotFound { .. }));
    spec.env = vec![("PATH".into(), folder.path().into())];
    let mut host = host();
    spec.stdout = Output::Null;
    let mut spawned = host.spawn(&spec).unwrap();
    assert_eq!(exit_of(&mut host, &mut spawned.child), ExitStatus::Code(0));
}

#[test]
fn descriptor_limit_is_handed_down() {
    let mut spec = shell("ulimit -Sn");
    spec.nofile_soft = Some(77);
    assert_eq!(stdout_of(spec), "77\n");
}

#[test]
fn failures_name_the_culprit() {
    let folder = Folder::new();
    let file = |name: &str, content: &str, mode| {
        let path = folder.path().join(name);
        write_file(&path, content, mode);
        program(path.to_str().unwrap(), &[])
    };
    let missing = failure_of(&program("no-such-program", &[]));
    assert!(matches!(&missing, SpawnError::NotFound { program } if program == "no-such-program"));
    assert!(matches!(failure_of(&program("/no/such/program", &[])), SpawnError::NotFound { .. }));
    assert!(matches!(failure_of(&program("", &[])), SpawnError::NotFound { .. }));
    let mut elsewhere = shell("true");
    elsewhere.cwd = Some("/no/such/folder".into());
    let error = failure_of(&elsewhere);
    assert!(matches!(&error, SpawnError::BadCwd { path, .. } if path.as_os_str() == "/no/such/folder"));
    assert!(error.to_string().contains("/no/such/folder"), "{error}");
    let plain = file("plain", "#!/bin/sh\n", 0o644);
    assert!(
        matches!(failure_of(&plain), SpawnError::PermissionDenied { path } if path.as_os_str() == plain.program)
    );
    let orphan = file("orphan", "#!/no/such/interpreter\n", 0o755);
    assert!(
        matches!(failure_of(&orphan), SpawnError::InterpreterMissing { path } if path.as_os_str() == orphan.program)
    );
    assert!(matches!(failure_of(&file("junk", "\x01\x02", 0o755)), SpawnError::NotAProgram { .. }));
    let zero = program("sh", &["a\0b"]);
    assert!(matches!(failure_of(&zero), SpawnError::ZeroByte { .. }));
}

#[test]
fn exits_by_code_and_by_signal() {
    let mut host = host();
    for (script, expected) in [
        ("exit 0", ExitStatus::Code(0)),
        ("exit 143", ExitStatus::Code(143)),
        ("kill -TERM $$", ExitStatus::Signal { signal: libc::SIGTERM, core_dumped: false }),
        ("kill -KILL $$", ExitStatus::Signal { signal: libc::SIGKILL, core_dumped: false }),
    ] {
        let mut spawned = host.spawn(&shell(script)).unwrap();
        assert_eq!(exit_of(&mut host, &mut spawned.child), expected, "{script}");
    }
    let mut running = host.spawn(&program("sleep", &["600"])).unwrap();
    assert_eq!(host.try_wait(&mut running.child).unwrap(), None);
    host.signal(&running.child, libc::SIGKILL).unwrap();
    exit_of(&mut host, &mut running.child);
}

#[test]
fn specs_survive_serialisation() {
    let mut spec = program("x", &["a"]);
    spec.args.push(OsString::from_vec(vec![0xff, 0x00, b'z']));
    spec.cwd = Some(OsString::from_vec(vec![b'/', 0xfe]).into());
    spec.nofile_soft = Some(9);
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<SpawnSpec>(&text).unwrap(), spec);
}

#[test]
fn a_worker_dies_with_the_process_that_started_it() {
    let mut host = host();
    let mut spec = helper("helper_that_spawns");
    spec.stdout = Output::Pipe;
    let mut primary = host.spawn(&spec).unwrap();
    let output = primary.stdout.take().unwrap();
    let line = std::iter::repeat_with(|| read_line(&output)).find(|line| line.contains("worker=")).unwrap();
    let pid = line.rsplit('=').next().unwrap().parse().ok().and_then(Pid::from_raw).unwrap();
    let worker = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    assert!(!common::is_readable(&worker));
    host.signal(&primary.child, libc::SIGKILL).unwrap();
    wait_readable(&worker);
    exit_of(&mut host, &mut primary.child);
}

#[test]
fn helper_that_spawns() {
    if !am_helper("helper_that_spawns") {
        return;
    }
    let mut host = host();
    let spawned = host.spawn(&program("sleep", &["600"])).unwrap();
    println!("worker={}", spawned.child.pid);
    wait_readable(&spawned.child);
}

#[test]
fn a_process_is_told_that_what_it_is_handed_is_meant_for_it() {
    let mut spec = shell("echo $LISTEN_PID $$");
    spec.env.push(("LISTEN_PID".into(), "1".into()));
    spec.listen_pid = true;
    let text = stdout_of(spec);
    let (told, own) = text.trim().split_once(' ').unwrap();
    assert_eq!(told, own);
}

#[test]
fn a_pipe_for_input_is_read_line_by_line_and_waits_for_more() {
    let mut host = host();
    let mut spec = shell("read one; echo got $one; read two; echo and $two");
    (spec.stdin, spec.stdout) = (Input::Pipe, Output::Pipe);
    let mut spawned = host.spawn(&spec).unwrap();
    let mut input = std::fs::File::from(spawned.stdin.take().unwrap());
    input.write_all(b"first\n").unwrap();
    let output = spawned.stdout.take().unwrap();
    assert_eq!(read_line(&output), "got first");
    assert_eq!(host.try_wait(&mut spawned.child).unwrap(), None, "it waits for more");
    drop(input);
    assert_eq!(read_all(output), "and\n");
    exit_of(&mut host, &mut spawned.child);
}

#[test]
fn a_process_runs_as_another_user_where_root_says_so() {
    let mut spec = shell("id -u; id -g; id -G; echo x > /dev/stderr && echo can open its output");
    spec.owner = Some(Identity { uid: 4321, gid: 4322, groups: vec![4323, 4324] });
    spec.stderr = Output::Pipe;
    if !rustix::process::geteuid().is_root() {
        let refused = host().spawn(&spec).unwrap_err().to_string();
        assert!(refused.contains("as user 4321") && refused.contains("only root"), "{refused}");
        return;
    }
    assert_eq!(stdout_of(spec), "4321\n4322\n4322 4323 4324\ncan open its output\n");
}
