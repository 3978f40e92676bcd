//! What a program's own message says, by the conventions that existing programs already follow.
//!
//! A message must never be refused here: what follows no convention is [`Convention::Other`], and what has
//! a figure of the wrong kind has no figure. The message itself stays the bytes that the worker wrote.

use crate::json;
use crate::outbound::push_number;

/// How much of an error's text and of its stack is kept, each.
pub const MAX_ERROR_TEXT_BYTES: usize = 16 * 1024;

/// What naming the sender adds at most: `,"fromWorker":` and a number.
const SENDER_BYTES_MAX: usize = 34;

/// A program's own message: one JSON value, checked, without white space around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserMessage<'a> {
    /// The message as written.
    pub raw: &'a [u8],
}

/// What a message says. Counts that are negative or no numbers are `None`, fractions are cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Convention {
    /// `"ready"` or `{type:"ready"}`.
    Ready,
    /// `{type:"stats", stats:{connections, requests, inFlight}}`.
    Stats {
        /// Open connections.
        connections: Option<u64>,
        /// Requests served.
        requests: Option<u64>,
        /// Requests that are not answered yet.
        in_flight: Option<u64>,
    },
    /// `{type:"metrics", data:{requests, errors, memory, uptime}}`.
    Metrics {
        /// Requests served.
        requests: Option<u64>,
        /// Requests failed.
        errors: Option<u64>,
        /// `memory`, or its `rss` where it is what `process.memoryUsage()` returns.
        memory_rss_bytes: Option<u64>,
        /// How long the worker has run.
        uptime_seconds: Option<u64>,
    },
    /// `{type:"request"}`: one more request.
    Request {
        /// Open connections, where told.
        connections: Option<u64>,
    },
    /// `{type:"error", error, stack}`, or `reason` for `error`.
    Error {
        /// A string as it is; of an object with `name` and `message`, which an `Error` becomes, what `String(error)`
        /// says; any other value as compact JSON; empty where the message gives none. Cut at
        /// [`MAX_ERROR_TEXT_BYTES`].
        error: String,
        /// Where it happened, as the message or else the error has it. Cut likewise.
        stack: Option<String>,
    },
    /// `{targetWorker, …}`, whatever its type: to be passed on.
    Routed {
        /// To whom.
        target: Target,
        /// Whether the message already has a `fromWorker`; see [`with_sender`].
        has_sender: bool,
    },
    /// The program's own affair.
    Other,
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Every worker but the sender.
    All,
    /// The worker with this id.
    Worker(u64),
}

impl UserMessage<'_> {
    /// Reads what the message says.
    pub fn convention(&self) -> Convention {
        let Ok(text) = std::str::from_utf8(self.raw) else { return Convention::Other };
        match text.as_bytes().first() {
            Some(b'"') if json::string(text).as_deref() == Some(b"ready") => Convention::Ready,
            Some(b'{') => Fields::read(text).map_or(Convention::Other, |fields| fields.convention()),
            _ => Convention::Other,
        }
    }
}

/// The message with `"fromWorker":from` as the last member of the object, where it wins over one that the
/// sender wrote. A message that is no object comes back as it is.
pub fn with_sender(raw: &[u8], from: u64) -> Vec<u8> {
    let mut sent = Vec::with_capacity(raw.len() + SENDER_BYTES_MAX);
    push_with_sender(&mut sent, raw, from);
    sent
}

/// Appends what [`with_sender`] makes.
pub fn push_with_sender(out: &mut Vec<u8>, raw: &[u8], from: u64) {
    let trimmed = raw.trim_ascii();
    let inside = trimmed.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
    let Some(inside) = inside.map(<[u8]>::trim_ascii_end) else { return out.extend_from_slice(raw) };
    out.push(b'{');
    out.extend_from_slice(inside);
    if !inside.is_empty() {
        out.push(b',');
    }
    out.extend_from_slice(b"\"fromWorker\":");
    push_number(out, from);
    out.push(b'}');
}

/// The members that conventions look at, raw. Of duplicates the last one counts.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a str>,
    target: Option<&'a str>,
    sender: Option<&'a str>,
    stats: Option<&'a str>,
    data: Option<&'a str>,
    connections: Option<&'a str>,
    error: Option<&'a str>,
    reason: Option<&'a str>,
    stack: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Result<Self, serde_json::Error> {
        let mut fields = Self::default();
        json::members(text, |name, raw| {
            let slot = match name {
                b"type" => &mut fields.kind,
                b"targetWorker" => &mut fields.target,
                b"fromWorker" => &mut fields.sender,
                b"stats" => &mut fields.stats,
                b"data" => &mut fields.data,
                b"connections" => &mut fields.connections,
                b"error" => &mut fields.error,
                b"reason" => &mut fields.reason,
                b"stack" => &mut fields.stack,
                _ => return,
            };
            *slot = Some(raw);
        })?;
        Ok(fields)
    }

    fn convention(&self) -> Convention {
        if let Some(target) = self.target.and_then(read_target) {
            return Convention::Routed { target, has_sender: self.sender.is_some() };
        }
        match self.kind.and_then(json::string).as_deref() {
            Some(b"ready") => Convention::Ready,
            Some(b"stats") => self.stats(),
            Some(b"metrics") => self.metrics(),
            Some(b"request") => Convention::Request { connections: self.connections.and_then(json::count) },
            Some(b"error") => self.error(),
            _ => Convention::Other,
        }
    }

    fn stats(&self) -> Convention {
        let [connections, requests, in_flight] =
            pick(self.stats, [&b"connections"[..], b"requests", b"inFlight"]);
        Convention::Stats {
            connections: connections.and_then(json::count),
            requests: requests.and_then(json::count),
            in_flight: in_flight.and_then(json::count),
        }
    }

    fn metrics(&self) -> Convention {
        let [requests, errors, memory, uptime] =
            pick(self.data, [b"requests", b"errors", b"memory", b"uptime"]);
        Convention::Metrics {
            requests: requests.and_then(json::count),
            errors: errors.and_then(json::count),
            memory_rss_bytes: memory.and_then(read_memory),
            uptime_seconds: uptime.and_then(json::count),
        }
    }

    fn error(&self) -> Convention {
        let error = self.error.or(self.reason);
        let [name, message, stack] = pick(error, [b"name", b"message", b"stack"]);
        let text = |raw: Option<&'a str>| raw.and_then(json::lossy_string);
        let error = match (text(name), text(message)) {
            (Some(name), Some(message)) if message.is_empty() => shorten(&name),
            (Some(name), Some(message)) => shorten(&format!("{name}: {message}")),
            _ => error.map(render).unwrap_or_default(),
        };
        Convention::Error { error, stack: text(self.stack).or_else(|| text(stack)).map(|it| shorten(&it)) }
    }
}

/// The last value of each name in an object; all `None` if `raw` is none.
fn pick<'a, const N: usize>(raw: Option<&'a str>, names: [&[u8]; N]) -> [Option<&'a str>; N] {
    let mut found = [None; N];
    let Some(raw) = raw.filter(|raw| raw.starts_with('{')) else { return found };
    let read = json::members(raw, |name, value| {
        for (slot, wanted) in found.iter_mut().zip(names) {
            if wanted == name {
                *slot = Some(value);
            }
        }
    });
    if read.is_err() { [None; N] } else { found }
}

/// A worker's id may be a string, because the keys of `cluster.workers` are.
fn read_target(raw: &str) -> Option<Target> {
    match json::string(raw).as_deref() {
        Some(b"all") => Some(Target::All),
        Some(text) => std::str::from_utf8(text).ok()?.parse().ok().map(Target::Worker),
        None => json::unsigned(raw).map(Target::Worker),
    }
}

fn read_memory(raw: &str) -> Option<u64> {
    let [rss] = pick(Some(raw), [b"rss"]);
    json::count(rss.unwrap_or(raw))
}

fn render(raw: &str) -> String {
    match json::lossy_string(raw) {
        Some(text) => shorten(&text),
        None => compact(raw),
    }
}

fn shorten(text: &str) -> String {
    let mut end = text.len().min(MAX_ERROR_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// JSON without the white space between its tokens, up to the limit.
fn compact(raw: &str) -> String {
    let mut out = String::new();
    let mut in_string = false;
    let mut escaped = false;
    for each in raw.chars() {
        if !in_string && json::SPACE.contains(&each) {
            continue;
        }
        if out.len() + each.len_utf8() > MAX_ERROR_TEXT_BYTES {
            break;
        }
        out.push(each);
        if each == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = each == '\\' && !escaped;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(raw: &str) -> Convention {
        UserMessage { raw: raw.as_bytes() }.convention()
    }

    fn error(error: &str, stack: Option<&str>) -> Convention {
        Convention::Error { error: error.into(), stack: stack.map(Into::into) }
    }

    #[test]
    fn ready_in_both_forms() {
        assert_eq!(says("\"ready\""), Convention::Ready);
        assert_eq!(says("\"re\\u0061dy\""), Convention::Ready);
        assert_eq!(says("{\"type\":\"ready\",\"x\":[]}"), Convention::Ready);
        assert_eq!(says("{\"type\":\"x\",\"type\":\"ready\"}"), Convention::Ready);
        for other in ["\"ready \"", "null", "[\"ready\"]", "{}", "{\"type\":7}", "{\"ready\":true}"] {
            assert_eq!(says(other), Convention::Other, "{other}");
        }
    }

    #[test]
    fn figures() {
        assert_eq!(
            says(r#"{"type":"stats","stats":{"connections":3,"requests":9.7,"inFlight":2}}"#),
            Convention::Stats { connections: Some(3), requests: Some(9), in_flight: Some(2) }
        );
        assert_eq!(
            says(r#"{"type":"stats","stats":{"connections":-1,"requests":null}}"#),
            Convention::Stats { connections: None, requests: None, in_flight: None }
        );
        let nothing = Convention::Stats { connections: None, requests: None, in_flight: None };
        assert_eq!(says(r#"{"type":"stats"}"#), nothing);
        let metrics = |memory: &str| {
            says(&format!(
                r#"{{"type":"metrics","data":{{"requests":1,"errors":2,"memory":{memory},"uptime":3.5}}}}"#
            ))
        };
        let expected = |rss| Convention::Metrics {
            requests: Some(1),
            errors: Some(2),
            memory_rss_bytes: rss,
            uptime_seconds: Some(3),
        };
        assert_eq!(metrics(r#"{"rss":4096,"heapTotal":1}"#), expected(Some(4096)));
        assert_eq!(metrics("5000"), expected(Some(5000)));
        assert_eq!(metrics("\"much\""), expected(None));
        assert_eq!(says(r#"{"type":"request"}"#), Convention::Request { connections: None });
        assert_eq!(
            says(r#"{"type":"request","connections":7}"#),
            Convention::Request { connections: Some(7) }
        );
    }

    #[test]
    fn errors_of_any_shape() {
        assert_eq!(says(r#"{"type":"error","error":"boom","stack":"at x"}"#), error("boom", Some("at x")));
        assert_eq!(says(r#"{"type":"error","reason":"why"}"#), error("why", None));
        assert_eq!(says(r#"{"type":"error"}"#), error("", None));
        let value = r#"{"type":"error","error":{ "a b" : "c \" d" , "e":[ 1 ] },"stack":{}}"#;
        assert_eq!(says(value), error(r#"{"a b":"c \" d","e":[1]}"#, None));
        let thrown =
            r#"{"type":"error","error":{"name":"TypeError","message":"no","stack":"TypeError: no\n at x"}}"#;
        assert_eq!(says(thrown), error("TypeError: no", Some("TypeError: no\n at x")));
        let plain = r#"{"type":"error","error":{"name":"Error","message":""},"stack":"s"}"#;
        assert_eq!(says(plain), error("Error", Some("s")));
        let Convention::Error { error: lossy, .. } = says(r#"{"type":"error","error":"a\ud800"}"#) else {
            panic!("not an error")
        };
        assert!(lossy.starts_with("a\u{fffd}"));
    }

    #[test]
    fn error_texts_are_bounded() {
        let long = "é".repeat(MAX_ERROR_TEXT_BYTES);
        for value in [format!("\"a{long}\""), format!("[\"{long}\"]")] {
            let message = format!(r#"{{"type":"error","error":{value},"stack":"{long}"}}"#);
            let Convention::Error { error, stack } = says(&message) else { panic!("not an error") };
            assert!((MAX_ERROR_TEXT_BYTES - 1..=MAX_ERROR_TEXT_BYTES).contains(&error.len()));
            assert_eq!(stack.unwrap().len(), MAX_ERROR_TEXT_BYTES);
        }
    }

    #[test]
    fn routed_whatever_the_type() {
        let routed = |target, has_sender| Convention::Routed { target, has_sender };
        assert_eq!(says(r#"{"targetWorker":2,"type":"ready"}"#), routed(Target::Worker(2), false));
        assert_eq!(says(r#"{"targetWorker":"all","fromWorker":1}"#), routed(Target::All, true));
        assert_eq!(says(r#"{"targetWorker":"12"}"#), routed(Target::Worker(12), false));
        for other in ["null", "-1", "\"some\"", "{}", "1.5"] {
            assert_eq!(says(&format!(r#"{{"targetWorker":{other}}}"#)), Convention::Other, "{other}");
        }
    }

    #[test]
    fn the_sender_is_the_last_member() {
        for (raw, expected) in [
            ("{}", r#"{"fromWorker":7}"#),
            (" { \r} ", r#"{"fromWorker":7}"#),
            (r#"{"a":1}"#, r#"{"a":1,"fromWorker":7}"#),
            (r#"{"a":"}" }"#, r#"{"a":"}","fromWorker":7}"#),
            (r#"{"fromWorker":1}"#, r#"{"fromWorker":1,"fromWorker":7}"#),
            ("[1]", "[1]"),
            ("{", "{"),
        ] {
            assert_eq!(String::from_utf8(with_sender(raw.as_bytes(), 7)).unwrap(), expected);
        }
    }
}
