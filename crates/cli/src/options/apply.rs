//! The options of `oxherd check` and `oxherd apply`.

use clap::Args;

use super::FileChoice;

const CHECK_HELP: &str = "\
Exit codes:
  0  all is well
  2  something is wrong with the file, the command line or this machine

Examples:
  oxherd check ecosystem.config.js
  oxherd check apps.yaml --env production
  oxherd check --schema > ecosystem.schema.json";

const APPLY_HELP: &str = "\
What is as the file says is left alone. What differs is reloaded, successor first, with all that the
file says now; where a successor cannot take over it is started anew, and the plan says why.

Exit codes:
  0  what runs is what the file says
  1  something could not be changed, and goes on as it was; or the daemon cannot be started
  2  something is wrong with the file, the command line or this machine

Examples:
  oxherd apply ecosystem.config.js --dry-run
  oxherd apply ecosystem.config.js --env production --prune
  oxherd apply apps.yaml --only web";

/// Checks a file of apps, and shows what it comes to.
#[derive(Args, Clone, Debug)]
#[command(after_help = CHECK_HELP)]
pub(crate) struct CheckOptions {
    /// The file, or - for JSON on stdin
    #[arg(value_name = "FILE", required_unless_present = "schema")]
    pub(crate) file: Option<String>,

    #[command(flatten)]
    pub(crate) choice: FileChoice,

    /// Print the JSON Schema of files, for editors
    #[arg(long, conflicts_with_all = ["file", "only", "env"])]
    pub(crate) schema: bool,
}

/// Makes what runs be what a file of apps says.
#[derive(Args, Clone, Debug)]
#[command(after_help = APPLY_HELP)]
pub(crate) struct ApplyOptions {
    /// The file, or - for JSON on stdin
    #[arg(value_name = "FILE")]
    pub(crate) file: String,

    #[command(flatten)]
    pub(crate) choice: FileChoice,

    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Delete all apps that are not in the file
    #[arg(long, conflicts_with = "only")]
    pub(crate) prune: bool,
}
