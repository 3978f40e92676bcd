//! Patterns of paths: `*` and `?` within a part, `**` across parts, `[a-z]`, `{one,two}`. Linear but for braces.

/// Whether the whole text fits the pattern.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    unfold(pattern, 0).iter().any(|plain| walk(plain.as_bytes(), text.as_bytes()))
}

/// Whether it is a pattern at all.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// How many times braces may be unfolded.
const DEPTH: usize = 4;

/// The patterns without braces that one with braces stands for.
fn unfold(pattern: &str, depth: usize) -> Vec<String> {
    let found = pattern.split_once('{').and_then(|(head, rest)| {
        let (choices, tail) = rest.split_once('}')?;
        Some((head, choices, tail))
    });
    match found.filter(|_| depth < DEPTH) {
        Some((head, choices, tail)) => choices
            .split(',')
            .flat_map(|choice| unfold(&format!("{head}{choice}{tail}"), depth + 1))
            .collect(),
        None => vec![pattern.to_owned()],
    }
}

/// With one place to go back to for each of the two kinds of stars, which is enough.
fn walk(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*', b'/', rest @ ..] => {
            walk(rest, text)
                || (0..text.len()).any(|at| text.get(at) == Some(&b'/') && walk(rest, &text[at + 1..]))
        }
        [b'*', b'*', rest @ ..] => (0..=text.len()).any(|at| walk(rest, &text[at..])),
        [b'*', rest @ ..] => {
            let end = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
            (0..=end).any(|at| walk(rest, &text[at..]))
        }
        [b'?', rest @ ..] => text.first().is_some_and(|byte| *byte != b'/') && walk(rest, &text[1..]),
        [b'[', rest @ ..] => match (class(rest, text.first()), text) {
            (Some((fits, after)), [_, others @ ..]) => fits && walk(after, others),
            _ => false,
        },
        [first, rest @ ..] => text.first() == Some(first) && walk(rest, &text[1..]),
    }
}

/// Whether the byte is of the class, and what comes after the class.
fn class<'a>(pattern: &'a [u8], byte: Option<&u8>) -> Option<(bool, &'a [u8])> {
    let end = pattern.iter().skip(1).position(|byte| *byte == b']')? + 1;
    let (mut members, after) = (pattern.get(..end)?, pattern.get(end + 1..)?);
    let is_not = matches!(members.first(), Some(b'!' | b'^'));
    if is_not {
        members = &members[1..];
    }
    let byte = *byte?;
    let mut fits = false;
    while let [first, rest @ ..] = members {
        match rest {
            [b'-', last, others @ ..] => {
                fits |= (*first..=*last).contains(&byte);
                members = others;
            }
            _ => {
                fits |= *first == byte;
                members = rest;
            }
        }
    }
    Some((fits != is_not && byte != b'/', after))
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_fit_as_shells_have_them() {
        for (pattern, text) in [
            ("*.log", "a.log"),
            ("**/*.log", "a.log"),
            ("**/*.log", "x/y/a.log"),
            ("tmp/**", "tmp/x/y"),
            ("a?c/[a-c]x", "abc/bx"),
            ("[!a]*", "bcd"),
            ("*.{js,ts}", "a.ts"),
            ("{a,b}/{c,d}", "b/c"),
            ("/srv/*/x", "/srv/web/x"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("*.log", "x/a.log"),
            ("tmp/*", "tmp/x/y"),
            ("a?c", "a/c"),
            ("[a-c]", "d"),
            ("[", "["),
            ("*.js", "a.jsx"),
        ] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }
}
