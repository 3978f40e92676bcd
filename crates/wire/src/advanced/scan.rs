//! JSON text, one token at a time, checked. It must never build anything or recurse.

use super::{FrameOfError, MAX_WRITTEN_DEPTH};

/// A piece of JSON. Strings are what stands between their quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    OpenObject,
    CloseObject,
    OpenArray,
    CloseArray,
    /// A member's name, and where it begins.
    Key(&'a [u8], usize),
    Text(&'a [u8]),
    Number(&'a str),
    Null,
    True,
    False,
    /// The value is whole, and nothing follows it.
    End,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Value,
    ValueOrClose,
    Key,
    KeyOrClose,
    CommaOrClose,
    End,
}

/// What is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Object,
    Array,
}

/// The tokens of one value. After an error or [`Token::End`] it is of no use.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    open: Vec<Bracket>,
    expected: Expected,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, open: Vec::new(), expected: Expected::Value }
    }

    /// How many values are open.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    pub(super) fn next(&mut self) -> Result<Token<'a>, FrameOfError> {
        self.skip_space();
        if self.expected == Expected::CommaOrClose && self.peek() == Some(b',') {
            self.at += 1;
            self.skip_space();
            self.expected = match self.open.last() {
                Some(Bracket::Object) => Expected::Key,
                Some(Bracket::Array) | None => Expected::Value,
            };
        }
        match (self.expected, self.peek()) {
            (Expected::End, None) => Ok(Token::End),
            (Expected::End, Some(_)) | (_, None) => self.fault(),
            (Expected::KeyOrClose | Expected::CommaOrClose, Some(b'}')) => self.close(Bracket::Object),
            (Expected::ValueOrClose | Expected::CommaOrClose, Some(b']')) => self.close(Bracket::Array),
            (Expected::CommaOrClose, Some(_)) => self.fault(),
            (Expected::Key | Expected::KeyOrClose, Some(_)) => self.key(),
            (Expected::Value | Expected::ValueOrClose, Some(first)) => self.value(first),
        }
    }

    fn value(&mut self, first: u8) -> Result<Token<'a>, FrameOfError> {
        let token = match first {
            b'{' => return self.open(Bracket::Object),
            b'[' => return self.open(Bracket::Array),
            b'"' => Token::Text(self.string()?),
            b't' => self.word("true", Token::True)?,
            b'f' => self.word("false", Token::False)?,
            b'n' => self.word("null", Token::Null)?,
            _ => Token::Number(self.number()?),
        };
        self.after_value();
        Ok(token)
    }

    fn open(&mut self, bracket: Bracket) -> Result<Token<'a>, FrameOfError> {
        if self.open.len() >= MAX_WRITTEN_DEPTH {
            return Err(FrameOfError::TooDeep);
        }
        self.at += 1;
        self.open.push(bracket);
        let (token, expected) = match bracket {
            Bracket::Object => (Token::OpenObject, Expected::KeyOrClose),
            Bracket::Array => (Token::OpenArray, Expected::ValueOrClose),
        };
        self.expected = expected;
        Ok(token)
    }

    fn close(&mut self, bracket: Bracket) -> Result<Token<'a>, FrameOfError> {
        if self.open.pop() != Some(bracket) {
            return self.fault();
        }
        self.at += 1;
        self.after_value();
        Ok(match bracket {
            Bracket::Object => Token::CloseObject,
            Bracket::Array => Token::CloseArray,
        })
    }

    fn after_value(&mut self) {
        self.expected = if self.open.is_empty() { Expected::End } else { Expected::CommaOrClose };
    }

    fn key(&mut self) -> Result<Token<'a>, FrameOfError> {
        if self.peek() != Some(b'"') {
            return self.fault();
        }
        let start = self.at;
        let key = self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return self.fault();
        }
        self.at += 1;
        self.expected = Expected::Value;
        Ok(Token::Key(key, start))
    }

    /// What stands between two quotes.
    fn string(&mut self) -> Result<&'a [u8], FrameOfError> {
        let start = self.at + 1;
        self.at = start;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0..0x20) | None => return self.fault(),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(self.bytes().get(start..self.at - 1).unwrap_or_default())
    }

    fn escape(&mut self) -> Result<(), FrameOfError> {
        let digits = match self.bytes().get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
            Some(b'u') => 4,
            Some(_) | None => return self.fault(),
        };
        self.at += 2;
        for _ in 0..digits {
            if !self.peek().is_some_and(|digit| digit.is_ascii_hexdigit()) {
                return self.fault();
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<&'a str, FrameOfError> {
        let start = self.at;
        self.skip_one(b"-");
        let zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (zero && whole > 1) {
            return self.fault();
        }
        if self.skip_one(b".") && self.digits() == 0 {
            return self.fault();
        }
        if self.skip_one(b"eE") {
            self.skip_one(b"+-");
            if self.digits() == 0 {
                return self.fault();
            }
        }
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|digit| digit.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn word(&mut self, word: &str, token: Token<'a>) -> Result<Token<'a>, FrameOfError> {
        if !self.bytes().get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            return self.fault();
        }
        self.at += word.len();
        Ok(token)
    }

    fn skip_one(&mut self, of: &[u8]) -> bool {
        let found = self.peek().is_some_and(|byte| of.contains(&byte));
        self.at += usize::from(found);
        found
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn fault<T>(&self) -> Result<T, FrameOfError> {
        Err(FrameOfError::NotJson { at: self.at })
    }
}
