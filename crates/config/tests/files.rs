//! Whole files, as people write them: what they come to, and how each mistake in them is shown.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use oxherd_config::{Diagnostics, Job, RawApp, Surroundings, is_config, jobs, load, read};
use oxherd_core::{AppSpec, Strategy, Upkeep};

/// A folder with a few scripts and interpreters that only exist, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = Self(std::env::temp_dir().join(format!("oxherd-files-{}-{number}", std::process::id())));
        for script in ["server.js", "web/api.js", "web/jobs.py", "a b.js"] {
            folder.write(script, "", 0o644);
        }
        for program in ["node", "python3", "bash", "npm", "oxherd"] {
            folder.write(&format!("bin/{program}"), "", 0o755);
        }
        folder
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a folder can be made");
        fs::write(&path, content).expect("a file can be written");
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("permissions can be set");
    }

    fn surroundings(&self) -> Surroundings {
        let bin = self.0.join("bin").into_os_string();
        let environment = [("PATH", bin), ("HOME", "/home/me".into()), ("OXHERD_SLOT", "7".into())];
        Surroundings {
            folder: self.0.clone(),
            environment: environment.map(|(key, value): (&str, OsString)| (key.into(), value)).into(),
            cpus: 4,
            env_name: None,
            logs: None,
            file_server: Some(self.0.join("bin/oxherd")),
            as_pm2: false,
        }
    }

    fn jobs(&self, text: &str, env_name: Option<&str>) -> Result<Vec<Job>, Diagnostics> {
        let surroundings = Surroundings { env_name: env_name.map(str::to_owned), ..self.surroundings() };
        jobs(&read(Path::new("eco.json"), text, &surroundings)?, &surroundings)
    }

    fn job(&self, text: &str) -> Job {
        self.jobs(text, None).unwrap_or_else(|why| panic!("{why}")).remove(0)
    }

    /// The spec of an app with these keys besides a script.
    fn spec(&self, keys: &str) -> AppSpec {
        self.job(&format!("{{\"script\": \"server.js\", {keys}}}")).spec
    }

    fn without_me(&self, text: impl ToString) -> String {
        text.to_string().replace(self.0.to_str().expect("it is text"), "~")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn apps(text: &str) -> Result<Vec<RawApp>, Diagnostics> {
    read(Path::new("eco.json"), text, &bare())
}

/// Nothing around.
fn bare() -> Surroundings {
    Surroundings {
        folder: "/".into(),
        environment: Vec::new(),
        cpus: 1,
        env_name: None,
        logs: None,
        file_server: None,
        as_pm2: false,
    }
}

/// How a text is refused.
fn refused(text: &str) -> String {
    apps(text).expect_err(text).to_string()
}

/// How an app with these lines besides a script is refused.
fn refused_keys(lines: &str) -> String {
    refused(&format!("{{\n  \"script\": \"a.js\",\n{lines}\n}}"))
}

const FULL: &str = include_str!("full.json");

#[test]
fn a_full_file_is_understood() {
    let folder = Folder::new();
    let jobs = folder.jobs(FULL, Some("production")).unwrap_or_else(|why| panic!("{why}"));
    insta::assert_snapshot!(folder.without_me(format!("{jobs:#?}")));
}

#[test]
fn both_spellings_and_all_aliases_are_the_same() {
    let folder = Folder::new();
    let snake = r#"{"apps": [{"exec": "server.js", "exec_interpreter": "node", "interpreter_args": "-x",
        "exec_mode": "fork_mode", "max_restarts": 3, "min_uptime": "2s", "kill_timeout": 100}]}"#;
    let camel = r#"[{"cmd": "server.js", "execInterpreter": "node", "nodeArgs": ["-x"],
        "execMode": "fork", "maxRestarts": 3, "minUptime": 2000, "killTimeout": "100ms"}]"#;
    assert_eq!(folder.job(snake).spec, folder.job(camel).spec);
    let bare = r#"{"command": "server.js", "apps_are_none": 1}"#;
    assert!(refused(bare).contains("unknown key `apps_are_none`"));
}

#[test]
fn defaults_are_those_of_the_core() {
    let folder = Folder::new();
    let Job { spec, doubts } = folder.job("{\"script\": \"server.js\"}");
    assert_eq!(doubts, [""; 0]);
    let node = folder.0.join("bin/node").display().to_string();
    let core = AppSpec {
        args: spec.args.clone(),
        cwd: spec.cwd.clone(),
        env: spec.env.clone(),
        upkeep: Upkeep { about: spec.upkeep.about.clone(), ..Upkeep::default() },
        ..AppSpec::new("server", node)
    };
    assert_eq!(spec, core);
}

#[test]
fn instances_are_counted_as_pm2_counts_them() {
    let folder = Folder::new();
    let written = ["2", "\"2\"", "0", "\"0\"", "\"max\"", "-1", "\"-1\"", "\"io\"", "-9"];
    let counts = written.map(|value| folder.spec(&format!("\"instances\": {value}")).instances);
    assert_eq!(counts, [2, 2, 4, 4, 4, 3, 3, 8, 1]);
}

#[test]
fn times_and_sizes_have_units_or_are_plain() {
    let folder = Folder::new();
    let spans = ["1500", "\"1500ms\"", "\"1.5s\"", "1500.0"]
        .map(|value| folder.spec(&format!("\"drain_timeout\": {value}")).drain_timeout.as_millis());
    assert_eq!(spans, [1500; 4]);
    let sizes = ["2097152", "\"2M\"", "\"2048K\""]
        .map(|value| folder.spec(&format!("\"max_message\": {value}")).max_message);
    assert_eq!(sizes, [2 << 20; 3]);
}

#[test]
fn variables_are_laid_over_each_other() {
    let folder = Folder::new();
    let text = r#"{"script": "server.js", "port": 80, "env": {"PORT": 1, "A": "a", "N": 1.0, "F": false, "HOME": ""},
        "env_dev": {"A": "dev"}, "env_none": {}}"#;
    let env = |name| {
        let job = folder.jobs(text, name).unwrap().remove(0);
        let pairs = job.spec.env.iter().map(|(key, value)| format!("{key}={value}"));
        (pairs.collect::<Vec<_>>().join(" "), job.doubts)
    };
    let common = |a| folder.without_me(format!("PATH=~/bin HOME= PORT=80 A={a} N=1 F=false PWD=~"));
    assert_eq!((folder.without_me(env(None).0), env(None).1), (common("a"), vec![]));
    assert_eq!(folder.without_me(env(Some("dev")).0), common("dev"));
    assert_eq!(env(Some("none")).1, [""; 0]);
    assert_eq!(env(Some("staging")).1, ["eco.json: server has no `env_staging`"]);
}

#[test]
fn paths_start_at_the_file() {
    let folder = Folder::new();
    folder.write(
        "etc/eco.json",
        r#"[{"script": "api.js", "cwd": "../web", "interpreter": "../bin/node"}]"#,
        0o644,
    );
    let path = folder.0.join("etc/eco.json");
    let beside = folder.surroundings().beside(Path::new("etc/eco.json"));
    assert_eq!(beside.folder, folder.0.join("etc"));
    let spec = jobs(&load(&path, &bare()).unwrap(), &beside).unwrap().remove(0).spec;
    assert_eq!(folder.without_me(&spec.cwd), "~/etc/../web");
    assert_eq!(folder.without_me(&spec.args[0]), "~/etc/../web/api.js");
    assert_eq!(spec.env.iter().find(|(key, _)| key == "PWD").unwrap().1, spec.cwd);
}

/// PM2 has a server of files that is a script; where that is meant, no other program of the name is run in its place.
#[test]
fn a_server_of_files_is_no_script() {
    let mut folder = Folder::new();
    folder.write("bin/serve", "", 0o755);
    folder.write("site/index.html", "", 0o644);
    assert!(folder.job(r#"{"script": "serve"}"#).spec.program.ends_with("bin/serve"));
    let meant = r#"{"script": "serve", "env": {"PM2_SERVE_PATH": "site", "PM2_SERVE_PORT": 81, "PM2_SERVE_SPA": true}}"#;
    let Job { spec, doubts } = folder.job(meant);
    assert_eq!(
        (spec.name.as_str(), folder.without_me(&spec.program), doubts.len()),
        ("serve", "~/bin/oxherd".into(), 0)
    );
    let args = folder.without_me(spec.args.join(" "));
    assert_eq!(args, "serve-files ~/site 81 --host 0.0.0.0 --spa");
    assert_eq!(spec.sockets, oxherd_core::Sockets::Universal);
    let surroundings = Surroundings { as_pm2: true, ..folder.surroundings() };
    let apps = read(Path::new("eco.json"), r#"{"script": "serve"}"#, &surroundings).expect("it is a file");
    assert!(jobs(&apps, &surroundings).expect("it can be had")[0].spec.program.ends_with("bin/oxherd"));
    let nowhere = Surroundings { file_server: None, ..surroundings };
    let why = jobs(&apps, &nowhere).expect_err("nobody serves").to_string();
    assert!(why.contains("not offered: `oxherd serve PATH PORT`"), "{why}");
    let wrong = meant.replace("\"site\"", "\"gone\"");
    let why = folder.jobs(&wrong, None).expect_err("there is no folder").to_string();
    assert!(why.contains("cannot serve gone: it does not exist; name an existing folder"), "{why}");
    folder.write("serve", "", 0o755);
    assert!(folder.job(meant).spec.program.ends_with("serve"), "a script of that name is one");
    beside_apps(&mut folder);
}

/// The same under a key of its own.
fn beside_apps(folder: &mut Folder) {
    let text = r#"{"apps": [{"script": "server.js"}], "static": [
        {"path": "./site", "port": 82, "spa": true, "homepage": "/app.html", "basic_auth": {"username": "u", "password": "p"}},
        {"name": "docs", "path": "site", "ftp": true, "host": "127.0.0.1", "monitor": "key"}]}"#;
    let jobs = folder.jobs(text, None).unwrap_or_else(|why| panic!("{why}"));
    let lines =
        jobs.iter().map(|job| folder.without_me(format!("{} {}", job.spec.name, job.spec.args.join(" "))));
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            "server ~/server.js",
            "static-page-server-82 serve-files ~/site 82 --host 0.0.0.0 --spa --homepage=/app.html",
            "docs serve-files ~/site 8080 --host 127.0.0.1 --ftp",
        ]
    );
    let login = ("OXHERD_SERVE_AUTHORIZATION".to_owned(), "Basic dTpw".to_owned());
    assert!(jobs[1].spec.env.contains(&login) && !jobs[2].spec.env.iter().any(|(key, _)| *key == login.0));
    assert_eq!(jobs[2].doubts, ["eco.json: `monitor` of docs has no effect here"]);
    assert_eq!(folder.jobs(r#"{"static": {"path": "site"}}"#, None).expect("no app is needed").len(), 1);
    for (keys, told) in [
        (r#""host": "here""#, "`host` is `here`: give an address such as 127.0.0.1"),
        (
            r#""basic_auth": {"username": "me"}"#,
            "`basic_auth` needs `basic_auth.username` and `basic_auth.password`",
        ),
    ] {
        let text = format!(r#"{{"static": [{{"path": "site", {keys}}}]}}"#);
        let why = folder.jobs(&text, None).expect_err("it cannot be had").to_string();
        assert!(why.contains(told) && !why.contains("PM2_"), "{why}");
    }
    let servers = r#"{"apps": [], "static": [{"path": "site"}]}"#;
    assert_eq!(folder.jobs(servers, None).expect("no app is needed").len(), 1);
    assert!(refused(r#"{"apps": [], "static": []}"#).contains("there is no app in the list"));
    assert!(refused(r#"{"static": []}"#).contains("there is no app in it"));
    let wrong = r#"{"static": [{"pth": "site", "port": "many"}, {"path": "gone"}, 7]}"#;
    let why = folder.jobs(wrong, None).expect_err("mistakes").to_string();
    assert!(why.contains("unknown key `pth`") && why.contains("did you mean `path`?"), "{why}");
    assert!(why.contains("`port`: give a number") && why.contains("a server of files is an object"), "{why}");
    let why = folder.jobs(r#"{"static": [{"path": "gone"}]}"#, None).expect_err("no folder").to_string();
    assert!(why.contains("eco.json:1:13: cannot serve gone: it does not exist"), "{why}");
}

#[test]
fn programs_and_shell_lines_run_without_an_interpreter() {
    let folder = Folder::new();
    let shown = |script: &str| {
        let spec = folder.job(script).spec;
        folder.without_me(format!("{} {} {:?} {:?}", spec.name, spec.program, spec.args, spec.sockets))
    };
    assert_eq!(
        shown(r#"{"script": "npm", "args": "run start"}"#),
        r#"npm ~/bin/npm ["run", "start"] Universal"#
    );
    assert_eq!(
        shown(r#"{"name": "x", "cmd": "npm run a && b"}"#),
        r#"x ~/bin/bash ["-c", "npm run a && b"] Universal"#
    );
    assert_eq!(
        shown(r#"{"script": "bin/npm run a"}"#),
        r#"npm ~/bin/bash ["-c", "bin/npm run a"] Universal"#
    );
    assert_eq!(shown(r#"{"script": "a b.js"}"#), r#"a b ~/bin/node ["~/a b.js"] Channel"#);
}

#[test]
fn modes_decide_over_sockets() {
    let folder = Folder::new();
    let job = |keys: &str| folder.job(&format!("{{{keys}}}"));
    let fork = job(r#""script": "server.js", "exec_mode": "fork", "instances": 3"#);
    assert_eq!((format!("{:?}", fork.spec.sockets), fork.doubts.len()), ("None".into(), 0));
    let cluster = job(r#""script": "server.js", "exec_mode": "cluster_mode", "instances": 3"#);
    assert_eq!((format!("{:?}", cluster.spec.sockets), cluster.doubts.len()), ("Channel".into(), 0));
    let python = job(r#""script": "web/jobs.py", "exec_mode": "cluster""#);
    assert_eq!(format!("{:?} {}", python.spec.sockets, python.spec.distribution), "Universal kernel");
    let alone = job(r#""script": "web/jobs.py", "exec_mode": "fork""#);
    assert_eq!(format!("{:?} {}", alone.spec.sockets, alone.spec.distribution), "None handoff");
}

#[test]
fn ports_standbys_and_listeners_have_their_forms() {
    let folder = Folder::new();
    let spec = |keys: &str| folder.job(&format!(r#"{{"script": "web/jobs.py", {keys}}}"#)).spec;
    let ports = |value: &str| spec(&format!(r#""ports": {value}"#)).ports.to_string();
    let forms = ["80", r#""80,443,8000-8999""#, r#"[80, "443", "8000-8999"]"#, r#""all""#];
    assert_eq!(forms.map(ports), ["80", "80,443,8000-8999", "80,443,8000-8999", "all"]);
    assert_eq!((spec(r#""standby": 2"#).standby, spec(r#""standby": 0"#).standby), (2, 0));
    let listen = |value: &str| {
        let spec = spec(&format!(r#""sockets": "listen-fds", "listen": {value}"#));
        spec.listen.iter().map(|it| format!("{}={}", it.name, it.address)).collect::<Vec<_>>().join(" ")
    };
    let both = "web=0.0.0.0:80 admin=/run/admin.sock";
    assert_eq!(listen(r#"{"web": "0.0.0.0:80", "admin": "/run/admin.sock"}"#), both);
    assert_eq!(listen(r#"["web=0.0.0.0:80", "admin=/run/admin.sock"]"#), both);
    assert_eq!(listen(r#""web=[::]:80""#), "web=[::]:80");
}

#[test]
fn every_mistake_is_shown_at_its_line() {
    let cases = [
        r#"  "instnces": 4"#,
        r#"  "name": "a", "colour": "red""#,
        "  \"watch\": 5,\n  \"cronRestart\": \"0 * * *\",\n  \"max_memory_restart\": \"1T\"",
        r#"  "treekill": false, "force": true, "post_update": ["npm install"], "interpreter": "node@20""#,
        r#"  "log_rotate": {"sise": 1, "keep": "x"}, "health_check": {"every": 1}, "ready_probe": "http://x""#,
        r#"  "instances": {"min": 2}, "uid": [], "watch_options": {"usePolling": true}, "filter_env": 5"#,
        r#"  "stop_exit_codes": [256, "x"], "log_file": 5, "instance_var": "A=B", "log_type": "xml""#,
        "  \"name\": \"a\",\n  \"name\": \"b\"",
        "  \"exec\": \"b.js\"",
        "  \"max_restarts\": 1,\n  \"maxRestarts\": 2",
        r#"  "instances": true, "name": 5, "args": {}, "wait_ready": "yes", "env": [], "port": null"#,
        r#"  "instances": "many", "port": 70000, "max_restarts": 0, "parallel": -1, "handoff_window": 1.5"#,
        r#"  "kill_timeout": "30x", "min_uptime": -1, "listen_timeout": [], "drain_timeout": 1e12, "max_message": "1X""#,
        r#"  "restart": "maybe", "strategy": "sticki", "distribution": "x", "sockets": "seccomp", "stop_signal": "SIGFOO""#,
        r#"  "weights": "3;1", "strategy": "best""#,
        r#"  "weights": [3, -1, "x"]"#,
        r#"  "weights": 3"#,
        r#"  "exec_mode": "thread", "args": "'a", "node_args": ["-x", true], "cwd": "", "interpreter": " ""#,
        r#"  "env": {"": "x", "A=B": "x", "NODE_CHANNEL_FD": 3, "N": null, "Z": "a\u0000b"}"#,
        r#"  "exec_mode": "fork", "sockets": "channel""#,
        r#"  "exec_mode": "fork", "sockets": "universal""#,
        r#"  "ports": "9-8", "standby": -1, "listen": 80"#,
        r#"  "ports": [80, true], "standby": "two", "listen": ["web"]"#,
        r#"  "ports": {}, "listen": {"web": 80}"#,
        r#"  "exec_mode": "fork", "distribution": "shared""#,
        r#"  "exec_mode": "cluster", "sockets": "none""#,
        r#"  "autorestart": true, "restart": "always""#,
        r#"  "envProduction": {}, "env_": {}"#,
    ];
    let shown: Vec<String> = cases.iter().map(|case| refused_keys(case)).collect();
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[test]
fn files_that_are_no_list_of_apps_are_refused() {
    let cases = [
        "",
        "null",
        "[]",
        "{}",
        "{\"apps\": []}",
        "{\"apps\": 5}",
        "[\"a.js\", {\"name\": \"x\"}]",
        "{\n  \"apps\": [{\"script\": \"a.js\"}],\n  \"deploy\": {},\n  \"static\": [],\n  \"name\": \"x\",\n  \"watch\": true,\n  \"foo\": 1\n}",
        "{\"app\": [{\"script\": \"a.js\"}]}",
        "{\"pm2\": [{\"script\": \"a.js\"}]}",
        "[{\"script\": \"a.js\"},\n {\"script\": \"b.js\"},\n {\"script\": \"x/a.ts\"},\n {\"script\": \"c.js\", \"name\": \"b\"}]",
        "{\n  apps: [{\n    script: 'a.js', # the server\n  }]\n}",
        "{\n  \"apps\": [\n    {\"script\": \"a.js\"\n     \"name\": \"x\"}\n  ]\n}",
        "module.exports = {}",
    ];
    let shown: Vec<String> = cases.iter().map(|case| refused(case)).collect();
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[test]
fn a_file_that_cannot_be_read_is_told_by_name() {
    let folder = Folder::new();
    folder.write("latin.json", b"{\n\"name\": \"\xe9\"}", 0o644);
    folder.write("long.json", " ".repeat(oxherd_config::FILE_BYTES_MAX + 1), 0o644);
    folder.write("folder.json/x", "", 0o644);
    folder.write("a.config.js", "", 0o644);
    let names = [
        "a.config.js",
        "gone.config.mjs",
        "a.txt",
        "json",
        "gone.json",
        "latin.json",
        "long.json",
        "folder.json",
        "latin.json/x.json",
    ];
    let shown = names.map(|name| folder.without_me(load(&folder.0.join(name), &bare()).unwrap_err()));
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn all_kinds_of_files_say_the_same() {
    let folder = Folder::new();
    let texts = [
        (
            "a.json",
            r#"{"apps": [{"script": "server.js", "instances": 2, "env": {"A": "1"}, "min_uptime": "10s"}]}"#,
        ),
        (
            "a.json",
            "// by hand\n{apps: [{script: 'server.js', instances: +2, env: {A: 0x1,}, minUptime: '10s'}]}",
        ),
        ("a.json5", "[{script: 'server.js', instances: 2, env: {A: 1}, min_uptime: 1e4},]"),
        ("a.yaml", "apps:\n  - script: server.js\n    instances: 2\n    env: {A: 1}\n    min_uptime: 10s\n"),
        ("a.yml", "script: server.js\ninstances: '2'\nenv: &x {A: 1}\nenv_x: *x\nmin_uptime: 10000\n"),
        ("a.toml", "[[apps]]\nscript = 'server.js'\ninstances = 2\nmin_uptime = '10s'\nenv.A = 1\n"),
        ("<stdin>", "{script: 'server.js', instances: 2, env: {A: 1}, min_uptime: '10s'}"),
    ];
    let mut first = None;
    for (name, text) in texts {
        let read = read(Path::new(name), text, &folder.surroundings());
        let apps = read.unwrap_or_else(|why| panic!("{why}"));
        let mut spec = jobs(&apps, &folder.surroundings()).unwrap().remove(0).spec;
        assert_eq!(spec.upkeep.about.file.is_some(), name != "<stdin>");
        spec.upkeep.about.file = None;
        assert_eq!(*first.get_or_insert(spec.clone()), spec, "{name}");
    }
}

#[test]
fn keys_at_the_top_that_begin_with_x_are_the_files_own() {
    let folder = Folder::new();
    let specs = |name: &str, text: &str| {
        let apps = read(Path::new(name), text, &folder.surroundings()).unwrap_or_else(|why| panic!("{why}"));
        let jobs = jobs(&apps, &folder.surroundings()).unwrap_or_else(|why| panic!("{why}"));
        jobs.into_iter().map(|job| job.spec).collect::<Vec<_>>()
    };
    let yaml = "\
x-env: &env {PORT: &port 0080, ID: 007}
x-common: &common
  kill_timeout: 3s
  env: *env
apps:
  - <<: *common
    script: server.js
  - <<: *common
    script: web/api.js
    env: {PORT: *port, <<: *env}
";
    let shared = specs("a.yaml", yaml);
    let kill_timeouts = shared.iter().map(|spec| spec.kill_timeout.as_millis());
    assert_eq!(kill_timeouts.collect::<Vec<_>>(), [3000, 3000]);
    for spec in shared {
        let env = &spec.upkeep.about.env;
        // Also through an alias a number keeps its text.
        assert_eq!((env["PORT"].as_str(), env["ID"].as_str()), ("0080", "007"), "{}", spec.name);
    }
    assert_eq!(specs("a.json", r#"{"x-note": ["mine"], "script": "server.js"}"#).len(), 1);
    assert_eq!(specs("a.toml", "x-note = 1\n[[apps]]\nscript = 'server.js'\n").len(), 1);
    assert!(refused("{apps: [{script: 'a.js', 'x-note': 1}]}").contains("unknown key `x-note`"));
    assert!(refused("{'x-note': 1}").contains("there is no app in it"));
}

#[test]
fn mistakes_in_all_kinds_of_files_are_shown_at_their_line() {
    let folder = Folder::new();
    let texts = [
        (
            "a.yaml",
            "apps:\n  - script: server.js\n    instnces: 2\n    wait_ready: yes\n    min_uptime: [1]\n",
        ),
        ("a.yaml", "apps:\n  - script: server.js\n   name: x\n"),
        ("a.yaml", "apps:\n  - script: server.js\n    name: x\n    name: y\n"),
        ("a.yaml", ""),
        (
            "a.toml",
            "[[apps]]\nscript = 'server.js'\ninstnces = 2\nport = 70000\n\n[apps.env]\nNODE_CHANNEL_FD = 1\n",
        ),
        ("a.toml", "[[apps]]\nscript = server.js\n"),
        (
            "a.json5",
            "{\n  // all\n  apps: [{\n    script: 'a.js',\n    'instnces': .5,\n    portt: 1,\n  }],\n}",
        ),
        ("<stdin>", "{script: 'a.js', nam: 'x'}"),
    ];
    let shown = texts.map(|(name, text)| read(Path::new(name), text, &bare()).unwrap_err().to_string());
    insta::assert_snapshot!(folder.without_me(shown.join("\n\n")));
}

#[test]
fn files_of_apps_are_known_by_their_names() {
    let known = ["a.json", "dir/ecosystem.config.js", "a.config.cjs", "a.yml", "a.json5", "a.toml"];
    assert!(known.iter().all(|name| is_config(Path::new(name))));
    assert!(!["a.js", "config.js", "json", "a.json.js", ""].iter().any(|name| is_config(Path::new(name))));
}

#[test]
fn what_this_machine_lacks_is_shown_at_the_line() {
    let folder = Folder::new();
    let text = r#"{
  "apps": [
    {"script": "gone.js"},
    {"script": "server.js", "cwd": "nowhere"},
    {"script": "server.js", "name": "b", "interpreter": "deno"},
    {"script": "web/jobs.py", "name": "c", "interpreter": "none"},
    {"script": "npm", "name": "d", "node_args": "-x"},
    {"script": "npm run x", "name": "e", "args": ["y"]},
    {"script": "web", "name": "f"},
    {"script": "server.js", "name": "fine"}
  ]
}"#;
    insta::assert_snapshot!(folder.without_me(folder.jobs(text, None).unwrap_err()));
}

#[test]
fn strategies_and_weights_must_go_together_with_the_rest() {
    let folder = Folder::new();
    let text = r#"[
  {"script": "server.js", "strategy": "weighted", "weights": [3, 1]},
  {"script": "server.js", "name": "b", "weights": "3,1"},
  {"script": "server.js", "name": "c", "strategy": "weighted", "weights": [0, 0]},
  {"script": "server.js", "name": "d", "strategy": "random", "distribution": "shared"},
  {"script": "web/jobs.py", "name": "e", "strategy": "least-connections"}
]"#;
    insta::assert_snapshot!(folder.without_me(folder.jobs(text, None).unwrap_err()));
    let job = folder.job(r#"{"script": "server.js", "strategy": "weighted", "weights": "3, 1"}"#);
    assert_eq!((job.spec.strategy, job.spec.weights), (Strategy::Weighted, vec![3, 1]));
}

#[test]
fn sockets_must_go_together_with_the_rest() {
    let folder = Folder::new();
    let text = r#"[
  {"script": "server.js", "ports": 80},
  {"script": "web/jobs.py", "name": "b", "sockets": "none", "standby": 1},
  {"script": "web/jobs.py", "name": "c", "distribution": "handoff"},
  {"script": "web/jobs.py", "name": "d", "sockets": "listen-fds"},
  {"script": "web/jobs.py", "name": "e", "sockets": "listen-fds", "listen": {"a:b": "0.0.0.0:80"}},
  {"script": "web/jobs.py", "name": "f", "listen": {"web": "0.0.0.0:80"}},
  {"script": "web/jobs.py", "name": "g", "serialization": "advanced"},
  {"script": "web/jobs.py", "name": "h", "max_requests": 5},
  {"script": "web/jobs.py", "name": "i", "health_check": true},
  {"script": "server.js", "name": "j", "instances": {"min": 4, "max": 2}},
  {"script": "server.js", "name": "k", "restart_delay": 5, "exp_backoff_restart_delay": 5},
  {"script": "web/jobs.py", "name": "l", "wait_ready": true}
]"#;
    insta::assert_snapshot!(folder.without_me(folder.jobs(text, None).unwrap_err()));
}

#[test]
fn keys_without_effect_are_a_doubt_and_those_turned_off_are_none() {
    let folder = Folder::new();
    let doubts = |keys: &str| folder.job(&format!("{{\"script\": \"server.js\", {keys}}}")).doubts;
    assert_eq!(doubts("\"pmx\": false"), ["eco.json: `pmx` of server has no effect here"]);
    assert_eq!(
        doubts("\"vizion\": false, \"treekill\": true, \"sourceMapSupport\": true"),
        ["eco.json: `vizion`, `treekill`, `sourceMapSupport` of server have no effect here"]
    );
    assert_eq!(
        doubts("\"watch\": false, \"merge_logs\": true, \"namespace\": \"default\", \"autostart\": true"),
        [""; 0]
    );
}

#[test]
fn a_doubt_about_the_caller_is_told_once() {
    use std::os::unix::ffi::OsStringExt;
    let folder = Folder::new();
    let mut surroundings = folder.surroundings();
    surroundings.environment.push(("ODD".into(), OsString::from_vec(vec![0xff])));
    let apps = apps("[{\"script\": \"server.js\"}, {\"script\": \"web/api.js\"}]").unwrap();
    let jobs = jobs(&apps, &surroundings).unwrap();
    assert_eq!(jobs.iter().map(|job| job.doubts.len()).collect::<Vec<_>>(), [1, 0]);
}

/// Not good, but the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

#[test]
fn garbage_never_panics_and_always_has_a_place() {
    let folder = Folder::new();
    let surroundings = folder.surroundings();
    let words: Vec<&str> = FULL.split_inclusive(['"', ',', ':', '\n']).collect();
    let odd = [
        "null",
        "-1",
        "1e999",
        "\"\"",
        "[",
        "]",
        "{",
        "}",
        "\"apps\"",
        "\u{feff}",
        "\t",
        "é",
        "\u{1}",
        "\"\\u0000\"",
        "{}",
    ];
    for seed in 0..3000_u64 {
        let mut dice = Dice(seed);
        let mut pieces = words.clone();
        for _ in 0..=dice.below(4) {
            let at = dice.below(pieces.len());
            match dice.below(4) {
                0 if pieces.len() > 1 => drop(pieces.remove(at)),
                0 | 1 => pieces[at] = odd[dice.below(odd.len())],
                2 => pieces.insert(at, words[dice.below(words.len())]),
                _ => pieces.truncate(at.max(1)),
            }
        }
        let text = pieces.concat();
        match apps(&text) {
            Ok(apps) => drop(jobs(&apps, &surroundings)),
            Err(why) => {
                let has_place = |it: &oxherd_config::Diagnostic| {
                    it.spot.as_ref().is_some_and(|spot| spot.line > 0 && !spot.marked.is_empty())
                };
                assert!(!why.list.is_empty() && why.list.iter().all(has_place), "seed {seed}: {why}");
                assert!(why.to_string().lines().all(|line| line.chars().count() < 260), "seed {seed}: {why}");
            }
        }
    }
}

#[test]
fn the_largest_files_are_refused_in_reasonable_time() {
    let many = |piece: &str| format!("[{}{{}}]", piece.repeat((1 << 20) / piece.len() - 2));
    for text in [
        many("{},"),
        many("[],"),
        many("{\"script\":\"a\"},"),
        format!("{{{}\"x\":1}}", "\"script\":0,".repeat(95_000)),
    ] {
        let why = apps(&text).unwrap_err();
        assert!(why.more > 0 && why.list.len() == 50, "{}", why.more);
    }
}
