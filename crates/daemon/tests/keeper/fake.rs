//! A daemon that does what a test tells it over a socket, line by line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio, exit};

use oxherd_core::{Fleet, Limits};
use oxherd_daemon::link::{Connected, Greeting, KeeperHost, connect};
use oxherd_engine::host::{Estate, HeirRef, ProcessHost, Stash};
use oxherd_os::lending::{self, Answer, Trapped, Traps};
use oxherd_os::{Child, Lending, Output, Signals, SpawnSpec, detach, packet, reexec};
use serde_json::{Value, json};

use crate::rig::{CONTROL, wait_readable};

const WATCHED: [i32; 7] = [1, 2, 3, 10, 12, 15, 21];

struct Fake {
    greeting: Greeting,
    host: KeeperHost,
    stash: Box<dyn Stash>,
    signals: Signals,
    children: BTreeMap<String, Held>,
    listeners: BTreeMap<String, TcpListener>,
    /// By the labels of the workers.
    traps: BTreeMap<String, Traps>,
    connections: Vec<TcpStream>,
}

struct Held {
    child: Child,
    stdout: Option<OwnedFd>,
}

/// `daemon --link 3 --stash 4 [MODE]`
pub(crate) fn main(args: &[OsString]) {
    let text: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let [_, "--link", link, "--stash", stash, rest @ ..] = &text[..] else { panic!("{text:?}") };
    let (link, stash) = (link.parse().unwrap(), stash.parse().unwrap());
    match rest {
        ["refuse"] => exit(2),
        ["raw"] => raw(link),
        _ => obey(link, stash),
    }
}

/// Says what the test says, byte by byte, and tells what the keeper answers.
fn raw(link: i32) {
    let link = reexec::inherit(link).unwrap();
    // Nobody has told it of its home, but it is in it.
    let mut stream = UnixStream::connect(CONTROL).unwrap();
    let lines = BufReader::new(stream.try_clone().unwrap());
    writeln!(stream, "{}", json!({ "pid": std::process::id() })).unwrap();
    for line in lines.lines().map_while(Result::ok) {
        let line: Value = serde_json::from_str(&line).unwrap();
        packet::send(&link, line.as_str().unwrap().as_bytes(), &[]).unwrap();
        let answer = packet::receive(&link, packet::Wait::Block).unwrap().unwrap();
        writeln!(stream, "{}", json!(String::from_utf8_lossy(&answer.bytes))).unwrap();
    }
}

/// With this file in its folder a daemon greets nobody, and only waits to be ended.
pub(crate) const SILENT: &str = "silent";

fn obey(link: i32, stash: i32) {
    if Path::new(SILENT).exists() {
        let mut stream = UnixStream::connect(CONTROL).unwrap();
        writeln!(stream, "{}", json!({ "pid": std::process::id() })).unwrap();
        return drop(stream.read(&mut [0]));
    }
    // Unwinding would close the connections that the keeper is to save.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tell(info);
        exit(101);
    }));
    let signals = Signals::block(&WATCHED).unwrap();
    let Connected { host, stash, greeting, estate } = connect(link, stash).unwrap();
    let mut stream = UnixStream::connect(Path::new(&greeting.home).join(CONTROL)).unwrap();
    let lines = BufReader::new(stream.try_clone().unwrap());
    if writeln!(stream, "{}", found(&greeting, &estate)).is_err() {
        return;
    }
    let mut fake = Fake {
        greeting,
        host,
        stash: Box::new(stash),
        signals,
        children: BTreeMap::new(),
        listeners: BTreeMap::new(),
        traps: BTreeMap::new(),
        connections: estate.connections.into_iter().map(TcpStream::from).collect(),
    };
    for heir in estate.children {
        let held = Held { child: heir.child, stdout: heir.stdout };
        fake.children.insert(held.child.label().to_owned(), held);
    }
    for entry in estate.entries {
        let Some(fd) = entry.fd else { continue };
        match entry.name.split_once('/') {
            Some(("listener", _)) => drop(fake.listeners.insert(entry.name, TcpListener::from(fd))),
            Some(("traps", label)) => drop(fake.traps.insert(label.to_owned(), Traps::of(fd))),
            _ => {}
        }
    }
    // It ends when the test does.
    for line in lines.lines().map_while(Result::ok) {
        let answer = fake.on_wish(&serde_json::from_str(&line).unwrap());
        drop(writeln!(stream, "{answer}"));
    }
}

fn found(greeting: &Greeting, estate: &Estate) -> Value {
    let children = estate.children.iter().map(|heir| {
        let parts = [&heir.channel, &heir.worker_end, &heir.stdout, &heir.stderr].map(Option::is_some);
        json!({ "label": heir.child.label(), "pid": heir.child.pid, "parts": parts })
    });
    let entries = estate.entries.iter().map(|entry| {
        json!({ "name": entry.name, "meta": String::from_utf8_lossy(&entry.meta), "fd": entry.fd.is_some() })
    });
    json!({
        "pid": std::process::id(),
        "greeting": greeting,
        "starts": estate.starts,
        "image": estate.image.is_some(),
        "children": children.collect::<Vec<_>>(),
        "entries": entries.collect::<Vec<_>>(),
        "connections": estate.connections.len(),
    })
}

impl Fake {
    fn on_wish(&mut self, wish: &Value) -> Value {
        let (verb, what) =
            wish.as_object().unwrap().iter().find(|(key, _)| VERBS.contains(&key.as_str())).unwrap();
        let text = what.as_str().unwrap_or_default();
        match verb.as_str() {
            "spawn" => self.spawn(text, wish["script"].as_str().unwrap(), wish["lend"] == true),
            "trapped" => json!(self.trapped(text)),
            "pending" => json!(self.pending(text, wish["last"].as_u64().unwrap())),
            "fail" => done(|| {
                let failed = Answer::Failed(wish["errno"].as_i64().unwrap() as i32);
                self.traps[text].answer(wish["id"].as_u64().unwrap(), failed).unwrap();
            }),
            "exit_of" => self.exit_of(text),
            "read" => self.read(text),
            "kill_tree" => done(|| self.host.kill_tree(&self.children[text].child)),
            "forget" => done(|| self.host.forget(&self.children[text].child)),
            "dying" => json!(self.host.dying()),
            "image" => done(|| self.host.keep_image(Fleet::new(Limits::default(), "boot", 0).image_ref())),
            "put" => done(|| self.stash.put(text, wish["meta"].as_str().unwrap().as_bytes(), None)),
            "remove" => done(|| self.stash.remove(text)),
            "listen" => self.listen(text),
            "accept" => self.accept(text),
            "serve" => self.serve(),
            "signals" => self.signals(what.as_u64().unwrap() as usize),
            "ready" => done(|| self.host.readiness().unwrap().tell()),
            "refuse" => done(|| self.host.refuse(text.to_owned())),
            "write" => done(|| std::fs::write(text, "something").unwrap()),
            "farewell" => done(|| self.host.farewell(what.as_u64().unwrap() as u8)),
            "upgrade" => json!(self.host.upgrade(what.as_str())),
            "wait_for_loss" => done(|| wait_readable(self.host.loss().unwrap(), "the keeper does not end")),
            "renew" => self.renew(),
            "renew_half" => self.renew_half(text),
            _ => die(text),
        }
    }

    /// The next call of a worker.
    fn trapped(&mut self, label: &str) -> Option<Trapped> {
        let traps = &self.traps[label];
        wait_readable(traps, "a worker does not call");
        traps.receive().unwrap()
    }

    /// The call of a worker of which nobody has told this daemon.
    fn pending(&mut self, label: &str, last: u64) -> Option<Trapped> {
        lending::pending_of(&self.traps[label], last, &[self.children[label].child.pid]).unwrap()
    }

    fn spawn(&mut self, label: &str, script: &str, lend: bool) -> Value {
        let mut spec = SpawnSpec::new("/bin/sh");
        spec.args = vec!["-c".into(), script.into()];
        spec.env = vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())];
        spec.label = label.to_owned();
        (spec.channel, spec.stdout, spec.lend) = (true, Output::Pipe, lend);
        match self.host.spawn(&spec, &[]) {
            Ok(spawned) => {
                let pid = spawned.child.pid;
                let parts = (spawned.channel.is_some(), spawned.stdout.is_some(), spawned.stderr.is_some());
                self.children.insert(label.to_owned(), Held { child: spawned.child, stdout: spawned.stdout });
                match spawned.lending {
                    Lending::On(fd) => drop(self.traps.insert(label.to_owned(), Traps::of(fd))),
                    Lending::Off => assert!(!lend),
                    Lending::Impossible(why) => panic!("{why}"),
                }
                json!({ "pid": pid, "parts": parts })
            }
            Err(failure) => json!({ "message": failure.message, "lasting": failure.lasting }),
        }
    }

    /// Waits for the end of a worker.
    fn exit_of(&mut self, label: &str) -> Value {
        let child = &mut self.children.get_mut(label).unwrap().child;
        wait_readable(&child.pidfd, "a worker does not end");
        match self.host.try_wait(child) {
            Ok(status) => json!(status),
            Err(error) => json!(error.to_string()),
        }
    }

    /// What a worker has written by its end.
    fn read(&mut self, label: &str) -> Value {
        let pipe = self.children[label].stdout.as_ref().unwrap();
        wait_readable(pipe, "a worker writes nothing");
        let mut buffer = [0; 100];
        let count = std::fs::File::from(pipe.try_clone().unwrap()).read(&mut buffer).unwrap();
        json!(String::from_utf8_lossy(&buffer[..count]))
    }

    fn listen(&mut self, name: &str) -> Value {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        self.stash.put(name, b"a listener", Some(listener.as_fd()));
        self.listeners.insert(name.to_owned(), listener);
        json!(port)
    }

    fn accept(&mut self, name: &str) -> Value {
        self.connections.push(self.listeners[name].accept().unwrap().0);
        json!(self.connections.len())
    }

    /// Answers each connection with what it reads.
    fn serve(&mut self) -> Value {
        for mut connection in self.connections.drain(..) {
            let mut byte = [0];
            connection.read_exact(&mut byte).unwrap();
            connection.write_all(&byte).unwrap();
        }
        Value::Null
    }

    fn signals(&mut self, count: usize) -> Value {
        let mut received = Vec::new();
        while received.len() < count {
            wait_readable(&self.signals, "no signal comes");
            received.extend(self.signals.next().unwrap().map(|it| it.signal));
        }
        json!(received)
    }

    fn renew(&mut self) -> Value {
        let heirs: Vec<_> = self
            .children
            .values()
            .map(|held| HeirRef {
                child: &held.child,
                stdin: None,
                stdout: held.stdout.as_ref().map(AsFd::as_fd),
                stderr: None,
            })
            .collect();
        match self.host.renew(&heirs) {
            Ok(stash) => {
                self.stash = stash;
                json!({ "ok": null })
            }
            Err(error) => json!({ "error": error.to_string() }),
        }
    }

    /// Starts a keeper and tells it of this daemon only; then lets it down, or ends. Returns the keeper's process.
    fn renew_half(&mut self, then: &str) -> Value {
        let (link, its_link) = packet::pair().unwrap();
        let (_stash, its_stash) = packet::pair().unwrap();
        let mut order = Command::new(std::env::current_exe().unwrap());
        order.args(["keeper", "--successor"]).stdin(Stdio::from(its_link));
        assert!(order.status().unwrap().success());
        let own = detach::own_pidfd().unwrap();
        let succession =
            json!({ "daemon_pid": std::process::id(), "lock": false, "greeting": self.greeting });
        let said = json!({ "succeed": succession }).to_string();
        packet::send(&link, said.as_bytes(), &[its_stash.as_fd(), own.as_fd()]).unwrap();
        let answer = packet::receive(&link, packet::Wait::Block).unwrap().unwrap();
        let answer: Value = serde_json::from_slice(&answer.bytes).unwrap();
        if !then.is_empty() {
            die(then);
        }
        answer["greeting"]["keeper_pid"].clone()
    }
}

/// All that a test can wish for.
const VERBS: [&str; 25] = [
    "trapped",
    "pending",
    "fail",
    "write",
    "spawn",
    "exit_of",
    "read",
    "kill_tree",
    "forget",
    "dying",
    "image",
    "put",
    "remove",
    "listen",
    "accept",
    "serve",
    "signals",
    "ready",
    "farewell",
    "upgrade",
    "wait_for_loss",
    "renew",
    "renew_half",
    "die",
    "refuse",
];

fn done(act: impl FnOnce()) -> Value {
    act();
    Value::Null
}

fn die(how: &str) -> Value {
    match how.split_once(' ') {
        Some(("exit", code)) => exit(code.parse().unwrap()),
        _ if how == "panic" => panic!("as the test wishes"),
        _ => {
            let own = std::process::id();
            crate::rig::signal(own, "KILL");
            unreachable!("it was killed")
        }
    }
}
