//! Which exits are followed by a respawn, when, and when nobody tries any more.

use oxherd_e2e::eventually;
use serde_json::{Value, json};

use crate::stand::{Case, case, observe};

/// A program that notes its start and ends with this code, at once or after so many seconds.
fn ends(code: u8, after: &str, more: Value) -> Value {
    let line = format!("echo started $(date +%s%3N) >> \"$NOTES\"; sleep {after}; exit {code}");
    let mut app = json!({"script": line, "exec_mode": "fork"});
    app.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    app
}

pub(crate) fn cases() -> Vec<Case> {
    [which(), when(), how_often(), errors()].into_iter().flatten().collect()
}

#[test]
fn exits_are_followed_by_what_the_app_says() {
    observe(&cases());
}

fn which() -> Vec<Case> {
    vec![
        case(&["autorestart"], ends(1, "0", json!({"autorestart": false})), |seen| {
            seen.wait_status("stopped");
            assert_eq!(seen.notes().len(), 1);
        }),
        case(&["restart"], ends(0, "0", json!({"restart": "on-failure"})), |seen| {
            seen.wait_status("stopped");
            assert_eq!(seen.notes().len(), 1);
        }),
        case(&["restart"], ends(1, "0", json!({"restart": "on-failure"})), |seen| {
            seen.wait_notes("started", 3);
        }),
        case(&["restart"], ends(1, "0", json!({"restart": "never"})), |seen| {
            seen.wait_status("stopped");
            assert_eq!(seen.notes().len(), 1);
        }),
        case(&["stop_exit_codes"], ends(7, "0", json!({"stop_exit_codes": [0, "7"]})), |seen| {
            seen.wait_status("stopped");
            assert_eq!(seen.notes().len(), 1);
        }),
        case(&["stop_exit_codes"], ends(7, "0", json!({"stop_exit_codes": 8})), |seen| {
            seen.wait_notes("started", 3);
        }),
    ]
}

fn when() -> Vec<Case> {
    vec![
        // The usual pauses begin with 100 ms.
        case(&["restart_delay"], ends(1, "0", json!({"restart_delay": "700ms"})), |seen| {
            let gaps = seen.gaps("started", 3);
            assert!(gaps.iter().all(|gap| *gap >= 700), "{gaps:?}");
            seen.wait_log("respawn 2 of 16 in 700 ms");
        }),
        case(
            &["exp_backoff_restart_delay"],
            ends(1, "0", json!({"exp_backoff_restart_delay": 400})),
            |seen| {
                let gaps = seen.gaps("started", 4);
                assert!(
                    gaps[0] >= 400 && gaps[1] >= 600 && gaps[2] >= 900,
                    "{gaps:?}: each is half as long again"
                );
                ["1 of 16 in 400 ms", "2 of 16 in 600 ms", "3 of 16 in 900 ms"]
                    .iter()
                    .for_each(|pause| seen.wait_log(pause));
            },
        ),
    ]
}

fn how_often() -> Vec<Case> {
    vec![
        case(&["max_restarts"], ends(1, "0", json!({"max_restarts": "3", "restart_delay": 1})), |seen| {
            seen.wait_status("errored");
            assert_eq!(seen.notes().len(), 3);
        }),
        // Two unstable exits would be the end.
        case(
            &["min_uptime"],
            ends(1, "0.3", json!({"min_uptime": 50, "max_restarts": 2, "restart_delay": 1})),
            |seen| {
                seen.wait_notes("started", 6);
                assert_ne!(seen.status(), "errored");
            },
        ),
        case(
            &["min_uptime"],
            ends(1, "1.2", json!({"min_uptime": "1m", "max_restarts": 2, "restart_delay": 1})),
            |seen| {
                seen.wait_status("errored");
                assert_eq!(seen.notes().len(), 2);
            },
        ),
        case(
            &["restart_window"],
            // An unstable life and a stable one in turn: it is never twice within the window.
            json!({
                "script": "echo started >> \"$NOTES\"; [ $(($(wc -l < \"$NOTES\") % 2)) = 1 ] || sleep 1; exit 1",
                "exec_mode": "fork", "restart_window": "0.1s", "min_uptime": 300, "max_restarts": 2, "restart_delay": 1,
            }),
            |seen| {
                seen.wait_notes("started", 6);
                assert_ne!(seen.status(), "errored");
            },
        ),
    ]
}

fn errors() -> Vec<Case> {
    // A worker that reports an error and another one so many milliseconds later, up to four.
    let reports = |every: u32, more: Value| {
        let code = format!(
            "let told = 0; process.on('disconnect', () => process.exit()); const told_all = setInterval(() => {{ process.send({{ type: 'error', error: 'no' }}); if (++told === 4) clearInterval(told_all); }}, {every}); require('http').createServer().listen(0)"
        );
        let mut app =
            json!({"script": "node", "interpreter": "none", "sockets": "channel", "args": ["-e", code]});
        app.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        app
    };
    vec![
        case(&["max_errors"], reports(50, json!({"max_errors": 3})), |seen| seen.wait_status("errored")),
        case(&["error_window"], reports(800, json!({"error_window": "200ms", "max_errors": 2})), |seen| {
            eventually("all four are told", || (seen.view()["errors"] == 4).then_some(()));
            assert_eq!(seen.status(), "online");
        }),
    ]
}
