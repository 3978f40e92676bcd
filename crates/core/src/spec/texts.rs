//! Whether an app's name and what its workers are given can be said: to people, and to the kernel.

use super::{AppSpec, SpecError};

/// Characters that cannot be seen, or change how others are read: Unicode's format characters, and its separators of lines and
/// paragraphs.
const UNSEEN: [(char, char); 17] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e007f}'),
];

impl AppSpec {
    /// Whether a name can be an app's: it can be seen, and is not read as something else where apps are named.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_name(name: &str) -> Result<(), SpecError> {
        if name.trim().is_empty() {
            return Err(SpecError::NoName);
        }
        let why = if name.contains(is_unseen) {
            "has characters that cannot be seen"
        } else if name == "all" {
            "means every app"
        } else if name.starts_with('-') {
            "begins as an option does"
        } else if name.starts_with('/') {
            "begins as a path or a regular expression does"
        } else {
            return Ok(());
        };
        let name = name.replace(is_unseen, "\u{fffd}");
        Err(SpecError::BadName { name, why })
    }

    /// Whether the name can be one, and whether the kernel can be given the rest: its texts end at a NUL.
    ///
    /// # Errors
    /// What cannot be said.
    pub fn check_texts(&self) -> Result<(), SpecError> {
        Self::check_name(&self.name)?;
        let has_nul = |text: &String| text.contains('\0');
        let is_bad = [
            (has_nul(&self.program), "program"),
            (self.args.iter().any(has_nul), "args"),
            (has_nul(&self.cwd), "cwd"),
            (self.env.iter().any(|(key, value)| has_nul(key) || has_nul(value)), "env"),
        ];
        match is_bad.iter().find(|(is_bad, _)| *is_bad) {
            Some((_, key)) => Err(SpecError::Nul { key }),
            None => Ok(()),
        }
    }
}

fn is_unseen(c: char) -> bool {
    c.is_control() || UNSEEN.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    #[test]
    fn names_can_be_seen_and_mean_one_app() {
        let refused = |name: &str| {
            let checked = AppSpec::new(name, "node").check(Limits::default());
            checked.err().map(|error| error.to_string())
        };
        for good in ["web", "a/b", "käse 2", "日本", "web:eu", "alle", "a-"] {
            assert_eq!(refused(good), None);
        }
        assert_eq!(refused(" ").unwrap(), "the app has no name");
        assert_eq!(refused("all").unwrap(), "the name `all` means every app: choose another");
        assert!(refused("-").unwrap().contains("begins as an option does"));
        assert!(refused("-f").unwrap().contains("begins as an option does"));
        assert!(refused("/web/").unwrap().contains("begins as a path"));
        for unseen in ["a\nb", "a\u{202e}b", "a\u{200b}b", "a\u{2066}b", "a\u{9b}b"] {
            assert_eq!(
                refused(unseen).unwrap(),
                "the name `a\u{fffd}b` has characters that cannot be seen: choose another"
            );
        }
    }

    #[test]
    fn the_kernel_is_given_whole_texts() {
        let refused = |change: fn(&mut AppSpec)| {
            let mut spec = AppSpec::new("web", "node");
            change(&mut spec);
            spec.check(Limits::default()).unwrap_err().to_string()
        };
        let nul = || "a\0b".to_owned();
        assert!(refused(|it| it.program = "a\0".into()).starts_with("program has a NUL character"));
        assert!(refused(|it| it.args = vec!["x".into(), "\0".into()]).starts_with("args has a NUL"));
        assert!(refused(|it| it.cwd = "/\0".into()).starts_with("cwd has a NUL"));
        assert!(refused(|it| it.env = vec![("A".into(), "\0".into())]).starts_with("env has a NUL"));
        assert!(AppSpec { env: vec![(nul(), nul())], ..AppSpec::new("web", "node") }.check_texts().is_err());
    }
}
