//! Which crate may depend on which, and why each outside dependency is there.
//!
//! Only normal and build dependencies count, but the command is out of reach for tests too: they run
//! the built program.

use std::path::{Path, PathBuf};

use super::{Problem, Texts};
use crate::workspace::{Dependency, Package};

/// Package, and the members it may depend on. The crates of later levels are listed before they exist,
/// so that they start on the right side.
const ALLOWED: [(&str, &[&str]); 13] = [
    ("oxherd-core", &[]),
    ("oxherd-wire", &[]),
    ("oxherd-os", &[]),
    ("oxherd-config", &["oxherd-core"]),
    ("oxherd", &["oxherd-core", "oxherd-wire", "oxherd-os", "oxherd-engine"]),
    ("oxherd-engine", &["oxherd-core", "oxherd-wire", "oxherd-os"]),
    (
        "oxherd-daemon",
        &["oxherd-engine", "oxherd-config", "oxherd-core", "oxherd-wire", "oxherd-os", "oxherd"],
    ),
    ("oxherd-cli", &["oxherd-engine", "oxherd-daemon", "oxherd-config", "oxherd"]),
    ("oxherd-sim", &["oxherd-core", "oxherd-wire"]),
    ("oxherd-e2e", &["oxherd"]),
    ("oxherd-examples", &["oxherd"]),
    ("oxherd-bench", &["oxherd-core", "oxherd"]),
    ("xtask", &[]),
];
/// Packages that stay free of any async runtime.
const RUNTIME_FREE: [&str; 4] = ["oxherd-core", "oxherd-wire", "oxherd-os", "oxherd-engine"];
const RUNTIMES: [&str; 4] = ["tokio", "async-std", "smol", "mio"];
const COMMAND: &str = "oxherd-cli";
const REASONS: &str = "docs/dependencies.md";

pub(super) fn check(packages: &[Package], texts: &Texts, problems: &mut Vec<Problem>) {
    for package in packages {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            let what = format!("package {} has no rule in crates/xtask/src/tidy/arrows.rs", package.name);
            problems.push(Problem::new(&package.manifest, 1, what));
            continue;
        };
        for dependency in &package.dependencies {
            if let Some(what) = wrong_arrow(package, dependency, allowed) {
                let line = line_of(texts, &package.manifest, &dependency.name);
                problems.push(Problem::new(&package.manifest, line, what));
            }
        }
    }
    check_reasons(packages, texts, problems);
}

fn wrong_arrow(package: &Package, dependency: &Dependency, allowed: &[&str]) -> Option<String> {
    let (from, to) = (package.name.as_str(), dependency.name.as_str());
    if to == COMMAND {
        return Some(format!("{from} depends on {COMMAND}, which nothing may"));
    }
    if dependency.is_dev {
        return None;
    }
    if dependency.is_member && !allowed.contains(&to) {
        return Some(format!("{from} must not depend on {to}"));
    }
    if RUNTIME_FREE.contains(&from) && RUNTIMES.contains(&to) {
        return Some(format!("{from} must stay free of {to}"));
    }
    None
}

/// Every outside dependency has a line of reason, and every line a dependency.
fn check_reasons(packages: &[Package], texts: &Texts, problems: &mut Vec<Problem>) {
    let root = PathBuf::from("Cargo.toml");
    let mut used: Vec<(String, PathBuf, usize)> = Vec::new();
    if let Some(manifest) = texts.get(&root) {
        used.extend(workspace_entries(manifest).map(|(name, line)| (name.to_owned(), root.clone(), line)));
    }
    for package in packages {
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.is_member) {
            // Named once is enough: most manifests only repeat the root's table.
            if !used.iter().any(|(name, _, _)| *name == dependency.name) {
                let line = line_of(texts, &package.manifest, &dependency.name);
                used.push((dependency.name.clone(), package.manifest.clone(), line));
            }
        }
    }
    let reasons = texts.get(Path::new(REASONS)).map_or("", String::as_str);
    let given: Vec<(&str, usize)> = reasons_in(reasons).collect();
    for (name, file, line) in &used {
        if !given.iter().any(|(reason, _)| reason == name) {
            problems.push(Problem::new(file, *line, format!("{name} has no line of reason in {REASONS}")));
        }
    }
    for (name, line) in given {
        if !used.iter().any(|(other, _, _)| other == name) {
            problems.push(Problem::new(
                Path::new(REASONS),
                line,
                format!("{name} is no dependency any more"),
            ));
        }
    }
}

/// Names and lines in `[workspace.dependencies]`, without the members.
fn workspace_entries(manifest: &str) -> impl Iterator<Item = (&str, usize)> {
    let numbered = manifest.lines().enumerate();
    let table = numbered.skip_while(|(_, line)| line.trim() != "[workspace.dependencies]").skip(1);
    table
        .take_while(|(_, line)| !line.starts_with('['))
        .filter(|(_, line)| !line.contains("path = "))
        .filter_map(|(index, line)| Some((line.split_once('=')?.0.trim(), index + 1)))
}

/// A reason is a list item that starts with the name in backticks.
fn reasons_in(document: &str) -> impl Iterator<Item = (&str, usize)> {
    document.lines().enumerate().filter_map(|(index, line)| {
        let (name, _) = line.strip_prefix("- `")?.split_once('`')?;
        Some((name, index + 1))
    })
}

fn line_of(texts: &Texts, manifest: &Path, name: &str) -> usize {
    let text = texts.get(manifest).map_or("", String::as_str);
    let is_entry = |line: &str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
            || line.contains(&format!(".{name}]"))
    };
    text.lines().position(is_entry).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, bool, bool)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, is_member, is_dev)| Dependency {
                name: (*name).to_owned(),
                is_member: *is_member,
                is_dev: *is_dev,
            })
            .collect();
        Package { name: name.to_owned(), manifest: "Cargo.toml".into(), dependencies }
    }

    fn problems(packages: &[Package], texts: &[(&str, &str)]) -> Vec<String> {
        let texts = texts.iter().map(|(file, text)| (PathBuf::from(file), (*text).to_owned())).collect();
        let mut problems = Vec::new();
        check(packages, &texts, &mut problems);
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn arrows_point_down() {
        let good = package("oxherd-engine", &[("oxherd-core", true, false), ("oxherd-sim", true, true)]);
        assert!(problems(&[good], &[]).is_empty());
        let bad = package("oxherd-core", &[("oxherd-os", true, false)]);
        let manifest = ("Cargo.toml", "[dependencies]\noxherd-os.workspace = true\n");
        assert_eq!(problems(&[bad], &[manifest]), ["Cargo.toml:2: oxherd-core must not depend on oxherd-os"]);
    }

    #[test]
    fn the_command_is_out_of_reach_for_tests_too() {
        let bad = package("oxherd-e2e", &[(COMMAND, true, true)]);
        assert_eq!(problems(&[bad], &[]).len(), 1);
    }

    #[test]
    fn the_engine_has_no_runtime() {
        let bad = package("oxherd-engine", &[("tokio", false, false)]);
        let reason = (REASONS, "- `tokio`: because\n");
        assert_eq!(problems(&[bad], &[reason]), ["Cargo.toml:1: oxherd-engine must stay free of tokio"]);
    }

    #[test]
    fn an_unknown_package_needs_a_rule() {
        assert_eq!(problems(&[package("oxherd-new", &[])], &[]).len(), 1);
    }

    #[test]
    fn reasons_and_dependencies_match() {
        let root = (
            "Cargo.toml",
            "[workspace.dependencies]\na = { path = \"a\" }\nserde = \"1\"\n\n[profile.dev]\nx = 1\n",
        );
        assert_eq!(
            problems(&[], &[root]),
            [format!("Cargo.toml:3: serde has no line of reason in {REASONS}")]
        );
        assert!(problems(&[], &[root, (REASONS, "- `serde`: models\n")]).is_empty());
        assert_eq!(
            problems(&[], &[(REASONS, "# Why\n\n- `gone`: old\n")]),
            [format!("{REASONS}:3: gone is no dependency any more")]
        );
    }
}
