//! A command on a terminal of some size, and the picture that a person sees there.
//!
//! It understands what `oxherd` writes (colours, moves upwards, erasure) and nothing else; anything else panics.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

use crate::terminal::Terminal;
use crate::{Home, eventually};

const ROWS: u16 = 40;

/// A command on a terminal of its own.
#[derive(Debug)]
pub struct Session {
    child: Child,
    terminal: Terminal,
    seen: Arc<Mutex<Seen>>,
    reader: Option<JoinHandle<()>>,
}

/// What was written, and how it looks.
#[derive(Debug)]
struct Seen {
    raw: String,
    picture: Picture,
}

/// Rows of characters, below a cursor that moves.
#[derive(Debug)]
struct Picture {
    width: usize,
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    is_broken: bool,
}

impl Session {
    /// Starts `oxherd` with these arguments on a terminal of that width.
    pub fn start(home: &Home, args: &[&str], width: u16, env: &[(&str, &str)]) -> Self {
        let (terminal, end) = Terminal::open();
        let size = Winsize { ws_row: ROWS, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&end, size).expect("a terminal has a size");
        Self::of(&home.command(args), terminal, &end, env)
    }

    /// Starts any command on a terminal of that width.
    pub fn start_command(inner: &Command, width: u16) -> Self {
        let (terminal, end) = Terminal::open();
        let size = Winsize { ws_row: ROWS, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&end, size).expect("a terminal has a size");
        Self::of(inner, terminal, &end, &[])
    }

    fn of(inner: &Command, terminal: Terminal, end: &OwnedFd, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(inner.get_program()).args(inner.get_args());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(folder) = inner.get_current_dir() {
            command.current_dir(folder);
        }
        command.env("TERM", "xterm-256color").env("NO_COLOR", "").envs(env.iter().copied());
        let another = || end.try_clone().expect("a descriptor is free");
        let child = command.stdin(another()).stdout(another()).stderr(another()).spawn().expect("it runs");
        let width = tcgetwinsize(end).expect("a terminal has a size").ws_col;
        let seen = Seen { raw: String::new(), picture: Picture::new(width.into()) };
        let seen = Arc::new(Mutex::new(seen));
        let reader = std::thread::spawn({
            let (mut stream, seen) = (terminal.raw_reader(), Arc::clone(&seen));
            move || gather(&mut stream, &seen)
        });
        Self { child, terminal, seen, reader: Some(reader) }
    }

    /// The picture as it is now, one line for each row.
    pub fn picture(&self) -> String {
        self.with(|seen| seen.picture.text())
    }

    /// Waits for a picture.
    pub fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        eventually(what, || Some(self.picture()).filter(|picture| wanted(picture)))
    }

    /// Presses a key.
    pub fn press(&self, key: u8) {
        self.terminal.press(key);
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end. No line may have been broken by the terminal.
    pub fn end(self) -> (Option<i32>, String, String) {
        let (code, picture, raw, is_broken) = self.end_anyhow();
        assert!(!is_broken, "the terminal breaks a line:\n{picture}");
        (code, picture, raw)
    }

    /// Waits for its end; returns its exit code, the last picture, all that was written, and whether the terminal broke
    /// a line.
    pub fn end_anyhow(mut self) -> (Option<i32>, String, String, bool) {
        let status = eventually("the end of the command", || self.child.try_wait().expect("it is our child"));
        // Nobody has the terminal open any more but this one, whose end the reader sees.
        drop(self.reader.take().expect("it is joined once").join());
        let (picture, raw, is_broken) =
            self.with(|seen| (seen.picture.text(), seen.raw.clone(), seen.picture.is_broken));
        (status.code(), picture, raw, is_broken)
    }

    fn with<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn gather(stream: &mut impl Read, seen: &Mutex<Seen>) {
    let mut pending = Vec::new();
    let mut buffer = [0; 4096];
    // A terminal whose other end is closed by all ends with an error.
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        pending.extend_from_slice(&buffer[..count]);
        let whole = match std::str::from_utf8(&pending) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = String::from_utf8_lossy(&pending[..whole]).into_owned();
        pending.drain(..whole);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.raw.push_str(&text);
        let raw = seen.raw.clone();
        let mut picture = Picture::new(seen.picture.width);
        picture.show(&raw);
        seen.picture = picture;
    }
}

impl Picture {
    fn new(width: usize) -> Self {
        Self { width, rows: Vec::new(), row: 0, column: 0, is_broken: false }
    }

    fn text(&self) -> String {
        let rows = self.rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned() + "\n");
        rows.collect()
    }

    fn show(&mut self, text: &str) {
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => self.row += 1,
                '\x1b' => {
                    // One that is still under way shows nothing.
                    let Some('[') = chars.next() else { return };
                    let order = order_of(&mut chars);
                    self.obey(&order);
                }
                c => self.put(c),
            }
        }
    }

    fn obey(&mut self, order: &str) {
        let Some(letter) = order.chars().last().filter(char::is_ascii_alphabetic) else { return };
        let number = order.trim_end_matches(letter).parse().unwrap_or(1);
        match letter {
            'm' => {}
            'A' => self.row = self.row.saturating_sub(number),
            'J' => {
                self.rows.truncate(self.row + 1);
                self.clear_right();
            }
            'K' => self.clear_right(),
            _ => panic!("nobody taught this terminal {order:?}"),
        }
    }

    fn clear_right(&mut self) {
        if let Some(row) = self.rows.get_mut(self.row) {
            row.truncate(self.column);
        }
    }

    fn put(&mut self, c: char) {
        if self.column == self.width {
            self.is_broken = true;
            (self.row, self.column) = (self.row + 1, 0);
        }
        while self.rows.len() <= self.row {
            self.rows.push(Vec::new());
        }
        let row = &mut self.rows[self.row];
        while row.len() <= self.column {
            row.push(' ');
        }
        row[self.column] = c;
        self.column += 1;
    }
}

/// Up to and with the letter that ends an order.
fn order_of(chars: &mut impl Iterator<Item = char>) -> String {
    let mut order = String::new();
    for c in chars {
        order.push(c);
        if c.is_ascii_alphabetic() {
            break;
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::Picture;

    #[test]
    fn a_block_is_seen_as_it_was_drawn_last() {
        let mut picture = Picture::new(10);
        picture.show("one\r\ntwo\r\n\x1b[2A\r\x1b[Jthree\r\n^C\r\x1b[K\x1b[32mend\x1b[0m\r\n");
        assert_eq!((picture.text().as_str(), picture.is_broken), ("three\nend\n", false));
        picture.show("0123456789+");
        assert!(picture.is_broken);
    }
}
