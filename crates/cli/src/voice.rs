//! Sentences of the command: news on stdout, complaints and doubts on stderr, each with the prefix of whom it is called
//! as. With `--silent` there is no news.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::persona;
use crate::view::form::Form;

static SILENT: AtomicBool = AtomicBool::new(false);

/// From now on there is no news.
pub(crate) fn silence() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Whether there is no news.
pub(crate) fn is_silent() -> bool {
    SILENT.load(Ordering::Relaxed)
}

/// Prints a line on stdout, unless there is to be silence.
pub(crate) fn tell(line: &str) {
    if !is_silent() {
        let text = format!("{}{}", persona::news_prefix(), as_typed(line));
        // A reader that has gone is no reason to fail.
        drop(writeln!(io::stdout(), "{}", Form::of(&io::stdout()).fit(&text)));
    }
}

/// Prints what was asked for.
pub(crate) fn print(text: &str) {
    // A reader that has gone is no reason to fail.
    drop(io::stdout().write_all(text.as_bytes()));
}

/// Tells of a mistake in one line on stderr.
pub(crate) fn complain(what: &str) {
    err(persona::complaint_prefix(), what);
}

/// Tells of findings in a file, which take several lines. They begin with the place in the file; as PM2 a prefix goes
/// before it.
pub(crate) fn complain_of_file(what: &dyn std::fmt::Display) {
    let prefix = if persona::is_pm2() { persona::complaint_prefix() } else { "" };
    // Nobody is left to tell when stderr itself is closed.
    drop(writeln!(io::stderr(), "{prefix}{}", as_typed(&what.to_string())));
}

/// Tells of a doubt in one line on stderr.
pub(crate) fn doubt(what: &str) {
    err(persona::doubt_prefix(), what);
}

fn err(prefix: &str, what: &str) {
    let text = format!("{prefix}{}", as_typed(what));
    // Nobody is left to tell when stderr itself is closed.
    drop(writeln!(io::stderr(), "{}", Form::of(&io::stderr()).fit(&text)));
}

/// What is to be typed is what was typed.
fn as_typed(text: &str) -> String {
    if persona::is_pm2() { text.replace("`oxherd ", "`pm2 ") } else { text.to_owned() }
}
