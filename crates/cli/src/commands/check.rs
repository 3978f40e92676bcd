//! `oxherd check`: whether a file of apps is right, and what it comes to; nothing is started.

use std::io;

use crate::commands::daemon::{Ending, status_of};
use crate::commands::files;
use crate::exit::ExitStatus;
use crate::options::CheckOptions;
use crate::view::form::Form;
use crate::view::steps;
use crate::voice::print;

pub(super) fn run(options: &CheckOptions) -> ExitStatus {
    status_of(check(options))
}

fn check(options: &CheckOptions) -> Ending<ExitStatus> {
    let Some(file) = options.file.as_deref().filter(|_| !options.schema) else {
        print(&oxherd_config::schema());
        return Ok(ExitStatus::Success);
    };
    let jobs = files::prepare(file, &options.choice)?;
    files::tell_doubts(&jobs);
    let specs: Vec<_> = jobs.into_iter().map(|job| job.spec).collect();
    print(&steps::apps(&specs, Form::of(&io::stdout())));
    Ok(ExitStatus::Success)
}
