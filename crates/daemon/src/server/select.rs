//! Selectors: which apps people mean. Looks only.

use oxherd_core::{AppId, AppStatus};
use oxherd_engine::Survey;
use regex_lite::{Regex, RegexBuilder};
use serde::Deserialize;

use super::problem::Failure;

/// The selector that means every app.
pub(super) const ALL: &str = "all";
/// The largest regular expression, in bytes of what it compiles to.
const EXPRESSION_BYTES: usize = 1 << 20;

/// A query for those that a selector names, or for all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    pub(super) app: Option<String>,
}

/// The apps that a selector names: a name, a namespace, an id, `/a regular expression/` for names, or `all`. A name that
/// looks like a number goes before the id, and so does a namespace.
pub(super) fn select(selector: &str, survey: &Survey) -> Result<Vec<AppId>, Failure> {
    let apps = &survey.status.apps;
    let chosen = |wanted: &dyn Fn(&AppStatus) -> bool| -> Vec<AppId> {
        apps.iter().filter(|app| wanted(app)).map(|app| app.app).collect()
    };
    if selector == ALL {
        let all = chosen(&|_| true);
        let none = || Failure::not_found("there are no apps: `oxherd start` starts one");
        return if all.is_empty() { Err(none()) } else { Ok(all) };
    }
    let by_name = chosen(&|app| app.name == selector);
    if !by_name.is_empty() {
        return Ok(by_name);
    }
    let namespace = |app: &AppStatus| survey.specs.get(&app.app).map(|spec| spec.upkeep.namespace());
    let by_namespace = chosen(&|app| namespace(app) == Some(selector));
    if !by_namespace.is_empty() {
        return Ok(by_namespace);
    }
    if let Some(expression) = expression_in(selector) {
        let compiled = compile(selector, expression)?;
        let found = chosen(&|app| compiled.is_match(&app.name));
        let none =
            || Failure::not_found(format!("no app has a name like {selector}: `oxherd ls` lists the apps"));
        return if found.is_empty() { Err(none()) } else { Ok(found) };
    }
    let id = selector.parse().ok();
    match id.map(|id| chosen(&|app| app.app == AppId(id))) {
        Some(by_id) if !by_id.is_empty() => Ok(by_id),
        _ => Err(Failure::not_found(no_such_app(selector, survey))),
    }
}

/// The one app that a selector names.
pub(super) fn select_one(selector: &str, survey: &Survey) -> Result<AppId, Failure> {
    match *select(selector, survey)? {
        [app] => Ok(app),
        ref apps => {
            let text = format!(
                "`{selector}` names {} apps, and this is for one: choose a name or an id",
                apps.len()
            );
            Err(Failure::bad_request(text))
        }
    }
}

fn expression_in(selector: &str) -> Option<&str> {
    selector.strip_prefix('/')?.strip_suffix('/').filter(|expression| !expression.is_empty())
}

fn compile(selector: &str, expression: &str) -> Result<Regex, Failure> {
    RegexBuilder::new(expression).size_limit(EXPRESSION_BYTES).build().map_err(|error| {
        Failure::bad_request(format!("`{selector}` is no regular expression that can be used: {error}"))
    })
}

fn no_such_app(selector: &str, survey: &Survey) -> String {
    let names = survey.status.apps.iter().map(|app| app.name.as_str());
    // Of ids and of single letters every other is near.
    let may_be_mistyped = selector.len() > 1 && selector.parse::<u32>().is_err();
    match oxherd_config::nearest_of(selector, names).filter(|_| may_be_mistyped) {
        Some(meant) => format!("there is no app `{selector}`: did you mean `{meant}`?"),
        None => format!("there is no app `{selector}`: `oxherd ls` lists the apps"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use oxherd_core::{AppSpec, ChangeId, FleetStatus, Generation, Span};
    use oxherd_engine::Report;

    use super::*;

    fn survey(apps: &[(u32, &str, &str)]) -> Survey {
        let status = |(id, name, _): &(u32, &str, &str)| AppStatus {
            app: AppId(*id),
            name: (*name).into(),
            generation: Generation(1),
            instances: 1,
            up: true,
            reload: None,
            slots: Vec::new(),
            standbys: Vec::new(),
        };
        let spec = |(id, name, namespace): &(u32, &str, &str)| {
            let mut spec = AppSpec::new(*name, "node");
            spec.upkeep.namespace = (*namespace).into();
            (AppId(*id), Arc::new(spec))
        };
        Survey {
            status: FleetStatus { apps: apps.iter().map(status).collect() },
            report: Report { run_time: Span::ZERO, primary_memory: 0, apps: Vec::new() },
            specs: apps.iter().map(spec).collect::<BTreeMap<_, _>>(),
            last_change: ChangeId(0),
            pending: Vec::new(),
        }
    }

    #[test]
    fn a_selector_is_a_name_a_namespace_an_id_an_expression_or_all() {
        let herd =
            survey(&[(0, "web", ""), (1, "0", "shop"), (2, "api", "shop"), (3, "web-2", "7"), (7, "x", "")]);
        let selected = |selector| {
            let found = select(selector, &herd).map_err(|failure| failure.error)?;
            Ok::<_, String>(found.iter().map(|app| app.0).collect::<Vec<_>>())
        };
        assert_eq!(selected("web"), Ok(vec![0]));
        assert_eq!(selected("2"), Ok(vec![2]));
        assert_eq!(selected("0"), Ok(vec![1]), "an app named like a number wins");
        assert_eq!(selected("7"), Ok(vec![3]), "and so does a namespace");
        assert_eq!(selected("shop"), Ok(vec![1, 2]));
        assert_eq!(selected("default"), Ok(vec![0, 7]));
        assert_eq!(selected("/^web/"), Ok(vec![0, 3]));
        assert_eq!(selected("all").map(|apps| apps.len()), Ok(5));
        assert_eq!(selected("9"), Err("there is no app `9`: `oxherd ls` lists the apps".into()));
        assert_eq!(selected("wbe"), Err("there is no app `wbe`: did you mean `web`?".into()));
        assert_eq!(selected("/q/"), Err("no app has a name like /q/: `oxherd ls` lists the apps".into()));
        assert!(
            selected("/(/").unwrap_err().starts_with("`/(/` is no regular expression that can be used: ")
        );
        let nothing = select("all", &survey(&[])).unwrap_err();
        assert_eq!((nothing.status.as_u16(), nothing.error.contains("there are no apps")), (404, true));
        assert_eq!(select_one("web", &herd).ok(), Some(AppId(0)));
        let several = select_one("shop", &herd).unwrap_err();
        assert_eq!(several.error, "`shop` names 2 apps, and this is for one: choose a name or an id");
    }
}
