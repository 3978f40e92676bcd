//! Workers talk to each other through the primary, which passes on what names a `targetWorker`: a cache that all of
//! them keep, a setting that one of them is told, and the question how a worker is.
//!
//! ```sh
//! cargo run --release --example inter_worker
//! curl http://localhost:3000/cache/ox --json '"a strong animal"'     # every worker keeps it
//! curl http://localhost:3000/cache/ox
//! curl http://localhost:3000/config/2 --json '{"colour":"red"}'      # only worker 2 is told
//! curl http://localhost:3000/health/2                                # asks worker 2
//! ```

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use oxherd::{Cluster, Message, Worker, Workers};
use oxherd_examples::{Failure, address, memory, uptime};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    Cluster::builder().name("inter-worker").workers(Workers::PerCpu).signals(true).run(serve)
}

/// What a worker knows.
struct Node {
    worker: Worker,
    cache: Mutex<BTreeMap<String, Value>>,
    config: Mutex<Value>,
    /// Questions that are not answered yet.
    asked: Mutex<BTreeMap<u64, oneshot::Sender<Value>>>,
    next_question: AtomicU64,
}

#[derive(Serialize, Deserialize)]
struct CacheUpdate {
    key: String,
    value: Value,
}

async fn serve(worker: Worker) -> Result<(), Failure> {
    uptime();
    let node = Arc::new(Node {
        worker: worker.clone(),
        cache: Mutex::default(),
        config: Mutex::default(),
        asked: Mutex::default(),
        next_question: AtomicU64::new(1),
    });
    tokio::spawn(listen_to_others(Arc::clone(&node)));
    let app = Router::new()
        .route("/", get(whole))
        .route("/cache/{key}", get(look_up).post(keep))
        .route("/config/{worker}", post(configure))
        .route("/health/{worker}", get(ask_for_health))
        .with_state(node);
    let listener = worker.listen(address()?).await?;
    println!("Worker {} (pid {}) listens", worker.id(), std::process::id());
    oxherd::http::serve(listener, app).await?;
    Ok(())
}

async fn listen_to_others(node: Arc<Node>) {
    let mut messages = node.worker.messages();
    while let Some(message) = messages.recv().await {
        if let Err(error) = node.hear(&message) {
            eprintln!("Worker {} does not understand a message: {error}", node.worker.id());
        }
    }
}

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

impl Node {
    fn hear(&self, message: &Message) -> Result<(), Failure> {
        let sender = message.from_worker().unwrap_or(0);
        match message.kind().as_deref() {
            Some("cache-update") => {
                let CacheUpdate { key, value } = message.parse::<Envelope<CacheUpdate>>()?.data;
                println!("Worker {}: cache-update of {key} from worker {sender}", self.worker.id());
                lock(&self.cache).insert(key, value);
            }
            Some("config-change") => {
                println!("Worker {}: config-change from worker {sender}", self.worker.id());
                *lock(&self.config) = message.parse::<Envelope<Value>>()?.data;
            }
            Some("health-check") => {
                let question = message.parse::<Envelope<u64>>()?.data;
                let health = json!({ "question": question, "pid": std::process::id(), "uptime": uptime(), "memory": memory() });
                self.worker.send_to(sender, "health", &health)?;
            }
            Some("health") => {
                let health = message.parse::<Envelope<Value>>()?.data;
                let asked =
                    health["question"].as_u64().and_then(|question| lock(&self.asked).remove(&question));
                // Whoever asked may have given up by now.
                asked.into_iter().for_each(|asked| drop(asked.send(health.clone())));
            }
            _ => {}
        }
        Ok(())
    }
}

async fn whole(State(node): State<Arc<Node>>) -> Json<Value> {
    Json(json!({
        "worker": node.worker.id(),
        "pid": std::process::id(),
        "cache": *lock(&node.cache),
        "config": *lock(&node.config),
    }))
}

async fn look_up(State(node): State<Arc<Node>>, Path(key): Path<String>) -> Result<Json<Value>, StatusCode> {
    lock(&node.cache).get(&key).cloned().map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn keep(
    State(node): State<Arc<Node>>,
    Path(key): Path<String>,
    Json(value): Json<Value>,
) -> Result<Json<Value>, (StatusCode, String)> {
    lock(&node.cache).insert(key.clone(), value.clone());
    let update = CacheUpdate { key, value };
    node.worker.broadcast("cache-update", &update).map_err(unavailable)?;
    Ok(Json(json!({ "worker": node.worker.id(), "kept": update.key })))
}

async fn configure(
    State(node): State<Arc<Node>>,
    Path(target): Path<u64>,
    Json(config): Json<Value>,
) -> Result<Json<Value>, (StatusCode, String)> {
    node.worker.send_to(target, "config-change", &config).map_err(unavailable)?;
    Ok(Json(json!({ "worker": node.worker.id(), "told": target })))
}

async fn ask_for_health(
    State(node): State<Arc<Node>>,
    Path(target): Path<u64>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let question = node.next_question.fetch_add(1, Ordering::Relaxed);
    let (sender, answer) = oneshot::channel();
    lock(&node.asked).insert(question, sender);
    node.worker.send_to(target, "health-check", &question).map_err(unavailable)?;
    let answered = tokio::time::timeout(HEALTH_TIMEOUT, answer).await;
    lock(&node.asked).remove(&question);
    match answered {
        Ok(Ok(health)) => Ok(Json(health)),
        Ok(Err(_)) | Err(_) => Err((
            StatusCode::GATEWAY_TIMEOUT,
            format!("worker {target} does not answer: there may be none\n"),
        )),
    }
}

fn unavailable(error: impl std::fmt::Display) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
