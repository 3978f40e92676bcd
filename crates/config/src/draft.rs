//! From the entries of one app in a file to a [`RawApp`]: what each key sets, and what must hold between them.

use std::sync::Arc;

use oxherd_core::{RestartWhen, Sockets, Span, WatchSpec};

use crate::diagnostics::{Place, Source, shown};
use crate::job::{Origin, Wish};
use crate::keys::{self, Key, Meaning};
use crate::raw::RawApp;
use crate::tree::{Entry, Node, Value};
use crate::typed::Typed;
use crate::typed::parts::InstancesWanted;
use crate::values;

/// What `exec_mode` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Cluster,
    Fork,
}

/// Reads the entries of one app. What is wrong goes to `typed`; the app is then not to be used.
pub(crate) fn read(source: &Arc<Source>, start: Place, entries: &[Entry], typed: &mut Typed) -> RawApp {
    let wish = Wish::new(Origin::File, "");
    let app = RawApp::new(source, start, if typed.as_pm2 { wish.as_pm2() } else { wish });
    let mut draft = Draft {
        app,
        typed,
        mode: None,
        autorestart: None,
        time: None,
        watch: Watch::default(),
        idle: Vec::new(),
        known: Vec::new(),
    };
    entries.iter().for_each(|entry| draft.take(entry));
    draft.finish()
}

/// An app while its keys are read.
struct Draft<'a> {
    app: RawApp,
    typed: &'a mut Typed,
    mode: Option<Mode>,
    autorestart: Option<bool>,
    time: Option<bool>,
    watch: Watch,
    /// Keys without effect.
    idle: Vec<String>,
    /// Keys so far, and where.
    known: Vec<(Key, Place)>,
}

/// What the keys of watching say.
#[derive(Default)]
struct Watch {
    /// Nothing: not at all.
    paths: Option<Vec<String>>,
    ignore: Vec<String>,
    delay: Option<Span>,
}

impl Draft<'_> {
    fn take(&mut self, entry: &Entry) {
        let (name, place) = (shown(&entry.key), &entry.key_place);
        match keys::meaning_of(&entry.key) {
            Meaning::Key(key) => self.take_key(key, entry),
            Meaning::Overlay(overlay) => {
                let variables = self.typed.environment(&name, &entry.node).unwrap_or_default();
                self.app.overlays.insert(overlay.into(), variables);
            }
            Meaning::Refused { instead } if !is_empty(&entry.node.value) => {
                self.typed.wrong_but(place, format!("`{name}` is not offered"), instead);
            }
            Meaning::Idle { refused } if self.is_written(&entry.node, refused) => {
                let hint = if name == "treekill" {
                    "all processes of a worker end with it; remove it"
                } else {
                    "remove it"
                };
                self.typed.wrong_but(place, format!("`{name}`: {refused} is not offered"), hint);
            }
            Meaning::Idle { refused: "true" } | Meaning::Refused { .. } => {}
            Meaning::Idle { .. } => self.idle.push(name),
            Meaning::Unknown => unknown(self.typed, entry),
        }
    }

    fn is_written(&self, node: &Node, value: &str) -> bool {
        !value.is_empty() && node.value.is_flag(value)
    }

    fn take_key(&mut self, key: Key, entry: &Entry) {
        if let Some((_, first)) = self.known.iter().find(|(known, _)| *known == key) {
            let line = self.app.source.line(first.start);
            let first = shown(self.app.source.slice(first).trim_matches(['"', '\'']));
            let what = format!("`{}` says again what `{first}` says on line {line}", shown(&entry.key));
            return self.typed.wrong_but(&entry.key_place, what, "keep one of them");
        }
        self.known.push((key, entry.key_place.clone()));
        self.app.places.push((key, entry.node.place.clone()));
        self.set(key, &shown(&entry.key), &entry.node);
    }

    /// What is run, and in which environment.
    fn set(&mut self, key: Key, name: &str, node: &Node) {
        let (it, wish) = (&mut *self.typed, &mut self.app.wish);
        match key {
            Key::Script => put(&mut wish.script, it.text(name, node)),
            Key::Name => wish.name = it.name(name, node),
            Key::NamePrefix => self.app.name_prefix = it.name(name, node),
            Key::AppendEnv => put(&mut self.app.append_env, it.flag(name, node)),
            Key::Namespace => put(&mut wish.rest.upkeep.namespace, it.name(name, node)),
            Key::Cwd => wish.cwd = it.text(name, node),
            Key::Args => put(&mut wish.args, it.words(name, node)),
            Key::Interpreter => wish.interpreter = it.word_by(name, node, values::parse_interpreter),
            Key::NodeArgs => put(&mut wish.interpreter_args, it.words(name, node)),
            Key::Owner => wish.user = it.text_or_number(name, node),
            Key::Gid => wish.group = it.text_or_number(name, node),
            Key::Instances => match it.instances(name, node) {
                Some(InstancesWanted::Fixed(instances)) => wish.instances = instances,
                Some(InstancesWanted::Between(min, max)) => wish.scaling = Some((min, max)),
                None => {}
            },
            Key::ExecMode => self.mode = it.word_by(name, node, parse_mode),
            Key::Env => put(&mut wish.env, it.environment(name, node)),
            Key::Port => self.app.port = it.port(name, node),
            Key::FilterEnv => put(&mut wish.filter_env, it.filter_env(name, node)),
            Key::Autorestart => self.autorestart = it.flag(name, node),
            Key::Distribution => wish.distribution = it.word(name, node),
            Key::Sockets => {
                wish.sockets =
                    it.word_by(name, node, values::parse_sockets).and_then(values::SocketsChoice::get);
            }
            other => self.set_rule(other, name, node),
        }
    }

    /// When workers are started, ended and replaced.
    fn set_rule(&mut self, key: Key, name: &str, node: &Node) {
        let (it, rest) = (&mut *self.typed, &mut self.app.wish.rest);
        match key {
            Key::Autostart => put(&mut rest.autostart, it.flag(name, node)),
            Key::Restart => put(&mut rest.restart, it.word(name, node)),
            Key::RestartDelay => rest.restart_delay = it.span(name, node),
            Key::BackoffDelay => {
                rest.exp_backoff_restart_delay = it.span(name, node).filter(|it| !it.is_zero())
            }
            Key::StopExitCodes => put(&mut rest.stop_exit_codes, it.codes(name, node)),
            Key::MinUptime => put(&mut rest.min_uptime, it.span(name, node)),
            Key::MaxRestarts => put(&mut rest.max_restarts, it.positive(name, node)),
            Key::RestartWindow => put(&mut rest.restart_window, it.span(name, node)),
            Key::MaxErrors => rest.max_errors = it.positive(name, node),
            Key::ErrorWindow => put(&mut rest.error_window, it.span(name, node)),
            Key::MaxMemory => rest.max_memory_restart = it.size(name, node).map(|bytes| bytes as u64),
            Key::MemoryWarning => rest.memory_warning = it.size(name, node).map(|bytes| bytes as u64),
            Key::MaxRequests => rest.max_requests = it.positive(name, node).map(u64::from),
            Key::MaxLifetime => rest.max_lifetime = it.span(name, node),
            Key::HealthCheck => put(&mut rest.health_interval, it.health(name, node)),
            Key::WaitReady => put(&mut rest.wait_ready, it.flag(name, node)),
            Key::ReadyProbe => rest.ready_probe = it.probe(name, node),
            Key::ListenTimeout => put(&mut rest.listen_timeout, it.span(name, node)),
            Key::DrainTimeout => put(&mut rest.drain_timeout, it.span(name, node)),
            Key::KillTimeout => put(&mut rest.kill_timeout, it.span(name, node)),
            Key::StopSignal => put(&mut rest.stop_signal, it.word_or_number(name, node)),
            Key::ShutdownWithMessage => put(&mut rest.shutdown_with_message, it.flag(name, node)),
            Key::InstanceVar => rest.instance_var = it.variable_name(name, node),
            Key::IncrementVar => rest.increment_var = it.variable_name(name, node),
            Key::Standby => put(&mut rest.standby, it.count(name, node)),
            Key::Parallel => put(&mut rest.parallel, it.positive(name, node)),
            Key::Strategy => put(&mut rest.strategy, it.word(name, node)),
            Key::Weights => put(&mut rest.weights, it.weights(name, node)),
            Key::Ports => put(&mut rest.ports, it.ports(name, node)),
            Key::Listen => put(&mut rest.listen, it.listeners(name, node)),
            Key::Serialization => put(&mut rest.serialization, it.word(name, node)),
            Key::HandoffWindow => put(&mut rest.handoff_window, it.positive(name, node)),
            Key::MaxMessage => put(&mut rest.max_message, it.size(name, node)),
            other => self.set_upkeep(other, name, node),
        }
    }

    /// What is done for the app beside its workers.
    fn set_upkeep(&mut self, key: Key, name: &str, node: &Node) {
        let (it, upkeep) = (&mut *self.typed, &mut self.app.wish.rest.upkeep);
        let logs = &mut upkeep.logs;
        match key {
            Key::Cron => upkeep.cron = it.cron(name, node).flatten(),
            Key::Watch => self.watch.paths = it.watched(name, node).flatten(),
            Key::IgnoreWatch => self.watch.ignore.extend(it.texts(name, node).unwrap_or_default()),
            Key::WatchDelay => self.watch.delay = it.span(name, node),
            Key::WatchOptions => {
                let (ignore, delay) = it.watch_options(name, node);
                self.watch.ignore.extend(ignore);
                self.watch.delay = self.watch.delay.or(delay);
            }
            Key::OutFile => logs.out = it.text(name, node),
            Key::ErrorFile => logs.err = it.text(name, node),
            Key::LogFile => logs.both = it.log_file(name, node).flatten(),
            Key::MergeLogs => put(&mut logs.per_slot, it.flag(name, node).map(|merge| !merge)),
            Key::DisableLogs => put(&mut logs.disabled, it.flag(name, node)),
            Key::LogType => put(&mut logs.json, it.word_by(name, node, parse_log_type)),
            Key::LogDateFormat => logs.date_format = it.text(name, node),
            Key::Time => self.time = it.flag(name, node),
            Key::LogRotate => put(&mut logs.rotate, it.rotate(name, node)),
            Key::PidFile => upkeep.pid_file = it.text(name, node),
            // All others are in the two before this one.
            _ => {}
        }
    }

    fn finish(mut self) -> RawApp {
        if !self.has(Key::Script) {
            let start = self.app.start.start..self.app.start.start + 1;
            self.typed.wrong(&start, "this app has no `script`");
        }
        self.settle_mode();
        self.settle_restart();
        self.settle_watch();
        let logs = &mut self.app.wish.rest.upkeep.logs;
        if self.time == Some(true) && logs.date_format.is_none() {
            logs.date_format = Some(values::TIME_FORMAT.into());
        }
        if !self.idle.is_empty() {
            let have = if self.idle.len() == 1 { "has" } else { "have" };
            let keys = self.idle.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            let (file, app) = (&self.app.source.name, self.app.name());
            self.app.doubts.push(format!("{file}: {keys} of {app} {have} no effect here"));
        }
        self.app
    }

    fn has(&self, key: Key) -> bool {
        self.known.iter().any(|(known, _)| *known == key)
    }

    /// `cluster` shares sockets, whatever the program; `fork` shares none.
    fn settle_mode(&mut self) {
        if self.typed.as_pm2 {
            return self.settle_mode_as_pm2();
        }
        let wish = &mut self.app.wish;
        let clash = match self.mode {
            None => None,
            Some(Mode::Cluster) => (wish.sockets == Some(Sockets::None)).then_some(Key::Sockets),
            Some(Mode::Fork) if wish.distribution.is_some() => Some(Key::Distribution),
            Some(Mode::Fork) => {
                let sockets = wish.sockets.replace(Sockets::None);
                sockets.is_some_and(|chosen| chosen != Sockets::None).then_some(Key::Sockets)
            }
        };
        if let Some(key) = clash {
            self.clash(Key::ExecMode, key);
        }
    }

    /// PM2 runs one worker, and whatever is to be run so, as `fork`, whose workers share one log.
    fn settle_mode_as_pm2(&mut self) {
        let is_alone = !self.has(Key::Instances);
        let is_fork = self.mode == Some(Mode::Fork) || (self.mode.is_none() && is_alone);
        let is_shared_log = is_fork && is_alone && !self.has(Key::MergeLogs);
        let wish = &mut self.app.wish;
        if is_shared_log {
            wish.rest.upkeep.logs.per_slot = false;
        }
        if is_fork {
            wish.fork_as_pm2();
        }
    }

    /// PM2's `autorestart` is half of `restart`.
    fn settle_restart(&mut self) {
        if self.has(Key::Autorestart) && self.has(Key::Restart) {
            self.clash(Key::Autorestart, Key::Restart);
        } else if self.autorestart == Some(false) {
            self.app.wish.rest.restart = RestartWhen::Never;
        }
    }

    /// What is said of watching where nothing is watched is passed over, so that `watch` alone can be turned off.
    fn settle_watch(&mut self) {
        let Watch { paths, ignore, delay } = std::mem::take(&mut self.watch);
        let spec = |paths| WatchSpec { paths, ignore, delay: delay.unwrap_or(Span::ZERO) };
        self.app.wish.rest.upkeep.watch = paths.map(spec);
    }

    fn clash(&mut self, one: Key, other: Key) {
        let place = self.known.iter().find(|(known, _)| *known == one).map(|(_, place)| place.clone());
        let place = place.unwrap_or_else(|| self.app.start.clone());
        let what = format!("`{}` and `{}` do not go together", one.name(), other.name());
        self.typed.wrong_but(&place, what, "keep one of them");
    }
}

/// A key that nobody knows.
pub(crate) fn unknown(typed: &mut Typed, entry: &Entry) {
    let what = format!("unknown key `{}`", shown(&entry.key));
    let hint = keys::nearest(&entry.key).map(|nearest| format!("did you mean `{nearest}`?"));
    typed.odd(&entry.key_place, what, hint);
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Flag(false) => true,
        Value::Text(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Flag(true) | Value::Number(_) | Value::Object(_) => false,
    }
}

fn put<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    match text {
        "cluster" | "cluster_mode" => Ok(Mode::Cluster),
        "fork" | "fork_mode" => Ok(Mode::Fork),
        _ => Err("give cluster or fork".into()),
    }
}

fn parse_log_type(text: &str) -> Result<bool, String> {
    match text {
        "json" => Ok(true),
        "raw" => Ok(false),
        _ => Err("give raw or json".into()),
    }
}

#[cfg(test)]
mod tests;
