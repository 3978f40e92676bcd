//! What files are called: names of apps, made fit for a file system and told apart.
//!
//! Must never let two names share a file, nor a name reach out of the folder.

use std::collections::BTreeMap;
use std::sync::Arc;

use oxherd_core::{AppId, file_stem};

/// The longest part of a name that is used; a file's name has 255 bytes at most.
const STEM_BYTES_MAX: usize = 200;

/// The stems of files, and which name each belongs to. Several apps of one name, as when one is started anew while
/// the other still ends, share a stem.
#[derive(Debug, Default)]
pub(super) struct Stems {
    taken: BTreeMap<Arc<str>, Arc<str>>,
}

impl Stems {
    /// The stem for an app of that name: the plain one, unless it belongs to another name.
    pub(super) fn claim(&mut self, app: AppId, name: &Arc<str>) -> Arc<str> {
        let mut stem = plain(name);
        while self.taken.get(stem.as_str()).is_some_and(|owner| owner != name) {
            stem = format!("{stem}-{}", app.0);
        }
        let stem: Arc<str> = stem.into();
        self.taken.insert(Arc::clone(&stem), Arc::clone(name));
        stem
    }

    /// Nobody uses the stem any more.
    pub(super) fn free(&mut self, stem: &str) {
        self.taken.remove(stem);
    }
}

/// The stem of a name that nobody else has a claim to.
pub(super) fn plain(name: &str) -> String {
    let mut stem = file_stem(name);
    stem.truncate(STEM_BYTES_MAX);
    stem
}

/// The stem for lines of an app whose name is not known.
pub(super) fn unknown(app: AppId) -> Arc<str> {
    format!("app-{}", app.0).into()
}

pub(super) fn file_name(stem: &str, stream: usize) -> String {
    format!("{stem}-{}.log", if stream == 0 { "out" } else { "error" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_fit_and_stay_apart() {
        let mut stems = Stems::default();
        let mut claim = |app, name: &str| stems.claim(AppId(app), &name.into()).to_string();
        assert_eq!(claim(1, "../a b/ü"), "..-a-b--");
        assert_eq!(claim(2, "a/b"), "a-b");
        assert_eq!(claim(3, "a-b-4"), "a-b-4");
        assert_eq!(claim(4, "a-b"), "a-b-4-4");
        assert_eq!(claim(5, "a/b"), "a-b");
        let long = claim(6, &"x".repeat(300));
        assert_eq!(long.len(), STEM_BYTES_MAX);
        assert_eq!(claim(7, &"x".repeat(301)), format!("{long}-7"));
    }
}
