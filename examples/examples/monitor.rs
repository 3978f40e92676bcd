//! The herd's figures: requests, errors (a status of 400 or more), the error rate, memory and uptime of each worker,
//! in a report every thirty seconds and at `/status`.
//!
//! ```sh
//! cargo run --release --example monitor
//! REPORT_SECONDS=2 cargo run --release --example monitor
//! curl http://localhost:3000/missing
//! ```

use std::process::ExitCode;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use oxherd::{Cluster, Worker, Workers};
use oxherd_examples::{Failure, address, memory, uptime};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let seconds = std::env::var("REPORT_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let builder = Cluster::builder().name("monitor").workers(Workers::PerCpu);
    builder.status_interval(Duration::from_secs(seconds)).signals(true).run(serve)
}

async fn serve(worker: Worker) -> Result<(), Failure> {
    uptime();
    let app = Router::new()
        .route("/", get(|| async { "watched\n" }))
        .route("/fail", get(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "it failed\n") }))
        .route("/status", get(status))
        .with_state(worker.clone());
    let listener = worker.listen(address()?).await?;
    oxherd::http::serve(listener, app).await?;
    Ok(())
}

/// What this worker tells the primary.
async fn status(State(worker): State<Worker>) -> Json<Value> {
    let load = worker.load().figures();
    let rate = 100.0 * load.errors as f64 / load.requests.max(1) as f64;
    Json(json!({
        "pid": std::process::id(),
        "requests": load.requests,
        "errors": load.errors,
        "errorRate": format!("{rate:.2}%"),
        "uptime": uptime(),
        "memory": memory(),
    }))
}
