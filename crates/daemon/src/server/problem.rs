//! Answers that are no success: a status and a text that names the thing, the cause and the way out.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use oxherd::api::Problem;
use oxherd_core::Refusal;
use serde::Serialize;

/// Why a request gets no success.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) error: String,
    /// The next daemon will know.
    again: bool,
}

/// What every handler returns.
pub(super) type Answer = Result<Response, Failure>;

impl Failure {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), again: false }
    }

    pub(super) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(super) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    pub(super) fn conflict(error: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error)
    }

    pub(super) fn unprocessable(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }

    pub(super) fn internal(error: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }

    /// The control thread does not answer any more.
    pub(super) fn ending() -> Self {
        let text = "the daemon is ending: try again in a moment";
        Self { again: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, text) }
    }

    /// Whether nobody knows what became of the request: the control thread ended over it.
    pub(super) fn is_open(&self) -> bool {
        self.again
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::NoSuchApp(_) | Refusal::NoSuchInstance(_) | Refusal::NoSuchSlot { .. } => {
                Self::not_found(text)
            }
            Refusal::Spec(_) => Self::unprocessable(format!("cannot run the app: {text}")),
            Refusal::NameTaken(_)
            | Refusal::Stopped(_)
            | Refusal::SlotInUse(_)
            | Refusal::Ending
            | Refusal::NeedsWorkers(_)
            | Refusal::Fixed(_) => Self::conflict(text),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &Problem { error: self.error });
        if self.again {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A body of the API.
pub(super) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}")).into_response(),
    }
}
