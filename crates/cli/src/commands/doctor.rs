//! `oxherd doctor`: what this machine allows of lending sockets, and how a program would come by its own. It starts
//! nothing but what it tries this with, and asks no daemon.

use std::io::{self, Write};
use std::path::Path;

use oxherd_config::program::{Program, ProgramError, Wanted, absolute};
use oxherd_config::{JobError, Origin, Surroundings};
use oxherd_engine::core::Sockets;
use oxherd_engine::probe::{Binary, Findings};

use crate::exit::ExitStatus;
use crate::options::DoctorOptions;
use crate::view::doctor::{Patient, report};
use crate::view::form::Form;
use crate::voice::complain;

pub(super) fn run(options: &DoctorOptions) -> ExitStatus {
    let patient = match options.program.split_first().map(|(script, args)| examine(script, args)) {
        Some(Ok(patient)) => Some(patient),
        Some(Err(error)) => {
            complain(&error.to_string());
            return ExitStatus::Usage;
        }
        None => None,
    };
    let findings = Findings::collect();
    let text = report(&findings, patient.as_ref(), Form::of(&io::stdout()));
    // A reader that has gone is no reason to fail.
    drop(io::stdout().write_all(text.as_bytes()));
    verdict(&findings, patient.as_ref())
}

fn verdict(findings: &Findings, patient: Option<&Patient>) -> ExitStatus {
    let is_well = match patient {
        Some(patient) if patient.program.sockets == Sockets::Channel => true,
        Some(patient) => findings.can_lend() && !patient.is_foreign(),
        None => findings.can_lend(),
    };
    if is_well { ExitStatus::Success } else { ExitStatus::Failure }
}

fn examine(script: &str, args: &[String]) -> Result<Patient, JobError> {
    let surroundings = Surroundings::of_caller()?;
    let program = find(script, args, &surroundings)?;
    let path = Path::new(&program.program);
    let is_script = path != absolute(&surroundings.folder, script) && !path.ends_with(script);
    // It was there a moment ago.
    let binary = Binary::of(path).ok();
    Ok(Patient { script: script.to_owned(), program, is_script, binary })
}

/// As `oxherd run` finds it, and by its bare name too.
fn find(script: &str, args: &[String], surroundings: &Surroundings) -> Result<Program, ProgramError> {
    let path = surroundings.environment.iter().find(|(name, _)| name == "PATH");
    let wanted = Wanted {
        script,
        interpreter: None,
        interpreter_args: &[],
        args,
        folder: &surroundings.folder,
        path: path.and_then(|(_, path)| path.to_str()),
        origin: Origin::CommandLine,
    };
    match wanted.find() {
        Err(error @ ProgramError::NoScript { .. }) if !script.contains(['/', ' ']) => {
            Wanted { origin: Origin::File, ..wanted }.find().map_err(|_| error)
        }
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::{self, Command};
    use crate::testing::Folder;

    fn program(args: &[&str]) -> Vec<String> {
        let line = ["oxherd", "doctor"].iter().chain(args).map(OsString::from);
        let Command::Doctor(options) = cli::parse(line).unwrap().command else { panic!("it is `doctor`") };
        options.program
    }

    #[test]
    fn a_program_may_be_named_with_its_arguments() {
        assert!(program(&[]).is_empty());
        assert_eq!(program(&["--", "python3", "-m", "http.server"]), ["python3", "-m", "http.server"]);
        assert_eq!(program(&["app.py", "--port", "1"]), ["app.py", "--port", "1"]);
    }

    #[test]
    fn programs_are_found_as_run_finds_them_and_by_name() {
        let folder = Folder::new();
        folder.file("bin/python3", "", 0o755);
        folder.file("bin/node", "", 0o755);
        folder.file("app.py", "", 0o644);
        folder.file("app.js", "", 0o644);
        let surroundings = Surroundings {
            folder: folder.path().to_owned(),
            environment: vec![("PATH".into(), "bin".into())],
            cpus: 1,
            env_name: None,
            file_server: None,
            logs: None,
            as_pm2: false,
        };
        let found = |script| find(script, &[], &surroundings).map(|it| (it.program, it.sockets));
        let at = |path: &str| folder.path().join(path).display().to_string();
        assert_eq!(found("app.py").unwrap(), (at("bin/python3"), Sockets::Universal));
        assert_eq!(found("app.js").unwrap(), (at("bin/node"), Sockets::Channel));
        assert_eq!(found("python3").unwrap(), (at("bin/python3"), Sockets::Universal));
        assert!(found("ruby").unwrap_err().to_string().contains("cannot run ruby: no such file"));
    }
}
