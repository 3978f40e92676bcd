//! What has to be done so that what runs is what is wanted. Calculations only.

use oxherd_core::AppSpec;

use crate::difference::{Difference, differences};

/// An app as it is.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its configuration.
    pub spec: AppSpec,
    /// How many slots are to be filled by now.
    pub instances: u32,
    /// Whether they are to be filled at all.
    pub up: bool,
}

/// What is done with an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It is not known yet.
    Start,
    /// It is known, was stopped, and is as it should be.
    StartAgain,
    /// Every worker is replaced, successor first.
    Reload,
    /// It ends and starts anew: for this reason a successor cannot take over.
    Restart(&'static str),
    /// Only the number of its slots differs.
    Scale(u32),
    /// It is as it should be.
    Nothing,
    /// It is not wanted.
    Delete,
}

/// What is done with one app, and why.
#[derive(Clone, Debug)]
pub struct Step {
    /// The app's name.
    pub name: String,
    /// What is done.
    pub deed: Deed,
    /// What differs, where it is known.
    pub differences: Vec<Difference>,
    /// What it is to be; nothing where it is not to be.
    pub spec: Option<Box<AppSpec>>,
}

/// The way from what runs to what is wanted, in the order of the wishes; what is not wanted comes first, and is
/// left alone unless `prune` is set.
pub fn plan(running: &[Running], wanted: &[AppSpec], prune: bool) -> Vec<Step> {
    let is_wanted = |name: &str| wanted.iter().any(|spec| spec.name == name);
    let unwanted = running.iter().filter(|app| prune && !is_wanted(&app.spec.name)).map(|app| Step {
        name: app.spec.name.clone(),
        deed: Deed::Delete,
        differences: Vec::new(),
        spec: None,
    });
    let steps = wanted.iter().map(|spec| {
        let known = running.iter().find(|app| app.spec.name == spec.name);
        let (deed, differences) = known.map_or((Deed::Start, Vec::new()), |app| judge(app, spec));
        Step { name: spec.name.clone(), deed, differences, spec: Some(Box::new(spec.clone())) }
    });
    unwanted.chain(steps).collect()
}

/// What it takes to make an app what it is to be.
fn judge(app: &Running, new: &AppSpec) -> (Deed, Vec<Difference>) {
    let mut old = app.spec.clone();
    // Where the load decides, any number is as it should be.
    let follows_load = old.scaling.is_some() && new.scaling.is_some();
    old.instances = if follows_load { new.instances } else { app.instances };
    let differences = differences(&old, new);
    let deed = match (app.up, differences.as_slice()) {
        (true, []) => Deed::Nothing,
        (false, []) if new.autostart => Deed::StartAgain,
        (false, []) => Deed::Nothing,
        (true, [only]) if only.key == "instances" => Deed::Scale(new.instances),
        (true, _) => successor_hindrance(&old, new).map_or(Deed::Reload, Deed::Restart),
        (false, _) => Deed::Restart("it is stopped"),
    };
    (deed, differences)
}

/// Why a worker by `new` cannot take over from one by `old`, if so.
pub fn successor_hindrance(old: &AppSpec, new: &AppSpec) -> Option<&'static str> {
    if old.distribution != new.distribution {
        return Some("connections reach its workers in another way");
    }
    if old.sockets != new.sockets {
        return Some("its workers come by their sockets in another way");
    }
    new.binds_alone().then_some("each of its workers binds its own sockets")
}

#[cfg(test)]
mod tests {
    use oxherd_core::{Distribution, Scaling, Sockets};

    use super::*;

    fn app(name: &str) -> AppSpec {
        let mut spec = AppSpec::new(name, "/bin/node");
        spec.upkeep.about.script = "/srv/server.js".into();
        spec
    }

    fn running(spec: &AppSpec) -> Running {
        Running { spec: spec.clone(), instances: spec.instances, up: true }
    }

    /// What is done when an app becomes this.
    fn deed(before: impl FnOnce(&mut Running), change: impl FnOnce(&mut AppSpec)) -> String {
        let mut known = running(&app("web"));
        before(&mut known);
        let mut wanted = app("web");
        change(&mut wanted);
        let steps = plan(&[known], &[wanted], true);
        assert_eq!(steps.len(), 1);
        let why: Vec<String> = steps[0].differences.iter().map(ToString::to_string).collect();
        format!("{:?}: {}", steps[0].deed, why.join(", "))
    }

    #[test]
    fn each_change_has_its_deed() {
        let same = |_: &mut Running| {};
        assert_eq!(deed(same, |_| {}), "Nothing: ");
        assert_eq!(
            deed(same, |new| new.upkeep.about.script = "/srv/b.js".into()),
            "Reload: script: /srv/server.js → /srv/b.js"
        );
        assert_eq!(deed(same, |new| new.cwd = "/srv".into()), "Reload: cwd: / → /srv");
        assert_eq!(deed(same, |new| new.instances = 3), "Scale(3): instances: 1 → 3");
        assert_eq!(deed(|old| old.instances = 4, |_| {}), "Scale(1): instances: 4 → 1");
        assert_eq!(
            deed(same, |new| new.sockets = Sockets::None),
            "Restart(\"its workers come by their sockets in another way\"): sockets: channel → none"
        );
        assert_eq!(
            deed(same, |new| new.distribution = Distribution::Kernel),
            "Restart(\"connections reach its workers in another way\"): distribution: handoff → kernel"
        );
        assert_eq!(deed(|old| old.up = false, |_| {}), "StartAgain: ");
        assert_eq!(
            deed(|old| old.up = false, |new| new.parallel = 2),
            "Restart(\"it is stopped\"): parallel: 1 → 2"
        );
        let by_name = |old: &mut Running| (old.up, old.spec.autostart) = (false, false);
        assert_eq!(deed(by_name, |new| new.autostart = false), "Nothing: ");
    }

    #[test]
    fn a_number_that_follows_the_load_is_left_alone() {
        let scaling = Some(Scaling { min: 1, max: 8 });
        let before = |old: &mut Running| (old.spec.scaling, old.instances) = (scaling, 5);
        assert_eq!(deed(before, |new| new.scaling = scaling), "Nothing: ");
    }

    #[test]
    fn variables_that_are_gone_are_a_change_and_their_values_are_not_told() {
        let with =
            |old: &mut Running| drop(old.spec.upkeep.about.env.insert("TOKEN".into(), "secret".into()));
        assert_eq!(deed(with, |_| {}), "Reload: env.TOKEN: removed");
        let other = |new: &mut AppSpec| drop(new.upkeep.about.env.insert("TOKEN".into(), "other".into()));
        assert_eq!(deed(with, other), "Reload: env.TOKEN: changed");
        // What the caller's shell has is no wish of the file's.
        assert_eq!(deed(|_| {}, |new| new.env.push(("SHLVL".into(), "2".into()))), "Nothing: ");
    }

    #[test]
    fn what_is_not_wanted_is_left_alone_unless_it_is_to_be_pruned() {
        let known = [running(&app("old")), running(&app("web"))];
        let wanted = [app("new"), app("web")];
        let deeds = |prune| {
            let steps = plan(&known, &wanted, prune).into_iter();
            steps.map(|step| format!("{} {:?}", step.name, step.deed)).collect::<Vec<_>>()
        };
        assert_eq!(deeds(true), ["old Delete", "new Start", "web Nothing"]);
        assert_eq!(deeds(false), ["new Start", "web Nothing"]);
    }
}
