//! One worker per CPU on one port; a worker that exits is replaced.
//!
//! ```sh
//! cargo run --release --example basic
//! curl http://localhost:3000/
//! ```

use std::process::ExitCode;

use axum::Router;
use axum::routing::get;
use oxherd::{Cluster, Worker, Workers};
use oxherd_examples::{Failure, address};

fn main() -> ExitCode {
    Cluster::builder().name("basic").workers(Workers::PerCpu).signals(true).run(serve)
}

async fn serve(worker: Worker) -> Result<(), Failure> {
    let app = Router::new().route("/", get(|| async { "Hello, Cluster!\n" }));
    let listener = worker.listen(address()?).await?;
    println!("Worker process {} is running", std::process::id());
    oxherd::http::serve(listener, app).await?;
    Ok(())
}
