//! What reaches workers, files and the snapshot without changing what is to run: signals, lines, messages, counts, logs.

use oxherd::api::Reached;
use oxherd::client::{Client, ClientError};
use oxherd_engine::core::Slot;

use crate::cli::SaveOptions;
use crate::commands::daemon::{Ending, ask, failed_call, known};
use crate::commands::select::resolve;
use crate::exit::ExitStatus;
use crate::options::{MaybeSelector, Selectors, SendOptions, SignalOptions};
use crate::persona;
use crate::view::words::count;
use crate::voice::{complain, tell};

pub(super) fn signal(options: &SignalOptions) -> ExitStatus {
    ask(known(), async |client| {
        let mut status = ExitStatus::Success;
        for selector in &options.of.apps {
            let of = resolve(&client, selector).await?;
            let (app, slot) = of.parts();
            let reached = client.signal(app, options.signal, slot).await;
            let told = report(reached, &format!("signal {}", options.signal), "worker", "workers")?;
            status = if status == ExitStatus::Success { told } else { status };
        }
        Ok(status)
    })
}

pub(super) fn send(options: &SendOptions) -> ExitStatus {
    ask(known(), async |client| {
        let of = resolve(&client, &options.app).await?;
        let (app, slot) = of.parts();
        report(client.send_line(app, &options.line, slot).await, "the line", "worker", "workers")
    })
}

/// Says who was reached; nobody is a failure.
fn report(reached: Result<Reached, ClientError>, what: &str, one: &str, more: &str) -> Ending<ExitStatus> {
    let reached = reached.map_err(failed_call)?;
    for app in &reached.apps {
        match app.count {
            0 => complain(&format!("{}: {what} has reached nobody: no worker runs", app.name)),
            number => tell(&format!("{}: {what} has reached {}", app.name, count(number, one, more))),
        }
    }
    let all = reached.apps.iter().all(|app| app.count > 0);
    Ok(if all { ExitStatus::Success } else { ExitStatus::Failure })
}

pub(super) fn reset(of: &Selectors) -> ExitStatus {
    ask(known(), async |client| {
        for selector in &of.apps {
            let target = resolve(&client, selector).await?;
            let reached = client.reset(target.parts().0).await.map_err(failed_call)?;
            reached.apps.iter().for_each(|app| tell(&format!("{}: counted anew from 0", app.name)));
        }
        Ok(ExitStatus::Success)
    })
}

pub(super) fn flush(of: &MaybeSelector) -> ExitStatus {
    ask(known(), async |client| {
        let reached = client.flush_logs(of.app.as_deref()).await.map_err(failed_call)?;
        for app in &reached.apps {
            tell(&format!("{}: {} emptied", app.name, count(app.count, "log file", "log files")));
        }
        if reached.apps.is_empty() {
            tell("there are no apps whose logs could be emptied");
        }
        Ok(ExitStatus::Success)
    })
}

pub(super) fn reload_logs() -> ExitStatus {
    ask(known(), async |client| {
        client.reopen_logs().await.map_err(failed_call)?;
        tell("all log files are opened anew");
        Ok(ExitStatus::Success)
    })
}

/// An empty list is saved only when that is meant: it is what a daemon that has just lost everything has.
pub(super) fn save(options: &SaveOptions) -> ExitStatus {
    ask(known(), async |client| {
        let herd = client.apps().await.map_err(failed_call)?;
        if herd.apps.is_empty() && !options.force {
            complain(&format!(
                "there are no apps, and what was saved before is kept: `{} save --force` saves that there are none",
                persona::program()
            ));
            return Err(ExitStatus::Failure);
        }
        let saved = client.save().await.map_err(failed_call)?;
        tell(&format!("Successfully saved {} in {}", count(saved.apps, "app", "apps"), saved.file));
        Ok(ExitStatus::Success)
    })
}

pub(super) fn clear() -> ExitStatus {
    ask(known(), async |client| {
        let saved = client.delete_save().await.map_err(failed_call)?;
        tell(&format!("nothing is saved in {} any more", saved.file));
        Ok(ExitStatus::Success)
    })
}

/// Where a selector leads, for others that reach workers.
pub(super) async fn place(client: &Client, selector: &str) -> Ending<(String, Option<Slot>)> {
    let of = resolve(client, selector).await?;
    let (app, slot) = of.parts();
    Ok((app.to_owned(), slot))
}
