//! What scenarios share.

use std::process::ExitCode;
use std::time::Duration;

use oxherd::{Builder, Cluster};

/// A program that is run in a process of its own.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) play: fn() -> ExitCode,
    /// What it must end with.
    pub(crate) code: i32,
    /// What must be among what it and its workers print.
    pub(crate) says: &'static [&'static str],
}

/// Makes scenarios of functions that are named like them.
macro_rules! scenarios {
    ($($name:ident => $code:expr, $says:expr;)*) => {
        pub(crate) const SCENARIOS: &[crate::stage::Scenario] = &[$(
            crate::stage::Scenario { name: stringify!($name), play: $name, code: $code, says: &$says },
        )*];
    };
}
pub(crate) use scenarios;

/// A cluster that is quick to judge. Its primary is this process.
pub(crate) fn builder() -> Builder {
    Cluster::builder().console(false).min_uptime(Duration::from_millis(50)).restart_delay(Duration::ZERO)
}
