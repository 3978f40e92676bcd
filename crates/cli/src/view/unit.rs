//! What the system is told to start at boot: a unit of systemd's, a script of OpenRC's. Data in, text out.

use std::path::PathBuf;

/// What is to be started, and for whom. What comes of it is one line for each value: see [`Boot::checked`].
#[derive(Clone, Debug)]
pub(crate) struct Boot {
    pub(crate) service: String,
    /// Nobody in a unit of the user's own.
    pub(crate) user: Option<String>,
    /// The daemon's home.
    pub(crate) home: PathBuf,
    pub(crate) program: PathBuf,
    pub(crate) path: String,
    pub(crate) waits_for_network: bool,
    /// What programs know the home by.
    pub(crate) home_variable: &'static str,
}

impl Boot {
    /// The same, unless something in it cannot be written down: what comes after the end of a line would be an order of
    /// its own, which root may carry out.
    pub(crate) fn checked(self) -> Result<Self, String> {
        let (home, program) = (self.home.to_str(), self.program.to_str());
        let values = [
            ("the home folder", home),
            ("the path of this program", program),
            ("PATH", Some(self.path.as_str())),
            ("the service's name", Some(self.service.as_str())),
            ("the user's name", Some(self.user.as_deref().unwrap_or_default())),
        ];
        for (name, value) in values {
            let value = value.ok_or_else(|| format!("{name} is no UTF-8: choose another"))?;
            if value.contains(char::is_control) {
                return Err(format!(
                    "{name} has a control character, which cannot be written down: {value:?}"
                ));
            }
        }
        Ok(self)
    }
}

/// A unit. The keeper is the main process and says itself when it serves; told to end it has all apps drain.
pub(crate) fn systemd_unit(boot: &Boot) -> String {
    let (home, program) = (word(&boot.home.to_string_lossy()), word(&boot.program.to_string_lossy()));
    let network = match boot.waits_for_network {
        true => "After=network-online.target\nWants=network-online.target\n",
        false => "After=network.target\n",
    };
    let user = boot.user.as_ref().map_or_else(String::new, |user| format!("User={user}\n"));
    let whose = boot.user.as_ref().map_or_else(String::new, |user| format!(" of {user}"));
    let target = if boot.user.is_some() { "multi-user.target" } else { "default.target" };
    let mut variables =
        vec![("OXHERD_HOME", boot.home.to_string_lossy().into_owned()), ("PATH", boot.path.clone())];
    if boot.home_variable != "OXHERD_HOME" {
        variables.push((boot.home_variable, boot.home.to_string_lossy().into_owned()));
    }
    let environment: String = variables
        .iter()
        .map(|(name, value)| format!("Environment={}\n", quote(&format!("{name}={value}"))))
        .collect();
    format!(
        "[Unit]
Description=Oxherd{whose}: keeps apps running
{network}
[Service]
Type=notify
# A keeper that is killed is replaced by the daemon, and is not the end of the service; its successor says who it is.
ExitType=cgroup
NotifyAccess=all
# Only when both are killed at once is nobody left who says anything.
WatchdogSec=30
{user}{environment}ExecStart={program} keeper --home {home}
ExecStartPost=-{program} resurrect
ExecReload={program} reload all
Restart=on-failure
# Told to end it ends, whatever became of a keeper before it.
RestartPreventExitStatus=0
# Nor is a keeper that was killed a failure of the service, unless nothing is left of it.
SuccessExitStatus=SIGKILL
RestartForceExitStatus=SIGKILL
# The keeper is told; it has the apps finish what is in hand.
KillMode=mixed
TimeoutStopSec=5min
# One app that runs out of memory is no reason to end the others.
OOMPolicy=continue
# A cgroup for each app below this one.
Delegate=yes
FileDescriptorStoreMax=1024
LimitNOFILE=1048576

[Install]
WantedBy={target}
"
    )
}

/// A word of a command line in a unit: nothing in it is a variable's name.
fn word(text: &str) -> String {
    quote(&text.replace('$', "$$"))
}

/// A value in a unit, with nothing that systemd would replace.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

/// A script of OpenRC's. A client starts the keeper, and waits until it serves; OpenRC keeps no list of its processes,
/// since one that is killed is replaced. Nothing may be exported: what a script runs is found by OpenRC's own `PATH`.
pub(crate) fn openrc_script(boot: &Boot) -> String {
    let home = boot.home.to_string_lossy();
    let user = boot.user.as_deref().unwrap_or("root");
    let network = if boot.waits_for_network { "need net" } else { "after net" };
    let mut variables = vec![("OXHERD_HOME", &*home), ("PATH", boot.path.as_str())];
    if boot.home_variable != "OXHERD_HOME" {
        variables.push((boot.home_variable, &*home));
    }
    let variables: String =
        variables.iter().map(|(name, value)| format!("{name}={} ", quoted(value))).collect();
    let line = format!("{variables}{} ", quoted(&boot.program.to_string_lossy()));
    format!(
        "#!/sbin/openrc-run
name={service}
description=\"Oxherd of {user}: keeps apps running\"
extra_started_commands=\"reload\"

depend() {{
    use localmount
    {network}
}}

as_user() {{
    su -s /bin/sh {user} -c {line}\"$1\"
}}

start() {{
    ebegin \"Starting $name\"
    as_user resurrect >/dev/null
    as_user ping >/dev/null
    eend $? \"no daemon serves; see \"{log}
}}

# All apps finish what is in hand.
stop() {{
    ebegin \"Stopping $name\"
    if as_user ping >/dev/null 2>&1; then
        as_user kill >/dev/null
    fi
    eend $?
}}

reload() {{
    ebegin \"Reloading the apps of $name\"
    as_user 'reload all' >/dev/null
    eend $?
}}

status() {{
    if service_started && ! as_user ping >/dev/null 2>&1; then
        eerror \"status: crashed\"
        return 32
    fi
    default_status
}}
",
        service = quoted(&boot.service),
        line = quoted(&line),
        log = quoted(&format!("{home}/daemon.log")),
    )
}

/// A word of a shell's, as it is where that is enough.
pub(crate) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => quoted(text),
    }
}

/// A word of a shell's.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> Boot {
        Boot {
            service: "oxherd-ox".into(),
            user: Some("ox".into()),
            home: "/home/ox/.oxherd".into(),
            program: "/usr/bin/oxherd".into(),
            path: "/usr/bin:/bin".into(),
            waits_for_network: true,
            home_variable: "OXHERD_HOME",
        }
    }

    #[test]
    fn units_are_what_systemd_and_openrc_read() {
        insta::assert_snapshot!("unit_systemd", systemd_unit(&boot()));
        let own =
            Boot { user: None, home: "/home/o x/100%/$HOME".into(), home_variable: "PM2_HOME", ..boot() };
        insta::assert_snapshot!("unit_systemd_user", systemd_unit(&own));
        insta::assert_snapshot!("unit_openrc", openrc_script(&boot()));
    }

    #[test]
    fn what_would_be_a_line_of_its_own_is_refused() {
        assert!(boot().checked().is_ok());
        let evil = "/bin\nExecStartPre=+/bin/evil";
        let refused = [
            (Boot { home: evil.into(), ..boot() }, "the home folder has"),
            (Boot { program: evil.into(), ..boot() }, "the path of this program has"),
            (Boot { path: evil.into(), ..boot() }, "PATH has"),
            (Boot { path: "/bin\r".into(), ..boot() }, "PATH has"),
            (Boot { service: evil.into(), ..boot() }, "the service's name has"),
            (Boot { user: Some(evil.into()), ..boot() }, "the user's name has"),
        ];
        for (boot, why) in refused {
            let error = boot.checked().unwrap_err();
            assert!(error.starts_with(why) && !error.contains(char::is_control), "{error}");
        }
    }

    #[test]
    fn words_of_a_shell_are_quoted_where_they_must_be() {
        let said = ["/a-b.c", "", "a b", "it's", "$(x)", "a;b"].map(shell_word);
        assert_eq!(said, ["/a-b.c", "''", "'a b'", r"'it'\''s'", "'$(x)'", "'a;b'"]);
    }
}
