//! The stream of news.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::Uri;
use oxherd::api::{Dropped, NewsItem};
use oxherd_core::{AppId, ChangeId, Notice};

use super::feed::{Filter, Follower, Heard, News};
use super::input;
use super::problem::Answer;
use super::select::{self, Which, select};
use super::sse::{self, Gone, Sink};
use super::state::State;

/// `GET /v1/events`
pub(super) async fn events(Shared(state): Shared<Arc<State>>, uri: Uri) -> Answer {
    let which: Which = input::query(&uri)?;
    // Everything from the moment of the request on, even while the selector is looked up.
    let follower = state.news.follow(Filter::default());
    let survey = state.survey().await?;
    let apps = match which.app.as_deref() {
        None | Some(select::ALL) => None,
        Some(selector) => Some(select(selector, &survey)?),
    };
    Ok(sse::stream(|sink| tell(state, follower, apps, sink)))
}

async fn tell(
    state: Arc<State>,
    mut follower: Follower<News>,
    apps: Option<Vec<AppId>>,
    mut sink: Sink,
) -> Result<(), Gone> {
    let mut closing = state.closing.clone();
    while let Some(heard) = sse::next(&mut follower, &mut sink, &mut closing).await? {
        match heard {
            Heard::Dropped(count) => sink.event("dropped", &Dropped { count }).await?,
            Heard::Item(news) => tell_item(&state, &news, apps.as_deref(), &mut sink).await?,
        }
    }
    Ok(())
}

async fn tell_item(state: &State, news: &News, apps: Option<&[AppId]>, sink: &mut Sink) -> Result<(), Gone> {
    let app = match &news.bulletin.notice {
        Notice::Changed { change, .. } => app_of_change(state, *change).await,
        notice => notice.app(),
    };
    // What cannot be told to be about another app is passed on.
    if app.zip(apps).is_some_and(|(app, apps)| !apps.contains(&app)) {
        return Ok(());
    }
    let name = match app {
        Some(app) => state.name_of(app).await,
        None => None,
    };
    let item =
        NewsItem { notice: news.bulletin.notice.clone(), pid: news.bulletin.pid, name, at_ms: news.at_ms };
    sink.event("notice", &item).await
}

/// The app that a change is about. Its end may be told while it is only being noted that it was accepted.
async fn app_of_change(state: &State, change: ChangeId) -> Option<AppId> {
    let known = state.look(|table| table.app_of(change));
    if known.is_some() {
        return known;
    }
    drop(state.turn.lock().await);
    state.look(|table| table.app_of(change))
}
