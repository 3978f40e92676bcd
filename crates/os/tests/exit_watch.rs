//! Processes held at their exit, and tracing that does not show.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};

use common::{am_helper, eventually, exit_of, helper, open_fds, read_line, shell, unique, wait_readable};
use oxherd_os::{
    CgroupChoice, Child, ExitStatus, ExitWatch, Host, HostOptions, Output, SpawnSpec, Spawned, Watched,
    reexec,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

fn host() -> Host {
    Host::new(HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() }).unwrap()
}

/// Starts a program and waits until it says that it is ready.
fn start(host: &mut Host, mut spec: SpawnSpec) -> Spawned {
    (spec.stdout, spec.channel) = (Output::Pipe, true);
    let spawned = host.spawn(&spec).unwrap();
    while !read_line(spawned.stdout.as_ref().unwrap()).contains("ready") {}
    spawned
}

/// Watches a process, or says why this system does not allow it.
fn watch(pid: u32, pidfd: impl AsFd) -> Option<ExitWatch> {
    match ExitWatch::seize(pid, pidfd) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            println!("skipped: tracing is not allowed here: {error}");
            None
        }
        watch => Some(watch.unwrap()),
    }
}

fn until(watch: &mut ExitWatch, wanted: Watched) {
    eventually(&format!("{wanted:?}"), || (watch.poll().unwrap() == wanted).then_some(()));
}

fn status_field(pid: u32, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

/// Ends as it is told by its environment, from a thread that is not its leader.
#[test]
fn helper_that_ends() {
    if !am_helper("helper_that_ends") {
        return;
    }
    let channel = reexec::inherit(3).unwrap();
    // These are still in the kernel when the process is told to end.
    for _thread in 0..8 {
        let channel = channel.try_clone().unwrap();
        std::thread::spawn(move || wait_readable(&channel));
    }
    println!("ready");
    wait_readable(&channel);
    match std::env::var("END").unwrap().as_str() {
        "abort" => std::process::abort(),
        "exec" => panic!(
            "{}",
            reexec::exec(
                "/bin/sh".as_ref(),
                &["-c", "echo again; read a <&3; read b <&3"],
                &[channel.as_fd()]
            )
        ),
        code => std::process::exit(code.parse().unwrap()),
    }
}

fn ending(how: &str) -> SpawnSpec {
    let mut spec = helper("helper_that_ends");
    spec.env.push(("END".into(), how.into()));
    // Neither a stack trace nor a core dump for an end on purpose.
    spec.stderr = Output::Null;
    spec
}

#[test]
fn every_end_is_seen_with_all_descriptors_open() {
    let killed = |signal| ExitStatus::Signal { signal, core_dumped: false };
    let by_itself = "echo ready; ulimit -c 0; read line <&3 || true;";
    let cases = [
        (shell(&format!("{by_itself} exit 3")), ExitStatus::Code(3)),
        (shell(&format!("{by_itself} kill -KILL $$")), killed(libc::SIGKILL)),
        (shell(&format!("{by_itself} kill -SEGV $$")), killed(libc::SIGSEGV)),
        (ending("7"), ExitStatus::Code(7)),
        (ending("abort"), killed(libc::SIGABRT)),
    ];
    for (spec, expected) in cases {
        let mut host = host();
        let mut spawned = start(&mut host, spec);
        let pid = spawned.child.pid;
        let Some(mut watch) = watch(pid, &spawned.child) else { return };
        assert_eq!(watch.poll().unwrap(), Watched::Nothing);
        let before = [0, 1, 2, 3];
        spawned.channel = None;
        until(&mut watch, Watched::AtExit);
        assert_eq!(std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count(), 1);
        assert!(before.iter().all(|fd| open_fds(pid).contains(fd)), "{expected:?}");
        assert_eq!(host.try_wait(&mut spawned.child).unwrap(), None);
        assert_eq!(watch.poll().unwrap(), Watched::AtExit, "asking again gives the same answer");
        watch.release().unwrap();
        eventually("the end", || matches!(watch.poll().unwrap(), Watched::Ended(_)).then_some(()));
        let Watched::Ended(status) = watch.poll().unwrap() else { panic!("it has ended") };
        assert_eq!(without_dump(status), expected);
        host.note_exit(&mut spawned.child, status);
        assert_eq!((host.try_wait(&mut spawned.child).unwrap(), host.living()), (Some(status), 0));
    }
}

/// Whether the helper's abort leaves a dump is up to the machine.
fn without_dump(status: ExitStatus) -> ExitStatus {
    match status {
        ExitStatus::Signal { signal, .. } => ExitStatus::Signal { signal, core_dumped: false },
        ExitStatus::Code(_) => status,
    }
}

#[test]
fn a_killed_process_is_held_and_a_second_kill_changes_nothing() {
    let mut host = host();
    let mut spawned = start(&mut host, shell("echo ready; read line <&3"));
    let Some(mut watch) = watch(spawned.child.pid, &spawned.child) else { return };
    host.signal(&spawned.child, libc::SIGKILL).unwrap();
    until(&mut watch, Watched::AtExit);
    host.signal(&spawned.child, libc::SIGKILL).unwrap();
    let killed = ExitStatus::Signal { signal: libc::SIGKILL, core_dumped: false };
    match watch.poll().unwrap() {
        Watched::AtExit => assert!(!common::is_readable(&spawned.child)),
        // Before Linux 5.17.
        ended => assert_eq!(ended, Watched::Ended(killed)),
    }
    watch.release().unwrap();
    until(&mut watch, Watched::Ended(killed));
    host.note_exit(&mut spawned.child, killed);
}

#[test]
fn the_host_may_take_the_exit_instead() {
    let mut host = host();
    let mut spawned = start(&mut host, shell("echo ready; read line <&3; exit 5"));
    let Some(mut watch) = watch(spawned.child.pid, &spawned.child) else { return };
    spawned.channel = None;
    until(&mut watch, Watched::AtExit);
    watch.release().unwrap();
    assert_eq!(exit_of(&mut host, &mut spawned.child), ExitStatus::Code(5));
    match watch.poll() {
        Ok(watched) => assert_eq!(watched, Watched::Ended(ExitStatus::Code(5))),
        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "kernels before 6.15"),
    }
}

#[test]
fn signals_stop_continue_and_reach_the_process_as_ever() {
    let mut host = host();
    let script = "trap 'echo got-term' TERM; trap 'echo got-hup; exit 4' HUP; echo ready; while :; do sleep 0.01; done";
    let mut spawned = start(&mut host, shell(script));
    let pid = spawned.child.pid;
    let Some(mut watch) = watch(pid, &spawned.child) else { return };
    let state_becomes = |watch: &mut ExitWatch, wanted: &[&str]| {
        eventually("the state", || {
            assert_eq!(watch.poll().unwrap(), Watched::Nothing);
            wanted.contains(&status_field(pid, "State:").as_str()).then_some(())
        });
    };
    let output = spawned.stdout.take().unwrap();
    let hear = |watch: &mut ExitWatch| {
        eventually("a line", || {
            let _goes_on = watch.poll().unwrap();
            common::is_readable(&output).then(|| read_line(&output))
        })
    };
    for _round in 0..3 {
        host.signal(&spawned.child, libc::SIGTERM).unwrap();
        assert_eq!(hear(&mut watch), "got-term");
        // A stop that is listened to shows as "t" too, but nothing runs.
        host.signal(&spawned.child, libc::SIGSTOP).unwrap();
        state_becomes(&mut watch, &["T", "t"]);
        host.signal(&spawned.child, libc::SIGTERM).unwrap();
        host.signal(&spawned.child, libc::SIGCONT).unwrap();
        assert_eq!(hear(&mut watch), "got-term");
        state_becomes(&mut watch, &["S", "R"]);
    }
    host.signal(&spawned.child, libc::SIGHUP).unwrap();
    until(&mut watch, Watched::AtExit);
    drop(watch);
    assert_eq!(exit_of(&mut host, &mut spawned.child), ExitStatus::Code(4));
}

#[test]
fn a_stopped_process_stays_stopped_and_can_be_let_go() {
    let mut host = host();
    let mut spawned = start(&mut host, shell("echo ready; read line <&3; exit 6"));
    let pid = spawned.child.pid;
    let Some(mut watch) = watch(pid, &spawned.child) else { return };
    host.signal(&spawned.child, libc::SIGSTOP).unwrap();
    eventually("the stop", || {
        watch.poll().unwrap();
        ["T", "t"].contains(&status_field(pid, "State:").as_str()).then_some(())
    });
    watch.poll().unwrap();
    drop(watch);
    assert_eq!(status_field(pid, "TracerPid:"), "0");
    eventually("a plain stop", || (status_field(pid, "State:") == "T").then_some(()));
    spawned.channel = None;
    host.signal(&spawned.child, libc::SIGCONT).unwrap();
    assert_eq!(exit_of(&mut host, &mut spawned.child), ExitStatus::Code(6));
}

#[test]
fn dropping_a_watch_lets_a_running_process_go() {
    let mut host = host();
    let mut spawned = start(&mut host, shell("echo ready; read line <&3; exit 8"));
    let pid = spawned.child.pid;
    let Some(first) = watch(pid, &spawned.child) else { return };
    assert_ne!(status_field(pid, "TracerPid:"), "0");
    let again = watch(pid, &spawned.child).unwrap();
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| ExitWatch::seize(pid, &spawned.child).map(drop).unwrap_err().kind());
        assert_eq!(refused.join().unwrap(), ErrorKind::PermissionDenied, "one tracer at a time");
    });
    drop(again);
    assert_eq!(status_field(pid, "TracerPid:"), "0");
    drop(first);
    spawned.channel = None;
    assert_eq!(exit_of(&mut host, &mut spawned.child), ExitStatus::Code(8));
    let error = ExitWatch::seize(pid, &spawned.child).unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EPERM)), "{error}");
}

#[test]
fn a_process_that_waits_at_its_exit_is_found_again() {
    let mut host = host();
    let mut spawned = start(&mut host, shell("echo ready; read line <&3; exit 9"));
    let Some(mut before) = watch(spawned.child.pid, &spawned.child) else { return };
    spawned.channel = None;
    until(&mut before, Watched::AtExit);
    // As after an exec of this program.
    std::mem::forget(before);
    let mut after = watch(spawned.child.pid, &spawned.child).unwrap();
    assert_eq!(after.poll().unwrap(), Watched::AtExit);
    after.release().unwrap();
    until(&mut after, Watched::Ended(ExitStatus::Code(9)));
    host.note_exit(&mut spawned.child, ExitStatus::Code(9));
}

#[test]
fn another_program_in_another_thread_is_lost_and_found() {
    let mut host = host();
    let mut spawned = start(&mut host, ending("exec"));
    let pid = spawned.child.pid;
    let Some(mut first) = watch(pid, &spawned.child) else { return };
    let channel = spawned.channel.take().unwrap();
    rustix::io::write(&channel.primary, b"go on\n").unwrap();
    until(&mut first, Watched::Lost);
    assert_eq!(read_line(spawned.stdout.as_ref().unwrap()), "again");
    drop(first);
    let mut second = watch(pid, &spawned.child).unwrap();
    host.signal(&spawned.child, libc::SIGKILL).unwrap();
    until(&mut second, Watched::AtExit);
    drop(second);
    exit_of(&mut host, &mut spawned.child);
}

/// Starts a process, and takes its exit when that is there.
#[test]
fn helper_that_has_a_child() {
    if !am_helper("helper_that_has_a_child") {
        return;
    }
    let mut keeper = host();
    let mut spec = shell("read line <&3; exit 11");
    (spec.label, spec.channel) = (std::env::var("LABEL").unwrap(), true);
    let mut spawned = keeper.spawn(&spec).unwrap();
    println!("ready={}", spawned.child.pid);
    let channel = reexec::inherit(3).unwrap();
    wait_readable(&channel);
    spawned.channel = None;
    wait_readable(&spawned.child);
    // The tracer learns of it first.
    let exit = eventually("the exit", || keeper.try_wait(&mut spawned.child).unwrap());
    println!("exit={exit:?}");
}

#[test]
fn somebody_elses_child_is_watched_and_left_to_its_parent() {
    let mut host = host();
    let label = unique("grandchild");
    let mut spec = helper("helper_that_has_a_child");
    spec.env.push(("LABEL".into(), label.clone().into()));
    (spec.stdout, spec.channel) = (Output::Pipe, true);
    let mut parent = host.spawn(&spec).unwrap();
    let output = parent.stdout.take().unwrap();
    let hear = |what: &str| {
        let line = std::iter::repeat_with(|| read_line(&output)).find(|line| line.contains(what)).unwrap();
        line.rsplit('=').next().unwrap().to_owned()
    };
    let pid: u32 = hear("ready=").parse().unwrap();
    let pidfd: OwnedFd = pidfd_open(Pid::from_raw(pid as i32).unwrap(), PidfdFlags::empty()).unwrap();
    let Some(mut watch) = watch(pid, &pidfd) else {
        parent.channel = None;
        exit_of(&mut host, &mut parent.child);
        return;
    };
    let mut adopted = Child::adopt(pid, pidfd, &label);
    parent.channel = None;
    until(&mut watch, Watched::AtExit);
    host.kill_tree(&adopted).unwrap();
    assert_eq!(host.dying(), 1);
    // Neither wait may take the stop.
    assert_eq!(host.try_wait(&mut adopted).unwrap(), None);
    assert_eq!(host.reap_strangers().unwrap(), 0);
    watch.release().unwrap();
    until(&mut watch, Watched::Ended(ExitStatus::Code(11)));
    assert_eq!(hear("exit="), "Code(11)");
    exit_of(&mut host, &mut parent.child);
}

#[test]
fn naming_a_tracer_is_no_error_where_it_means_nothing() {
    oxherd_os::exit_watch::allow_tracer(std::process::id()).unwrap();
}
