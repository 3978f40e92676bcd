//! Signals through a signalfd, and terminals that vanish.
//!
//! Without the usual test harness: the mask must be set before there is any other thread.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::fd::AsFd;

use common::{am_helper, exit_of, program, read_all, wait_readable};
use oxherd_os::signals::Received;
use oxherd_os::{CgroupChoice, ExitStatus, Host, HostOptions, Output, Signals, TerminalWatch};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, getpid, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const BLOCKED: [i32; 5] = [libc::SIGHUP, libc::SIGTERM, libc::SIGCHLD, libc::SIGTTIN, libc::SIGTTOU];

fn main() {
    if am_helper("") || std::env::args().any(|arg| arg == "--list") {
        return;
    }
    let signals = Signals::block(&BLOCKED).unwrap();
    sent_signals_are_read(&signals);
    other_threads_inherit_the_mask(&signals);
    exits_come_from_the_kernel(&signals);
    children_get_a_clean_mask();
    terminals_vanish();
    assert!(Signals::block(&[0]).is_err());
    println!("test signals ... ok");
}

fn sent_signals_are_read(signals: &Signals) {
    assert_eq!(signals.next().unwrap(), None);
    for signal in [Signal::HUP, Signal::HUP, Signal::TTIN, Signal::TTOU] {
        kill_process(getpid(), signal).unwrap();
    }
    wait_readable(signals);
    let sender_pid = std::process::id();
    for signal in [libc::SIGHUP, libc::SIGTTIN, libc::SIGTTOU] {
        let expected = Received { signal, sender_pid, from_kernel: false };
        assert_eq!(signals.next().unwrap(), Some(expected), "equal ones are one");
    }
    assert_eq!(signals.next().unwrap(), None);
}

fn other_threads_inherit_the_mask(signals: &Signals) {
    let thread = std::thread::spawn(|| kill_process(getpid(), Signal::TERM).unwrap());
    thread.join().unwrap();
    assert_eq!(signals.next().unwrap().map(|received| received.signal), Some(libc::SIGTERM));
}

fn exits_come_from_the_kernel(signals: &Signals) {
    let mut host = host();
    let mut spawned = host.spawn(&program("true", &[])).unwrap();
    wait_readable(signals);
    let expected = Received { signal: libc::SIGCHLD, sender_pid: spawned.child.pid, from_kernel: true };
    assert_eq!(signals.next().unwrap(), Some(expected));
    assert_eq!(exit_of(&mut host, &mut spawned.child), ExitStatus::Code(0));
}

fn children_get_a_clean_mask() {
    let mut host = host();
    let mut spec = program("cat", &["/proc/self/status"]);
    spec.stdout = Output::Pipe;
    let mut spawned = host.spawn(&spec).unwrap();
    let status = read_all(spawned.stdout.take().unwrap());
    assert!(status.contains("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"), "{status}");
    exit_of(&mut host, &mut spawned.child);
    // And our own is as it was.
    let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let mask = BLOCKED.iter().fold(0_u64, |mask, signal| mask | 1 << (signal - 1));
    assert!(own.contains(&format!("SigBlk:\t{mask:016x}\n")), "{own}");
}

fn terminals_vanish() {
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(!TerminalWatch::over(&[file.as_fd()]).had_terminal());
    assert!(!TerminalWatch::over(&[]).is_gone());

    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let keyboard_side = openpt(flags).unwrap();
    grantpt(&keyboard_side).unwrap();
    unlockpt(&keyboard_side).unwrap();
    let name = ptsname(&keyboard_side, Vec::new()).unwrap();
    let terminal =
        rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let watch = TerminalWatch::over(&[file.as_fd(), terminal.as_fd()]);
    drop(terminal);
    assert!(watch.had_terminal() && !watch.is_gone());
    drop(keyboard_side);
    assert!(watch.is_gone());
}

fn host() -> Host {
    Host::new(HostOptions { cgroups: CgroupChoice::Off, ..HostOptions::default() }).unwrap()
}
