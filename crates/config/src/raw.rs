//! `RawApp`: one app of a file as written, its keys and types checked. Whether it can be had on this machine is
//! found out when it becomes a job, and what is wrong then is shown at the line, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use oxherd_core::{RestartWhen, Sockets, SpecError};

use crate::diagnostics::{Diagnostics, Place, Source, shown};
use crate::job::{Job, JobError, Origin, Surroundings, Wish};
use crate::json::{Entry, Node};
use crate::keys::{self, Key, Meaning};
use crate::program::ProgramError;
use crate::typed::Typed;
use crate::values::{self, Variable};

/// One app of a file as written.
#[derive(Clone, Debug)]
pub struct RawApp {
    source: Arc<Source>,
    /// Where it begins, and where the values of its keys stand.
    start: Place,
    places: Vec<(Key, Place)>,
    wish: Wish,
    overlays: BTreeMap<String, Vec<Variable>>,
    port: Option<u16>,
    doubts: Vec<String>,
}

/// What `exec_mode` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Cluster,
    Fork,
}

impl RawApp {
    /// What it is called.
    pub fn name(&self) -> String {
        self.wish.name()
    }

    /// The names of its `env_<name>`.
    pub fn environments(&self) -> impl Iterator<Item = &str> {
        self.overlays.keys().map(String::as_str)
    }

    /// Looks whether it can be had here, and what exactly it comes to.
    pub fn job(&self, surroundings: &Surroundings) -> Result<Job, Diagnostics> {
        let wish = Wish { env: self.variables(surroundings.env_name.as_deref()), ..self.wish.clone() };
        match wish.prepare(surroundings) {
            Ok(mut job) => {
                job.doubts.extend(self.doubts.iter().cloned());
                job.doubts.extend(self.doubt_of_overlay(surroundings.env_name.as_deref()));
                Ok(job)
            }
            Err(error) => {
                Err(Diagnostics::at(&self.source, self.place_of_error(&error), error.to_string(), None))
            }
        }
    }

    /// Where its name stands, or it begins.
    pub(crate) fn place(&self) -> &Place {
        self.place_of(Key::Name)
    }

    /// Whether its name is known: it has one, or a script to take it from.
    pub(crate) fn is_named(&self) -> bool {
        self.wish.name.is_some() || !self.wish.script.is_empty()
    }

    fn place_of(&self, key: Key) -> &Place {
        self.places.iter().find(|(known, _)| *known == key).map_or(&self.start, |(_, place)| place)
    }

    fn place_of_error(&self, error: &JobError) -> &Place {
        let is_given = |key| self.places.iter().any(|(known, _)| *known == key);
        self.place_of(match error {
            JobError::NoCurrentFolder(_) | JobError::NoFolder { .. } | JobError::NotText { .. } => Key::Cwd,
            JobError::Program(ProgramError::NoInterpreter { .. }) if is_given(Key::Interpreter) => {
                Key::Interpreter
            }
            JobError::Program(ProgramError::NoUseForArgs { .. }) => Key::NodeArgs,
            JobError::Program(ProgramError::NoArgsForLine { .. }) => Key::Args,
            JobError::Program(_) => Key::Script,
            JobError::Spec(SpecError::NoWeight | SpecError::WeightTooLarge(_)) => Key::Weights,
            JobError::Spec(
                SpecError::ListenUnused(_) | SpecError::BadListener(_) | SpecError::ListenerTwice { .. },
            ) => Key::Listen,
            JobError::Spec(SpecError::PortsUnused(_)) => Key::Ports,
            JobError::Spec(SpecError::NowhereToPark(_)) => Key::Standby,
            JobError::Spec(SpecError::NothingToListenAt) => Key::Sockets,
            JobError::Spec(SpecError::NoHandoff(_)) => Key::Distribution,
            JobError::Spec(SpecError::NothingToSerialize) => Key::Serialization,
            JobError::Spec(_) if is_given(Key::Strategy) => Key::Strategy,
            JobError::Spec(_) => Key::Weights,
        })
    }

    /// `env`, then `port`, then the overlay: the last wins.
    fn variables(&self, overlay: Option<&str>) -> Vec<Variable> {
        let port = self.port.map(|port| Variable { key: "PORT".into(), value: port.to_string() });
        let overlay = overlay.and_then(|name| self.overlays.get(name)).into_iter().flatten();
        self.wish.env.iter().cloned().chain(port).chain(overlay.cloned()).collect()
    }

    fn doubt_of_overlay(&self, wanted: Option<&str>) -> Option<String> {
        let name = wanted.filter(|name| !self.overlays.contains_key(*name))?;
        Some(format!("{}: {} has no `env_{}`", self.source.name, self.name(), shown(name)))
    }
}

/// Reads the entries of one app. What is wrong goes to `typed`; the app is then not to be used.
pub(crate) fn read(source: &Arc<Source>, start: Place, entries: &[Entry], typed: &mut Typed) -> RawApp {
    let app = RawApp {
        source: Arc::clone(source),
        start,
        places: Vec::new(),
        wish: Wish::new(Origin::File, ""),
        overlays: BTreeMap::new(),
        port: None,
        doubts: Vec::new(),
    };
    let mut draft = Draft { app, typed, mode: None, autorestart: None, idle: Vec::new(), known: Vec::new() };
    entries.iter().for_each(|entry| draft.take(entry));
    draft.finish()
}

/// An app while its keys are read.
struct Draft<'a> {
    app: RawApp,
    typed: &'a mut Typed,
    mode: Option<Mode>,
    autorestart: Option<bool>,
    /// Keys without effect.
    idle: Vec<String>,
    /// Keys so far, and where.
    known: Vec<(Key, Place)>,
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
            Meaning::Later { without } if self.is_written(&entry.node, without) => {}
            Meaning::Later { without: "" } => {
                self.typed.wrong_but(place, format!("`{name}` is not supported yet"), "remove it");
            }
            Meaning::Later { without } => {
                let hint = format!("remove it, or set it to {without}");
                self.typed.wrong_but(place, format!("`{name}` is not supported yet"), hint);
            }
            Meaning::Idle { refused } if self.is_written(&entry.node, refused) => {
                let what = format!("`{name}`: {refused} is not supported");
                self.typed.wrong_but(place, what, "all processes of a worker end with it; remove it");
            }
            Meaning::Idle { .. } => self.idle.push(name),
            Meaning::Unknown => unknown(self.typed, entry),
        }
    }

    fn is_written(&self, node: &Node, value: &str) -> bool {
        !value.is_empty() && self.app.source.slice(&node.place) == value
    }

    fn take_key(&mut self, key: Key, entry: &Entry) {
        if let Some((_, first)) = self.known.iter().find(|(known, _)| *known == key) {
            let line = self.app.source.line(first.start);
            let first = shown(self.app.source.slice(first).trim_matches('"'));
            let what = format!("`{}` says again what `{first}` says on line {line}", shown(&entry.key));
            return self.typed.wrong_but(&entry.key_place, what, "keep one of them");
        }
        self.known.push((key, entry.key_place.clone()));
        self.app.places.push((key, entry.node.place.clone()));
        self.set(key, &shown(&entry.key), &entry.node);
    }

    fn set(&mut self, key: Key, name: &str, node: &Node) {
        let (it, wish) = (&mut *self.typed, &mut self.app.wish);
        let rest = &mut wish.rest;
        match key {
            Key::Script => put(&mut wish.script, it.text(name, node)),
            Key::Name => wish.name = it.name(name, node),
            Key::Cwd => wish.cwd = it.text(name, node),
            Key::Args => put(&mut wish.args, it.words(name, node)),
            Key::Interpreter => wish.interpreter = it.text(name, node),
            Key::NodeArgs => put(&mut wish.interpreter_args, it.words(name, node)),
            Key::Instances => put(&mut wish.instances, it.instances(name, node)),
            Key::ExecMode => self.mode = it.word_by(name, node, parse_mode),
            Key::Env => put(&mut wish.env, it.environment(name, node)),
            Key::Port => self.app.port = it.port(name, node),
            Key::Autorestart => self.autorestart = it.flag(name, node),
            Key::Restart => put(&mut rest.restart, it.word(name, node)),
            Key::RestartDelay => rest.restart_delay = it.span(name, node),
            Key::RestartWindow => put(&mut rest.restart_window, it.span(name, node)),
            Key::MaxRestarts => put(&mut rest.max_restarts, it.positive(name, node)),
            Key::MaxErrors => rest.max_errors = it.positive(name, node),
            Key::ErrorWindow => put(&mut rest.error_window, it.span(name, node)),
            Key::MinUptime => put(&mut rest.min_uptime, it.span(name, node)),
            Key::WaitReady => put(&mut rest.wait_ready, it.flag(name, node)),
            Key::ListenTimeout => put(&mut rest.listen_timeout, it.span(name, node)),
            Key::DrainTimeout => put(&mut rest.drain_timeout, it.span(name, node)),
            Key::KillTimeout => put(&mut rest.kill_timeout, it.span(name, node)),
            Key::StopSignal => put(&mut rest.stop_signal, it.word_or_number(name, node)),
            Key::ShutdownWithMessage => put(&mut rest.shutdown_with_message, it.flag(name, node)),
            Key::Distribution => wish.distribution = it.word(name, node),
            Key::Strategy => put(&mut rest.strategy, it.word(name, node)),
            Key::Weights => put(&mut rest.weights, it.weights(name, node)),
            Key::Sockets => {
                wish.sockets =
                    it.word_by(name, node, values::parse_sockets).and_then(values::SocketsChoice::get);
            }
            Key::Ports => put(&mut rest.ports, it.ports(name, node)),
            Key::Standby => put(&mut rest.standby, it.count(name, node)),
            Key::Listen => put(&mut rest.listen, it.listeners(name, node)),
            Key::Serialization => put(&mut rest.serialization, it.word(name, node)),
            Key::Parallel => put(&mut rest.parallel, it.positive(name, node)),
            Key::HandoffWindow => put(&mut rest.handoff_window, it.positive(name, node)),
            Key::MaxMessage => put(&mut rest.max_message, it.size(name, node)),
            Key::MemoryWarning => {
                put(&mut rest.memory_warning, it.size(name, node).map(|bytes| Some(bytes as u64)));
            }
        }
    }

    fn finish(mut self) -> RawApp {
        if !self.has(Key::Script) {
            let start = self.app.start.start..self.app.start.start + 1;
            self.typed.wrong(&start, "this app has no `script`");
        }
        self.settle_mode();
        self.settle_restart();
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

    /// PM2's `autorestart` is half of `restart`.
    fn settle_restart(&mut self) {
        if self.has(Key::Autorestart) && self.has(Key::Restart) {
            self.clash(Key::Autorestart, Key::Restart);
        } else if self.autorestart == Some(false) {
            self.app.wish.rest.restart = RestartWhen::Never;
        }
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
    typed.findings.add(&entry.key_place, what, hint);
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
