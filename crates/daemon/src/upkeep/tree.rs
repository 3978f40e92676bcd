//! What is watched for whom: files, and folders with all that is in them.
//!
//! Dotfiles, `node_modules`, the app's own logs and pid files and the daemon's home never count. However many changes come, an app is due
//! once, after a pause.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oxherd_core::{AppId, AppSpec, WatchSpec};
use oxherd_os::watch::{FileChange, Watcher};

use super::glob;
use crate::home::Home;

/// The least pause after a change: a file is seldom written in one go, and seldom alone.
const PAUSE: Duration = Duration::from_millis(100);
/// Changes that do not end put a reload off no longer than that, or than ten pauses.
const LONGEST: Duration = Duration::from_secs(3);
/// Folders that are watched for one app, at most.
const FOLDERS_MAX: usize = 16_384;

/// All trees.
#[derive(Debug)]
pub(super) struct Trees {
    home: PathBuf,
    apps: BTreeMap<AppId, Tree>,
    watches: BTreeMap<i32, Vec<Seen>>,
}

/// What one app wants watched.
#[derive(Debug)]
struct Tree {
    spec: WatchSpec,
    /// Files of the app's own.
    own: Vec<PathBuf>,
    folders: usize,
    /// Since when, until when, and what was the first.
    dirty: Option<(Instant, Instant, PathBuf)>,
}

/// A folder, as an app sees it.
#[derive(Clone, Debug)]
struct Seen {
    app: AppId,
    folder: PathBuf,
    /// Where the tree begins: only what is below is held against patterns.
    root: PathBuf,
    /// Only this file in it.
    only: Option<OsString>,
}

impl Trees {
    /// No trees yet; the daemon's home is `home`.
    pub(super) fn beside(home: &Path) -> Self {
        Self { home: home.to_owned(), apps: BTreeMap::new(), watches: BTreeMap::new() }
    }

    /// Watches what these apps want, and nothing else. Returns what cannot be watched.
    pub(super) fn want(
        &mut self,
        watcher: &Watcher,
        wanted: &[(AppId, &AppSpec)],
    ) -> Vec<(AppId, PathBuf, io::Error)> {
        let of = |app: AppId| wanted.iter().find(|(id, _)| *id == app).map(|(_, spec)| *spec);
        let gone: Vec<AppId> = self
            .apps
            .iter()
            .filter(|(id, tree)| of(**id).is_none_or(|spec| spec.upkeep.watch.as_ref() != Some(&tree.spec)))
            .map(|(id, _)| *id)
            .collect();
        gone.into_iter().for_each(|app| self.forget(watcher, app));
        let mut failed = Vec::new();
        for (id, spec) in wanted.iter().filter(|(id, _)| !self.apps.contains_key(id)).collect::<Vec<_>>() {
            let Some(watch) = &spec.upkeep.watch else { continue };
            let tree = Tree { spec: watch.clone(), own: own_files(spec), folders: 0, dirty: None };
            self.apps.insert(*id, tree);
            for path in &watch.paths {
                if let Err((path, error)) = self.begin(watcher, *id, Path::new(path)) {
                    failed.push((*id, path, error));
                }
            }
        }
        failed
    }

    fn forget(&mut self, watcher: &Watcher, app: AppId) {
        self.apps.remove(&app);
        self.watches.retain(|watch, seen| {
            seen.retain(|seen| seen.app != app);
            if seen.is_empty() {
                watcher.remove(*watch);
            }
            !seen.is_empty()
        });
    }

    fn begin(&mut self, watcher: &Watcher, app: AppId, path: &Path) -> Result<(), (PathBuf, io::Error)> {
        let failed = |error| (path.to_owned(), error);
        if fs::metadata(path).map_err(failed)?.is_dir() {
            return self.add_all(watcher, app, path, path);
        }
        // A file is often replaced by another of its name.
        let folder = path.parent().unwrap_or(path);
        let watch = watcher.add(folder).map_err(failed)?;
        let only = path.file_name().map(OsStr::to_owned);
        let seen = Seen { app, folder: folder.to_owned(), root: folder.to_owned(), only };
        self.watches.entry(watch).or_default().push(seen);
        Ok(())
    }

    /// Watches a folder and all folders in it, through links, each once.
    fn add_all(
        &mut self,
        watcher: &Watcher,
        app: AppId,
        root: &Path,
        folder: &Path,
    ) -> Result<(), (PathBuf, io::Error)> {
        let mut waiting = vec![folder.to_owned()];
        let mut known = BTreeSet::new();
        // By whatever way it is reached; who wants to watch just the home has that.
        let identity = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
        known.extend(identity(&self.home).filter(|home| identity(root) != Some(*home)));
        while let Some(folder) = waiting.pop() {
            // One that has just gone is no loss.
            let Ok(metadata) = fs::metadata(&folder) else { continue };
            let Some(tree) = self.apps.get_mut(&app) else { return Ok(()) };
            if !known.insert((metadata.dev(), metadata.ino())) {
                continue;
            }
            tree.folders += 1;
            if tree.folders > FOLDERS_MAX {
                let why = format!("there are more than {FOLDERS_MAX} folders in it: ignore some");
                return Err((folder, io::Error::other(why)));
            }
            let watch = watcher.add(&folder).map_err(|error| (folder.clone(), error))?;
            let seen = self.watches.entry(watch).or_default();
            if !seen.iter().any(|seen| seen.app == app && seen.folder == folder) {
                seen.push(Seen { app, folder: folder.clone(), root: root.to_owned(), only: None });
            }
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let counts = self.apps.get(&app).is_some_and(|tree| tree.counts(root, &path, &self.home));
                if counts && fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
                    waiting.push(path);
                }
            }
        }
        Ok(())
    }

    /// Takes note of changes.
    pub(super) fn hear(&mut self, watcher: &Watcher, changes: &[FileChange]) {
        let now = Instant::now();
        for change in changes {
            let Some(watch) = change.watch else {
                // So much has happened that it was not told: whoever watches anything is due.
                self.apps.values_mut().for_each(|tree| tree.change(now, Path::new("so much")));
                continue;
            };
            for seen in self.watches.get(&watch).cloned().unwrap_or_default() {
                let path = match &change.name {
                    Some(name) if seen.only.as_ref().is_some_and(|only| only != name) => continue,
                    Some(name) => seen.folder.join(name),
                    None => continue,
                };
                let home = &self.home;
                let counts = |tree: &&mut Tree| tree.counts(&seen.root, &path, home);
                let Some(tree) = self.apps.get_mut(&seen.app).filter(counts) else { continue };
                tree.change(now, &path);
                if change.is_new_folder {
                    // What cannot be watched of it is told when the app is planned anew.
                    drop(self.add_all(watcher, seen.app, &seen.root, &path));
                }
            }
        }
    }

    /// When the next app is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.apps.values().filter_map(|tree| Some(tree.dirty.as_ref()?.1)).min()
    }

    /// The apps that are due, and what has changed first.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(AppId, PathBuf)> {
        let mut due = Vec::new();
        for (app, tree) in &mut self.apps {
            if let Some((_, _, what)) = tree.dirty.take_if(|(_, until, _)| *until <= now) {
                due.push((*app, what));
            }
        }
        due
    }
}

impl Tree {
    fn change(&mut self, now: Instant, what: &Path) {
        let pause = PAUSE.max(Duration::from_millis(self.spec.delay.as_millis()));
        let (since, what) = match self.dirty.take() {
            Some((since, _, what)) => (since, what),
            None => (now, what.to_owned()),
        };
        let until = (now + pause).min(since + LONGEST.max(pause * 10));
        self.dirty = Some((since, until, what));
    }

    /// Whether a change of this path is one for the app.
    fn counts(&self, root: &Path, path: &Path, home: &Path) -> bool {
        if is_of_home(root, path, home) {
            return false;
        }
        let below = path.strip_prefix(root).unwrap_or(path);
        let parts: Vec<&str> = below.iter().filter_map(OsStr::to_str).collect();
        let is_hidden = |part: &&str| part.starts_with('.') || *part == "node_modules";
        if parts.iter().any(is_hidden) || self.own.iter().any(|own| is_like(path, own)) {
            return false;
        }
        let (below, whole) = (below.to_string_lossy(), path.to_string_lossy());
        !self.spec.ignore.iter().any(|ignored| {
            let plain = ignored.trim_start_matches("./").trim_end_matches('/');
            if glob::is_pattern(ignored) {
                let last = parts.last().copied().unwrap_or_default();
                return [&*below, &*whole, last].iter().any(|text| glob::fits(plain, text));
            }
            parts.contains(&plain) || Path::new(&*below).starts_with(plain) || path.starts_with(plain)
        })
    }
}

/// Whether the path is the daemon's affair: its home, or, where just that is watched, what it writes there itself.
fn is_of_home(root: &Path, path: &Path, home: &Path) -> bool {
    let Ok(below) = path.strip_prefix(home) else { return false };
    match root.starts_with(home) {
        false => true,
        true => root == home && below.iter().next().is_some_and(Home::is_ours),
    }
}

/// The files that the app's own output and pids go to.
fn own_files(spec: &AppSpec) -> Vec<PathBuf> {
    let upkeep = &spec.upkeep;
    let files = [&upkeep.logs.out, &upkeep.logs.err, &upkeep.logs.both, &upkeep.pid_file];
    files.into_iter().flatten().map(PathBuf::from).collect()
}

/// Whether the path is such a file, or one of its name with a number before or behind its extension.
fn is_like(path: &Path, own: &Path) -> bool {
    let stem = own.file_stem().unwrap_or_default().as_encoded_bytes();
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    path.parent() == own.parent() && name.starts_with(stem)
}

#[cfg(test)]
mod tests {
    use oxherd_core::Span;

    use super::*;
    use crate::home::scratch::Scratch;

    fn spec(scratch: &Scratch, ignore: &[&str]) -> AppSpec {
        let mut spec = AppSpec::new("web", "node");
        spec.upkeep.watch = Some(WatchSpec {
            paths: vec![scratch.join("").display().to_string()],
            ignore: ignore.iter().map(|it| (*it).to_owned()).collect(),
            delay: Span::ZERO,
        });
        spec.upkeep.logs.out = Some(scratch.join("out.log").display().to_string());
        spec
    }

    #[test]
    fn what_counts_is_told_apart() {
        let scratch = Scratch::new();
        let spec = spec(&scratch, &["*.tmp", "build", "./docs/", "**/*.{md,txt}"]);
        let tree =
            Tree { spec: spec.upkeep.watch.clone().unwrap(), own: own_files(&spec), folders: 0, dirty: None };
        let root = scratch.join("");
        let counts = |path: &str| tree.counts(&root, &scratch.join(path), Path::new("/home/of/daemon"));
        for path in ["a.js", "src/b.js", "docs.js", "src/x.log"] {
            assert!(counts(path), "{path}");
        }
        for path in [
            "a.tmp",
            "src/a.tmp",
            "build/x",
            "src/build/y",
            "docs/a.js",
            "r.md",
            "x/y.txt",
            ".git/x",
            "src/.s",
            "node_modules/a.js",
            "out.log",
            "out.log.3",
            "out-4.log",
        ] {
            assert!(!counts(path), "{path}");
        }
    }

    #[test]
    fn the_home_of_the_daemon_is_left_out_by_whatever_way_it_is_reached() {
        let scratch = Scratch::new();
        let home = scratch.join("run/oxherd");
        fs::create_dir_all(home.join("logs")).unwrap();
        std::os::unix::fs::symlink(&home, scratch.join("link")).unwrap();
        let spec = spec(&scratch, &[]);
        let (watcher, app) = (Watcher::open().unwrap(), AppId(1));
        let mut trees = Trees::beside(&home);
        assert!(trees.want(&watcher, &[(app, &spec)]).is_empty());
        for file in ["state.json", "logs/web-out.log", "anything"] {
            fs::write(home.join(file), "1").unwrap();
        }
        fs::write(scratch.join("run/a.js"), "1").unwrap();
        trees.hear(&watcher, &watcher.read().unwrap());
        assert_eq!(trees.take_due(Instant::now() + LONGEST), [(app, scratch.join("run/a.js"))]);
        let of_home = |root: &Path, path: &str| is_of_home(root, &home.join(path), &home);
        assert!(
            of_home(&scratch.join(""), "app.js")
                && of_home(&home, "logs/x")
                && of_home(&home, "state.json.1")
        );
        assert!(!of_home(&home, "app.js") && !of_home(&home.join("logs"), "logs/x"));
    }

    #[test]
    fn a_storm_of_changes_in_old_and_new_folders_is_one_reload() {
        let scratch = Scratch::new();
        fs::create_dir(scratch.join("src")).unwrap();
        std::os::unix::fs::symlink(scratch.join(""), scratch.join("src/loop")).unwrap();
        let spec = spec(&scratch, &[]);
        let (watcher, app) = (Watcher::open().unwrap(), AppId(1));
        let mut trees = Trees::beside(Path::new("/home/of/daemon"));
        assert!(trees.want(&watcher, &[(app, &spec)]).is_empty());
        fs::create_dir(scratch.join("src/new")).unwrap();
        trees.hear(&watcher, &watcher.read().unwrap());
        for number in 0..500 {
            fs::write(scratch.join("src/new/a.js"), number.to_string()).unwrap();
        }
        trees.hear(&watcher, &watcher.read().unwrap());
        let due = trees.due().unwrap();
        assert!(due <= Instant::now() + PAUSE);
        assert_eq!(trees.take_due(due), [(app, scratch.join("src/new"))]);
        assert!(trees.due().is_none());
        assert!(trees.want(&watcher, &[]).is_empty() && trees.watches.is_empty());
    }

    #[test]
    fn a_single_file_is_watched_through_its_replacement() {
        let scratch = Scratch::new();
        fs::write(scratch.join("app.js"), "1").unwrap();
        let mut spec = AppSpec::new("web", "node");
        let paths = vec![scratch.join("app.js").display().to_string()];
        spec.upkeep.watch = Some(WatchSpec { paths, ..WatchSpec::default() });
        let (watcher, app) = (Watcher::open().unwrap(), AppId(1));
        let mut trees = Trees::beside(Path::new("/home/of/daemon"));
        trees.want(&watcher, &[(app, &spec)]);
        fs::write(scratch.join("other.js"), "2").unwrap();
        trees.hear(&watcher, &watcher.read().unwrap());
        assert!(trees.due().is_none());
        fs::rename(scratch.join("other.js"), scratch.join("app.js")).unwrap();
        trees.hear(&watcher, &watcher.read().unwrap());
        assert_eq!(trees.take_due(Instant::now() + LONGEST), [(app, scratch.join("app.js"))]);
    }
}
