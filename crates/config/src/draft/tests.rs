//! Every key, and what it does to the specification.

use super::*;
use crate::difference::differences;
use crate::file::{jobs, read as read_file};
use crate::job::Surroundings;
use crate::keys::KEYS;
use crate::testing::Folder;

struct Setup {
    folder: Folder,
    as_pm2: bool,
}

impl Setup {
    fn new() -> Self {
        let folder = Folder::new();
        for script in ["server.js", "other.js", "jobs.py", "sub/server.js"] {
            folder.file(script, "", 0o644);
        }
        for program in ["node", "bun", "python3", "bash"] {
            folder.file(&format!("bin/{program}"), "", 0o755);
        }
        Self { folder, as_pm2: false }
    }

    fn surroundings(&self) -> Surroundings {
        let environment =
            [("PATH", self.folder.path().join("bin").display().to_string()), ("TOKEN", "t".into())];
        Surroundings {
            folder: self.folder.path().into(),
            environment: environment.map(|(key, value)| (key.into(), value.into())).into(),
            cpus: 4,
            env_name: Some("production".into()),
            logs: Some("/logs".into()),
            file_server: None,
            as_pm2: self.as_pm2,
        }
    }

    fn job(&self, keys: &str) -> crate::Job {
        let text = format!("{{\"script\": \"server.js\", \"env_production\": {{}}{keys}}}");
        let surroundings = self.surroundings();
        let apps = read_file("eco.json".as_ref(), &text, &surroundings).unwrap_or_else(|why| panic!("{why}"));
        jobs(&apps, &surroundings).unwrap_or_else(|why| panic!("{why}")).remove(0)
    }

    /// What keys change, without the folder.
    fn effect(&self, keys: &str) -> String {
        let (old, new) = (self.job("").spec, self.job(keys).spec);
        let list: Vec<String> = differences(&old, &new).iter().map(ToString::to_string).collect();
        let name = if old.name == new.name { String::new() } else { format!("name: {}", new.name) };
        let text = [vec![name], list]
            .concat()
            .into_iter()
            .filter(|it| !it.is_empty())
            .collect::<Vec<_>>()
            .join(", ");
        text.replace(&self.folder.path().display().to_string(), "~")
    }
}

/// A key with a value, and what it changes.
const EFFECTS: &[(&str, &str, &str)] = &[
    ("name", r#""shop""#, "name: shop"),
    ("name_prefix", r#""eu""#, "name: eu:server"),
    ("append_env_to_name", "true", "name: server-production"),
    ("namespace", r#""shop""#, "namespace: (default) → shop"),
    ("cwd", r#""sub""#, "cwd: ~ → ~/sub, script: ~/server.js → ~/sub/server.js"),
    ("args", r#""-p 80""#, r#"args: (default) → ["-p","80"]"#),
    (
        "interpreter",
        r#""bun""#,
        "distribution: handoff → kernel, interpreter: node → bun, sockets: channel → universal",
    ),
    ("node_args", r#"["-r", "x"]"#, r#"node_args: (default) → ["-r","x"]"#),
    ("exec_mode", r#""fork""#, "sockets: channel → none"),
    ("instances", r#""max""#, "instances: 1 → 4"),
    (
        "instances",
        r#"{"min": 2, "max": "max"}"#,
        "instances: 1 → 2, scaling.max: (default) → 4, scaling.min: (default) → 2",
    ),
    ("standby", "1", "standby: (default) → 1"),
    ("autostart", "false", "autostart: (default) → false"),
    ("env", r#"{"A": {"b": [1, "x"]}, "C": 1.0}"#, "env.A: added, env.C: added"),
    ("env", r#""A=1 B='2 3'""#, "env.A: added, env.B: added"),
    ("port", r#""3000""#, "env.PORT: added"),
    ("filter_env", r#""TOKEN""#, "filter_env: (default) → TOKEN"),
    ("filter_env", r#"["TO", "X"]"#, "filter_env: (default) → *TO* *X*"),
    ("instance_var", r#""SLOT""#, "instance_var: (default) → SLOT"),
    ("increment_var", r#""PORT""#, "increment_var: (default) → PORT"),
    ("autorestart", "false", "restart: always → never"),
    ("restart", r#""on-failure""#, "restart: always → on-failure"),
    ("restart_delay", "\"3000\"", "restart_delay: (default) → 3000"),
    ("exp_backoff_restart_delay", "100", "exp_backoff_restart_delay: (default) → 100"),
    ("exp_backoff_restart_delay", "0", ""),
    ("stop_exit_codes", "[0, \"143\"]", "stop_exit_codes: (default) → [0,143]"),
    ("stop_exit_codes", "0", "stop_exit_codes: (default) → [0]"),
    ("min_uptime", r#""10s""#, "min_uptime: 1000 → 10000"),
    ("max_restarts", r#""5""#, "max_restarts: 16 → 5"),
    ("restart_window", r#""1h""#, "restart_window: 60000 → 3600000"),
    ("max_errors", "5", "max_errors: (default) → 5"),
    ("error_window", r#""5m""#, "error_window: 60000 → 300000"),
    ("max_memory_restart", r#""1G""#, "max_memory_restart: (default) → 1073741824"),
    ("memory_warning", r#""300K""#, "memory_warning: (default) → 307200"),
    ("max_requests", "10000", "max_requests: (default) → 10000"),
    ("max_lifetime", r#""1d""#, "max_lifetime: (default) → 86400000"),
    ("health_check", "true", "health_check: (default) → 10000"),
    ("health_check", r#"{"interval": "5s"}"#, "health_check: (default) → 5000"),
    ("cron_restart", r#""0 4 * * *""#, "cron_restart: (default) → 0 4 * * *"),
    ("cron_restart", "0", ""),
    (
        "watch",
        "true",
        r#"watch.delay: (default) → 0, watch.ignore: (default) → [], watch.paths: (default) → ["~"]"#,
    ),
    ("wait_ready", "true", "wait_ready: false → true"),
    (
        "ready_probe",
        r#""tcp://127.0.0.1:80""#,
        "ready_probe.interval: (default) → 500, ready_probe.timeout: (default) → 2000, ready_probe.url: (default) → tcp://127.0.0.1:80",
    ),
    (
        "ready_probe",
        r#"{"url": "http://localhost:80/ready", "interval": "1s", "timeout": 300}"#,
        "ready_probe.interval: (default) → 1000, ready_probe.timeout: (default) → 300, ready_probe.url: (default) → http://localhost:80/ready",
    ),
    ("listen_timeout", "8000", "listen_timeout: 30000 → 8000"),
    ("drain_timeout", r#""20s""#, "drain_timeout: 10000 → 20000"),
    ("kill_timeout", "1600", "kill_timeout: 5000 → 1600"),
    ("stop_signal", r#""SIGINT""#, "stop_signal: SIGTERM → SIGINT"),
    ("shutdown_with_message", "true", "shutdown_with_message: false → true"),
    ("parallel", "2", "parallel: 1 → 2"),
    ("distribution", r#""kernel""#, "distribution: handoff → kernel"),
    ("strategy", r#""random""#, "strategy: least-busy → random"),
    ("sockets", r#""universal""#, "distribution: handoff → kernel, sockets: channel → universal"),
    ("serialization", r#""advanced""#, "serialization: (default) → advanced"),
    ("handoff_window", "4", "handoff_window: 2 → 4"),
    ("max_message", r#""1M""#, "max_message: 67108864 → 1048576"),
    ("out_file", r#""logs/out.log""#, "out_file: (default) → ~/logs/out.log"),
    ("out_file", r#""NULL""#, "out_file: (default) → /dev/null"),
    ("error_file", r#""/var/log/err.log""#, "error_file: (default) → /var/log/err.log"),
    ("log_file", r#""all.log""#, "log_file: (default) → ~/all.log"),
    ("log_file", "false", ""),
    ("log_file", "true", "log_file: (default) → /logs/server.log"),
    ("merge_logs", "false", "merge_logs: (default) → false"),
    ("disable_logs", "true", "disable_logs: (default) → true"),
    ("log_type", r#""json""#, "log_type: (default) → json"),
    ("log_date_format", r#""HH:mm""#, "log_date_format: (default) → HH:mm"),
    ("time", "true", "log_date_format: (default) → YYYY-MM-DDTHH:mm:ss"),
    (
        "log_rotate",
        r#"{"size": "1M", "every": "1d", "keep": 3, "gzip": false}"#,
        "log_rotate.every: (default) → 86400000, log_rotate.gzip: (default) → false, log_rotate.keep: (default) → 3, log_rotate.size: (default) → 1048576",
    ),
    (
        "log_rotate",
        "false",
        "log_rotate.gzip: (default) → true, log_rotate.keep: (default) → 10, log_rotate.size: (default) → 0",
    ),
    ("pid_file", r#""web.pid""#, "pid_file: (default) → ~/web.pid"),
];

/// Keys that need others, or a certain user, and the tests that have them.
const ELSEWHERE: [&str; 8] =
    ["script", "weights", "ports", "listen", "ignore_watch", "watch_delay", "watch_options", "uid"];

#[test]
fn every_key_has_its_effect_by_every_name() {
    let setup = Setup::new();
    for (key, value, wanted) in EFFECTS {
        let row = KEYS.iter().find(|row| row.names.contains(key)).expect("the key is known");
        for name in row.names {
            assert_eq!(setup.effect(&format!(", \"{name}\": {value}")), *wanted, "{name}: {value}");
        }
    }
    for row in KEYS {
        let is_tested = |name: &&str| EFFECTS.iter().any(|(key, ..)| key == name) || ELSEWHERE.contains(name);
        assert!(row.names.iter().any(is_tested) || row.key == Key::Gid, "{:?}", row.names);
    }
}

#[test]
fn watching_has_several_keys() {
    let setup = Setup::new();
    let spec = |keys: &str| setup.job(keys).spec.upkeep.watch;
    let watch = spec(
        r#", "watch": ["sub", "/srv"], "ignore_watch": "tmp", "watch_delay": 300,
        "watch_options": {"ignored": ["*.md"], "usePolling": false, "ignoreInitial": true}"#,
    );
    let paths = vec![setup.folder.path().join("sub").display().to_string(), "/srv".into()];
    let ignore = ["tmp", "*.md"].map(str::to_owned).into();
    assert_eq!(watch, Some(WatchSpec { paths, ignore, delay: Span::from_millis(300) }));
    let finish = r#", "watch": true, "watch_options": {"awaitWriteFinish": {"stabilityThreshold": 700, "pollInterval": 9}}"#;
    assert_eq!(spec(finish).map(|watch| watch.delay), Some(Span::from_millis(700)));
    assert_eq!(spec(r#", "watch": false, "ignore_watch": ["x"]"#), None);
}

#[test]
fn workers_run_as_somebody_else_for_root_only() {
    let setup = Setup::new();
    let text = "{\"script\": \"server.js\", \"user\": \"nobody\", \"env\": {\"USER\": \"me\"}}";
    let surroundings = setup.surroundings();
    let apps = read_file("eco.json".as_ref(), text, &surroundings).unwrap();
    match jobs(&apps, &surroundings) {
        Ok(jobs) => {
            let spec = &jobs[0].spec;
            let variable = |key| crate::environment::get(&spec.env, key).unwrap_or("-").to_owned();
            assert_ne!(variable("HOME"), "-");
            assert_eq!(variable("USER"), "me", "what was asked for stays");
            if let Some(owner) = &spec.owner {
                assert!(owner.uid > 0 && owner.gid > 0);
                assert_eq!(variable("LOGNAME"), "nobody");
            }
        }
        Err(why) => {
            assert!(why.to_string().contains("only root can start programs as another user"), "{why}")
        }
    }
}

#[test]
fn filtered_variables_stay_out() {
    let setup = Setup::new();
    let keys = |filter: &str| {
        let spec = setup.job(&format!(", \"filter_env\": {filter}, \"env\": {{\"A\": 1}}")).spec;
        spec.env.into_iter().map(|(key, _)| key).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(keys("false"), "PATH TOKEN A PWD");
    assert_eq!(keys("true"), "A PWD");
    assert_eq!(keys("\"TOKEN\""), "PATH A PWD");
    assert_eq!(keys("[\"OKE\", \"AT\"]"), "A PWD");
}

#[test]
fn what_was_asked_for_is_kept_for_those_who_look() {
    let setup = Setup::new();
    setup.folder.file("package.json", "{\"version\": \"1.2.3\"}", 0o644);
    let about = setup.job(r#", "node_args": "-r x", "args": "a b", "port": 80"#).spec.upkeep.about;
    assert_eq!(about.script, setup.folder.path().join("server.js").display().to_string());
    assert_eq!(
        (about.args, about.interpreter_args),
        (vec!["a".into(), "b".into()], vec!["-r".into(), "x".into()])
    );
    assert_eq!((about.interpreter.as_str(), about.version.as_deref()), ("node", Some("1.2.3")));
    assert_eq!(about.file, Some(setup.folder.path().join("eco.json").display().to_string()));
    assert_eq!(about.env_name.as_deref(), Some("production"));
    assert_eq!(about.env.into_iter().collect::<Vec<_>>(), [("PORT".into(), "80".into())]);
}

#[test]
fn pm2_s_defaults_hold_for_those_who_call_it() {
    let mut setup = Setup::new();
    setup.as_pm2 = true;
    let of = |keys: &str| {
        let spec = setup.job(keys).spec;
        let logs = if spec.upkeep.logs.per_slot { "own logs" } else { "one log" };
        let fork = if spec.upkeep.about.fork { "fork" } else { "cluster" };
        format!("{} {} {fork} {:?} {logs}", spec.stop_signal, spec.kill_timeout.as_millis(), spec.sockets)
    };
    assert_eq!(of(""), "SIGINT 1600 fork Universal one log");
    assert_eq!(of(", \"instances\": 1"), "SIGINT 1600 cluster Channel own logs");
    assert_eq!(of(", \"instances\": 2, \"merge_logs\": true"), "SIGINT 1600 cluster Channel one log");
    assert_eq!(of(", \"exec_mode\": \"cluster\""), "SIGINT 1600 cluster Channel own logs");
    assert_eq!(of(", \"wait_ready\": true"), "SIGINT 1600 fork Channel one log");
    assert_eq!(of(", \"max_requests\": 9"), "SIGINT 1600 fork Channel one log");
    assert_eq!(of(", \"sockets\": \"none\""), "SIGINT 1600 fork None one log");
    assert_eq!(of(", \"kill_timeout\": 9, \"stop_signal\": \"SIGHUP\""), "SIGHUP 9 fork Universal one log");
    assert_eq!(of(", \"exec_mode\": \"fork\", \"instances\": 2"), "SIGINT 1600 fork Universal own logs");
}

#[test]
fn unknown_keys_are_doubts_for_those_who_call_pm2() {
    let mut setup = Setup::new();
    setup.as_pm2 = true;
    let job = setup.job(", \"instnces\": 4,\n\"env\": {\"N\": null}, \"log_rotate\": {\"sise\": 1}");
    assert_eq!(
        job.doubts,
        [
            "eco.json:1: unknown key `instnces`; it is passed over (did you mean `instances`?)",
            "eco.json:2: unknown key `sise` in `log_rotate`; it is passed over (did you mean `size`?)"
        ]
    );
    assert_eq!(crate::environment::get(&job.spec.env, "N"), Some("null"));
}

#[test]
fn old_files_have_their_apps_by_another_name() {
    let mut setup = Setup::new();
    let read = |setup: &Setup, text: &str| {
        let apps = read_file("eco.json".as_ref(), text, &setup.surroundings());
        apps.map(|apps| apps.len()).map_err(|why| why.to_string())
    };
    let old = r#"{"pm2": [{"script": "server.js"}, {"script": "other.js"}]}"#;
    assert!(read(&setup, old).unwrap_err().contains("did you mean `apps`?"));
    setup.as_pm2 = true;
    assert_eq!(read(&setup, old), Ok(2));
    let both = r#"{"pm2": [{"script": "server.js"}], "apps": [{"script": "other.js"}]}"#;
    assert!(read(&setup, both).unwrap_err().contains("`apps` and `pm2` are the same"));
}

#[test]
fn numbers_in_an_environment_keep_their_text() {
    let setup = Setup::new();
    let env = |name: &str, text: &str| {
        let surroundings = setup.surroundings();
        let apps = read_file(name.as_ref(), text, &surroundings).unwrap_or_else(|why| panic!("{why}"));
        let spec = jobs(&apps, &surroundings).unwrap_or_else(|why| panic!("{why}")).remove(0).spec;
        let values = ["A", "B", "C", "D"].map(|key| crate::environment::get(&spec.env, key).unwrap_or("-"));
        values.join(" ")
    };
    let yaml = "apps:\n  - script: server.js\n    env: {A: 012, B: 1e3, C: &x 1.0, D: *x}\n";
    assert_eq!(env("eco.yaml", yaml), "012 1e3 1.0 1.0");
    let toml = "[[apps]]\nscript = 'server.js'\n[apps.env]\nA = 1.0\nB = 1e3\nC = 0x1F\nD = 1_000\n";
    assert_eq!(env("eco.toml", toml), "1.0 1e3 0x1F 1000");
    let json = r#"{"script": "server.js", "env": {"A": 1.0, "B": 1e3, "C": 7, "D": "012"}}"#;
    assert_eq!(env("eco.json", json), "1 1000 7 012");
}
