//! A server of axum's own, which knows nothing of oxherd. It tells its process, at once or after `?ms=` milliseconds.

use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, Uri, header};
use axum::routing::get;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).expect("the address is the only argument");
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, Router::new().route("/", get(pid))).await
}

async fn pid(uri: Uri) -> ([(HeaderName, &'static str); 1], String) {
    let wait = uri.query().and_then(|query| query.strip_prefix("ms=")?.parse().ok());
    if let Some(ms) = wait {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    ([(header::CONTENT_TYPE, "application/json")], format!("{{\"pid\":{}}}", std::process::id()))
}
