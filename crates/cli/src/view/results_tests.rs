//! Tests of what is said of changes.

use std::fmt::Write;

use oxherd_engine::core::{AppId, Exit, Generation, GiveUp, ReloadFailure, RetireReason, Slot, Span};

use super::super::samples::{self, news as item, place};
use super::*;

fn reload(slots: u32) -> AppProgress {
    let mut app = AppProgress::new(Verb::Reload, AppId(0), "web");
    app.remember(&samples::app(0, "web", (0..slots).map(samples::online).collect()));
    let (old, new) = (place(0, 0, 1, 1), place(0, 0, 2, 100));
    let notices = [
        Notice::Forked { place: new },
        Notice::Ready { place: new, after: Span::from_millis(130) },
        Notice::Retiring { place: old, reason: RetireReason::Replaced },
        Notice::Exited { place: old, exit: Exit::Code(0), uptime: Span::from_secs(9), wanted: true },
        Notice::Forked { place: place(0, 1, 2, 101) },
    ];
    notices.into_iter().for_each(|notice| app.note(&item(notice, Some(5001))));
    app
}

fn drawn(apps: &[AppProgress], width: usize, height: usize, colour: bool) -> String {
    let lines = block(apps, 3, 1, Screen { width, height, colour });
    assert!(lines.iter().all(|line| line.width() < width), "a line of its own");
    assert!(lines.len() < height);
    lines.iter().fold(String::new(), |text, line| text + &line.show(colour) + "\n")
}

#[test]
fn a_block_shows_each_slot() {
    let mut done = AppProgress::new(Verb::Stop, AppId(1), "api");
    done.outcome = Some(ChangeOutcome::Done);
    let apps = [reload(3), done];
    insta::assert_snapshot!("block_200", drawn(&apps, 200, 24, false));
    insta::assert_snapshot!("block_80", drawn(&apps, 80, 24, false));
    insta::assert_snapshot!("block_40", drawn(&apps, 40, 24, false));
    insta::assert_snapshot!("block_colour", drawn(&apps, 80, 24, true).escape_debug());
}

#[test]
fn a_block_has_room_for_what_goes_on() {
    insta::assert_snapshot!("block_many", drawn(&[reload(500)], 80, 24, false));
    insta::assert_snapshot!("block_low", drawn(&[reload(3)], 80, 4, false));
}

#[test]
fn every_end_is_one_sentence() {
    let mut text = String::new();
    let mut end = |verb, outcome: Option<ChangeOutcome>, set: &dyn Fn(&mut AppProgress)| {
        let mut app = AppProgress::new(verb, AppId(0), "web");
        app.outcome = outcome;
        set(&mut app);
        writeln!(text, "{:?}", conclusion(&app)).unwrap();
    };
    let done = || Some(ChangeOutcome::Done);
    for verb in [Verb::Start, Verb::Stop, Verb::Restart, Verb::Reload, Verb::Delete, Verb::Scale] {
        end(verb, done(), &|_| {});
        end(verb, Some(ChangeOutcome::Superseded), &|_| {});
    }
    end(Verb::Start, done(), &|app| app.expect(1));
    end(Verb::Start, done(), &|app| {
        let notices = [
            Notice::Forked { place: place(0, 0, 1, 1) },
            Notice::AllServing {
                app: AppId(0),
                workers: 4,
                addresses: vec!["tcp [::]:3000".into(), "unix a.sock".into()],
                after: Span::from_secs(1),
            },
        ];
        notices.into_iter().for_each(|notice| app.note(&item(notice, None)));
    });
    end(Verb::Restart, done(), &|app| {
        app.note(&item(
            Notice::AllServing { app: AppId(0), workers: 1, addresses: vec![], after: Span::ZERO },
            None,
        ));
    });
    end(Verb::Reload, done(), &|app| {
        let (generation, took) = (Generation(2), Span::from_millis(1200));
        app.note(&item(Notice::ReloadDone { app: AppId(0), generation, took }, None));
    });
    end(Verb::Scale, done(), &|app| app.note(&item(Notice::Scaled { app: AppId(0), from: 2, to: 4 }, None)));
    let why = ReloadFailure::Died { slot: Slot(1), exit: Exit::Code(1) };
    end(Verb::Reload, Some(ChangeOutcome::ReloadAborted(why)), &|app| app.replaced = Some(0));
    end(Verb::Start, Some(ChangeOutcome::Failed), &|_| {});
    end(Verb::Start, Some(ChangeOutcome::Failed), &|app| {
        let why = GiveUp::UnstableExits { count: 16, window: Span::from_secs(60) };
        app.note(&item(Notice::GaveUp { app: AppId(0), slot: Slot(1), why }, None));
    });
    end(Verb::Delete, None, &|_| {});
    insta::assert_snapshot!("conclusions", text);
}

#[test]
fn a_program_that_is_through_is_no_trouble() {
    let said = |verb, exits: &[Exit]| {
        let mut app = AppProgress::new(verb, AppId(0), "job");
        app.outcome = Some(ChangeOutcome::Done);
        for (slot, exit) in (0..).zip(exits) {
            let at = place(0, slot, 1, slot + 1);
            let gone =
                Notice::Exited { place: at, exit: *exit, uptime: Span::from_millis(40), wanted: false };
            let finished = Notice::Finished { app: AppId(0), slot: Slot(slot), exit: *exit };
            let notices = [Notice::Forked { place: at }, gone, finished];
            notices.into_iter().for_each(|notice| app.note(&item(notice, Some(7))));
        }
        let Word::Good(line) = conclusion(&app) else { panic!("good news") };
        (line, app.tally_line())
    };
    let (good, other) = (Exit::Code(0), Exit::Code(3));
    assert_eq!(
        said(Verb::Start, &[good]),
        ("job: ran, and is through: the worker ended with code 0".into(), "1 of 1 slot online".into())
    );
    assert_eq!(
        said(Verb::Restart, &[good, good]).0,
        "job: ran, and is through: all 2 workers ended with code 0"
    );
    assert_eq!(said(Verb::Start, &[good, other]).0, "job: ran, and is through: all 2 workers ended");
    let gone = |exit| Notice::Exited { place: place(0, 0, 1, 1), exit, uptime: Span::ZERO, wanted: false };
    assert!(matches!(news(&item(gone(good), None), "job"), Some(Word::Good(_))));
    assert!(matches!(news(&item(gone(other), None), "job"), Some(Word::Bad(_))));
}

#[test]
fn a_pipe_hears_what_matters() {
    let at = place(0, 1, 1, 7);
    let exit = Exit::Code(1);
    let notices = [
        Notice::Forked { place: at },
        Notice::Ready { place: at, after: Span::from_millis(130) },
        Notice::NotReady { place: at, after: Span::from_secs(30) },
        Notice::Retiring { place: at, reason: RetireReason::Stop },
        Notice::Killing { place: at },
        Notice::Exited { place: at, exit, uptime: Span::from_secs(2), wanted: false },
        Notice::Exited { place: at, exit, uptime: Span::from_secs(2), wanted: true },
        Notice::Stopped { app: AppId(0) },
    ];
    let lines: Vec<String> = notices
        .into_iter()
        .filter_map(|notice| news(&item(notice, Some(4711)), "web"))
        .map(|word| format!("{word:?}"))
        .collect();
    insta::assert_snapshot!("news", lines.join("\n"));
}

#[test]
fn who_does_not_wait_is_told_what_goes_on() {
    let mut apps = vec![reload(2), AppProgress::new(Verb::Reload, AppId(1), "api")];
    assert_eq!(
        left_alone(&apps),
        "not waiting any more: the reload of web and api goes on (`oxherd ls` shows how far it is)"
    );
    apps.iter_mut().for_each(|app| app.outcome = Some(ChangeOutcome::Done));
    assert_eq!(left_alone(&apps), "everything was done already");
}
