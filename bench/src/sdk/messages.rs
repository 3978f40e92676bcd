//! Round trips of messages worker → primary → worker and back: ours and Node's, with one on the way and with many.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use oxherd::{Cluster, Messages, Worker, Workers};

use crate::args::SdkOptions;
use crate::child::{Guarded, Output};

/// How many are on the way at a time.
pub(crate) const WINDOWS: [u32; 2] = [1, 64];
const MESSAGES_JS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/messages.js");
const SUBCOMMAND: &str = "sdk-messages";
/// Beyond the measured time: both workers have to start and to find each other.
const EXTRA_TIME: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const SEEK_EVERY: Duration = Duration::from_millis(50);

/// Who carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Messenger {
    Oxherd,
    Node,
}

/// What one messenger did in one round.
pub(crate) struct RoundTrips {
    pub(crate) round: usize,
    pub(crate) messenger: Messenger,
    pub(crate) window: u32,
    /// Round trips a second.
    pub(crate) rate: f64,
}

impl Messenger {
    pub(crate) fn in_turn(round: usize) -> [Self; 2] {
        if round.is_multiple_of(2) { [Self::Oxherd, Self::Node] } else { [Self::Node, Self::Oxherd] }
    }

    /// Round trips a second.
    pub(crate) fn measure(self, window: u32, options: &SdkOptions) -> Result<f64, String> {
        let seconds = options.measured.as_secs_f64().to_string();
        let mut command = match self {
            Self::Oxherd => own_program()?,
            Self::Node => node_program(&options.node),
        };
        command.args([&window.to_string(), &seconds]);
        let mut process =
            Guarded::spawn(&mut command, None, Output::Captured).map_err(|error| error.to_string())?;
        let until = Instant::now() + options.measured + EXTRA_TIME;
        let rate = loop {
            let said = process.output_tail();
            if let Some(rate) = rate_in(&said) {
                break rate;
            }
            if Instant::now() > until || process.has_ended().is_some() {
                return Err(format!("no figure: {said}"));
            }
            std::thread::sleep(LOOK_EVERY);
        };
        process.stop()?;
        Ok(rate)
    }
}

fn own_program() -> Result<Command, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = Command::new(program);
    command.arg(SUBCOMMAND);
    Ok(command)
}

fn node_program(node: &Path) -> Command {
    let mut command = Command::new(node);
    command.arg(MESSAGES_JS);
    command
}

/// In "round trips 1000 in 2.5 s".
fn rate_in(said: &str) -> Option<f64> {
    let (count, rest) = said.rsplit_once("round trips ")?.1.split_once(" in ")?;
    let (seconds, _) = rest.split_once(" s")?;
    Some(count.parse::<f64>().ok()? / seconds.parse::<f64>().ok()?)
}

/// How a herd of messengers is to work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MessageOptions {
    pub(crate) window: u32,
    pub(crate) seconds: f64,
}

/// Is primary and both workers, until `SIGTERM`.
pub(crate) fn play_worker(options: MessageOptions) -> ExitCode {
    let words = [SUBCOMMAND.to_owned(), options.window.to_string(), options.seconds.to_string()];
    let builder = Cluster::builder().name("messages").workers(Workers::Count(2)).args(words).signals(true);
    builder.run(move |worker| async move {
        match worker.slot() {
            0 => answer(&worker).await,
            _ => ask(&worker, options).await,
        }
    })
}

async fn answer(worker: &Worker) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut messages = worker.messages();
    while let Some(message) = messages.recv().await {
        if let (Some("ask"), Some(sender)) = (message.kind().as_deref(), message.from_worker()) {
            worker.send_to(sender, "answer", &0)?;
        }
    }
    Ok(())
}

async fn ask(
    worker: &Worker,
    options: MessageOptions,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut messages = worker.messages();
    let other = find(worker, &mut messages).await?;
    let begun = Instant::now();
    for _ in 0..options.window {
        worker.send_to(other, "ask", &0)?;
    }
    let mut count = 0_u64;
    while let Some(message) = messages.recv().await {
        if message.kind().as_deref() != Some("answer") {
            continue;
        }
        count += 1;
        let elapsed = begun.elapsed().as_secs_f64();
        if elapsed >= options.seconds {
            println!("round trips {count} in {elapsed} s");
            break;
        }
        worker.send_to(other, "ask", &count)?;
    }
    worker.shutdown().await;
    Ok(())
}

/// Who answers.
async fn find(
    worker: &Worker,
    messages: &mut Messages,
) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    loop {
        worker.broadcast("ask", &0)?;
        let answered = tokio::time::timeout(SEEK_EVERY, messages.recv()).await;
        match answered.map(|message| message.and_then(|message| message.from_worker())) {
            Ok(Some(other)) => return Ok(other),
            Ok(None) => return Err("the primary is gone".into()),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_found_among_other_lines() {
        assert_eq!(rate_in("slot 1 | round trips 1000 in 2.5 s\noxherd | Stopping"), Some(400.0));
        assert_eq!(rate_in("slot 1 | round trips 10"), None);
    }
}
