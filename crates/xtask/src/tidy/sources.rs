//! Rules for Rust sources: module docs, `unsafe`, length, ignored tests, excused lints.

use std::path::Path;

use super::Problem;
use super::mask::code_only;

/// The only places that may hold `unsafe`: the crate for it, and the benchmark's bare loop.
const UNSAFE_HOMES: [&str; 2] = ["crates/os", "bench"];
/// The most lines a file may have before its tests.
const FILE_LINES_MAX: usize = 600;

pub(super) fn check(file: &Path, source: &str, problems: &mut Vec<Problem>) {
    let code = code_only(source);
    check_module_doc(file, source, problems);
    check_length(file, source, problems);
    check_unsafe(file, &code, problems);
    check_attributes(file, source, &code, problems);
}

fn check_module_doc(file: &Path, source: &str, problems: &mut Vec<Problem>) {
    let is_module = file.starts_with("crates") && file.components().any(|part| part.as_os_str() == "src");
    if is_module && !source.starts_with("//!") {
        problems.push(Problem::new(
            file,
            1,
            "a module opens with `//!`: what it is for, what it must never do",
        ));
    }
}

fn check_length(file: &Path, source: &str, problems: &mut Vec<Problem>) {
    if file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("tests.rs") {
        return;
    }
    let lines = source.lines().take_while(|line| *line != "#[cfg(test)]").count();
    if lines > FILE_LINES_MAX {
        let what = format!("{lines} lines without tests, more than {FILE_LINES_MAX}: split it");
        problems.push(Problem::new(file, FILE_LINES_MAX + 1, what));
    }
}

fn check_unsafe(file: &Path, code: &str, problems: &mut Vec<Problem>) {
    if UNSAFE_HOMES.iter().any(|home| file.starts_with(home)) {
        return;
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (index, line) in code.lines().enumerate() {
        // `unsafe_code` in an attribute is a word of its own and is caught by name.
        if line.split(|c| !is_word(c)).any(|word| word == "unsafe" || word == "unsafe_code") {
            problems.push(Problem::new(file, index + 1, "`unsafe` belongs in crates/os"));
        }
    }
}

fn check_attributes(file: &Path, source: &str, code: &str, problems: &mut Vec<Problem>) {
    for (index, (line, code)) in source.lines().zip(code.lines()).enumerate() {
        if code.contains("#[ignore]") {
            problems.push(Problem::new(file, index + 1, "an ignored test says why: #[ignore = \"…\"]"));
        }
        if code.contains("clippy::too_many_lines") && !line.contains("reason =") {
            problems.push(Problem::new(file, index + 1, "a long function says why: reason = \"…\""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(file: &str, source: &str) -> Vec<String> {
        let mut problems = Vec::new();
        check(Path::new(file), source, &mut problems);
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn modules_open_with_a_doc() {
        assert_eq!(problems("crates/core/src/lib.rs", "use a;\n").len(), 1);
        assert!(problems("crates/core/src/lib.rs", "//! Decides.\nuse a;\n").is_empty());
        assert!(problems("crates/core/tests/t.rs", "use a;\n").is_empty());
    }

    #[test]
    fn unsafe_lives_in_os() {
        let source = "//! No unsafe here.\nfn f() { unsafe { g() } }\n";
        assert_eq!(
            problems("crates/core/src/a.rs", source),
            ["crates/core/src/a.rs:2: `unsafe` belongs in crates/os"]
        );
        assert!(problems("crates/os/src/a.rs", source).is_empty());
        assert_eq!(problems("crates/core/src/a.rs", "//! D\n#![allow(unsafe_code)]\n").len(), 1);
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let long = format!("//! D\n{}", "fn f() {}\n".repeat(FILE_LINES_MAX));
        assert_eq!(problems("crates/core/src/a.rs", &long).len(), 1);
        let tested = format!("//! D\n#[cfg(test)]\n{}", "fn f() {}\n".repeat(FILE_LINES_MAX));
        assert!(problems("crates/core/src/a.rs", &tested).is_empty());
    }

    #[test]
    fn excuses_carry_reasons() {
        let source = "//! D\n#[ignore]\n#[ignore = \"slow\"]\n#[allow(clippy::too_many_lines)]\n\
            #[allow(clippy::too_many_lines, reason = \"a table\")]\n";
        let found = problems("crates/core/src/a.rs", source);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
