//! The format of case files, read and written.

use std::fmt::Write;

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Prose and empty lines.
    Prose(String),
    /// A file that is there from the start.
    File { name: String, text: String },
    /// Something that is typed.
    Step(Step),
}

impl Item {
    /// What is typed here, if anything.
    pub fn step(self) -> Option<Step> {
        match self {
            Self::Step(step) => Some(step),
            Self::Prose(_) | Self::File { .. } => None,
        }
    }
}

/// Something that is typed, and what is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// How often.
    pub way: Way,
    /// What is typed.
    pub line: String,
    /// All that is said in pipes, with the exit code.
    pub said: Vec<String>,
    /// What a terminal shows, with the exit code, where that is something else.
    pub shown: Option<Vec<String>>,
}

/// How often something is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Once.
    Once,
    /// Until the right thing is said.
    Until,
}

const FILE: &str = "=== ";
const END_OF_FILE: &str = "===";
/// Goes before each line that a terminal shows.
const SHOWN: &str = "> ";
/// What begins something else than what is said.
const MARKS: [&str; 6] = ["$ ", "? ", "# ", ">", "===", "\\"];

impl Way {
    fn of(line: &str) -> Option<(Self, &str)> {
        let once = line.strip_prefix("$ ").map(|line| (Self::Once, line));
        once.or_else(|| line.strip_prefix("? ").map(|line| (Self::Until, line)))
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Once => "$ ",
            Self::Until => "? ",
        }
    }
}

/// Reads a file.
pub(super) fn read(text: &str) -> Vec<Item> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut items, mut at) = (Vec::new(), 0);
    while let Some(line) = lines.get(at) {
        let (item, taken) = if let Some(name) = line.strip_prefix(FILE) {
            read_file(name, &lines[at + 1..])
        } else if let Some((way, typed)) = Way::of(line) {
            read_step(way, typed, &lines[at + 1..])
        } else {
            (Item::Prose((*line).to_owned()), 0)
        };
        items.push(item);
        at += 1 + taken;
    }
    items
}

fn read_file(name: &str, rest: &[&str]) -> (Item, usize) {
    let end = rest.iter().position(|line| *line == END_OF_FILE).expect("a file ends with ===");
    let text = rest[..end].iter().map(|line| format!("{line}\n")).collect();
    (Item::File { name: name.to_owned(), text }, end + 1)
}

fn read_step(way: Way, typed: &str, rest: &[&str]) -> (Item, usize) {
    let is_mark = |line: &str| MARKS[..5].iter().any(|mark| line.starts_with(mark));
    let unescaped = |line: &&str| line.strip_prefix('\\').unwrap_or(line).to_owned();
    let end = rest.iter().position(|line| is_code(line) || is_mark(line));
    let taken = end.filter(|end| is_code(rest[*end])).map_or(0, |end| end + 1);
    let shown = rest[taken..].iter().take_while(|line| taken > 0 && line.starts_with('>'));
    let shown: Vec<String> =
        shown.map(|line| line.strip_prefix(SHOWN).unwrap_or_default().to_owned()).collect();
    let step = Step {
        way,
        line: typed.to_owned(),
        said: rest[..taken].iter().map(unescaped).collect(),
        shown: Some(shown.clone()).filter(|lines| !lines.is_empty()),
    };
    (Item::Step(step), taken + shown.len())
}

fn is_code(line: &str) -> bool {
    let inner = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|code| !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Writes a file.
pub(super) fn write(items: &[Item]) -> String {
    let mut text = String::new();
    for item in items {
        match item {
            Item::Prose(line) => writeln!(text, "{line}"),
            Item::File { name, text: inner } => writeln!(text, "{FILE}{name}\n{inner}{END_OF_FILE}"),
            Item::Step(step) => write_step(&mut text, step),
        }
        .expect("a string takes everything");
    }
    text
}

fn write_step(text: &mut String, step: &Step) -> std::fmt::Result {
    writeln!(text, "{}{}", step.way.mark(), step.line)?;
    for line in &step.said {
        let escape = if MARKS.iter().any(|mark| line.starts_with(mark)) { "\\" } else { "" };
        writeln!(text, "{escape}{line}")?;
    }
    for line in step.shown.iter().flatten() {
        writeln!(text, "{}", format!("{SHOWN}{line}").trim_end())?;
    }
    Ok(())
}

/// The same file with what was said.
pub(super) fn with_told(items: &[Item], said: Vec<Vec<String>>, shown: Vec<Vec<String>>) -> Vec<Item> {
    let mut told = said.into_iter().zip(shown);
    let with = |item: &Item| match item {
        Item::Step(step) => {
            let (said, shown) = told.next().expect("each step was gone through");
            let shown = Some(shown).filter(|shown| *shown != as_shown(&said));
            Item::Step(Step { said, shown, ..step.clone() })
        }
        item => item.clone(),
    };
    items.iter().map(with).collect()
}

/// What a terminal shows of what was said, when it shows nothing else.
pub(super) fn as_shown(said: &[String]) -> Vec<String> {
    said.iter().map(|line| line.strip_prefix("! ").unwrap_or(line).to_owned()).collect()
}

/// Parts of a file, for comparing.
pub(super) fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n$ ").flat_map(|part| part.split("\n? "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Prose.\n\n=== a.js\nlet a = 1;\n\n===\n$ oxherd ls\na  b\n! oh\n\\$ 1\n[0]\n> a\n>\n> [0]\n\n\
                        ? cat log\n[0]\n$ oxherd stop\n";

    #[test]
    fn what_is_read_is_written() {
        let items = read(TEXT);
        assert_eq!(write(&items), TEXT);
        let steps: Vec<Step> = items.into_iter().filter_map(Item::step).collect();
        assert_eq!(steps[0].said, ["a  b", "! oh", "$ 1", "[0]"]);
        assert_eq!(steps[0].shown.as_deref(), Some(&["a".to_owned(), String::new(), "[0]".to_owned()][..]));
        assert_eq!((steps[1].way, steps[1].line.as_str()), (Way::Until, "cat log"));
        assert!(steps[2].said.is_empty());
    }
}
