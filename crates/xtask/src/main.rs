//! `cargo xtask`: everything a contributor or CI runs, in one program.
//!
//! Each step of `ci` is a command of its own. Nothing here is part of the product, and the product
//! never depends on it.

mod ci;
mod programs;
mod run;
mod stage;
mod suites;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

use ci::{STEPS, Session};

/// What a step gives back: nothing, or one line that says what is wrong.
pub(crate) type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| "--help".to_owned());
    let extra: Vec<String> = args.collect();
    if matches!(name.as_str(), "--help" | "-h" | "help") || extra.iter().any(|arg| arg == "--help") {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    match dispatch(&name, extra) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(name: &str, extra: Vec<String>) -> Outcome {
    let mut session = Session::new(extra)?;
    match name {
        "ci" => ci::run_all(&mut session),
        "soak" => suites::soak(&mut session),
        _ => match STEPS.iter().find(|step| step.name == name) {
            Some(step) => (step.run)(&mut session),
            None => Err(format!("unknown command '{name}' (see cargo xtask --help)")),
        },
    }
}

fn help() -> String {
    let mut text = String::from(
        "Usage: cargo xtask <COMMAND> [ARGS]\n\n\
         Commands:\n  ci                 all steps below in this order, stopping at the first that fails\n",
    );
    for step in &STEPS {
        text.push_str(&format!("  {:<18} {}\n", step.name, step.about));
    }
    text.push_str(
        "  soak [SEEDS]       wide seeds for the simulator and the codecs (not part of ci)\n\n\
         ARGS of the test commands go to the test programs: `cargo xtask e2e reload --nocapture`.\n\n\
         Environment:\n  \
         OXHERD_TOOLS       where tools are installed and looked for (default: target/tools)\n  \
         OXHERD_BIN         test this oxherd program instead of building one\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_step() {
        let text = help();
        assert!(STEPS.iter().all(|step| text.contains(step.name)));
    }
}
