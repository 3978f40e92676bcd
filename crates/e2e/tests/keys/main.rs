//! Every key of a file of apps, observed on real programs under the real daemon.
//!
//! The keys are those of the schema for editors, which is made of the table that the reader itself goes by, so that a key
//! without a case fails here. Each key by its first name has a case; that other names mean the same is in `names`.

mod connections;
mod exits;
mod idle;
mod names;
mod output;
mod program;
mod replacing;
mod schema;
mod stand;
mod stopping;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::schema::Schema;
use crate::stand::Case;

fn all() -> Vec<Case> {
    let all = [
        program::cases(),
        exits::cases(),
        replacing::cases(),
        stopping::cases(),
        connections::cases(),
        output::cases(),
    ];
    all.into_iter().flatten().collect()
}

#[test]
fn every_key_has_a_case() {
    let schema = Schema::read();
    let cases = all();
    let seen: BTreeSet<&str> = cases.iter().flat_map(|case| case.keys).copied().collect();
    let wanted: BTreeSet<&str> = schema.keys().collect();
    let missing: Vec<_> = wanted.difference(&seen).collect();
    assert!(missing.is_empty(), "no case observes {missing:?}");
    let unknown: Vec<_> = seen.difference(&wanted).collect();
    assert!(unknown.is_empty(), "there are no such keys: {unknown:?}");
    for case in &cases {
        for key in case.keys {
            assert!(is_written(&case.app, key), "the case of {key} does not write it: {}", case.app);
        }
    }
}

/// Whether an app has a key, which may be within another.
fn is_written(app: &Value, key: &str) -> bool {
    if key == schema::OVERLAY {
        return app.as_object().is_some_and(|app| app.keys().any(|key| key.starts_with("env_")));
    }
    let found = key.split('.').try_fold(app, |value, part| value.get(part));
    found.is_some()
}
