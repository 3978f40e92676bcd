//! The stream of lines: the last ones from the files, then those that workers write. Between the two there is a
//! mark in the log's queue, so that no line is missing and none comes twice.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::Uri;
use axum::response::Response;
use oxherd::api::{Dropped, LogLine, OutputStream};
use oxherd_core::{AppId, FleetStatus};
use oxherd_engine::Stream;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::driver::LogPaths;
use super::feed::{Filter, Follower, Heard, Line};
use super::input;
use super::problem::{Answer, Failure};
use super::select::{self, select};
use super::sse::{self, Gone, Sink};
use super::state::State;
use super::tail::Tail;

/// How many lines of each file come first when nothing else is asked for.
const LINES: u64 = 15;
/// How long the log may take to write what it has in hand; a disk that hangs must not hold up the answer.
const WRITTEN_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    app: Option<String>,
    lines: Option<u64>,
    #[serde(default)]
    follow: bool,
    stream: Option<OutputStream>,
}

/// One file to read the end of.
struct Source {
    app: AppId,
    name: String,
    stream: OutputStream,
    path: PathBuf,
}

/// `GET /v1/logs`
pub(super) async fn logs(Shared(state): Shared<Arc<State>>, uri: Uri) -> Answer {
    let which: Which = input::query(&uri)?;
    let survey = state.survey().await?;
    let apps = match which.app.as_deref() {
        None | Some(select::ALL) => None,
        Some(selector) => Some(select(selector, &survey)?),
    };
    let sources = sources(&state, &survey.status, apps.as_deref(), which.stream);
    let lines = which.lines.unwrap_or(LINES);
    let (follower, ends) = if which.follow {
        let (follower, ends) =
            follow(&state, Filter { apps, stream: which.stream.map(engine_stream) }, &sources).await?;
        (Some(follower), ends)
    } else {
        (None, vec![u64::MAX; sources.len()])
    };
    let tails = open(sources, ends, lines).await?;
    Ok(stream(state, tails, follower))
}

fn stream(state: Arc<State>, tails: Vec<(Source, Tail)>, follower: Option<Follower<Line>>) -> Response {
    sse::stream(|mut sink| async move {
        for (source, tail) in tails {
            tell_tail(&source, tail, &mut sink).await?;
        }
        match follower {
            Some(follower) => tell_lines(&state, follower, sink).await,
            None => sink.flush().await,
        }
    })
}

fn sources(
    state: &State,
    status: &FleetStatus,
    apps: Option<&[AppId]>,
    only: Option<OutputStream>,
) -> Vec<Source> {
    let mut sources = Vec::new();
    let chosen = status.apps.iter().filter(|app| apps.is_none_or(|apps| apps.contains(&app.app)));
    for app in chosen {
        let LogPaths { out, err: error, .. } = state.logs.paths(app.app, &app.name, None);
        let source = |stream, path| Source { app: app.app, name: app.name.clone(), stream, path };
        let both = [source(OutputStream::Stdout, out), source(OutputStream::Stderr, error)];
        sources.extend(both.into_iter().filter(|source| only.is_none_or(|only| only == source.stream)));
    }
    sources
}

/// Begins to follow and finds out how long the files are at exactly that point. Both is done on the control thread
/// between two lines: those before are written when the mark is reached, those after are heard.
async fn follow(
    state: &Arc<State>,
    filter: Filter,
    sources: &[Source],
) -> Result<(Follower<Line>, Vec<u64>), Failure> {
    let paths: Vec<PathBuf> = sources.iter().map(|source| source.path.clone()).collect();
    let (reply, measured) = oneshot::channel();
    let on_control = state.clone();
    let begin = move || {
        let measure = move || drop(reply.send(paths.iter().map(length).collect::<Vec<u64>>()));
        on_control.logs.written(Box::new(move |()| measure()));
        on_control.lines.follow(filter)
    };
    let (_, follower) = state.survey_with(Vec::new(), begin).await?;
    let ends = timeout(WRITTEN_PATIENCE, measured).await.ok().and_then(Result::ok);
    // Without the mark a line may come twice, but none is missing.
    Ok((follower, ends.unwrap_or_else(|| vec![u64::MAX; sources.len()])))
}

fn length(path: &PathBuf) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

async fn open(sources: Vec<Source>, ends: Vec<u64>, lines: u64) -> Result<Vec<(Source, Tail)>, Failure> {
    let open_all = move || {
        let mut tails = Vec::new();
        for (source, end) in sources.into_iter().zip(ends) {
            match File::open(&source.path).and_then(|file| Tail::new(file, end, lines)) {
                Ok(tail) => tails.push((source, tail)),
                // Nothing was written yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(error) => {
                    let text = format!("cannot read {}: {error}", source.path.display());
                    return Err(Failure::internal(text));
                }
            }
        }
        Ok(tails)
    };
    tokio::task::spawn_blocking(open_all).await.map_err(|error| Failure::internal(error.to_string()))?
}

async fn tell_tail(source: &Source, mut tail: Tail, sink: &mut Sink) -> Result<(), Gone> {
    loop {
        // The disk's time is spent on another thread, the client's on none.
        let read = tokio::task::spawn_blocking(move || {
            let lines = tail.next_lines();
            (tail, lines)
        });
        let Ok((returned, Ok(lines))) = read.await else { return Ok(()) };
        if lines.is_empty() {
            return Ok(());
        }
        tail = returned;
        for line in lines {
            let line = LogLine {
                app: source.app,
                name: source.name.clone(),
                slot: None,
                stream: source.stream,
                text: String::from_utf8_lossy(&line).into_owned(),
            };
            sink.event("line", &line).await?;
        }
    }
}

async fn tell_lines(state: &State, mut follower: Follower<Line>, mut sink: Sink) -> Result<(), Gone> {
    let mut closing = state.closing.clone();
    while let Some(heard) = sse::next(&mut follower, &mut sink, &mut closing).await? {
        match heard {
            Heard::Dropped(count) => sink.event("dropped", &Dropped { count }).await?,
            Heard::Item(line) => tell_line(state, &line, &mut sink).await?,
        }
    }
    Ok(())
}

async fn tell_line(state: &State, line: &Line, sink: &mut Sink) -> Result<(), Gone> {
    let line = LogLine {
        app: line.app,
        name: state.name_of(line.app).await.unwrap_or_default(),
        slot: Some(line.slot),
        stream: match line.stream {
            Stream::Stdout => OutputStream::Stdout,
            Stream::Stderr => OutputStream::Stderr,
        },
        text: String::from_utf8_lossy(&line.bytes).into_owned(),
    };
    sink.event("line", &line).await
}

fn engine_stream(stream: OutputStream) -> Stream {
    match stream {
        OutputStream::Stdout => Stream::Stdout,
        OutputStream::Stderr => Stream::Stderr,
    }
}
