//! Keys that have no effect, by design, and those that are not offered: in which words people are told.

use oxherd_e2e::Home;

use crate::schema::Schema;

/// What `check` says of an app with these keys, and its code.
fn check(home: &Home, keys: &str) -> (Option<i32>, String) {
    let file =
        home.write("eco.json", &format!("{{\"name\": \"web\", \"script\": \"server.js\",\n{keys}}}\n"));
    let output = home.run(&["check", &file]);
    let folder = home.surroundings().display().to_string();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).replace(&folder, "~"))
}

#[test]
fn keys_without_effect_are_told_of_and_those_that_would_need_one_are_errors() {
    let home = Home::new();
    home.write("server.js", "");
    let schema = Schema::read();
    assert!(schema.idle.iter().any(|(_, asks)| asks.is_some()));
    for (name, asks) in &schema.idle {
        let Some(asks) = asks else {
            let told = format!("oxherd: ~/eco.json: `{name}` of web has no effect here\n");
            assert_eq!(check(&home, &format!("\"{name}\": true")), (Some(0), told));
            continue;
        };
        let hint =
            if name == "treekill" { "all processes of a worker end with it; remove it" } else { "remove it" };
        let caret = "^".repeat(name.len() + 2);
        let wanted = format!(
            "~/eco.json:2:1: `{name}`: {asks} is not offered\n  2 | \"{name}\": {asks}}}\n    | {caret} {hint}\n"
        );
        assert_eq!(check(&home, &format!("\"{name}\": {asks}")), (Some(2), wanted));
    }
    for name in &schema.refused {
        let (code, err) = check(&home, &format!("\"{name}\": \"npm install\""));
        assert_eq!(code, Some(2));
        assert!(err.starts_with(&format!("~/eco.json:2:1: `{name}` is not offered\n  2 | ")), "{err}");
        assert_eq!(check(&home, &format!("\"{name}\": \"\"")), (Some(0), String::new()));
    }
    let several = "oxherd: ~/eco.json: `pmx`, `vizion` of web have no effect here\n";
    assert_eq!(check(&home, "\"pmx\": false, \"vizion\": false"), (Some(0), several.into()));
    let watching = "\"watch_options\": {\"atomic\": true,\n\"awaitWriteFinish\": {\"pollInterval\": 100}}";
    let told = "oxherd: ~/eco.json:2: `watch_options.atomic` has no effect here\noxherd: ~/eco.json:3: `awaitWriteFinish.pollInterval` has no effect here\n";
    assert_eq!(check(&home, watching), (Some(0), told.into()));
}
