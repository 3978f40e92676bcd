//! How many workers, and of which kind. Counts only; nothing is started here.

use std::thread;

/// How many workers a cluster has at first, and whether they are processes or threads.
///
/// CPUs are those that this process may use, by its affinity mask and the quota of its cgroup; not the machine's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// A process for each CPU.
    #[default]
    PerCpu,
    /// So many processes.
    Count(u32),
    /// Two processes for each CPU, for programs that mostly wait.
    Io,
    /// A process for each CPU but one.
    AllButOne,
    /// So many threads of this process.
    Threads(u32),
    /// A thread for each CPU.
    ThreadsPerCpu,
    /// No worker until one is [forked](crate::Cluster::fork).
    None,
}

impl Workers {
    /// How many that is on this machine.
    ///
    /// ```
    /// use oxherd::Workers;
    ///
    /// assert_eq!(Workers::Count(4).count(), 4);
    /// assert!(Workers::AllButOne.count() >= 1);
    /// ```
    pub fn count(self) -> u32 {
        let cpus = || thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
        match self {
            Self::PerCpu | Self::ThreadsPerCpu => cpus(),
            Self::Count(count) | Self::Threads(count) => count,
            Self::Io => cpus().saturating_mul(2),
            Self::AllButOne => cpus().saturating_sub(1).max(1),
            Self::None => 0,
        }
    }

    /// Whether they are threads.
    pub fn are_threads(self) -> bool {
        match self {
            Self::Threads(_) | Self::ThreadsPerCpu => true,
            Self::PerCpu | Self::Count(_) | Self::Io | Self::AllButOne | Self::None => false,
        }
    }
}
