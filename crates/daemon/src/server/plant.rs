//! Plants a panic: `POST /v1/debug/panic/{thread}`, where `thread` is `control`, `traffic` or `server`.
//!
//! How a daemon that panics is replaced can only be tested with one that does. Builds without debug assertions do not
//! have this module, and the document of the API does not know of it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use oxherd_engine::Culprit;

use super::state::State;

pub(super) fn add(router: Router<Arc<State>>) -> Router<Arc<State>> {
    router.route("/v1/debug/panic/{thread}", post(panic))
}

async fn panic(Shared(state): Shared<Arc<State>>, Path(thread): Path<String>) -> Response {
    match &*thread {
        "control" => state.driver.panic(Culprit::Control),
        "traffic" => state.driver.panic(Culprit::Traffic),
        "server" => panic!("planted on the server's thread"),
        _ => return StatusCode::NOT_FOUND.into_response(),
    }
    StatusCode::ACCEPTED.into_response()
}
