//! Apps of one file under one daemon, each with what is to be seen of it: a case. Whatever the daemon does for one app goes on
//! while another is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use oxherd_e2e::http::{self, Client};
use oxherd_e2e::{Home, Roll, eventually, places, procs};
use serde_json::{Map, Value, json};

/// The chosen environment of all files.
pub(crate) const ENV_NAME: &str = "production";

/// An app that has one or more keys, and what shows that they are obeyed.
pub(crate) struct Case {
    /// The keys that are observed, what is in others after a dot; the app is named after the first.
    pub(crate) keys: &'static [&'static str],
    /// The app without its name, script and folder, unless these are observed.
    pub(crate) app: Value,
    pub(crate) look: fn(&Seen<'_>),
    pub(crate) as_root: bool,
    /// Another app in the same folder, to compare it with.
    pub(crate) witness: Option<Value>,
}

/// A case of these keys.
pub(crate) fn case(keys: &'static [&'static str], app: Value, look: fn(&Seen<'_>)) -> Case {
    Case { keys, app, look, as_root: false, witness: None }
}

/// A case that only root can have.
pub(crate) fn case_as_root(keys: &'static [&'static str], app: Value, look: fn(&Seen<'_>)) -> Case {
    Case { as_root: true, ..case(keys, app, look) }
}

impl Case {
    /// With another app in the same folder, called after it and `-witness`.
    pub(crate) fn beside(self, witness: Value) -> Self {
        Self { witness: Some(witness), ..self }
    }

    /// What it is called where several cases have the same key.
    pub(crate) fn name(&self, number: usize) -> String {
        let first = self.keys.first().expect("a case has a key").replace('.', "-");
        format!("{first}-{number}")
    }

    /// The apps as they stand in a file, with what all of them have.
    fn whole(&self, home: &Home, number: usize) -> Vec<Value> {
        let name = self.name(number);
        let witness = self.witness.as_ref().map(|app| whole(home, &format!("{name}-witness"), &name, app));
        [whole(home, &name, &name, &self.app)].into_iter().chain(witness).collect()
    }
}

fn whole(home: &Home, name: &str, folder_name: &str, given: &Value) -> Value {
    let folder = home.surroundings();
    let own = folder.join(folder_name);
    fs::create_dir_all(&own).expect("a folder can be made");
    let mut app = Map::new();
    let mut put = |key: &str, value: Value| drop(app.insert(key.into(), value));
    put("name", json!(name));
    put("script", json!(places::fixture("keys/server.js")));
    put("cwd", json!(own));
    let env =
        json!({"NOTES": folder.join(format!("{name}.notes")), "GATE": folder.join(format!("{name}.gate"))});
    put("env", env);
    for (key, value) in given.as_object().expect("an app is an object") {
        match (app.get_mut(key), value) {
            (Some(Value::Object(known)), Value::Object(more)) => known.extend(more.clone()),
            _ => drop(app.insert(key.clone(), value.clone())),
        }
    }
    let text = Value::Object(app).to_string().replace("$FOLDER", &own.display().to_string());
    serde_json::from_str(&text).expect("it was JSON before")
}

/// What cases name besides the usual program.
fn prepare(home: &Home) {
    let folder = home.surroundings();
    let apps = folder.join("apps");
    for each in [&apps, &folder.join("elsewhere")] {
        fs::create_dir_all(each).expect("a folder can be made");
    }
    fs::copy(places::fixture("keys/server.js"), apps.join("main.js")).expect("it can be copied");
    fs::write(apps.join("main.txt"), "import time\ntime.sleep(1000)\n").expect("it can be written");
    fs::write(apps.join("itself"), "#!/bin/sh\nexec sleep 1000 1\n").expect("it can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(apps.join("itself"), mode).expect("it is ours");
}

/// All cases that can be had here as apps, with their numbers.
pub(crate) fn apps<'a>(home: &Home, cases: &'a [Case]) -> Vec<(usize, &'a Case, Vec<Value>)> {
    prepare(home);
    let numbered = cases.iter().enumerate();
    let (those, skipped): (Vec<_>, Vec<_>) =
        numbered.partition(|(_, case)| !case.as_root || procs::is_root());
    for (_, case) in skipped {
        println!("skipped: {:?}, which is for root", case.keys);
    }
    those.into_iter().map(|(number, case)| (number, case, case.whole(home, number))).collect()
}

/// Writes all cases into one file, starts it, and looks at each.
pub(crate) fn observe(cases: &[Case]) {
    observe_in(Home::new(), cases);
}

/// The same in a home of one's own.
pub(crate) fn observe_in(home: Home, cases: &[Case]) {
    let those = apps(&home, cases);
    let list: Vec<&Value> = those.iter().flat_map(|(.., apps)| apps).collect();
    let file = home.write("eco.json", &json!({ "apps": list }).to_string());
    home.ok(&["check", &file, "--env", ENV_NAME]);
    // Some of them are never ready, which is what is to be seen.
    let mut command = home.command(&["start", &file, "--env", ENV_NAME]);
    command.current_dir(home.surroundings());
    let starting = std::thread::spawn(move || command.output());
    for (number, case, _) in those {
        let began = Instant::now();
        (case.look)(&Seen { home: &home, app: case.name(number) });
        println!("{:?} seen after {:.1?}", case.keys, began.elapsed());
    }
    drop(home);
    starting.join().expect("it ends").expect("the program can be run");
}

/// An app, to look at.
pub(crate) struct Seen<'a> {
    pub(crate) home: &'a Home,
    pub(crate) app: String,
}

impl Seen<'_> {
    /// As `ls --json` shows it.
    pub(crate) fn view(&self) -> Value {
        let herd = self.home.herd();
        let apps = herd["apps"].as_array().cloned().unwrap_or_default();
        apps.into_iter().find(|it| it["name"] == *self.app).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> String {
        self.view()["slots"][0]["status"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn wait_status(&self, status: &str) {
        eventually(&format!("{} is {status}\n{}", self.app, self.home.log()), || {
            (self.status() == status).then_some(())
        });
    }

    pub(crate) fn generation(&self) -> u64 {
        self.view()["generation"].as_u64().unwrap_or(0)
    }

    pub(crate) fn wait_generation(&self, generation: u64) {
        eventually(&format!("generation {generation} of {}\n{}", self.app, self.home.log()), || {
            (self.generation() >= generation).then_some(())
        });
    }

    /// The workers that are online, slot by slot, as soon as there are so many.
    pub(crate) fn pids(&self, count: usize) -> Vec<u32> {
        let mut last = Vec::new();
        eventually(&format!("{count} of {} are online\n{}", self.app, self.home.log()), || {
            let seats = Roll::of(self.home, &self.app).seats;
            last = seats.iter().filter(|it| it.status == "online").map(|it| it.pid).collect();
            (last.len() == count).then_some(())
        });
        last
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pids(1)[0]
    }

    /// Waits until another worker than this one is online, alone.
    pub(crate) fn wait_replaced(&self, pid: u32) {
        eventually(&format!("{pid} of {} is replaced\n{}", self.app, self.home.log()), || {
            let seats = Roll::of(self.home, &self.app).seats;
            let is_new = |it: &oxherd_e2e::deaths::Seat| it.pid != pid && it.status == "online";
            (seats.len() == 1 && seats.iter().all(is_new)).then_some(())
        });
    }

    pub(crate) fn wait_log(&self, text: &str) {
        let app = &self.app;
        eventually(&format!("a line of {app} with {text}\n{}", self.home.log()), || {
            self.home.log().lines().any(|line| line.contains(app) && line.contains(text)).then_some(())
        });
    }

    /// What the worker has noted, line by line.
    pub(crate) fn notes(&self) -> Vec<String> {
        let path = self.home.surroundings().join(format!("{}.notes", self.app));
        fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// The same, as soon as there are so many that begin with `word`; without that word.
    pub(crate) fn wait_notes(&self, word: &str, count: usize) -> Vec<String> {
        let mut found = Vec::new();
        eventually(&format!("{count} notes {word:?} of {}\n{}", self.app, self.home.log()), || {
            let notes = self.notes();
            let rest = notes.iter().filter_map(|it| Some(it.strip_prefix(word)?.trim().to_owned()));
            found = rest.collect();
            (found.len() >= count).then_some(())
        });
        found
    }

    /// Numbers in milliseconds: how far apart they are.
    pub(crate) fn gaps(&self, word: &str, count: usize) -> Vec<u64> {
        let notes = self.wait_notes(word, count);
        let times: Vec<u64> = notes.iter().map(|it| it.parse().expect("a time")).collect();
        times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect()
    }

    /// Stops the app, which must not take as long as this.
    pub(crate) fn stop_within(&self, limit: Duration) {
        let began = Instant::now();
        let pid = self.pid();
        self.home.ok(&["stop", &self.app]);
        assert!(procs::wait_gone(pid, limit) && began.elapsed() < limit, "{:?}", began.elapsed());
    }

    pub(crate) fn open_gate(&self) {
        self.home.write(&format!("{}.gate", self.app), "");
    }

    pub(crate) fn close_gate(&self) {
        fs::remove_file(self.home.surroundings().join(format!("{}.gate", self.app))).expect("it is open");
    }

    /// The app's own folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.home.surroundings().join(&self.app)
    }

    pub(crate) fn write(&self, name: &str) {
        fs::write(self.folder().join(name), "").expect("the folder is writable");
    }

    pub(crate) fn ask(&self, path: &str) -> Value {
        http::get(&self.home.address(&self.app), path).json()
    }

    /// A request that is left without an answer.
    pub(crate) fn ask_in_vain(&self, path: &str) -> Client {
        let mut client = Client::connect(&self.home.address(&self.app)).expect("it listens");
        client.send("GET", path, "", b"").expect("it is sent");
        client
    }

    pub(crate) fn text(&self, path: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.folder().join(path)).unwrap_or_default()).into_owned()
    }

    /// The text of a file once it has so many lines.
    pub(crate) fn wait_lines(&self, path: &str, count: usize) -> Vec<String> {
        eventually(&format!("{count} lines in {path} of {}", self.app), || {
            let lines: Vec<String> = self.text(path).lines().map(str::to_owned).collect();
            (lines.len() >= count).then_some(lines)
        })
    }
}

/// The words that a process was started with.
pub(crate) fn command_line(pid: u32) -> Vec<String> {
    parts_of(pid, "cmdline")
}

/// The variables that a process was started with.
pub(crate) fn environment(pid: u32) -> BTreeMap<String, String> {
    let entries = parts_of(pid, "environ").into_iter();
    entries.filter_map(|it| it.split_once('=').map(|(key, value)| (key.into(), value.into()))).collect()
}

fn parts_of(pid: u32, file: &str) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).expect("it lives");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.trim_end_matches('\0').split('\0').map(str::to_owned).collect()
}

/// How `/proc/net/tcp` calls the state of a listener.
pub(crate) const LISTEN: &str = "0A";

/// The listening TCP sockets that a process has open, by their inodes.
pub(crate) fn listening(pid: u32) -> BTreeSet<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("it lives");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let all: BTreeSet<String> =
        rows.filter(|row| row.get(3) == Some(&LISTEN)).map(|row| row[9].to_owned()).collect();
    let inode = |path: &PathBuf| {
        let text = path.to_str()?;
        Some(text.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    };
    procs::files(pid).values().filter_map(inode).filter(|it| all.contains(it)).collect()
}
