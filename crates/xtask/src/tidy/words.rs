//! Words that this project replaced by better ones (docs/lexicon.md).
//!
//! Names are read as words: `isPrimary` is "is" and "primary". What other programs call their things
//! may be quoted by exactly the names listed here.

use std::path::Path;

use super::Problem;

/// The word, and what to say instead.
const BANNED: [(&str, &str); 3] = [("master", "primary"), ("god", "primary"), ("slave", "worker")];
/// Names of Node's, PM2's and nginx's own, as they are spelled there.
const QUOTED: [&str; 4] = ["isMaster", "setupMaster", "God Daemon", "master_process"];
/// Files that must name the words or are not ours to change.
const EXEMPT: [&str; 6] = [
    "CHANGELOG.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Cargo.lock",
    "docs/lexicon.md",
    "crates/xtask/src/tidy/words.rs",
];

pub(super) fn check(file: &Path, text: &str, problems: &mut Vec<Problem>) {
    if EXEMPT.iter().any(|exempt| file == Path::new(exempt)) {
        return;
    }
    for (index, line) in text.lines().enumerate() {
        let mut line = line.to_owned();
        for name in QUOTED {
            line = line.replace(name, "");
        }
        for word in words_of(&line) {
            let singular = word.strip_suffix('s').unwrap_or(&word);
            if let Some((banned, better)) = BANNED.iter().find(|(banned, _)| *banned == singular) {
                problems.push(Problem::new(file, index + 1, format!("say \"{better}\", not \"{banned}\"")));
            }
        }
    }
}

/// Lower-case words; a capital after a small letter starts a new one.
fn words_of(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in line.chars() {
        let starts_word = !c.is_ascii_alphabetic() || (c.is_ascii_uppercase() && after_lower);
        if starts_word {
            words.push(String::new());
        }
        if c.is_ascii_alphabetic()
            && let Some(word) = words.last_mut()
        {
            word.push(c.to_ascii_lowercase());
        }
        after_lower = c.is_ascii_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        check(Path::new("a.md"), text, &mut problems);
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn banned_in_any_spelling() {
        assert_eq!(problems("the\nMaster process"), ["a.md:2: say \"primary\", not \"master\""]);
        for text in ["master_pid", "isTheMasterOf", "GOD", "slaves", "gods."] {
            assert_eq!(problems(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn other_words_and_quoted_names_pass() {
        for text in ["mastery godfather enslaved", "if (cluster.isMaster) fork()", "cluster.setupMaster()"] {
            assert!(problems(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn the_lexicon_may_name_them() {
        let mut problems = Vec::new();
        check(Path::new("docs/lexicon.md"), "never master", &mut problems);
        assert!(problems.is_empty());
    }
}
