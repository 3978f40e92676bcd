//! Figures and states in words, as the report and the command show them. Words only.

use oxherd_engine::core::Status;

/// The word for a state.
pub fn status(status: Status) -> &'static str {
    match status {
        Status::Starting => "starting",
        Status::Standby => "standby",
        Status::Online => "online",
        Status::Stopping => "stopping",
        Status::Stopped => "stopped",
        Status::WaitingRestart => "waiting restart",
        Status::Errored => "errored",
    }
}

/// `54.2 MiB`; a dash for what nobody knows.
pub fn size(bytes: Option<u64>) -> String {
    const MIB: f64 = (1 << 20) as f64;
    bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1} MiB", bytes as f64 / MIB))
}

/// `1 worker`, `2 workers`.
pub fn count(number: impl Into<u64>, one: &str, many: &str) -> String {
    match number.into() {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_are_those_of_the_report() {
        assert_eq!((size(Some(56_832_819)), size(None)), ("54.2 MiB".into(), "-".into()));
        assert_eq!(count(1_u32, "line", "lines"), "1 line");
        assert_eq!(count(0_u32, "line", "lines"), "0 lines");
    }
}
