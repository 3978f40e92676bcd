//! The clocks: monotonic for timers, wall for people, the boot id for images.
//!
//! Must never be read by the deciding code itself; time is handed to it as an argument.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Milliseconds of `CLOCK_MONOTONIC`: never goes back, does not count time suspended, starts anew at boot.
pub fn monotonic_millis() -> u64 {
    millis(clock_gettime(ClockId::Monotonic))
}

/// Milliseconds of `CLOCK_BOOTTIME`: the same with the time suspended, as the kernel dates processes.
pub fn boot_millis() -> u64 {
    millis(clock_gettime(ClockId::Boottime))
}

/// Milliseconds since 1970-01-01 UTC, as the system believes; may jump. 0 for a clock before 1970.
pub fn wall_millis() -> u64 {
    millis(clock_gettime(ClockId::Realtime))
}

/// The CPU time that the calling thread has used (`CLOCK_THREAD_CPUTIME_ID`): what something costs, however busy the machine
/// is with others.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A text that differs between two boots of the machine: the kernel's `random/boot_id`, or where `/proc`
/// hides that, the boot time in seconds.
pub fn boot_id() -> String {
    if let Ok(id) = fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        return id.trim().to_owned();
    }
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot_time = stat.lines().find_map(|line| line.strip_prefix("btime "));
    match boot_time {
        Some(seconds) => format!("btime-{}", seconds.trim()),
        None => format!("booted-{}", wall_millis().saturating_sub(monotonic_millis()) / 60_000),
    }
}

fn millis(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_plausible() {
        let first = monotonic_millis();
        assert!(monotonic_millis() >= first);
        assert!(boot_millis() >= first);
        let used = thread_cpu();
        assert!((0..1000).map(std::hint::black_box).sum::<u64>() > 0 && thread_cpu() > used);
        assert!(wall_millis() > 1_600_000_000_000);
        assert_eq!(boot_id(), boot_id());
        assert!(!boot_id().is_empty());
    }
}
