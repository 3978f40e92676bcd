//! A day of somebody who has always typed `pm2`: from the first start to the boot after a power cut.

use std::fs;

use oxherd_e2e::load::Load;
use oxherd_e2e::screen::Session;
use oxherd_e2e::{Pm2, eventually, http, ports, procs};

const FILE: &str = "
module.exports = {
  apps: [{
    name: 'shop',
    script: './server.js',
    instances: 2,
    env: { COLOUR: 'grey' },
    env_production: { COLOUR: 'green' },
  }],
};
";

/// A release of the server, which says its number and what colour it was told.
fn release(number: u32) -> String {
    format!(
        "console.log('release {number}');
require('node:http').createServer((_, res) => res.end('{number} ' + process.env.COLOUR)).listen(0, '127.0.0.1');
"
    )
}

/// What the shop answers.
fn answer(pm2: &Pm2) -> String {
    let address = pm2.home().address("shop");
    http::get(&address, "/").text()
}

/// How many rows of the list have this word.
fn rows(pm2: &Pm2, word: &str) -> usize {
    pm2.ok(&["ls"]).lines().filter(|line| line.contains("shop") && line.contains(word)).count()
}

#[test]
fn a_day_of_a_pm2_user() {
    let pm2 = Pm2::new();
    pm2.home().write("ecosystem.config.js", FILE);
    pm2.home().write("server.js", &release(1));

    let started = pm2.ok(&["start", "ecosystem.config.js", "--env", "production"]);
    assert!(started.contains("[PM2] Done.") && started.contains("online"), "{started}");
    assert_eq!((answer(&pm2).as_str(), rows(&pm2, "online")), ("1 green", 2));
    eventually("a line in the log", || {
        pm2.ok(&["logs", "shop", "--no-follow", "--lines", "5"]).contains("release 1").then_some(())
    });

    assert!(pm2.ok(&["scale", "shop", "3"]).contains("Done."));
    assert_eq!(rows(&pm2, "online"), 3);

    pm2.home().write("server.js", &release(2));
    assert!(pm2.ok(&["reload", "shop"]).contains("Done."));
    assert_eq!(answer(&pm2), "2 green");

    // A release that does not even start.
    pm2.home().write("server.js", "throw new Error('forgot the password of the database');\n");
    let broken = pm2.run(&["reload", "ecosystem.config.js", "--env", "production"]);
    let said = String::from_utf8_lossy(&broken.stderr).into_owned();
    assert_eq!(broken.status.code(), Some(1), "{said}");
    assert!(said.contains("[PM2][ERROR] shop: the reload is aborted"), "{said}");
    assert_eq!((answer(&pm2).as_str(), rows(&pm2, "online")), ("2 green", 3), "the old ones go on");

    pm2.home().write("server.js", &release(3));
    pm2.ok(&["startOrReload", "ecosystem.config.js", "--env", "production"]);
    assert_eq!((answer(&pm2).as_str(), rows(&pm2, "online")), ("3 green", 2), "as the file says");

    assert!(pm2.ok(&["save"]).contains("Successfully saved 1 app"));
    power_cut(&pm2);
    assert!(pm2.ok(&["resurrect"]).contains("Done."));
    assert_eq!((answer(&pm2).as_str(), rows(&pm2, "online")), ("3 green", 2));

    watch(&pm2);
    assert!(pm2.ok(&["delete", "all"]).contains("Done."));
    assert_eq!(rows(&pm2, "shop"), 0);
}

/// Everybody is killed at once.
fn power_cut(pm2: &Pm2) {
    let all = pm2.home().processes();
    assert!(all.len() >= 4, "{all:?}");
    all.iter().for_each(|pid| procs::kill(*pid, rustix::process::Signal::KILL));
    all.iter().for_each(|pid| assert!(procs::wait_gone(*pid, oxherd_e2e::DEADLINE)));
}

/// `monit` in a pipe, and on a terminal, where `q` ends it.
fn watch(pm2: &Pm2) {
    assert!(pm2.ok(&["monit"]).contains("online"));
    for key in [b'q', oxherd_e2e::terminal::CTRL_C] {
        let session = Session::start_command(&pm2.command(&["monit", "--interval", "100ms"]), 140);
        session.wait("the list", |picture| picture.matches("online").count() == 2);
        session.press(key);
        let (code, picture, _) = session.end();
        assert_eq!(code, Some(0), "{picture}");
    }
}

#[test]
fn what_is_kept_is_nobody_else_s() {
    use std::os::unix::fs::MetadataExt;
    let pm2 = Pm2::new();
    pm2.home().write("server.js", &release(1));
    pm2.ok(&["start", "server.js", "--name", "shop", "--env", "SECRET=hush"]);
    pm2.ok(&["save"]);
    pm2.ok(&["set", "tool:key", "hush"]);
    let mut kept = 0;
    for entry in fs::read_dir(pm2.home().path()).expect("it is there").filter_map(Result::ok) {
        let metadata = entry.metadata().expect("it is there");
        let has_secret =
            metadata.is_file() && fs::read_to_string(entry.path()).is_ok_and(|text| text.contains("hush"));
        if has_secret {
            kept += 1;
            assert_eq!(metadata.mode() & 0o077, 0, "{:?}", entry.path());
        }
    }
    assert!(kept >= 3, "the state, the snapshot and the settings");
    // What tools of PM2's look for in the environment of a worker is not there.
    let env = pm2.ok(&["env", "0"]);
    assert!(env.contains("SECRET: hush"));
    for key in ["pm_id", "exec_mode", "status", "axm_monitor", "pm_exec_path", "unique_id"] {
        assert!(!env.lines().any(|line| line.starts_with(&format!("{key}: "))), "{key}");
    }
    let report = pm2.ok(&["report"]);
    assert!(report.contains("shop") && !report.contains("hush"), "{report}");
}

/// How many workers run, and what the list says of the app.
fn row(pm2: &Pm2, app: &str) -> String {
    pm2.ok(&["ls"]).lines().find(|line| line.contains(app)).unwrap_or_default().to_owned()
}

#[test]
fn a_fork_loses_nothing_and_may_end() {
    let pm2 = Pm2::new();
    let port = ports::free();
    let server = format!(
        "require('node:http').createServer((_, res) => res.end(JSON.stringify({{ pid: process.pid }}))).listen({port}, '127.0.0.1');"
    );
    pm2.home().write("server.js", &server);
    pm2.home().write("job.js", "setTimeout(() => {}, 1200);");
    let file = r#"{"apps": [{"name": "filed", "script": "job.js", "autorestart": false}]}"#;
    pm2.home().write("apps.json", file);
    pm2.ok(&["start", "server.js"]);
    pm2.ok(&["start", "job.js", "--no-autorestart"]);
    pm2.ok(&["start", "apps.json"]);
    // A line for the shell, and a program on PATH.
    pm2.ok(&["start", "node -e 'setInterval(() => {}, 1000)'"]);
    pm2.ok(&["start", "sleep", "--name", "sleeper", "--", "1000"]);
    for (app, state) in [("job", "stopped"), ("filed", "stopped"), ("node", "online"), ("sleeper", "online")]
    {
        eventually(app, || row(&pm2, app).contains(state).then_some(()));
    }

    assert!(row(&pm2, "server").contains("fork"), "{}", row(&pm2, "server"));
    let load = Load::short(&pm2.home().address("server"), "/", 3);
    load.wait_more(20);
    pm2.ok(&["reload", "server"]);
    pm2.ok(&["restart", "node"]);
    load.wait_more(20);
    let tally = load.stop();
    assert_eq!((tally.failed(), tally.by_pid.len()), (0, 2), "{tally}");
}
