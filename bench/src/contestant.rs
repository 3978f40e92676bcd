//! Who takes part, and how each is started. All run `bench/server.js` in two workers on one loopback port.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use crate::args::AcceptOptions;
use crate::child::{Guarded, Output};
use crate::sys;

pub(crate) const SERVER_JS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/server.js");
const CLUSTER_JS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster.js");
pub(crate) const WORKERS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    NodeRoundRobin,
    NodeNone,
    Floor,
    Handoff,
    Kernel,
    Shared,
    Bare,
}

impl Contestant {
    pub(crate) const ALL: [Self; 7] = [
        Self::NodeRoundRobin,
        Self::NodeNone,
        Self::Floor,
        Self::Handoff,
        Self::Kernel,
        Self::Shared,
        Self::Bare,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NodeRoundRobin => "node-rr",
            Self::NodeNone => "node-none",
            Self::Floor => "floor",
            Self::Handoff => "handoff",
            Self::Kernel => "kernel",
            Self::Shared => "shared",
            Self::Bare => "bare",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contestant| contestant.name() == name)
    }

    pub(crate) fn is_oxherd(self) -> bool {
        matches!(self, Self::Handoff | Self::Kernel | Self::Shared)
    }

    pub(crate) fn start(self, options: &AcceptOptions) -> Result<Herd, String> {
        let node = options.node.as_path();
        match self {
            Self::NodeRoundRobin => node_cluster(node, "rr"),
            Self::NodeNone => node_cluster(node, "none"),
            Self::Floor => floor(node, options.window),
            Self::Handoff | Self::Kernel | Self::Shared => oxherd(&options.oxherd, node, self.name()),
            Self::Bare => bare(node),
        }
    }
}

/// A started contestant: its processes, and the port that it serves or will soon.
pub(crate) struct Herd {
    pub(crate) port: u16,
    processes: Vec<Guarded>,
    has_primary: bool,
    /// Bound and not listening: keeps the port from everybody else until the contestant has it.
    port_hold: Option<OwnedFd>,
}

impl Herd {
    fn with_primary(mut command: Command) -> Result<Self, String> {
        let (hold, port) = sys::bound_socket(0).map_err(|error| format!("cannot reserve a port: {error}"))?;
        command.env("PORT", port.to_string());
        let primary = Guarded::spawn(&mut command, None, Output::Captured)
            .map_err(|error| format!("cannot start {}: {error}", command.get_program().display()))?;
        Ok(Self { port, processes: vec![primary], has_primary: true, port_hold: Some(hold) })
    }

    /// The process whose CPU time is the manager's cost; none when nobody manages.
    pub(crate) fn primary(&self) -> Option<u32> {
        self.has_primary.then(|| self.processes[0].pid())
    }

    pub(crate) fn serves(&mut self) {
        self.port_hold = None;
    }

    /// Fails as soon as one of the processes has ended, with its last words.
    pub(crate) fn check_alive(&mut self) -> Result<(), String> {
        for process in &mut self.processes {
            if let Some(status) = process.has_ended() {
                return Err(format!("ended early ({status}): {}", process.output_tail()));
            }
        }
        Ok(())
    }

    pub(crate) fn output_tail(&self) -> String {
        self.processes.iter().map(Guarded::output_tail).collect::<Vec<_>>().join("\n")
    }

    /// Stops everything; a primary that does not exit with 0 is an error, a worker on its own just dies of the signal.
    pub(crate) fn stop(mut self) -> Result<String, String> {
        let mut output = String::new();
        for process in &mut self.processes {
            let status = process.stop()?;
            output = process.output_tail();
            if self.has_primary && !status.success() {
                return Err(format!("ended with {status} on SIGTERM: {output}"));
            }
        }
        Ok(output)
    }
}

fn node_cluster(node: &Path, policy: &str) -> Result<Herd, String> {
    let mut command = Command::new(node);
    command.arg(CLUSTER_JS).env("NODE_CLUSTER_SCHED_POLICY", policy);
    Herd::with_primary(command)
}

fn floor(node: &Path, window: usize) -> Result<Herd, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot find this program's path: {error}"))?;
    let mut command = Command::new(own);
    command.arg("floor").arg("--node").arg(node).args(["--window", &window.to_string()]);
    Herd::with_primary(command)
}

fn oxherd(oxherd: &Path, node: &Path, distribution: &str) -> Result<Herd, String> {
    let mut command = Command::new(oxherd);
    command.args(["run", "-i", &WORKERS.to_string(), "--distribution", distribution]);
    if node != Path::new("node") {
        command.arg("--interpreter").arg(node);
    }
    command.arg(SERVER_JS);
    Herd::with_primary(command)
}

/// The workers with nobody on the path: each is lent its own member of a reuseport group and accepts by itself.
fn bare(node: &Path) -> Result<Herd, String> {
    let mut herd = Herd { port: 0, processes: Vec::new(), has_primary: false, port_hold: None };
    for _ in 0..WORKERS {
        let (socket, port) = sys::bound_socket(herd.port).map_err(|error| format!("cannot bind: {error}"))?;
        herd.port = port;
        let mut command = Command::new(node);
        command.arg(SERVER_JS).env("BENCH_LISTEN_FD", socket.as_raw_fd().to_string());
        let worker = Guarded::spawn(&mut command, Some(socket.as_fd()), Output::Captured)
            .map_err(|error| format!("cannot start {}: {error}", node.display()))?;
        herd.processes.push(worker);
    }
    Ok(herd)
}
