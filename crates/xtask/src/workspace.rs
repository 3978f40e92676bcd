//! What the steps know about the work tree: its root, target folder, packages and files.
//!
//! Everything comes from `cargo metadata` and `git ls-files`; nothing here changes a file.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Outcome;
use crate::run::capture;

/// The work tree as cargo sees it.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// One member.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Relative to the root.
    pub(crate) manifest: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One entry of a manifest's dependency tables.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) is_member: bool,
    pub(crate) is_dev: bool,
}

impl Workspace {
    /// Asks cargo, from the folder of this package, whatever the current directory is.
    pub(crate) fn load() -> Outcome<Self> {
        let manifest_dir = std::env::var("CARGO_MANIFEST_DIR");
        let here = PathBuf::from(manifest_dir.as_deref().unwrap_or(env!("CARGO_MANIFEST_DIR")));
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let text = capture(
            Command::new(cargo)
                .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
                .current_dir(&here),
        )?;
        let metadata: Value =
            serde_json::from_str(&text).map_err(|error| format!("cannot read cargo metadata: {error}"))?;
        Self::from_metadata(&metadata).ok_or_else(|| "cargo metadata lacks a field".to_owned())
    }

    fn from_metadata(metadata: &Value) -> Option<Self> {
        let root = PathBuf::from(metadata["workspace_root"].as_str()?);
        let target = PathBuf::from(metadata["target_directory"].as_str()?);
        let packages = metadata["packages"].as_array()?;
        let packages = packages.iter().map(|package| read_package(package, &root)).collect::<Option<_>>()?;
        Some(Self { root, target, packages })
    }

    /// Where the tests' tools live.
    pub(crate) fn tools_dir(&self) -> PathBuf {
        match std::env::var_os("OXHERD_TOOLS") {
            Some(dir) => std::path::absolute(&dir).unwrap_or_else(|_| dir.into()),
            None => self.target.join("tools"),
        }
    }

    /// All files that are tracked or would be, relative to the root, sorted.
    pub(crate) fn files(&self) -> Outcome<Vec<PathBuf>> {
        let text = capture(
            Command::new("git")
                .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
                .current_dir(&self.root),
        )?;
        let mut files: Vec<PathBuf> =
            text.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
        // A file deleted but not yet committed is still listed.
        files.retain(|file| self.root.join(file).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// The folder of a package, relative to the root.
    pub(crate) fn package_dir(&self, name: &str) -> Outcome<&Path> {
        let package = self.packages.iter().find(|package| package.name == name);
        package
            .and_then(|package| package.manifest.parent())
            .ok_or_else(|| format!("the workspace has no package {name}"))
    }
}

fn read_package(package: &Value, root: &Path) -> Option<Package> {
    let manifest = Path::new(package["manifest_path"].as_str()?);
    let dependencies =
        package["dependencies"].as_array()?.iter().map(read_dependency).collect::<Option<_>>()?;
    Some(Package {
        name: package["name"].as_str()?.to_owned(),
        manifest: manifest.strip_prefix(root).ok()?.to_owned(),
        dependencies,
    })
}

fn read_dependency(dependency: &Value) -> Option<Dependency> {
    Some(Dependency {
        name: dependency["name"].as_str()?.to_owned(),
        is_member: dependency["path"].is_string(),
        is_dev: dependency["kind"] == "dev",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read() {
        let metadata = serde_json::json!({
            "workspace_root": "/w", "target_directory": "/w/target",
            "packages": [{
                "name": "a", "manifest_path": "/w/crates/a/Cargo.toml",
                "dependencies": [
                    {"name": "b", "path": "/w/crates/b", "kind": null},
                    {"name": "insta", "kind": "dev"},
                ],
            }],
        });
        let workspace = Workspace::from_metadata(&metadata).unwrap();
        assert_eq!(workspace.package_dir("a").unwrap(), Path::new("crates/a"));
        let kinds: Vec<_> =
            workspace.packages[0].dependencies.iter().map(|dep| (dep.is_member, dep.is_dev)).collect();
        assert_eq!(kinds, [(true, false), (false, true)]);
        assert!(workspace.package_dir("b").is_err());
    }
}
