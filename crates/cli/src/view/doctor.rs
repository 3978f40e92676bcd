//! What was found out about lending sockets: a line for each thing that was tried, and what follows for a program.

use std::io;

use oxherd_config::program::Program;
use oxherd_engine::core::Sockets;
use oxherd_engine::probe::{Binary, Findings, Format};

use super::form::Form;
use super::paint::{Paint, Styled, printable, width, wrap};

/// Fewer descriptors than this are soon used up by connections.
const FEW_DESCRIPTORS: u64 = 4096;
const GAP: usize = 2;
const HEADINGS: [&str; 3] = ["check", "result", "reason and consequence"];
const OPEN_THE_CONTAINER: &str = "allow seccomp, pidfd_getfd and process_vm_readv in the container's profile (--cap-add SYS_PTRACE with Docker)";

/// A program that somebody asks about.
#[derive(Debug)]
pub(crate) struct Patient {
    /// As it was written.
    pub(crate) script: String,
    /// What would be executed.
    pub(crate) program: Program,
    /// It is a script, and the program another.
    pub(crate) is_script: bool,
    pub(crate) binary: Option<Binary>,
}

impl Patient {
    /// Its system calls are not those that are trapped.
    pub(crate) fn is_foreign(&self) -> bool {
        self.binary.is_some_and(|binary| binary.format == Format::Foreign)
    }
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Yes,
    /// It works, and something should be known.
    Mind,
    No,
}

/// A line of the table: what was tried, how it came out, and why and what follows.
#[derive(Debug)]
struct Check {
    name: &'static str,
    mark: Mark,
    meaning: String,
}

impl Check {
    fn new(name: &'static str, mark: Mark, meaning: impl Into<String>) -> Self {
        Self { name, mark, meaning: meaning.into() }
    }
}

/// All of it.
pub(crate) fn report(findings: &Findings, patient: Option<&Patient>, form: Form) -> String {
    let checks = [
        trap(findings),
        sleep(findings),
        looked(
            findings,
            "read memory",
            &findings.trial.memory,
            "the address that a worker binds is read from it",
        ),
        looked(
            findings,
            "copy sockets",
            &findings.trial.duplicate,
            "a worker's own socket is kept when it crashes",
        ),
        put(findings),
        tracing(findings),
        steering(findings),
        io_uring(findings),
        cgroups(findings),
        descriptors(findings),
    ];
    let mut text = heading(&format!("Lending sockets on Linux {}", findings.kernel), form);
    text += &table(&checks, form);
    text.push('\n');
    let conclusion = match patient {
        Some(patient) => of_program(findings, patient),
        None => of_any(findings),
    };
    text + &paragraphs(&conclusion, form)
}

fn trap(findings: &Findings) -> Check {
    let name = "trap calls";
    match &findings.trial.listener {
        Ok(listener) if listener.no_new_privs => Check::new(
            name,
            Mark::Mind,
            "only with no_new_privs, because this is not root: setuid programs such as sudo and ping, and file \
             capabilities, have no effect in workers and in what they start",
        ),
        Ok(_) => {
            Check::new(name, Mark::Yes, "without no_new_privs: setuid programs keep their effect in workers")
        }
        Err(why) => Check::new(name, Mark::No, why.clone()),
    }
}

fn sleep(findings: &Findings) -> Check {
    match findings.sleeps_soundly {
        true => Check::new(
            "sleep soundly",
            Mark::Yes,
            "a signal does not break off a call that waits for its answer",
        ),
        false => Check::new(
            "sleep soundly",
            Mark::Mind,
            "Linux 5.19 or later: here a signal breaks off a call that waits for its answer, and it is made again",
        ),
    }
}

/// A way to look into a worker.
fn looked(findings: &Findings, name: &'static str, result: &io::Result<()>, purpose: &str) -> Check {
    match result {
        Ok(()) => Check::new(name, Mark::Yes, purpose),
        Err(error) => Check::new(name, Mark::No, format!("{}: {}", words(error), way_into(findings, error))),
    }
}

/// What to do where a worker may not be looked into.
fn way_into(findings: &Findings, error: &io::Error) -> String {
    match (error.kind(), findings.tracing_scope) {
        (io::ErrorKind::PermissionDenied, Some(scope @ 2..)) => {
            format!("kernel.yama.ptrace_scope is {scope}, set it to 1 (sysctl -w kernel.yama.ptrace_scope=1)")
        }
        (io::ErrorKind::PermissionDenied, _) => OPEN_THE_CONTAINER.to_owned(),
        _ => "Linux 5.9 or later is needed".to_owned(),
    }
}

fn put(findings: &Findings) -> Check {
    let name = "lend a socket";
    match &findings.trial.put {
        Ok(()) => Check::new(name, Mark::Yes, "later workers get the sockets of those before them"),
        Err(_) if findings.trial.listener.is_err() => {
            Check::new(name, Mark::No, "not tried: it needs trapped calls")
        }
        Err(error) => Check::new(name, Mark::No, format!("{}: Linux 5.9 or later is needed", words(error))),
    }
}

fn tracing(findings: &Findings) -> Check {
    let name = "tracing";
    match findings.tracing_scope {
        None | Some(0) => Check::new(name, Mark::Yes, "not restricted"),
        Some(_) if findings.is_root => Check::new(name, Mark::Yes, "restricted (Yama), but not for root"),
        Some(1) => Check::new(
            name,
            Mark::Mind,
            "restricted to ancestors (kernel.yama.ptrace_scope is 1): under the daemon, processes that a worker forks \
             get their sockets unlent; under `oxherd run` all are looked into",
        ),
        Some(scope) => Check::new(
            name,
            Mark::No,
            format!("forbidden (kernel.yama.ptrace_scope is {scope}): set it to 1, or run Oxherd as root"),
        ),
    }
}

fn steering(findings: &Findings) -> Check {
    let name = "steering";
    match &findings.steering {
        Ok(()) => Check::new(
            name,
            Mark::Yes,
            "the kernel spreads connections by weight, and leaves out who is to go",
        ),
        Err(error) => Check::new(
            name,
            Mark::No,
            format!(
                "{}: no BPF program can be attached to listeners; use --distribution shared",
                words(error)
            ),
        ),
    }
}

fn io_uring(findings: &Findings) -> Check {
    match findings.has_io_uring {
        false => Check::new("io_uring", Mark::Yes, "switched off: no call can pass unseen"),
        true => Check::new(
            "io_uring",
            Mark::Mind,
            "programs that bind by io_uring (Linux 6.11 or later; few do) are not seen: use --sockets listen-fds for \
             those",
        ),
    }
}

fn cgroups(findings: &Findings) -> Check {
    match &findings.cgroups {
        Some(path) => Check::new(
            "cgroups",
            Mark::Yes,
            format!("each worker gets its own below {}: all that it starts ends with it", path.display()),
        ),
        None => Check::new(
            "cgroups",
            Mark::Mind,
            "none can be made here: what a worker starts is found by its environment (systemd: Delegate=yes)",
        ),
    }
}

fn descriptors(findings: &Findings) -> Check {
    let (soft, hard) = findings.fd_limit;
    let limit = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
    let both = format!("{} for workers, {} for the primary", limit(soft), limit(hard));
    match hard < FEW_DESCRIPTORS {
        false => Check::new("open files", Mark::Yes, both),
        true => Check::new(
            "open files",
            Mark::Mind,
            format!("{both}: each connection takes one; raise it (ulimit -Hn, LimitNOFILE= in a unit)"),
        ),
    }
}

/// What follows for programs that nothing is known of.
fn of_any(findings: &Findings) -> Vec<String> {
    match findings.can_lend() {
        true => vec![
            "Any program that binds a port can be a herd (--sockets universal, the default but for Node). Ask about \
             one: oxherd doctor -- PROGRAM"
                .to_owned(),
        ],
        false => {
            let mut lines = vec!["Sockets cannot be lent here (--sockets universal). What is left:".to_owned()];
            lines.extend(fallbacks());
            lines
        }
    }
}

fn of_program(findings: &Findings, patient: &Patient) -> Vec<String> {
    let Patient { script, program, is_script, .. } = patient;
    let is = if *is_script { "is run by" } else { "is" };
    let mut lines = vec![format!("{script} {is} {}", program.program)];
    match program.sockets {
        Sockets::Channel => lines.push(
            "--sockets channel: it speaks Node's cluster protocol, which needs none of the above".to_owned(),
        ),
        _ if patient.is_foreign() => {
            lines.push(
                "Its system calls cannot be trapped: it is built for another machine, or for 32 bits. What is left:"
                    .to_owned(),
            );
            lines.extend(fallbacks());
        }
        _ if findings.can_lend() => {
            lines.push("--sockets universal: it is lent its sockets, and need not know of it".to_owned());
            lines.extend(hazards(findings, patient));
        }
        _ => {
            lines.push(
                "It cannot be lent sockets here (--sockets universal); see above. What is left:".to_owned(),
            );
            lines.extend(fallbacks());
        }
    }
    lines
}

/// What may go wrong with the program though sockets can be lent.
fn hazards(findings: &Findings, patient: &Patient) -> Vec<String> {
    let Some(binary) = patient.binary else { return Vec::new() };
    let loses = findings.trial.listener.as_ref().is_ok_and(|listener| listener.no_new_privs);
    let mut lines = Vec::new();
    if binary.is_setuid && loses {
        lines.push(
            "Mind: it is setuid or setgid, which has no effect here (no_new_privs): it runs as this user. Run Oxherd as \
             root if it must not"
                .to_owned(),
        );
    }
    if binary.has_capabilities && loses {
        lines.push(
            "Mind: its file capabilities have no effect here (no_new_privs). To bind a port below 1024 give Oxherd the \
             capability (setcap cap_net_bind_service=+ep on oxherd, AmbientCapabilities= in a unit): it binds for its \
             workers"
                .to_owned(),
        );
    }
    lines
}

/// What a program without lending can do, the better first.
fn fallbacks() -> [String; 2] {
    [
        "1. --sockets listen-fds --listen 127.0.0.1:8080, if it knows LISTEN_FDS (systemd's socket activation): Oxherd \
         opens the listeners and the program takes them over; nothing is trapped, and connections are kept as with \
         lending"
            .to_owned(),
        "2. --sockets none, if it sets SO_REUSEPORT itself: its instances share the port and the kernel spreads \
         connections; those that wait at a worker that ends are lost"
            .to_owned(),
    ]
}

/// What the kernel said, in words.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "not permitted".to_owned(),
        io::ErrorKind::Unsupported => "this kernel does not know it".to_owned(),
        _ => error.to_string(),
    }
}

fn heading(title: &str, form: Form) -> String {
    Styled::new(Paint::Bold, title).show(form.colour()) + "\n"
}

fn table(checks: &[Check], form: Form) -> String {
    let names = checks.iter().map(|check| width(check.name)).max().unwrap_or(0);
    let marks = width(HEADINGS[1]);
    let margin = names + marks + 3 * GAP;
    let headings = format!(
        "{:GAP$}{:<names$}{:GAP$}{:<marks$}{:GAP$}{}",
        "", HEADINGS[0], "", HEADINGS[1], "", HEADINGS[2]
    );
    let mut text = Styled::new(Paint::Dim, headings).show(form.colour()) + "\n";
    for check in checks {
        let paint = match check.mark {
            Mark::Yes => Paint::Green,
            Mark::Mind => Paint::Yellow,
            Mark::No => Paint::Red,
        };
        let name = format!("{:GAP$}{:<names$}{:GAP$}", "", check.name, "");
        let line = Styled::new(Paint::Plain, name).and(paint, format!("{:<marks$}", word(check.mark)));
        text +=
            &format!("{}{:GAP$}{}\n", line.show(form.colour()), "", fit(&check.meaning, margin, "", form));
    }
    text
}

fn word(mark: Mark) -> &'static str {
    match mark {
        Mark::Yes => "yes",
        Mark::Mind => "mind",
        Mark::No => "no",
    }
}

fn paragraphs(lines: &[String], form: Form) -> String {
    let fitting = |line: &String| {
        let is_numbered = line.starts_with(|letter: char| letter.is_ascii_digit());
        fit(line, 0, if is_numbered { "   " } else { "" }, form) + "\n"
    };
    lines.iter().map(fitting).collect()
}

/// A text right of a margin, broken where a terminal ends.
fn fit(text: &str, margin: usize, indent: &str, form: Form) -> String {
    let text = printable(text);
    match form {
        Form::Plain => text,
        Form::Terminal(screen) => wrap(&text, screen.width.saturating_sub(margin), indent)
            .replace('\n', &format!("\n{:margin$}", "")),
    }
}

#[cfg(test)]
mod tests {
    use oxherd_engine::probe::{Listener, Trial};

    use super::super::samples::screen;
    use super::*;

    fn well(is_root: bool) -> Findings {
        Findings {
            kernel: "6.8.0".into(),
            is_root,
            trial: Trial {
                listener: Ok(Listener { no_new_privs: !is_root }),
                memory: Ok(()),
                duplicate: Ok(()),
                put: Ok(()),
            },
            sleeps_soundly: true,
            tracing_scope: None,
            steering: Ok(()),
            has_io_uring: is_root,
            cgroups: is_root.then(|| "/sys/fs/cgroup/oxherd".into()),
            fd_limit: (1024, 524_288),
        }
    }

    fn ill() -> Findings {
        let refused = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        Findings {
            kernel: "5.10.0".into(),
            trial: Trial {
                listener: Err("the container's filter forbids seccomp notifications".into()),
                memory: refused(),
                duplicate: refused(),
                put: Err(io::ErrorKind::Unsupported.into()),
            },
            sleeps_soundly: false,
            tracing_scope: Some(2),
            steering: refused(),
            fd_limit: (256, 1024),
            ..well(false)
        }
    }

    fn patient(script: &str, program: &str, sockets: Sockets, binary: Binary) -> Patient {
        let is_script = script.contains('.');
        let program = Program { program: program.into(), sockets, ..Program::default() };
        Patient { script: script.into(), program, is_script, binary: Some(binary) }
    }

    const PLAIN: Binary = Binary { format: Format::Native, is_setuid: false, has_capabilities: false };

    #[test]
    fn what_was_found_is_told_with_what_follows() {
        let python = patient("app.py", "/usr/bin/python3", Sockets::Universal, PLAIN);
        insta::assert_snapshot!("doctor_root", report(&well(true), Some(&python), Form::Plain));
        insta::assert_snapshot!("doctor_user_80", report(&well(false), None, screen(80)));
        insta::assert_snapshot!("doctor_ill", report(&ill(), Some(&python), Form::Plain));
        insta::assert_snapshot!("doctor_ill_60", report(&ill(), None, screen(60)));
        for width_max in [60, 80] {
            let text = report(&ill(), Some(&python), screen(width_max));
            let widest = text.lines().map(width).max();
            assert!(widest.is_some_and(|widest| widest <= width_max), "{text}");
        }
    }

    #[test]
    fn each_program_is_told_its_own() {
        let conclusion = |findings: &Findings, patient: &Patient| of_program(findings, patient).join("\n");
        let node = patient("app.js", "/usr/bin/node", Sockets::Channel, PLAIN);
        let odd = Binary { is_setuid: true, has_capabilities: true, ..PLAIN };
        let odd = patient("server", "/opt/server", Sockets::Universal, odd);
        let foreign = Binary { format: Format::Foreign, ..PLAIN };
        let foreign = patient("old", "/opt/old", Sockets::Universal, foreign);
        let all = [
            conclusion(&ill(), &node),
            conclusion(&well(false), &odd),
            conclusion(&well(true), &odd),
            conclusion(&well(true), &foreign),
        ];
        insta::assert_snapshot!("doctor_programs", all.join("\n\n"));
    }
}
