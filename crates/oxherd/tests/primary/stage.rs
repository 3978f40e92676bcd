//! What scenarios share: waiting for events, clients, and a worker that says who it is.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use oxherd::{Builder, Cluster, Event, Events, Worker};
use tokio::io::AsyncWriteExt;

/// Far longer than anything takes; only a bug lets it pass.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A program that is run in a process of its own.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) play: fn() -> ExitCode,
    /// What it must end with.
    pub(crate) code: i32,
    /// What must be among what it and its workers print.
    pub(crate) says: &'static [&'static str],
}

/// Makes scenarios of functions that are named like them.
macro_rules! scenarios {
    ($($name:ident => $code:expr, $says:expr;)*) => {
        pub(crate) const SCENARIOS: &[crate::stage::Scenario] = &[$(
            crate::stage::Scenario { name: stringify!($name), play: $name, code: $code, says: &$says },
        )*];
    };
}
pub(crate) use scenarios;

/// A cluster that is quick to judge. Its primary is this process.
pub(crate) fn builder() -> Builder {
    Cluster::builder().console(false).min_uptime(Duration::from_millis(50)).restart_delay(Duration::ZERO)
}

/// Starts a cluster that is listened to from its first moment on.
pub(crate) fn start<F, R, E>(mut builder: Builder, worker: F) -> (Cluster, Events)
where
    F: Fn(Worker) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let events = builder.events();
    (builder.start(worker).unwrap(), events)
}

/// Runs one's own logic to its end.
pub(crate) fn block_on<T>(logic: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, logic).await.expect("it takes too long") })
}

/// The next event that `is_it` finds something in.
pub(crate) async fn until<T>(events: &mut Events, mut is_it: impl FnMut(Event) -> Option<T>) -> T {
    loop {
        let event = events.recv().await.expect("the cluster goes on");
        if let Some(it) = is_it(event) {
            return it;
        }
    }
}

/// Waits until all serve, and says where.
pub(crate) async fn serving(events: &mut Events) -> SocketAddr {
    let addresses = until(events, |event| match event {
        Event::Serving { addresses, .. } if !addresses.is_empty() => Some(addresses),
        _ => None,
    });
    addresses.await[0].parse().unwrap()
}

/// Serves one line to each client until it is told to leave: its id, slot, generation and role.
pub(crate) async fn line_server(worker: Worker) -> Result<(), std::io::Error> {
    let listener = worker.listen(address().as_str()).await.map_err(std::io::Error::other)?;
    let mut shutdown = worker.shutdown();
    let role = std::env::var("ROLE").unwrap_or_default();
    let line = format!("{} {} {} {role}\n", worker.id(), worker.slot(), worker.generation());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => return Ok(()),
        };
        let (mut stream, _) = accepted?;
        stream.write_all(line.as_bytes()).await?;
        stream.shutdown().await?;
    }
}

/// The port that the scenario has chosen; workers find it in their environment.
pub(crate) fn address() -> String {
    std::env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:0".into())
}

/// A port that nobody uses just now.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What one client hears.
pub(crate) fn ask(address: SocketAddr) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(b"x").unwrap();
    let mut line = String::new();
    client.read_to_string(&mut line).unwrap();
    assert!(line.ends_with('\n'), "half an answer: {line:?}");
    line
}

/// Waits until something holds that no event tells of.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
