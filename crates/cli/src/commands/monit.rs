//! `oxherd monit` and `ls --watch`: the list, drawn again and again. `q` or Ctrl-C ends it; in a pipe it is printed once.

use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;

use oxherd::client::Client;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

use crate::commands::daemon::{Ending, known, status_of, talk, talk_on};
use crate::commands::looks::{herd_of, listed};
use crate::exit::ExitStatus;
use crate::options::{ListOptions, MonitOptions};
use crate::view::form::{Form, Screen};
use crate::voice::print;

/// Between two pictures of `ls --watch`.
const USUAL: Duration = Duration::from_secs(1);
/// The shortest time between two pictures.
const SHORTEST: Duration = Duration::from_millis(100);
/// Keys that wait to be looked at.
const KEYS_MAX: usize = 16;
/// Clears from the cursor to the end of the screen.
const CLEAR: &str = "\x1b[J";

pub(super) fn run(options: &MonitOptions) -> ExitStatus {
    let pause = Duration::from_millis(options.interval.as_millis()).max(SHORTEST);
    status_of(show(&ListOptions::default(), pause))
}

/// `ls --watch`.
pub(super) fn watch(options: &ListOptions) -> Ending<ExitStatus> {
    show(options, USUAL)
}

fn show(options: &ListOptions, pause: Duration) -> Ending<ExitStatus> {
    let client = known()?;
    let form = Form::of(&io::stdout());
    if form == Form::Plain {
        let herd = talk(herd_of(&client))?;
        print(&listed(herd, options, form));
        return Ok(ExitStatus::Success);
    }
    talk_on(async {
        let mut keyboard = Keyboard::listen();
        draw(&client, options, pause, &mut keyboard.keys).await
    })
}

async fn draw(
    client: &Client,
    options: &ListOptions,
    pause: Duration,
    keys: &mut mpsc::Receiver<u8>,
) -> Ending<ExitStatus> {
    let mut canvas = Canvas::default();
    loop {
        let herd = herd_of(client).await?;
        if let form @ Form::Terminal(screen) = Form::of(&io::stdout()) {
            let mut text = match herd.is_some() {
                true => listed(herd, options, form),
                false => "no daemon is running\n".to_owned(),
            };
            text.push_str("q quits");
            if canvas.draw(&text, screen).is_err() {
                return Ok(ExitStatus::Success);
            }
        }
        let pressed = tokio::time::sleep(pause);
        tokio::pin!(pressed);
        loop {
            tokio::select! {
                () = &mut pressed => break,
                key = keys.recv() => match key {
                    Some(b'q' | b'Q' | 0x03 | 0x1b) => return Ok(ExitStatus::Success),
                    Some(_) => {}
                    // Nobody types any more.
                    None => { (&mut pressed).await; break; }
                },
            }
        }
    }
}

/// Lines in one place of a terminal, drawn over themselves.
#[derive(Debug, Default)]
struct Canvas {
    rows: usize,
}

impl Canvas {
    fn draw(&mut self, text: &str, screen: Screen) -> io::Result<()> {
        let room = screen.height.saturating_sub(1).max(1);
        let lines: Vec<&str> = text.lines().take(room).collect();
        let mut picture = String::new();
        if self.rows > 0 {
            picture = format!("\x1b[{}A\r{CLEAR}", self.rows);
        }
        for line in &lines {
            picture.push_str(line);
            picture.push_str("\r\n");
        }
        self.rows = lines.len();
        let mut out = io::stdout();
        out.write_all(picture.as_bytes())?;
        out.flush()
    }
}

/// Keys as they are pressed, without waiting for the end of a line.
struct Keyboard {
    keys: mpsc::Receiver<u8>,
    /// Puts the terminal back as it was.
    _mode: Option<Mode>,
}

impl Keyboard {
    fn listen() -> Self {
        let (sender, keys) = mpsc::channel(KEYS_MAX);
        let mode = Mode::enter();
        if mode.is_some() {
            std::thread::spawn(move || {
                let mut key = [0];
                while let Ok(1) = io::stdin().read(&mut key) {
                    if sender.blocking_send(key[0]).is_err() {
                        return;
                    }
                }
            });
        }
        Self { keys, _mode: mode }
    }
}

/// A terminal that hands on each key at once and does not show it.
struct Mode(Termios);

impl Mode {
    fn enter() -> Option<Self> {
        if !io::stdin().is_terminal() {
            return None;
        }
        let before = tcgetattr(io::stdin()).ok()?;
        let mut changed = before.clone();
        changed.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &changed).ok()?;
        Some(Self(before))
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        let _terminal_is_gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
