//! What goes wrong in a worker is reported to the primary, with message and backtrace: a panic, and an `Err` from a
//! task. Ten errors within a minute in one slot, and it is not filled again.
//!
//! ```sh
//! cargo run --release --example errors
//! curl http://localhost:3000/panic      # this request fails, the worker goes on
//! curl http://localhost:3000/task       # a task fails behind the back of the request
//! curl http://localhost:3000/exit       # the worker exits with code 1 and is replaced
//! ```

use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use oxherd::{Cluster, Worker, Workers};
use oxherd_examples::{Failure, address};

fn main() -> ExitCode {
    Cluster::builder()
        .name("errors")
        .workers(Workers::PerCpu)
        .max_errors(10)
        .error_window(Duration::from_secs(60))
        .restart_delay(Duration::from_secs(1))
        .signals(true)
        .run(serve)
}

async fn serve(worker: Worker) -> Result<(), Failure> {
    let app = Router::new()
        .route("/", get(|| async { "all is well\n" }))
        .route("/panic", get(panics))
        .route("/task", get(fails_later))
        .route("/exit", get(exits))
        .with_state(worker.clone());
    let listener = worker.listen(address()?).await?;
    oxherd::http::serve(listener, app).await?;
    Ok(())
}

async fn panics() -> &'static str {
    panic!("a bug in a request")
}

/// A task of its own, whose `Err` nobody would see.
async fn fails_later(State(worker): State<Worker>) -> &'static str {
    tokio::spawn(async move {
        if let Err(error) = look_up("the meaning of it all").await {
            let backtrace = std::backtrace::Backtrace::force_capture();
            // Without a primary there is nobody to tell.
            drop(worker.report_error(error, Some(&backtrace.to_string())));
        }
    });
    "the task has begun\n"
}

async fn look_up(what: &str) -> Result<(), Failure> {
    Err(format!("cannot look up {what}: it is not known").into())
}

async fn exits(State(worker): State<Worker>) -> &'static str {
    drop(worker.report_error("this worker cannot go on", None));
    // The exit code makes it a failure, after which the slot is filled again.
    std::process::exit(1)
}
