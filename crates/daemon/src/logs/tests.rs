//! Files under real conditions: moved away, slow, full.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::*;

const WEB: AppId = AppId(0);
const LONG: Duration = Duration::from_secs(20);

struct Scene {
    folder: PathBuf,
    logs: Logs,
    alerts: mpsc::Receiver<String>,
}

impl Scene {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("oxherd-logs-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let (sender, alerts) = mpsc::channel();
        let logs = Logs::in_folder(folder.clone(), move |line| drop(sender.send(line))).unwrap();
        logs.know([(WEB, "web")].into_iter());
        Self { folder, logs, alerts }
    }

    /// Waits until all that was handed over is written or lost.
    fn settle(&self) {
        let (sender, receiver) = mpsc::channel();
        self.logs.written(Box::new(move |()| sender.send(()).unwrap()));
        receiver.recv_timeout(LONG).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.logs.close(LONG);
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[test]
fn each_stream_has_a_file_of_whole_lines() {
    let scene = Scene::new();
    for number in 0..1000 {
        scene.logs.line(WEB, Stream::Stdout, format!("out {number}").as_bytes());
        scene.logs.line(WEB, Stream::Stderr, format!("error {number}").as_bytes());
    }
    scene.settle();
    let expected = |what: &str| (0..1000).map(|number| format!("{what} {number}\n")).collect::<String>();
    assert_eq!(scene.read("web-out.log"), expected("out"));
    assert_eq!(scene.read("web-error.log"), expected("error"));
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(scene.folder.join("web-out.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew() {
    let scene = Scene::new();
    scene.logs.line(WEB, Stream::Stdout, b"before");
    scene.settle();
    fs::rename(scene.folder.join("web-out.log"), scene.folder.join("old.log")).unwrap();
    scene.logs.line(WEB, Stream::Stdout, b"meanwhile");
    scene.logs.reopen();
    scene.logs.line(WEB, Stream::Stdout, b"after");
    scene.settle();
    // Whether the line in between goes to the one or to the other, none is lost or cut.
    assert_eq!(scene.read("old.log") + &scene.read("web-out.log"), "before\nmeanwhile\nafter\n");
    assert!(scene.read("web-out.log").ends_with("after\n"));
}

#[test]
fn a_slow_disk_costs_lines_and_no_memory() {
    let scene = Scene::new();
    let slow = scene.folder.join("web-out.log");
    let made = std::process::Command::new("mkfifo").arg(&slow).status().unwrap();
    assert!(made.success());
    let line = vec![b'x'; 1000];
    for _ in 0..5000 {
        scene.logs.line(WEB, Stream::Stdout, &line);
    }
    let dropped = scene.logs.dropped_lines("web");
    assert!(dropped >= 5000 - (queue::APP_BYTES_MAX as u64 / 1001) - 300, "{dropped}");
    // Another app's lines are written all the same once somebody reads.
    let reader = std::thread::spawn(move || {
        use std::io::Read;
        let mut bytes = Vec::new();
        fs::File::open(slow).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    });
    scene.settle();
    scene.logs.forget(WEB);
    scene.settle();
    let bytes = reader.join().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let whole = text.lines().filter(|line| line.len() == 1000).count() as u64;
    assert_eq!(whole + dropped, 5000);
    assert!(
        text.ends_with(&format!("[oxherd] {dropped} lines lost: the disk was too slow or full\n")),
        "{dropped}"
    );
}

#[test]
fn a_file_that_cannot_be_written_is_told_once() {
    let scene = Scene::new();
    std::os::unix::fs::symlink("/dev/full", scene.folder.join("web-out.log")).unwrap();
    for _ in 0..3 {
        scene.logs.line(WEB, Stream::Stdout, b"lost");
        scene.settle();
    }
    assert_eq!(scene.logs.dropped_lines("web"), 3);
    assert!(scene.alerts.recv_timeout(LONG).unwrap().contains("web-out.log"));
    assert!(scene.alerts.try_recv().is_err());
}

#[test]
fn names_that_look_the_same_as_files_have_files_of_their_own() {
    let scene = Scene::new();
    scene.logs.know([(AppId(1), "a/b"), (AppId(2), "a b"), (AppId(3), "..")].into_iter());
    for app in 1..5 {
        scene.logs.line(AppId(app), Stream::Stdout, app.to_string().as_bytes());
    }
    scene.settle();
    for (name, text) in
        [("a-b-out.log", "1\n"), ("a-b-2-out.log", "2\n"), ("-.-out.log", "3\n"), ("app-4-out.log", "4\n")]
    {
        assert_eq!(scene.read(name), text, "{name}");
    }
    assert_eq!(scene.logs.paths("a b").0, scene.folder.join("a-b-2-out.log"));
}

#[test]
fn what_waits_is_written_before_the_end() {
    let scene = Scene::new();
    for _ in 0..100 {
        scene.logs.line(WEB, Stream::Stdout, b"line");
    }
    scene.logs.close(LONG);
    assert_eq!(scene.read("web-out.log").lines().count(), 100);
}
