//! Tests of the picture of slots.

use oxherd_engine::core::{GiveUp, Signal};

use super::super::samples::{self, news, place};
use super::*;

fn told(app: &mut AppProgress, notices: impl IntoIterator<Item = Notice>) {
    notices.into_iter().for_each(|notice| app.note(&news(notice, Some(77))));
}

fn words(app: &AppProgress) -> Vec<String> {
    let line = |slot: &SlotProgress| {
        let (word, detail) = slot.words();
        format!("{:?} {word} {detail}", slot.standing(app.verb))
    };
    app.slots.values().map(line).collect()
}

fn exited(place: Place, wanted: bool) -> Notice {
    Notice::Exited { place, exit: Exit::Code(0), uptime: Span::from_secs(1), wanted }
}

#[test]
fn a_reload_takes_slot_after_slot() {
    let mut app = AppProgress::new(Verb::Reload, AppId(0), "web");
    app.remember(&samples::app(0, "web", vec![samples::online(0), samples::online(1)]));
    assert_eq!(words(&app), ["Pending online pid 4711", "Pending online pid 4712"]);
    let (old, new) = (place(0, 0, 1, 1), place(0, 0, 2, 10));
    told(&mut app, [Notice::Forked { place: new }]);
    assert_eq!(words(&app)[0], "UnderWay starting pid 77");
    told(&mut app, [Notice::Ready { place: new, after: Span::from_millis(130) }]);
    told(&mut app, [Notice::Retiring { place: old, reason: RetireReason::Replaced }]);
    let online = "online pid 77, ready after 130 ms";
    assert_eq!(words(&app)[0], format!("UnderWay {online}; the old one (pid 4711) finishes what is in hand"));
    told(&mut app, [Notice::Terminating { place: old, signal: Signal::TERM }, exited(old, true)]);
    assert_eq!(words(&app)[0], format!("Done {online}"));
    assert_eq!(app.tally_line(), "1 of 2 slots replaced");
    assert_eq!(app.trouble, None);
}

#[test]
fn a_start_that_fails_says_why() {
    let mut app = AppProgress::new(Verb::Start, AppId(3), "web");
    app.expect(1);
    assert_eq!(words(&app), ["Pending waiting "]);
    let at = place(3, 0, 1, 1);
    told(&mut app, [Notice::Forked { place: at }, exited(at, false)]);
    let (app_id, slot) = (AppId(3), Slot(0));
    let delay = Span::from_millis(200);
    told(&mut app, [Notice::Respawn { app: app_id, slot, unstable: 2, max: 16, delay }]);
    let waits = "waiting restart ended with code 0; again in 200 ms (unstable exit 2 of 16)";
    assert_eq!(words(&app), [format!("UnderWay {waits}")]);
    assert_eq!(app.crash_loop(), None);
    told(&mut app, [Notice::Respawn { app: app_id, slot, unstable: 3, max: 16, delay }]);
    assert_eq!(app.crash_loop(), Some((3, 16)), "nobody waits for the other thirteen");
    let why = GiveUp::UnstableExits { count: 16, window: Span::from_secs(60) };
    told(&mut app, [Notice::GaveUp { app: app_id, slot, why }]);
    assert_eq!(app.trouble.as_deref(), Some("slot 0 gives up: 16 unstable exits within 1 min 0 s"));
    assert!(words(&app)[0].starts_with("Failed errored"), "{:?}", words(&app));
}

#[test]
fn a_stop_is_done_when_nobody_is_left() {
    let mut app = AppProgress::new(Verb::Stop, AppId(0), "web");
    app.remember(&samples::app(0, "web", vec![samples::online(0)]));
    let at = place(0, 0, 1, 1);
    assert_eq!(words(&app), ["Pending online pid 4711"]);
    told(
        &mut app,
        [Notice::Retiring { place: at, reason: RetireReason::Stop }, Notice::Killing { place: at }],
    );
    assert_eq!(words(&app), ["UnderWay stopping (pid 4711) is killed"]);
    told(&mut app, [exited(at, true)]);
    assert_eq!(words(&app), ["Done stopped ended with code 0"]);
    assert_eq!(app.tally_line(), "1 of 1 slot stopped");
}

#[test]
fn a_slot_too_many_disappears() {
    let mut app = AppProgress::new(Verb::Scale, AppId(0), "web");
    app.remember(&samples::app(0, "web", vec![samples::online(0), samples::online(1)]));
    let at = place(0, 1, 1, 2);
    told(&mut app, [Notice::Scaled { app: AppId(0), from: 2, to: 1 }]);
    told(&mut app, [Notice::Retiring { place: at, reason: RetireReason::ScaledDown }]);
    assert_eq!(app.tally(), (1, 2));
    told(&mut app, [exited(at, true)]);
    assert_eq!(app.tally(), (1, 1));
}

#[test]
fn news_of_other_apps_is_passed_over() {
    let mut app = AppProgress::new(Verb::Start, AppId(0), "web");
    app.expect(1);
    told(&mut app, [Notice::Forked { place: place(1, 0, 1, 1) }, Notice::Stopping { app: AppId(1) }]);
    assert_eq!(words(&app), ["Pending waiting "]);
    assert!(!app.has_started_any());
}
