//! Workers send messages to the primary and exit; when every worker has exited the primary exits with 0.
//!
//! ```sh
//! cargo run --release --example messages
//! ```

use std::process::ExitCode;

use oxherd::{Cluster, Event, RestartWhen, Worker, Workers};
use oxherd_examples::Failure;
use serde_json::json;

fn main() -> ExitCode {
    Cluster::builder()
        .name("messages")
        .workers(Workers::Count(2))
        // A worker that ends has done its work, unless it failed.
        .restart(RestartWhen::OnFailure)
        .signals(true)
        .on_event(|_, event| match event {
            Event::Message { worker, message } => {
                println!("Message from worker {}: {}", worker.id(), message.raw())
            }
            Event::Exit { worker, code, signal } => {
                println!("Worker {} exited (code {code:?}, signal {signal:?})", worker.id());
            }
            _ => {}
        })
        .run(work)
}

async fn work(worker: Worker) -> Result<(), Failure> {
    println!("Worker {} has started", std::process::id());
    worker.send(&json!({ "type": "ready", "pid": std::process::id() }))?;
    worker.send(&json!({ "type": "greeting", "text": format!("hello from slot {}", worker.slot()) }))?;
    worker.disconnect().await?;
    Ok(())
}
