//! Runs the real program against real Node, and watches from outside: log lines, answers, processes.
//!
//! It must never synchronise by sleeping: whatever is waited for can be observed and has a deadline. Ports
//! come from the kernel. Nothing that a test has started outlives it.
//!
//! ```no_run
//! use oxherd_e2e::{Herd, http};
//!
//! let herd = Herd::of("app.js").workers(2).start();
//! let address = herd.address();
//! assert_eq!(http::get(&address, "/").status, 200);
//! herd.stop();
//! ```

pub mod cases;
pub mod client;
pub mod daemon;
pub mod deaths;
pub mod herd;
pub mod http;
pub mod lines;
pub mod load;
pub mod machine;
pub mod places;
pub mod pm2;
pub mod ports;
pub mod procs;
pub mod programs;
pub mod reports;
pub mod screen;
pub mod script;
pub mod terminal;
pub mod told;
pub mod turn;
pub mod workers;

use std::time::{Duration, Instant};

pub use client::{Address, Failure};
pub use daemon::Home;
pub use deaths::{Chance, Clients, Roll};
pub use herd::{Builder, Herd};
pub use lines::{Line, Mark};
pub use load::{Load, Tally};
pub use places::NODES;
pub use pm2::Pm2;
pub use programs::Program;
pub use terminal::Terminal;
pub use workers::{Event, WorkerLine};

/// How long anything may take that is expected to happen soon. Generous, as machines are slow at times.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks at something that cannot be waited for otherwise.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until there is something to see, and panics with `what` after [`DEADLINE`].
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_within(DEADLINE, what, look)
}

/// Looks until there is something to see, and panics with `what` when that takes too long.
pub fn eventually_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < until, "not seen within {limit:?}: {what}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}
