//! `oxherd logs`: the last lines, and those that come.

use std::io::{self, Write};
use std::time::Duration;

use oxherd::api::{LogLine, OutputStream};
use oxherd::client::{Client, ClientError, Events, LogsOf, Told};

use crate::commands::daemon::{Ending, failed_call, known, status_of, talk_on};
use crate::exit::ExitStatus;
use crate::options::LogsOptions;
use crate::persona::is_pm2;
use crate::view::form::Form;
use crate::view::loglines::{Gutters, Kind, Look};
use crate::voice::complain;

/// Between two tries to find the daemon again.
const PAUSE: Duration = Duration::from_millis(200);
/// How often it is tried.
const TRIES: u32 = 50;

pub(super) fn run(options: &LogsOptions) -> ExitStatus {
    status_of(known().and_then(|client| talk_on(read(&client, options))))
}

async fn read(client: &Client, options: &LogsOptions) -> Ending<ExitStatus> {
    let stream = match (options.out, options.err) {
        (true, false) => Some(OutputStream::Stdout),
        (false, true) => Some(OutputStream::Stderr),
        _ => None,
    };
    let mut of =
        LogsOf { app: options.app.clone(), lines: Some(options.lines), follow: !options.no_follow, stream };
    let mut gutters = Gutters::new(look_of(options), Form::of(&io::stdout()).colour());
    let mut lines = client.logs(&of).await.map_err(failed_call)?;
    loop {
        if let Ended::Reader = print(&mut lines, &mut gutters).await {
            return Ok(ExitStatus::Success);
        }
        // A reader that is gone shows at the next line.
        drop(io::stdout().write_all(gutters.end().as_bytes()));
        if options.no_follow {
            return Ok(ExitStatus::Success);
        }
        complain("the daemon has ended: looking for it again (what is written meanwhile is in the files)");
        // What was written meanwhile is in the files; what was shown before is not shown again.
        of.lines = Some(0);
        lines = again(client, &of).await?;
    }
}

fn look_of(options: &LogsOptions) -> Look {
    let kind = match (options.raw, options.json, options.format) {
        (true, _, _) => Kind::Raw,
        (_, true, _) => Kind::Json,
        (_, _, true) => Kind::Pairs,
        _ => Kind::Framed { as_pm2: is_pm2() },
    };
    Look { kind, timestamp: options.timestamp.clone(), highlight: options.highlight.clone() }
}

async fn again(client: &Client, of: &LogsOf) -> Ending<Events<LogLine>> {
    for _ in 0..TRIES {
        match client.logs(of).await {
            Ok(lines) => return Ok(lines),
            Err(
                ClientError::NotRunning { .. } | ClientError::Vanished { .. } | ClientError::Broken { .. },
            ) => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(failed_call(error)),
        }
    }
    complain("no daemon is running any more");
    Err(ExitStatus::Failure)
}

/// Why printing came to an end.
enum Ended {
    Reader,
    Stream,
}

async fn print(lines: &mut Events<LogLine>, gutters: &mut Gutters) -> Ended {
    let mut out = io::stdout();
    loop {
        let written = match lines.next().await {
            Ok(Some(Told::Item(line))) => out.write_all(gutters.frame(&line).as_bytes()),
            Ok(Some(Told::Dropped(count))) => {
                // On a terminal both are one text.
                drop(out.write_all(gutters.end().as_bytes()).and_then(|()| out.flush()));
                complain(&format!("{count} lines were not read fast enough; the files have them"));
                Ok(())
            }
            Ok(None) | Err(_) => return Ended::Stream,
        };
        if written.and_then(|()| out.flush()).is_err() {
            return Ended::Reader;
        }
    }
}
