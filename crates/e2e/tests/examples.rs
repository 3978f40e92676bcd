//! Every example program, as a user starts it: its routes, what it prints, a killed worker, Ctrl-C.

use std::time::{Duration, Instant};

use oxherd_e2e::http::{get, post};
use oxherd_e2e::{Address, DEADLINE, Event, Herd, Mark, eventually, http, places, procs, reports, workers};
use rustix::process::Signal;
use serde_json::Value;

const JSON: &str = "application/json";

/// Starts an example on any port.
fn start(name: &str, args: &[&str], env: &[(&str, &str)]) -> Herd {
    let builder = Herd::program(places::example(name)).script_args(args).env("PORT", "0");
    env.iter().fold(builder, |builder, (key, value)| builder.env(key, value)).start()
}

/// As many workers as `Workers::PerCpu` makes.
fn cpus() -> usize {
    std::thread::available_parallelism().expect("the number of CPUs is known").get()
}

/// Kills one worker and waits until another serves in its slot.
fn stands_a_kill(herd: &Herd) {
    let serving = herd.wait_count(cpus());
    let mark = herd.mark();
    procs::kill(serving[0], Signal::KILL);
    let (ended, mark) = herd.wait_event(mark, Event::Ended);
    assert_eq!(ended.pid, serving[0]);
    herd.wait_event(mark, Event::Ready);
    herd.wait_count(cpus());
}

/// Ctrl-C: every worker leaves, code 0, nothing is left.
fn ends_by_ctrl_c(mut herd: Herd) -> Vec<oxherd_e2e::Line> {
    herd.signal(Signal::INT);
    let lines = herd.wait_code(0);
    let last_words =
        lines.iter().any(|line| line.is_of_primary() && line.text.starts_with("No worker is left"));
    assert!(last_words, "it says that it ends");
    lines
}

/// Asks until every worker has answered, which tells its pid under this name.
fn all_answer(address: &Address, path: &str, name: &str) {
    let mut pids = std::collections::BTreeSet::new();
    eventually("answers of all workers", || {
        pids.insert(get(address, path).json()[name].as_u64().expect("the answer names the process"));
        (pids.len() == cpus()).then_some(())
    });
}

fn is_timestamp(value: &Value) -> bool {
    // 2026-01-31T23:59:59.123Z
    value.as_str().is_some_and(|text| text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T')
}

#[test]
fn basic() {
    let herd = start("basic", &[], &[]);
    let address = herd.address();
    assert_eq!(get(&address, "/").text(), "Hello, Cluster!\n");
    stands_a_kill(&herd);
    assert_eq!(get(&address, "/").text(), "Hello, Cluster!\n");
    let lines = ends_by_ctrl_c(herd);
    let said = lines.iter().filter(|line| line.is_of_worker() && line.text.ends_with(" is running")).count();
    assert_eq!(said, cpus() + 1, "each worker says so");
}

#[test]
fn messages() {
    let mut herd = start("messages", &[], &[]);
    let lines = herd.wait_code(0);
    for worker in 1..=2 {
        let begins = format!("Message from worker {worker}: {{");
        let told: Vec<&str> = lines.iter().filter_map(|line| line.text.strip_prefix(&begins)).collect();
        assert!(
            told.iter().any(|text| text.contains(r#""type":"ready""#) && text.contains(r#""pid":"#)),
            "{told:?}"
        );
        assert!(told.iter().any(|text| text.contains("hello from slot")), "{told:?}");
    }
    let exits = lines.iter().filter(|line| line.text.contains(" exited (code Some(0), signal None)")).count();
    assert_eq!(exits, 2, "both are seen to exit");
}

#[test]
fn web() {
    let herd = start("web", &[], &[]);
    let address = herd.address();
    all_answer(&address, "/", "workerId");
    let greeting = get(&address, "/").json();
    assert_eq!(greeting["message"], "Hello from Cluster!");
    assert!(is_timestamp(&greeting["timestamp"]), "{greeting}");
    let health = get(&address, "/health").json();
    assert_eq!(health["status"], "healthy");
    assert!(health["uptime"].as_f64().is_some_and(|seconds| seconds > 0.0));
    assert!(health["memory"]["rss"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    let heavy = get(&address, "/heavy-task").json();
    assert!(heavy["result"].as_f64().is_some_and(|sum| (6.66e8..6.67e8).contains(&sum)), "{heavy}");
    assert!(heavy["duration"].as_f64().is_some_and(|milliseconds| milliseconds > 0.0));
    assert_eq!(post(&address, "/", JSON, r#"{"name":"ox","legs":4}"#).json()["body"]["legs"], 4);
    let form = post(&address, "/", "application/x-www-form-urlencoded", "name=an+ox&legs=4").json();
    assert_eq!((&form["body"]["name"], &form["body"]["legs"]), (&"an ox".into(), &"4".into()));
    let refused = post(&address, "/", JSON, "{");
    assert_eq!(refused.status, 400);
    assert!(refused.json()["error"].is_string());
    assert_eq!(get(&address, "/nowhere").status, 404);
    stands_a_kill(&herd);
    let lines = ends_by_ctrl_c(herd);
    let logged = |text: &str| lines.iter().any(|line| line.is_of_worker() && line.text.contains(text));
    assert!(logged("] GET /health - Worker "), "each request is a line");
    assert!(logged("] POST / - Worker "), "each request is a line");
}

#[test]
fn manager() {
    let herd = start("manager", &[], &[]);
    let address = herd.address();
    herd.wait_text(Mark::START, r#""type":"ready""#);
    assert_eq!(get(&address, "/").json()["message"], "Hello from Cluster!");
    let asked = Instant::now();
    assert_eq!(get(&address, "/api/data").json()["data"], "Sample data");
    assert!(asked.elapsed() >= Duration::from_millis(100));
    let done = post(&address, "/api/process", JSON, r#"{"data":[1,{"a":2}]}"#).json();
    assert_eq!(done["processedData"].to_string(), r#"[1,{"a":2}]"#);
    assert!(done["result"].as_f64().is_some_and(|sum| (2.1e7..2.2e7).contains(&sum)), "{done}");
    for bad in ["{", "[]", "{}"] {
        let refused = post(&address, "/api/process", JSON, bad);
        assert!((400..=422).contains(&refused.status) && refused.json()["error"].is_string(), "{bad}");
    }
    assert_eq!(post(&address, "/api/process", JSON, "{").status, 400);
    herd.wait_text(Mark::START, r#""type":"stats""#);
    stands_a_kill(&herd);
    // Whoever is being served when the end comes is served to the end.
    let mark = herd.mark();
    let waiting = {
        let address = address.clone();
        std::thread::spawn(move || get(&address, "/api/data").status)
    };
    herd.wait_text(mark, "GET /api/data");
    let lines = ends_by_ctrl_c(herd);
    assert_eq!(waiting.join().expect("the client does not panic"), 200);
    let ended = lines.iter().filter(|line| line.text.ends_with(" has ended in peace")).count();
    assert_eq!(ended, cpus());
}

#[test]
fn manager_gives_up_after_five_restarts() {
    let herd = start("manager", &[], &[]);
    herd.wait_count(cpus());
    let mut mark = Mark::START;
    loop {
        // A worker of slot 0 is killed as soon as there is one, until none follows.
        let (line, behind) = herd.wait_line(mark, DEADLINE, "what becomes of slot 0", |line| {
            let of_slot = |it: &workers::WorkerLine| it.slot == 0 && it.event == Event::Ready;
            line.text.starts_with("Slot 0 gives up")
                || workers::WorkerLine::parse(line).is_some_and(|it| of_slot(&it))
        });
        mark = behind;
        match workers::WorkerLine::parse(&line) {
            Some(ready) => procs::kill(ready.pid, Signal::KILL),
            None => {
                assert_eq!(line.text, "Slot 0 gives up: 5 unstable exits within 1 min 0 s");
                break;
            }
        }
    }
    let lines = herd.stop();
    assert!(lines.iter().any(|line| line.text == "Slot 0: respawn 1 of 5 in 1 s"), "with a second between");
}

#[test]
fn load_balancing() {
    for strategy in ["least-busy", "round-robin", "least-connections", "weighted", "random"] {
        let herd = start("load_balancing", &["--strategy", strategy], &[]);
        let address = herd.address();
        all_answer(&address, "/", "workerId");
        let info = get(&address, "/api/worker-info").json();
        assert!(info["pid"].is_u64() && info["uptime"].is_f64() && info["memory"]["rss"].is_u64(), "{info}");
        assert!(get(&address, "/api/heavy-task").json()["result"].as_f64().is_some_and(|sum| sum > 2.3e8));
        if strategy == "weighted" {
            let mut by_slot = [0; 2];
            for _ in 0..40 {
                let slot = get(&address, "/api/worker-info").json()["slot"].as_u64();
                by_slot[slot.map_or(1, |slot| slot.min(1)) as usize] += 1;
            }
            assert!(cpus() != 2 || (29..=31).contains(&by_slot[0]), "three of four: {by_slot:?}");
        }
        ends_by_ctrl_c(herd);
    }
    let mut refused = start("load_balancing", &["--strategy", "best"], &[]);
    let lines = refused.wait_code(2);
    assert!(lines.iter().any(|line| line.text.contains("unknown strategy `best`")), "it says what is wrong");
}

#[test]
fn load_balancing_reports_every_ten_seconds() {
    let herd = start("load_balancing", &[], &[]);
    let address = herd.address();
    (0..10).for_each(|_| drop(get(&address, "/")));
    herd.wait_text(Mark::START, "Report after 10");
    let report = eventually("a report with its rows", || {
        reports::of(&herd.lines()).into_iter().find(|report| report.workers.len() == cpus())
    });
    let requests: u64 = report.workers.iter().filter_map(|row| row.requests).sum();
    assert!(requests >= 10, "{report:?}");
    assert!(
        report.workers.iter().all(|row| row.connections.is_some() && !row.uptime.is_empty()),
        "{report:?}"
    );
    stands_a_kill(&herd);
    ends_by_ctrl_c(herd);
}

#[test]
fn tuned() {
    let herd = start("tuned", &[], &[("IO_INTENSIVE", "true")]);
    let address = herd.address();
    assert_eq!(herd.wait_count(2 * cpus()).len(), 2 * cpus());
    assert_eq!(get(&address, "/").json()["optimized"], true);
    let filled = get(&address, "/fill?mb=150").json()["workerId"].as_u64().expect("it names the process");
    let (warning, _) = herd.wait_text(Mark::START, "MiB, more than 100.0 MiB");
    assert!(warning.is_error && warning.text.contains(&format!("pid {filled})")), "{}", warning.text);
    ends_by_ctrl_c(herd);
    let herd = start("tuned", &[], &[]);
    herd.wait_count(cpus());
    stands_a_kill(&herd);
    ends_by_ctrl_c(herd);
}

/// One worker's view, by asking until it is that worker who answers.
fn seen_by(address: &Address, worker: u64) -> Value {
    eventually(&format!("an answer of worker {worker}"), || {
        let seen = get(address, "/").json();
        (seen["worker"] == worker).then_some(seen)
    })
}

#[test]
fn inter_worker() {
    let herd = start("inter_worker", &[], &[]);
    let address = herd.address();
    herd.wait_count(cpus());
    let kept = post(&address, "/cache/ox", JSON, r#""a strong animal""#).json();
    assert_eq!(kept["kept"], "ox");
    for worker in 1..=cpus() as u64 {
        eventually("the cache of every worker", || {
            (seen_by(&address, worker)["cache"]["ox"] == "a strong animal").then_some(())
        });
    }
    assert_eq!(post(&address, "/config/1", JSON, r#"{"colour":"red"}"#).json()["told"], 1);
    eventually("the config of worker 1", || {
        (seen_by(&address, 1)["config"]["colour"] == "red").then_some(())
    });
    if cpus() > 1 {
        assert!(seen_by(&address, 2)["config"].is_null(), "only one is told");
        let health = eventually("the health of worker 2", || {
            let answer = get(&address, "/health/2");
            (answer.status == 200).then(|| answer.json())
        });
        assert!(health["pid"].is_u64() && health["uptime"].is_f64(), "{health}");
    }
    assert_eq!(get(&address, "/health/99").status, 504);
    stands_a_kill(&herd);
    ends_by_ctrl_c(herd);
}

#[test]
fn monitor() {
    let herd = start("monitor", &[], &[("REPORT_SECONDS", "1")]);
    let address = herd.address();
    (0..6).for_each(|_| assert_eq!(get(&address, "/").status, 200));
    (0..3).for_each(|_| assert_eq!(get(&address, "/fail").status, 500));
    assert_eq!(get(&address, "/missing").status, 404);
    let report = eventually("a report with all requests", || {
        let reports = reports::of(&herd.lines());
        reports.into_iter().find(|it| it.figures.contains(&"10 requests".to_owned()))
    });
    assert!(report.figures.contains(&"4 errors".to_owned()), "{report:?}");
    assert!(report.figures.contains(&"error rate 40.00 %".to_owned()), "{report:?}");
    assert!(report.workers.iter().all(|row| row.memory.contains("iB")), "{report:?}");
    assert!(get(&address, "/status").json()["errorRate"].as_str().is_some_and(|rate| rate.ends_with('%')));
    let killed = herd.wait_count(cpus())[0];
    procs::kill(killed, Signal::KILL);
    // What it had counted is not lost with it.
    eventually("a later report with the requests of the dead", || {
        let reports = reports::of(&herd.lines());
        let total = |it: &reports::Report| {
            it.figures.iter().find_map(|it| it.strip_suffix(" requests")?.parse().ok())
        };
        reports
            .iter()
            .rev()
            .take(1)
            .find(|it| {
                it.workers.iter().all(|row| row.pid != killed)
                    && total(it).is_some_and(|total: u64| total >= 11)
            })
            .map(|_| ())
    });
    ends_by_ctrl_c(herd);
}

#[test]
fn errors() {
    let herd = start("errors", &[], &[]);
    let address = herd.address();
    assert_eq!(get(&address, "/").text(), "all is well\n");

    // The request fails, the worker goes on.
    assert!(http::try_once(&address, "GET", "/panic", "", b"").is_err());
    let (told, mark) = herd.wait_text(Mark::START, "reports an error: ");
    assert!(told.text.contains("a bug in a request"), "{}", told.text);
    assert_eq!(get(&address, "/task").status, 200);
    let (told, _) = herd.wait_text(mark, "reports an error: ");
    assert!(told.text.contains("cannot look up the meaning of it all"), "{}", told.text);

    let mark = herd.mark();
    assert!(http::try_once(&address, "GET", "/exit", "", b"").is_err());
    let (ended, mark) = herd.wait_event(mark, Event::Ended);
    assert!(ended.what.starts_with("ended with code 1"), "{}", ended.what);
    herd.wait_event(mark, Event::Ready);

    // Ten within the minute in one slot, and it stays empty.
    eventually("a slot that gives up", || {
        drop(http::try_once(&address, "GET", "/panic", "", b""));
        let gives_up = |line: &oxherd_e2e::Line| {
            line.text.ends_with(" gives up: 10 errors and failures within 1 min 0 s")
        };
        herd.lines().iter().any(gives_up).then_some(())
    });
    herd.stop();
}

#[test]
fn cluster_vs_threads() {
    let herd = start("cluster_vs_threads", &["threads", "--pool"], &[]);
    let address = herd.address();
    let greeting = get(&address, "/").json();
    assert_eq!(greeting["pid"], herd.pid(), "a thread of the primary serves");
    assert!(get(&address, "/heavy-task").json()["result"].as_f64().is_some_and(|sum| sum > 2.1e10));
    ends_by_ctrl_c(herd);

    let herd = start("cluster_vs_threads", &[], &[]);
    let address = herd.address();
    all_answer(&address, "/", "pid");
    assert_ne!(get(&address, "/").json()["pid"], herd.pid());
    stands_a_kill(&herd);
    ends_by_ctrl_c(herd);

    let mut compared = start("cluster_vs_threads", &["compare"], &[("COMPARE_SECONDS", "0.2")]);
    let lines = compared.wait_code(0);
    for kind in ["processes, handoff", "processes, kernel", "threads"] {
        for heavy in ["inline", "pool"] {
            let begins = format!("{kind}, {heavy} ");
            assert!(
                lines.iter().any(|line| line.text.starts_with(&begins) && line.text.ends_with("MiB")),
                "{begins}"
            );
        }
    }
}
