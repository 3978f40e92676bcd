//! What PM2 has and oxherd does not, with the reason and the way out. `docs/from-pm2.md` has the same list.

/// Where there is more.
pub(super) const GUIDE: &str = "see docs/from-pm2.md";

const ACCOUNT: &str = "there is no service behind oxherd, and nothing is sent anywhere";
const MODULES: &str = "there are no modules: log rotation, metrics and probes are built in";
const GIT: &str = "it is no tool for versions of code: run git, then `oxherd reload`";
const PROFILES: &str = "the daemon is no Node program: use perf on its pid";
const APM: &str = "nothing is injected into programs: they run as they are";
const IMAGES: &str = "use `oxherd runtime` in an image of your own, see docs/containers.md";

/// Verbs.
pub(crate) const VERBS: &[(&str, &str)] = &[
    ("autoinstall", MODULES),
    ("backward", GIT),
    ("create", "`oxherd ecosystem` writes a file to begin with"),
    ("deepUpdate", "`oxherd upgrade` replaces keeper and daemon, and workers go on"),
    ("deploy", "use ssh, rsync or your CI, then `oxherd startOrReload FILE --env NAME`"),
    ("examples", "each verb has examples under --help"),
    ("forward", GIT),
    ("imonit", "`oxherd monit` is there"),
    ("inspect", "start with --node-args --inspect, or send SIGUSR1 by `oxherd sendSignal`"),
    ("install", MODULES),
    ("install-otel", APM),
    ("link", ACCOUNT),
    ("login", ACCOUNT),
    ("logout", ACCOUNT),
    (
        "logrotate",
        "logs are rotated anyway: by size, by time, with gzip; see `rotate` in docs/configuration.md",
    ),
    ("module:generate", MODULES),
    ("module:install", MODULES),
    ("module:publish", MODULES),
    ("module:uninstall", MODULES),
    ("module:update", MODULES),
    ("monitor", ACCOUNT),
    ("open", ACCOUNT),
    ("package", MODULES),
    ("plus", ACCOUNT),
    ("profile:cpu", PROFILES),
    ("profile:mem", PROFILES),
    ("publish", MODULES),
    ("pull", GIT),
    ("register", ACCOUNT),
    ("slist", "`oxherd report` tells of the machine, and `oxherd ls --json` of the apps"),
    ("sysinfos", "`oxherd report` tells of the machine, and `oxherd ls --json` of the apps"),
    ("unlink", ACCOUNT),
    ("uninstall", MODULES),
    ("uninstall-otel", APM),
    ("unmonitor", ACCOUNT),
    ("web", "the control API is at the socket in the home folder, see docs/api.md"),
    ("gracefulReload", "`oxherd reload` is graceful"),
    ("softReload", "`oxherd reload` is graceful"),
    ("interact", ACCOUNT),
];

/// Options, by their long and short names.
pub(crate) const FLAGS: &[(&str, &str)] = &[
    ("--container", IMAGES),
    ("--daemon", IMAGES),
    ("--deep-monitoring", APM),
    ("--delay", "every worker is supervised from its first moment"),
    ("--dist", IMAGES),
    ("--docker", MODULES),
    ("--dockerdaemon", IMAGES),
    ("--event-loop-inspector", APM),
    ("--execute-command", "a worker's own clean-up belongs in its handler of the stop signal"),
    ("-x", "a worker's own clean-up belongs in its handler of the stop signal"),
    ("--ext", "name what is watched by --watch PATH, and what is not by --ignore-watch"),
    ("--format", "it goes with `oxherd logs` only"),
    ("--fresh", IMAGES),
    ("--image-name", IMAGES),
    ("--monitor", ACCOUNT),
    ("--no-auto-exit", "`oxherd runtime` ends when all workers have ended and none is to be restarted"),
    ("--no-treekill", "a worker's whole process tree is always ended, so that nothing is left behind"),
    ("--node-version", IMAGES),
    ("--public", ACCOUNT),
    ("--machine-name", ACCOUNT),
    ("--secret", ACCOUNT),
    ("--trace", APM),
    ("--v8", APM),
    ("--web", "the control API is at the socket in the home folder, see docs/api.md"),
    ("--write", "`oxherd ecosystem` writes a file to begin with"),
    ("-w", "`oxherd ecosystem` writes a file to begin with"),
];

/// PM2's options that some verb here takes, apart from those that all do.
const KNOWN_FLAGS: &str = "-a --attach -c --cron --cron-restart --cwd --disable-logs --disable-source-map-support \
    --disable-trace -e --env --error --err --exp-backoff-restart-delay -f --filter-env --force --gid --highlight --hp -i \
    --ignore-watch --instances --interpreter --interpreter-args --json -k --kill-timeout -l --lines --listen-timeout --log \
    --log-date-format --log-type -m --max-memory-restart --max-restarts --merge-logs --mini-list -n --name --namespace \
    --no-autorestart --no-autostart --no-automation --no-daemon --no-pmx --no-vizion --node-args -o --only --output -p \
    --parallel --pid --restart-delay --service-name --shutdown-with-message --sort --source-map-support --stop-exit-codes \
    --time -u --update-env --uid --user --wait-ip --wait-ready --watch --watch-delay --nostream --raw --lines --timestamp";

/// Why a verb of PM2's is not there.
pub(super) fn refused_verb(verb: &str) -> Option<&'static str> {
    find(VERBS, verb)
}

/// Why an option of PM2's is not there.
pub(super) fn refused_flag(flag: &str) -> Option<&'static str> {
    find(FLAGS, flag)
}

/// Whether PM2 takes this option with any verb.
pub(super) fn is_flag_of_pm2(flag: &str) -> bool {
    KNOWN_FLAGS.split_whitespace().any(|known| known == flag)
}

fn find(table: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}
