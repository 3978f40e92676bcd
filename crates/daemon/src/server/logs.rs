//! The stream of lines: the last ones from the files, then those that workers write. Between the two there is a
//! mark in the log's queue, so that no line is missing and none comes twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::Uri;
use axum::response::Response;
use oxherd::api::{Dropped, LogLine, OutputStream};
use oxherd_core::{AppId, AppStatus, FleetStatus, Slot};
use oxherd_engine::Stream;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::driver::LogPaths;
use super::feed::{Filter, Follower, Heard, Line};
use super::history::History;
use super::input;
use super::problem::{Answer, Failure};
use super::select::{self, select};
use super::sse::{self, Gone, Sink};
use super::state::State;

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
    /// Nothing where several slots write to it.
    slot: Option<Slot>,
    path: PathBuf,
}

/// A file and where it ends, as far as it is to be read.
type Opened = Option<(File, u64)>;

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
    let filter = Filter { apps, stream: which.stream.map(engine_stream) };
    let (follower, opened) = match which.follow {
        true => follow(&state, filter, &sources).await.map(|(follower, opened)| (Some(follower), opened))?,
        false => (None, None),
    };
    let histories = open(sources, opened, lines).await?;
    Ok(stream(state, histories, follower))
}

fn stream(
    state: Arc<State>,
    histories: Vec<(Source, History)>,
    follower: Option<Follower<Line>>,
) -> Response {
    sse::stream(|mut sink| async move {
        for (source, history) in histories {
            tell_history(&state, &source, history, &mut sink).await?;
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
    let chosen = status.apps.iter().filter(|app| apps.is_none_or(|apps| apps.contains(&app.app)));
    chosen.flat_map(|app| sources_of(state, app, only)).collect()
}

/// Each file once, whoever writes to it; of both streams in one file nothing is left out.
fn sources_of(state: &State, app: &AppStatus, only: Option<OutputStream>) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    let mut at: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let slots = app.slots.iter().map(|slot| Some(slot.slot));
    for slot in slots.chain(app.slots.is_empty().then_some(None)) {
        let LogPaths { out, err, both } = state.logs.paths(app.app, &app.name, slot);
        let nothing = Path::new("/dev/null");
        let own = [(OutputStream::Stdout, out), (OutputStream::Stderr, err)];
        let is_kept = own.iter().any(|(_, path)| path != nothing);
        let both = both.filter(|_| !is_kept).map(|both| (OutputStream::Stdout, both));
        for (stream, path) in own.into_iter().chain(both) {
            if path == nothing || only.is_some_and(|only| only != stream) {
                continue;
            }
            match at.get(&path).and_then(|index| sources.get_mut(*index)) {
                Some(shared) if shared.slot != slot => shared.slot = None,
                Some(_) => {}
                None => {
                    at.insert(path.clone(), sources.len());
                    sources.push(Source { app: app.app, name: app.name.clone(), stream, slot, path });
                }
            }
        }
    }
    sources
}

/// Begins to follow and opens the files, to be read as far as they go at exactly that point. Both is done between two
/// lines: those before are written when the mark is reached, those after are heard.
async fn follow(
    state: &Arc<State>,
    filter: Filter,
    sources: &[Source],
) -> Result<(Follower<Line>, Option<Vec<Opened>>), Failure> {
    let paths: Vec<PathBuf> = sources.iter().map(|source| source.path.clone()).collect();
    let (reply, measured) = oneshot::channel();
    let on_control = state.clone();
    let begin = move || {
        let measure = move || drop(reply.send(paths.iter().map(|path| measure(path)).collect()));
        on_control.logs.written(Box::new(move |()| measure()));
        on_control.lines.follow(filter)
    };
    let (_, follower) = state.survey_with(Vec::new(), begin).await?;
    // Without the mark a line may come twice, but none is missing.
    let opened = timeout(WRITTEN_PATIENCE, measured).await.ok().and_then(Result::ok);
    Ok((follower, opened))
}

fn measure(path: &Path) -> Opened {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    Some((file, length))
}

/// Opens what was not opened yet.
async fn open(
    sources: Vec<Source>,
    opened: Option<Vec<Opened>>,
    lines: u64,
) -> Result<Vec<(Source, History)>, Failure> {
    let open_all = move || {
        let is_open = opened.is_some();
        let mut opened = opened.unwrap_or_default().into_iter();
        let mut histories = Vec::new();
        for source in sources {
            let file = match opened.next().flatten() {
                Some(file) => Ok(Some(file)),
                None if is_open => is_there(&source.path).map(|()| None),
                None => newest(&source.path),
            };
            match file.and_then(|file| History::new(&source.path, file, lines)) {
                Ok(history) => histories.push((source, history)),
                Err(error) => {
                    let text = format!("cannot read {}: {error}", source.path.display());
                    return Err(Failure::internal(text));
                }
            }
        }
        Ok(histories)
    };
    tokio::task::spawn_blocking(open_all).await.map_err(|error| Failure::internal(error.to_string()))?
}

/// Nothing where nothing was written yet.
fn newest(path: &Path) -> io::Result<Opened> {
    match File::open(path) {
        Ok(file) => Ok(Some((file, u64::MAX))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// An error for one that cannot be read.
fn is_there(path: &Path) -> io::Result<()> {
    newest(path).map(drop)
}

async fn tell_history(
    state: &State,
    source: &Source,
    mut history: History,
    sink: &mut Sink,
) -> Result<(), Gone> {
    let number = source.slot.and_then(|slot| state.driver.slot(source.app, slot)).map(|it| it.number);
    let mut goes_on = false;
    loop {
        // The disk's time is spent on another thread, the client's on none.
        let read = tokio::task::spawn_blocking(move || {
            let lines = history.next_lines();
            (history, lines)
        });
        let Ok((returned, Ok(lines))) = read.await else { return Ok(()) };
        if lines.is_empty() {
            return Ok(());
        }
        history = returned;
        for (line, more) in lines {
            let line = LogLine {
                app: source.app,
                name: source.name.clone(),
                slot: source.slot,
                stream: source.stream,
                number,
                at_ms: None,
                text: String::from_utf8_lossy(&line).into_owned(),
                goes_on: std::mem::replace(&mut goes_on, more),
                more,
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
        number: state.driver.slot(line.app, line.slot).map(|it| it.number),
        at_ms: Some(line.at_ms),
        text: String::from_utf8_lossy(&line.bytes).into_owned(),
        goes_on: line.goes_on,
        more: line.more,
    };
    sink.event("line", &line).await
}

fn engine_stream(stream: OutputStream) -> Stream {
    match stream {
        OutputStream::Stdout => Stream::Stdout,
        OutputStream::Stderr => Stream::Stderr,
    }
}
