//! What a stream is: a terminal of some size, with colours or without, or something that wants plain lines.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::tcgetwinsize;

use super::paint::wrap;

/// For terminals that do not tell their size.
const USUAL_WIDTH: usize = 80;
const USUAL_HEIGHT: usize = 24;

static NO_COLOURS: AtomicBool = AtomicBool::new(false);

/// How to write to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Plain lines: no colours, no boxes, nothing that moves.
    Plain,
    Terminal(Screen),
}

/// A terminal as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Screen {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) colour: bool,
}

impl Form {
    /// From now on there are no colours, whatever the terminal can do.
    pub(crate) fn without_colours() {
        NO_COLOURS.store(true, Ordering::Relaxed);
    }

    /// Whether colours are wanted where a terminal has some.
    pub(crate) fn has_colours() -> bool {
        !NO_COLOURS.load(Ordering::Relaxed)
    }

    /// Looks at a stream. A terminal that cannot do anything is given plain lines.
    pub(crate) fn of<S: IsTerminal + AsFd>(stream: &S) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if is_dumb || !stream.is_terminal() {
            return Self::Plain;
        }
        Self::Terminal(Screen::of(stream))
    }

    /// A sentence that a terminal does not break within a word.
    pub(crate) fn fit(self, sentence: &str) -> String {
        match self {
            Self::Plain => sentence.to_owned(),
            Self::Terminal(screen) => wrap(sentence, screen.width, "  "),
        }
    }

    pub(crate) fn colour(self) -> bool {
        matches!(self, Self::Terminal(Screen { colour: true, .. }))
    }
}

impl Screen {
    fn of(stream: &impl AsFd) -> Self {
        let size = tcgetwinsize(stream).ok();
        let told = |value: Option<u16>, usual| value.filter(|value| *value > 0).map_or(usual, usize::from);
        Self {
            width: told(size.map(|size| size.ws_col), USUAL_WIDTH),
            height: told(size.map(|size| size.ws_row), USUAL_HEIGHT),
            colour: Form::has_colours() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}
