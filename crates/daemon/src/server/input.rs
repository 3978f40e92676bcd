//! What comes in: bodies, queries, selectors and keys, as checked types or as a [`Failure`].

use std::error::Error as _;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use oxherd_core::{AppId, AppSpec, FleetStatus, Ports, Serialization};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::problem::Failure;

/// The largest body of a request, in bytes.
pub(super) const BODY_BYTES: usize = 16 << 20;
/// How long a client may take to send one.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// The longest key, in bytes.
const KEY_BYTES: usize = 128;
/// The selector that means every app.
pub(super) const ALL: &str = "all";
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

/// The apps that a selector names: an id, a name or `all`. A name that looks like a number goes first.
pub(super) fn select(selector: &str, status: &FleetStatus) -> Result<Vec<AppId>, Failure> {
    if selector == ALL {
        let apps: Vec<AppId> = status.apps.iter().map(|app| app.app).collect();
        let none = || Failure::not_found("there are no apps: `oxherd start` starts one");
        return if apps.is_empty() { Err(none()) } else { Ok(apps) };
    }
    let by_name = status.apps.iter().find(|app| app.name == selector);
    let by_id = || selector.parse().ok().and_then(|id| status.apps.iter().find(|app| app.app == AppId(id)));
    match by_name.or_else(by_id) {
        Some(app) => Ok(vec![app.app]),
        None => Err(Failure::not_found(no_such_app(selector, status))),
    }
}

fn no_such_app(selector: &str, status: &FleetStatus) -> String {
    let names = status.apps.iter().map(|app| app.name.as_str());
    // Of ids and of single letters every other is near.
    let may_be_mistyped = selector.len() > 1 && selector.parse::<u32>().is_err();
    match oxherd_config::nearest_of(selector, names).filter(|_| may_be_mistyped) {
        Some(meant) => format!("there is no app `{selector}`: did you mean `{meant}`?"),
        None => format!("there is no app `{selector}`: `oxherd ls` lists the apps"),
    }
}

/// A spec as written: what is left out is as [`AppSpec::new`] has it, and the distribution as suits the sockets.
pub(super) fn spec(written: Value) -> Result<AppSpec, Failure> {
    let refuse = |what: String| Failure::unprocessable(format!("the spec does not fit: {what}"));
    let Value::Object(written) = written else { return Err(refuse("it is no JSON object".into())) };
    let text = |key: &str| written.get(key).and_then(Value::as_str);
    let (Some(name), Some(program)) = (text("name"), text("program")) else {
        return Err(refuse("`name` and `program` must be there, and be texts".into()));
    };
    if name == ALL {
        return Err(refuse("no app can be named `all`, because that selects every app".into()));
    }
    let mut base = AppSpec::new(name, program);
    if let Some(sockets) = text("sockets").and_then(|name| name.parse().ok()) {
        base.distribution = AppSpec::usual_distribution(sockets);
    }
    let base = serde_json::to_value(base);
    let Ok(Value::Object(mut whole)) = base else { return Err(Failure::internal("a spec is no object")) };
    // Not written where they are the default.
    let unwritten = [
        ("autostart", true.into()),
        ("exp_backoff_restart_delay", Value::Null),
        ("health_interval", Value::Null),
        ("increment_var", Value::Null),
        ("instance_var", Value::Null),
        ("listen", Value::Array(Vec::new())),
        ("max_lifetime", Value::Null),
        ("max_memory_restart", Value::Null),
        ("max_requests", Value::Null),
        ("memory_warning", Value::Null),
        ("owner", Value::Null),
        ("ports", Ports::default().to_string().into()),
        ("ready_probe", Value::Null),
        ("scaling", Value::Null),
        ("serialization", Serialization::default().name().into()),
        ("standby", 0.into()),
        ("stop_exit_codes", Value::Array(Vec::new())),
        ("upkeep", Value::Object(Map::new())),
        ("weights", Value::Array(Vec::new())),
    ];
    for (key, default) in unwritten {
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
    use oxherd_core::{AppStatus, Distribution, Generation};

    use super::*;

    fn fleet(apps: &[(u32, &str)]) -> FleetStatus {
        let app = |(id, name): &(u32, &str)| AppStatus {
            app: AppId(*id),
            name: (*name).into(),
            generation: Generation(1),
            instances: 1,
            up: true,
            reload: None,
            slots: Vec::new(),
            standbys: Vec::new(),
        };
        FleetStatus { apps: apps.iter().map(app).collect() }
    }

    #[test]
    fn a_selector_is_a_name_or_an_id_or_all() {
        let status = fleet(&[(0, "web"), (1, "0"), (2, "api")]);
        let selected = |selector| select(selector, &status).map_err(|failure| failure.error);
        assert_eq!(selected("web"), Ok(vec![AppId(0)]));
        assert_eq!(selected("2"), Ok(vec![AppId(2)]));
        assert_eq!(selected("0"), Ok(vec![AppId(1)]), "an app named like a number wins");
        assert_eq!(selected("all").map(|apps| apps.len()), Ok(3));
        assert_eq!(selected("7"), Err("there is no app `7`: `oxherd ls` lists the apps".into()));
        assert_eq!(selected("wbe"), Err("there is no app `wbe`: did you mean `web`?".into()));
        let nothing = select("all", &fleet(&[])).unwrap_err();
        assert_eq!((nothing.status.as_u16(), nothing.error.contains("there are no apps")), (404, true));
    }

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
        let unknown = serde_json::json!({"name": "web", "program": "node", "instance": 4});
        assert!(spec(unknown).unwrap_err().error.contains("unknown key `instance` (known: args,"));
        let all = serde_json::json!({"name": "all", "program": "node"});
        assert_eq!(spec(all).unwrap_err().status.as_u16(), 422);
    }

    #[test]
    fn digests_tell_where_a_part_ends() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_eq!(digest(&[b"x"]), digest(&[b"x"]));
    }
}
