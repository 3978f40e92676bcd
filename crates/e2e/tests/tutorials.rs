//! Clustered programs as tutorials teach them, run as they are: oxherd is the primary, their worker half runs.

use oxherd_e2e::reports;
use oxherd_e2e::{Event, Herd, Mark, eventually, http, procs, workers};
use rustix::process::Signal;

/// What any of them must stand: four processes, a kill, a reload, an end in peace.
fn stands_a_kill_and_a_reload(herd: &Herd) {
    let address = herd.address();
    let first = herd.pids_that_answer(&address, 4);
    let mark = herd.mark();
    procs::kill(first[0], Signal::KILL);
    let (successor, _) = herd.wait_event(mark, Event::Ready);
    assert!(herd.pids_that_answer(&address, 4).contains(&successor.pid));
    herd.reload();
    assert!(herd.pids_that_answer(&address, 4).iter().all(|pid| !first.contains(pid)));
}

fn run(name: &str, args: &[&str]) -> Herd {
    Herd::of(name).workers(4).args(args).env("PORT", "0").start()
}

#[test]
fn the_basic_cluster() {
    let herd = run("tutorial-basic.js", &[]);
    stands_a_kill_and_a_reload(&herd);
    assert_eq!(http::get(&herd.address(), "/").json()["message"], "Hello, cluster!");
    let lines = herd.stop();
    assert!(lines.iter().all(|line| !line.text.contains("forks")), "its primary half never runs");
}

#[test]
fn the_express_cluster() {
    let herd = run("tutorial-express.js", &[]);
    stands_a_kill_and_a_reload(&herd);
    let address = herd.address();
    assert_eq!(http::get(&address, "/health").json()["status"], "healthy");
    assert!(http::get(&address, "/heavy").json()["result"].as_f64().is_some_and(|it| it > 6.6e8));
    assert_eq!(http::get(&address, "/nowhere").status, 404);
    let lines = herd.stop();
    let ends = workers::of(&lines).into_iter().filter(|it| it.event == Event::Ended);
    assert_eq!(ends.filter(|it| !it.what.starts_with("ended with code 0")).count(), 1, "only the killed one");
}

#[test]
fn the_advanced_cluster() {
    let herd = run("tutorial-advanced.js", &["--wait-ready", "--status-interval", "200ms"]);
    stands_a_kill_and_a_reload(&herd);
    let address = herd.address();
    assert_eq!(http::get(&address, "/api/data").json()["data"], "some data");
    let answer = http::post(&address, "/api/process", "application/json", r#"{"data":[1,{"a":2}]}"#);
    assert_eq!(answer.json()["processed"].to_string(), r#"[1,{"a":2}]"#);

    // Each worker tells of its figures at every tenth request.
    eventually("a report with the figures of four workers", || {
        http::get(&address, "/");
        let reports = reports::of(&herd.lines());
        let whole =
            |it: &reports::Report| it.workers.iter().filter(|row| row.requests >= Some(10)).count() == 4;
        reports.into_iter().find(whole)
    });

    let mark = herd.mark();
    http::get(&address, "/api/fail");
    let (line, _) = herd.wait_text(mark, "reports an error");
    assert!(line.text.contains("a bug"), "{}", line.text);
    let (ended, mark) = herd.wait_event(mark, Event::Ended);
    assert!(ended.what.starts_with("ended with code 1"), "{}", ended.what);
    herd.wait_event(mark, Event::Ready);
    herd.pids_that_answer(&address, 4);

    let mark = herd.mark();
    let serving = herd.wait_count(4);
    let lines = herd.stop();
    let said = |text: String| lines.iter().filter(|line| line.is_of_worker() && line.text == text).count();
    for pid in serving {
        assert_eq!(said(format!("worker {pid} closes")), 1, "the shutdown message reaches it");
        assert_eq!(said(format!("worker {pid} has closed")), 1);
    }
    assert!(mark > Mark::START);
}
