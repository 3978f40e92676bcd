//! Which request goes where. The one list of routes: the router is made of it, and the OpenAPI document is
//! checked against it.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State as Shared};
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{MethodFilter, MethodRouter, get, on, post};

use super::change::{self, each};
use super::plan::Verb;
use super::problem::{Answer, Failure};
use super::state::State;
use super::{events, logs, reach, read, trigger};

/// A route and the answers that it may give, apart from those that any request may get: 403 (not your daemon),
/// 500 (a bug) and 503 (too many connections, or the daemon is ending).
pub(super) struct Route {
    #[allow(dead_code, reason = "for the check of the OpenAPI document, which comes with it")]
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    #[allow(dead_code, reason = "for the check of the OpenAPI document, which comes with it")]
    pub(super) answers: &'static [u16],
    handler: MethodRouter<Arc<State>>,
}

type Selector = Result<Path<String>, PathRejection>;

/// What can become of a request to change an app.
const CHANGE: &[u16] = &[202, 400, 404, 408, 409, 413, 422];

/// What can become of a request that reaches workers.
const REACH: &[u16] = &[200, 400, 404, 408, 409, 413, 422];
/// What can become of one about the snapshot.
const SAVE: &[u16] = &[200, 400, 408, 409, 413, 422];

/// All routes.
pub(super) fn routes() -> Vec<Route> {
    let get_route = |path, answers, handler| Route { method: "get", path, answers, handler };
    let post_route = |path, answers, handler| Route { method: "post", path, answers, handler };
    let verb_route = |path, read| post_route(path, CHANGE, verb(MethodFilter::POST, read));
    vec![
        get_route("/v1/ping", &[200], get(read::ping)),
        get_route("/v1/openapi.json", &[200], get(read::openapi)),
        get_route("/v1/apps", &[200, 400, 404], get(read::apps)),
        get_route("/v1/apps/{selector}", &[200, 400, 404], get(read::app)),
        post_route("/v1/apps", &[202, 400, 408, 409, 413, 422], post(change::start_new)),
        verb_route("/v1/apps/{selector}/start", change::read_start),
        verb_route("/v1/apps/{selector}/stop", change::read_stop),
        verb_route("/v1/apps/{selector}/restart", change::read_restart),
        verb_route("/v1/apps/{selector}/reload", change::read_reload),
        verb_route("/v1/apps/{selector}/adjust", change::read_adjust),
        verb_route("/v1/apps/{selector}/scale", change::read_scale),
        verb_route("/v1/apps/{selector}/recycle", change::read_recycle),
        Route {
            method: "delete",
            path: "/v1/apps/{selector}",
            answers: CHANGE,
            handler: verb(MethodFilter::DELETE, change::read_delete),
        },
        get_route("/v1/apps/{selector}/spec", &[200, 400, 404], get(read::specs)),
        get_route("/v1/apps/{selector}/env", &[200, 400, 404], get(read::env)),
        post_route("/v1/apps/{selector}/signal", REACH, post(reach::signal)),
        post_route("/v1/apps/{selector}/send", REACH, post(reach::send)),
        post_route("/v1/apps/{selector}/message", REACH, post(reach::message)),
        post_route("/v1/apps/{selector}/trigger", REACH, post(trigger::trigger)),
        post_route("/v1/apps/{selector}/reset", REACH, post(reach::reset)),
        get_route("/v1/changes/{change}", &[200, 400, 404], get(read::change)),
        get_route("/v1/events", &[200, 400, 404], get(events::events)),
        get_route("/v1/logs", &[200, 400, 404, 500], get(logs::logs)),
        post_route("/v1/logs/reopen", &[204], post(change::reopen_logs)),
        post_route("/v1/logs/flush", &[200, 400, 404, 500], post(reach::flush_logs)),
        post_route("/v1/save", SAVE, post(reach::save)),
        Route {
            method: "delete",
            path: "/v1/save",
            answers: SAVE,
            handler: axum::routing::delete(reach::delete_save),
        },
        post_route("/v1/resurrect", &[202, 400, 408, 409, 413, 422], post(change::resurrect)),
        post_route("/v1/upgrade", &[202, 400, 408, 409, 413, 422], post(change::upgrade)),
        post_route("/v1/kill", &[202, 400, 408, 409, 413, 422], post(change::kill)),
    ]
}

pub(super) fn router(state: Arc<State>) -> Router {
    let routes = routes().into_iter();
    let router = routes.fold(Router::new(), |router, route| router.route(route.path, route.handler));
    #[cfg(debug_assertions)]
    let router = super::plant::add(router);
    // The second is for the routes that are there by now.
    router.fallback(no_route).method_not_allowed_fallback(wrong_method).with_state(state)
}

/// A handler for what is done with the apps that a selector names.
fn verb(method: MethodFilter, read: fn(&[u8]) -> Result<Verb, Failure>) -> MethodRouter<Arc<State>> {
    let handle = move |state: Shared<Arc<State>>, selector: Selector, request: Request| {
        each(state, selector, request, read)
    };
    on(method, handle)
}

async fn no_route(uri: Uri) -> Answer {
    let text = format!("there is nothing at {}: GET /v1/openapi.json describes the API", uri.path());
    Err(Failure::not_found(text))
}

async fn wrong_method(method: Method, uri: Uri) -> Answer {
    let text = format!("{} does not take {method}: the header `allow` has what it takes", uri.path());
    Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, text))
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
