//! The program called through a link named `pm2`, as somebody does who has always typed that.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::told::{masked, on_paper};
use crate::{Home, places};

/// Whose daemon it is, for the column of users.
const USER: &str = "somebody";

/// A home, and the link.
#[derive(Debug)]
pub struct Pm2 {
    home: Home,
    link: PathBuf,
}

impl Pm2 {
    /// A new home, without a daemon.
    #[allow(clippy::new_without_default, reason = "it makes something on disk")]
    pub fn new() -> Self {
        let home = Home::new();
        let link = home.surroundings().join("pm2");
        symlink(places::oxherd(), &link).expect("the folder is ours");
        let path = home.path();
        let home = home.with("PM2_HOME", path).with("USER", USER);
        Self { home, link }
    }

    /// What the link belongs to.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The link.
    pub fn link(&self) -> &Path {
        &self.link
    }

    /// `pm2` with these arguments, in the folder beside the home.
    pub fn command(&self, args: &[&str]) -> Command {
        self.called(&self.link, args)
    }

    /// Another name for the program, in the same folder.
    pub fn called(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = self.home.command_of(program, args);
        let folder = self.home.surroundings();
        command.current_dir(&folder).env("PWD", &folder).env_remove("OXHERD_HOME");
        command
    }

    /// Runs `pm2` with these arguments.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program can be run")
    }

    /// The same, which must end with code 0; returns its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        self.home.stdout_of("pm2", args, self.run(args))
    }

    /// What a run came to, on paper, after what was typed.
    pub fn told(&self, args: &[&str]) -> String {
        let paper = on_paper(&self.home, &self.run(args));
        format!("$ pm2 {}\n{}", args.join(" "), unframed(&paper))
    }
}

/// Without the rules of tables, whose lengths depend on the figures, and without figures of memory.
pub fn unframed(paper: &str) -> String {
    let is_rule = |line: &&str| line.starts_with(['┌', '├', '└']);
    let lines = paper.lines().filter(|line| !is_rule(line));
    lines.map(|line| line.split(' ').map(without_size).collect::<Vec<_>>().join(" ") + "\n").collect()
}

fn without_size(word: &str) -> &str {
    let is_size = |unit| word.strip_suffix(unit).is_some_and(|number: &str| number.parse::<f64>().is_ok());
    let is_date = word.len() == 24 && word.ends_with('Z') && word.starts_with("20");
    match word {
        _ if ["mb", "kb", "gb"].into_iter().any(is_size) => "#mb",
        _ if is_date => "#date",
        word => word,
    }
}

/// Compares with a fixture, which `OXHERD_UPDATE=1` writes anew.
pub fn assert_fixture(name: &str, told: &str) {
    let path = places::fixture("pm2").join(name);
    if std::env::var_os("OXHERD_UPDATE").is_some() {
        std::fs::write(&path, told).expect("the package is ours");
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    for (at, (told, wanted)) in told.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(told, wanted, "line {} of {}", at + 1, path.display());
    }
    assert_eq!(told.lines().count(), wanted.lines().count(), "{}:\n{told}", path.display());
}

/// A line of a table on a terminal, masked.
pub fn picture(text: &str) -> String {
    unframed(&text.lines().map(|line| masked(line) + "\n").collect::<String>())
}
