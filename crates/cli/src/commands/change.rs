//! What every change has in common: the daemon takes it in, and the command follows it to its end.
//!
//! The change goes on whatever becomes of the command.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use oxherd::api::{Accepted, AcceptedChange, AppView, Herd, NewsItem};
use oxherd::client::{Client, ClientError, Events, Told};
use oxherd_engine::core::{ChangeId, ChangeOutcome, Notice};

use crate::commands::daemon::{Ending, failed_call, unless_interrupted};
use crate::exit::ExitStatus;
use crate::persona;
use crate::view::block::Block;
use crate::view::form::{Form, Screen};
use crate::view::progress::{AppProgress, Verb};
use crate::view::{list, pm2, results};
use crate::voice::{self, complain, doubt, tell};

/// Between two pictures of the block.
const PICTURE: Duration = Duration::from_millis(100);
/// How far the news may be behind an outcome.
const LAG_MAX: Duration = Duration::from_secs(1);
/// Clears the line that the cursor is on.
const START_OF_LINE: &str = "\r\x1b[K";

/// Asks for a change and follows it.
pub(super) async fn follow<F>(client: &Client, verb: Verb, ask: F) -> Ending<ExitStatus>
where
    F: Future<Output = Result<Accepted, ClientError>>,
{
    let ask = async { ask.await.map(|accepted| all_of(verb, accepted)) };
    follow_each(client, ask).await
}

/// The changes that were taken in, each with what it does.
pub(super) type Asked = Vec<(Verb, AcceptedChange)>;

/// All these changes do the same.
pub(super) fn all_of(verb: Verb, accepted: Accepted) -> Asked {
    accepted.changes.into_iter().map(|change| (verb, change)).collect()
}

/// Whether more is to be done after some changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    More,
    Last,
}

impl Part {
    pub(super) fn last_if(is_last: bool) -> Self {
        if is_last { Self::Last } else { Self::More }
    }
}

/// Asks for several changes and follows them.
pub(super) async fn follow_each<F>(client: &Client, ask: F) -> Ending<ExitStatus>
where
    F: Future<Output = Result<Asked, ClientError>>,
{
    follow_part(client, Part::Last, ask).await
}

/// The same for a part of what is to be done: what is shown at the end comes after the last one.
pub(super) async fn follow_part<F>(client: &Client, part: Part, ask: F) -> Ending<ExitStatus>
where
    F: Future<Output = Result<Asked, ClientError>>,
{
    let before = client.apps().await.map_err(failed_call)?;
    let news = client.events(None).await.map_err(failed_call)?;
    before.troubles.iter().for_each(|trouble| doubt(trouble));
    let asked = ask.await.map_err(failed_call)?;
    let apps = asked.iter().map(|(verb, change)| progress(*verb, change, &before)).collect();
    let changes: Vec<AcceptedChange> = asked.into_iter().map(|(_, change)| change).collect();
    let plain = Form::of(&io::stdout());
    let mut follower = Follower {
        client,
        apps,
        news: Some(news),
        told: BTreeSet::new(),
        troubles: before.troubles,
        plain,
        turn: 0,
    };
    let Some(outcome) = unless_interrupted(follower.run_through(&changes)).await else {
        follower.leave();
        return Ok(ExitStatus::Interrupted);
    };
    outcome?;
    follower.conclude(part).await
}

fn progress(verb: Verb, change: &AcceptedChange, before: &Herd) -> AppProgress {
    let mut progress = AppProgress::new(verb, change.app, &change.name);
    if let Some(view) = before.apps.iter().find(|view| view.app == change.app) {
        progress.remember(view);
    }
    progress
}

struct Follower<'a> {
    client: &'a Client,
    apps: Vec<AppProgress>,
    /// Nothing once the stream has ended or broken: the outcome comes all the same.
    news: Option<Events<NewsItem>>,
    /// The changes that were said to be through in the news.
    told: BTreeSet<ChangeId>,
    /// What is wrong with the daemon, and was told.
    troubles: Vec<String>,
    plain: Form,
    turn: usize,
}

impl Follower<'_> {
    async fn run_through(&mut self, changes: &[AcceptedChange]) -> Ending<()> {
        let client = self.client;
        let start = Instant::now();
        let mut block = Block::new(io::stdout());
        for (at, change) in changes.iter().enumerate() {
            let wait = client.wait(change.change);
            tokio::pin!(wait);
            let outcome = loop {
                self.apps[at].left_trying = self.apps[at].crash_loop();
                if self.apps[at].left_trying.is_some() {
                    break None;
                }
                tokio::select! {
                    outcome = &mut wait => break Some(outcome),
                    item = next(&mut self.news) => self.note(item),
                    () = tokio::time::sleep(PICTURE) => self.draw(&mut block, start),
                }
            };
            // The daemon goes on.
            let Some(outcome) = outcome else { continue };
            self.catch_up(change.change).await;
            match outcome {
                Ok(outcome) => self.apps[at].outcome = Some(outcome),
                // A change that nobody knows any more ended unseen.
                Err(ClientError::Refused { status: 404, .. }) => {}
                Err(error) => return Err(failed_call(error)),
            }
        }
        if let Form::Terminal(screen) = self.plain {
            drop(block.erase(screen));
        }
        Ok(())
    }

    /// The outcome came by another way than the news: what led to it comes before the news of it.
    async fn catch_up(&mut self, change: ChangeId) {
        let all_told = async {
            while self.news.is_some() && !self.told.contains(&change) {
                let item = next(&mut self.news).await;
                self.note(item);
            }
        };
        drop(tokio::time::timeout(LAG_MAX, all_told).await);
    }

    fn note(&mut self, item: Option<NewsItem>) {
        let Some(item) = item else { return };
        if let Notice::Changed { change, .. } = item.notice {
            self.told.insert(change);
        }
        let Some(app) = item.notice.app() else { return };
        let plain = self.plain == Form::Plain;
        if let Some(progress) = self.apps.iter_mut().find(|it| it.app == app) {
            progress.note(&item);
            if let Some(word) = results::news(&item, &progress.name).filter(|_| plain) {
                say(&word);
            }
        }
    }

    fn draw(&mut self, block: &mut Block<io::Stdout>, start: Instant) {
        if let Form::Terminal(Screen { .. }) = self.plain
            && !voice::is_silent()
        {
            let Form::Terminal(screen) = Form::of(&io::stdout()) else { return };
            self.turn += 1;
            let lines = results::block(&self.apps, start.elapsed().as_secs(), self.turn, screen);
            drop(block.draw(&lines, screen));
        }
    }

    /// Somebody does not wait any more, and pressed a key that the terminal shows.
    fn leave(&self) {
        if let Form::Terminal(_) = self.plain {
            drop(io::stdout().write_all(START_OF_LINE.as_bytes()));
            drop(io::stdout().flush());
        }
        complain(&results::left_alone(&self.apps));
    }

    async fn conclude(self, part: Part) -> Ending<ExitStatus> {
        self.apps.iter().for_each(|app| say(&results::conclusion(app)));
        if self.apps.is_empty() {
            tell("nothing to do");
        }
        if part == Part::More {
            return Ok(self.status());
        }
        let Ok(herd) = self.client.apps().await else { return Ok(self.status()) };
        herd.troubles.iter().filter(|it| !self.troubles.contains(it)).for_each(|it| doubt(it));
        if persona::is_pm2() {
            return Ok(self.conclude_as_pm2(&herd));
        }
        let concerned = |view: &AppView| self.apps.iter().any(|app| app.app == view.app);
        if let Form::Terminal(_) = self.plain
            && !voice::is_silent()
        {
            let views: Vec<AppView> = herd.apps.into_iter().filter(concerned).collect();
            if !views.is_empty() {
                drop(io::stdout().write_all(list::apps(&views, self.plain).as_bytes()));
            }
        }
        Ok(self.status())
    }

    /// The whole list comes after every change.
    fn conclude_as_pm2(&self, herd: &Herd) -> ExitStatus {
        if self.status() == ExitStatus::Success {
            tell("Done.");
        }
        if !voice::is_silent() {
            voice::print(&pm2::herd(herd, self.plain, None, false));
        }
        self.status()
    }

    fn status(&self) -> ExitStatus {
        let all_done = self.apps.iter().all(|app| app.outcome == Some(ChangeOutcome::Done));
        if all_done { ExitStatus::Success } else { ExitStatus::Failure }
    }
}

/// The next piece of news; never, once there are none.
async fn next(news: &mut Option<Events<NewsItem>>) -> Option<NewsItem> {
    let Some(events) = news else { return std::future::pending().await };
    match events.next().await {
        Ok(Some(Told::Item(item))) => Some(item),
        Ok(Some(Told::Dropped(_))) => None,
        Ok(None) | Err(_) => {
            *news = None;
            None
        }
    }
}

fn say(word: &results::Word) {
    match word {
        results::Word::Good(text) => tell(text),
        results::Word::Bad(text) if persona::is_pm2() => complain(text),
        // What it is about comes first.
        results::Word::Bad(text) => drop(writeln!(io::stderr(), "{}", Form::of(&io::stderr()).fit(text))),
    }
}
