//! Rules for every text: no trailing blanks, no notes to self, no paths of one machine.

use std::path::Path;

use super::Problem;

// Put together here, or this file would break its own rules.
const NOTES: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
const MACHINE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];
/// Extensions of files that hold a program's output as it is.
const VERBATIM: [&str; 3] = ["case", "snap", "golden"];

pub(super) fn check(file: &Path, text: &str, problems: &mut Vec<Problem>) {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    let is_verbatim = VERBATIM.contains(&extension);
    for (index, line) in text.lines().enumerate() {
        let mut add = |what: String| problems.push(Problem::new(file, index + 1, what));
        if !is_verbatim && line.ends_with([' ', '\t', '\r']) {
            add("trailing whitespace".to_owned());
        }
        if let Some(note) = NOTES.iter().find(|note| holds_word(line, note)) {
            add(format!("{note}: do it, or file an issue"));
        }
        if let Some(path) = MACHINE_PATHS.iter().find(|path| holds_path(line, path)) {
            add(format!("{path}… is a path of one machine"));
        }
    }
}

fn holds_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric()).any(|part| part == word)
}

/// True for `/x/…` at the start of a path, not for `a/x/…`.
fn holds_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "._-}/*".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(file: &str, text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        check(Path::new(file), text, &mut problems);
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn blanks_at_the_end() {
        assert_eq!(problems("a.md", "x\ny \n"), ["a.md:2: trailing whitespace"]);
        assert!(problems("a.snap", "x \n").is_empty());
    }

    #[test]
    fn notes_to_self() {
        for note in NOTES {
            assert_eq!(problems("a.rs", &format!("// {note}: later")).len(), 1);
            assert!(problems("a.rs", &format!("// {note}LIST")).is_empty());
        }
    }

    #[test]
    fn paths_of_one_machine() {
        for path in MACHINE_PATHS {
            assert_eq!(problems("a.rs", &format!("open(\"{path}x\")")).len(), 1);
            assert!(problems("a.rs", &format!("open(\"{{base}}{path}x\")")).is_empty());
            assert!(problems("a.rs", &format!("a{path}b")).is_empty());
        }
    }
}
