//! A managed server: at most five restarts with a second between them, figures every five seconds, a status report
//! every thirty, ten seconds for a graceful end.
//!
//! ```sh
//! cargo run --release --example manager
//! curl http://localhost:3000/api/data
//! curl http://localhost:3000/api/process --json '{"data":[1,2,3]}'
//! ```

use std::process::ExitCode;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use oxherd::{Cluster, Event, Worker, Workers};
use oxherd_examples::{Failure, address, square_roots, timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

fn main() -> ExitCode {
    Cluster::builder()
        .name("manager")
        .workers(Workers::PerCpu)
        .max_restarts(5)
        .restart_delay(Duration::from_secs(1))
        .wait_ready(true)
        .status_interval(Duration::from_secs(30))
        .drain_timeout(Duration::from_secs(10))
        .signals(true)
        .on_event(|_, event| {
            if let Event::Message { worker, message } = event {
                println!("Message from worker {}: {}", worker.id(), message.raw());
            }
        })
        .run(serve)
}

async fn serve(worker: Worker) -> Result<(), Failure> {
    let app = Router::new()
        .route("/", get(greet))
        .route("/api/data", get(data))
        .route("/api/process", post(process))
        .layer(middleware::from_fn(log))
        .with_state(worker.clone());
    let listener = worker.listen(address()?).await?;
    println!("Worker {} runs on port {}", std::process::id(), listener.local_addr()?.port());
    worker.ready()?;
    // Tells the primary its figures every five seconds, and ends when the primary says so.
    oxherd::http::serve(listener, app).await?;
    println!("Worker {} has ended in peace", std::process::id());
    Ok(())
}

async fn greet(State(worker): State<Worker>) -> Json<Value> {
    let load = worker.load().figures();
    Json(json!({
        "message": "Hello from Cluster!",
        "workerId": std::process::id(),
        "connections": load.connections,
        "requests": load.requests,
        "timestamp": timestamp(),
    }))
}

async fn data() -> Json<Value> {
    tokio::time::sleep(Duration::from_millis(100)).await;
    Json(json!({ "data": "Sample data", "workerId": std::process::id(), "timestamp": timestamp() }))
}

#[derive(Deserialize)]
struct Work {
    data: Value,
}

async fn process(body: Result<Json<Work>, JsonRejection>) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let Json(Work { data }) =
        body.map_err(|why| (StatusCode::BAD_REQUEST, Json(json!({ "error": why.body_text() }))))?;
    let (result, _) = square_roots(100_000);
    Ok(Json(json!({ "result": result, "processedData": data, "workerId": std::process::id() })))
}

async fn log(request: Request, next: Next) -> Response {
    println!(
        "[{}] {} {} - Worker {}",
        timestamp(),
        request.method(),
        request.uri().path(),
        std::process::id()
    );
    next.run(request).await
}
