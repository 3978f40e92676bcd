//! Every notice and every alert, as people read them.

use oxherd_engine::core::{
    AppId, ChangeId, ChangeOutcome, Exit, Generation, InstanceId, Signal, Slot, SpawnFailure,
};

use super::*;
use crate::console::frame::{Frame, Weight};

const APP: AppId = AppId(0);

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

fn place(generation: u32) -> Place {
    let instance = InstanceId { starts: 0, number: 3 };
    Place { app: APP, slot: Slot(2), generation: Generation(generation), instance }
}

fn failure() -> SpawnFailure {
    SpawnFailure { message: "cannot execute /usr/bin/node: permission denied".into(), lasting: true }
}

fn of_workers() -> Vec<Notice> {
    let (place, later) = (place(1), place(2));
    let listening = |address: &str| Notice::Listening { place, address: address.into() };
    let exited = |exit, wanted| Notice::Exited { place, exit, uptime: ms(3200), wanted };
    vec![
        Notice::Forked { place },
        Notice::Forked { place: later },
        Notice::SpawnFailed { place, cause: failure() },
        Notice::Online { place },
        listening("127.0.0.1:3000"),
        listening("[::]:3000"),
        listening("udp [::]:53"),
        listening("/run/app.sock"),
        Notice::Ready { place, after: ms(240) },
        Notice::NotReady { place, after: ms(30_000) },
        Notice::Terminating { place, signal: Signal::TERM },
        Notice::Killing { place },
        Notice::Unkillable { place },
        exited(Exit::Code(0), false),
        exited(Exit::Code(1), false),
        exited(Exit::Signal(Signal::KILL), false),
        exited(Exit::Signal(Signal::TERM), true),
        exited(Exit::Unknown, false),
        Notice::ErrorReported { place, error: "\nError: no database\n    at main.js:3".into() },
        Notice::ErrorReported { place, error: String::new() },
        Notice::Stalled { place },
        Notice::Resumed { place },
        Notice::Misbehaved { place, what: "a message that is not JSON: \x1b[2J".into() },
        Notice::Adopted { place },
        Notice::Parked { place, standby: true },
        Notice::Parked { place, standby: false },
        Notice::Promoted { place },
        Notice::StandbyRespawn { app: APP, slot: Slot(2), delay: ms(200) },
        Notice::StandbyRespawn { app: APP, slot: Slot(2), delay: Span::ZERO },
    ]
}

fn of_leaving() -> Vec<Notice> {
    let reasons = [
        RetireReason::Replaced,
        RetireReason::ScaledDown,
        RetireReason::Stop,
        RetireReason::Restart,
        RetireReason::ReloadAborted,
        RetireReason::Errors,
        RetireReason::Asked,
        RetireReason::Unneeded,
        RetireReason::Stray,
        RetireReason::Interrupted,
    ];
    let retiring = reasons.map(|reason| Notice::Retiring { place: place(1), reason });
    retiring
        .into_iter()
        .chain(RecycleReason::ALL.map(|why| Notice::RecycleStarted { place: place(1), why }))
        .collect()
}

fn of_slots() -> Vec<Notice> {
    let (app, slot) = (APP, Slot(2));
    let respawn = |unstable, millis| Notice::Respawn { app, slot, unstable, max: 16, delay: ms(millis) };
    let gave_up = |why| Notice::GaveUp { app, slot, why };
    vec![
        respawn(0, 0),
        respawn(3, 400),
        gave_up(GiveUp::UnstableExits { count: 16, window: ms(60_000) }),
        gave_up(GiveUp::Errors { count: 10, window: ms(60_000) }),
        gave_up(GiveUp::CannotSpawn(failure())),
        Notice::Finished { app, slot, exit: Exit::Code(0) },
        Notice::Finished { app, slot, exit: Exit::Signal(Signal::TERM) },
    ]
}

fn of_apps() -> Vec<Notice> {
    let (app, slot, generation, change) = (APP, Slot(1), Generation(2), ChangeId(7));
    let serving = |workers, addresses: &[&str]| Notice::AllServing {
        app,
        workers,
        addresses: addresses.iter().map(ToString::to_string).collect(),
        after: ms(1040),
    };
    let recycle_failed = |failure| Notice::RecycleFailed { app, slot, why: RecycleReason::Memory, failure };
    let aborted = |why, replaced| Notice::ReloadAborted { app, generation, why, replaced };
    vec![
        serving(4, &["0.0.0.0:3000"]),
        serving(4, &["[::]:3000", "/run/app.sock"]),
        serving(1, &["127.0.0.1:3000"]),
        serving(4, &[]),
        serving(1, &[]),
        Notice::ReloadStarted { app, generation, change },
        Notice::ReloadQueued { app, change },
        Notice::ReloadDone { app, generation, took: ms(2300) },
        aborted(ReloadFailure::NotReady { slot, after: ms(30_000) }, 1),
        aborted(ReloadFailure::Died { slot, exit: Exit::Code(1) }, 0),
        aborted(ReloadFailure::CannotSpawn { slot, cause: failure() }, 2),
        aborted(ReloadFailure::Superseded, 0),
        Notice::RecycleDone { app, slot, why: RecycleReason::Asked, took: ms(420) },
        recycle_failed(ReloadFailure::Died { slot, exit: Exit::Code(1) }),
        recycle_failed(ReloadFailure::Superseded),
        Notice::Scaled { app, from: 4, to: 5 },
        Notice::Scaled { app, from: 2, to: 1 },
        Notice::Stopping { app },
        Notice::Stopped { app },
        Notice::Deleted { app },
        Notice::Changed { change, outcome: ChangeOutcome::Done },
    ]
}

fn alerts() -> Vec<Alert> {
    vec![
        Alert::OutOfFds { limit: 1024 },
        Alert::FdsFree,
        Alert::CannotListen { app: APP, address: "[::]:80".into(), error: "permission denied".into() },
        Alert::CannotLend { app: "web".into(), why: "the container forbids seccomp filters".into() },
        Alert::MessagesDropped { place: place(1), count: 12 },
        Alert::MessagesLost { place: place(1), count: 1 },
        Alert::MemoryAbove { place: place(1), pid: 4711, bytes: 150 << 20, limit: 100 << 20 },
        Alert::ThreadAbandoned { place: place(1), why: "it has not stopped 5 s after it was told to".into() },
        Alert::Refused { what: "remove a worker".into(), why: "instances must be at least 1".into() },
    ]
}

fn all() -> Vec<Option<Line>> {
    let notices = [of_workers(), of_leaving(), of_slots(), of_apps()].concat();
    let bulletins = notices.into_iter().map(|notice| Bulletin { notice, pid: Some(4711), at: ms(0) });
    let lines = bulletins.map(|it| bulletin(&it));
    lines.chain(alerts().iter().map(|it| Some(alert(it)))).collect()
}

#[test]
fn every_notice_is_one_line() {
    let mut table = String::new();
    for line in all() {
        let Some(line) = line else {
            table.push_str("(no line)\n");
            continue;
        };
        let mut bytes = Vec::new();
        Frame::new(4, false).log(&line, &mut bytes);
        table.push_str(if line.weight == Weight::Trouble { "err " } else { "out " });
        table.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    assert_eq!(table.lines().count(), all().len());
    insta::assert_snapshot!(table);
}

#[test]
fn colours_tell_trouble_from_news() {
    let mut bytes = Vec::new();
    for line in all().into_iter().flatten() {
        Frame::new(4, true).log(&line, &mut bytes);
    }
    for slot in 0..10 {
        Frame::new(6, true).speaker(&format!("slot {slot}"), Slot(slot), &mut bytes);
        bytes.extend_from_slice(b"Some text\n");
    }
    insta::assert_snapshot!(String::from_utf8(bytes).unwrap().replace('\x1b', "␛"));
}

#[test]
fn a_failing_kernel_is_named() {
    let cause = std::io::ErrorKind::OutOfMemory.into();
    let line = super::failure(&EngineError::Os { what: "open epoll", cause });
    assert_eq!(line, Line::trouble("The primary fails: cannot open epoll: out of memory"));
}

#[test]
fn without_a_pid_none_is_told() {
    let notice = Notice::Online { place: place(1) };
    let line = bulletin(&Bulletin { notice, pid: None, at: ms(0) }).unwrap();
    assert_eq!(line.text, "Worker 3 (slot 2) is online");
}
