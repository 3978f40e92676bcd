//! Goes through what is typed in a case, with pipes or on a terminal.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::paper::{Item, Step, Way, as_shown};
use crate::pm2::unframed;
use crate::screen::Session;
use crate::told::masked;
use crate::{DEADLINE, Pm2, places};

/// Where everything goes that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Pipe,
    Terminal,
}

/// Wide enough for every line: where lines break depends on the length of paths.
const WIDTH: u16 = 400;
/// What prints a figure that a case asks for.
const PICKS: &str = "node pick.js ";
/// What is said where the machine is slow.
const SLOW: &str = " is still there although it was killed";
/// Between two tries of what is typed until the right thing is said.
const TRY_EVERY: Duration = Duration::from_millis(20);
/// The same deadline while a file is written anew: what is said then may be new.
const UPDATE_DEADLINE: Duration = Duration::from_secs(4);
/// What news of several workers at once has in it: it comes in any order.
const NEWS: [&str; 5] =
    [" is ready after ", " ended with ", " was ended by ", " is ready, pid ", " exited with "];

/// What was said after each step.
pub(super) fn go_through(items: &[Item], mode: Mode) -> Vec<Vec<String>> {
    let place = Place::new(items);
    let steps = items.iter().filter_map(|item| match item {
        Item::Step(step) => Some(step),
        Item::Prose(_) | Item::File { .. } => None,
    });
    steps.map(|step| place.take(step, mode)).collect()
}

/// A home, and what is replaced in what is said there.
struct Place {
    pm2: Pm2,
    folder: String,
    node: String,
}

impl Place {
    fn new(items: &[Item]) -> Self {
        let pm2 = Pm2::new();
        let folder = pm2.home().surroundings();
        let programs = super::folder().join("programs");
        for entry in fs::read_dir(programs).expect("the package is ours").filter_map(Result::ok) {
            fs::copy(entry.path(), folder.join(entry.file_name())).expect("the folder is ours");
        }
        for item in items {
            if let Item::File { name, text } = item {
                fs::write(folder.join(name), text).expect("the folder is ours");
            }
        }
        symlink(places::oxherd(), folder.join("oxherd")).expect("the folder is ours");
        let node = places::node(places::DEFAULT_NODE);
        let node = node.parent().expect("a program is in a folder").display().to_string();
        Self { folder: folder.display().to_string(), node, pm2 }
    }

    fn take(&self, step: &Step, mode: Mode) -> Vec<String> {
        let wanted = match mode {
            Mode::Pipe => step.said.clone(),
            Mode::Terminal => step.shown.clone().unwrap_or_else(|| as_shown(&step.said)),
        };
        let is_update = std::env::var_os("OXHERD_UPDATE").is_some();
        let until = Instant::now() + if is_update { UPDATE_DEADLINE } else { DEADLINE };
        loop {
            let told = self.once(&step.line, mode);
            if step.way == Way::Once || told == wanted || Instant::now() > until {
                return told;
            }
            std::thread::park_timeout(TRY_EVERY);
        }
    }

    fn once(&self, line: &str, mode: Mode) -> Vec<String> {
        let is_call = ["oxherd ", "pm2 "].iter().any(|program| line.starts_with(program));
        let is_led_on = ["|", ">", "<", ";", "&"].iter().any(|word| line.split(' ').any(|it| it == *word));
        let command = self.command(line);
        if mode == Mode::Terminal && is_call && !is_led_on {
            let (code, shown, ..) = Session::start_command(&command, WIDTH).end_anyhow();
            let code = code.unwrap_or(-1);
            return self.lines(&shown, "", line).into_iter().chain([format!("[{code}]")]).collect();
        }
        let Output { status, stdout, stderr } = { command }.output().expect("there is a shell");
        let said = self.lines(&String::from_utf8_lossy(&stdout), "", line);
        let complained = self.lines(&String::from_utf8_lossy(&stderr), "! ", line);
        let code = status.code().unwrap_or(-1);
        let all: Vec<String> = said.into_iter().chain(complained).chain([format!("[{code}]")]).collect();
        if mode == Mode::Terminal { as_shown(&all) } else { all }
    }

    /// A line for the shell, in the folder beside the home, with a limit of time.
    fn command(&self, line: &str) -> Command {
        let mut command =
            self.pm2.called("timeout".as_ref(), &["--foreground", "--kill-after=1", "30", "sh", "-c", line]);
        let inherited = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
        let path = format!("{}:{}", self.folder, inherited.unwrap_or_default().display());
        command.env("PATH", path).env("HOME", &self.folder).env("OXHERD_HOME", self.pm2.home().path());
        command
    }

    /// What was said after this was typed, without what differs from run to run.
    fn lines(&self, text: &str, prefix: &str, typed: &str) -> Vec<String> {
        let text = text.replace(&self.folder, "~").replace(&self.node, "NODE");
        let is_call = !super::typed(typed).is_empty() && !typed.contains(PICKS);
        let text = if is_call { without_figures(&text) } else { text };
        let mut lines: Vec<String> = text.lines().map(|line| format!("{prefix}{line}")).collect();
        lines.retain(|line| !line.contains(SLOW));
        let of_herd = ["slot ", "oxherd | ", "! oxherd | "];
        if lines.iter().any(|line| of_herd.iter().any(|speaker| line.starts_with(speaker))) {
            // Whether a worker or the primary speaks first is chance.
            lines.sort_unstable();
        }
        let is_news = |line: &String| NEWS.iter().any(|news| line.contains(news));
        lines.chunk_by_mut(|one, next| is_news(one) && is_news(next)).for_each(<[String]>::sort_unstable);
        lines
    }
}

/// Without what differs from run to run; what lines begin with stays.
fn without_figures(text: &str) -> String {
    let of_line = |line: &str| {
        let rest = line.trim_start();
        let indent = line.strip_suffix(rest).unwrap_or_default();
        unframed(&masked(rest)).lines().map(|rest| format!("{indent}{rest}\n")).collect::<String>()
            + if rest.is_empty() { "\n" } else { "" }
    };
    text.lines().map(of_line).collect()
}
