//! How much memory whole trees of processes hold. Only looks.

use std::collections::{BTreeMap, BTreeSet};

use super::spec::LABEL_VARIABLE;
use super::tree::children_of;
use crate::proc;

/// A tree deeper or larger than this is not counted further: something outruns us.
const MEMBERS_MAX: usize = 10_000;

/// Looks at several trees with one look at the orphans that all of them may have.
#[derive(Debug, Default)]
pub struct Census {
    /// The orphans that `reaper` has taken in, by the label that they carry.
    orphans: BTreeMap<String, Vec<u32>>,
}

impl Census {
    /// Looks for orphans among the children of `reaper`, the process that takes them in: those that are not `known`.
    /// Usually there are none, and this costs one small file.
    pub fn take(reaper: u32, known: &BTreeSet<u32>) -> Self {
        let mut orphans: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        // Where the kernel has no lists of children a tree is its root alone.
        for pid in children_of(&reaper.to_string()).unwrap_or_default() {
            if known.contains(&pid) || pid == std::process::id() {
                continue;
            }
            let label = proc::variable_of(pid, LABEL_VARIABLE).ok().flatten();
            if let Some(label) = label.and_then(|label| label.into_string().ok()) {
                orphans.entry(label).or_default().push(pid);
            }
        }
        Self { orphans }
    }

    /// The processes of the tree: `root`, the orphans with its label, and all below them.
    pub fn members(&self, root: u32, label: &str) -> Vec<u32> {
        let mut members = vec![root];
        members.extend(self.orphans.get(label).into_iter().flatten().filter(|pid| **pid != root));
        let mut seen = 0;
        while let Some(pid) = members.get(seen).copied().filter(|_| members.len() < MEMBERS_MAX) {
            members.extend(children_of(&pid.to_string()).unwrap_or_default());
            seen += 1;
        }
        members
    }

    /// The memory of the tree, in bytes; nothing when it is gone.
    ///
    /// What its processes share is counted for each of them as long as the sum stays within `enough`: only beyond that
    /// it is worth the look that tells them apart (the proportional set).
    pub fn memory(&self, root: u32, label: &str, enough: u64) -> Option<u64> {
        let own = proc::resident_of(root).ok()?;
        let members = self.members(root, label);
        let resident = |pid: &u32| proc::resident_of(*pid).unwrap_or(0);
        let others: u64 = members.iter().skip(1).map(resident).sum();
        let sum = own.saturating_add(others);
        if others == 0 || sum <= enough {
            return Some(sum);
        }
        let share = |pid: &u32| {
            let memory = proc::memory_of(*pid).unwrap_or_default();
            memory.pss_bytes.unwrap_or(memory.rss_bytes)
        };
        Some(members.iter().map(share).sum::<u64>().max(own))
    }
}
