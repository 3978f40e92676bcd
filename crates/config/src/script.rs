//! A list of apps that is a program: it is run by the user's `node`, in a process of its own with a time limit, and what it
//! exports comes back as JSON. Whatever it prints, leaves running or ends with stays there.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::diagnostics::{Place, Source};
use crate::job::Surroundings;
use crate::json::{self, Dialect};
use crate::program::is_program;
use crate::tree::{Document, Fault, Value};
use crate::values;

mod places;

/// Which program runs the file, in place of `node` on `PATH`.
const NODE_VARIABLE: &str = "OXHERD_NODE";
/// How long it may take, in place of [`PATIENCE`].
const PATIENCE_VARIABLE: &str = "OXHERD_CONFIG_TIMEOUT";
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer results are refused.
const RESULT_BYTES_MAX: u64 = 4 << 20;
/// More of what it prints on stderr is not kept.
const STDERR_BYTES_MAX: u64 = 64 << 10;
/// What comes last before a process ends is waited for so long.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What is run; the file's path is its argument.
const BOOTSTRAP: &str = include_str!("script/bootstrap.js");

/// Runs the file at `path`, whose text is known, and reads what it exports.
pub(crate) fn read(path: &Path, source: &Source, surroundings: &Surroundings) -> Result<Document, Fault> {
    let evaluation = Evaluation { path, source, surroundings };
    let answer = evaluation.run()?;
    let mut document = json::read(&answer, Dialect::Json).map_err(|fault| no_place(fault.what))?;
    let Value::Object(entries) = &mut document.root.value else {
        return Err(no_place("node answered something else than was asked for"));
    };
    match entries.pop().map(|entry| (entry.key, entry.node)) {
        Some((key, node)) if key == "value" => {
            document.root = node;
            places::find(&mut document.root, &source.text);
            Ok(document)
        }
        Some((key, node)) if key == "error" => Err(evaluation.explain(&node.value)),
        _ => Err(no_place("it exports nothing: write module.exports = { apps: [ … ] }")),
    }
}

struct Evaluation<'a> {
    path: &'a Path,
    source: &'a Source,
    surroundings: &'a Surroundings,
}

/// A thread's end of what it reads.
type Answer = Receiver<io::Result<String>>;

impl Evaluation<'_> {
    /// The line that the bootstrap answers with.
    fn run(&self) -> Result<String, Fault> {
        let node = self.node()?;
        let patience = self.patience()?;
        let failed = |cause: io::Error| no_place(format!("cannot be run by {}: {cause}", node.display()));
        let (result, result_end) = io::pipe().map_err(failed)?;
        let shown_on = io::stderr().as_fd().try_clone_to_owned().map_err(failed)?;
        let mut child = self
            .command(&node)
            .args(["-e", BOOTSTRAP, "--"])
            .arg(self.path)
            .stdin(result_end)
            .stdout(shown_on)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stderr = child.stderr.take().map(|stderr| read_in_thread(stderr, STDERR_BYTES_MAX, false));
        let answer = read_in_thread(result, RESULT_BYTES_MAX, true);
        let answer = answer.recv_timeout(patience);
        let is_answered = matches!(&answer, Ok(Ok(line)) if line.ends_with('\n'));
        let status = end(&mut child, !is_answered && !matches!(&answer, Err(RecvTimeoutError::Timeout)));
        match answer {
            Ok(Ok(line)) if line.ends_with('\n') => Ok(line),
            Ok(Ok(line)) if line.len() as u64 >= RESULT_BYTES_MAX => {
                Err(no_place(format!("exports more than {RESULT_BYTES_MAX} bytes")))
            }
            Err(RecvTimeoutError::Timeout) => Err(Fault {
                hint: Some(format!("{PATIENCE_VARIABLE}=30s gives it longer")),
                ..no_place(format!("has exported nothing after {} s", patience.as_secs_f32()))
            }),
            _ => Err(self.explain_end(status, stderr)),
        }
    }

    fn command(&self, node: &Path) -> Command {
        let mut command = Command::new(node);
        command.env_clear().envs(self.surroundings.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    fn variable(&self, key: &str) -> Option<&OsString> {
        self.surroundings.environment.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    fn node(&self) -> Result<PathBuf, Fault> {
        if let Some(given) = self.variable(NODE_VARIABLE) {
            let path = self.surroundings.folder.join(given);
            let wrong = || {
                no_place(format!(
                    "cannot be read: {NODE_VARIABLE} is {}, which is no program",
                    path.display()
                ))
            };
            return if is_program(&path) { Ok(path) } else { Err(wrong()) };
        }
        let folders = self.variable("PATH").map(|path| std::env::split_paths(path).collect::<Vec<_>>());
        let mut candidates =
            folders.into_iter().flatten().map(|folder| self.surroundings.folder.join(folder).join("node"));
        candidates.find(|path| is_program(path)).ok_or_else(|| {
            let hint = format!("install node, or name it with {NODE_VARIABLE}");
            Fault { hint: Some(hint), ..no_place("cannot be read: it is for node, which is not on PATH") }
        })
    }

    fn patience(&self) -> Result<Duration, Fault> {
        let Some(given) = self.variable(PATIENCE_VARIABLE) else { return Ok(PATIENCE) };
        let span = values::parse_span(&given.to_string_lossy());
        let span = span.map_err(|why| no_place(format!("cannot be read: {PATIENCE_VARIABLE}: {why}")))?;
        Ok(Duration::from_millis(span.as_millis()))
    }

    /// What the script threw, at its place if that is in the file.
    fn explain(&self, error: &Value) -> Fault {
        let text = |key: &str| match error {
            Value::Object(entries) => {
                entries.iter().find(|entry| entry.key == key).and_then(|entry| match &entry.node.value {
                    Value::Text(text) => Some(text.as_str()),
                    _ => None,
                })
            }
            _ => None,
        };
        let message = text("message").unwrap_or("it failed");
        let stack = text("stack").unwrap_or("");
        let place = self.place_in(stack).or_else(|| {
            // Where a module cannot be parsed, only node itself says where.
            if message.starts_with("SyntaxError") { self.place_in(&self.syntax_check()) } else { None }
        });
        let first = message.lines().next().unwrap_or("it failed");
        // An older node takes a file without a package for CommonJS.
        let is_module = first.contains("outside a module") || first.contains("token 'export'");
        let hint =
            is_module.then(|| "`import` and `export` need the ending .config.mjs with this node".to_owned());
        Fault { place: place.unwrap_or(0..0), what: long(first), hint }
    }

    /// `PATH:LINE` or `PATH:LINE:COLUMN`, where the path is the file's.
    fn place_in(&self, text: &str) -> Option<Place> {
        let path = self.path.to_str()?;
        for (at, _) in text.match_indices(path) {
            let rest = text.get(at + path.len()..)?.strip_prefix(':');
            let mut numbers = rest.unwrap_or("").splitn(3, |c: char| !c.is_ascii_digit());
            let Some(line) = numbers.next().and_then(|line| line.parse::<usize>().ok()) else { continue };
            let has_column = rest
                .is_some_and(|rest| rest.get(line.to_string().len()..).is_some_and(|it| it.starts_with(':')));
            let column = numbers.next().and_then(|column| column.parse().ok()).filter(|_| has_column);
            return Some(self.source.place(line, column.unwrap_or_else(|| caret_column(text).unwrap_or(1))));
        }
        None
    }

    fn syntax_check(&self) -> String {
        let Ok(node) = self.node() else { return String::new() };
        let output = self.command(&node).arg("--check").arg(self.path).stdin(Stdio::null()).output();
        output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default()
    }

    /// The program ended before it had answered.
    fn explain_end(&self, status: Option<ExitStatus>, stderr: Option<Answer>) -> Fault {
        let stderr = stderr.and_then(|stderr| stderr.recv_timeout(LAST_WORDS).ok()?.ok()).unwrap_or_default();
        let ended = match status {
            Some(status) => format!("ended with {status} before it had exported anything"),
            None => "ended before it had exported anything".into(),
        };
        let place = self.place_in(&stderr).unwrap_or(0..0);
        let last =
            stderr.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with("Node.js v"));
        let said = last.map(|last| format!("; it said: {}", long(last))).unwrap_or_default();
        Fault { place, what: format!("{ended}{said}"), hint: None }
    }
}

/// Under the line that node quotes.
fn caret_column(text: &str) -> Option<usize> {
    let line =
        text.lines().find(|line| !line.trim().is_empty() && line.trim().bytes().all(|byte| byte == b'^'))?;
    line.find('^').map(|at| at + 1)
}

/// A message of somebody else's, in one line.
fn long(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    text.chars()
        .take(CHARS_MAX)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// The file as a whole is meant.
fn no_place(what: impl Into<String>) -> Fault {
    Fault { place: 0..0, what: what.into(), hint: None }
}

/// Reads to the end, or to the end of the first line, up to a limit, and throws away the rest.
fn read_in_thread(from: impl Read + Send + 'static, bytes_max: u64, one_line: bool) -> Answer {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut from = from;
        let (mut bytes, mut piece) = (Vec::new(), [0; 16 << 10]);
        let outcome = loop {
            match from.read(&mut piece) {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    let room = (bytes_max as usize).saturating_sub(bytes.len()).min(count);
                    bytes.extend(piece.iter().take(room));
                    if one_line && (bytes.last() == Some(&b'\n') || room < count) {
                        break Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        // Nobody may wait any more.
        drop(tell.send(outcome.map(|()| String::from_utf8_lossy(&bytes).into_owned())));
        if !one_line {
            drop(io::copy(&mut from, &mut io::sink()));
        }
    });
    told
}

/// Ends the process, which may first end by itself where it is about to. How it ended is told only then.
fn end(child: &mut Child, is_ending: bool) -> Option<ExitStatus> {
    let status = if is_ending { ended(child) } else { None };
    if status.is_none() {
        drop(child.kill());
        ended(child);
    }
    status
}

/// Looks again and again whether it has ended, for as long as last words may take.
fn ended(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + LAST_WORDS;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            Ok(status) => return status,
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests;
