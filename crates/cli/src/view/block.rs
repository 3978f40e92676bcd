//! Lines that are drawn again and again in one place of a terminal. The cursor always rests below them, so that
//! whoever writes next, or kills the command, finds the terminal in order.

use std::io::{self, Write};

use super::form::Screen;
use super::paint::Styled;

/// Clears from the cursor to the end of the screen.
const CLEAR: &str = "\x1b[J";

/// A block on a terminal.
#[derive(Debug)]
pub(crate) struct Block<W> {
    out: W,
    /// How wide each line is that stands there.
    drawn: Vec<usize>,
}

impl<W: Write> Block<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, drawn: Vec::new() }
    }

    /// Puts these lines in the place of those that stand there. All goes out in one piece, so that nothing flickers.
    pub(crate) fn draw(&mut self, lines: &[Styled], screen: Screen) -> io::Result<()> {
        let mut text = self.erasure(screen);
        for line in lines {
            text += &line.show(screen.colour);
            text.push('\n');
        }
        self.drawn = lines.iter().map(Styled::width).collect();
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Takes the lines away.
    pub(crate) fn erase(&mut self, screen: Screen) -> io::Result<()> {
        self.draw(&[], screen)
    }

    /// A terminal that became narrower has broken the lines: they take more rows than they did.
    fn erasure(&self, screen: Screen) -> String {
        let rows: usize = self.drawn.iter().map(|width| width.div_ceil(screen.width.max(1)).max(1)).sum();
        if rows == 0 { String::new() } else { format!("\x1b[{rows}A\r{CLEAR}") }
    }
}

#[cfg(test)]
mod tests {
    use super::super::paint::Paint;
    use super::*;

    const WIDE: Screen = Screen { width: 80, height: 24, colour: false };

    #[test]
    fn a_block_is_drawn_over_itself() {
        let mut block = Block::new(Vec::new());
        let lines = ["a", "bb"].map(|text| Styled::new(Paint::Bold, text));
        block.draw(&lines, WIDE).unwrap();
        block.draw(&lines[..1], WIDE).unwrap();
        block.erase(WIDE).unwrap();
        block.erase(WIDE).unwrap();
        let text = String::from_utf8(block.out).unwrap();
        assert_eq!(text, "a\nbb\n\x1b[2A\r\x1b[Ja\n\x1b[1A\r\x1b[J");
    }

    #[test]
    fn a_narrower_terminal_has_broken_the_lines() {
        let mut block = Block::new(Vec::new());
        let line = Styled::new(Paint::Plain, "x".repeat(25));
        block.draw(&[line.clone(), Styled::default()], WIDE).unwrap();
        block.erase(Screen { width: 10, ..WIDE }).unwrap();
        assert!(String::from_utf8(block.out).unwrap().ends_with("\x1b[4A\r\x1b[J"));
    }
}
