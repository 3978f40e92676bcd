//! Real PM2 beside ours: the entries of `jlist` have the same keys with the same types.

use std::collections::BTreeMap;
use std::process::Command;

use oxherd_e2e::{Pm2, places};
use serde_json::Value;

/// PM2's own business: marks of its command line, of what it injects into programs, and of how it ends a tree.
const OWN: [&str; 3] = ["PM2_USAGE", "PM2_INTERACTOR_PROCESSING", "_tree_pids"];
/// With and without what is only there when it was asked for.
const APPS: &str = r#"{ "apps": [
  { "name": "web", "script": "server.js", "instances": 2, "env": { "A": "1" } },
  { "name": "solo", "script": "server.js", "max_memory_restart": "300M", "cron_restart": "0 3 * * *",
    "restart_delay": 3000, "log_file": "all.log", "namespace": "work", "args": ["--port", "1"], "exec_mode": "fork",
    "min_uptime": 300 }
] }"#;
const SERVER: &str = "require('node:http').createServer((_, res) => res.end('hi')).listen(0, '127.0.0.1');\n";

/// The program of that home which is really PM2.
fn real(pm2: &Pm2, args: &[&str]) -> Command {
    let mut command = pm2.called(&places::node(places::DEFAULT_NODE), &[]);
    command.arg(places::tool("bench/node_modules/pm2/bin/pm2")).args(args);
    command.env("PM2_HOME", pm2.home().surroundings().join("real")).env("PM2_DISABLE_VERSION_CHECK", "1");
    command
}

fn output(mut command: Command) -> String {
    let output = command.output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// By name and number within it: the first of each.
fn entries(text: &str) -> BTreeMap<String, Value> {
    let line = text.lines().find(|line| line.starts_with('[')).expect("there is a list");
    let list: Vec<Value> = serde_json::from_str(line).expect("it is JSON");
    list.into_iter()
        .rev()
        .map(|entry| (entry["name"].as_str().expect("it has a name").to_owned(), entry))
        .collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What is wrong with ours beside theirs. Variables of the environment are the caller's affair.
fn differences(ours: &Value, theirs: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |place: &str, ours: &Value, theirs: &Value, left_out: &dyn Fn(&str) -> bool| {
        for (key, value) in
            theirs.as_object().expect("it is an object").iter().filter(|(key, _)| !left_out(key))
        {
            match ours.get(key) {
                None => wrong.push(format!("{place}.{key} is missing")),
                Some(our) if kind(our) != kind(value) => {
                    wrong.push(format!("{place}.{key} is a {}, not a {}", kind(our), kind(value)));
                }
                Some(_) => {}
            }
        }
    };
    compare("entry", ours, theirs, &|_| false);
    compare("monit", &ours["monit"], &theirs["monit"], &|_| false);
    let variables = theirs["pm2_env"]["env"].as_object().expect("there is an environment");
    let name = theirs["name"].as_str().unwrap_or_default();
    compare("pm2_env", &ours["pm2_env"], &theirs["pm2_env"], &|key| {
        (variables.contains_key(key) && key != "unique_id") || OWN.contains(&key) || key == name
    });
    wrong
}

#[test]
fn entries_have_pm2_s_keys_and_types() {
    let pm2 = Pm2::new();
    pm2.home().write("server.js", SERVER);
    pm2.home().write("apps.json", APPS);
    output(real(&pm2, &["start", "apps.json"]));
    pm2.ok(&["start", "apps.json"]);
    for stop in [false, true] {
        if stop {
            output(real(&pm2, &["stop", "all"]));
            pm2.ok(&["stop", "all"]);
        }
        let (theirs, ours) = (entries(&output(real(&pm2, &["jlist"]))), entries(&pm2.ok(&["jlist"])));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
        for (name, their) in &theirs {
            let wrong = differences(&ours[name], their);
            assert!(wrong.is_empty(), "{name}, stopped: {stop}: {wrong:#?}");
            for key in [
                "status",
                "exec_mode",
                "pm_cwd",
                "pm_exec_path",
                "instances",
                "max_memory_restart",
                "cron_restart",
            ] {
                assert_eq!(ours[name]["pm2_env"][key], their["pm2_env"][key], "{name}: {key}");
            }
        }
    }
    // Of the same shape, and of the same lines in places.
    let pretty = (output(real(&pm2, &["prettylist"])), pm2.ok(&["prettylist"]));
    for line in ["    name: 'web',", "    pm2_env: {", "      status: 'stopped',", "      axm_dynamic: {},"] {
        assert!(pretty.0.lines().any(|it| it == line) && pretty.1.lines().any(|it| it == line), "{line}");
    }
    output(real(&pm2, &["kill"]));
}
