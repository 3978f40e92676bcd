//! Files under real conditions: moved away, slow, full, shared.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::mpsc;

use oxherd_core::{Generation, InstanceId, Rotate};

use super::*;
use crate::home::scratch::{DEADLINE, Scratch, eventually};

const WEB: AppId = AppId(1);
const API: AppId = AppId(2);

struct Scene {
    logs: Logs,
    alerts: mpsc::Receiver<String>,
    scratch: Scratch,
}

impl Scene {
    fn new() -> Self {
        Self::at(Scratch::new(), Pace { look: Duration::ZERO, retry: Duration::ZERO, idle: DEADLINE })
    }

    fn at(scratch: Scratch, pace: Pace) -> Self {
        let (tell, alerts) = mpsc::channel();
        let alert = move |line| drop(tell.send(line));
        let logs = Logs::start_at(scratch.join("logs"), pace, alert).unwrap();
        for (app, name) in [(WEB, "web"), (API, "api")] {
            logs.know(app, name, &LogSpec::default(), BTreeMap::new());
        }
        Self { logs, alerts, scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.join("logs").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn out(&self, line: &str) {
        self.say(WEB, Stream::Stdout, line.as_bytes());
    }

    fn say(&self, app: AppId, stream: Stream, bytes: &[u8]) {
        self.piece(app, 0, stream, bytes, false);
    }

    fn piece(&self, app: AppId, slot: u32, stream: Stream, bytes: &[u8], more: bool) {
        self.logs.line(&OutputLine { place: place(app, slot), stream, bytes, goes_on: false, more });
    }

    /// The rest of a line.
    fn rest(&self, slot: u32, bytes: &[u8]) {
        self.rest_of(place(WEB, slot), Stream::Stdout, bytes);
    }

    fn rest_of(&self, place: Place, stream: Stream, bytes: &[u8]) {
        self.logs.line(&OutputLine { place, stream, bytes, goes_on: true, more: false });
    }

    fn know(&self, app: AppId, name: &str, spec: &LogSpec) {
        self.logs.know(app, name, spec, BTreeMap::from([(Slot(0), 4), (Slot(1), 7)]));
    }

    /// Waits until what was handed over is written or lost.
    fn settle(&self) {
        let (tell, told) = mpsc::channel();
        self.logs.written(Box::new(move |()| tell.send(()).unwrap()));
        told.recv_timeout(DEADLINE).unwrap();
    }
}

fn place(app: AppId, slot: u32) -> Place {
    let instance = InstanceId { starts: 0, number: 1 + slot };
    Place { app, slot: Slot(slot), generation: Generation(1), instance }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.logs.close(DEADLINE);
    }
}

#[test]
fn each_stream_has_a_private_file_of_whole_lines() {
    let scene = Scene::new();
    for number in 0..1000 {
        scene.out(&format!("out {number}"));
        scene.say(WEB, Stream::Stderr, format!("error {number}").as_bytes());
    }
    scene.settle();
    let lines = |what: &str| (0..1000).map(|number| format!("{what} {number}\n")).collect::<String>();
    assert_eq!(scene.read("web-out.log"), lines("out"));
    assert_eq!(scene.read("web-error.log"), lines("error"));
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(scene.path("")), mode(scene.path("web-out.log"))), (0o700, 0o600));
}

#[test]
fn a_rename_under_load_neither_loses_nor_tears_a_line() {
    let scene = Scene::new();
    let mut moved = Vec::new();
    for number in 0..5000 {
        scene.out(&format!("line {number}"));
        if number % 500 == 499 {
            eventually("there is a file", || scene.path("web-out.log").exists());
            let old = scene.path(&format!("old-{number}"));
            fs::rename(scene.path("web-out.log"), &old).unwrap();
            moved.push(old);
        }
    }
    scene.settle();
    let old: String = moved.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let expected: String = (0..5000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(old + &scene.read("web-out.log"), expected);
    assert_eq!(scene.logs.dropped_lines(WEB, "web"), 0);
}

#[test]
fn files_are_opened_anew_when_somebody_says_so() {
    let scene = Scene::at(Scratch::new(), Pace { look: DEADLINE, ..Pace::default() });
    scene.out("before");
    scene.settle();
    fs::rename(scene.path("web-out.log"), scene.path("old")).unwrap();
    scene.out("meanwhile");
    scene.settle();
    scene.logs.reopen();
    scene.out("after");
    scene.settle();
    assert_eq!(
        (scene.read("old"), scene.read("web-out.log")),
        ("before\nmeanwhile\n".into(), "after\n".into())
    );
}

#[test]
fn half_a_line_of_a_writer_that_was_killed_stays_alone() {
    let scene = Scene::new();
    fs::create_dir(scene.path("")).unwrap();
    fs::write(scene.path("web-out.log"), "whole\nhal").unwrap();
    scene.out("next");
    scene.settle();
    scene.logs.reopen();
    scene.out("last");
    scene.settle();
    assert_eq!(scene.read("web-out.log"), "whole\nhal\nnext\nlast\n");
}

/// A disk that takes nothing until somebody reads; then what went through it.
fn stall(scene: &Scene) -> PathBuf {
    fs::create_dir(scene.path("")).unwrap();
    let path = scene.path("web-out.log");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn a_slow_disk_costs_lines_and_no_memory() {
    const LINES: u64 = 5000;
    let scene = Scene::new();
    let path = stall(&scene);
    let line = "x".repeat(1000);
    for _ in 0..LINES {
        scene.out(&line);
        assert!(scene.logs.ours.shared.bytes() <= queue::APP_BYTES_MAX);
    }
    let lost = scene.logs.dropped_lines(WEB, "web");
    assert!(lost >= LINES - 1 - queue::APP_BYTES_MAX as u64 / 1001 - 300, "{lost}");
    let reader = thread::spawn(move || {
        let mut text = String::new();
        fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    scene.settle();
    scene.out("there is room again");
    scene.logs.close(DEADLINE);
    let text = reader.join().unwrap();
    assert_eq!(text.lines().filter(|it| *it == line).count() as u64, LINES - lost);
    let told: u64 = text
        .lines()
        .filter_map(|it| it.strip_prefix("[oxherd] ")?.split(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(told, lost);
    assert!(text.ends_with("lines lost: the disk was too slow\nthere is room again\n"));
}

#[test]
fn tiny_lines_of_both_streams_stay_in_few_pieces() {
    let scene = Scene::new();
    let path = stall(&scene);
    for _ in 0..queue::APP_BYTES_MAX {
        scene.out("");
        scene.say(WEB, Stream::Stderr, b"");
    }
    assert!(scene.logs.ours.shared.bytes() <= queue::APP_BYTES_MAX);
    let reader = thread::spawn(move || fs::read(path).unwrap());
    assert!(scene.logs.close(DEADLINE));
    assert!(!reader.join().unwrap().is_empty());
}

#[test]
fn a_full_disk_tears_no_line_and_counts() {
    let Some(disk) = Scratch::disk("64k") else { return };
    let scene = Scene::at(disk, Pace { retry: Duration::ZERO, ..Pace::default() });
    fs::create_dir(scene.path("")).unwrap();
    fs::write(scene.path("ballast"), vec![0; 32 << 10]).unwrap();
    let line = "y".repeat(999);
    (0..100).for_each(|_| scene.out(&line));
    scene.settle();
    let lost = scene.logs.dropped_lines(WEB, "web");
    assert!(scene.alerts.recv_timeout(DEADLINE).unwrap().contains("the disk is full"));
    fs::remove_file(scene.path("ballast")).unwrap();
    scene.out("after");
    scene.settle();
    assert!(scene.alerts.recv_timeout(DEADLINE).unwrap().ends_with("is written again"));
    assert!(scene.alerts.try_recv().is_err());
    let text = scene.read("web-out.log");
    let whole = text.lines().filter(|it| *it == line).count() as u64;
    assert_eq!((whole + lost, text.lines().count() as u64), (100, whole + 2));
    assert!(text.ends_with(&format!("[oxherd] {lost} lines lost: the disk is full\nafter\n")));
}

#[test]
fn one_file_that_cannot_be_written_costs_only_its_own_lines() {
    let scene = Scene::new();
    fs::create_dir(scene.path("")).unwrap();
    symlink("/dev/full", scene.path("web-out.log")).unwrap();
    for _ in 0..3 {
        scene.out("lost");
        scene.say(API, Stream::Stdout, b"kept");
        scene.settle();
    }
    assert_eq!((scene.logs.dropped_lines(WEB, "web"), scene.logs.dropped_lines(API, "api")), (3, 0));
    assert_eq!(scene.read("api-out.log"), "kept\nkept\nkept\n");
    assert!(scene.alerts.recv_timeout(DEADLINE).unwrap().contains("web-out.log"));
    assert!(scene.alerts.try_recv().is_err());
}

#[test]
fn names_that_look_the_same_have_files_of_their_own() {
    let scene = Scene::new();
    scene.know(AppId(3), "a/b", &LogSpec::default());
    scene.know(AppId(4), "a b", &LogSpec::default());
    for app in 3..6 {
        scene.say(AppId(app), Stream::Stdout, app.to_string().as_bytes());
    }
    scene.settle();
    for (name, text) in [("a-b-out.log", "3\n"), ("a-b-4-out.log", "4\n"), ("app-5-out.log", "5\n")] {
        assert_eq!(scene.read(name), text, "{name}");
    }
    assert_eq!(scene.logs.paths(AppId(4), "a b", None).out, scene.path("a-b-4-out.log"));
    scene.logs.forget(AppId(3));
    scene.settle();
    scene.know(AppId(6), "a-b", &LogSpec::default());
    assert_eq!(scene.logs.paths(AppId(6), "a-b", None).err, scene.path("a-b-error.log"));
}

#[test]
fn what_waits_is_written_before_the_end() {
    let scene = Scene::new();
    (0..100).for_each(|_| scene.out("line"));
    scene.logs.forget(WEB);
    assert!(scene.logs.close(DEADLINE));
    assert_eq!(scene.read("web-out.log").lines().count(), 100);
}

fn names(scene: &Scene) -> Vec<String> {
    let entries = fs::read_dir(scene.path("")).unwrap();
    let mut names: Vec<String> = entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn lines_go_where_the_app_says_and_look_as_it_says() {
    let scene = Scene::new();
    let file = |name: &str| Some(scene.path(name).display().to_string());
    let spec = LogSpec {
        out: file("new/folder/out.txt"),
        err: Some("/dev/null".into()),
        both: file("both.log"),
        per_slot: true,
        date_format: Some("[at]".into()),
        ..LogSpec::default()
    };
    scene.know(WEB, "web", &spec);
    scene.out("one");
    scene.piece(WEB, 1, Stream::Stdout, b"two", false);
    scene.say(WEB, Stream::Stderr, b"three");
    scene.settle();
    assert_eq!(scene.read("new/folder/out-4.txt"), "at: one\n");
    assert_eq!(scene.read("new/folder/out-7.txt"), "at: two\n");
    assert_eq!(scene.read("both-4.log"), "at: one\nat: three\n");
    let paths = scene.logs.paths(WEB, "web", Some(Slot(1)));
    assert_eq!((paths.out, paths.err), (scene.path("new/folder/out-7.txt"), "/dev/null".into()));
    // Another configuration moves them at once.
    scene.know(WEB, "web", &LogSpec { json: true, ..LogSpec::default() });
    scene.out("four");
    scene.know(API, "api", &LogSpec { disabled: true, ..LogSpec::default() });
    scene.say(API, Stream::Stdout, b"nowhere");
    scene.settle();
    let record: serde_json::Value = serde_json::from_str(&scene.read("web-out.log")).unwrap();
    assert_eq!((&record["message"], &record["process_id"]), (&"four".into(), &4.into()));
    assert_eq!(names(&scene), ["both-4.log", "both-7.log", "new", "web-out.log"]);
}

#[test]
fn a_line_in_pieces_is_whole_unless_another_speaks_in_between() {
    let scene = Scene::new();
    let spec = LogSpec { err: Some(scene.path("web-out.log").display().to_string()), ..LogSpec::default() };
    scene.know(WEB, "web", &spec);
    scene.piece(WEB, 0, Stream::Stdout, b"a", true);
    scene.piece(WEB, 0, Stream::Stdout, b"\xffb", true);
    scene.settle();
    scene.piece(WEB, 0, Stream::Stdout, b"c", false);
    scene.piece(WEB, 0, Stream::Stdout, b"d", true);
    scene.say(WEB, Stream::Stderr, b"e");
    scene.piece(WEB, 0, Stream::Stdout, b"f", true);
    scene.piece(WEB, 0, Stream::Stdout, b"", false);
    scene.settle();
    assert_eq!(fs::read(scene.path("web-out.log")).unwrap(), b"a\xffbc\nd\ne\nf\n");
}

#[test]
fn the_rest_of_a_line_follows_its_beginning() {
    // Each file is closed again as soon as it is written.
    let pace = Pace { look: Duration::ZERO, retry: Duration::ZERO, idle: Duration::ZERO };
    let scene = Scene::at(Scratch::new(), pace);
    scene.know(WEB, "web", &LogSpec { date_format: Some("[at]".into()), ..LogSpec::default() });
    scene.piece(WEB, 0, Stream::Stdout, b"name? ", true);
    scene.settle();
    assert_eq!(scene.read("web-out.log"), "at: name? ", "seen before it is answered");
    scene.rest(0, b"Ada");
    scene.settle();
    assert_eq!(scene.read("web-out.log"), "at: name? Ada\n");
    scene.piece(WEB, 0, Stream::Stdout, b"name? ", true);
    scene.piece(WEB, 1, Stream::Stdout, b"another worker", false);
    scene.rest(0, b"Bob");
    scene.piece(WEB, 0, Stream::Stdout, b"age? ", true);
    scene.piece(WEB, 1, Stream::Stdout, b"another worker", false);
    scene.rest(0, b"");
    scene.settle();
    assert_eq!(
        scene.read("web-out.log"),
        "at: name? Ada\nat: name? \nat: another worker\nat: Bob\nat: age? \nat: another worker\n",
        "no line is within another's"
    );
}

#[test]
fn a_line_goes_on_where_the_daemon_before_has_ended() {
    let number = |slots: u32| (0..slots).map(|slot| (Slot(slot), slot)).collect::<BTreeMap<_, _>>();
    let of_records = LogSpec { json: true, ..LogSpec::default() };
    for (begun, spec, slot, expected) in [
        (&[0][..], LogSpec::default(), 0, "name? Ada\n"),
        // Which of the two has asked last is not known, and no record goes on.
        (&[0, 1], LogSpec::default(), 0, "name? \nAda\n"),
        (&[0], of_records, 0, "name? \n{\"message\":\"Ada\""),
        // Each has a file of its own.
        (&[0, 1], LogSpec { per_slot: true, ..LogSpec::default() }, 1, "name? Ada\n"),
    ] {
        let scene = Scene::new();
        fs::create_dir(scene.path("")).unwrap();
        let name = if spec.per_slot { "web-out-1.log" } else { "web-out.log" };
        fs::write(scene.path(name), "name? ").unwrap();
        scene.logs.know(WEB, "web", &spec, number(2));
        begun.iter().for_each(|slot| scene.logs.begun(place(WEB, *slot), Stream::Stdout));
        scene.rest(slot, b"Ada");
        scene.settle();
        assert!(scene.read(name).starts_with(expected), "{:?}", scene.read(name));
    }
}

/// What is in a file that ends with `before` when this daemon begins, after these rests of lines.
fn after_a_handover(before: &str, date: Option<&str>, rests: &[(Place, Stream, &str)]) -> String {
    let scene = Scene::new();
    fs::create_dir(scene.path("")).unwrap();
    fs::write(scene.path("all.log"), before).unwrap();
    let all = Some(scene.path("all.log").display().to_string());
    let spec =
        LogSpec { out: all.clone(), err: all, date_format: date.map(str::to_owned), ..LogSpec::default() };
    scene.know(WEB, "web", &spec);
    scene.know(API, "api", &spec);
    rests.iter().for_each(|(place, stream, _)| scene.logs.begun(*place, *stream));
    rests.iter().for_each(|(place, stream, text)| scene.rest_of(*place, *stream, text.as_bytes()));
    scene.settle();
    scene.read("all.log")
}

#[test]
fn after_a_handover_no_rest_goes_on_with_somebody_elses_beginning() {
    use Stream::{Stderr, Stdout};
    let successor = Place { instance: InstanceId { starts: 0, number: 9 }, ..place(WEB, 0) };
    let web = (place(WEB, 0), Stdout, "OUT2");
    for other in
        [(place(WEB, 0), Stderr, "ERR2"), (place(API, 0), Stdout, "API2"), (successor, Stdout, "NEW2")]
    {
        let text = format!("first \nOUT2\n{}\n", other.2);
        assert_eq!(after_a_handover("first ", None, &[web, other]), text);
    }
    assert_eq!(after_a_handover("OUT1 ", Some("[D]"), &[web]), "OUT1 OUT2\n");
    assert_eq!(after_a_handover("OUT1 \nother\n", Some("[D]"), &[web]), "OUT1 \nother\nD: OUT2\n");
    let end = (place(WEB, 0), Stdout, "");
    assert_eq!(after_a_handover("OUT1 ", Some("[D]"), &[end]), "OUT1 \n");
    assert_eq!(after_a_handover("OUT1 \nother\n", Some("[D]"), &[end]), "OUT1 \nother\n", "it has ended");
}

#[test]
fn a_line_that_is_not_ended_stays_alone_whatever_becomes_of_its_app() {
    let scene = Scene::new();
    let numbers = |slots: u32| (0..slots).map(|slot| (Slot(slot), slot)).collect::<BTreeMap<_, _>>();
    let know = |slots| scene.logs.know(WEB, "web", &LogSpec::default(), numbers(slots));
    know(1);
    scene.piece(WEB, 0, Stream::Stdout, b"0? ", true);
    scene.settle();
    know(2);
    scene.piece(WEB, 1, Stream::Stdout, b"whole", false);
    scene.piece(WEB, 1, Stream::Stdout, b"1? ", true);
    scene.settle();
    know(3);
    scene.rest(1, b"yes");
    scene.piece(WEB, 0, Stream::Stdout, b"0? ", true);
    scene.settle();
    // One whose line nobody knows of any more.
    scene.logs.forget(WEB);
    scene.settle();
    scene.know(AppId(3), "web", &LogSpec::default());
    scene.say(AppId(3), Stream::Stdout, b"another app");
    scene.know(AppId(3), "web", &LogSpec { json: true, ..LogSpec::default() });
    scene.settle();
    assert_eq!(scene.read("web-out.log"), "0? \nwhole\n1? yes\n0? \nanother app\n");
    scene.piece(API, 0, Stream::Stdout, b"? ", true);
    scene.know(API, "api", &LogSpec { json: true, ..LogSpec::default() });
    scene.rest_of(place(API, 0), Stream::Stdout, b"record");
    scene.settle();
    assert!(scene.read("api-out.log").starts_with("? \n{"), "{:?}", scene.read("api-out.log"));
}

#[test]
fn long_files_are_put_aside_and_numbered_on_by_the_next_daemon() {
    let scratch = Scratch::new();
    let rotate = Rotate { size: 1000, every: None, keep: 3, gzip: true };
    let spec = LogSpec { rotate, ..LogSpec::default() };
    let line = "z".repeat(99);
    let mut scene = Scene::at(scratch, Pace::default());
    for round in 0..2 {
        scene.know(WEB, "web", &spec);
        for _ in 0..25 {
            scene.out(&line);
            scene.settle();
        }
        scene.logs.close(DEADLINE);
        let expected = [
            ["web-out.log", "web-out.log.1.gz", "web-out.log.2.gz"].as_slice(),
            &["web-out.log", "web-out.log.2.gz", "web-out.log.3.gz", "web-out.log.4.gz"],
        ];
        eventually("old files are compressed", || names(&scene) == expected[round]);
        assert_eq!(scene.read("web-out.log").len(), if round == 0 { 500 } else { 1000 });
        let scratch = std::mem::replace(&mut scene.scratch, Scratch::new());
        scene = Scene::at(scratch, Pace::default());
    }
}

#[test]
fn what_is_flushed_is_gone_and_what_comes_is_kept() {
    let scene = Scene::new();
    scene.out("old");
    scene.say(WEB, Stream::Stderr, b"old");
    scene.settle();
    let (tell, told) = mpsc::channel();
    scene.logs.flush(WEB, "web", Box::new(move |count| tell.send(count).unwrap()));
    scene.out("new");
    scene.settle();
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), Ok(2));
    assert_eq!((scene.read("web-out.log"), scene.read("web-error.log")), ("new\n".into(), String::new()));
}

#[test]
fn trouble_is_told_as_long_as_it_lasts() {
    let scene = Scene::new();
    scene.know(WEB, "web", &LogSpec { out: Some("/dev/full".into()), ..LogSpec::default() });
    scene.out("lost");
    scene.settle();
    let told = scene.logs.troubles();
    assert!(
        told.len() == 1 && told[0].contains("/dev/full") && told[0].contains("the disk is full"),
        "{told:?}"
    );
    scene.logs.forget(WEB);
    scene.settle();
    assert!(scene.logs.troubles().is_empty());
}
