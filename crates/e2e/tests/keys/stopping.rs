//! When a worker is ready, and how it ends.

use std::time::{Duration, Instant};

use oxherd_e2e::{Roll, eventually};
use serde_json::json;

use crate::stand::{Case, Seen, case, observe};

pub(crate) fn cases() -> Vec<Case> {
    [ready(), endings()].into_iter().flatten().collect()
}

#[test]
fn workers_are_ready_and_end_as_the_app_says() {
    observe(&cases());
}

/// It listens, and is not ready for that.
fn waits(seen: &Seen<'_>, word: &str) {
    seen.wait_notes(word, 1);
    seen.wait_status("starting");
    seen.open_gate();
    seen.pid();
}

fn ready() -> Vec<Case> {
    vec![
        case(&["wait_ready"], json!({"wait_ready": true}), |seen| waits(seen, "listens")),
        // The port is passed over for the worker's own listener.
        case(&["ready_probe"], json!({"ready_probe": "http://127.0.0.1:1/probe"}), |seen| {
            waits(seen, "probed")
        }),
        case(
            &["ready_probe.url", "ready_probe.interval"],
            json!({"ready_probe": {"url": "http://127.0.0.1:1/probe", "interval": "1.2s"}}),
            |seen| {
                let gaps = seen.gaps("probed", 3);
                assert!(gaps.iter().all(|gap| *gap >= 1100), "{gaps:?}: usually each half a second");
                waits(seen, "probed");
            },
        ),
        // Usually an answer is waited for for two seconds; this one takes two and a half.
        case(
            &["ready_probe.timeout"],
            json!({"ready_probe": {"url": "http://127.0.0.1:1/slow", "timeout": "15s"}}),
            |seen| {
                seen.pid();
                assert_eq!(seen.notes().iter().filter(|it| *it == "probed").count(), 1);
            },
        ),
        case(&["listen_timeout"], json!({"listen_timeout": 700, "env": {"DOES": "wait-for-gate"}}), |seen| {
            seen.open_gate();
            let pid = seen.pid();
            seen.close_gate();
            let began = Instant::now();
            assert!(!seen.home.run(&["reload", &seen.app]).status.success());
            seen.wait_log("Reload is aborted: the successor in slot 0 is not ready");
            assert!(began.elapsed() < Duration::from_secs(25), "usually thirty: {:?}", began.elapsed());
            assert_eq!(seen.pid(), pid, "the reload is aborted");
        }),
        case(
            &["parallel"],
            json!({"parallel": 2, "instances": 2, "env": {"DOES": "wait-for-gate"}}),
            |seen| {
                seen.open_gate();
                let before = seen.pids(2);
                seen.close_gate();
                let mut command = seen.home.command(&["reload", &seen.app]);
                let reload = std::thread::spawn(move || command.output());
                eventually("two successors at a time", || {
                    let seats = Roll::of(seen.home, &seen.app).seats;
                    (seats.iter().filter(|it| it.status == "starting").count() == 2).then_some(())
                });
                seen.open_gate();
                assert!(reload.join().expect("it ends").expect("it runs").status.success());
                assert!(seen.pids(2).iter().all(|pid| !before.contains(pid)));
            },
        ),
    ]
}

fn endings() -> Vec<Case> {
    vec![
        case(&["stop_signal"], json!({"stop_signal": "SIGINT", "env": {"DOES": "note-signals"}}), |seen| {
            seen.pid();
            seen.home.ok(&["stop", &seen.app]);
            assert_eq!(seen.wait_notes("SIG", 1), ["INT"]);
        }),
        case(
            &["stop_signal"],
            json!({"stop_signal": 10, "exec_mode": "fork", "env": {"DOES": "note-signals"}}),
            |seen| {
                seen.wait_notes("listens", 1);
                seen.home.ok(&["stop", &seen.app]);
                assert_eq!(seen.wait_notes("SIG", 1), ["USR1"]);
            },
        ),
        case(&["shutdown_with_message"], json!({"shutdown_with_message": true}), |seen| {
            seen.pid();
            seen.home.ok(&["stop", &seen.app]);
            assert_eq!(seen.wait_notes("message", 1), ["shutdown"]);
        }),
        // One that does not end for the signal: five seconds later, usually.
        case(
            &["kill_timeout"],
            json!({"kill_timeout": 300, "exec_mode": "fork", "env": {"DOES": "note-signals stay"}}),
            |seen| {
                seen.wait_notes("listens", 1);
                seen.stop_within(Duration::from_secs(4));
                assert_eq!(seen.wait_notes("SIG", 1), ["TERM"]);
            },
        ),
        // One that has a request in hand: ten seconds later, usually.
        case(&["drain_timeout"], json!({"drain_timeout": "300ms"}), |seen| {
            let client = seen.ask_in_vain("/never");
            seen.wait_notes("in hand", 1);
            seen.stop_within(Duration::from_secs(8));
            drop(client);
        }),
    ]
}
