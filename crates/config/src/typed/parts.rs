//! Values with parts of their own: bounds, probes, rules for logs and for watching.

use oxherd_core::{Probe, Rotate, Span};

use super::Typed;
use crate::diagnostics::shown;
use crate::environment::{self, EnvFilter};
use crate::tree::{Entry, Node, Value};
use crate::values::{self, Instances};

/// Between two questions whether a worker is well, and the like, where nobody said.
const HEALTH_INTERVAL: Span = Span::from_secs(10);
const PROBE_INTERVAL: Span = Span::from_millis(500);
const PROBE_TIMEOUT: Span = Span::from_secs(2);
/// How long a file must be unchanged under `awaitWriteFinish`.
const WRITE_FINISH: Span = Span::from_secs(2);

/// What `instances` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InstancesWanted {
    Fixed(Instances),
    Between(Instances, Instances),
}

impl Typed {
    /// As on the command line, and 0 is `max` as in PM2; or bounds.
    pub(crate) fn instances(&mut self, key: &str, node: &Node) -> Option<InstancesWanted> {
        let Value::Object(entries) = &node.value else {
            return self.instance_count(key, node).map(InstancesWanted::Fixed);
        };
        let (mut min, mut max) = (None, None);
        for entry in entries {
            match entry.key.as_str() {
                "min" => min = Some(self.instance_count("min", &entry.node)?),
                "max" => max = Some(self.instance_count("max", &entry.node)?),
                _ => self.unknown_part(key, entry, &["min", "max"]),
            }
        }
        match (min, max) {
            (min, Some(max)) => Some(InstancesWanted::Between(min.unwrap_or(Instances::Count(1)), max)),
            (_, None) => {
                self.wrong(&node.place, format!("`{key}` wants a `max` next to `min`"));
                None
            }
        }
    }

    fn instance_count(&mut self, key: &str, node: &Node) -> Option<Instances> {
        match &node.value {
            Value::Number(text) | Value::Text(text) if text == "0" => Some(Instances::PerCpu),
            Value::Number(text) | Value::Text(text) => self.checked(key, node, text.parse()),
            _ => self.mistyped(key, "a number, \"max\", \"io\" or {\"min\": 1, \"max\": 4}", node),
        }
    }

    /// true or false, or how often.
    pub(crate) fn health(&mut self, key: &str, node: &Node) -> Option<Option<Span>> {
        match &node.value {
            Value::Flag(flag) => Some(flag.then_some(HEALTH_INTERVAL)),
            Value::Object(entries) => {
                let mut interval = Some(HEALTH_INTERVAL);
                for entry in entries {
                    match entry.key.as_str() {
                        "interval" => interval = Some(self.span("interval", &entry.node)?),
                        _ => self.unknown_part(key, entry, &["interval"]),
                    }
                }
                Some(interval)
            }
            _ => self.span(key, node).map(Some),
        }
    }

    /// A URL, or an object with one.
    pub(crate) fn probe(&mut self, key: &str, node: &Node) -> Option<Probe> {
        let mut probe = Probe { url: String::new(), interval: PROBE_INTERVAL, timeout: PROBE_TIMEOUT };
        let Value::Object(entries) = &node.value else {
            probe.url = self.word_by(key, node, parse_probe_url)?;
            return Some(probe);
        };
        for entry in entries {
            let node = &entry.node;
            match entry.key.as_str() {
                "url" => probe.url = self.word_by("url", node, parse_probe_url)?,
                "interval" => probe.interval = self.span("interval", node)?,
                "timeout" => probe.timeout = self.span("timeout", node)?,
                _ => self.unknown_part(key, entry, &["url", "interval", "timeout"]),
            }
        }
        if probe.url.is_empty() {
            self.wrong(&node.place, format!("`{key}` wants a `url`"));
            return None;
        }
        Some(probe)
    }

    /// Sizes and times at which a file is put aside; false: never.
    pub(crate) fn rotate(&mut self, key: &str, node: &Node) -> Option<Rotate> {
        let mut rotate = Rotate::default();
        let entries = match &node.value {
            Value::Flag(true) => return Some(rotate),
            Value::Flag(false) => return Some(Rotate { size: 0, every: None, ..rotate }),
            Value::Object(entries) => entries,
            _ => {
                return self.mistyped(
                    key,
                    "true, false or an object such as {\"size\": \"10M\", \"keep\": 10}",
                    node,
                );
            }
        };
        for entry in entries {
            let node = &entry.node;
            match entry.key.as_str() {
                "size" if matches!(&node.value, Value::Flag(false)) || node.value.is_number("0") => {
                    rotate.size = 0
                }
                "size" => rotate.size = self.size("size", node)? as u64,
                "every" if matches!(&node.value, Value::Flag(false)) => rotate.every = None,
                "every" => rotate.every = Some(self.span("every", node)?).filter(|every| !every.is_zero()),
                "keep" => rotate.keep = self.count("keep", node)?,
                "gzip" => rotate.gzip = self.flag("gzip", node)?,
                _ => self.unknown_part(key, entry, &["size", "every", "keep", "gzip"]),
            }
        }
        Some(rotate)
    }

    /// A cron expression; 0 and false are none.
    pub(crate) fn cron(&mut self, key: &str, node: &Node) -> Option<Option<String>> {
        match &node.value {
            Value::Flag(false) => Some(None),
            value if value.is_number("0") => Some(None),
            Value::Text(text) if text == "0" => Some(None),
            _ => self.word_by(key, node, values::parse_cron).map(Some),
        }
    }

    /// What is watched, if anything is.
    pub(crate) fn watched(&mut self, key: &str, node: &Node) -> Option<Option<Vec<String>>> {
        match &node.value {
            Value::Flag(flag) => Some(flag.then(|| vec![".".into()])),
            Value::List(items) if items.is_empty() => Some(None),
            Value::Text(_) | Value::List(_) => self.texts(key, node).map(Some),
            _ => self.mistyped(key, "true, false, a path or a list of paths", node),
        }
    }

    /// What can be had of chokidar's options: more that is ignored, and a pause.
    pub(crate) fn watch_options(&mut self, key: &str, node: &Node) -> (Vec<String>, Option<Span>) {
        let (mut ignore, mut delay) = (Vec::new(), None);
        let Value::Object(entries) = &node.value else {
            self.mistyped::<()>(key, "an object", node);
            return (ignore, delay);
        };
        for entry in entries {
            let (name, node) = (shown(&entry.key), &entry.node);
            let is = |flag: bool| node.value == Value::Flag(flag);
            match entry.key.as_str() {
                "ignored" => ignore.extend(self.texts("ignored", node).unwrap_or_default()),
                "awaitWriteFinish" if is(false) => {}
                "awaitWriteFinish" => delay = self.write_finish(node),
                // What is done anyway.
                "ignoreInitial" | "persistent" | "followSymlinks" if is(true) => {}
                "usePolling" | "alwaysStat" if is(false) => {}
                "ignorePermissionErrors" | "atomic" | "disableGlobbing" if is(true) || is(false) => {
                    self.idle(&entry.key_place, &format!("{key}.{name}"));
                }
                _ => {
                    let hint = "remove it: what can be set is `ignored` and `awaitWriteFinish`".into();
                    self.odd(&entry.key_place, format!("`{key}.{name}` is not offered"), Some(hint));
                }
            }
        }
        (ignore, delay)
    }

    fn write_finish(&mut self, node: &Node) -> Option<Span> {
        let Value::Object(entries) = &node.value else {
            return self.flag("awaitWriteFinish", node).map(|_| WRITE_FINISH);
        };
        let mut span = WRITE_FINISH;
        for entry in entries {
            match entry.key.as_str() {
                "stabilityThreshold" => span = self.span("stabilityThreshold", &entry.node)?,
                // How often is looked is not asked: the kernel tells.
                "pollInterval" => self.idle(&entry.key_place, "awaitWriteFinish.pollInterval"),
                _ => self.unknown_part("awaitWriteFinish", entry, &["stabilityThreshold"]),
            }
        }
        Some(span)
    }

    /// true, a name, or parts of names.
    pub(crate) fn filter_env(&mut self, key: &str, node: &Node) -> Option<EnvFilter> {
        match &node.value {
            Value::Flag(true) => Some(EnvFilter::Everything),
            Value::Flag(false) => Some(EnvFilter::Nothing),
            Value::Text(_) => self.text(key, node).map(EnvFilter::Named),
            Value::List(items) if items.is_empty() => Some(EnvFilter::Nothing),
            Value::List(_) => self.texts(key, node).map(EnvFilter::Containing),
            _ => self.mistyped(key, "true, false, a name or a list of parts of names", node),
        }
    }

    /// A path; true is the usual one, which has no name here, and false is none.
    pub(crate) fn log_file(&mut self, key: &str, node: &Node) -> Option<Option<String>> {
        match &node.value {
            Value::Flag(false) => Some(None),
            Value::Flag(true) => Some(Some(String::new())),
            _ => self.text(key, node).map(Some),
        }
    }

    /// A string or a list of strings, none empty.
    pub(crate) fn texts(&mut self, key: &str, node: &Node) -> Option<Vec<String>> {
        match &node.value {
            Value::Text(_) => Some(vec![self.text(key, node)?]),
            Value::List(items) => items.iter().map(|item| self.text(key, item)).collect(),
            _ => self.mistyped(key, "a string or a list of strings", node),
        }
    }

    /// A number or a list of numbers.
    pub(crate) fn codes(&mut self, key: &str, node: &Node) -> Option<Vec<i32>> {
        match &node.value {
            Value::List(items) => items.iter().map(|item| self.code(key, item)).collect(),
            _ => Some(vec![self.code(key, node)?]),
        }
    }

    fn code(&mut self, key: &str, node: &Node) -> Option<i32> {
        match &node.value {
            Value::Number(text) | Value::Text(text) => {
                let code = text.parse::<u8>().map(i32::from);
                self.checked(key, node, code.map_err(|_| "an exit code is a number from 0 to 255"))
            }
            _ => self.mistyped(key, "a number or a list of numbers", node),
        }
    }

    /// The name of a variable that is not ours.
    pub(crate) fn variable_name(&mut self, key: &str, node: &Node) -> Option<String> {
        let name = self.text(key, node)?;
        let is_given = name == "NODE_APP_INSTANCE";
        let checked = match name.contains('=') || (environment::is_ours(&name) && !is_given) {
            true => Err(format!("`{}` cannot be set", shown(&name))),
            false => Ok(name),
        };
        self.checked(key, node, checked)
    }

    pub(crate) fn text_or_number(&mut self, key: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::Number(number) => Some(number.clone()),
            _ => self.text(key, node),
        }
    }

    fn unknown_part(&mut self, key: &str, entry: &Entry, known: &[&str]) {
        let what = format!("unknown key `{}` in `{key}`", shown(&entry.key));
        let nearest = crate::keys::nearest_of(&entry.key, known.iter().copied());
        let hint = match nearest {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("known: {}", known.join(", ")),
        };
        self.odd(&entry.key_place, what, Some(hint));
    }
}

/// `http://HOST:PORT/PATH` or `tcp://HOST:PORT`.
fn parse_probe_url(text: &str) -> Result<String, String> {
    const WRONG: &str = "give http://HOST:PORT/PATH or tcp://HOST:PORT";
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("tcp://")).ok_or(WRONG)?;
    let is_plain = !rest.contains(|c: char| c.is_whitespace() || c.is_control());
    let host = rest.split('/').next().unwrap_or("");
    let (name, port) = host.rsplit_once(':').ok_or(WRONG)?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let has_path = text.starts_with("tcp://") && rest.len() > host.len();
    if is_plain && !name.is_empty() && is_port && !has_path { Ok(text.into()) } else { Err(WRONG.into()) }
}
