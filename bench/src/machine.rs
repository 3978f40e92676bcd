//! What the figures were taken on.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

pub(crate) struct Machine {
    cores: usize,
    cpu: String,
    kernel: String,
    node: String,
    load_average: String,
}

impl Machine {
    pub(crate) fn read(node: &Path) -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: cpu_model(),
            kernel: first_line("/proc/sys/kernel/osrelease"),
            node: node_version(node),
            load_average: load_average(),
        }
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{} cores ({}), Linux {}, Node {}, load average {} at the start and {} now",
            self.cores,
            self.cpu,
            self.kernel,
            self.node,
            self.load_average,
            load_average()
        )
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cores": self.cores, "cpu": self.cpu, "kernel": self.kernel, "node": self.node,
            "load_average_start": self.load_average, "load_average_end": load_average(),
        })
    }
}

/// The machine's CPU time so far, in clock ticks.
#[derive(Clone, Copy, Default)]
pub(crate) struct MachineTicks {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl MachineTicks {
    pub(crate) fn read() -> Self {
        let line = first_line("/proc/stat");
        let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
        // user nice system idle iowait irq softirq steal; guest time is already part of user.
        Self { all: ticks.iter().take(8).sum(), idle: at(3) + at(4), stolen: at(7) }
    }

    /// Shares of the time since `start`: idle, and stolen by other guests of the host.
    pub(crate) fn idle_and_stolen_since(self, start: Self) -> (f64, f64) {
        let all = self.all.saturating_sub(start.all).max(1) as f64;
        let share = |now: u64, then: u64| now.saturating_sub(then) as f64 / all;
        (share(self.idle, start.idle), share(self.stolen, start.stolen))
    }
}

fn node_version(node: &Path) -> String {
    match Command::new(node).arg("--version").stdin(Stdio::null()).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => format!("unknown ({error})"),
    }
}

fn load_average() -> String {
    first_line("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "model unknown".to_owned(), |(_, name)| name.to_owned())
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}
