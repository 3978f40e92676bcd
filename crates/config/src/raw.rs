//! `RawApp`: one app of a file as written, its keys and types checked. Whether it can be had on this machine is
//! found out when it becomes a job, and what is wrong then is shown at the line, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use oxherd_core::SpecError;

use crate::diagnostics::{Diagnostics, Place, Source, shown};
use crate::file::STDIN;
use crate::job::{Job, JobError, Surroundings, Wish};
use crate::keys::Key;
use crate::owner::OwnerError;
use crate::program::ProgramError;
use crate::values::Variable;

/// One app of a file as written.
#[derive(Clone, Debug)]
pub struct RawApp {
    pub(crate) source: Arc<Source>,
    /// Where it begins, and where the values of its keys stand.
    pub(crate) start: Place,
    pub(crate) places: Vec<(Key, Place)>,
    pub(crate) wish: Wish,
    pub(crate) overlays: BTreeMap<String, Vec<Variable>>,
    pub(crate) port: Option<u16>,
    /// Goes before the name, with a colon.
    pub(crate) name_prefix: Option<String>,
    /// The chosen environment goes behind the name.
    pub(crate) append_env: bool,
    pub(crate) doubts: Vec<String>,
}

impl RawApp {
    /// One that begins at `start` and of which no more is known than the wish.
    pub(crate) fn new(source: &Arc<Source>, start: Place, wish: Wish) -> Self {
        Self {
            source: Arc::clone(source),
            start,
            places: Vec::new(),
            wish,
            overlays: BTreeMap::new(),
            port: None,
            name_prefix: None,
            append_env: false,
            doubts: Vec::new(),
        }
    }

    /// What it is called in the file.
    pub fn name(&self) -> String {
        self.wish.name()
    }

    /// What it is called when it runs with this of its environments.
    pub fn full_name(&self, env_name: Option<&str>) -> String {
        let prefix = self.name_prefix.as_ref().map(|prefix| format!("{prefix}:")).unwrap_or_default();
        let suffix = env_name.filter(|_| self.append_env).map(|name| format!("-{name}")).unwrap_or_default();
        format!("{prefix}{}{suffix}", self.name())
    }

    /// The names of its `env_<name>`.
    pub fn environments(&self) -> impl Iterator<Item = &str> {
        self.overlays.keys().map(String::as_str)
    }

    /// Looks whether it can be had here, and what exactly it comes to.
    pub fn job(&self, surroundings: &Surroundings) -> Result<Job, Diagnostics> {
        let env_name = surroundings.env_name.as_deref();
        let mut wish =
            Wish { name: Some(self.full_name(env_name)), env: self.variables(env_name), ..self.wish.clone() };
        let about = &mut wish.rest.upkeep.about;
        about.file = (self.source.name != STDIN)
            .then(|| surroundings.folder.join(self.file_name()).display().to_string());
        about.env_name = env_name.map(str::to_owned);
        match wish.prepare(surroundings) {
            Ok(mut job) => {
                job.doubts.extend(self.doubts.iter().cloned());
                job.doubts.extend(self.doubt_of_overlay(env_name));
                Ok(job)
            }
            Err(error) => {
                Err(Diagnostics::at(&self.source, self.place_of_error(&error), error.to_string(), None))
            }
        }
    }

    /// The file's own name, without its folder.
    fn file_name(&self) -> &str {
        let name = &self.source.name;
        name.rsplit('/').next().unwrap_or(name)
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
            JobError::Served(_) if is_given(Key::Env) => Key::Env,
            JobError::FileServer | JobError::Served(_) | JobError::Program(_) => Key::Script,
            JobError::Owner(OwnerError::NoGroup(_)) => Key::Gid,
            JobError::Owner(_) if is_given(Key::Owner) => Key::Owner,
            JobError::Owner(_) => Key::Gid,
            JobError::Spec(SpecError::BadName { .. } | SpecError::NoName) if is_given(Key::Name) => Key::Name,
            JobError::Spec(SpecError::BadName { .. } | SpecError::NoName) => Key::Script,
            JobError::Spec(SpecError::NoWeight | SpecError::WeightTooLarge(_)) => Key::Weights,
            JobError::Spec(
                SpecError::ListenUnused(_) | SpecError::BadListener(_) | SpecError::ListenerTwice { .. },
            ) => Key::Listen,
            JobError::Spec(SpecError::PortsUnused(_)) => Key::Ports,
            JobError::Spec(SpecError::NowhereToPark(_)) => Key::Standby,
            JobError::Spec(SpecError::NothingToListenAt) => Key::Sockets,
            JobError::Spec(SpecError::BadBounds { .. }) => Key::Instances,
            JobError::Spec(SpecError::TwoDelays) => Key::BackoffDelay,
            JobError::Spec(SpecError::NeedsChannel { key: "max_requests", .. }) => Key::MaxRequests,
            JobError::Spec(SpecError::NeedsChannel { .. }) => Key::HealthCheck,
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
