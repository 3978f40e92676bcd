//! `oxherd apply`: what runs becomes what a file says.

use std::io;

use oxherd_config::{Deed, plan};
use oxherd_engine::core::AppSpec;

use crate::commands::carry::{carry_out, running};
use crate::commands::daemon::{Ending, known, started, status_of, talk};
use crate::commands::files;
use crate::exit::ExitStatus;
use crate::options::ApplyOptions;
use crate::view::form::Form;
use crate::view::steps;
use crate::voice::print;

pub(super) fn run(options: &ApplyOptions) -> ExitStatus {
    status_of(apply(options))
}

fn apply(options: &ApplyOptions) -> Ending<ExitStatus> {
    let jobs = files::prepare(&options.file, &options.choice)?;
    files::tell_doubts(&jobs);
    let wanted: Vec<AppSpec> = jobs.into_iter().map(|job| job.spec).collect();
    let client = if options.dry_run { known()? } else { started()? };
    talk(async {
        let running = running(&client, options.dry_run).await?;
        let steps = plan(&running, &wanted, options.prune);
        print(&steps::told(&steps, Form::of(&io::stdout())));
        if options.dry_run || steps.iter().all(|step| step.deed == Deed::Nothing) {
            return Ok(ExitStatus::Success);
        }
        carry_out(&client, steps).await
    })
}
