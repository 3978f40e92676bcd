//! What is saved comes back, whatever happens to the disk, the file or the process.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;

use oxherd_core::{AppId, AppSpec, Generation, Strategy};

use super::*;
use crate::home::scratch::{DEADLINE, Scratch, eventually, skips_as_root};

const GOLDEN: &str = include_str!("version-1.golden");

fn home_in(scratch: &Scratch) -> Home {
    let home = Home::at(&scratch.join("home")).unwrap();
    home.prepare().unwrap();
    home
}

fn app(id: u32, name: &str) -> DesiredApp {
    let mut spec = AppSpec::new(name, "/bin/app");
    spec.strategy = Strategy::RoundRobin;
    spec.env = vec![("KEY".into(), "value with \"quotes\", \u{fc} and \n".into())];
    DesiredApp { app: AppId(id), generation: Generation(1), spec, instances: 2, up: true }
}

fn desired(names: &[&str]) -> Desired {
    Desired { apps: (0..).zip(names).map(|(id, name)| app(id, name)).collect() }
}

fn open(home: &Home) -> Opened {
    Store::open(home, |line| panic!("{line}")).unwrap()
}

fn names_of(store: &Store) -> Vec<&str> {
    store.dormant().iter().map(|app| app.spec.name.as_str()).collect()
}

/// Saves the states one after the other, each as a file of its own.
fn save_all(home: &Home, states: &[&[&str]]) {
    let mut store = open(home).store;
    for names in states {
        store.update(desired(names));
        assert!(store.flush(DEADLINE));
    }
    assert!(store.close(DEADLINE));
}

fn files_of(home: &Home) -> Vec<String> {
    let entries = fs::read_dir(home.folder()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("state"));
    names.sort();
    names
}

fn told(scratch: &Scratch, home: &Home) -> String {
    let text = Store::open(home, |_| ()).unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text.replace(scratch.path().to_str().unwrap(), "/x")
}

#[test]
fn nothing_saved_is_nothing_wanted() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    let opened = open(&home);
    assert!(opened.store.dormant().is_empty() && opened.last.apps.is_empty() && opened.lines.is_empty());
    assert!(opened.store.close(DEADLINE));
    assert!(files_of(&home).is_empty(), "looking changes nothing");
}

#[test]
fn what_is_saved_comes_back_and_the_version_before_is_kept() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    save_all(&home, &[&["one"], &["one", "two"]]);
    assert_eq!(files_of(&home), ["state.json", "state.json.bak"]);
    for file in [home.state_file(), file::spare_of(&home.state_file())] {
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o600);
    }
    let opened = open(&home);
    assert_eq!(opened.last, desired(&["one", "two"]));
    assert_eq!(names_of(&opened.store), ["one", "two"]);
    fs::rename(file::spare_of(&home.state_file()), home.state_file()).unwrap();
    assert_eq!(open(&home).last, desired(&["one"]));
}

#[test]
fn a_file_of_version_1_is_read_and_written_for_ever() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    fs::write(home.state_file(), GOLDEN).unwrap();
    let opened = open(&home);
    let mut running = app(0, "web");
    running.spec.restart_delay = Some(oxherd_core::Span::from_millis(250));
    let sleeping = DesiredApp { up: false, ..app(0, "old") };
    assert_eq!(opened.last.apps, [running.clone()]);
    assert_eq!(names_of(&opened.store), ["web", "old"]);
    assert_eq!(*opened.store.dormant()[1], sleeping);

    // A difference here is a new version: count STATE_VERSION up, and migrate the old one.
    let mut store = opened.store;
    store.update(Desired { apps: vec![running] });
    assert!(store.close(DEADLINE));
    let written = fs::read_to_string(home.state_file()).unwrap();
    let time = written.split_once("\"saved_at_ms\":").unwrap().1.split_once(',').unwrap().0;
    assert_eq!(written.replace(time, "1700000000000"), GOLDEN);
}

#[test]
fn a_file_cut_anywhere_gives_the_version_before() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    save_all(&home, &[&["one"], &["one", "two"]]);
    let whole = fs::read(home.state_file()).unwrap();
    // Without its last newline it is still whole.
    for length in 0..whole.len() - 1 {
        fs::write(home.state_file(), &whole[..length]).unwrap();
        let (state, lines) = file::load(&home.state_file()).unwrap();
        assert_eq!((state.apps.len(), lines.len()), (1, 1), "cut at {length}");
        let aside = files_of(&home).into_iter().find(|name| name.contains("broken")).unwrap();
        let aside = home.folder().join(aside);
        assert_eq!(fs::read(&aside).unwrap(), &whole[..length], "the broken file is kept");
        fs::remove_file(aside).unwrap();
    }
}

#[test]
fn damaged_files_are_set_aside_and_told() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    let golden = |from: &str, to: &str| GOLDEN.replacen(from, to, 1).into_bytes();
    let cases: [(Vec<u8>, &str); 12] = [
        (b"".into(), "it is damaged: it ends too early"),
        ((0..=255).cycle().take(5000).collect(), "it is damaged: it is no JSON"),
        (b"\0\0\0\0".into(), "it is damaged: it is no JSON"),
        (b"[]".into(), "it is damaged: something unexpected is there (line 1, column 2)"),
        (b"{\"version\":\"1\"}".into(), "it is damaged: something unexpected is there (line 1, column 14)"),
        (b"{\"version\":1}".into(), "it is damaged: something unexpected is there"),
        (
            golden("\"instances\":2", "\"instances\":\"two\""),
            "it is damaged: something unexpected is there (line 2",
        ),
        (
            golden("\"apps\":", "\"more\":[],\"apps\":"),
            "it is damaged: something unexpected is there (line 1",
        ),
        (golden("\"old\"", "\"web\""), "it is damaged: two apps have the name `web`"),
        (golden("\"version\":1", "\"version\":0"), "it has version 0, this build reads version 1"),
        (
            golden("\"version\":1", "\"version\":2,\"new\":true"),
            "it has version 2, this build reads version 1",
        ),
        ([GOLDEN.as_bytes(), b"}"].concat(), "it is damaged: it is no JSON (line 6, column 1)"),
    ];
    for (bytes, cause) in cases {
        fs::write(home.state_file(), &bytes).unwrap();
        // Without a version before it, nothing is touched.
        let text = told(&scratch, &home);
        let expected = format!("Cannot read the saved state: /x/home/state.json: {cause}");
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.ends_with("; /x/home/state.json.bak: it is not there"));
        assert_eq!(fs::read(home.state_file()).unwrap(), bytes);
        // With one, that is used.
        fs::write(file::spare_of(&home.state_file()), GOLDEN).unwrap();
        let opened = open(&home);
        assert_eq!(names_of(&opened.store), ["web", "old"]);
        let [line] = &opened.lines[..] else { panic!("{:?}", opened.lines) };
        assert!(
            line.contains(cause) && line.contains("state.json.broken-") && line.ends_with("with 2 apps"),
            "{line}"
        );
        fs::remove_file(file::spare_of(&home.state_file())).unwrap();
        for name in files_of(&home) {
            fs::remove_file(home.folder().join(name)).unwrap();
        }
    }
}

#[test]
fn a_fault_tells_no_secret() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    fs::write(home.state_file(), GOLDEN.replace("[[\"KEY\",", "[\"s3cret\",[\"KEY\",")).unwrap();
    assert!(!told(&scratch, &home).contains("s3cret"));
}

#[test]
fn two_bad_files_stop_until_somebody_says_so() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    let spare = file::spare_of(&home.state_file());
    fs::write(home.state_file(), "bad").unwrap();
    fs::write(&spare, "worse").unwrap();
    let text = told(&scratch, &home);
    assert!(
        text.contains("/x/home/state.json: it is damaged") && text.contains(".bak: it is damaged"),
        "{text}"
    );
    fs::remove_file(home.state_file()).unwrap();
    assert!(told(&scratch, &home).contains("/x/home/state.json: it is not there; "));
    fs::write(home.state_file(), "bad").unwrap();

    let opened = Store::begin_anew(&home, |line| panic!("{line}")).unwrap();
    assert_eq!((opened.lines.len(), opened.store.dormant().len()), (2, 0));
    let mut store = opened.store;
    store.update(desired(&["new"]));
    assert!(store.close(DEADLINE));
    let kept: Vec<_> =
        files_of(&home).iter().map(|name| fs::read(home.folder().join(name)).unwrap()).collect();
    assert!(kept.contains(&b"bad".to_vec()) && kept.contains(&b"worse".to_vec()));
    assert_eq!(open(&home).last, desired(&["new"]));
}

#[test]
fn a_missing_file_with_a_version_before_it_is_not_nothing() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    save_all(&home, &[&["one"], &["one", "two"]]);
    fs::remove_file(home.state_file()).unwrap();
    let opened = open(&home);
    assert_eq!(names_of(&opened.store), ["one"]);
    assert!(opened.lines[0].ends_with("is used, with 1 app (remove both to begin with no apps)"));
}

#[test]
fn files_that_are_none_or_endless_are_refused() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    fs::create_dir(home.state_file()).unwrap();
    assert!(told(&scratch, &home).contains("it is not a file"));
    fs::remove_dir(home.state_file()).unwrap();
    // Nobody ever writes to it: opening would wait for ever.
    assert!(Command::new("mkfifo").arg(home.state_file()).status().unwrap().success());
    assert!(told(&scratch, &home).contains("it is not a file"));
    fs::remove_file(home.state_file()).unwrap();
    fs::File::create(home.state_file()).unwrap().set_len(300 << 20).unwrap();
    assert!(told(&scratch, &home).contains("300 MiB are more than a saved state has"));
}

#[test]
fn a_file_that_may_not_be_read_is_left_alone() {
    if skips_as_root() {
        return;
    }
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    save_all(&home, &[&["one"], &["one", "two"]]);
    fs::set_permissions(home.state_file(), fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(told(&scratch, &home), "Cannot read /x/home/state.json: permission denied");
    assert_eq!(files_of(&home), ["state.json", "state.json.bak"]);
}

/// A store whose alerts arrive at the receiver.
fn open_listening(home: &Home) -> (Store, mpsc::Receiver<String>) {
    let (sender, alerts) = mpsc::channel();
    let store = Store::open(home, move |line| drop(sender.send(line))).unwrap().store;
    (store, alerts)
}

fn assert_told_and_mended(
    home: &Home,
    mut store: Store,
    alerts: &mpsc::Receiver<String>,
    mend: impl FnOnce(),
) {
    store.update(desired(&["one", "two", "three"]));
    let line = alerts.recv_timeout(DEADLINE).unwrap();
    assert!(line.starts_with("Cannot save "), "{line}");
    assert!(line.ends_with("; the last saved version stays, and it is tried again"), "{line}");
    eventually("a second try", || store.saver.saves() >= 3);
    assert_eq!(file::load(&home.state_file()).unwrap().0.apps.len(), 2, "the last good version is there");
    assert_eq!(files_of(home), ["state.json", "state.json.bak"], "nothing half-written is left");
    assert!(alerts.try_recv().is_err(), "told once");
    mend();
    assert!(alerts.recv_timeout(DEADLINE).unwrap().ends_with("state.json is saved again"));
    assert!(store.close(DEADLINE));
    assert_eq!(open(home).last, desired(&["one", "two", "three"]));
}

#[test]
fn a_full_disk_loses_no_file() {
    let Some(disk) = Scratch::disk("64k") else { return };
    let home = home_in(&disk);
    save_all(&home, &[&["one"], &["one", "two"]]);
    let (mut store, alerts) = open_listening(&home);
    store.update(desired(&["one", "two"]));
    assert!(store.flush(DEADLINE));
    fs::write(disk.join("fill"), vec![0; 1 << 20]).unwrap_err();
    assert_told_and_mended(&home, store, &alerts, || fs::remove_file(disk.join("fill")).unwrap());
}

#[test]
fn a_read_only_disk_loses_no_file() {
    let Some(disk) = Scratch::disk("1m") else { return };
    let home = home_in(&disk);
    save_all(&home, &[&["one"]]);
    let (mut store, alerts) = open_listening(&home);
    store.update(desired(&["one", "two"]));
    assert!(store.flush(DEADLINE));
    disk.make_read_only();
    assert_told_and_mended(&home, store, &alerts, || disk.make_writable());
}

#[test]
fn a_daemon_that_ends_while_it_cannot_save_says_so() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    save_all(&home, &[&["one"]]);
    let (mut store, alerts) = open_listening(&home);
    fs::create_dir(file::spare_of(&home.state_file())).unwrap();
    store.update(desired(&["two"]));
    alerts.recv_timeout(DEADLINE).unwrap();
    assert!(!store.close(DEADLINE));
    assert_eq!(open(&home).last, desired(&["one"]));
}

#[test]
fn the_latest_wins_and_saves_are_few() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    let mut store = open(&home).store;
    let begin = std::time::Instant::now();
    for round in 0..2000 {
        store.update(desired(&["a", "b", if round % 2 == 0 { "c" } else { "d" }]));
    }
    assert!(store.flush(DEADLINE));
    let at_most = begin.elapsed().as_millis() as u64 / 100 + 2;
    assert!(store.saver.saves() <= at_most, "{} saves, {at_most} at most", store.saver.saves());
    assert!(store.close(DEADLINE));
    assert_eq!(open(&home).last, desired(&["a", "b", "d"]));
}

#[test]
fn large_states_make_nobody_wait() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    let mut store = open(&home).store;
    let mut large = desired(&["a", "b"]);
    for app in &mut large.apps {
        app.spec.env.push(("LARGE".into(), "x".repeat(10 << 20)));
    }
    for _ in 0..5 {
        let next = large.clone();
        let begin = std::time::Instant::now();
        store.update(next);
        assert!(begin.elapsed() < Duration::from_millis(50), "{:?}", begin.elapsed());
    }
    assert!(store.close(DEADLINE));
    assert_eq!(open(&home).last, large);
}

#[test]
fn savers_side_by_side_leave_a_whole_file() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    let sets: [&[&str]; 3] = [&["one"], &["one", "two"], &["one", "two", "three"]];
    std::thread::scope(|scope| {
        for names in sets {
            let file = home.state_file();
            // Against each other they may fail, but never leave a part.
            scope.spawn(move || (0..50).for_each(|_| drop(file::save(&file, &desired(names).apps, &[]))));
        }
    });
    let (state, lines) = file::load(&home.state_file()).unwrap();
    assert!(lines.is_empty() && sets.iter().any(|names| state.apps == desired(names).apps));
}

#[test]
fn dormant_apps_stay_until_they_run_or_are_deleted() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    save_all(&home, &[&["web", "api", "cron"]]);

    let mut store = open(&home).store;
    store.update(desired(&["other", "api"]));
    assert_eq!(names_of(&store), ["web", "cron"]);
    assert!(store.forget("cron") && !store.forget("cron") && !store.forget("other"));
    assert!(store.close(DEADLINE));

    let opened = open(&home);
    assert_eq!(opened.last, desired(&["other", "api"]), "dormant apps had no processes");
    assert_eq!(names_of(&opened.store), ["other", "api", "web"]);
    let mut store = opened.store;
    store.update(desired(&["web"]));
    // Deleted while it runs: gone for good.
    store.update(desired(&[]));
    assert!(store.close(DEADLINE));
    assert_eq!(names_of(&open(&home).store), ["other", "api"]);
}

#[test]
fn what_was_deleted_as_the_daemon_died_is_not_dormant() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    save_all(&home, &[&["old"]]);
    save_all(&home, &[&["web", "api"]]);

    // Its successor goes on with `api` only: the other was deleted, and that had not been saved.
    let Opened { mut store, last, .. } = open(&home);
    store.go_on_from(&last);
    store.update(desired(&["api"]));
    assert_eq!(names_of(&store), ["old"]);
    assert!(store.close(DEADLINE));
    assert_eq!(names_of(&open(&home).store), ["api", "old"]);
}

#[test]
fn a_frozen_store_keeps_what_was_wanted() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    let mut store = open(&home).store;
    store.update(desired(&["web", "api"]));
    store.freeze();
    store.update(desired(&["api"]));
    store.update(desired(&[]));
    assert!(store.close(DEADLINE));
    assert_eq!(open(&home).last, desired(&["web", "api"]));
}

#[test]
fn leftovers_of_a_killed_save_are_removed() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    save_all(&home, &[&["one"]]);
    for name in ["state.json.tmp-1-0", "state.json.tmp-spare", "state.json.tmp-99-7"] {
        fs::write(home.folder().join(name), "half").unwrap();
    }
    assert_eq!(open(&home).last, desired(&["one"]));
    assert_eq!(files_of(&home), ["state.json"]);
}

/// Saves for ever, for [`a_kill_at_any_moment_leaves_a_whole_file`], which kills this process.
#[test]
#[ignore = "only as the victim of another test"]
fn victim_of_kills() {
    let file = std::env::var("OXHERD_TEST_VICTIM").unwrap();
    for round in 0_usize.. {
        let names = ["one", "two", "three"];
        file::save(Path::new(&file), &desired(&names[..=round % 3]).apps, &[]).unwrap();
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_file() {
    let scratch = Scratch::new();
    let home = home_in(&scratch);
    save_all(&home, &[&["one"]]);
    let program = std::env::current_exe().unwrap();
    for round in 0..20 {
        // The victim is killed by `timeout`, which only then ends.
        let after = format!("0.0{:02}", 20 + round * 4);
        let victim = ["--exact", "state::tests::victim_of_kills", "--ignored"];
        let status = Command::new("timeout")
            .args(["--signal=KILL", &after])
            .arg(&program)
            .args(victim)
            .env("OXHERD_TEST_VICTIM", home.state_file())
            .output()
            .unwrap()
            .status;
        assert!(!status.success());
        let opened = open(&home);
        assert!(opened.lines.is_empty() && !opened.last.apps.is_empty(), "{:?}", opened.lines);
        assert!(files_of(&home).iter().all(|name| !name.contains("tmp")));
    }
}
