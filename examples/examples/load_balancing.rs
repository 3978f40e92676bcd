//! Which worker gets the next connection: `--strategy least-busy` (the default), `round-robin`, `least-connections`,
//! `weighted` (the first worker gets three times as many) or `random`. A report comes every ten seconds.
//!
//! ```sh
//! cargo run --release --example load_balancing -- --strategy least-connections
//! curl http://localhost:3000/api/worker-info
//! ```

use std::process::ExitCode;
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use oxherd::{Cluster, Strategy, Worker, Workers};
use oxherd_examples::{Failure, address, memory, square_roots, timestamp, uptime};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let strategy = match chosen() {
        Ok(strategy) => strategy,
        Err(error) => {
            eprintln!("load_balancing: {error}");
            return ExitCode::from(2);
        }
    };
    let builder = Cluster::builder()
        .name("load-balancing")
        .workers(Workers::PerCpu)
        .strategy(strategy)
        .status_interval(Duration::from_secs(10))
        .signals(true);
    let builder = if strategy == Strategy::Weighted { builder.weights([3, 1]) } else { builder };
    builder.run(serve)
}

/// The strategy of the command line.
fn chosen() -> Result<Strategy, Failure> {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next(), args.next()) {
        (None, ..) => Ok(Strategy::default()),
        (Some("--strategy"), Some(name), None) => Ok(name.parse()?),
        _ => Err("usage: load_balancing [--strategy NAME]".into()),
    }
}

async fn serve(worker: Worker) -> Result<(), Failure> {
    uptime();
    let app = Router::new()
        .route("/", get(greet))
        .route("/api/worker-info", get(worker_info))
        .route("/api/heavy-task", get(heavy_task))
        .with_state(worker.clone());
    let listener = worker.listen(address()?).await?;
    println!("Worker {} runs on port {}", std::process::id(), listener.local_addr()?.port());
    oxherd::http::serve(listener, app).await?;
    Ok(())
}

async fn greet(State(worker): State<Worker>) -> Json<Value> {
    let load = worker.load().figures();
    Json(json!({
        "message": "Advanced Cluster Response",
        "workerId": std::process::id(),
        "connections": load.connections,
        "requests": load.requests,
        "timestamp": timestamp(),
    }))
}

async fn worker_info(State(worker): State<Worker>) -> Json<Value> {
    let load = worker.load().figures();
    Json(json!({
        "pid": std::process::id(),
        "slot": worker.slot(),
        "connections": load.connections,
        "requests": load.requests,
        "uptime": uptime(),
        "memory": memory(),
    }))
}

async fn heavy_task(State(worker): State<Worker>) -> Json<Value> {
    let (result, duration) = square_roots(500_000);
    Json(json!({
        "result": result,
        "duration": duration,
        "workerId": std::process::id(),
        "connections": worker.load().figures().connections,
    }))
}
