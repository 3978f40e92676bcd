//! What is run, how often, and in which environment.

use std::fs;

use oxherd_e2e::{Home, eventually, procs};
use serde_json::json;

use crate::stand::{Case, Seen, case, case_as_root, command_line, environment, observe_in};

/// A program that is there and nothing else, and costs little.
const SLEEP: &str = "sleep 1000";

pub(crate) fn cases() -> Vec<Case> {
    [what(), how(), how_many(), variables()].into_iter().flatten().collect()
}

#[test]
fn what_is_run_how_often_and_with_which_variables() {
    let home = Home::new().with("FILTERED_TOKEN", "secret").with("FILTERED_OTHER", "word");
    observe_in(home, &cases());
}

fn what() -> Vec<Case> {
    vec![
        case(&["script"], json!({"script": "../apps/main.js"}), |seen| {
            let words = command_line(seen.pid());
            assert!(words[1].ends_with("/apps/main.js"), "{words:?}");
        }),
        case(&["script"], json!({"script": "sleep", "args": "1000", "exec_mode": "fork"}), |seen| {
            let words = command_line(seen.pid());
            assert!(words[0].ends_with("/sleep") && words[1] == "1000", "{words:?}: found on PATH");
        }),
        case(&["script"], json!({"script": "sleep 900 && exit 1", "exec_mode": "fork"}), |seen| {
            let words = command_line(seen.pid());
            assert!(words.contains(&"sleep 900 && exit 1".into()), "{words:?}: a line for the shell");
        }),
        case(&["name"], json!({"name": "a name", "script": SLEEP, "exec_mode": "fork"}), |seen| {
            Seen { home: seen.home, app: "a name".into() }.pid();
        }),
        case(
            &["name_prefix"],
            json!({"name_prefix": "shop", "script": SLEEP, "exec_mode": "fork"}),
            |seen| {
                Seen { home: seen.home, app: format!("shop:{}", seen.app) }.pid();
            },
        ),
        case(
            &["append_env_to_name"],
            json!({"append_env_to_name": true, "script": SLEEP, "exec_mode": "fork"}),
            |seen| {
                Seen { home: seen.home, app: format!("{}-production", seen.app) }.pid();
            },
        ),
        case(&["namespace"], json!({"namespace": "yard", "script": SLEEP, "exec_mode": "fork"}), |seen| {
            let pid = seen.pid();
            seen.home.ok(&["stop", "yard"]);
            assert!(!procs::is_alive(pid), "it is meant by its namespace");
        }),
        case(&["cwd"], json!({"cwd": "elsewhere", "script": SLEEP, "exec_mode": "fork"}), |seen| {
            let cwd = fs::read_link(format!("/proc/{}/cwd", seen.pid())).expect("it lives");
            assert_eq!(cwd, seen.home.surroundings().join("elsewhere"));
        }),
    ]
}

fn how() -> Vec<Case> {
    vec![
        case(&["args"], json!({"args": "-p '8 0' \"a\\\"b\""}), |seen| {
            let words = command_line(seen.pid());
            assert_eq!(words[words.len() - 3..], ["-p", "8 0", "a\"b"]);
        }),
        case(&["args"], json!({"args": ["one two", 3, ""]}), |seen| {
            let words = command_line(seen.pid());
            assert!(words.join("\0").contains("server.js\0one two\x003"), "{words:?}");
        }),
        case(
            &["interpreter"],
            json!({"interpreter": "python3", "script": "../apps/main.txt", "exec_mode": "fork"}),
            |seen| {
                let words = command_line(seen.pid());
                assert!(words[0].ends_with("python3") && words[1].ends_with("main.txt"), "{words:?}");
            },
        ),
        case(
            &["interpreter"],
            json!({"interpreter": "none", "script": "../apps/itself", "exec_mode": "fork"}),
            |seen| {
                assert_eq!(command_line(seen.pid()), ["sleep", "1000", "1"]);
            },
        ),
        case(&["node_args"], json!({"node_args": "--max-old-space-size=64 --no-deprecation"}), |seen| {
            let words = command_line(seen.pid());
            assert_eq!(words[1..3], ["--max-old-space-size=64", "--no-deprecation"]);
        }),
        case(&["exec_mode"], json!({"exec_mode": "cluster"}), |seen| {
            assert!(environment(seen.pid()).contains_key("NODE_UNIQUE_ID"), "a worker of a cluster");
        }),
        case(&["exec_mode"], json!({"exec_mode": "fork_mode"}), |seen| {
            let env = environment(seen.pid());
            assert!(!env.contains_key("NODE_UNIQUE_ID") && !env.contains_key("NODE_CHANNEL_FD"), "{env:?}");
        }),
        case_as_root(
            &["uid", "gid"],
            json!({"uid": 12_345, "gid": "12346", "script": SLEEP, "exec_mode": "fork"}),
            |seen| {
                let status = fs::read_to_string(format!("/proc/{}/status", seen.pid())).expect("it lives");
                assert!(status.contains("Uid:\t12345\t12345\t12345"), "{status}");
                assert!(status.contains("Gid:\t12346\t12346\t12346"), "{status}");
            },
        ),
        case_as_root(&["uid"], json!({"uid": "nobody", "script": SLEEP, "exec_mode": "fork"}), |seen| {
            let env = environment(seen.pid());
            assert_eq!(env.get("USER").map(String::as_str), Some("nobody"));
        }),
    ]
}

fn cpus() -> usize {
    std::thread::available_parallelism().expect("it is known").get()
}

fn how_many() -> Vec<Case> {
    let fork =
        |instances: serde_json::Value| json!({"instances": instances, "script": SLEEP, "exec_mode": "fork"});
    vec![
        case(&["instances"], fork(json!(3)), |seen| drop(seen.pids(3))),
        case(&["instances"], fork(json!("2")), |seen| drop(seen.pids(2))),
        case(&["instances"], fork(json!("max")), |seen| drop(seen.pids(cpus()))),
        case(&["instances"], fork(json!(0)), |seen| drop(seen.pids(cpus()))),
        case(&["instances"], fork(json!("io")), |seen| drop(seen.pids(2 * cpus()))),
        case(&["instances"], fork(json!(-1)), |seen| drop(seen.pids((cpus() - 1).max(1)))),
        case(&["standby"], json!({"standby": 1}), |seen| {
            seen.pid();
            let standby =
                eventually("one that waits", || seen.view()["standbys"][0]["worker"]["pid"].as_u64());
            assert!(procs::is_alive(standby as u32));
        }),
        case(&["autostart"], json!({"autostart": false, "script": SLEEP, "exec_mode": "fork"}), |seen| {
            eventually("it is known", || (seen.view()["up"] == false).then_some(()));
            assert_eq!(seen.home.pids(&seen.app), [0; 0]);
            seen.home.ok(&["start", &seen.app]);
            seen.pid();
        }),
    ]
}

fn variables() -> Vec<Case> {
    let fork = |more: serde_json::Value| {
        let mut app = json!({"script": SLEEP, "exec_mode": "fork"});
        app.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        app
    };
    vec![
        case(&["env"], fork(json!({"env": {"A": "x y", "B": 1.5, "C": true, "D": {"e": [1]}}})), |seen| {
            let env = environment(seen.pid());
            assert_eq!(
                ["A", "B", "C", "D"].map(|key| env[key].as_str()),
                ["x y", "1.5", "true", "{\"e\":[1]}"]
            );
            assert_eq!(env["FILTERED_TOKEN"], "secret", "the caller's is there, too");
        }),
        case(&["env"], fork(json!({"env": "A=1 B='2 3'"})), |seen| {
            let env = environment(seen.pid());
            assert_eq!((env["A"].as_str(), env["B"].as_str()), ("1", "2 3"));
        }),
        case(
            &["env_<name>"],
            fork(
                json!({"env": {"A": "plain", "B": "plain"}, "env_production": {"B": "laid over"}, "env_test": {"A": "no"}}),
            ),
            |seen| {
                let env = environment(seen.pid());
                assert_eq!((env["A"].as_str(), env["B"].as_str()), ("plain", "laid over"));
            },
        ),
        case(&["port"], fork(json!({"port": 3000})), |seen| {
            assert_eq!(environment(seen.pid())["PORT"], "3000");
        }),
        case(&["filter_env"], fork(json!({"filter_env": true})), |seen| {
            let env = environment(seen.pid());
            assert!(!env.contains_key("PATH") && env.contains_key("NOTES"), "{env:?}");
        }),
        case(&["filter_env"], fork(json!({"filter_env": "FILTERED_TOKEN"})), |seen| {
            let env = environment(seen.pid());
            assert!(!env.contains_key("FILTERED_TOKEN") && env.contains_key("FILTERED_OTHER"));
        }),
        case(&["filter_env"], fork(json!({"filter_env": ["LTERED_", "X_X"]})), |seen| {
            let env = environment(seen.pid());
            assert!(!env.keys().any(|key| key.starts_with("FILTERED")) && env.contains_key("PATH"));
        }),
        case(
            &["instance_var", "increment_var"],
            fork(json!({"instances": 2, "instance_var": "MINE", "increment_var": "AT", "env": {"AT": 4000}})),
            |seen| {
                let told = seen.pids(2).into_iter().map(environment);
                let told: Vec<String> = told.map(|env| format!("{} {}", env["MINE"], env["AT"])).collect();
                assert_eq!(told, ["0 4000", "1 4001"]);
            },
        ),
    ]
}
