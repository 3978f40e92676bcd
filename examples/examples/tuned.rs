//! As many workers as the work wants: one per CPU, twice as many with `IO_INTENSIVE=true`. A worker that uses more
//! than 100 MB is warned of.
//!
//! ```sh
//! IO_INTENSIVE=true cargo run --release --example tuned
//! curl http://localhost:3000/
//! curl http://localhost:3000/fill?mb=150
//! ```

use std::process::ExitCode;
use std::sync::Mutex;

use axum::extract::Query;
use axum::routing::get;
use axum::{Json, Router};
use oxherd::{Cluster, Worker, Workers};
use oxherd_examples::{Failure, address, memory};
use serde::Deserialize;
use serde_json::{Value, json};

const MEMORY_WARNING_BYTES: u64 = 100 << 20;

fn main() -> ExitCode {
    let is_io_intensive = std::env::var("IO_INTENSIVE").is_ok_and(|value| value == "true");
    let workers = if is_io_intensive { Workers::Io } else { Workers::PerCpu };
    let builder = Cluster::builder().name("tuned").workers(workers);
    builder.memory_warning(MEMORY_WARNING_BYTES).signals(true).run(serve)
}

async fn serve(worker: Worker) -> Result<(), Failure> {
    let app = Router::new().route("/", get(greet)).route("/fill", get(fill));
    let listener = worker.listen(address()?).await?;
    oxherd::http::serve(listener, app).await?;
    Ok(())
}

async fn greet() -> Json<Value> {
    Json(json!({ "workerId": std::process::id(), "optimized": true, "memory": memory() }))
}

#[derive(Deserialize)]
struct Fill {
    mb: usize,
}

/// Uses memory and keeps it, to see the warning.
async fn fill(Query(Fill { mb }): Query<Fill>) -> Json<Value> {
    static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    let bytes = vec![1_u8; mb.min(512) << 20];
    KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(bytes);
    Json(json!({ "workerId": std::process::id(), "memory": memory() }))
}
