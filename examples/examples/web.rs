//! A web server on every CPU: JSON and form bodies, a health check, a heavy task, a log line per request.
//!
//! ```sh
//! cargo run --release --example web
//! curl http://localhost:3000/health
//! curl http://localhost:3000/ -d 'name=ox&legs=4'
//! curl http://localhost:3000/ --json '{"name":"ox","legs":4}'
//! ```

use std::process::ExitCode;

use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Form, Json, Router};
use oxherd::{Cluster, Worker, Workers};
use oxherd_examples::{Failure, address, memory, square_roots, timestamp, uptime};
use serde_json::{Map, Value, json};

fn main() -> ExitCode {
    Cluster::builder().name("web").workers(Workers::PerCpu).signals(true).run(serve)
}

async fn serve(worker: Worker) -> Result<(), Failure> {
    uptime();
    let app = Router::new()
        .route("/", get(greet).post(echo))
        .route("/health", get(health))
        .route("/heavy-task", get(heavy_task))
        .layer(middleware::from_fn(log));
    let listener = worker.listen(address()?).await?;
    println!("Worker {} runs on port {}", std::process::id(), listener.local_addr()?.port());
    oxherd::http::serve(listener, app).await?;
    Ok(())
}

async fn greet() -> Json<Value> {
    Json(json!({
        "message": "Hello from Cluster!",
        "workerId": std::process::id(),
        "timestamp": timestamp(),
    }))
}

async fn health() -> Json<Value> {
    Json(json!({
        "status": "healthy",
        "workerId": std::process::id(),
        "uptime": uptime(),
        "memory": memory(),
    }))
}

/// A million square roots. Meanwhile this worker answers nobody else: `cluster_vs_threads` shows the way out.
async fn heavy_task() -> Json<Value> {
    let (result, duration) = square_roots(1_000_000);
    Json(json!({ "result": result, "duration": duration, "workerId": std::process::id() }))
}

/// Gives back what was sent, JSON or an HTML form.
async fn echo(request: Request) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let refused = |status: StatusCode, why: String| (status, Json(json!({ "error": why })));
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let body = if kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
        let form = Form::<Vec<(String, String)>>::from_request(request, &()).await;
        let Form(fields) = form.map_err(|why| refused(why.status(), why.body_text()))?;
        Value::Object(fields.into_iter().map(|(name, value)| (name, value.into())).collect::<Map<_, _>>())
    } else {
        let body = Json::<Value>::from_request(request, &()).await;
        body.map_err(|why| refused(why.status(), why.body_text()))?.0
    };
    Ok(Json(json!({ "body": body, "workerId": std::process::id() })))
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
