//! `oxherd run`: one app in the foreground. Everything that can be checked is checked before anything starts.

use std::time::Duration;

use oxherd_config::{Job, JobError, Surroundings};
use oxherd_engine::{EngineError, Settings};

use crate::exit::ExitStatus;
use crate::options::RunOptions;
use crate::output::{self, Console};
use crate::voice::complain;

/// Runs the app until it ends.
pub(super) fn run(options: &RunOptions) -> ExitStatus {
    let job = match prepare(options) {
        Ok(job) => job,
        Err(error) => {
            complain(&error.to_string());
            return ExitStatus::Usage;
        }
    };
    for doubt in &job.doubts {
        complain(doubt);
    }
    let mut console = output::in_manner(Console::new(job.spec.instances), output::manner());
    match oxherd_engine::run(vec![job.spec], settings(options), &mut console) {
        Ok(outcome) => console.end(outcome).into(),
        Err(EngineError::Refused(refusal)) => {
            complain(&refusal.to_string());
            ExitStatus::Usage
        }
        Err(error @ EngineError::Os { .. }) => console.fail(&error).into(),
    }
}

fn settings(options: &RunOptions) -> Settings {
    let interval = Duration::from_millis(options.status_interval.as_millis());
    Settings {
        status_interval: (!interval.is_zero()).then_some(interval),
        recall: !options.no_recall,
        ..Settings::default()
    }
}

fn prepare(options: &RunOptions) -> Result<Job, JobError> {
    options.app.wish(options.what.what(), &options.env).prepare(&Surroundings::of_caller()?)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use oxherd_config::environment;
    use oxherd_engine::core::{AppSpec, Distribution, RestartWhen, Signal, Sockets, Span};

    use super::*;
    use crate::cli::{self, Command};
    use crate::testing::Folder;

    fn options(args: &[&str]) -> RunOptions {
        let line = ["oxherd", "run"].iter().chain(args).map(OsString::from);
        let Command::Run(options) = cli::parse(line).unwrap().command else { panic!("it is `run`") };
        *options
    }

    fn prepared(args: &[&str]) -> Result<Job, String> {
        prepare(&options(args)).map_err(|error| error.to_string())
    }

    #[test]
    fn options_reach_the_spec() {
        let folder = Folder::new();
        let script = folder.file("web.js", "", 0o644).display().to_string();
        let node = folder.file("bin/node", "", 0o755).display().to_string();
        let cwd = folder.path().display().to_string();
        let mut args = vec!["-i", "3", "--distribution", "kernel", "--restart", "never", "--cwd", &cwd];
        args.extend(["--restart-delay", "0", "--min-uptime", "2s", "--stop-signal", "int"]);
        args.extend(["--node-args", "--inspect -r 'a b'", "--node-args", "-x", "--interpreter", &node]);
        args.extend(["--env", "A=1", &script, "--", "--port", "1"]);
        let spec = prepared(&args).unwrap().spec;
        assert_eq!((spec.name.as_str(), spec.program, spec.instances), ("web", node, 3));
        assert_eq!(spec.args, ["--inspect", "-r", "a b", "-x", &script, "--port", "1"]);
        assert_eq!((spec.distribution, spec.restart), (Distribution::Kernel, RestartWhen::Never));
        assert_eq!((spec.restart_delay, spec.min_uptime), (Some(Span::ZERO), Span::from_secs(2)));
        assert_eq!((spec.sockets, spec.stop_signal), (Sockets::Channel, Signal::INT));
        assert_eq!(environment::get(&spec.env, "A"), Some("1"));
        assert_eq!(environment::get(&spec.env, "PWD"), Some(cwd.as_str()));
        assert_eq!(spec.cwd, cwd);
    }

    #[test]
    fn defaults_are_those_of_the_core() {
        let folder = Folder::new();
        let script = folder.file("tool", "", 0o755).display().to_string();
        let Job { spec, .. } = prepared(&["--name", "x", &script]).unwrap();
        let core = AppSpec {
            cwd: spec.cwd.clone(),
            env: spec.env.clone(),
            instances: spec.instances,
            sockets: Sockets::Universal,
            distribution: Distribution::Kernel,
            upkeep: spec.upkeep.clone(),
            ..AppSpec::new("x", script)
        };
        assert_eq!(spec, core);
        assert_eq!(settings(&options(&["a.js"])), Settings::default());
        assert_eq!(settings(&options(&["--status-interval", "0", "a.js"])).status_interval, None);
    }

    #[test]
    fn sockets_are_chosen_by_the_program_or_by_hand() {
        let folder = Folder::new();
        let script = folder.file("tool", "", 0o755).display().to_string();
        let spec = |args: &[&str]| {
            let args: Vec<&str> = args.iter().copied().chain([script.as_str()]).collect();
            prepared(&args).map(|job| job.spec)
        };
        let four = spec(&["-i", "4", "--ports", "80,8000-8999", "--standby", "2"]).unwrap();
        assert_eq!((four.sockets, four.distribution), (Sockets::Universal, Distribution::Kernel));
        assert_eq!((four.ports.to_string().as_str(), four.standby), ("80,8000-8999", 2));
        let none = spec(&["-i", "2", "--sockets", "none"]).unwrap();
        assert_eq!((none.sockets, none.distribution), (Sockets::None, Distribution::Handoff));
        let two = ["--sockets", "listen-fds", "--listen", "web=127.0.0.1:80", "--listen", "x=/run/x.sock"];
        let names: Vec<_> = spec(&two).unwrap().listen.into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["web", "x"]);
        let shared = spec(&["--distribution", "shared"]).unwrap();
        assert_eq!((shared.sockets, shared.distribution), (Sockets::Universal, Distribution::Shared));
        assert_eq!(
            spec(&["--distribution", "handoff"]).unwrap_err(),
            "distribution `handoff` needs workers that have a channel, and with sockets `universal` they have none: \
             choose `kernel` or `shared`, or leave the distribution out"
        );
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = Folder::new();
        let script = folder.file("tool", "", 0o755).display().to_string();
        let refused = |cwd: &str| prepared(&["--cwd", cwd, &script]).unwrap_err();
        assert_eq!(
            refused("/no/such"),
            "cannot use --cwd /no/such: it does not exist; name an existing folder"
        );
        assert!(refused(&script).contains("it is not a folder"));
    }
}
