//! From a script to the program that is executed: by option, extension, `#!` line, or the file itself.
//!
//! It only looks; nothing is started here. What is found is absolute, so that neither the workers' folder nor
//! their `PATH` can change it.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use oxherd_core::Sockets;
use thiserror::Error;

use crate::job::Origin;

/// Linux reads no more of a `#!` line.
const SHEBANG_BYTES_MAX: u64 = 256;
/// File names that a folder's main script often has.
const USUAL_SCRIPTS: [&str; 5] = ["index.js", "server.js", "app.js", "main.js", "main.py"];

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The script as written.
    pub script: &'a str,
    /// The program that runs the script; `none` for the script itself.
    pub interpreter: Option<&'a str>,
    /// The interpreter's own arguments.
    pub interpreter_args: &'a [String],
    /// The script's own arguments.
    pub args: &'a [String],
    /// The folder that paths are relative to.
    pub folder: &'a Path,
    /// The workers' `PATH`.
    pub path: Option<&'a str>,
    /// How to name things when it fails, and whether a line for the shell may stand in place of the script.
    pub origin: Origin,
}

/// What is to be executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The absolute path of the program.
    pub program: String,
    /// Its arguments: the interpreter's, the script unless it is the program, and the script's own.
    pub args: Vec<String>,
    /// Over the channel where it speaks Node's cluster protocol; any other program is lent its sockets.
    pub sockets: Sockets,
    /// What it was made of.
    pub written: Written,
}

/// A command as people think of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The absolute path of the script, or of the program.
    pub script: String,
    /// The script's own arguments.
    pub args: Vec<String>,
    /// What runs the script, by the name that was used; nothing where it runs by itself.
    pub interpreter: Option<String>,
    /// The interpreter's own arguments.
    pub interpreter_args: Vec<String>,
}

/// Why a script cannot be run. Each names the thing, the cause and the way out.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// There is no such file.
    #[error("cannot run {script}: no such file{place}; {hint}")]
    NoScript { script: String, place: String, hint: String },
    /// The file cannot be looked at or read.
    #[error("cannot read {script}: {}; check the permissions of the file and of its folders", words(cause))]
    Unreadable {
        script: String,
        #[source]
        cause: io::Error,
    },
    /// A folder in place of a script.
    #[error("cannot run {script}: it is a folder; name the file in it, such as {example}")]
    Folder { script: String, example: String },
    /// A device, a pipe or a socket.
    #[error("cannot run {script}: it is not a regular file; name a script or a program")]
    NotAFile { script: String },
    /// Nobody can execute it.
    #[error(
        "cannot run {script}: it is not executable and no interpreter is known for it; name one with {}, or make \
         it executable (chmod +x)",
        origin.interpreter()
    )]
    NotExecutable { script: String, origin: Origin },
    /// The interpreter is not installed.
    #[error(
        "cannot run {script}: interpreter {name} {cause}; install it, or name another with {}",
        origin.interpreter()
    )]
    NoInterpreter { script: String, name: String, cause: &'static str, origin: Origin },
    /// Interpreter arguments for a program without an interpreter.
    #[error(
        "cannot use {}: {script} runs without an interpreter; give its arguments {}",
        origin.node_args(),
        origin.args()
    )]
    NoUseForArgs { script: String, origin: Origin },
    /// Arguments for a line that has its own.
    #[error("cannot use {} with a line for the shell: {script}; write them in the line", origin.its_args())]
    NoArgsForLine { script: String, origin: Origin },
    /// The path cannot be told to others.
    #[error("cannot run {script}: its path is not UTF-8; move it to a folder with a plain name")]
    NotText { script: String },
}

/// An interpreter and its own arguments, as somebody wrote them.
struct Interpreter {
    name: String,
    args: Vec<String>,
}

impl Wanted<'_> {
    /// Finds what is to be executed.
    pub fn find(&self) -> Result<Program, ProgramError> {
        let script = absolute(self.folder, self.script);
        let metadata = match fs::metadata(&script) {
            Ok(metadata) => metadata,
            Err(cause) => return self.find_command().unwrap_or_else(|| Err(self.missing(cause))),
        };
        self.check_file(&script, &metadata)?;
        match self.choose_interpreter(&script)? {
            Some(interpreter) => self.interpreted(&script, &interpreter),
            None => self.direct(&script, &metadata),
        }
    }

    /// What may stand in place of a script: a program on `PATH`, or a line for the shell.
    fn find_command(&self) -> Option<Result<Program, ProgramError>> {
        let is_plain = self.interpreter.is_none_or(|name| name == "none");
        if !is_plain {
            return None;
        }
        let is_line = self.origin != Origin::Words && is_line(self.script);
        let found = match is_line {
            true => Some(self.on_path("bash").unwrap_or_else(|| PathBuf::from("/bin/sh"))),
            false if self.script.contains('/') => None,
            false => self.on_path(self.script),
        };
        found.map(|program| self.command(&program, is_line))
    }

    fn command(&self, program: &Path, is_line: bool) -> Result<Program, ProgramError> {
        if !self.interpreter_args.is_empty() {
            return Err(self.no_use_for_args());
        }
        if is_line && !self.args.is_empty() {
            return Err(ProgramError::NoArgsForLine { script: self.script.into(), origin: self.origin });
        }
        let args = if is_line { vec!["-c".into(), self.script.into()] } else { self.args.to_vec() };
        Ok(plain(self.text(program)?, args, usual_sockets(program)))
    }

    fn choose_interpreter(&self, script: &Path) -> Result<Option<Interpreter>, ProgramError> {
        let plain = |name: &str| Interpreter { name: name.into(), args: Vec::new() };
        match self.interpreter {
            Some("none") => return Ok(None),
            Some(name) => return Ok(Some(plain(name))),
            None => {}
        }
        match self.by_extension(script) {
            Some(name) => Ok(Some(plain(name))),
            None => self.shebang_of(script),
        }
    }

    fn by_extension(&self, script: &Path) -> Option<&'static str> {
        Some(match script.extension()?.to_str()? {
            "js" | "cjs" | "mjs" | "ts" | "cts" | "mts" => "node",
            "py" => "python3",
            "sh" if self.on_path("bash").is_some() => "bash",
            "sh" => "sh",
            "rb" => "ruby",
            "php" => "php",
            "pl" => "perl",
            _ => return None,
        })
    }

    /// The interpreter of the script's first line. A program that may be executed but not read has none.
    fn shebang_of(&self, script: &Path) -> Result<Option<Interpreter>, ProgramError> {
        let mut head = Vec::new();
        let read = File::open(script).and_then(|file| file.take(SHEBANG_BYTES_MAX).read_to_end(&mut head));
        match read {
            Ok(_) => Ok(parse_shebang(&head)),
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            Err(cause) => Err(self.unreadable(cause)),
        }
    }

    fn interpreted(&self, script: &Path, interpreter: &Interpreter) -> Result<Program, ProgramError> {
        File::open(script).map_err(|cause| self.unreadable(cause))?;
        let program = self.locate(&interpreter.name)?;
        let written = Written {
            script: self.text(script)?,
            args: self.args.to_vec(),
            interpreter: Some(interpreter.name.clone()),
            interpreter_args: [&interpreter.args, self.interpreter_args].concat(),
        };
        let mut args = written.interpreter_args.clone();
        args.push(written.script.clone());
        args.extend_from_slice(self.args);
        let sockets = usual_sockets(&program);
        Ok(Program { program: self.text(&program)?, args, sockets, written })
    }

    fn direct(&self, script: &Path, metadata: &Metadata) -> Result<Program, ProgramError> {
        if !self.interpreter_args.is_empty() {
            return Err(self.no_use_for_args());
        }
        if !is_executable(metadata) {
            return Err(ProgramError::NotExecutable { script: self.script.into(), origin: self.origin });
        }
        Ok(plain(self.text(script)?, self.args.to_vec(), usual_sockets(script)))
    }

    fn locate(&self, name: &str) -> Result<PathBuf, ProgramError> {
        let missing = |cause| ProgramError::NoInterpreter {
            script: self.script.into(),
            name: name.into(),
            cause,
            origin: self.origin,
        };
        if !name.contains('/') {
            return self.on_path(name).ok_or_else(|| missing("is not on PATH"));
        }
        let path = absolute(self.folder, name);
        match fs::metadata(&path) {
            Err(_) => Err(missing("does not exist")),
            Ok(metadata) if !metadata.is_file() || !is_executable(&metadata) => {
                Err(missing("is not executable"))
            }
            Ok(_) => Ok(path),
        }
    }

    fn on_path(&self, name: &str) -> Option<PathBuf> {
        let candidates = std::env::split_paths(self.path?).map(|folder| self.folder.join(folder).join(name));
        candidates.into_iter().find(|path| is_program(path))
    }

    fn check_file(&self, script: &Path, metadata: &Metadata) -> Result<(), ProgramError> {
        let name = self.script.to_owned();
        if metadata.is_dir() {
            let usual = USUAL_SCRIPTS.iter().find(|usual| script.join(usual).is_file());
            let example = Path::new(&name).join(usual.unwrap_or(&USUAL_SCRIPTS[0])).display().to_string();
            return Err(ProgramError::Folder { script: name, example });
        }
        if !metadata.is_file() {
            return Err(ProgramError::NotAFile { script: name });
        }
        Ok(())
    }

    fn missing(&self, cause: io::Error) -> ProgramError {
        if !matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
            return self.unreadable(cause);
        }
        let on_path = (!self.script.contains('/')).then(|| self.on_path(self.script)).flatten();
        let hint = match on_path {
            Some(path) => format!("for the program of that name, write {}", path.display()),
            None => "check the path of the script".into(),
        };
        let relative = !self.script.starts_with('/');
        let place = if relative { format!(" in {}", self.folder.display()) } else { String::new() };
        ProgramError::NoScript { script: self.script.into(), place, hint }
    }

    fn no_use_for_args(&self) -> ProgramError {
        ProgramError::NoUseForArgs { script: self.script.into(), origin: self.origin }
    }

    fn unreadable(&self, cause: io::Error) -> ProgramError {
        ProgramError::Unreadable { script: self.script.into(), cause }
    }

    fn text(&self, path: &Path) -> Result<String, ProgramError> {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| ProgramError::NotText { script: path.display().to_string() })
    }
}

/// Whether what is not the name of a file is a line for the shell.
pub(crate) fn is_line(script: &str) -> bool {
    script.trim().contains(char::is_whitespace)
}

/// A program that runs by itself.
fn plain(program: String, args: Vec<String>, sockets: Sockets) -> Program {
    let written = Written { script: program.clone(), args: args.clone(), ..Written::default() };
    Program { program, args, sockets, written }
}

/// `path` below `folder`, without `.` in it. Symbolic links stay: a reload follows them anew.
pub fn absolute(folder: &Path, path: &str) -> PathBuf {
    folder.join(path).components().collect()
}

/// What went wrong, in the words that people use, without a number.
pub fn words(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound => "it does not exist",
        io::ErrorKind::NotADirectory => "a part of the path is not a folder",
        io::ErrorKind::PermissionDenied => "permission denied",
        io::ErrorKind::InvalidFilename => "the name is too long",
        _ => "the system refuses it",
    }
}

/// Whether it is a file that may be executed.
pub(crate) fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && is_executable(&metadata))
}

fn is_executable(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o111 != 0
}

/// How the workers of a program come by their sockets where nobody said.
fn usual_sockets(program: &Path) -> Sockets {
    if is_node(program) { Sockets::Channel } else { Sockets::Universal }
}

/// `node`, `nodejs`, and those with a version such as `node18` or `node-22.1`.
fn is_node(program: &Path) -> bool {
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let version = name.strip_prefix("nodejs").or_else(|| name.strip_prefix("node"));
    version.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || "-._".contains(c)))
}

/// The interpreter of `#!/usr/bin/env [-S] NAME ARGS` or `#!/path ARG`. Other uses of `env` are left to it.
fn parse_shebang(head: &[u8]) -> Option<Interpreter> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.trim();
    let (path, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let rest = rest.trim();
    if path.is_empty() {
        return None;
    }
    if path.rsplit('/').next() != Some("env") || rest.is_empty() {
        let args = if rest.is_empty() { Vec::new() } else { vec![rest.to_owned()] };
        return Some(Interpreter { name: path.into(), args });
    }
    let mut words = rest.split_whitespace().map(str::to_owned).peekable();
    words.next_if(|word| word == "-S");
    let name = words.next()?;
    let is_name = !name.starts_with('-') && !name.contains('=');
    is_name.then(|| Interpreter { name, args: words.collect() })
}

#[cfg(test)]
mod tests {
    use std::ops::Deref;

    use super::*;
    use crate::testing::Folder;

    /// A folder with interpreters that only exist, and scripts.
    struct Setup {
        folder: Folder,
        path: String,
    }

    impl Deref for Setup {
        type Target = Folder;
        fn deref(&self) -> &Folder {
            &self.folder
        }
    }

    fn folder() -> Setup {
        let folder = Folder::new();
        for name in ["node", "node18", "python3", "sh", "bash", "ruby", "bun"] {
            folder.file(&format!("bin/{name}"), "", 0o755);
        }
        folder.file("server.js", "", 0o644);
        Setup { path: folder.path().join("bin").display().to_string(), folder }
    }

    fn find<'a>(
        setup: &'a Setup,
        script: &'a str,
        change: impl FnOnce(&mut Wanted<'a>),
    ) -> Result<Program, String> {
        let mut wanted = Wanted {
            script,
            interpreter: None,
            interpreter_args: &[],
            args: &[],
            folder: setup.path(),
            path: Some(&setup.path),
            origin: Origin::CommandLine,
        };
        change(&mut wanted);
        wanted.find().map_err(|error| error.to_string())
    }

    /// The command with the folder left out.
    fn shown(folder: &Folder, found: Result<Program, String>) -> String {
        let text = match found {
            Ok(Program { program, args, sockets, .. }) => format!("{program} {} {sockets:?}", args.join(" ")),
            Err(error) => error,
        };
        text.replace(folder.path().to_str().unwrap(), "~").replace("  ", " ")
    }

    #[test]
    fn the_extension_decides_first() {
        let folder = folder();
        for name in ["a.ts", "a.mjs", "a.py", "a.sh", "a.rb"] {
            folder.file(name, "#!/bin/other", 0o644);
        }
        let show = |script: &str| shown(&folder, find(&folder, script, |_| {}));
        assert_eq!(show("./server.js"), "~/bin/node ~/server.js Channel");
        assert_eq!(show("a.ts"), "~/bin/node ~/a.ts Channel");
        assert_eq!(show("a.mjs"), "~/bin/node ~/a.mjs Channel");
        assert_eq!(show("a.py"), "~/bin/python3 ~/a.py Universal");
        assert_eq!(show("a.sh"), "~/bin/bash ~/a.sh Universal");
        assert_eq!(show("a.rb"), "~/bin/ruby ~/a.rb Universal");
    }

    #[test]
    fn the_first_line_decides_next() {
        let folder = folder();
        let node = folder.path().join("bin/node18").display().to_string();
        folder.file("env", "#!/usr/bin/env node\n", 0o644);
        folder.file("split", "#! /usr/bin/env -S node --inspect -r x\n", 0o644);
        folder.file("direct", &format!("#!{node} --one two\nrest"), 0o644);
        folder.file("other", "#!/usr/bin/env bun\n", 0o644);
        folder.file("gone", "#!/no/such/node\n", 0o755);
        let show = |script: &str| shown(&folder, find(&folder, script, |_| {}));
        assert_eq!(show("env"), "~/bin/node ~/env Channel");
        assert_eq!(show("split"), "~/bin/node --inspect -r x ~/split Channel");
        assert_eq!(show("direct"), "~/bin/node18 --one two ~/direct Channel");
        assert_eq!(show("other"), "~/bin/bun ~/other Universal");
        assert_eq!(
            show("gone"),
            "cannot run gone: interpreter /no/such/node does not exist; install it, or name another with \
             --interpreter"
        );
    }

    #[test]
    fn the_file_itself_is_the_last_choice() {
        let folder = folder();
        folder.file("tool", "\x7fELF", 0o755);
        folder.file("data", "\x7fELF", 0o644);
        folder.file("odd", "#!/usr/bin/env A=1 node\n", 0o755);
        let show = |script: &str| shown(&folder, find(&folder, script, |_| {}));
        assert_eq!(show("tool"), "~/tool Universal");
        assert_eq!(show("odd"), "~/odd Universal");
        assert!(show("data").starts_with("cannot run data: it is not executable"));
    }

    #[test]
    fn an_interpreter_can_be_named() {
        let folder = folder();
        folder.file("tool", "", 0o755);
        let args = ["--inspect".to_owned()];
        let with = |script: &str, name: &str| {
            shown(&folder, find(&folder, script, |wanted| wanted.interpreter = Some(name)))
        };
        assert_eq!(with("server.js", "node18"), "~/bin/node18 ~/server.js Channel");
        assert_eq!(with("server.js", "./bin/bun"), "~/bin/bun ~/server.js Universal");
        assert_eq!(with("tool", "none"), "~/tool Universal");
        assert!(with("server.js", "none").contains("it is not executable"));
        assert!(with("server.js", "deno").contains("interpreter deno is not on PATH"));
        assert!(with("server.js", "./server.js").contains("interpreter ./server.js is not executable"));

        let found = find(&folder, "server.js", |wanted| wanted.interpreter_args = &args);
        assert_eq!(shown(&folder, found), "~/bin/node --inspect ~/server.js Channel");
        let found = find(&folder, "tool", |wanted| wanted.interpreter_args = &args);
        assert!(found.unwrap_err().starts_with("cannot use --node-args: tool runs without"));
    }

    #[test]
    fn words_of_a_command_line_may_begin_with_a_program() {
        let folder = folder();
        let of_words = |script| shown(&folder, find(&folder, script, |wanted| wanted.origin = Origin::Words));
        assert_eq!(of_words("bun"), "~/bin/bun Universal");
        assert_eq!(of_words("node"), "~/bin/node Channel");
        assert_eq!(of_words("./server.js"), "~/bin/node ~/server.js Channel");
        assert!(of_words("bun it").starts_with("cannot run bun it: no such file"), "{}", of_words("bun it"));
    }

    #[test]
    fn a_command_line_may_name_a_program_or_a_line_for_the_shell() {
        let folder = folder();
        folder.file("two words.js", "", 0o644);
        let show = |script: &str| shown(&folder, find(&folder, script, |_| {}));
        assert_eq!(show("ruby"), "~/bin/ruby Universal");
        assert_eq!(show("two words.js"), "~/bin/node ~/two words.js Channel");
        assert_eq!(show("ruby x.rb && y"), "~/bin/bash -c ruby x.rb && y Universal");
        assert!(show("./ruby").contains("no such file"));
        let args = ["-v".to_owned()];
        let with_args = |script| shown(&folder, find(&folder, script, |wanted| wanted.args = &args));
        assert_eq!(with_args("ruby"), "~/bin/ruby -v Universal");
        assert_eq!(
            with_args("ruby x"),
            "cannot use arguments after -- with a line for the shell: ruby x; write them in the line"
        );
    }

    #[test]
    fn a_file_may_name_a_program_or_a_line_for_the_shell() {
        let folder = folder();
        let in_file = |script| shown(&folder, find(&folder, script, |wanted| wanted.origin = Origin::File));
        assert_eq!(in_file("ruby"), "~/bin/ruby Universal");
        assert_eq!(in_file("server.js"), "~/bin/node ~/server.js Channel");
        assert_eq!(in_file("ruby -v && echo"), "~/bin/bash -c ruby -v && echo Universal");
        assert!(in_file("./ruby").contains("no such file"));
        let args = ["-x".to_owned()];
        let refused = find(&folder, "ruby", |wanted| {
            (wanted.origin, wanted.interpreter_args) = (Origin::File, &args);
        });
        assert_eq!(
            refused.unwrap_err(),
            "cannot use `node_args`: ruby runs without an interpreter; give its arguments in `args`"
        );
        let refused = find(&folder, "ruby -v", |wanted| (wanted.origin, wanted.args) = (Origin::File, &args));
        assert_eq!(
            refused.unwrap_err(),
            "cannot use `args` with a line for the shell: ruby -v; write them in the line"
        );
        let with_node = |script| {
            let found = find(&folder, script, |wanted| {
                (wanted.origin, wanted.interpreter) = (Origin::File, Some("node"));
            });
            found.unwrap_err()
        };
        assert!(with_node("ruby").contains("no such file"));
        assert!(with_node("a b").contains("no such file"));
    }

    #[test]
    fn what_cannot_be_run_is_named_with_a_way_out() {
        let folder = folder();
        folder.file("web/server.js", "", 0o644);
        let show = |script: &str| shown(&folder, find(&folder, script, |_| {}));
        assert_eq!(show("no.js"), "cannot run no.js: no such file in ~; check the path of the script");
        let by_node = find(&folder, "ruby", |wanted| wanted.interpreter = Some("node"));
        assert_eq!(
            shown(&folder, by_node),
            "cannot run ruby: no such file in ~; for the program of that name, write ~/bin/ruby"
        );
        assert_eq!(show("perl"), "cannot run perl: no such file in ~; check the path of the script");
        assert_eq!(show("web"), "cannot run web: it is a folder; name the file in it, such as web/server.js");
        assert!(show("bin").ends_with("such as bin/index.js"));
        assert!(show("server.js/x").contains("no such file"));
        assert!(show("/dev/null").contains("it is not a regular file"));
        let found = find(&folder, "server.js", |wanted| wanted.path = None);
        assert!(found.unwrap_err().contains("interpreter node is not on PATH"));
    }

    #[test]
    fn a_script_without_read_permission_is_refused_before_anything_starts() {
        let folder = folder();
        let script = folder.file("secret.js", "", 0o000);
        if File::open(&script).is_ok() {
            return; // The superuser reads everything.
        }
        let error = find(&folder, "secret.js", |_| {}).unwrap_err();
        assert!(error.starts_with("cannot read secret.js: permission denied; "), "{error}");
    }

    #[test]
    fn node_is_known_by_its_name() {
        let node = ["node", "/usr/bin/nodejs", "node18", "node-22.1", "node_20"];
        assert!(node.iter().all(|name| is_node(Path::new(name))));
        assert!(!["nodemon", "bun", "ts-node", "node-gyp", ""].iter().any(|name| is_node(Path::new(name))));
    }
}
