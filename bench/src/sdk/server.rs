//! The contestants: the same axum server, run in five ways by this very program. Nothing is measured here.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use oxherd::{Cluster, Distribution, Worker, Workers};

use crate::child::{Guarded, Output};
use crate::daemon::process::Memory;
use crate::sys;

/// What a worker may fail with.
type Failure = Box<dyn std::error::Error + Send + Sync>;

const START_LIMIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// After the first answer the other workers still start.
const SETTLE: Duration = Duration::from_millis(500);
pub(crate) const SUBCOMMAND: &str = "sdk-server";

/// How the server is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One process with one thread.
    One,
    Handoff,
    Kernel,
    Threads,
    /// One process, tokio's multi-thread runtime.
    Tokio,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::One, Self::Handoff, Self::Kernel, Self::Threads, Self::Tokio];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "1 process",
            Self::Handoff => "processes, handoff",
            Self::Kernel => "processes, kernel",
            Self::Threads => "threads",
            Self::Tokio => "tokio multi-thread",
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Handoff => "handoff",
            Self::Kernel => "kernel",
            Self::Threads => "threads",
            Self::Tokio => "tokio",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Is the server until `SIGTERM`, at `PORT`.
pub(crate) fn serve(kind: Kind) -> ExitCode {
    let cluster = |workers, distribution| {
        let builder = Cluster::builder().name("bench").workers(workers).distribution(distribution);
        builder.args([SUBCOMMAND, kind.word()]).signals(true).run(work)
    };
    match kind {
        Kind::One => alone(tokio::runtime::Builder::new_current_thread()),
        Kind::Tokio => alone(tokio::runtime::Builder::new_multi_thread()),
        Kind::Handoff => cluster(Workers::PerCpu, Distribution::Handoff),
        Kind::Kernel => cluster(Workers::PerCpu, Distribution::Kernel),
        Kind::Threads => cluster(Workers::ThreadsPerCpu, Distribution::Kernel),
    }
}

fn alone(mut runtime: tokio::runtime::Builder) -> ExitCode {
    let served = runtime.enable_all().build().map_err(Failure::from).and_then(|runtime| {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(place()?).await?;
            let mut signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            let stopped = async move {
                let _signal = signals.recv().await;
            };
            Ok(axum::serve(listener, app()).with_graceful_shutdown(stopped).await?)
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn work(worker: Worker) -> Result<(), Failure> {
    let listener = worker.listen(place()?).await?;
    oxherd::http::serve(listener, app()).await?;
    Ok(())
}

fn app() -> Router {
    Router::new().route("/", get(|| async { format!("pid {}\n", std::process::id()) }))
}

fn place() -> Result<SocketAddr, Failure> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, std::env::var("PORT")?.parse()?)))
}

/// A started server.
pub(crate) struct Server {
    port: u16,
    process: Guarded,
    /// Bound and not listening: keeps the port from everybody else until the server has it.
    _port_hold: OwnedFd,
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Result<Self, String> {
        let (hold, port) = sys::bound_socket(0).map_err(|error| format!("cannot reserve a port: {error}"))?;
        let program =
            std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let mut command = Command::new(program);
        command.args([SUBCOMMAND, kind.word()]).env("PORT", port.to_string());
        let process = Guarded::spawn(&mut command, None, Output::Captured);
        let process = process.map_err(|error| format!("cannot start the server: {error}"))?;
        let mut server = Self { port, process, _port_hold: hold };
        server.wait()?;
        Ok(server)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn wait(&mut self) -> Result<(), String> {
        let until = Instant::now() + START_LIMIT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if Instant::now() > until || self.process.has_ended().is_some() {
                return Err(format!("does not serve: {}", self.process.output_tail()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        std::thread::sleep(SETTLE);
        Ok(())
    }

    /// `Pss` of the primary and its children: a page that several of them share counts once.
    pub(crate) fn memory(&self) -> Result<u64, String> {
        let primary = self.process.pid();
        let children =
            fs::read_to_string(format!("/proc/{primary}/task/{primary}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
        let pss_kib: f64 =
            children.chain([primary]).map(|pid| Memory::of(pid).map(|it| it.pss)).sum::<Result<_, _>>()?;
        Ok((pss_kib * 1024.0) as u64)
    }

    pub(crate) fn stop(mut self) -> Result<(), String> {
        let status = self.process.stop()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("ended with {status}: {}", self.process.output_tail()))
        }
    }
}
