//! What a command says, whole and on paper: stdout, stderr and the exit code, without what differs from run to run.

use std::fmt::Write;
use std::process::Output;

use crate::Home;

/// What a run of `oxherd` came to: its stdout as it is, each line of its stderr after `! `, and its exit code in
/// brackets. Numbers that nobody can foresee are `#`, the home's surroundings `~`.
pub fn told(home: &Home, args: &[&str]) -> String {
    on_paper(home, &home.run(args))
}

/// The same, of a run that has ended already.
pub fn on_paper(home: &Home, output: &Output) -> String {
    let mut paper = String::new();
    for line in lines(home, &output.stdout) {
        writeln!(paper, "{line}").expect("a string takes everything");
    }
    for line in lines(home, &output.stderr) {
        writeln!(paper, "! {line}").expect("a string takes everything");
    }
    let code = output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string());
    paper + &format!("[{code}]\n")
}

fn lines(home: &Home, bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let place = home.surroundings();
    let place = place.to_str().expect("a plain path");
    text.lines().map(|line| masked(&line.replace(place, "~"))).collect()
}

/// A line in which numbers that differ from run to run are `#`, and columns are one blank apart.
pub fn masked(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut line_words = line.split_whitespace().peekable();
    while let Some(word) = line_words.next() {
        let is_after = words.last().is_some_and(|last| last == "after");
        if is_after && word.starts_with(|c: char| c.is_ascii_digit()) && line_words.peek().is_some() {
            // A time and its unit.
            let unit = line_words.next().unwrap_or_default();
            let end = unit.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
            words.push(format!("#{end}"));
        } else {
            words.push(masked_word(word));
        }
    }
    words.join(" ")
}

fn masked_word(word: &str) -> String {
    let bare = word.trim_matches(|c: char| ",;()".contains(c));
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let is_port = bare.strip_prefix("127.0.0.1:").is_some_and(digits);
    let is_long = digits(bare) && (bare.len() > 1 || bare.contains('.'));
    let is_age = bare.strip_suffix('s').is_some_and(digits);
    let is_share = bare.strip_suffix('%').is_some_and(digits);
    match bare {
        _ if is_port => word.replace(bare, "127.0.0.1:#"),
        _ if is_share => word.replace(bare, "#%"),
        _ if is_age => word.replace(bare, "#s"),
        _ if is_long && !bare.starts_with("0.1.0") => word.replace(bare, "#"),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn what_cannot_be_foreseen_is_masked() {
        assert_eq!(masked("web:1 is ready after 470 ms, pid 31714"), "web:1 is ready after #, pid #");
        assert_eq!(
            masked("web:0 ended with code 1 after 5 ms, pid 9999"),
            "web:0 ended with code 1 after #, pid #"
        );
        assert_eq!(
            masked("0:1  web  handoff  31  0s   0  online  14.3%  46.3 MiB"),
            "0:1 web handoff # #s 0 online #% # MiB"
        );
        assert_eq!(masked("2 workers serve 127.0.0.1:39217"), "2 workers serve 127.0.0.1:#");
    }
}
