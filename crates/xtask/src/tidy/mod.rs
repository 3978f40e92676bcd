//! The project's own rules, checked over its manifests, sources and documents.
//!
//! A check is a pure function from texts to problems; only this file reads files. What rustc, clippy
//! and rustfmt already check is left to them.

mod arrows;
mod mask;
mod sources;
mod text;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::workspace::Workspace;

/// One broken rule, where it is broken.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    file: PathBuf,
    /// Counted from 1.
    line: usize,
    what: String,
}

impl Problem {
    fn new(file: &Path, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// The work tree's texts by path relative to the root; files that are no UTF-8 are left out.
type Texts = BTreeMap<PathBuf, String>;

/// All problems, sorted by file and line.
pub(crate) fn check(workspace: &Workspace) -> Outcome<Vec<Problem>> {
    let texts = read_texts(workspace)?;
    let mut problems = Vec::new();
    arrows::check(&workspace.packages, &texts, &mut problems);
    for (file, content) in &texts {
        text::check(file, content, &mut problems);
        words::check(file, content, &mut problems);
        if file.extension().is_some_and(|extension| extension == "rs") {
            sources::check(file, content, &mut problems);
        }
    }
    if !texts.contains_key(Path::new("Cargo.lock")) {
        problems.push(Problem::new(Path::new("Cargo.lock"), 1, "Cargo.lock is missing or ignored"));
    }
    problems.sort();
    Ok(problems)
}

fn read_texts(workspace: &Workspace) -> Outcome<Texts> {
    let mut texts = Texts::new();
    for file in workspace.files()? {
        let bytes = fs::read(workspace.root.join(&file))
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        if let Ok(text) = String::from_utf8(bytes) {
            texts.insert(file, text);
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let workspace = Workspace::load().unwrap();
        let problems: Vec<String> = check(&workspace).unwrap().iter().map(Problem::to_string).collect();
        assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    }

    #[test]
    fn a_problem_prints_as_a_place() {
        let problem = Problem::new(Path::new("a/b.rs"), 7, "no");
        assert_eq!(problem.to_string(), "a/b.rs:7: no");
    }
}
