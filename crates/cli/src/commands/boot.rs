//! `oxherd startup` and `unstartup`: what the system starts at boot. As root it is written and enabled, for others the
//! line that does so is printed.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{self, Path, PathBuf};
use std::process::Command;

use oxherd_daemon::home::Home;

use crate::commands::daemon::{Ending, fail, status_of};
use crate::exit::ExitStatus;
use crate::options::{Platform, ServiceOptions, StartupOptions};
use crate::persona;
use crate::replace::replace;
use crate::view::pm2::user_name;
use crate::view::unit::{Boot, openrc_script, shell_word, systemd_unit};
use crate::voice::{complain, print, tell};

const SYSTEMD_FOLDER: &str = "/etc/systemd/system";
const OPENRC_FOLDER: &str = "/etc/init.d";

pub(super) fn startup(options: &StartupOptions) -> ExitStatus {
    status_of(set_up(options))
}

pub(super) fn unstartup(options: &ServiceOptions) -> ExitStatus {
    status_of(take_down(options))
}

fn set_up(asked: &StartupOptions) -> Ending<ExitStatus> {
    let options = &asked.service;
    let platform = platform(options)?;
    let boot = boot_with(asked)?;
    let text = match platform {
        Platform::Systemd => systemd_unit(&boot),
        Platform::Openrc => openrc_script(&boot),
    };
    if asked.print {
        print(&text);
        return Ok(ExitStatus::Success);
    }
    if !may_write(options) {
        return Ok(ask_root("startup", platform, &boot));
    }
    let path = place(options, platform, &boot)?;
    write(&path, &text, platform)?;
    tell(&format!("{} is written", path.display()));
    enable(options, platform, &boot, true)?;
    let (service, program) = (&boot.service, persona::program());
    let when = if options.user_unit { "when you log in" } else { "at boot" };
    tell(&format!("{service} starts {when} what ran last: `{program} save` is not needed for it"));
    if options.user_unit {
        tell("to have it start at boot: loginctl enable-linger");
    }
    if is_served(&boot.home) {
        tell(&format!(
            "what runs goes on as it is; to have {service} run it from now on: `{program} kill`, then `{}`",
            start_line(options, platform, service)
        ));
    }
    Ok(ExitStatus::Success)
}

/// Whether a daemon has this home, whoever started it.
fn is_served(home: &Path) -> bool {
    Home::at(home).is_ok_and(|home| UnixStream::connect(home.socket()).is_ok())
}

/// The command that starts the service at once.
fn start_line(options: &ServiceOptions, platform: Platform, service: &str) -> String {
    match platform {
        Platform::Systemd if options.user_unit => format!("systemctl --user start {service}"),
        Platform::Systemd => format!("systemctl start {service}"),
        Platform::Openrc => format!("rc-service {service} start"),
    }
}

fn take_down(options: &ServiceOptions) -> Ending<ExitStatus> {
    let platform = platform(options)?;
    let boot = boot(options)?;
    if !may_write(options) {
        return Ok(ask_root("unstartup", platform, &boot));
    }
    let path = place(options, platform, &boot)?;
    if !path.exists() {
        complain(&format!("there is no {}: nothing starts at boot", path.display()));
        return Err(ExitStatus::Failure);
    }
    enable(options, platform, &boot, false)?;
    fs::remove_file(&path)
        .map_err(|error| fail(&format!("cannot remove {}: {error}", path.display()), ExitStatus::Failure))?;
    tell(&format!("{} is removed", path.display()));
    forget(options, platform)?;
    if is_served(&boot.home) {
        tell(&format!("what runs goes on; `{} kill` ends it", persona::program()));
    }
    Ok(ExitStatus::Success)
}

fn platform(options: &ServiceOptions) -> Ending<Platform> {
    let found = || {
        let is_there = |path: &str| Path::new(path).exists();
        match (is_there("/run/systemd/system"), is_there("/run/openrc") || is_there("/sbin/openrc-run")) {
            (true, _) => Some(Platform::Systemd),
            (false, true) => Some(Platform::Openrc),
            (false, false) => None,
        }
    };
    options.platform.or_else(found).ok_or_else(|| {
        complain("neither systemd nor OpenRC runs here: name the one that will, `startup systemd` or `startup openrc`");
        ExitStatus::Failure
    })
}

fn boot_with(options: &StartupOptions) -> Ending<Boot> {
    Ok(Boot { waits_for_network: options.wait_ip, ..boot(&options.service)? })
}

/// What is to be started, and for whom.
fn boot(options: &ServiceOptions) -> Ending<Boot> {
    let user = options.user.clone().unwrap_or_else(user_name);
    let refuse = |what: &str| fail(&what, ExitStatus::Usage);
    let is_plain = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c))
    };
    let service = options.service_name.clone().unwrap_or_else(|| match options.user_unit {
        true => persona::program().to_owned(),
        false => format!("{}-{user}", persona::program()),
    });
    if !is_plain(&user) || !is_plain(&service) {
        return Err(refuse("names of users and services have letters, digits, `.`, `_`, `-` and `@` only"));
    }
    let home = home_for(options, &user)?;
    let program = std::env::current_exe()
        .map_err(|error| fail(&format!("cannot find this program: {error}"), ExitStatus::Failure))?;
    let path = std::env::var_os("PATH").unwrap_or_default().into_string();
    let boot = Boot {
        service,
        user: (!options.user_unit).then_some(user),
        home,
        program,
        path: path.map_err(|_| refuse("PATH is no UTF-8: choose another"))?,
        waits_for_network: false,
        home_variable: persona::home_variable(),
    };
    boot.checked().map_err(|why| refuse(&why))
}

/// The daemon's home: the one that is named, the caller's own, or by the user's home folder.
fn home_for(options: &ServiceOptions, user: &str) -> Ending<PathBuf> {
    let own = || persona::lasting_home().ok().filter(|_| options.user.is_none() && options.hp.is_none());
    let named = options.home.clone().or_else(|| Some(own()?.folder().to_owned()));
    let home = named.or_else(|| {
        let folder = if persona::is_pm2() { ".pm2" } else { ".oxherd" };
        Some(Path::new(&options.hp.clone().or_else(|| home_of(user))?).join(folder))
    });
    let Some(home) = home else {
        let why = format!("user {user} is not in /etc/passwd: name its home folder with --hp");
        return Err(fail(&why, ExitStatus::Usage));
    };
    let home = Home::at(&home).map_err(|error| fail(&error, ExitStatus::Usage))?;
    Ok(home.folder().to_owned())
}

/// From the system's own list of users.
fn home_of(user: &str) -> Option<String> {
    let list = fs::read_to_string("/etc/passwd").ok()?;
    let fields = list.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields
        .into_iter()
        .find(|fields| fields.first() == Some(&user))
        .and_then(|fields| fields.get(5).map(|it| (*it).to_owned()))
}

fn may_write(options: &ServiceOptions) -> bool {
    options.user_unit || rustix::process::geteuid().is_root()
}

/// The line that does it as root.
fn ask_root(verb: &str, platform: Platform, boot: &Boot) -> ExitStatus {
    let called_as = std::env::args_os().next().map(PathBuf::from).filter(|_| persona::is_pm2());
    // What root calls must have the habits of what was called: those of PM2 go by a link's name.
    let program = match called_as {
        Some(name) if name.components().count() > 1 => path::absolute(name).unwrap_or_default(),
        Some(name) => name,
        None => boot.program.clone(),
    };
    let line = root_line(&program.to_string_lossy(), verb, platform, boot);
    tell("this needs root; copy this line:");
    print(&line);
    ExitStatus::Success
}

/// Whatever it is called by, it comes to the same home.
fn root_line(program: &str, verb: &str, platform: Platform, boot: &Boot) -> String {
    let platform = match platform {
        Platform::Systemd => "systemd",
        Platform::Openrc => "openrc",
    };
    let (user, home) = (boot.user.as_deref().unwrap_or_default(), boot.home.to_string_lossy());
    let words = [program, verb, platform, "-u", user, "--home", &home, "--service-name", &boot.service];
    let waits = boot.waits_for_network.then_some("--wait-ip");
    let words: Vec<String> = words.into_iter().chain(waits).map(shell_word).collect();
    format!("sudo env PATH=\"$PATH\" {}\n", words.join(" "))
}

fn place(options: &ServiceOptions, platform: Platform, boot: &Boot) -> Ending<PathBuf> {
    match platform {
        Platform::Openrc if options.user_unit => {
            complain("not offered: OpenRC has no services of users; leave --user-unit out");
            Err(ExitStatus::Failure)
        }
        Platform::Openrc => Ok(Path::new(OPENRC_FOLDER).join(&boot.service)),
        Platform::Systemd => {
            let folder = if options.user_unit { user_folder()? } else { SYSTEMD_FOLDER.into() };
            Ok(folder.join(format!("{}.service", boot.service)))
        }
    }
}

fn user_folder() -> Ending<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    folder.map(|folder| folder.join("systemd/user")).ok_or_else(|| {
        complain("neither XDG_CONFIG_HOME nor HOME is set: the folder of user units is not known");
        ExitStatus::Failure
    })
}

fn write(path: &Path, text: &str, platform: Platform) -> Ending<()> {
    let mode = if platform == Platform::Openrc { 0o755 } else { 0o644 };
    let folder = path.parent().unwrap_or(Path::new("/"));
    let done = fs::create_dir_all(folder).and_then(|()| replace(path, text.as_bytes(), mode));
    done.map_err(|error| fail(&format!("cannot write {}: {error}", path.display()), ExitStatus::Failure))
}

/// Has the system forget what is removed.
fn forget(options: &ServiceOptions, platform: Platform) -> Ending<()> {
    match platform {
        Platform::Systemd => run_all(&[systemctl(options, &["daemon-reload"])]),
        Platform::Openrc => Ok(()),
    }
}

fn systemctl<'a>(options: &ServiceOptions, words: &[&'a str]) -> Vec<&'a str> {
    let scope: &[&str] = if options.user_unit { &["--user"] } else { &[] };
    [&["systemctl"], scope, words].concat()
}

/// Tells the system of it. Where the system does not run, as in an image that is being built, that is said.
fn enable(options: &ServiceOptions, platform: Platform, boot: &Boot, wanted: bool) -> Ending<()> {
    let service = boot.service.as_str();
    run_all(&match (platform, wanted) {
        (Platform::Systemd, true) => {
            vec![systemctl(options, &["daemon-reload"]), systemctl(options, &["enable", service])]
        }
        (Platform::Systemd, false) => vec![systemctl(options, &["disable", service])],
        (Platform::Openrc, true) => vec![vec!["rc-update", "add", service, "default"]],
        (Platform::Openrc, false) => vec![vec!["rc-update", "del", service, "default"]],
    })
}

fn run_all(orders: &[Vec<&str>]) -> Ending<()> {
    for order in orders {
        let (program, args) = order.split_first().expect("an order has a program");
        let line = order.join(" ");
        match Command::new(program).args(args).output() {
            Ok(output) if output.status.success() => tell(&line),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
                complain(&format!("`{line}` failed: {why}; run it when the system is up"));
                return Err(ExitStatus::Failure);
            }
            Err(error) => {
                complain(&format!("cannot run `{line}`: {error}; run it when the system is up"));
                return Err(ExitStatus::Failure);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Command};

    fn boot_of(line: &[&str]) -> Boot {
        match cli::parse(line.iter().map(Into::into)).unwrap().command {
            Command::Startup(options) => boot_with(&options).unwrap(),
            _ => panic!("another verb"),
        }
    }

    #[test]
    fn what_root_is_asked_to_call_comes_to_the_same() {
        let words = ["-u", "ox", "--home", "/srv/it's", "--service-name", "s-1", "--wait-ip"];
        let asked = boot_of(&[&["oxherd", "startup", "systemd"], &words[..]].concat());
        assert_eq!(asked.home, Path::new("/srv/it's"));
        let line = root_line("/opt/o x/oxherd", "startup", Platform::Systemd, &asked);
        let expected = r#"sudo env PATH="$PATH" '/opt/o x/oxherd' startup systemd -u ox --home '/srv/it'\''s' --service-name s-1 --wait-ip"#;
        assert_eq!(line.trim_end(), expected);
        let by_user = boot_of(&["oxherd", "startup", "-u", "ox", "--hp", "/home/ox"]);
        assert_eq!(by_user.home, Path::new("/home/ox/.oxherd"));
    }
}
