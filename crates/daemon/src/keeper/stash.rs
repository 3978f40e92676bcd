//! What the keeper holds for the daemon: named descriptors with a few bytes each.
//!
//! Must never look into the bytes, nor use a descriptor.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// One entry.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) meta: Vec<u8>,
    pub(super) fd: Option<OwnedFd>,
}

/// All entries by their names.
#[derive(Debug, Default)]
pub(super) struct Stashed(BTreeMap<String, Kept>);

impl Stashed {
    /// Keeps an entry, in place of the one with the same name.
    pub(super) fn put(&mut self, name: String, meta: Vec<u8>, fd: Option<OwnedFd>) {
        self.0.insert(name, Kept { meta, fd });
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Forgets all that belongs to a child: `…/<label>`.
    pub(super) fn forget_child(&mut self, label: &str) {
        self.0.retain(|name, _| name.split_once('/').is_none_or(|(_, whose)| whose != label));
    }

    pub(super) fn get(&self, name: &str) -> Option<&Kept> {
        self.0.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Kept)> {
        self.0.iter().map(|(name, kept)| (name.as_str(), kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_entries_go_with_it() {
        let mut stash = Stashed::default();
        for name in ["channel/p/a:0:1:0.1", "uses/p/a:0:1:0.1", "channel/p/a:0:1:0.11", "listener/1", "lock"]
        {
            stash.put(name.into(), Vec::new(), None);
        }
        stash.forget_child("p/a:0:1:0.1");
        assert_eq!(
            stash.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["channel/p/a:0:1:0.11", "listener/1", "lock"]
        );
    }
}
