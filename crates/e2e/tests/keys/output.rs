//! Where the lines of workers go, how they look, and what becomes of files that have grown; and files with pids.

use std::fs;

use oxherd_e2e::{eventually, procs};
use serde_json::{Value, json};

use crate::stand::{Case, Seen, case, observe};

pub(crate) fn cases() -> Vec<Case> {
    [files(), lines(), rotation(), pids()].into_iter().flatten().collect()
}

#[test]
fn lines_and_pids_are_kept_where_and_as_the_app_says() {
    observe(&cases());
}

/// A program that runs this line and stays.
fn writes(line: &str, more: Value) -> Value {
    let mut app =
        json!({"script": format!("{line}; echo done >> \"$NOTES\"; exec sleep 1000"), "exec_mode": "fork"});
    app.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    app
}

fn says(more: Value) -> Value {
    writes("echo one; echo two >&2", more)
}

/// The files that were put aside for this one.
fn aside(seen: &Seen<'_>, file: &str) -> Vec<String> {
    let entries = fs::read_dir(seen.folder()).expect("a folder").flatten();
    let names = entries.filter_map(|it| it.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&format!("{file}."))).collect()
}

fn files() -> Vec<Case> {
    vec![
        case(
            &["out_file", "error_file", "log_file"],
            says(json!({"out_file": "a/out.log", "error_file": "$FOLDER/err.log", "log_file": "all.log"})),
            |seen| {
                assert_eq!(seen.wait_lines("a/out.log", 1), ["one"]);
                assert_eq!(seen.wait_lines("err.log", 1), ["two"]);
                let mut both = seen.wait_lines("all.log", 2);
                both.sort();
                assert_eq!(both, ["one", "two"]);
            },
        ),
        case(&["log_file"], says(json!({"log_file": true})), |seen| {
            let path = seen.home.path().join(format!("logs/{}.log", seen.app));
            eventually("both lines", || (fs::read_to_string(&path).ok()?.lines().count() == 2).then_some(()));
        }),
        case(
            &["out_file", "error_file"],
            says(json!({"out_file": "/dev/null", "error_file": "NULL", "log_file": "all.log"})),
            |seen| {
                seen.wait_lines("all.log", 2);
                let logs = fs::read_dir(seen.home.path().join("logs")).expect("a folder").flatten();
                let own = logs.filter(|it| it.file_name().to_string_lossy().starts_with(&seen.app));
                assert_eq!(own.count(), 0);
            },
        ),
        case(
            &["merge_logs"],
            says(
                json!({"merge_logs": false, "instances": 2, "out_file": "out.log", "error_file": "/dev/null"}),
            ),
            |seen| {
                seen.pids(2);
                let view = seen.view();
                let numbers = [0, 1].map(|slot| view["slots"][slot]["number"].to_string());
                for number in numbers {
                    assert_eq!(seen.wait_lines(&format!("out-{number}.log"), 1), ["one"]);
                }
                assert_eq!(seen.text("out.log"), "");
            },
        ),
        case(
            &["merge_logs"],
            says(json!({"merge_logs": true, "instances": 2, "out_file": "out.log"})),
            |seen| {
                assert_eq!(seen.wait_lines("out.log", 2), ["one", "one"]);
            },
        ),
        case(
            &["disable_logs"],
            says(json!({"disable_logs": true, "out_file": "out.log", "error_file": "err.log"})),
            |seen| {
                seen.wait_notes("done", 1);
                seen.home.ok(&["stop", &seen.app]);
                let left: Vec<_> = fs::read_dir(seen.folder()).expect("a folder").flatten().collect();
                assert!(left.is_empty(), "{left:?}");
            },
        ),
    ]
}

fn lines() -> Vec<Case> {
    vec![
        case(&["log_type"], says(json!({"log_type": "json", "out_file": "out.log"})), |seen| {
            let line = seen.wait_lines("out.log", 1).remove(0);
            let record: Value = serde_json::from_str(&line).expect("it is JSON");
            assert_eq!((&record["message"], &record["type"]), (&json!("one"), &json!("out")));
            assert_eq!(record["app_name"], *seen.app);
        }),
        case(
            &["log_date_format"],
            says(json!({"log_date_format": "[it is] YYYY", "out_file": "out.log"})),
            |seen| {
                let line = seen.wait_lines("out.log", 1).remove(0);
                assert!(line.starts_with("it is 20") && line.ends_with(": one"), "{line}");
            },
        ),
        case(&["time"], says(json!({"time": true, "out_file": "out.log"})), |seen| {
            let line = seen.wait_lines("out.log", 1).remove(0);
            let digits: String = line.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            assert_eq!(digits, "0000-00-00T00:00:00: one");
        }),
    ]
}

/// A hundred lines of a hundred bytes, with pauses: what comes at once is in one file.
const MANY: &str = "for i in $(seq 100 199); do printf '%s%096d\\n' $i 0; sleep 0.02; done";

fn rotation() -> Vec<Case> {
    let rotate = |rotate: Value| writes(MANY, json!({"out_file": "out.log", "log_rotate": rotate}));
    vec![
        case(
            &["log_rotate.size", "log_rotate.keep", "log_rotate.gzip"],
            rotate(json!({"size": "1K", "keep": 3, "gzip": false})),
            |seen| {
                seen.wait_notes("done", 1);
                eventually("the last lines", || {
                    seen.text("out.log").lines().last()?.starts_with("199").then_some(())
                });
                let aside = eventually("only so many are kept", || {
                    Some(aside(seen, "out.log")).filter(|it| it.len() == 3)
                });
                let is_whole = |name: &String| {
                    let text = seen.text(name);
                    (1..=1024).contains(&text.len()) && text.lines().all(|line| line.len() == 99)
                };
                assert!(
                    aside.iter().all(is_whole),
                    "{aside:?}: a file is put aside at its size, not compressed"
                );
            },
        ),
        case(&["log_rotate.gzip"], rotate(json!({"size": 1024, "keep": "4", "gzip": true})), |seen| {
            let name = eventually("a compressed file", || {
                aside(seen, "out.log").into_iter().find(|name| name.ends_with(".gz"))
            });
            let bytes = eventually("its bytes", || {
                fs::read(seen.folder().join(&name)).ok().filter(|bytes| bytes.len() > 2)
            });
            assert_eq!(bytes[..2], [0x1f, 0x8b]);
        }),
        case(
            &["log_rotate.every"],
            writes(
                "for i in $(seq 40); do echo $i; sleep 0.2; done",
                json!({"out_file": "out.log", "log_rotate": {"every": "1s", "size": false, "gzip": false}}),
            ),
            |seen| {
                eventually("files of a second each", || (aside(seen, "out.log").len() >= 2).then_some(()));
            },
        ),
        case(
            &["log_rotate"],
            writes(
                "head -c 12000000 /dev/zero | tr '\\0' x | fold -w 1000",
                json!({"out_file": "out.log", "log_rotate": false}),
            ),
            |seen| {
                let path = seen.folder().join("out.log");
                eventually("all of it, more than is usual", || {
                    (fs::metadata(&path).ok()?.len() >= 12_000_000).then_some(())
                });
                assert_eq!(aside(seen, "out.log"), [""; 0]);
            },
        ),
    ]
}

fn pids() -> Vec<Case> {
    vec![
        case(&["pid_file"], says(json!({"pid_file": "run/web.pid"})), |seen| {
            let pid = seen.pid();
            eventually("its pid", || (seen.text("run/web.pid") == format!("{pid}\n")).then_some(()));
            seen.home.ok(&["stop", &seen.app]);
            eventually("no file", || (!seen.folder().join("run/web.pid").exists()).then_some(()));
            assert!(!procs::is_alive(pid));
        }),
        case(&["pid_file"], says(json!({"pid_file": "web.pid", "instances": 2})), |seen| {
            let pids = seen.pids(2);
            for (slot, pid) in pids.iter().enumerate() {
                eventually("its pid", || {
                    (seen.text(&format!("web-{slot}.pid")) == format!("{pid}\n")).then_some(())
                });
            }
        }),
    ]
}
