//! Installs the real servers that universal mode is tested with, which are not Node's: from Debian and PyPI, and one
//! that is built with Go.
//!
//! What is a language comes from Debian as a package, if the machine does not have it. What would start a service
//! when it is installed is only unpacked, into the tools folder. Nothing but packages is ever changed on the machine.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::run::{bounded, capture, run};
use crate::tools::install;
use crate::workspace::Workspace;

/// A command that succeeds where the language is there, and the Debian packages that bring it.
const LANGUAGES: [(&str, &[&str], &[&str]); 6] = [
    (PYTHON, &["--version"], &["python3"]),
    (PYTHON, &["-m", "pip", "--version"], &["python3-pip"]),
    ("go", &["version"], &["golang-go"]),
    ("ruby", &["-e", "require 'webrick'"], &["ruby", "ruby-webrick"]),
    ("php", &["--version"], &["php-cli"]),
    ("fish", &["--version"], &["fish"]),
];
/// Debian's own, which every user can run; one of another place may be in somebody's home folder.
const PYTHON: &str = "/usr/bin/python3";
/// Packages of which only one program is taken, where it is in them, and the argument with which it says its version.
const UNPACKED: [(&str, &str, &str); 2] =
    [("caddy", "usr/bin/caddy", "version"), ("nginx", "usr/sbin/nginx", "-v")];
/// What Python programs load, every version exact.
const REQUIREMENTS: &str = include_str!("../pypi/requirements.txt");
/// What holds YAML against Kubernetes' own schemas.
const KUBERNETES: &str = include_str!("../pypi/kubernetes.txt");
/// Where it has these, and the ones that are kept of a hundred megabytes: the oldest release and the newest.
const SCHEMAS: (&str, [&str; 2]) =
    ("kubernetes_validate/kubernetes-json-schema", ["v1.25.0-local-strict", "v1.37.0-local-strict"]);
const PIP_FLAGS: [&str; 5] = [
    "--no-input",
    "--disable-pip-version-check",
    "--root-user-action=ignore",
    "--only-binary=:all:",
    "--no-deps",
];
/// The source of the static server, relative to the root.
const GO_SERVER: &str = "crates/e2e/fixtures/universal/server.go";

/// Installs whatever is missing and prints where everything is.
pub(crate) fn install_programs(workspace: &Workspace, dir: &Path) -> Outcome {
    install_languages()?;
    let place = dir.join("python");
    install(&place, REQUIREMENTS, |partial| install_python_packages(partial, REQUIREMENTS))?;
    println!("Python packages: {}", place.display());
    let place = dir.join("kubernetes");
    install(&place, KUBERNETES, install_kubernetes)?;
    println!("Kubernetes' schemas: {}", place.display());
    for (package, program, says_version) in UNPACKED {
        let place = dir.join(package);
        install(&place, program, |partial| unpack(partial, package, program, says_version))?;
        println!("{package}: {}", place.join("bin").join(package).display());
    }
    let source = workspace.root.join(GO_SERVER);
    let text =
        fs::read_to_string(&source).map_err(|error| format!("cannot read {}: {error}", source.display()))?;
    let place = dir.join("go-server");
    install(&place, &text, |partial| build_go_server(partial, &source))?;
    println!("Go server: {}", place.join("server").display());
    Ok(())
}

fn install_languages() -> Outcome {
    let missing: Vec<_> =
        LANGUAGES.into_iter().filter(|(program, args, _)| !answers(program, args)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|(.., packages)| packages.iter().copied()).collect();
    let is_root = capture(Command::new("id").arg("-u"))?.trim() == "0";
    if !is_root || !answers("apt-get", &["--version"]) {
        let programs: Vec<&str> = missing.iter().map(|(program, ..)| *program).collect();
        return Err(format!(
            "the end-to-end tests need {}, which {} missing here: install what Debian calls {} (as root on Debian, \
             this command does it)",
            programs.join(", "),
            if programs.len() == 1 { "is" } else { "are" },
            packages.join(", ")
        ));
    }
    run(apt_get().arg("update"))?;
    run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages))?;
    match missing.iter().find(|(program, args, _)| !answers(program, args)) {
        None => Ok(()),
        Some((program, ..)) => Err(format!("{program} does not run, although its package is installed")),
    }
}

fn answers(program: impl AsRef<OsStr>, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn apt_get() -> Command {
    let mut command = bounded("apt-get");
    command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn install_python_packages(dir: &Path, requirements: &str) -> Outcome {
    let list = dir.join("requirements.txt");
    fs::write(&list, requirements).map_err(|error| error.to_string())?;
    let mut pip = bounded(PYTHON);
    pip.args(["-m", "pip", "install", "--quiet"]).args(PIP_FLAGS);
    run(pip.arg("--target").arg(dir).arg("--requirement").arg(&list))
}

fn install_kubernetes(dir: &Path) -> Outcome {
    install_python_packages(dir, KUBERNETES)?;
    let (folder, kept) = SCHEMAS;
    let folder = dir.join(folder);
    let prune = || -> std::io::Result<()> {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if !kept.iter().any(|name| entry.file_name() == *name) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    };
    prune().map_err(|error| format!("kubernetes-validate is laid out in another way: {error}"))?;
    match kept.iter().find(|name| !folder.join(name).is_dir()) {
        None => Ok(()),
        Some(name) => Err(format!("kubernetes-validate has no schemas {name}")),
    }
}

/// Needs no root, but the lists of packages.
fn unpack(dir: &Path, package: &str, program: &str, says_version: &str) -> Outcome {
    let download = || run(apt_get().args(["download", package]).current_dir(dir));
    if download().is_err() {
        run(apt_get().arg("update"))?;
        download()?;
    }
    let archive = archive_in(dir)?;
    let files = dir.join("files");
    run(bounded("dpkg-deb").arg("--extract").arg(&archive).arg(&files))?;
    let kept = dir.join("bin").join(package);
    let keep = || -> std::io::Result<()> {
        fs::create_dir(dir.join("bin"))?;
        fs::rename(files.join(program), &kept)?;
        fs::rename(files.join("usr/share/doc").join(package).join("copyright"), dir.join("copyright"))?;
        fs::remove_dir_all(&files)?;
        fs::remove_file(archive)
    };
    keep().map_err(|error| format!("the package {package} is laid out in another way: {error}"))?;
    match answers(&kept, &[says_version]) {
        true => Ok(()),
        false => {
            Err(format!("{package} does not run: a library that it needs may be missing on this machine"))
        }
    }
}

fn archive_in(dir: &Path) -> Outcome<PathBuf> {
    let entries = fs::read_dir(dir).map_err(|error| error.to_string())?.filter_map(Result::ok);
    let mut archives =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|it| it == "deb"));
    archives.next().ok_or_else(|| format!("no package was downloaded to {}", dir.display()))
}

/// Without C, so that the program is static and makes its system calls itself.
fn build_go_server(dir: &Path, source: &Path) -> Outcome {
    let cache = dir.join("cache");
    let mut go = bounded("go");
    go.args(["build", "-o"]).arg(dir.join("server")).arg(source).current_dir(dir);
    go.env("CGO_ENABLED", "0").env("GOCACHE", &cache).env("GOFLAGS", "").env("GO111MODULE", "off");
    run(&mut go)?;
    fs::remove_dir_all(&cache).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_python_version_is_exact() {
        for line in REQUIREMENTS.lines().chain(KUBERNETES.lines()) {
            let version = line.split_once("==").expect("a pinned version").1;
            assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{line} is a range");
        }
    }
}
