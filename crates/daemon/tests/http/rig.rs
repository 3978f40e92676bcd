//! A server on a socket in a folder of its own, and ways to talk to it: with the client, and with bare bytes.

use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oxherd::client::Client;
use oxherd_core::AppSpec;
use oxherd_daemon::server::{About, Api, Changes, Server, feed};
use serde_json::Value;

use crate::herd::Herd;

/// How long anything may take before the test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A server in front of a herd.
pub(crate) struct Rig {
    pub(crate) folder: PathBuf,
    pub(crate) herd: Herd,
    listener: UnixListener,
    api: Option<Api>,
    kept: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("oxherd-http-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join("sock")).unwrap();
        let herd = Herd::new(folder.clone());
        let mut rig = Self { folder, herd, listener, api: None, kept: Arc::default() };
        rig.serve(Changes::default(), 0);
        rig
    }

    /// A herd with these apps, all ready.
    pub(crate) fn with(apps: &[&str]) -> Self {
        let rig = Self::new();
        for name in apps {
            let answer = rig.post("/v1/apps", &start_body(name));
            assert_eq!(answer.status, 202, "{answer:?}");
        }
        rig
    }

    fn serve(&mut self, changes: Changes, starts: u32) {
        let (news, intake) = feed();
        self.herd.feed(news);
        let kept = self.kept.clone();
        let keep = move |bytes: &[u8]| kept.lock().unwrap().push(bytes.to_vec());
        let about = About {
            version: "1.2.3".into(),
            keeper_pid: Arc::new(4242.into()),
            starts,
            upgrades: 0,
            upgrade_failure: None,
            home: "/home/me/.oxherd".into(),
        };
        let (driver, logs) = (Box::new(self.herd.clone()), Box::new(self.herd.logs()));
        let server = Server::new(about, driver, logs, intake, changes, Box::new(keep));
        self.api = Some(server.spawn(self.listener.try_clone().unwrap()).unwrap());
    }

    /// What the server has kept last.
    pub(crate) fn kept(&self) -> Changes {
        let kept = self.kept.lock().unwrap();
        kept.last().map_or_else(Changes::default, |bytes| Changes::from_bytes(bytes).unwrap())
    }

    /// Ends the server: whoever waits is told what is known.
    pub(crate) fn end_server(&mut self) {
        self.api.take().unwrap().close(DEADLINE).unwrap();
    }

    /// Another server goes on where the last one ended.
    pub(crate) fn take_over(&mut self) {
        let changes = self.kept();
        let mut herd = self.herd.lock();
        (herd.mute, herd.dead) = (false, false);
        drop(herd);
        self.serve(changes, 1);
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("sock")
    }

    pub(crate) fn client(&self) -> Client {
        Client::at(self.socket()).with_patience(Duration::from_secs(10))
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &[], body.as_bytes())
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(&request(method, path, headers, body)).unwrap();
        Answer::read(stream)
    }

    /// A stream of events.
    pub(crate) fn follow(&self, path: &str) -> Lines {
        let mut stream = self.connect();
        stream.write_all(&request("GET", path, &[], b"")).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        Lines { reader }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(api) = self.api.take() {
            api.close(DEADLINE).unwrap();
        }
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

pub(crate) fn start_body(name: &str) -> String {
    serde_json::json!({"spec": spec(name)}).to_string()
}

pub(crate) fn start_bodies(names: &[&str]) -> String {
    let specs: Vec<AppSpec> = names.iter().map(|name| spec(name)).collect();
    serde_json::json!({ "specs": specs }).to_string()
}

pub(crate) fn spec(name: &str) -> AppSpec {
    let mut spec = AppSpec::new(name, "/bin/server");
    spec.args = vec!["--port".into(), "3000".into()];
    spec.cwd = "/srv".into();
    spec
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        head += &format!("content-length: {}\r\n", body.len());
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn read(mut stream: UnixStream) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_lowercase(), body: body.into() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status and the text of an answer that is no success.
    pub(crate) fn problem(&self) -> (u16, String) {
        assert!(self.head.contains("content-type: application/json"), "{self:?}");
        let json = self.json();
        let fields: Vec<_> = json.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["error"]);
        (self.status, json["error"].as_str().unwrap().into())
    }

    /// The changes that were accepted: their ids and the apps' names.
    pub(crate) fn accepted(&self) -> Vec<(u64, String)> {
        assert_eq!(self.status, 202, "{self:?}");
        let changes = self.json()["changes"].as_array().unwrap().clone();
        changes
            .iter()
            .map(|change| (change["change"].as_u64().unwrap(), change["name"].as_str().unwrap().into()))
            .collect()
    }
}

/// The lines of a stream of events.
pub(crate) struct Lines {
    reader: BufReader<UnixStream>,
}

impl Lines {
    /// The next event: its name and its data. `None` when the stream has ended.
    pub(crate) fn event(&mut self) -> Option<(String, Value)> {
        let (mut name, mut line) = (None, String::new());
        loop {
            line.clear();
            if self.reader.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(event) = line.strip_prefix("event: ") {
                name = Some(event.trim_end().to_owned());
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some((name.unwrap(), serde_json::from_str(data).unwrap()));
            }
        }
    }
}

/// Runs a test of the client.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let timed = runtime.block_on(async { tokio::time::timeout(DEADLINE, test).await });
    timed.expect("the test takes too long")
}
