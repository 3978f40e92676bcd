//! What workers tell the primary, what it makes of it, and what it tells them.

use std::collections::BTreeMap;

use oxherd_e2e::http::Client;
use oxherd_e2e::reports::{self, Report};
use oxherd_e2e::{Address, Event, Herd, Mark, eventually, procs};
use rustix::process::Signal;
use serde_json::Value;

const INTERVAL: [&str; 2] = ["--status-interval", "200ms"];

/// A connection to each worker, by its id.
struct Workers(BTreeMap<u64, (u32, Client)>);

impl Workers {
    fn of(address: &Address, count: usize) -> Self {
        let mut workers = BTreeMap::new();
        eventually("a connection to each worker", || {
            let mut client = Client::connect(address).expect("it accepts");
            let answer = client.get("/").expect("it answers").json();
            let pid = answer["pid"].as_u64().expect("it tells") as u32;
            workers.entry(answer["worker"].as_u64().expect("it tells")).or_insert((pid, client));
            (workers.len() == count).then_some(())
        });
        Self(workers)
    }

    fn pid(&self, worker: u64) -> u32 {
        self.0[&worker].0
    }

    /// Lets a worker send a message.
    fn say(&mut self, worker: u64, message: &str) {
        let (_, client) = self.0.get_mut(&worker).expect("there is such a worker");
        let answer = client.request("POST", "/", "", message.as_bytes()).expect("it answers").json();
        assert_eq!(answer["worker"].as_u64(), Some(worker));
    }
}

/// Waits for a report since `mark` with all these figures.
fn wait_report(herd: &Herd, mark: Mark, figures: &[&str]) -> Report {
    eventually(&format!("a report with {figures:?}\n{}", herd.tail()), || {
        let mut reports = reports::of(&herd.since(mark));
        // The last one may not be whole yet.
        reports.pop();
        reports.into_iter().find(|report| figures.iter().all(|figure| report.has(figure)))
    })
}

#[test]
fn figures_add_up_and_survive_their_worker() {
    let herd = Herd::of("talk.js").workers(2).args(INTERVAL).start();
    let address = herd.address();
    let none = ["2 active workers", "0 requests", "0 errors", "error rate 0.00 %"];
    let report = wait_report(&herd, Mark::START, &none);
    assert_eq!(report.app, "talk");
    assert!(report.primary.contains("the primary uses ") && report.primary.ends_with(" MiB"));
    let mut workers = Workers::of(&address, 2);

    workers.say(1, r#"{"type":"stats","stats":{"connections":3,"requests":10}}"#);
    workers.say(1, r#"{"type":"request"}"#);
    workers.say(1, r#"{"type":"request","connections":4}"#);
    workers.say(2, r#"{"type":"metrics","data":{"requests":5,"errors":2,"memory":{"rss":1},"uptime":1}}"#);
    let figures = ["17 requests", "2 errors", "error rate 11.76 %"];
    let report = wait_report(&herd, Mark::START, &figures);
    let (one, two) = (workers.pid(1), workers.pid(2));
    let row = report.of(one).expect("the first worker has a row");
    assert_eq!((row.requests, row.connections, row.status.as_str()), (Some(12), Some(4), "online"));
    assert!(row.memory.ends_with(" MiB") && row.uptime.ends_with('s') && row.handed_over >= 1, "{row:?}");
    assert_eq!(report.of(two).map(|row| (row.worker, row.requests)), Some((2, Some(5))));

    let mark = herd.mark();
    procs::kill(one, Signal::KILL);
    let (_, mark) = herd.wait_event(mark, Event::Ready);
    let report = wait_report(&herd, mark, &["2 active workers", "17 requests", "2 errors"]);
    assert_eq!((report.of(one), report.of(two).and_then(|row| row.requests)), (None, Some(5)));
    herd.stop();
}

#[test]
fn reported_errors_are_shown_and_counted() {
    let herd = Herd::of("talk.js").workers(2).args(INTERVAL).start();
    let mut workers = Workers::of(&herd.address(), 2);
    workers
        .say(1, r#"{"type":"error","error":"no database","stack":"Error: no database\n    at main.js:3"}"#);
    let (line, _) = herd.wait_text(Mark::START, "reports an error");
    assert!(line.is_error && line.text.contains("no database"), "{}", line.text);
    workers.say(2, r#"{"type":"error","reason":"Unhandled rejection"}"#);
    herd.wait_text(Mark::START, "Unhandled rejection");
    wait_report(&herd, Mark::START, &["2 errors", "error rate 100.00 %"]);
    herd.stop();
}

#[test]
fn after_too_many_reported_errors_a_worker_is_not_replaced() {
    let args = ["--max-errors", "2", "--error-window", "60s"];
    let mut herd = Herd::of("talk.js").workers(1).args(args).start();
    let mut workers = Workers::of(&herd.address(), 1);
    workers.say(1, r#"{"type":"error","error":"one"}"#);
    workers.say(1, r#"{"type":"error","error":"two"}"#);
    herd.wait_text(Mark::START, "reports an error: two");
    procs::kill(workers.pid(1), Signal::KILL);
    let lines = herd.wait_code(3);
    assert!(lines.iter().any(|line| line.text.contains(" errors and failures within ")), "{lines:?}");
}

/// What workers print about messages, as worker and message.
fn heard(herd: &Herd) -> Vec<(u64, Value)> {
    let lines = herd.lines().into_iter().filter(|line| line.is_of_worker());
    let heard = lines.filter_map(|line| {
        let (worker, message) = line.text.split_once(" got ")?;
        Some((worker.parse().ok()?, serde_json::from_str(message).ok()?))
    });
    heard.collect()
}

#[test]
fn messages_reach_the_workers_they_name() {
    let herd = Herd::of("talk.js").workers(3).start();
    let mut workers = Workers::of(&herd.address(), 3);
    workers.say(1, r#"{"targetWorker":2,"type":"greet","data":{"n":1}}"#);
    workers.say(1, r#"{"targetWorker":2,"type":"greet","fromWorker":4711,"data":"kept"}"#);
    workers.say(3, r#"{"targetWorker":"all","type":"cache-update","data":[1,2]}"#);
    workers.say(2, r#"{"targetWorker":99,"type":"to nobody"}"#);
    workers.say(2, r#"{"targetWorker":3,"type":"the end"}"#);
    let mut heard = eventually("five messages", || Some(heard(&herd)).filter(|heard| heard.len() == 5));
    heard
        .sort_by_key(|(worker, message)| (*worker, message["type"].to_string(), message["data"].is_string()));
    let parsed = |text: &str| serde_json::from_str::<Value>(text).expect("it is JSON");
    let all = r#"{"targetWorker":"all","type":"cache-update","data":[1,2],"fromWorker":3}"#;
    let expected = [
        (1, parsed(all)),
        (2, parsed(all)),
        (2, parsed(r#"{"targetWorker":2,"type":"greet","data":{"n":1},"fromWorker":1}"#)),
        (2, parsed(r#"{"targetWorker":2,"type":"greet","fromWorker":4711,"data":"kept"}"#)),
        (3, parsed(r#"{"targetWorker":3,"type":"the end","fromWorker":2}"#)),
    ];
    assert_eq!(heard, expected);
    herd.stop();
}

fn shutdown_comes_first(args: &[&str], message: &str) {
    let herd = Herd::of("talk.js").workers(2).args(args).start();
    herd.wait_serving();
    let lines = herd.stop();
    for worker in [1, 2] {
        let said = format!("{worker} ");
        let said: Vec<&str> = lines
            .iter()
            .filter(|line| line.is_of_worker())
            .filter_map(|line| line.text.strip_prefix(&said))
            .collect();
        assert_eq!(said, [format!("got {message}").as_str(), "is disconnected"]);
    }
}

#[test]
fn shutdown_reaches_a_worker_before_it_is_disconnected() {
    shutdown_comes_first(&[], r#"{"type":"shutdown"}"#);
    shutdown_comes_first(&["--shutdown-with-message"], r#""shutdown""#);
}
