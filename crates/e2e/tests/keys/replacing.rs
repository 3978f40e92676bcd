//! When a worker is replaced though it runs, and what a watched file and the clock do.

use std::time::{Duration, Instant};

use oxherd_e2e::{Load, http};
use serde_json::json;

use crate::stand::{Case, Seen, case, observe};

pub(crate) fn cases() -> Vec<Case> {
    [worn(), watching()].into_iter().flatten().collect()
}

#[test]
fn workers_are_replaced_when_the_app_says() {
    observe(&cases());
}

/// One that hangs is replaced.
fn hangs(seen: &Seen<'_>) {
    let pid = seen.pid();
    seen.ask("/block");
    seen.wait_replaced(pid);
    seen.wait_log("it does not answer any more");
}

fn worn() -> Vec<Case> {
    vec![
        case(&["cron_restart"], json!({"cron_restart": "0"}), |seen| {
            seen.pid();
            assert!(seen.view()["cron_at_ms"].is_null());
        }),
        case(&["max_lifetime"], json!({"max_lifetime": "2s"}), |seen| {
            let pid = seen.pid();
            seen.wait_replaced(pid);
            seen.wait_log("it has lived for");
            seen.home.ok(&["delete", &seen.app]);
        }),
        case(&["max_memory_restart"], json!({"max_memory_restart": "150M"}), |seen| {
            let pid = seen.pid();
            seen.ask("/hold?mb=200");
            seen.wait_replaced(pid);
            seen.wait_log("it uses more memory than `max_memory_restart`");
        }),
        case(&["memory_warning"], json!({"memory_warning": "150M"}), |seen| {
            let pid = seen.pid();
            seen.ask("/hold?mb=200");
            seen.wait_log("more than 150");
            assert_eq!(seen.pid(), pid, "nothing is done to it");
        }),
        case(&["max_requests"], json!({"max_requests": 20}), |seen| {
            let pid = seen.pid();
            let address = seen.home.address(&seen.app);
            for _ in 0..30 {
                http::get(&address, "/");
            }
            seen.wait_replaced(pid);
            seen.wait_log("it has served `max_requests`");
        }),
        case(
            &["health_check"],
            json!({"health_check": 200, "drain_timeout": 100, "kill_timeout": 100}),
            hangs,
        ),
        case(
            &["health_check.interval"],
            json!({"health_check": {"interval": "0.2s"}, "drain_timeout": 100, "kill_timeout": 100}),
            hangs,
        ),
        case(&["instances.min", "instances.max"], json!({"instances": {"min": 1, "max": 2}}), |seen| {
            seen.pid();
            let load = Load::short(&seen.home.address(&seen.app), "/busy", 4);
            seen.pids(2);
            load.stop();
            assert!(!seen.home.run(&["scale", &seen.app, "3"]).status.success(), "beyond the bounds");
            seen.home.ok(&["scale", &seen.app, "1"]);
            assert!(!seen.home.run(&["scale", &seen.app, "0"]).status.success(), "likewise");
            seen.home.ok(&["delete", &seen.app]);
        }),
    ]
}

/// The time from a change to the reload for it.
fn changed(seen: &Seen<'_>, file: &str) -> Duration {
    seen.pid();
    let before = seen.generation();
    let since = Instant::now();
    seen.write(file);
    seen.wait_log("is reloaded: ");
    let took = since.elapsed();
    seen.wait_generation(before + 1);
    took
}

/// What is ignored changes nothing, though a later change of something else does.
fn ignores(seen: &Seen<'_>) {
    seen.pid();
    let before = seen.generation();
    ["a.tmp", "b.tmp"].into_iter().for_each(|file| seen.write(file));
    // One that ignores nothing is in the same folder.
    let witness = Seen { home: seen.home, app: format!("{}-witness", seen.app) };
    witness.wait_generation(2);
    assert_eq!(seen.generation(), before);
    changed(seen, "a.txt");
    assert_eq!(seen.generation(), before + 1);
}

fn watching() -> Vec<Case> {
    vec![
        case(&["watch"], json!({"watch": true}), |seen| {
            changed(seen, "any.txt");
        }),
        case(&["watch"], json!({"watch": ["../apps", "."]}), |seen| {
            changed(seen, "any.txt");
        }),
        case(&["ignore_watch"], json!({"watch": true, "ignore_watch": ["*.tmp"]}), ignores)
            .beside(json!({"watch": true})),
        case(
            &["watch_options.ignored"],
            json!({"watch": true, "watch_options": {"ignored": "*.tmp", "usePolling": false}}),
            ignores,
        )
        .beside(json!({"watch": true})),
        case(&["watch_delay"], json!({"watch": true, "watch_delay": 1500}), |seen| {
            let took = changed(seen, "any.txt");
            assert!(took >= Duration::from_millis(1500), "{took:?}");
        }),
        case(
            &["watch_options", "watch_options.awaitWriteFinish"],
            json!({"watch": true, "watch_options": {"awaitWriteFinish": true}}),
            |seen| {
                let took = changed(seen, "any.txt");
                assert!(took >= Duration::from_secs(2), "{took:?}");
            },
        ),
        case(
            &["watch_options.awaitWriteFinish.stabilityThreshold"],
            json!({"watch": true, "watch_options": {"awaitWriteFinish": {"stabilityThreshold": "1.2s"}}}),
            |seen| {
                let took = changed(seen, "any.txt");
                assert!(took >= Duration::from_millis(1200), "{took:?}");
            },
        ),
        case(&["cron_restart"], json!({"cron_restart": "*/2 * * * * *"}), |seen| {
            seen.wait_generation(2);
            seen.wait_log("the clock says so");
        }),
    ]
}
