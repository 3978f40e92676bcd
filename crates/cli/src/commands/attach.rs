//! `oxherd attach`: what workers write, and what is typed goes to them line by line.

use std::io::{self, Read};

use oxherd::client::{Client, ClientError, LogsOf, Told};
use tokio::sync::mpsc;

use crate::commands::daemon::{Ending, failed_call, known, status_of, talk};
use crate::commands::reach::place;
use crate::exit::ExitStatus;
use crate::options::AttachOptions;
use crate::view::form::Form;
use crate::view::loglines::{Gutters, Look};
use crate::voice::{complain, print};

/// Lines that wait to be sent.
const LINES_MAX: usize = 64;
/// A longer line is sent in pieces.
const LINE_BYTES_MAX: usize = 1 << 20;

pub(super) fn run(options: &AttachOptions) -> ExitStatus {
    status_of(known().and_then(|client| talk(attach(&client, options))))
}

async fn attach(client: &Client, options: &AttachOptions) -> Ending<ExitStatus> {
    let (app, slot) = place(client, &options.app).await?;
    let of = LogsOf { app: Some(app.clone()), lines: Some(0), follow: true, stream: None };
    let mut lines = client.logs(&of).await.map_err(failed_call)?;
    let mut gutters = Gutters::new(Look::plain(), Form::of(&io::stdout()).colour());
    let mut typed = typed(options.separator.clone().unwrap_or_else(|| "\n".into()));
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(ExitStatus::Success),
            told = lines.next() => match told {
                Ok(Some(Told::Item(line))) if slot.is_none_or(|slot| line.slot == Some(slot)) => {
                    print(&gutters.frame(&line));
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    complain("the daemon has ended");
                    return Err(ExitStatus::Failure);
                }
            },
            line = typed.recv() => match line {
                None => return Ok(ExitStatus::Success),
                Some(line) => match client.send_line(&app, &line, slot).await {
                    Ok(reached) if reached.apps.iter().all(|it| it.count == 0) => {
                        complain(&format!("{app}: the line has reached nobody: no worker runs"));
                    }
                    Ok(_) => {}
                    Err(error @ ClientError::Refused { .. }) => complain(&error.to_string()),
                    Err(error) => return Err(failed_call(error)),
                },
            },
        }
    }
}

/// What is typed, in pieces that end with the separator.
fn typed(separator: String) -> mpsc::Receiver<String> {
    let (sender, typed) = mpsc::channel(LINES_MAX);
    std::thread::spawn(move || {
        let mut pending = String::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = io::stdin().read(&mut buffer) {
            pending.push_str(&String::from_utf8_lossy(&buffer[..count]));
            while let Some((line, rest)) = pending.split_once(&separator) {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                pending = rest;
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
            if pending.len() > LINE_BYTES_MAX && sender.blocking_send(std::mem::take(&mut pending)).is_err() {
                return;
            }
        }
        if !pending.is_empty() {
            drop(sender.blocking_send(pending));
        }
    });
    typed
}
