//! Figures and states in words: how long, how much, in which state.

use oxherd_engine::core::{Distribution, Sockets, Status};

use super::paint::Paint;

pub(crate) use oxherd::console::words::{count, size, status};

/// The colour for a state.
pub(crate) fn status_paint(status: Status) -> Paint {
    match status {
        Status::Online => Paint::Green,
        Status::Standby => Paint::Dim,
        Status::Starting | Status::Stopping | Status::WaitingRestart => Paint::Yellow,
        // Somebody wanted it to be stopped; red is for trouble.
        Status::Stopped => Paint::Dim,
        Status::Errored => Paint::Red,
    }
}

/// `41s`, `12m`, `5h 12m`, `3d 4h`.
pub(crate) fn uptime(ms: u64) -> String {
    let secs = ms / 1000;
    match secs {
        0..60 => format!("{secs}s"),
        60..3600 => format!("{}m", secs / 60),
        3600..86_400 => format!("{}h {}m", secs / 3600, secs % 3600 / 60),
        _ => format!("{}d {}h", secs / 86_400, secs % 86_400 / 3600),
    }
}

/// `0.3%`; a dash for what nobody knows.
pub(crate) fn percent(percent: Option<f64>) -> String {
    percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}%"))
}

/// A figure, or a dash for what nobody knows.
pub(crate) fn figure(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// How connections reach the workers; a dash where they bind by themselves.
pub(crate) fn mode(distribution: Distribution, sockets: Sockets) -> &'static str {
    match (sockets, distribution) {
        (Sockets::None, _) => "-",
        (_, Distribution::Handoff) => "handoff",
        (_, Distribution::Kernel) => "kernel",
        (_, Distribution::Shared) => "shared",
    }
}

/// `web`, `web and api`, `web, api and cron`.
pub(crate) fn enumerate(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units_at_most() {
        let shown = [0, 41_900, 60_000, 3_599_000, 18_720_000, 273_600_000].map(uptime);
        assert_eq!(shown, ["0s", "41s", "1m", "59m", "5h 12m", "3d 4h"]);
    }

    #[test]
    fn sizes_are_those_of_the_report() {
        assert_eq!(size(Some(56_832_819)), "54.2 MiB");
        assert_eq!((size(None), percent(None), percent(Some(0.25))), ("-".into(), "-".into(), "0.2%".into()));
    }

    #[test]
    fn lists_read_as_sentences() {
        let names = ["web", "api", "cron"].map(str::to_owned);
        assert_eq!(enumerate(&names[..1]), "web");
        assert_eq!(enumerate(&names[..2]), "web and api");
        assert_eq!(enumerate(&names), "web, api and cron");
    }
}
