//! Cases of the command line in files that read like a session: what is typed, all that is said, and the exit code.
//!
//! `fixtures/cases/README.md` has the format. Each file has a home of its own, twice: once everything goes into pipes, and
//! once the same lines are typed on a terminal.

mod line;
mod paper;
mod session;
mod tree;

use std::path::PathBuf;

use crate::places;

pub use line::{Typed, typed};
pub use paper::{Item, Step, Way};
pub use tree::{Flag, Tree, Verb};

/// Where the files are.
pub fn folder() -> PathBuf {
    places::fixture("cases")
}

/// The names of all files, without their extension.
pub fn all() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("the package is ours").filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".case").map(str::to_owned)).collect();
    names.sort_unstable();
    names
}

/// What is in a file.
pub fn items(name: &str) -> Vec<Item> {
    paper::read(&text_of(name))
}

/// All that is typed in any file.
pub fn all_typed() -> Vec<Typed> {
    let of_file = |name: &String| items(name).into_iter().filter_map(Item::step).collect::<Vec<_>>();
    all().iter().flat_map(of_file).flat_map(|step| typed(&step.line)).collect()
}

/// Goes through a file, and compares. `OXHERD_UPDATE=1` writes the file anew.
///
/// # Panics
/// When something else is said than is written there.
pub fn assert_case(name: &str) {
    let items = items(name);
    // What holds a turn stays with its thread.
    let (piped, shown) = std::thread::scope(|scope| {
        let piped = scope.spawn(|| session::go_through(&items, session::Mode::Pipe));
        let shown = session::go_through(&items, session::Mode::Terminal);
        (piped.join(), shown)
    });
    let piped = piped.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let told = paper::write(&paper::with_told(&items, piped, shown));
    if std::env::var_os("OXHERD_UPDATE").is_some() {
        return std::fs::write(path_of(name), told).expect("the package is ours");
    }
    let wanted = paper::write(&items);
    for (at, (told, wanted)) in paper::blocks(&told).zip(paper::blocks(&wanted)).enumerate() {
        assert!(told == wanted, "{name}.case, part {at}\n--- is\n{told}\n--- should be\n{wanted}");
    }
    assert_eq!(told, wanted, "{name}.case");
}

fn path_of(name: &str) -> PathBuf {
    folder().join(format!("{name}.case"))
}

fn text_of(name: &str) -> String {
    std::fs::read_to_string(path_of(name)).expect("a fixture is readable")
}
