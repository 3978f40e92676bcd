//! The story of one cluster, told once: everything that the table speaks of happens in it, and is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use oxherd::{
    Attachment, Cluster, Distribution, Event, Events, Message, RestartWhen, Serialization, Worker,
    WorkerHandle, Workers,
};
use serde::Deserialize;
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long any step may take.
const STEP: Duration = Duration::from_secs(20);

/// What a worker says of itself when it begins.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Hello {
    pub(crate) id: u64,
    pub(crate) pid: u32,
    pub(crate) is_worker: bool,
    pub(crate) is_connected: bool,
    pub(crate) role: String,
    pub(crate) args: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) mode: String,
    pub(crate) stdout: String,
    /// What the primary says that its process is.
    #[serde(default)]
    pub(crate) pid_told: Option<u32>,
}

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) primary_is_no_worker: bool,
    pub(crate) name: String,
    pub(crate) hellos: BTreeMap<u64, Hello>,
    pub(crate) hellos_before_ends: BTreeSet<u64>,
    pub(crate) listed: BTreeSet<u64>,
    pub(crate) found_by_id: bool,
    pub(crate) forked_id: u64,
    pub(crate) events: BTreeSet<&'static str>,
    pub(crate) echoed: bool,
    pub(crate) attachment_went: bool,
    pub(crate) attachment_came: bool,
    pub(crate) was_connected: bool,
    pub(crate) worker_was_connected: bool,
    pub(crate) was_dead: bool,
    pub(crate) living_is_undecided: bool,
    pub(crate) is_connected_after_end: bool,
    pub(crate) is_dead_after_end: bool,
    pub(crate) killed_by: Option<i32>,
    pub(crate) killed_was_voluntary: Option<bool>,
    pub(crate) terminated_by: Option<i32>,
    pub(crate) disconnected_by_primary: bool,
    pub(crate) disconnected_by_itself: bool,
    pub(crate) left_at_the_end: usize,
    pub(crate) ended_cleanly: bool,
    pub(crate) served_when_shared: bool,
}

impl Story {
    pub(crate) fn forked(&self) -> Option<&Hello> {
        self.hellos.get(&self.forked_id)
    }

    pub(crate) fn saw(&self, kind: &str) -> bool {
        self.events.contains(kind)
    }
}

/// Tells it. In a worker process it does not return.
pub(crate) fn tell() -> Story {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let mut builder = Cluster::builder()
        .name("parity")
        .workers(Workers::Count(2))
        .args(["as", "worker"])
        .cwd("/")
        .serialization(Serialization::Advanced)
        .restart(RestartWhen::Never)
        .console(false);
    let events = builder.events();
    let cluster = builder.start(work).expect("the cluster starts");
    let mut story = Story { primary_is_no_worker: oxherd::worker().is_none(), ..Story::default() };
    let mut teller = Teller { cluster, events, story: &mut story };
    runtime.block_on(async { tokio::time::timeout(3 * STEP, teller.tell()).await.expect("the story ends") });
    runtime
        .block_on(async { tokio::time::timeout(STEP, serve_shared(&mut story)).await.expect("it serves") });
    story
}

/// A worker that does what it is told.
async fn work(worker: Worker) -> Result<(), Failure> {
    let stdout = std::fs::read_link("/proc/self/fd/1")?;
    let environment = std::fs::read("/proc/self/environ")?;
    let entry = |name: &str| {
        let entries = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        entries.filter_map(|entry| entry.strip_prefix(name)?.strip_prefix('=').map(str::to_owned)).next_back()
    };
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut messages = worker.messages();
    let listener = worker.listen(("127.0.0.1", 0)).await?;
    worker.send(&json!({
        "type": "hello",
        "id": worker.id(),
        "pid": std::process::id(),
        "is_worker": oxherd::worker().is_some_and(|it| it.id() == worker.id()),
        "is_connected": worker.is_connected(),
        "role": std::env::var("ROLE").unwrap_or_default(),
        "args": args,
        "cwd": std::env::current_dir()?,
        "mode": entry("NODE_CHANNEL_SERIALIZATION_MODE").unwrap_or_default(),
        "stdout": stdout,
    }))?;
    let shutdown = worker.shutdown();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            accepted = listener.accept() => {
                use tokio::io::AsyncWriteExt;
                accepted?.0.write_all(b"served").await?;
            }
            message = messages.recv() => {
                let Some(mut message) = message else { return Ok(()) };
                obey(&worker, &mut message).await?;
            }
        }
    }
}

async fn obey(worker: &Worker, message: &mut Message) -> Result<(), Failure> {
    let told: Value = message.parse()?;
    match told["do"].as_str() {
        Some("echo") => worker.send(&json!({ "type": "echo", "what": told["what"] }))?,
        Some("say it there") => {
            if let Some(Attachment::TcpStream(mut stream)) = message.take_attachment() {
                use std::io::Write;
                stream.write_all(b"from the worker")?;
            }
        }
        Some("give me one") => {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            worker.send_with(&json!({ "type": "given" }), Attachment::TcpListener(listener))?;
        }
        Some("disconnect") => worker.disconnect().await?,
        Some("fail") => worker.report_error("as it was told", None)?,
        _ => {}
    }
    Ok(())
}

struct Teller<'a> {
    cluster: Cluster,
    events: Events,
    story: &'a mut Story,
}

impl Teller<'_> {
    async fn tell(&mut self) {
        self.greet(2).await;
        let forked = self.cluster.fork_with([("ROLE", "forked")]).await.expect("it forks");
        self.story.forked_id = forked.id();
        self.greet(3).await;
        self.look_around(&forked).await;
        self.talk(&forked).await;
        self.story.living_is_undecided = forked.exited_after_disconnect().is_none();
        forked.disconnect().expect("it can be asked");
        self.await_exit(&forked).await;
        self.story.disconnected_by_primary = forked.exited_after_disconnect() == Some(true);
        self.story.is_connected_after_end = forked.is_connected();
        self.story.is_dead_after_end = forked.is_dead();
        self.end_others().await;
        self.end().await;
    }

    /// Waits until this many workers have introduced themselves.
    async fn greet(&mut self, count: usize) {
        while self.story.hellos.len() < count {
            let (worker, message) = self.await_message("hello").await;
            let mut hello: Hello = message.parse().expect("a hello");
            hello.pid_told = worker.pid();
            self.story.worker_was_connected = hello.is_connected;
            self.story.hellos.insert(worker.id(), hello);
        }
    }

    async fn look_around(&mut self, forked: &WorkerHandle) {
        let status = self.cluster.status().await.expect("it runs");
        self.story.name = status.slots.name;
        self.story.hellos_before_ends = self.story.hellos.keys().copied().collect();
        self.story.listed = self.cluster.workers().iter().map(WorkerHandle::id).collect();
        let found = self.cluster.worker(forked.id());
        self.story.found_by_id = found.is_some_and(|found| found.pid() == forked.pid());
        self.story.was_connected = forked.is_connected();
        self.story.was_dead = forked.is_dead();
    }

    async fn talk(&mut self, worker: &WorkerHandle) {
        worker.send(&json!({ "do": "echo", "what": [1, "é", null] })).expect("it is connected");
        let (_, echo) = self.await_message("echo").await;
        self.story.echoed = echo.parse::<Value>().is_ok_and(|echo| echo["what"] == json!([1, "é", null]));

        let (mut ours, theirs) = pair();
        let told = worker.send_with(&json!({ "do": "say it there" }), Attachment::TcpStream(theirs));
        told.expect("it is connected");
        self.story.attachment_went = blocking(move || {
            let mut said = String::new();
            ours.read_to_string(&mut said).is_ok_and(|_| said == "from the worker")
        })
        .await;

        worker.send(&json!({ "do": "give me one" })).expect("it is connected");
        let (_, mut given) = self.await_message("given").await;
        self.story.attachment_came = matches!(given.take_attachment(), Some(Attachment::TcpListener(_)));

        worker.send(&json!({ "do": "fail" })).expect("it is connected");
        self.await_event(|event| matches!(event, Event::Error { .. })).await;
    }

    /// One of the first two leaves by itself, the other is ended by a signal; one more is killed.
    async fn end_others(&mut self) {
        let workers = self.cluster.workers();
        workers[0].send(&json!({ "do": "disconnect" })).expect("it is connected");
        self.await_exit(&workers[0]).await;
        self.story.disconnected_by_itself = workers[0].exited_after_disconnect() == Some(true);
        workers[1].terminate().expect("it lives");
        self.story.terminated_by = self.await_exit(&workers[1]).await;
        let victim = self.cluster.fork_with([("ROLE", "victim")]).await.expect("it forks");
        self.greet(4).await;
        victim.kill().expect("it lives");
        self.story.killed_by = self.await_exit(&victim).await;
        self.story.killed_was_voluntary = victim.exited_after_disconnect();
    }

    async fn end(&mut self) {
        for count in [5, 6] {
            self.cluster.fork_with([("ROLE", "last")]).await.expect("it forks");
            self.greet(count).await;
        }
        let last = self.cluster.workers();
        let code = self.cluster.shutdown().await;
        self.story.ended_cleanly = format!("{code:?}") == format!("{:?}", std::process::ExitCode::SUCCESS);
        self.story.left_at_the_end =
            last.iter().filter(|it| it.exited_after_disconnect() == Some(true)).count();
    }

    async fn await_message(&mut self, kind: &str) -> (WorkerHandle, Message) {
        loop {
            if let Event::Message { worker, message } = self.next().await
                && message.kind().as_deref() == Some(kind)
            {
                return (worker, message);
            }
        }
    }

    /// By which signal it has ended.
    async fn await_exit(&mut self, wanted: &WorkerHandle) -> Option<i32> {
        let id = wanted.id();
        let exit =
            self.await_event(|event| matches!(event, Event::Exit { worker, .. } if worker.id() == id)).await;
        if let Event::Exit { signal, .. } = exit { signal } else { None }
    }

    async fn await_event(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.next().await;
            if wanted(&event) {
                return event;
            }
        }
    }

    async fn next(&mut self) -> Event {
        let event = self.events.recv().await.expect("the cluster goes on");
        let kind = match &event {
            Event::Fork { .. } => "fork",
            Event::Online { .. } => "online",
            Event::Listening { .. } => "listening",
            Event::Message { .. } => "message",
            Event::Disconnect { .. } => "disconnect",
            Event::Exit { .. } => "exit",
            Event::Error { .. } => "error",
            _ => return event,
        };
        self.story.events.insert(kind);
        event
    }
}

/// Workers that accept by themselves, as under Node's `SCHED_NONE`.
async fn serve_shared(story: &mut Story) {
    let builder = Cluster::builder().workers(Workers::Count(2)).args(["as", "worker"]).console(false);
    let mut builder = builder.distribution(Distribution::Shared);
    let mut events = builder.events();
    let cluster = builder.start(work).expect("the cluster starts");
    let address = loop {
        if let Event::Serving { addresses, .. } = events.recv().await.expect("the cluster goes on") {
            break addresses[0].clone();
        }
    };
    story.served_when_shared = blocking(move || {
        let mut said = String::new();
        TcpStream::connect(address).is_ok_and(|mut it| it.read_to_string(&mut said).is_ok())
            && said == "served"
    })
    .await;
    let _code = cluster.shutdown().await;
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

/// Both ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let ours = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    (ours, listener.accept().expect("somebody connected").0)
}
