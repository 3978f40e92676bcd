//! What comes in: bodies, queries, selectors and keys, as checked types or as a [`Failure`].

use std::error::Error as _;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use oxherd_core::{AppSpec, Ports, Serialization};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::problem::Failure;

/// The largest body of a request, in bytes.
pub(super) const BODY_BYTES: usize = 16 << 20;
/// How long a client may take to send one.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// The longest key, in bytes.
const KEY_BYTES: usize = 128;
/// The header that makes a repeated request harmless.
pub(super) const KEY_HEADER: &str = "idempotency-key";

/// Reads a body, however slowly it comes.
pub(super) async fn body(headers: &HeaderMap, body: Body) -> Result<Bytes, Failure> {
    let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|bytes| bytes > BODY_BYTES as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_PATIENCE, Limited::new(body, BODY_BYTES).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Ok(Err(error)) => Err(Failure::bad_request(format!("the request's body broke off: {error}"))),
        Err(_) => {
            let text = format!("the request's body did not come within {} s", BODY_PATIENCE.as_secs());
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, text))
        }
    }
}

fn too_large() -> Failure {
    let text = format!("the request's body is larger than {} MiB", BODY_BYTES >> 20);
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, text)
}

/// JSON as a type: what is no JSON at all is told apart from what says something else than expected.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            Failure::unprocessable(format!("the body does not fit: {error}"))
        }
        _ if bytes.is_empty() => Failure::bad_request("the request has no body, and needs one in JSON"),
        _ => Failure::bad_request(format!("the body is no JSON: {error}")),
    })
}

/// The same, where no body means the default.
pub(super) fn parse_optional<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T, Failure> {
    if bytes.is_empty() { Ok(T::default()) } else { parse(bytes) }
}

/// The query of an address.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Failure> {
    let read = Query::<T>::try_from_uri(uri);
    read.map(|Query(query)| query).map_err(|error| {
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        Failure::bad_request(format!("cannot read the query `{}`: {cause}", uri.query().unwrap_or("")))
    })
}

/// The last part of a path that names something.
pub(super) fn path<T>(path: Result<Path<T>, axum::extract::rejection::PathRejection>) -> Result<T, Failure> {
    path.map(|Path(part)| part)
        .map_err(|error| Failure::bad_request(format!("cannot read the path: {}", error.body_text())))
}

/// The key that makes a repeated request harmless, if there is one.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get(KEY_HEADER) else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=KEY_BYTES).contains(&key.len()));
    let wrong = || format!("the Idempotency-Key must be 1 to {KEY_BYTES} visible ASCII characters");
    key.map(|key| Some(key.to_owned())).ok_or_else(|| Failure::bad_request(wrong()))
}

/// Tells requests apart; the same in every build, because it is kept for later daemons.
pub(super) fn digest(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// Keys of a spec that are empty unless they are written.
const UNWRITTEN_LISTS: [&str; 3] = ["listen", "stop_exit_codes", "weights"];
/// Keys of a spec without a value unless they are written.
const UNWRITTEN: [&str; 11] = [
    "exp_backoff_restart_delay",
    "health_interval",
    "increment_var",
    "instance_var",
    "max_lifetime",
    "max_memory_restart",
    "max_requests",
    "memory_warning",
    "owner",
    "ready_probe",
    "scaling",
];

/// A spec as written: what is left out is as [`AppSpec::new`] has it, and the distribution as suits the sockets.
pub(super) fn spec(written: Value) -> Result<AppSpec, Failure> {
    let refuse = |what: String| Failure::unprocessable(format!("the spec does not fit: {what}"));
    let Value::Object(written) = written else { return Err(refuse("it is no JSON object".into())) };
    let text = |key: &str| written.get(key).and_then(Value::as_str);
    let (Some(name), Some(program)) = (text("name"), text("program")) else {
        return Err(refuse("`name` and `program` must be there, and be texts".into()));
    };
    AppSpec::check_name(name)
        .map_err(|error| Failure::unprocessable(format!("cannot run the app: {error}")))?;
    let mut base = AppSpec::new(name, program);
    if let Some(sockets) = text("sockets").and_then(|name| name.parse().ok()) {
        base.distribution = AppSpec::usual_distribution(sockets);
    }
    let base = serde_json::to_value(base);
    let Ok(Value::Object(mut whole)) = base else { return Err(Failure::internal("a spec is no object")) };
    // Not written where they are the default.
    let unwritten = [
        ("ports", Ports::default().to_string().into()),
        ("serialization", Serialization::default().name().into()),
        ("standby", 0.into()),
        ("autostart", true.into()),
        ("upkeep", Value::Object(Map::new())),
    ];
    let lists = UNWRITTEN_LISTS.map(|key| (key, Value::Array(Vec::new())));
    let nothing = UNWRITTEN.map(|key| (key, Value::Null));
    for (key, default) in unwritten.into_iter().chain(lists).chain(nothing) {
        whole.entry(key).or_insert(default);
    }
    overlay(&mut whole, written).map_err(refuse)?;
    serde_json::from_value(Value::Object(whole)).map_err(|error| refuse(error.to_string()))
}

fn overlay(whole: &mut Map<String, Value>, written: Map<String, Value>) -> Result<(), String> {
    for (key, value) in written {
        match whole.get_mut(&key) {
            Some(place) => *place = value,
            None => {
                let known: Vec<&str> = whole.keys().map(String::as_str).collect();
                return Err(format!("unknown key `{key}` (known: {})", known.join(", ")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use oxherd_core::{Distribution, Upkeep};

    use super::*;

    #[test]
    fn a_spec_may_leave_out_what_has_a_default() {
        let written = serde_json::json!({"name": "web", "program": "node", "instances": 4});
        let mut expected = AppSpec::new("web", "node");
        expected.instances = 4;
        assert_eq!(spec(written).unwrap(), expected);
        let weighted = serde_json::json!({
            "name": "web", "program": "node", "strategy": "weighted", "weights": [3, 1]
        });
        assert_eq!(spec(weighted).unwrap().weights, [3, 1]);
        let mut other = AppSpec::new("web", "node");
        (other.serialization, other.memory_warning) = (Serialization::Advanced, Some(1));
        assert_eq!(spec(serde_json::to_value(&other).unwrap()).unwrap(), other);
        (other.max_requests, other.upkeep.namespace) = (Some(9), "shop".into());
        assert_eq!(spec(serde_json::to_value(&other).unwrap()).unwrap(), other);
        let universal = serde_json::json!({
            "name": "web", "program": "python3", "sockets": "universal", "ports": "80,8000-8999", "standby": 1
        });
        let universal = spec(universal).unwrap();
        assert_eq!((universal.distribution, universal.standby), (Distribution::Kernel, 1));
        assert_eq!(universal.ports.to_string(), "80,8000-8999");
        let kept = serde_json::json!({
            "name": "web", "program": "node", "upkeep": {"namespace": "shop", "logs": {"json": true}}, "autostart": false
        });
        let kept = spec(kept).unwrap();
        assert_eq!((kept.upkeep.namespace(), kept.upkeep.logs.json, kept.autostart), ("shop", true, false));
        let unknown = serde_json::json!({"name": "web", "program": "node", "upkeep": {"namespaces": "x"}});
        assert!(spec(unknown).unwrap_err().error.contains("unknown field `namespaces`"));
        assert_eq!(Upkeep::default().namespace(), "default");
        let unknown = serde_json::json!({"name": "web", "program": "node", "instance": 4});
        assert!(spec(unknown).unwrap_err().error.contains("unknown key `instance` (known: args,"));
        for name in ["all", "-", "/web/", "a\nb", "a\u{202e}b"] {
            let refused = spec(serde_json::json!({"name": name, "program": "node"})).unwrap_err();
            assert_eq!(refused.status.as_u16(), 422, "{}", refused.error);
        }
    }

    #[test]
    fn digests_tell_where_a_part_ends() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_eq!(digest(&[b"x"]), digest(&[b"x"]));
    }
}
