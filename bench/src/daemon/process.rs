//! What a process costs, as `/proc` tells it, and finding those that a manager left behind.

use std::fs;
use std::io;

use serde_json::{Value, json};

use crate::sys;

/// Memory in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    /// Resident, pages that others share counted in full.
    pub(crate) rss: f64,
    /// Resident, shared pages counted by share.
    pub(crate) pss: f64,
    /// Not backed by any file: what this process alone makes the machine keep.
    pub(crate) anonymous: f64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Result<Self, String> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        Self::from_rollup(&text).ok_or_else(|| format!("{path} lacks a figure"))
    }

    fn from_rollup(text: &str) -> Option<Self> {
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.parse().ok()
        };
        Some(Self { rss: figure("Rss:")?, pss: figure("Pss:")?, anonymous: figure("Anonymous:")? })
    }

    pub(crate) fn json(self) -> Value {
        json!({ "rss_kib": self.rss, "pss_kib": self.pss, "anonymous_kib": self.anonymous })
    }
}

/// CPU time that these processes have used so far, all threads, in milliseconds.
pub(crate) fn cpu_ms(pids: &[u32]) -> Result<f64, String> {
    let of = |pid: &u32| {
        let time =
            sys::cpu_time(*pid).map_err(|error| format!("cannot read the CPU clock of {pid}: {error}"))?;
        Ok(time.total_ns as f64 / 1e6)
    };
    pids.iter().map(of).sum()
}

pub(crate) fn descriptors(pid: u32) -> Result<usize, String> {
    let path = format!("/proc/{pid}/fd");
    fs::read_dir(&path).map(Iterator::count).map_err(|error| format!("cannot read {path}: {error}"))
}

/// All processes whose environment has this entry.
pub(crate) fn with_environment(entry: &str) -> io::Result<Vec<u32>> {
    let pids = fs::read_dir("/proc")?.filter_map(|found| found.ok()?.file_name().to_str()?.parse().ok());
    let has = |pid: &u32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|found| found == entry.as_bytes())
    };
    Ok(pids.filter(has).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_whole_names() {
        let text = "5500-7ffd ---p 00000000 00:00 0 [rollup]\nRss:    6244 kB\nPss:    2240 kB\nPss_Dirty: 1 kB\nAnonymous:   500 kB\n";
        assert_eq!(Memory::from_rollup(text), Some(Memory { rss: 6244.0, pss: 2240.0, anonymous: 500.0 }));
        assert_eq!(Memory::from_rollup("Rss: 1 kB\n"), None);
    }

    #[test]
    fn own_figures_are_there() {
        let own = std::process::id();
        assert!(Memory::of(own).is_ok_and(|memory| memory.rss > 0.0 && memory.anonymous > 0.0));
        assert!(cpu_ms(&[own]).is_ok_and(|ms| ms > 0.0));
        assert!(descriptors(own).is_ok_and(|count| count >= 3));
    }

    #[test]
    fn what_is_gone_is_an_error_and_never_a_figure() {
        assert!(Memory::of(u32::MAX).is_err());
        assert!(cpu_ms(&[std::process::id(), u32::MAX >> 4]).is_err());
    }
}
