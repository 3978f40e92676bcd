//! `oxherd attach`: what workers write, and what is typed goes to them line by line.

use std::io::{self, Read};

use oxherd::client::{Client, ClientError, LogsOf, Told};
use tokio::sync::mpsc;

use crate::commands::daemon::{Ending, failed_call, known, status_of, talk_on};
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
    status_of(known().and_then(|client| talk_on(attach(&client, options))))
}

async fn attach(client: &Client, options: &AttachOptions) -> Ending<ExitStatus> {
    let (app, slot) = place(client, &options.app).await?;
    let of = LogsOf { app: Some(app.clone()), lines: Some(0), follow: true, stream: None };
    let mut lines = client.logs(&of).await.map_err(failed_call)?;
    let mut gutters = Gutters::new(Look::plain(), Form::of(&io::stdout()).colour());
    let mut typed = typed(options.separator.clone().unwrap_or_else(|| "\n".into()));
    loop {
        tokio::select! {
            told = lines.next() => match told {
                Ok(Some(Told::Item(line))) if slot.is_none_or(|slot| line.slot == Some(slot)) => {
                    print(&gutters.frame(&line));
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    print(gutters.end());
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
        let mut pieces = Pieces::new(separator);
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = io::stdin().read(&mut buffer) {
            pieces.pending.extend_from_slice(&buffer[..count]);
            while let Some(line) = pieces.next() {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        }
        if let Some(line) = pieces.last() {
            drop(sender.blocking_send(line));
        }
    });
    typed
}

/// What was typed and not sent yet. Bytes, because a read may end within a character.
#[derive(Debug)]
struct Pieces {
    separator: Vec<u8>,
    pending: Vec<u8>,
}

impl Pieces {
    /// Without a separator each line is a piece.
    fn new(separator: String) -> Self {
        let separator = if separator.is_empty() { "\n".into() } else { separator };
        Self { separator: separator.into_bytes(), pending: Vec::new() }
    }

    /// The next piece that is whole, or too long to wait for its end.
    fn next(&mut self) -> Option<String> {
        let length = self.separator.len();
        let end = self.pending.windows(length).position(|it| it == self.separator);
        match end {
            Some(end) => {
                let rest = self.pending.split_off(end + length);
                let piece = text(&self.pending[..end]);
                self.pending = rest;
                Some(piece)
            }
            None if self.pending.len() > LINE_BYTES_MAX => self.last(),
            None => None,
        }
    }

    /// What is left.
    fn last(&mut self) -> Option<String> {
        let left = std::mem::take(&mut self.pending);
        (!left.is_empty()).then(|| text(&left))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(separator: &str, reads: &[&[u8]]) -> Vec<String> {
        let mut pieces = Pieces::new(separator.into());
        let mut all = Vec::new();
        for read in reads {
            pieces.pending.extend_from_slice(read);
            all.extend(std::iter::from_fn(|| pieces.next()));
        }
        all.extend(pieces.last());
        all
    }

    #[test]
    fn pieces_end_with_the_separator_wherever_a_read_ends() {
        assert_eq!(pieces("\n", &[b"a\nb", b"c\n", b"\xc3", b"\xa9\nlast"]), ["a", "bc", "\u{e9}", "last"]);
        assert_eq!(pieces("--", &[b"a-", b"-b--"]), ["a", "b"]);
        assert_eq!(pieces("", &[b"a\nb\n"]), ["a", "b"], "nothing is a line's end");
        assert_eq!(pieces("\n", &[&vec![b'x'; LINE_BYTES_MAX + 1], b"y"]).len(), 2);
    }
}
