//! Tests of the table of changes.

use oxherd_core::{ReloadFailure, Slot, SlotStatus};

use super::*;

fn serving(app: u32) -> Pending {
    Pending { app: Some(AppId(app)), aim: Aim::Serving }
}

fn status(apps: &[(u32, &str, Status, u32)]) -> FleetStatus {
    let app = |(id, name, status, generation): &(u32, &str, Status, u32)| AppStatus {
        app: AppId(*id),
        name: (*name).into(),
        generation: Generation(*generation),
        instances: 1,
        up: *status != Status::Stopped,
        reload: None,
        slots: vec![SlotStatus { slot: Slot(0), status: *status, restarts: 0, instances: Vec::new() }],
        standbys: Vec::new(),
    };
    FleetStatus { apps: apps.iter().map(app).collect() }
}

fn begun(key: &str, after: u64, names: &[&str]) -> Record {
    let target = |name: &&str| Target { app: None, name: (*name).into(), aim: Aim::Serving };
    let stage = Stage::Begun { after: ChangeId(after), targets: names.iter().map(target).collect() };
    Record { key: key.into(), digest: 1, stage }
}

fn answered(key: &str, count: u64) -> Record {
    let change = |number| AcceptedChange { change: ChangeId(number), app: AppId(0), name: "web".into() };
    Record {
        key: key.into(),
        digest: 1,
        stage: Stage::Answered { changes: (0..count).map(change).collect() },
    }
}

#[test]
fn bytes_come_back_as_they_were() {
    let mut changes = Changes::default();
    changes.accept(ChangeId(1), serving(0));
    changes.accept(ChangeId(2), Pending { app: None, aim: Aim::Ended });
    changes.accept(ChangeId(3), Pending { app: Some(AppId(1)), aim: Aim::Beyond(Generation(4)) });
    changes.finish(ChangeId(1), ChangeOutcome::ReloadAborted(ReloadFailure::Superseded));
    changes.put_record(begun("a", 3, &["web"]));
    changes.put_record(answered("b", 2));
    assert_eq!(Changes::from_bytes(&changes.to_bytes()).unwrap(), changes);
}

/// What the first version wrote; later ones must read it or say that they cannot.
const GOLDEN: &str = concat!(
    r#"{"version":1,"pending":[[2,{"app":0,"aim":"serving"}],[3,{"app":1,"aim":{"beyond":4}}]],"#,
    r#""finished":[[1,0,"done"],[4,null,{"reload_aborted":"superseded"}]],"#,
    r#""keys":[["a",18446744073709551615,{"begun":{"after":3,"targets":["#,
    r#"{"app":null,"name":"web","aim":"serving"}]}}],"#,
    r#"["b",7,{"answered":{"changes":[{"change":2,"app":0,"name":"web"}]}}],["c",8,{"cut":{"made":[]}}]]}"#,
);

#[test]
fn the_bytes_of_the_first_version_are_read() {
    let changes = Changes::from_bytes(GOLDEN.as_bytes()).unwrap();
    assert_eq!(changes.to_bytes(), GOLDEN.as_bytes());
    assert_eq!(changes.knowledge(ChangeId(1)), Knowledge::Finished(ChangeOutcome::Done));
    assert_eq!(changes.app_of(ChangeId(2)), Some(AppId(0)));
}

#[test]
fn other_bytes_are_refused() {
    let error = |bytes: &[u8]| Changes::from_bytes(bytes).unwrap_err().to_string();
    assert_eq!(
        error(br#"{"version":9,"else":1}"#),
        "the table of changes has version 9, this Oxherd reads version 1"
    );
    for bytes in [b"".as_slice(), b"{", b"\xff", br#"{"version":1}"#] {
        assert!(error(bytes).starts_with("the table of changes cannot be read"), "{bytes:?}");
    }
}

#[test]
fn the_end_of_a_change_may_be_told_before_its_beginning() {
    let mut changes = Changes::default();
    changes.finish(ChangeId(5), ChangeOutcome::Done);
    changes.accept(ChangeId(5), serving(3));
    assert_eq!(changes.knowledge(ChangeId(5)), Knowledge::Finished(ChangeOutcome::Done));
    assert_eq!(changes.app_of(ChangeId(5)), Some(AppId(3)));
    changes.finish(ChangeId(5), ChangeOutcome::Failed);
    assert_eq!(changes.knowledge(ChangeId(5)), Knowledge::Finished(ChangeOutcome::Done), "it ends only once");
    assert!(changes.pending().is_empty());
}

#[test]
fn the_table_is_bounded() {
    let mut changes = Changes::default();
    for number in 0..10_000 {
        changes.accept(ChangeId(number), serving(0));
        changes.finish(ChangeId(number + 100_000), ChangeOutcome::Done);
        changes.put_record(answered(&number.to_string(), 10));
    }
    assert_eq!((changes.pending.len(), changes.finished.len()), (PENDING, OUTCOMES));
    assert_eq!(changes.keys.len(), KEYED_CHANGES / 10);
    changes.put_record(answered("large", 5000));
    assert_eq!(changes.keys.len(), 1, "the newest is always remembered");
    assert!(changes.record("large").is_some());
}

#[test]
fn a_busy_table_is_small() {
    let mut changes = Changes::default();
    for number in 0..5000 {
        changes.accept(ChangeId(number), serving(0));
        changes.finish(ChangeId(number), ChangeOutcome::Done);
        changes.put_record(answered(&format!("{number:032}"), 1));
    }
    let bytes = changes.to_bytes().len();
    assert!(bytes < 40 << 10, "the keeper would hold {bytes} bytes");
}

#[test]
fn a_request_that_was_cut_finds_its_changes_again() {
    let mut changes = Changes::default();
    changes.put_record(begun("k", 10, &["a", "b"]));
    assert!(changes.is_open());
    assert_eq!(changes.questions(), [ChangeId(11), ChangeId(12)]);
    let there = status(&[(0, "a", Status::Online, 1), (1, "b", Status::Starting, 1)]);
    changes.settle(&there, ChangeId(12), &[ChangeId(12)]);
    let Stage::Answered { changes: made } = &changes.record("k").unwrap().stage else { panic!("whole") };
    let made: Vec<_> = made.iter().map(|it| (it.change.0, it.app.0, it.name.as_str())).collect();
    assert_eq!(made, [(11, 0, "a"), (12, 1, "b")]);
    assert_eq!(changes.knowledge(ChangeId(11)), Knowledge::Finished(ChangeOutcome::Done));
    assert_eq!(changes.knowledge(ChangeId(12)), Knowledge::Pending);
}

#[test]
fn a_request_of_which_only_a_part_was_taken_in_is_cut() {
    let mut changes = Changes::default();
    changes.put_record(begun("k", 10, &["a", "b"]));
    changes.settle(&status(&[(0, "a", Status::Online, 1)]), ChangeId(11), &[]);
    let Stage::Cut { made } = &changes.record("k").unwrap().stage else { panic!("cut") };
    assert_eq!(made.len(), 1);
    assert!(!changes.is_open());
}

#[test]
fn the_numbers_of_a_lost_fleet_are_nobody_s() {
    let mut changes = Changes::default();
    changes.put_record(begun("k", 10, &["a"]));
    changes.accept(ChangeId(9), serving(0));
    changes.settle(&status(&[(0, "a", Status::Online, 1)]), ChangeId(3_000_000), &[]);
    assert_eq!(changes.record("k").unwrap().stage, Stage::Cut { made: Vec::new() });
    assert_eq!(changes.knowledge(ChangeId(11)), Knowledge::Unknown);
    assert_eq!(changes.knowledge(ChangeId(9)), Knowledge::Finished(ChangeOutcome::Done), "judged by what is");
    changes.finish(ChangeId(12), ChangeOutcome::Done);
    changes.settle(&status(&[]), ChangeId(10), &[]);
    assert_eq!(changes.knowledge(ChangeId(12)), Knowledge::Unknown, "numbers that begin again are others'");
}

#[test]
fn an_end_that_nobody_saw_is_judged_by_what_is() {
    let there = status(&[
        (0, "on", Status::Online, 3),
        (1, "off", Status::Stopped, 1),
        (2, "bad", Status::Errored, 1),
    ]);
    let outcome = |app: u32, aim| judge(Pending { app: Some(AppId(app)), aim }, &there);
    let (done, failed) = (ChangeOutcome::Done, ChangeOutcome::Failed);
    assert_eq!(
        [outcome(0, Aim::Serving), outcome(2, Aim::Serving), outcome(9, Aim::Serving)],
        [done.clone(), failed.clone(), failed.clone()]
    );
    assert_eq!(outcome(0, Aim::Beyond(Generation(2))), done);
    assert_eq!(outcome(0, Aim::Beyond(Generation(3))), failed);
    assert_eq!(
        [outcome(1, Aim::Stopped), outcome(0, Aim::Stopped), outcome(9, Aim::Stopped)],
        [done.clone(), failed.clone(), done.clone()]
    );
    assert_eq!([outcome(9, Aim::Gone), outcome(1, Aim::Gone)], [done.clone(), failed]);
    assert_eq!(judge(Pending { app: None, aim: Aim::Ended }, &there), done);
}
