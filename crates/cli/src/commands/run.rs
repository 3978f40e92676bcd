//! `oxherd run`: one app in the foreground. Everything that can be checked is checked before anything starts.

use std::thread;
use std::time::Duration;

use oxherd_config::environment;
use oxherd_config::job::{self, Job, JobError};
use oxherd_config::program::{Program, Wanted};
use oxherd_engine::core::AppSpec;
use oxherd_engine::{EngineError, Settings};

use crate::commands::complain;
use crate::exit::ExitStatus;
use crate::options::RunOptions;
use crate::output::Console;

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
    let mut console = Console::new(job.spec.instances);
    match oxherd_engine::run(vec![job.spec], settings(options), &mut console) {
        Ok(outcome) => console.end(outcome),
        Err(EngineError::Refused(refusal)) => {
            complain(&refusal.to_string());
            ExitStatus::Usage
        }
        Err(error @ EngineError::Os { .. }) => console.fail(&error),
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
    let here = job::current_folder().map_err(JobError::NoCurrentFolder)?;
    let (mut env, mut doubts) = environment::compose(std::env::vars_os(), &options.env);
    let cwd = job::workers_folder(&here, options.cwd.as_deref())?;
    if options.cwd.is_some() && !options.env.iter().any(|variable| variable.key == "PWD") {
        environment::put(&mut env, "PWD".into(), cwd.clone());
    }
    let args: Vec<String> = options.node_args.iter().flat_map(|words| words.0.iter().cloned()).collect();
    let wanted = Wanted {
        script: &options.script,
        interpreter: options.interpreter.as_deref(),
        interpreter_args: &args,
        folder: &here,
        path: environment::get(&env, "PATH"),
    };
    let mut program = wanted.find()?;
    program.sockets = options.sockets.unwrap_or(program.sockets);
    // It honours both the affinity mask and the quota of the cgroup.
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let instances = options.instances.resolve(cpus);
    doubts.extend(job::doubt_of_sharing(&program, instances, options.distribution));
    Ok(Job { spec: spec(options, program, cwd, env, instances), doubts })
}

fn spec(
    options: &RunOptions,
    program: Program,
    cwd: String,
    env: Vec<(String, String)>,
    instances: u32,
) -> AppSpec {
    let mut args = program.args;
    args.extend_from_slice(&options.args);
    let defaults =
        AppSpec::new(options.name.clone().unwrap_or_else(|| job::name_of(&options.script)), program.program);
    AppSpec {
        args,
        cwd,
        env,
        instances,
        distribution: options.distribution.unwrap_or_default(),
        strategy: options.strategy,
        sockets: program.sockets,
        restart: options.restart,
        restart_delay: options.restart_delay,
        restart_window: options.restart_window,
        max_restarts: options.max_restarts,
        max_errors: options.max_errors,
        error_window: options.error_window,
        min_uptime: options.min_uptime,
        wait_ready: options.wait_ready,
        listen_timeout: options.listen_timeout,
        drain_timeout: options.drain_timeout,
        kill_timeout: options.kill_timeout,
        stop_signal: options.stop_signal,
        shutdown_with_message: options.shutdown_with_message,
        parallel: options.parallel,
        handoff_window: options.handoff_window,
        max_message: options.max_message,
        ..defaults
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use oxherd_engine::core::{Distribution, RestartWhen, Signal, Sockets, Span};

    use super::*;
    use crate::cli::{self, Command};
    use crate::testing::Folder;

    fn options(args: &[&str]) -> RunOptions {
        let line = ["oxherd", "run"].iter().chain(args).map(OsString::from);
        let Command::Run(options) = cli::parse(line).unwrap().command;
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
            sockets: Sockets::None,
            ..AppSpec::new("x", script)
        };
        assert_eq!(spec, core);
        assert_eq!(settings(&options(&["a.js"])), Settings::default());
        assert_eq!(settings(&options(&["--status-interval", "0", "a.js"])).status_interval, None);
    }

    #[test]
    fn several_workers_of_another_language_are_a_doubt() {
        let folder = Folder::new();
        let script = folder.file("tool", "", 0o755).display().to_string();
        let doubts = |args: &[&str]| {
            let args: Vec<&str> = args.iter().copied().chain([script.as_str()]).collect();
            prepared(&args).unwrap().doubts
        };
        assert!(doubts(&["-i", "1"]).is_empty());
        assert_eq!(doubts(&["-i", "1", "--distribution", "shared"]).len(), 1);
        assert_eq!(
            doubts(&["-i", "2"]),
            ["tool is not Node: sharing a port for other programs comes later, each of the 2 workers binds \
              its own (-i 1 runs one)"]
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
