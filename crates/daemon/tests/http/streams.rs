//! News and lines as they come.

use oxherd::api::OutputStream;
use oxherd::client::{LogsOf, Told};
use oxherd_core::{AppId, Notice};
use oxherd_engine::Stream;

use crate::rig::{Rig, run};

#[test]
fn news_come_with_names_and_pids() {
    let rig = Rig::with(&["web", "api"]);
    let mut all = rig.follow("/v1/events");
    let mut only = rig.follow("/v1/events?app=api");
    assert_eq!(rig.post("/v1/apps/web/scale", r#"{"instances":2}"#).status, 202);
    assert_eq!(rig.post("/v1/apps/api/stop", "").status, 202);
    let (name, item) = all.event().unwrap();
    assert_eq!((name.as_str(), &item["name"], &item["pid"]), ("notice", &"web".into(), &42.into()));
    assert_eq!(item["notice"], serde_json::json!({"notice": "scaled", "app": 0, "from": 1, "to": 2}));
    assert!(item["at_ms"].as_u64().unwrap() > 1_600_000_000_000);
    let (_, item) = only.event().unwrap();
    assert_eq!((&item["notice"]["notice"], &item["name"]), (&"stopping".into(), &"api".into()));
}

#[test]
fn a_new_app_s_news_have_its_name_and_so_does_its_end() {
    let rig = Rig::new();
    let mut follower = rig.follow("/v1/events");
    assert_eq!(rig.post("/v1/apps", &crate::rig::start_body("new")).status, 202);
    assert_eq!(rig.ask("DELETE", "/v1/apps/new", &[], b"").status, 202);
    loop {
        let (_, item) = follower.event().unwrap();
        assert_eq!(item["name"], "new", "{item}");
        if item["notice"]["notice"] == "deleted" {
            break;
        }
    }
}

#[test]
fn a_follower_that_does_not_read_is_told_how_much_it_missed() {
    let rig = Rig::with(&["web"]);
    let mut follower = rig.follow("/v1/events");
    let total = 200_000;
    for _ in 0..total {
        rig.herd.tell(Notice::Stopping { app: AppId(0) });
    }
    rig.herd.tell(Notice::Stopped { app: AppId(0) });
    let (mut heard, mut missing) = (0, 0);
    loop {
        let (name, item) = follower.event().unwrap();
        match name.as_str() {
            "dropped" => missing += item["count"].as_u64().unwrap(),
            _ if item["notice"]["notice"] == "stopped" => break,
            _ => heard += 1,
        }
        if heard + missing >= total {
            break;
        }
    }
    assert!(missing > 0, "the queue has a limit");
    assert!((total..=total + 1).contains(&(heard + missing)), "{heard} + {missing}");
}

#[test]
fn the_last_lines_come_from_the_files() {
    let rig = Rig::with(&["web", "api"]);
    for number in 0..20 {
        rig.herd.say("web", Stream::Stdout, format!("out {number}").as_bytes());
    }
    rig.herd.say("web", Stream::Stderr, b"bad \xff byte");
    rig.herd.say("api", Stream::Stdout, b"hello");
    rig.herd.logs().settle();
    let read = |path: &str| {
        let mut lines = rig.follow(path);
        std::iter::from_fn(|| lines.event())
            .map(|(name, line)| {
                assert_eq!((name.as_str(), &line["slot"]), ("line", &serde_json::Value::from(0)));
                let part = |key: &str| line[key].as_str().unwrap().to_owned();
                (part("name"), part("stream"), part("text"))
            })
            .collect::<Vec<_>>()
    };
    let web = read("/v1/logs?app=web");
    assert_eq!(web.len(), 16, "the last 15 of each file");
    assert_eq!(web[0], ("web".into(), "stdout".into(), "out 5".into()));
    assert_eq!(web[15], ("web".into(), "stderr".into(), "bad \u{fffd} byte".into()));
    assert_eq!(read("/v1/logs").len(), 17);
    assert_eq!(read("/v1/logs?app=all&stream=stderr").len(), 1);
    assert_eq!(read("/v1/logs?app=web&lines=2&stream=stdout")[0].2, "out 18");
    assert!(read("/v1/logs?lines=0").is_empty());
}

#[test]
fn no_line_is_missing_or_twice_between_the_file_and_what_follows() {
    let rig = Rig::with(&["web"]);
    for round in 0..5 {
        let herd = rig.herd.clone();
        let (half, is_half) = std::sync::mpsc::channel();
        let writing = std::thread::spawn(move || {
            for number in 0..4000 {
                herd.say("web", Stream::Stdout, format!("{round}-{number}").as_bytes());
                if number == 1000 {
                    half.send(()).unwrap();
                }
            }
        });
        is_half.recv().unwrap();
        let mut lines = rig.follow("/v1/logs?app=web&lines=1000000&follow=true");
        let mut next = 0;
        while next < 4000 {
            let (name, line) = lines.event().unwrap();
            if name == "dropped" {
                next += line["count"].as_u64().unwrap();
                continue;
            }
            let text = line["text"].as_str().unwrap();
            if text.starts_with(&format!("{round}-")) {
                assert_eq!(
                    text,
                    format!("{round}-{next}"),
                    "from the {}",
                    if line["slot"].is_null() { "file" } else { "worker" }
                );
                next += 1;
            }
        }
        writing.join().unwrap();
        rig.herd.logs().settle();
    }
}

#[test]
fn following_takes_only_what_was_asked_for() {
    let rig = Rig::with(&["web", "api"]);
    run(async {
        let of = LogsOf {
            app: Some("web".into()),
            lines: Some(0),
            follow: true,
            stream: Some(OutputStream::Stderr),
        };
        let mut lines = rig.client().logs(&of).await.unwrap();
        rig.herd.say("web", Stream::Stdout, b"not this");
        rig.herd.say("api", Stream::Stderr, b"nor this");
        rig.herd.say("web", Stream::Stderr, b"but \xfe this");
        let Some(Told::Item(line)) = lines.next().await.unwrap() else { panic!("a line") };
        assert_eq!((line.name.as_str(), line.text.as_str()), ("web", "but \u{fffd} this"));
        assert_eq!((line.slot.map(|slot| slot.0), line.stream), (Some(0), OutputStream::Stderr));
    });
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let rig = Rig::with(&["web"]);
    std::fs::create_dir(rig.folder.join("web-out.log")).unwrap();
    let (status, error) = rig.get("/v1/logs").problem();
    assert_eq!(status, 500);
    assert!(error.starts_with("cannot read /") && error.contains("web-out.log: "), "{error}");
}

#[test]
fn the_client_reads_a_stream_to_its_end() {
    let rig = Rig::with(&["web"]);
    let long = "x".repeat(60 << 10);
    for _ in 0..50 {
        rig.herd.say("web", Stream::Stdout, long.as_bytes());
    }
    rig.herd.logs().settle();
    run(async {
        let of = LogsOf { lines: Some(40), ..LogsOf::default() };
        let mut lines = rig.client().logs(&of).await.unwrap();
        let mut count = 0;
        while let Some(told) = lines.next().await.unwrap() {
            let Told::Item(line) = told else { panic!("nothing is dropped from a file") };
            assert_eq!(line.text.len(), long.len());
            count += 1;
        }
        assert_eq!(count, 40);
        assert!(lines.next().await.unwrap().is_none(), "the end stays the end");
    });
}
