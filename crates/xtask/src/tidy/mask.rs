//! Blanks out what is not code in a Rust source: comments, strings and character literals.
//!
//! Lines and columns stay where they are. This is no parser; it knows just enough that a word in a
//! comment or a string is not taken for code.

/// The source with every byte of comments and literals replaced by a space.
pub(super) fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        for byte in code.iter_mut().take(end).skip(at).filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// Where the comment or literal that starts at `at` ends; `at` itself if none starts there.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + block_comment(rest),
        [b'"', ..] => at + quoted(rest, b'"'),
        [b'r', b'"' | b'#', ..] if !continues_word(bytes, at) => at + raw_string(rest),
        [b'\'', b'\\', ..] => at + quoted(rest, b'\''),
        // A lifetime has no closing quote; a character of several bytes closes within four.
        [b'\'', _, tail @ ..] => match tail.iter().take(4).position(|byte| *byte == b'\'') {
            Some(length) if length == 0 || !rest[1].is_ascii() => at + length + 3,
            Some(_) | None => at,
        },
        _ => at,
    }
}

/// `br"…"` and `cr"…"` are raw strings too, `for"…"` cannot be written; any other word goes on.
fn continues_word(bytes: &[u8], at: usize) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let before = bytes[..at].last();
    let prefixed = matches!(before, Some(b'b' | b'c')) && !bytes[..at - 1].last().is_some_and(is_word);
    before.is_some_and(is_word) && !prefixed
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    break;
                }
            }
            _ => at += 1,
        }
    }
    at.min(rest.len())
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of `r#"…"#`, or 0 for a raw identifier.
fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest.iter().skip(1).take_while(|byte| **byte == b'#').count();
    let start = 1 + hashes;
    if rest.get(start) != Some(&b'"') {
        return 0;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = &rest[start + 1..];
    body.windows(close.len())
        .position(|window| window == close)
        .map_or(rest.len(), |found| start + 1 + found + close.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_masked(source: &str, expected: &str) {
        assert_eq!(code_only(source).split_whitespace().collect::<Vec<_>>().join(" "), expected, "{source}");
    }

    #[test]
    fn comments_and_literals_vanish() {
        assert_masked("a // b\nc /* d /* e */ f */ g", "a c g");
        assert_masked(r#"x("a \" b", 'c', '\'', y)"#, "x( , , , y)");
        assert_masked("r#\"a \" b\"# z br\"q\" w", "z b w");
        assert_masked("'é' k '…' k", "k k");
    }

    #[test]
    fn lifetimes_and_raw_identifiers_stay() {
        assert_masked(
            "fn f<'a>(x: &'a str) { r#type; for r in b {} }",
            "fn f<'a>(x: &'a str) { r#type; for r in b {} }",
        );
        assert_masked("impl<'a, 'b> X<'a, 'b>", "impl<'a, 'b> X<'a, 'b>");
    }

    #[test]
    fn lines_stay_in_place() {
        let source = "a\n/* x\ny */\n\"p\nq\"\nunsafe\n";
        assert_eq!(code_only(source).lines().position(|line| line == "unsafe"), Some(5));
    }

    #[test]
    fn unfinished_input_ends() {
        for source in ["\"a", "/* a", "r#\"a", "'", "'\\", "r", "\"\\"] {
            assert_eq!(code_only(source).len(), source.len());
        }
    }
}
