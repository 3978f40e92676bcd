//! Files of apps in all their languages, checked, started, and made the truth of what runs.

use std::process::{Output, Stdio};

use oxherd_e2e::{Address, Home, eventually, http, places, ports};

/// Answers with what it was given.
const SERVER: &str = "\
const { FOO, BAR, KIND, NODE_ENV } = process.env;
const me = { from: __filename.split('/').pop(), cwd: process.cwd().split('/').pop(), FOO, BAR, KIND, NODE_ENV };
require('http').createServer((_, response) => response.end(JSON.stringify(me))).listen(0, '127.0.0.1');
";

fn home() -> Home {
    let home = Home::new();
    home.write("server.js", SERVER);
    home.write("other.js", SERVER);
    let sub = home.surroundings().join("sub");
    std::fs::create_dir(&sub).expect("it can be made");
    std::fs::write(sub.join("other.js"), SERVER).expect("it can be written");
    home
}

/// What an app says of itself.
fn told(home: &Home, app: &str) -> serde_json::Value {
    http::get(&home.address(app), "/").json()
}

/// Exit code, stdout and stderr, without the folder.
fn ran(home: &Home, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = home.run(args);
    let folder = home.surroundings().display().to_string();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace(&folder, "~");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn each_language_starts_an_app() {
    let home = home();
    let files = [
        (
            "js.config.js",
            "console.log('hello'); setInterval(() => {}, 1000);\nmodule.exports = () => ({ apps: [{ name: 'js', script: 'server.js', env_production: { KIND: require('./kind') } }] });\n",
        ),
        (
            "cjs.config.cjs",
            "exports.apps = [{ name: 'cjs', script: 'server.js', env: { KIND: 'no' }, env_production: { KIND: 'cjs' } }];\n",
        ),
        (
            "mjs.config.mjs",
            "export default Promise.resolve({ apps: [{ name: 'mjs', script: 'server.js', env: { KIND: 'mjs' } }] });\n",
        ),
        (
            "a.json",
            "// as people write it\n{apps: [{name: 'json', script: './server.js', env: {KIND: 'json',},}]}\n",
        ),
        (
            "a.yaml",
            "apps:\n  - name: yaml\n    script: server.js\n    env: &env\n      KIND: yaml\n    env_production:\n      <<: *env\n      NODE_ENV: production\n",
        ),
        ("a.toml", "[[apps]]\nname = 'toml'\nscript = 'server.js'\nenv.KIND = 'toml'\n"),
    ];
    home.write("kind.js", "module.exports = 'js';\n");
    for (name, text) in files {
        let file = home.write(name, text);
        let out = home.ok(&["start", &file, "--env", "production"]);
        assert!(!out.contains("hello"), "what a file prints is no news of ours: {out}");
    }
    let text = home.write("piped", "{name: 'stdin', script: 'server.js', env: {KIND: 'stdin'}}");
    let mut command = home.command(&["start", "-"]);
    command.current_dir(home.surroundings()).stdin(std::fs::File::open(text).expect("it is there"));
    assert!(command.output().expect("the program can be run").status.success());
    for kind in ["js", "cjs", "mjs", "json", "yaml", "toml", "stdin"] {
        assert_eq!(told(&home, kind)["KIND"], kind);
    }
    assert_eq!(told(&home, "yaml")["NODE_ENV"], "production");
}

#[test]
fn bad_files_start_nothing_and_say_where() {
    let home = home().with("OXHERD_CONFIG_TIMEOUT", "500ms");
    let cases = [
        (
            "a.config.js",
            "const port = 80;\nmodule.exports = { apps: [{ script: srv }] };\n",
            "~/a.config.js:2:37: ReferenceError: srv is not defined\n  2 | module.exports = { apps: [{ script: srv }] };\n    |                                     ^\n",
        ),
        (
            "b.config.js",
            "module.exports = {\n  apps: [{\n    script: 'server.js',\n    instnces: 4,\n  }],\n};\n",
            "~/b.config.js:4:5: unknown key `instnces`\n  4 |     instnces: 4,\n    |     ^^^^^^^^ did you mean `instances`?\n",
        ),
        (
            "c.config.mjs",
            "export default {\n  apps: [\n};\n",
            "~/c.config.mjs:3:1: SyntaxError: Unexpected token '}'\n  3 | };\n    | ^\n",
        ),
        (
            "d.config.js",
            "process.exit(7);\n",
            "~/d.config.js: ended with exit status: 7 before it had exported anything\n",
        ),
        (
            "e.config.js",
            "for (;;);\n",
            "~/e.config.js: has exported nothing after 0.5 s; OXHERD_CONFIG_TIMEOUT=30s gives it longer\n",
        ),
        ("f.yaml", "- script: server.js\n  cron_restart: every day\n", "~/f.yaml:2:17: `cron_restart`: "),
        ("g.toml", "[[apps]]\nscript = 'gone.js'\n", "~/g.toml:2:10: cannot run gone.js: no such file"),
        (
            "h.json5",
            "{script: 'server.js', kill_timeout: 'soon'}",
            "~/h.json5:1:37: `kill_timeout`: write a number and its unit",
        ),
    ];
    for (name, text, wanted) in cases {
        let file = home.write(name, text);
        for verb in ["start", "check", "apply"] {
            let (code, out, err) = ran(&home, &[verb, &file]);
            assert_eq!((code, out.as_str()), (Some(2), ""), "{verb} {name}: {err}");
            let is_whole = wanted.ends_with('\n');
            assert!(if is_whole { err == wanted } else { err.starts_with(wanted) }, "{verb} {name}: {err}");
        }
    }
    assert_eq!(home.run(&["ping"]).status.code(), Some(1), "nothing was started");
}

#[test]
fn a_file_is_checked_without_a_daemon() {
    let home = home();
    let file = home.write(
        "eco.config.js",
        "module.exports = { apps: [\n  { name: 'web', script: 'server.js', instances: 2, pmx: false },\n  { name: 'job', script: 'other.js', exec_mode: 'fork', append_env_to_name: true, env_eu: {} },\n] };\n",
    );
    let (code, out, err) = ran(&home, &["check", &file, "--env", "eu"]);
    assert_eq!(code, Some(0), "{err}");
    let lines: Vec<String> =
        out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        ["name workers mode command", "web 2 cluster node ~/server.js", "job-eu 1 fork node ~/other.js"]
    );
    assert_eq!(
        err,
        "oxherd: ~/eco.config.js: `pmx` of web has no effect here\noxherd: ~/eco.config.js: web has no `env_eu`\n"
    );
    let schema: serde_json::Value =
        serde_json::from_str(&home.ok(&["check", "--schema"])).expect("it is JSON");
    assert!(schema["$defs"]["app"]["properties"]["instances"].is_object());
    assert_eq!(home.run(&["ping"]).status.code(), Some(1), "nothing was started");
}

/// A file with these apps.
fn eco(home: &Home, apps: &str) -> String {
    home.write("ecosystem.config.js", &format!("module.exports = {{ apps: [{apps}] }};\n"))
}

#[test]
fn what_runs_becomes_what_the_file_says() {
    let home = home();
    let file = eco(
        &home,
        "{ name: 'web', script: 'server.js', env: { FOO: 'one', BAR: 'secret' } }, { name: 'old', script: 'server.js' }",
    );
    let (code, out, err) = ran(&home, &["apply", &file, "--dry-run"]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "start web\nstart old\n", ""));
    assert_eq!(home.run(&["ping"]).status.code(), Some(1), "a dry run starts no daemon");
    home.ok(&["apply", &file]);
    assert_eq!(told(&home, "web")["BAR"], "secret");
    let before = home.pids("web");
    assert_eq!(ran(&home, &["apply", &file]).1, "unchanged web\nunchanged old\n");
    assert_eq!(home.pids("web"), before, "what is as it should be is left alone");

    // What PM2 ignores: script, folder, number, and variables that are gone.
    eco(&home, "{ name: 'web', script: 'other.js', cwd: 'sub', instances: 2, env: { FOO: 'two' } }");
    let planned = "delete old\nreload web\n  cwd: ~ → ~/sub\n  env.BAR: removed\n  env.FOO: changed\n  instances: 1 → 2\n  script: ~/server.js → ~/sub/other.js\n";
    assert_eq!(
        ran(&home, &["apply", &file, "--dry-run", "--prune"]),
        (Some(0), planned.into(), String::new())
    );
    assert_eq!(home.pids("web"), before, "a dry run changes nothing");
    let out = home.ok(&["apply", &file, "--prune"]);
    assert!(out.starts_with(&planned.replace('~', &home.surroundings().display().to_string())), "{out}");
    let now = told(&home, "web");
    assert_eq!((now["from"].as_str(), now["cwd"].as_str()), (Some("other.js"), Some("sub")));
    assert_eq!((now["FOO"].as_str(), now["BAR"].as_str()), (Some("two"), None));
    assert_eq!(home.pids("web").len(), 2);
    assert!(home.pids("old").is_empty());

    // A number alone needs no reload.
    let before = home.pids("web");
    eco(&home, "{ name: 'web', script: 'other.js', cwd: 'sub', instances: 3, env: { FOO: 'two' } }");
    assert!(home.ok(&["apply", &file]).starts_with("scale web to 3\n"));
    assert_eq!(home.pids("web")[..2], before[..]);

    // Code that does not start is not what runs afterwards.
    home.write("broken.js", "throw new Error('broken');\n");
    eco(&home, "{ name: 'web', script: 'broken.js', listen_timeout: '5s' }");
    let (code, _, err) = ran(&home, &["apply", &file]);
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(told(&home, "web")["FOO"], "two");
    assert_eq!(home.pids("web").len(), 3);
}

#[test]
fn what_no_successor_can_take_over_is_started_anew() {
    let home = home();
    let file = eco(
        &home,
        "{ name: 'web', script: 'server.js' }, { name: 'job', script: 'server.js', exec_mode: 'fork' }",
    );
    home.ok(&["apply", &file]);
    home.ok(&["stop", "job"]);
    eco(
        &home,
        "{ name: 'web', script: 'server.js', distribution: 'kernel' }, { name: 'job', script: 'server.js', exec_mode: 'fork' }",
    );
    let out = home.ok(&["apply", &file]);
    let planned = "restart web, because connections reach its workers in another way\n  distribution: handoff → kernel\nstart job\n";
    assert!(out.starts_with(planned), "{out}");
    eventually("both run", || (home.pids("web").len() == 1 && home.pids("job").len() == 1).then_some(()));
    assert_eq!(told(&home, "web")["from"], "server.js");
    // Only one of them is meant.
    eco(
        &home,
        "{ name: 'web', script: 'server.js', env: { FOO: 1 } }, { name: 'job', script: 'other.js', exec_mode: 'fork' }",
    );
    let out = ran(&home, &["apply", &file, "--only", "job", "--dry-run"]).1;
    assert_eq!(
        out,
        "restart job, because each of its workers binds its own sockets\n  script: ~/server.js → ~/other.js\n"
    );
    let (code, _, err) = ran(&home, &["apply", &file, "--only", "job", "--prune"]);
    assert_eq!(code, Some(2), "{err}");
}

/// The numbers of an app's slots, and how often those were filled again.
fn numbers(home: &Home, app: &str) -> Vec<(u64, u64)> {
    let herd = home.herd();
    let apps = herd["apps"].as_array().expect("apps");
    let app = apps.iter().find(|it| it["name"] == app).expect("the app").clone();
    let figure = |slot: &serde_json::Value, key: &str| slot[key].as_u64().expect("a number");
    let slots = app["slots"].as_array().expect("slots").iter();
    slots.map(|slot| (figure(slot, "number"), figure(slot, "restarts"))).collect()
}

#[test]
fn what_concerns_the_daemon_alone_holds_at_once() {
    let home = home();
    home.write(
        "talks.js",
        "require('http').createServer((_, it) => { console.log('served'); it.end(process.env.KIND); }).listen(0, '127.0.0.1');\n",
    );
    let file = eco(&home, "{ name: 'web', script: 'talks.js' }");
    home.ok(&["apply", &file]);
    let before = home.pids("web");
    eco(
        &home,
        "{ name: 'web', script: 'talks.js', log_date_format: '[at] YYYY', out_file: 'web.log', namespace: 'shop', cron_restart: '0 3 1 1 *' }",
    );
    let planned = "adjust web, no worker is replaced\n  cron_restart: (default) → 0 3 1 1 *\n  log_date_format: (default) → [at] YYYY\n  namespace: (default) → shop\n  out_file: (default) → ~/web.log\n";
    assert_eq!(ran(&home, &["apply", &file, "--dry-run"]).1, planned);
    let (code, out, _) = ran(&home, &["apply", &file]);
    assert_eq!((code, out), (Some(0), format!("{planned}web: adjusted, no worker is replaced\n")));
    assert_eq!(ran(&home, &["apply", &file]).1, "unchanged web\n");
    http::get(&home.address("web"), "/");
    let log = home.surroundings().join("web.log");
    let line = eventually("the line", || std::fs::read_to_string(&log).ok().filter(|it| it.ends_with('\n')));
    assert!(line.starts_with("at 20") && line.ends_with(" served\n"), "{line}");
    assert_eq!(home.pids("web"), before);
    assert_eq!(home.ok(&["id", "shop"]).trim(), "[ 0 ]", "it is in another namespace");
    // A limit is one for workers that run already, and the number of them goes with it.
    eco(&home, "{ name: 'web', script: 'talks.js', instances: 2, max_requests: 2 }");
    let out = home.ok(&["apply", &file]);
    assert!(out.starts_with("adjust web, no worker is replaced\n"), "{out}");
    assert!(out.ends_with("web: adjusted, and scaled from 1 to 2 slots\n"), "{out}");
    assert_eq!(home.pids("web")[..1], before[..]);
    (0..8).for_each(|_| drop(http::get(&home.address("web"), "/")));
    eventually("another worker", || (!home.pids("web").contains(&before[0])).then_some(()));
}

#[test]
fn ports_that_move_between_apps_are_taken_once_the_other_has_let_go() {
    let home = home();
    home.write(
        "binds.js",
        "require('http').createServer((_, it) => it.end(process.env.KIND)).listen(+process.env.PORT, '127.0.0.1');\n",
    );
    let (one, two) = (ports::free(), ports::free());
    let apps = |first: u16, second: u16| {
        let app = |name: &str, port: u16| {
            format!(
                "{{ name: '{name}', script: 'binds.js', exec_mode: 'fork', env: {{ KIND: '{name}', PORT: {port} }} }}"
            )
        };
        [app("a", first), app("b", second)].join(", ")
    };
    let file = eco(&home, &apps(one, two));
    home.ok(&["apply", &file]);
    let slots = |app: &str| numbers(&home, app).into_iter().map(|(slot, _)| slot).collect::<Vec<_>>();
    let before = [slots("a"), slots("b")];
    let answer = |port: u16| {
        let address = Address::reach(&format!("127.0.0.1:{port}"));
        http::try_once(&address, "GET", "/", "", b"").ok().map(|answer| answer.text())
    };
    eventually("both", || (home.pids("a").len() == 1 && home.pids("b").len() == 1).then_some(()));
    for (verb, (first, second)) in [("apply", (two, one)), ("reload", (one, two)), ("restart", (two, one))] {
        eco(&home, &apps(first, second));
        let (code, out, err) = ran(&home, &[verb, &file]);
        // Whoever has found its port in use several times is tried again, and nobody waits.
        assert!(code == Some(0) || err.contains("is tried again"), "{verb}: {out}{err}");
        eventually("each has its new port", || {
            (answer(first)? == "a" && answer(second)? == "b").then_some(())
        });
        assert_eq!([slots("a"), slots("b")], before, "{verb}: {out}{err}");
    }
}

#[test]
fn nobody_waits_for_another_app_or_for_the_command() {
    let home = home();
    // The first of them lets others wait until it is told to end.
    home.write(
        "slow.js",
        "const fs = require('fs');
const isFirst = process.env.KIND === '1';
process.on('SIGTERM', () => isFirst || process.exit());
setInterval(() => isFirst && fs.existsSync('go') && process.exit(), 20);
fs.writeFileSync('armed', '');
",
    );
    let apps = |kind: u32| {
        let app = |name: &str, script: &str| {
            format!(
                "{{ name: '{name}', script: '{script}', exec_mode: 'fork', kill_timeout: '60s', env: {{ KIND: {kind} }} }}"
            )
        };
        [app("slow", "slow.js"), app("fast", "server.js")].join(", ")
    };
    let file = eco(&home, &apps(1));
    home.ok(&["apply", &file]);
    let (slow, fast) = (home.pids("slow"), home.pids("fast"));
    assert_eq!((slow.len(), fast.len()), (1, 1));
    eventually("slow is ready", || home.surroundings().join("armed").exists().then_some(()));
    eco(&home, &apps(2));
    let mut apply = home.command(&["apply", &file]).stdout(Stdio::null()).spawn().expect("it runs");
    eventually("fast is another", || {
        let pids = home.pids("fast");
        (pids.len() == 1 && pids != fast).then_some(())
    });
    assert_eq!(home.pids("slow"), slow, "it has not ended yet");
    apply.kill().expect("it is our child");
    eventually("the command is no more", || apply.try_wait().expect("it is our child"));
    home.write("go", "");
    eventually("slow is another", || {
        let pids = home.pids("slow");
        (pids.len() == 1 && pids != slow).then_some(())
    });
    assert_eq!(ran(&home, &["apply", &file, "--dry-run"]).1, "unchanged slow\nunchanged fast\n");
}

#[test]
fn who_has_given_up_starts_and_who_starts_by_name_stays_stopped() {
    let home = home();
    home.write("code.js", "throw new Error('broken');\n");
    let file = eco(&home, "{ name: 'web', script: 'code.js', max_restarts: 1 }");
    let given_up = || {
        eventually("it gives up", || {
            let herd = home.herd();
            (herd["apps"][0]["slots"][0]["status"] == "errored").then_some(())
        });
    };
    let applied = |code: i32| {
        let (ended, out, err) = ran(&home, &["apply", &file]);
        assert_eq!(ended, Some(code), "{out}{err}");
        out
    };
    applied(1);
    given_up();
    assert!(applied(1).starts_with("start web\n"));
    given_up();
    eco(&home, "{ name: 'web', script: 'code.js', max_restarts: 2 }");
    assert!(applied(1).starts_with("start web\n  max_restarts: "));
    given_up();
    home.write("code.js", SERVER);
    assert!(applied(0).starts_with("start web\n"));
    assert_eq!(told(&home, "web")["from"], "code.js");

    home.ok(&["stop", "web"]);
    eco(&home, "{ name: 'web', script: 'other.js', autostart: false }");
    let out = applied(0);
    assert!(out.starts_with("adjust web, no worker is replaced\n  autostart: "), "{out}");
    assert!(home.pids("web").is_empty());
    assert_eq!(applied(0), "unchanged web\n");
    home.ok(&["start", "web"]);
    assert_eq!(told(&home, "web")["from"], "other.js");
}

#[test]
fn unknown_keys_are_warnings_for_those_who_call_pm2() {
    let home = home();
    let home_path = home.path();
    let home = home.with("PM2_HOME", home_path);
    let pm2 = home.surroundings().join("pm2");
    std::os::unix::fs::symlink(places::oxherd(), &pm2).expect("it can be made");
    eco(&home, "{ name: 'web', script: 'server.js', instnces: 4, env: { FOO: null } }");
    let mut command = home.command_of(&pm2, &["start", "ecosystem.config.js"]);
    let output = command.current_dir(home.surroundings()).output().expect("the program can be run");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{err}");
    let warning =
        "ecosystem.config.js:1: unknown key `instnces`; it is passed over (did you mean `instances`?)";
    assert!(err.contains(warning), "{err}");
    let herd = home.herd();
    assert_eq!(
        (&herd["apps"][0]["name"], &herd["apps"][0]["sockets"]),
        (&"web".into(), &"universal".into()),
        "{herd}"
    );
    let output =
        home.command_of(&pm2, &["start", "gone.config.js"]).output().expect("the program can be run");
    assert!(!output.status.success());
}
