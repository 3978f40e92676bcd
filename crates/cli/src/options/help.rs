//! What stands below the options of a verb: exit codes and examples.

pub(crate) const AFTER_HELP: &str = "\
Times are written 250ms, 1.5s, 30s, 2m or 1h.

Signals:
  SIGHUP            reload: each worker is replaced by a successor that is ready first;
                    counts as SIGTERM when the terminal is gone
  SIGTERM, SIGINT   drain all workers and exit; a second one kills
  SIGTTIN, SIGTTOU  one worker more, one less

Exit codes:
  0  stopped on request, or every worker has ended and none is to be restarted
  1  killed by a second signal, or an internal error
  2  cannot start: a wrong option, a missing script or interpreter, an unknown strategy
  3  a slot has given up and no worker is left

Examples:
  oxherd run server.js                        one worker per CPU
  oxherd run -i 4 server.js -- --port 8080    four, with an argument for the script
  oxherd run -i 4 -- ./any-server --port 80   any program: four processes on one port
  oxherd run --node-args '--max-old-space-size=512' --env NODE_ENV=production server.js
  oxherd run --restart on-failure -i 1 queue.py";

pub(crate) const START_HELP: &str = "\
Exit codes:
  0  every worker is ready
  1  a slot gave up, or the daemon cannot be started
  2  a wrong command line, file or script

Examples:
  oxherd start server.js -i 4                 four workers on one port
  oxherd start server.js --name web -- --port 8080
  oxherd start -i 2 -- gunicorn app:web       any program on PATH
  oxherd start ecosystem.json                 all apps of a file
  oxherd start ecosystem.json --only web --env production
  oxherd start web                            an app that was stopped
  oxherd start all                            all that were";
pub(crate) const RUNTIME_HELP: &str = "\
What workers write goes to stdout and stderr, and signals do what they do for `oxherd run`; but
the daemon may be killed or upgraded, and workers and connections go on. `oxherd ls` and all other
commands work beside it. Nothing is saved: each start runs what it is given. Where the home folder
cannot be written one below the temporary folder or /dev/shm is used.

Exit codes:
  0    stopped on request, or every worker has ended well and none is to be restarted
  1    killed by a second signal, or an internal error
  2    cannot start: a wrong option, file or script
  3    a slot has given up and no worker is left, though none has failed
  N    what the first worker that failed for good ended with; 128 and its number for a signal

Examples:
  oxherd runtime ecosystem.json
  oxherd runtime server.js -i 2 --raw
  ENTRYPOINT [\"oxherd\", \"runtime\", \"ecosystem.json\"]       in a Dockerfile";
pub(crate) const STOP_HELP: &str = "Examples:\n  oxherd stop web\n  oxherd stop web api\n  oxherd stop all";
pub(crate) const RESTART_HELP: &str = "\
With clients waiting meanwhile; `oxherd reload` makes nobody wait.

Examples:
  oxherd restart web
  oxherd restart web -- --port 3001    with other arguments
  oxherd restart web -i 4 --max-memory-restart 300M";
pub(crate) const RELOAD_HELP: &str = "\
Exit code 1 when it is aborted: a successor was not ready, and the old workers go on.

Examples:
  oxherd reload web
  oxherd reload web -- --port 3001     with other arguments
  oxherd reload all";
pub(crate) const DELETE_HELP: &str = "Examples:\n  oxherd delete web\n  oxherd delete all";
pub(crate) const DESCRIBE_HELP: &str = "Examples:\n  oxherd describe web";
pub(crate) const SCALE_HELP: &str =
    "Examples:\n  oxherd scale web 4\n  oxherd scale web +2\n  oxherd scale web -1";
pub(crate) const LOGS_HELP: &str = "\
Examples:
  oxherd logs                     the last lines of all apps, and those that come
  oxherd logs web --lines 100
  oxherd logs web --err --no-follow | less";
pub(crate) const LIST_HELP: &str = "\
Examples:
  oxherd ls
  oxherd ls --json | jq '.apps[].name'";
pub(crate) const PING_HELP: &str = "Examples:\n  oxherd ping || oxherd resurrect";
pub(crate) const RESURRECT_HELP: &str = "\
What was stopped stays stopped, and what runs is left alone.

Examples:
  oxherd resurrect                at boot, as the user whose apps they are";
pub(crate) const KILL_HELP: &str = "\
What ran is remembered: `oxherd resurrect` starts it again.

Examples:
  oxherd kill";
pub(crate) const UPGRADE_HELP: &str = "\
No connection is lost: workers and listeners go on under the new program.

Examples:
  oxherd upgrade                  to the program that now stands where the old one was started from
  oxherd upgrade ./oxherd-2";

pub(crate) const DOCTOR_HELP: &str = "\
Everything is tried with a process that is made for it and ends right after. `mind` means that it
works, and that something should be known.

Exit codes:
  0  the program, or any, can be lent sockets, or needs none lent
  1  it cannot: one of the ways that are listed is left
  2  a wrong command line, or no such program

Examples:
  oxherd doctor
  oxherd doctor -- python3 -m http.server
  oxherd doctor ./server && oxherd run -i 4 ./server";
pub(crate) const COMPLETION_HELP: &str = "\
Examples:
  eval \"$(oxherd completion bash)\"                         in ~/.bashrc
  oxherd completion zsh > ~/.zfunc/_oxherd
  oxherd completion fish > ~/.config/fish/completions/oxherd.fish";
pub(crate) const START_OR_RESTART_HELP: &str =
    "Examples:\n  oxherd startOrRestart ecosystem.config.js --env production";
pub(crate) const START_OR_RELOAD_HELP: &str = "Examples:\n  oxherd startOrReload ecosystem.config.js --env production\n  oxherd startOrReload ecosystem.config.js --only web,api";
pub(crate) const RESET_HELP: &str = "Examples:\n  oxherd reset web";
pub(crate) const JLIST_HELP: &str = "Examples:\n  oxherd jlist | jq '.[].pm2_env.status'";
pub(crate) const PRETTYLIST_HELP: &str = "Examples:\n  oxherd prettylist";
pub(crate) const ENV_HELP: &str =
    "Examples:\n  oxherd env web\n  oxherd env web:1                      of the worker in slot 1";
pub(crate) const PID_HELP: &str = "Examples:\n  oxherd pid web\n  oxherd pid";
pub(crate) const ID_HELP: &str = "Examples:\n  oxherd id web";
pub(crate) const MONIT_HELP: &str = "Examples:\n  oxherd monit";
pub(crate) const FLUSH_HELP: &str = "Examples:\n  oxherd flush\n  oxherd flush web";
pub(crate) const RELOAD_LOGS_HELP: &str =
    "Examples:\n  oxherd reloadLogs                    after logrotate has moved the files";
pub(crate) const SEND_SIGNAL_HELP: &str =
    "Examples:\n  oxherd sendSignal SIGUSR2 web\n  oxherd sendSignal SIGUSR1 web:0";
pub(crate) const SEND_HELP: &str = "Examples:\n  oxherd send repl \"help\"";
pub(crate) const ATTACH_HELP: &str = "Examples:\n  oxherd attach repl";
pub(crate) const TRIGGER_HELP: &str =
    "Examples:\n  oxherd trigger web clear-cache\n  oxherd trigger web level debug";
pub(crate) const SAVE_HELP: &str =
    "Examples:\n  oxherd save\n  oxherd save --force                  even where there are no apps";
pub(crate) const CLEARDUMP_HELP: &str = "Examples:\n  oxherd cleardump";
pub(crate) const STARTUP_HELP: &str =
    "Examples:\n  oxherd startup\n  oxherd startup systemd --print\n  oxherd startup systemd --user-unit";
pub(crate) const UNSTARTUP_HELP: &str = "Examples:\n  oxherd unstartup";
pub(crate) const ECOSYSTEM_HELP: &str = "Examples:\n  oxherd ecosystem\n  oxherd init simple";
pub(crate) const SERVE_HELP: &str =
    "Examples:\n  oxherd serve ./public 8080\n  oxherd serve ./dist --spa --name site";
pub(crate) const EXPORT_HELP: &str =
    "Examples:\n  oxherd export kubernetes ecosystem.config.js --image registry/web:1 > web.yaml";
pub(crate) const SET_HELP: &str = "Examples:\n  oxherd set tool:key value";
pub(crate) const MULTISET_HELP: &str = "Examples:\n  oxherd multiset \"tool:a 1 tool:b 2\"";
pub(crate) const GET_HELP: &str = "Examples:\n  oxherd get\n  oxherd get tool:key";
pub(crate) const CONF_HELP: &str = "Examples:\n  oxherd conf\n  oxherd conf tool:key value";
pub(crate) const UNSET_HELP: &str = "Examples:\n  oxherd unset tool:key\n  oxherd unset all";
pub(crate) const REPORT_HELP: &str = "Examples:\n  oxherd report > report.txt";
