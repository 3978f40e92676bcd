//! What each verb says, as `pm2` and by its own name: stdout, stderr and exit code, in a pipe and on a terminal.

use std::process::Stdio;

use oxherd_e2e::pm2::{assert_fixture, picture, unframed};
use oxherd_e2e::screen::Session;
use oxherd_e2e::told::told;
use oxherd_e2e::{Pm2, eventually};

const SERVER: &str = "
require('node:http').createServer((_, res) => res.end('hi')).listen(0, '127.0.0.1');
process.on('message', (message) => {
  console.log('told ' + JSON.stringify(message));
  const data = { action_name: message.msg ?? message, return: { cleared: message.opts } };
  process.send({ type: 'axm:reply', data });
});
process.on('SIGUSR2', () => console.log('signalled'));
";
const QUEUE: &str = "
console.log('ready to work');
process.stdin.on('data', (data) => console.log('read ' + String(data).trim()));
setInterval(() => {}, 1000);
";
const FILE: &str = r#"{ "apps": [
  { "name": "web", "script": "web.js", "instances": 2, "env": { "A": "1" }, "env_production": { "A": "2" } },
  { "name": "queue", "script": "queue.js", "exec_mode": "fork", "namespace": "work", "min_uptime": "500ms" }
] }"#;

fn furnished() -> Pm2 {
    let pm2 = Pm2::new();
    pm2.home().write("web.js", SERVER);
    pm2.home().write("queue.js", QUEUE);
    pm2.home().write("apps.json", FILE);
    pm2.home().write("broken.json", "{ \"apps\": [{ \"name\": 1 }] }");
    pm2
}

/// News of several workers at once comes in any order.
fn sorted(told: &str) -> String {
    let (mut news, rest): (Vec<&str>, Vec<&str>) = told.lines().partition(|line| {
        line.contains(" is ready after ") || line.contains(" ended with ") || line.contains(" was ended by ")
    });
    news.sort_unstable();
    let mut lines = rest.into_iter();
    let head = lines.next().unwrap_or_default();
    std::iter::once(head).chain(news).chain(lines).map(|line| format!("{line}\n")).collect()
}

#[test]
fn verbs_as_pm2() {
    let pm2 = furnished();
    let lines: [&[&str]; 48] = [
        &["ls"],
        &["ping"],
        &["start"],
        &["start", "apps.json", "--only", "web", "--env", "production"],
        &["start", "apps.json", "--only", "queue"],
        &["start", "apps.json", "-i", "4"],
        &["start", "broken.json"],
        &["staart", "web.js"],
        &["start", "web.js", "--name", "web"],
        &["-s", "stop", "work"],
        &["start", "queue"],
        &["restart", "2"],
        &["reload", "1"],
        &["stop", "0"],
        &["delete", "1"],
        &["id", "web"],
        &["id", "nobody"],
        &["pid", "web"],
        &["scale", "web", "+1"],
        &["scale", "web", "2"],
        &["stop", "nobody", "web"],
        &["restart", "/we/", "--update-env"],
        &["reset", "all"],
        &["ls", "--sort", "name:desc"],
        &["ls", "--mini-list"],
        &["describe", "queue"],
        &["describe", "nobody"],
        &["sendSignal", "SIGUSR2", "web"],
        &["sendSignal", "SIGNOPE", "web"],
        &["trigger", "web", "clear", "all"],
        &["trigger", "queue", "clear"],
        &["flush", "nobody"],
        &["reloadLogs"],
        &["set", "tool:key", "some value"],
        &["multiset", "a 1 b 2"],
        &["multiset", "a"],
        &["get"],
        &["get", "tool:keys"],
        &["conf", "a"],
        &["unset", "a"],
        &["save"],
        &["cleardump"],
        &["startOrRestart", "apps.json", "--only", "web"],
        &["reload", "web", "--", "--newarg"],
        &["delete", "web", "--", "all"],
        &["delete", "all"],
        &["save"],
        &["-v"],
    ];
    let told: String = lines.iter().map(|line| sorted(&pm2.told(line))).collect();
    assert_fixture("verbs.txt", &told);
}

/// What is changed in passing is kept, and what is not named stays.
#[test]
fn a_known_app_is_changed_in_passing() {
    let pm2 = furnished();
    pm2.ok(&["start", "web.js", "--", "old"]);
    pm2.ok(&["reload", "web", "--", "--newarg"]);
    let list = pm2.ok(&["jlist"]);
    assert!(list.contains(r#""args":["--newarg"]"#) && !list.contains(r#""old""#), "{list}");
    let line = ["restart", "web", "-i", "2", "--max-memory-restart", "200M", "--node-args=--no-warnings"];
    pm2.ok(&line);
    pm2.ok(&["reload", "web", "--cron-restart", "0 4 * * *", "--kill-timeout", "3000"]);
    let list = pm2.ok(&["jlist"]);
    for wanted in [
        r#""args":["--newarg"]"#,
        r#""node_args":["--no-warnings"]"#,
        r#""max_memory_restart":209715200"#,
        r#""cron_restart":"0 4 * * *""#,
    ] {
        assert_eq!(list.matches(wanted).count(), 2, "{wanted}: {list}");
    }
    pm2.ok(&["reload", "web", "--cron-restart", "0"]);
    assert!(!pm2.ok(&["jlist"]).contains("0 4 * * *"));
    assert!(!pm2.run(&["reload", "apps.json", "-i", "2"]).status.success());
}

#[test]
fn verbs_by_its_own_name() {
    let pm2 = furnished();
    let home = pm2.home();
    let file = home.surroundings().join("apps.json").display().to_string();
    let lines: [&[&str]; 22] = [
        &["start", &file],
        &["start", &file],
        &["startOrReload", &file, "--only", "queue"],
        &["ls", "--sort", "name"],
        &["ls", "-m"],
        &["restart", "web:1"],
        &["reload", "0:0"],
        &["stop", "web:1"],
        &["stop", "web:0"],
        &["env", "web:7"],
        &["id", "web"],
        &["id", "nobody"],
        &["restart", "web", "--env", "production"],
        &["describe", "work"],
        &["save"],
        &["conf"],
        &["lst"],
        &["stpo", "web"],
        &["restart", "web", "--name", "other"],
        &["export", "kubernetes", "nobody"],
        &["export", "kubernetes", &file, "--image", "registry/app:1", "--port", "3000"],
        &["completion", "powershell"],
    ];
    let node = oxherd_e2e::places::node(oxherd_e2e::places::DEFAULT_NODE).display().to_string();
    let typed = |line: &[&str]| line.join(" ").replace(&file, "apps.json");
    let told: String = lines
        .iter()
        .map(|line| sorted(&format!("$ oxherd {}\n{}", typed(line), unframed(&told(home, line)))))
        .collect();
    assert_fixture("own.txt", &told.replace(&node, "NODE"));
}

#[test]
fn a_terminal_shows_pm2_s_table() {
    let pm2 = furnished();
    pm2.ok(&["start", "apps.json"]);
    let mut told = String::new();
    let lines = [
        &["ls"][..],
        &["ls", "--no-color"],
        &["describe", "queue"],
        &["stop", "queue"],
        &["link"],
        &["stop", "nobody"],
    ];
    for line in lines {
        let session = Session::start_command(&pm2.command(line), 150);
        let (code, shown, raw) = session.end();
        assert_eq!(raw.contains("\x1b[32m"), line == ["ls"] || line == ["stop", "queue"], "{line:?}: {raw}");
        told += &format!("$ pm2 {}\n{}[{}]\n", line.join(" "), picture(&shown), code.unwrap_or(-1));
    }
    let place = pm2.home().surroundings().display().to_string();
    assert_fixture("terminal.txt", &told.replace(&place, "~"));
}

/// Lines to workers, and what they answer.
#[test]
fn people_talk_to_workers() {
    let pm2 = furnished();
    pm2.ok(&["start", "apps.json"]);
    let folder = pm2.home().path().join("logs");
    let logs = |app: &str, wanted: &str| {
        eventually(wanted, || {
            let entries = std::fs::read_dir(&folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
            let mut of_app = entries
                .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(app)));
            of_app
                .any(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains(wanted)))
                .then_some(())
        });
    };
    assert_eq!(pm2.told(&["send", "queue", "job 1"]).lines().last(), Some("[0]"));
    logs("queue", "read job 1");
    pm2.ok(&["sendSignal", "SIGUSR2", "0"]);
    logs("web", "signalled");
    pm2.ok(&["trigger", "1", "clear", "all"]);
    logs("web", r#"told {"msg":"clear","name":"web","opts":"all"}"#);

    // Attached, in a pipe: what is typed goes to the worker, what it writes comes back, and the end of input is the end.
    let mut attached = pm2.command(&["attach", "queue"]);
    let mut child = attached.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let (mut typed, mut seen) =
        (child.stdin.take().expect("it is piped"), child.stdout.take().expect("it is piped"));
    let reader = std::thread::spawn(move || {
        use std::io::Read;
        let (mut text, mut byte) = (String::new(), [0]);
        while !text.contains("read job 2") && seen.read(&mut byte).is_ok_and(|count| count == 1) {
            text.push(char::from(byte[0]));
        }
        text
    });
    // Lines of before it followed are not shown: it is sent until one comes back.
    eventually("an answer", || {
        use std::io::Write;
        typed.write_all(b"job 2\n").expect("somebody reads");
        std::thread::park_timeout(std::time::Duration::from_millis(50));
        reader.is_finished().then_some(())
    });
    assert!(reader.join().expect("it reads").contains("read job 2"));
    drop(typed);
    assert!(eventually("its end", || child.try_wait().expect("it is our child")).success());
}
