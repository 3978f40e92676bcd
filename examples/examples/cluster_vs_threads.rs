//! The same server by worker processes and by worker threads, with a heavy calculation on the worker's own thread or
//! on a pool.
//!
//! ```sh
//! cargo run --release --example cluster_vs_threads                       # processes
//! cargo run --release --example cluster_vs_threads -- threads --pool     # threads, calculation on a pool
//! cargo run --release --example cluster_vs_threads -- compare            # measures all of them
//! curl http://localhost:3000/heavy-task
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use oxherd::{Builder, Cluster, Distribution, Worker, Workers};
use oxherd_examples::{Failure, address, compare, square_roots};
use serde_json::{Value, json};

/// Long enough, some 10 ms, to be felt by whoever waits behind it.
const SQUARE_ROOTS: u32 = 10_000_000;
const USAGE: &str = "usage: cluster_vs_threads [processes|threads|compare] [--pool] [--kernel]";

/// How the server is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mode {
    threads: bool,
    /// Calculations leave the worker's own thread.
    pool: bool,
    /// Each worker has a listener of its own, in place of being handed connections. Threads always have.
    kernel: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut mode = Mode { threads: false, pool: false, kernel: false };
    let mut compares = false;
    for word in &words {
        match word.as_str() {
            "processes" => mode.threads = false,
            "threads" => mode.threads = true,
            "compare" => compares = true,
            "--pool" => mode.pool = true,
            "--kernel" => mode.kernel = true,
            _ => {
                eprintln!("cluster_vs_threads: what is `{word}`? {USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    if compares {
        compare_all()
    } else {
        mode.builder().signals(true).run(move |worker| serve(worker, mode, None))
    }
}

impl Mode {
    fn builder(self) -> Builder {
        let builder = Cluster::builder().name("cluster-vs-threads");
        let distribution =
            if self.kernel || self.threads { Distribution::Kernel } else { Distribution::Handoff };
        let workers = if self.threads { Workers::ThreadsPerCpu } else { Workers::PerCpu };
        builder.workers(workers).distribution(distribution).args(self.words())
    }

    /// The command line of a worker process in this mode.
    fn words(self) -> Vec<String> {
        let kind = if self.threads { "threads" } else { "processes" };
        let flags = [(self.pool, "--pool"), (self.kernel, "--kernel")];
        let given = flags.into_iter().filter_map(|(given, word)| given.then_some(word));
        std::iter::once(kind).chain(given).map(str::to_owned).collect()
    }

    fn title(self) -> String {
        let kind = match (self.threads, self.kernel) {
            (true, _) => "threads",
            (false, true) => "processes, kernel",
            (false, false) => "processes, handoff",
        };
        format!("{kind}, {}", if self.pool { "pool" } else { "inline" })
    }
}

/// Serves until told to leave. Without a `place` that is at `PORT`.
async fn serve(worker: Worker, mode: Mode, place: Option<SocketAddr>) -> Result<(), Failure> {
    let app = Router::new().route("/", get(greet)).route("/heavy-task", get(heavy_task)).with_state(mode);
    let place = match place {
        Some(place) => place,
        None => address()?,
    };
    let listener = worker.listen(place).await?;
    oxherd::http::serve(listener, app).await?;
    Ok(())
}

async fn greet() -> Json<Value> {
    Json(json!({ "pid": std::process::id(), "thread": std::thread::current().name() }))
}

/// On the worker's own thread a calculation holds up everybody whom this worker serves. On a pool only the CPU is
/// shared with them.
async fn heavy_task(State(mode): State<Mode>) -> Json<Value> {
    let (result, duration) = if mode.pool {
        let calculated = tokio::task::spawn_blocking(|| square_roots(SQUARE_ROOTS)).await;
        calculated.expect("the calculation does not panic")
    } else {
        square_roots(SQUARE_ROOTS)
    };
    Json(json!({ "result": result, "duration": duration, "pid": std::process::id() }))
}

/// Runs each mode in turn, asks as fast as it can, and prints a table.
fn compare_all() -> ExitCode {
    compare::print_head();
    for pool in [false, true] {
        for (threads, kernel) in [(false, false), (false, true), (true, true)] {
            let mode = Mode { threads, pool, kernel };
            if let Err(error) = compare_one(mode) {
                eprintln!("cluster_vs_threads: {}: {error}", mode.title());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn compare_one(mode: Mode) -> Result<(), Failure> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    // Processes read the port from their environment, threads have ours.
    let builder = mode.builder().env("PORT", "0").console(false);
    let cluster = builder.start(move |worker| {
        let place = mode.threads.then_some(anywhere);
        serve(worker, mode, place)
    })?;
    compare::print(&mode.title(), &compare::measure(&cluster)?);
    Ok(())
}
