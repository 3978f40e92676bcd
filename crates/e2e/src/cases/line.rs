//! What is typed in a line: the verb and the options, for those who ask whether all are.

/// The names of the program.
const PROGRAMS: [&str; 2] = ["oxherd", "pm2"];
/// Options without a value that may stand before the verb.
const OWN: [&str; 3] = ["-s", "--silent", "--no-color"];

/// A call of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// `oxherd` or `pm2`.
    pub program: String,
    /// The words up to `--`.
    pub words: Vec<String>,
}

impl Typed {
    /// The words that may be verbs: the first, and one that follows it at once.
    pub fn verbs(&self) -> impl Iterator<Item = &str> {
        let words = self.words.iter().map(String::as_str).skip_while(|word| OWN.contains(word));
        words.take_while(|word| !word.starts_with('-')).take(2)
    }

    /// The options, without values.
    pub fn options(&self) -> impl Iterator<Item = &str> {
        let options = self.words.iter().filter(|word| word.starts_with('-'));
        options.map(|word| word.split_once('=').map_or(word.as_str(), |(option, _)| option))
    }
}

/// The calls in a line of the shell.
pub fn typed(line: &str) -> Vec<Typed> {
    let mut calls = Vec::new();
    let mut call: Option<Typed> = None;
    for word in words(line) {
        let is_end = matches!(word.as_str(), "|" | "&&" | "||" | ";" | ">" | "<" | "2>&1" | "&" | "--");
        if is_end {
            calls.extend(call.take());
        } else if let Some(call) = &mut call {
            call.words.push(word);
        } else if PROGRAMS.contains(&word.as_str()) {
            call = Some(Typed { program: word, words: Vec::new() });
        }
    }
    calls.extend(call);
    calls
}

/// The words of a line, without quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_in_lines() {
        let calls = typed("A=1 oxherd -s start 'a b.js' --name=web -i 2 -- --own | pm2 ls -m");
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[0].verbs().collect::<Vec<_>>(), ["start", "a b.js"]);
        assert_eq!(calls[0].options().collect::<Vec<_>>(), ["-s", "--name", "-i"]);
        assert_eq!((calls[1].program.as_str(), calls[1].verbs().next()), ("pm2", Some("ls")));
    }
}
