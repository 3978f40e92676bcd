//! A copy of what tests need where any user can read it.
//!
//! A work tree is often below a home folder that others cannot enter, so tests that run as another
//! user run from here. Big files are hard links. The folder goes away with its `Stage`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::tools::make_readable;

/// The user and group id of the unprivileged runs: Debian's nobody and nogroup.
pub(crate) const NOBODY: u32 = 65534;
/// How many stages of one process id may lie around.
const STAGES_MAX: u32 = 100;

/// A world-readable folder, removed on drop.
pub(crate) struct Stage {
    root: PathBuf,
}

impl Stage {
    /// An empty stage with a `home` and a `tmp` that belong to nobody. The path is short, because
    /// Unix socket paths below it may be 107 bytes.
    pub(crate) fn new() -> Outcome<Self> {
        let candidates = [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
        let base = candidates
            .into_iter()
            .find(|dir| is_open_to_all(dir))
            .ok_or("no temporary folder that every user can enter")?;
        // Numbered, because a run that was killed leaves its stage behind and ids come round again.
        let names = (0..STAGES_MAX).map(|number| format!("oxherd-{}-{number}", std::process::id()));
        let root = names
            .map(|name| base.join(name))
            .find(|root| fs::create_dir(root).is_ok())
            .ok_or_else(|| format!("cannot create a folder in {}", base.display()))?;
        let stage = Self { root };
        stage.lay().map_err(|error| format!("cannot prepare {}: {error}", stage.root.display()))?;
        Ok(stage)
    }

    fn lay(&self) -> std::io::Result<()> {
        fs::set_permissions(&self.root, fs::Permissions::from_mode(0o755))?;
        for own in [self.home(), self.tmp()] {
            fs::create_dir(&own)?;
            fs::set_permissions(&own, fs::Permissions::from_mode(0o755))?;
            chown(&own, Some(NOBODY), Some(NOBODY))?;
        }
        Ok(())
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.root.join(inside)
    }

    /// Puts the file or folder `from` at `inside`, links and all, and gives back where it is now.
    pub(crate) fn add(&self, from: &Path, inside: impl AsRef<Path>) -> Outcome<PathBuf> {
        let to = self.path(inside);
        let place = || -> std::io::Result<()> {
            let parent = to.parent().unwrap_or(&self.root);
            fs::create_dir_all(parent)?;
            place(from, &to)?;
            make_dirs_enterable(parent, &self.root)
        };
        place().map_err(|error| format!("cannot copy {} to {}: {error}", from.display(), to.display()))?;
        Ok(to)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.root) {
            eprintln!("xtask: cannot remove {}: {error}", self.root.display());
        }
    }
}

fn place(from: &Path, to: &Path) -> std::io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if metadata.is_dir() {
        fs::create_dir_all(to)?;
        fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            place(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    let readable = metadata.permissions().mode() & 0o004 != 0;
    if readable && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    make_readable(to)
}

/// Folders made on the way to a file obey the umask, which may shut others out.
fn make_dirs_enterable(from: &Path, root: &Path) -> std::io::Result<()> {
    for dir in from.ancestors().take_while(|dir| *dir != root) {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn is_open_to_all(dir: &Path) -> bool {
    dir.ancestors().all(|part| fs::metadata(part).is_ok_and(|data| data.permissions().mode() & 0o001 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_copied_readable() {
        let base = std::env::temp_dir().join(format!("xtask-stage-{}", std::process::id()));
        fs::create_dir_all(base.join("from/deep")).unwrap();
        fs::write(base.join("from/deep/secret"), "x").unwrap();
        fs::set_permissions(base.join("from/deep/secret"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("deep/secret", base.join("from/link")).unwrap();

        place(&base.join("from"), &base.join("to")).unwrap();

        let copied = fs::metadata(base.join("to/deep/secret")).unwrap();
        assert_eq!(copied.permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_link(base.join("to/link")).unwrap(), Path::new("deep/secret"));
        fs::remove_dir_all(base).unwrap();
    }
}
