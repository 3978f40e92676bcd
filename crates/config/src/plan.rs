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
    /// Which of them are empty, and not filled any more.
    pub given_up: GivenUp,
}

/// How many of an app's slots are empty because what was started in them failed too often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GivenUp {
    /// None is.
    #[default]
    None,
    /// Others serve, or are through.
    Some,
    /// Nobody is left.
    All,
}

/// What is done with an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It is not known yet.
    Start,
    /// It is known, was stopped or has given up, and is configured as it should be.
    StartAgain,
    /// It is known, was stopped or has given up, and starts by the new configuration.
    StartBy,
    /// Every worker is replaced, successor first.
    Reload,
    /// It ends and starts anew: for this reason a successor cannot take over.
    Restart(&'static str),
    /// It goes by the new configuration at once: nothing differs that a worker was started with. Or it is stopped, and
    /// stays so.
    Adjust,
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
    /// What it is to be; nothing where it is not to be, or stays what it is.
    pub spec: Option<Box<AppSpec>>,
}

impl Step {
    fn new(name: &str, deed: Deed) -> Self {
        Self { name: name.into(), deed, differences: Vec::new(), spec: None }
    }
}

/// The way from what runs to what is wanted, in the order of the wishes; what is not wanted comes first, and is
/// left alone unless `prune` is set.
pub fn plan(running: &[Running], wanted: &[AppSpec], prune: bool) -> Vec<Step> {
    let is_wanted = |name: &str| wanted.iter().any(|spec| spec.name == name);
    let unwanted = running
        .iter()
        .filter(|app| prune && !is_wanted(&app.spec.name))
        .map(|app| Step::new(&app.spec.name, Deed::Delete));
    let steps = wanted.iter().map(|spec| step(running, spec, judge));
    unwanted.chain(steps).collect()
}

/// The way on which every worker of what is wanted is another one, whatever differs: new code is no difference. With
/// `loss` all end before others start, otherwise successors take over where they can.
pub fn renewal(running: &[Running], wanted: &[AppSpec], loss: bool) -> Vec<Step> {
    let deed = |app: &Running, new: &AppSpec, _: &[Difference]| match replacement(app, new) {
        Deed::Reload if loss => Deed::Restart("it was asked for"),
        deed => deed,
    };
    wanted.iter().map(|spec| step(running, spec, deed)).collect()
}

fn step(
    running: &[Running],
    spec: &AppSpec,
    judge: impl Fn(&Running, &AppSpec, &[Difference]) -> Deed,
) -> Step {
    let wish = Some(Box::new(spec.clone()));
    let Some(app) = running.iter().find(|app| app.spec.name == spec.name) else {
        return Step { spec: wish, ..Step::new(&spec.name, Deed::Start) };
    };
    let mut old = app.spec.clone();
    // Where the load decides, any number is as it should be.
    let follows_load = old.scaling.is_some() && spec.scaling.is_some();
    old.instances = if follows_load { spec.instances } else { app.instances };
    let differences = differences(&old, spec);
    let deed = judge(app, spec, &differences);
    let spec = match deed {
        // The environment is that of whoever called then.
        Deed::Adjust if app.up => Some(Box::new(app.spec.adjusted_to(spec))),
        Deed::Restart(_) if app.spec == *spec => None,
        _ => wish,
    };
    Step { spec, differences, ..Step::new(&app.spec.name, deed) }
}

/// What it takes to make an app what it is to be.
fn judge(app: &Running, new: &AppSpec, differences: &[Difference]) -> Deed {
    match (app.up, differences) {
        (true, []) if app.given_up != GivenUp::None => Deed::StartAgain,
        (true, []) => Deed::Nothing,
        (false, []) if new.autostart => Deed::StartAgain,
        (false, []) => Deed::Nothing,
        (false, _) if !new.autostart => Deed::Adjust,
        // Workers are missing, whatever differs.
        (true, _) if app.given_up != GivenUp::None => replacement(app, new),
        (true, [only]) if only.key == "instances" => Deed::Scale(new.instances),
        (true, _) if self::differences(&app.spec.adjusted_to(new), new).is_empty() => Deed::Adjust,
        (true, _) | (false, _) => replacement(app, new),
    }
}

/// How every worker becomes one by the new configuration.
fn replacement(app: &Running, new: &AppSpec) -> Deed {
    match successor_hindrance(&app.spec, new) {
        _ if !app.up || app.given_up == GivenUp::All => Deed::StartBy,
        Some(why) => Deed::Restart(why),
        None => Deed::Reload,
    }
}

/// Why a worker by `new` cannot take over from one by `old`, if so.
fn successor_hindrance(old: &AppSpec, new: &AppSpec) -> Option<&'static str> {
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
        Running { spec: spec.clone(), instances: spec.instances, up: true, given_up: GivenUp::None }
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
        assert_eq!(
            deed(same, |new| new.upkeep.logs.date_format = Some("HH".into())),
            "Adjust: log_date_format: (default) → HH"
        );
        assert_eq!(
            deed(same, |new| (new.instances, new.max_memory_restart) = (2, Some(9))),
            "Adjust: instances: 1 → 2, max_memory_restart: (default) → 9"
        );
        assert_eq!(
            deed(same, |new| (new.cwd, new.parallel) = ("/srv".into(), 2)),
            "Reload: cwd: / → /srv, parallel: 1 → 2"
        );
        assert_eq!(deed(|old| old.up = false, |_| {}), "StartAgain: ");
        assert_eq!(deed(|old| old.up = false, |new| new.parallel = 2), "StartBy: parallel: 1 → 2");
        let dead = |old: &mut Running| old.given_up = GivenUp::All;
        assert_eq!(deed(dead, |_| {}), "StartAgain: ");
        assert_eq!(deed(dead, |new| new.parallel = 2), "StartBy: parallel: 1 → 2");
        assert_eq!(deed(dead, |new| new.instances = 2), "StartBy: instances: 1 → 2");
        let gapped = |old: &mut Running| old.given_up = GivenUp::Some;
        assert_eq!(deed(gapped, |_| {}), "StartAgain: ");
        assert_eq!(deed(gapped, |new| new.parallel = 2), "Reload: parallel: 1 → 2");
        let by_name = |old: &mut Running| (old.up, old.spec.autostart) = (false, false);
        assert_eq!(deed(by_name, |new| new.autostart = false), "Nothing: ");
        let other = |new: &mut AppSpec| (new.autostart, new.cwd) = (false, "/srv".into());
        assert_eq!(deed(by_name, other), "Adjust: cwd: / → /srv");
    }

    #[test]
    fn an_adjustment_keeps_the_environment_of_whoever_started_it() {
        let (mut old, mut new) = (app("web"), app("web"));
        old.env.push(("TERM".into(), "xterm".into()));
        new.parallel = 2;
        let steps = plan(&[running(&old)], &[new], false);
        let spec = steps[0].spec.as_ref().unwrap();
        assert_eq!((spec.env.len(), spec.parallel), (1, 2));
    }

    #[test]
    fn who_binds_alone_is_restarted_and_who_was_stopped_starts_by_what_is_new() {
        let alone = |name: &str| AppSpec { sockets: Sockets::None, ..app(name) };
        let known = [running(&alone("a")), running(&alone("b")), running(&app("web")), running(&app("old"))];
        let mut wanted = [alone("a"), alone("b"), app("web"), app("new")];
        (wanted[0].args, wanted[2].cwd) = (vec!["--port=1".into()], "/srv".into());
        let told = |steps: Vec<Step>| {
            steps.into_iter().map(|step| format!("{} {:?}", step.name, step.deed)).collect::<Vec<_>>()
        };
        let alone = "Restart(\"each of its workers binds its own sockets\")";
        assert_eq!(
            told(plan(&known, &wanted, true)),
            ["old Delete", &format!("a {alone}"), "b Nothing", "web Reload", "new Start"]
        );
        assert_eq!(
            told(renewal(&known, &wanted, false)),
            [&format!("a {alone}"), &format!("b {alone}"), "web Reload", "new Start"]
        );
        let restarted = told(renewal(&known, &wanted[2..3], true));
        assert_eq!(restarted, ["web Restart(\"it was asked for\")"]);
        let stopped = Running { up: false, ..running(&app("web")) };
        assert_eq!(told(renewal(&[stopped], &wanted[2..3], false)), ["web StartBy"]);
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
