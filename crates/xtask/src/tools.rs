//! Installs what the tests need: five versions of Node and a few packages from npm, other servers by `programs`; and
//! what the bench needs.
//!
//! Installing is idempotent (a stamp per tool), and a half-finished one is never seen: everything is
//! made in a folder beside and moved into place. No install script of an npm package is ever run.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::{bounded, run};
use crate::workspace::Workspace;
use crate::{Outcome, programs};

/// One Node per release line that users have, pinned.
const NODES: [(&str, &str); 5] =
    [("18", "18.20.8"), ("20", "20.20.2"), ("22", "22.23.3"), ("24", "24.21.0"), ("26", "26.10.0")];
/// The npm packages the test programs load.
const MANIFEST: &str = include_str!("../npm/package.json");
/// PM2, which the bench measures beside oxherd, and whose formats a test holds ours against.
const BENCH_MANIFEST: &str = include_str!("../npm/bench/package.json");
const STAMP: &str = ".stamp";
const TRIES: u32 = 3;
const NPM_FLAGS: [&str; 6] =
    ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--no-progress", "--loglevel=error"];

/// Installs whatever is missing and prints where everything is.
pub(crate) fn install_all(workspace: &Workspace) -> Outcome<PathBuf> {
    let dir = workspace.tools_dir();
    fs::create_dir_all(&dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
    check_npm()?;
    for (line, version) in NODES {
        let place = dir.join(format!("node-{line}"));
        install(&place, version, |partial| install_node(partial, version))?;
        println!("node {version}: {}", place.join("bin/node").display());
    }
    let place = dir.join("npm");
    install(&place, MANIFEST, |partial| install_packages(partial, MANIFEST))?;
    println!("npm packages: {}", place.join("node_modules").display());
    install_for_bench(workspace)?;
    programs::install_programs(workspace, &dir)?;
    Ok(dir)
}

/// Installs PM2 and prints where it is: all that the bench needs.
pub(crate) fn install_for_bench(workspace: &Workspace) -> Outcome {
    let dir = workspace.tools_dir();
    fs::create_dir_all(&dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
    check_npm()?;
    let place = dir.join("bench");
    install(&place, BENCH_MANIFEST, |partial| install_packages(partial, BENCH_MANIFEST))?;
    println!("PM2: {}", place.join("node_modules/pm2/bin/pm2").display());
    Ok(())
}

/// Makes `place` by `make` unless its stamp says that it is there already.
pub(crate) fn install(place: &Path, stamp: &str, make: impl Fn(&Path) -> Outcome) -> Outcome {
    if fs::read_to_string(place.join(STAMP)).is_ok_and(|found| found == stamp) {
        return Ok(());
    }
    let partial = place.with_extension(format!("partial-{}", std::process::id()));
    let mut result = Ok(());
    for _ in 0..TRIES {
        result = fresh_dir(&partial).and_then(|()| make(&partial));
        match &result {
            Ok(()) => break,
            Err(message) => eprintln!("xtask: {message}"),
        }
    }
    let finished = result
        .and_then(|()| in_place(&partial, place, stamp))
        .map_err(|message| format!("cannot install {}: {message}", place.display()));
    remove(&partial)?;
    finished
}

fn in_place(partial: &Path, place: &Path, stamp: &str) -> Outcome {
    let write = || -> std::io::Result<()> {
        fs::write(partial.join(STAMP), stamp)?;
        make_readable(partial)
    };
    write().map_err(|error| error.to_string())?;
    remove(place)?;
    fs::rename(partial, place).map_err(|error| error.to_string())
}

fn check_npm() -> Outcome {
    let found = Command::new("npm").arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).status();
    match found {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err("npm is not on PATH: the tests need it to install Node versions and Express".to_owned())
        }
        Err(error) => Err(format!("cannot run npm: {error}")),
    }
}

/// The npm package `node` is a script that installs `node-<os>-<arch>`, which carries the program; we
/// install that one directly.
fn install_node(dir: &Path, version: &str) -> Outcome {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => return Err(format!("no Node in npm for {other}")),
    };
    let package = format!("node-linux-{arch}");
    npm_install(dir, &["--no-save", &format!("{package}@{version}")])?;
    let installed = dir.join("node_modules").join(package);
    let keep = || -> std::io::Result<()> {
        fs::create_dir(dir.join("bin"))?;
        fs::rename(installed.join("bin/node"), dir.join("bin/node"))?;
        fs::rename(installed.join("LICENSE"), dir.join("LICENSE"))?;
        fs::remove_dir_all(dir.join("node_modules"))
    };
    keep().map_err(|error| format!("the package is laid out in another way: {error}"))?;
    let mut node = Command::new(dir.join("bin/node"));
    run(node.args(["-e", &format!("process.exit(process.version === 'v{version}' ? 0 : 1)")]))
}

fn install_packages(dir: &Path, manifest: &str) -> Outcome {
    fs::write(dir.join("package.json"), manifest).map_err(|error| error.to_string())?;
    npm_install(dir, &[])
}

fn npm_install(dir: &Path, args: &[&str]) -> Outcome {
    let mut npm = bounded("npm");
    // An explicit prefix, or npm would look for a package.json further up.
    npm.arg("install").args(NPM_FLAGS).arg("--prefix").arg(dir).args(args).current_dir(dir);
    run(&mut npm)
}

fn fresh_dir(dir: &Path) -> Outcome {
    remove(dir)?;
    fs::create_dir(dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))
}

fn remove(dir: &Path) -> Outcome {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", dir.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// `chmod -R a+rX`: the tests also run as a user who does not own the tools.
pub(crate) fn make_readable(path: &Path) -> std::io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.permissions().mode();
    let search = if metadata.is_dir() || mode & 0o111 != 0 { 0o111 } else { 0 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o444 | search))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            make_readable(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_npm_version_is_exact() {
        for manifest in [MANIFEST, BENCH_MANIFEST] {
            let manifest: serde_json::Value = serde_json::from_str(manifest).unwrap();
            let versions = manifest["dependencies"].as_object().unwrap().values();
            for version in versions.map(|version| version.as_str().unwrap()) {
                assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{version} is a range");
            }
        }
    }

    #[test]
    fn a_stamped_tool_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("xtask-tools-{}", std::process::id()));
        fresh_dir(&dir).unwrap();
        fs::write(dir.join(STAMP), "1.0").unwrap();
        install(&dir, "1.0", |_| Err("must not be called".to_owned())).unwrap();
        remove(&dir).unwrap();
    }
}
