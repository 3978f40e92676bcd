//! Which files the lines of an app go to, and what the queue knows of each file.
//!
//! A file is one thing however many apps, slots and streams write to it. Must never let two of them share a line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oxherd_core::{AppId, InstanceId, LogSpec, Rotate};

use super::names;
use crate::pidfiles::numbered;
use crate::server::LogPaths;

/// What keeps nothing.
const NOTHING: &str = "/dev/null";

/// A file by its number in the queue.
pub(super) type FileId = u32;
/// Whose line it is: while one worker takes the place of another, both write.
pub(super) type Source = (AppId, InstanceId, usize);

/// A file that lines go to.
#[derive(Debug)]
pub(super) struct FileState {
    pub(super) path: Arc<Path>,
    pub(super) rotate: Rotate,
    /// Who has begun a line that is not ended.
    pub(super) midline: Option<Source>,
    /// Nothing was to go to it yet.
    pub(super) is_fresh: bool,
    /// Lines that were lost since the last one that was taken.
    pub(super) unsaid: u64,
    /// The last one was lost after that many releases: until the next there is no room either.
    pub(super) unsaid_since: u64,
}

/// All files.
#[derive(Debug, Default)]
pub(super) struct Files {
    by_path: BTreeMap<Arc<Path>, FileId>,
    states: BTreeMap<FileId, FileState>,
    last: FileId,
}

impl Files {
    /// The file at this path.
    pub(super) fn at(&mut self, path: PathBuf, rotate: &Rotate) -> FileId {
        let path: Arc<Path> = path.into();
        if let Some(id) = self.by_path.get(&path) {
            if let Some(state) = self.states.get_mut(id) {
                state.rotate = rotate.clone();
            }
            return *id;
        }
        self.last += 1;
        self.by_path.insert(Arc::clone(&path), self.last);
        let (rotate, midline, is_fresh) = (rotate.clone(), None, true);
        let state = FileState { path, rotate, midline, is_fresh, unsaid: 0, unsaid_since: 0 };
        self.states.insert(self.last, state);
        self.last
    }

    pub(super) fn get(&mut self, id: FileId) -> Option<&mut FileState> {
        self.states.get_mut(&id)
    }

    /// Forgets files that nobody writes to and of which nothing is to be told. One that ends within a line is known as
    /// long as the app whose line that is: whoever comes next must not go on with it.
    pub(super) fn keep_only(&mut self, used: &BTreeSet<FileId>, is_known: impl Fn(AppId) -> bool) {
        let is_amid = |state: &FileState| state.midline.is_some_and(|(app, ..)| is_known(app));
        self.states.retain(|id, state| used.contains(id) || state.unsaid > 0 || is_amid(state));
        let states = &self.states;
        self.by_path.retain(|_, id| states.contains_key(id));
    }

    pub(super) fn is_known(&self, path: &Path) -> bool {
        self.by_path.contains_key(path)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&FileId, &mut FileState)> {
        self.states.iter_mut()
    }
}

/// The files of one slot as people see them; what goes nowhere goes to `/dev/null`.
pub(super) fn paths(folder: &Path, stem: &str, spec: &LogSpec, number: Option<u32>) -> LogPaths {
    let nothing = || PathBuf::from(NOTHING);
    if spec.disabled {
        return LogPaths { out: nothing(), err: nothing(), both: None };
    }
    let own = |path: PathBuf| match number.filter(|_| spec.per_slot && path != Path::new(NOTHING)) {
        Some(number) => numbered(&path, number),
        None => path,
    };
    let chosen = |path: &Option<String>, stream| {
        own(path.as_ref().map_or_else(|| folder.join(names::file_name(stem, stream)), PathBuf::from))
    };
    let both = spec.both.as_ref().map(|path| own(PathBuf::from(path)));
    LogPaths { out: chosen(&spec.out, 0), err: chosen(&spec.err, 1), both }
}

/// Where the lines of a stream go: its own file, and that of both.
pub(super) fn targets(paths: LogPaths, stream: usize) -> [Option<PathBuf>; 2] {
    let own = if stream == 0 { paths.out } else { paths.err };
    let real = |path: PathBuf| (path != Path::new(NOTHING)).then_some(path);
    let both = paths.both.filter(|both| *both != own);
    [real(own), both.and_then(real)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_chosen_by_name_or_path_or_not_at_all() {
        let shown = |spec: &LogSpec| {
            let paths = paths(Path::new("/logs"), "web", spec, Some(3));
            let text = |path: &Path| path.display().to_string();
            (text(&paths.out), text(&paths.err), paths.both.as_deref().map(text))
        };
        let plain = LogSpec::default();
        assert_eq!(shown(&plain), ("/logs/web-out.log".into(), "/logs/web-error.log".into(), None));
        let mut spec = LogSpec { per_slot: true, both: Some("/b/all.txt".into()), ..plain };
        spec.err = Some(NOTHING.into());
        assert_eq!(shown(&spec), ("/logs/web-out-3.log".into(), NOTHING.into(), Some("/b/all-3.txt".into())));
        spec.disabled = true;
        assert_eq!(shown(&spec), (NOTHING.into(), NOTHING.into(), None));
    }

    #[test]
    fn a_line_goes_to_a_file_once() {
        let paths = |out: &str, both: &str| LogPaths {
            out: out.into(),
            err: NOTHING.into(),
            both: Some(both.into()),
        };
        assert_eq!(targets(paths("/a", "/b"), 0), [Some("/a".into()), Some("/b".into())]);
        assert_eq!(targets(paths("/a", "/a"), 0), [Some("/a".into()), None]);
        assert_eq!(targets(paths("/a", "/b"), 1), [None, Some("/b".into())]);
    }
}
