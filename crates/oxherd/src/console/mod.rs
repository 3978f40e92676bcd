//! What people read of a primary: log lines, workers' output and reports, by way of printers that never hold up the
//! engine. `oxherd run` prints by it, and so does a primary of one's own.
//!
//! For a program that runs the engine itself, [`Console`] is its [`Observer`]. It renders and prints; it must never
//! decide anything, and never wait for a reader.
//!
//! Log lines and workers' stdout go to stdout; lines of trouble and workers' stderr go to stderr. Where both
//! are the same file, one printer keeps their order.

mod frame;
mod notices;
mod printer;
mod reports;
mod speakers;
mod tally;
pub mod words;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use oxherd_engine::core::{AppId, InstanceId, Notice, Outcome};
use oxherd_engine::{Alert, Bulletin, EngineError, Observer, OutputLine, Report, Stream};

pub use notices::{abort_reason, aborted, ended, give_up, shown_address};

use frame::{Frame, Line, Weight};
use printer::{Loss, Printer};
use speakers::Speakers;
use tally::Tally;
use words::count;

/// How many bytes may wait for a reader, for each of the two streams.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// How long the end waits for a reader.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The line for a piece of news of the app with this name, where it is told without a console.
pub fn line_of_bulletin(bulletin: &Bulletin, name: Option<&str>) -> Option<String> {
    notices::bulletin(bulletin).map(|line| line.of(name).text)
}

/// The line for a condition of the primary, or of the app with this name, likewise.
pub fn line_of_alert(alert: &Alert, name: Option<&str>) -> String {
    notices::alert(alert).of(name).text
}

/// How a primary in the foreground has ended, as its exit code tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Stopped on request, or every worker ended and none is to be restarted.
    Success,
    /// Killed by a second signal, or an internal error.
    Failure,
    /// It can never start as it is.
    Usage,
    /// A slot has given up and nothing is left running.
    GaveUp,
}

impl Ending {
    /// The exit code, the same as that of `oxherd run`: 0 to 3 in the order above.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::GaveUp => 3,
        }
    }
}

/// The observer that writes to stdout and stderr.
#[derive(Debug)]
pub struct Console {
    /// Opened with the first line: the engine has blocked its signals by then, and the printers' threads
    /// inherit that. A thread that does not would take a signal in the engine's place and end the process.
    outlets: Option<Outlets>,
    tally: Tally,
    speakers: Speakers,
    /// Workers' lines are printed as they are.
    raw: bool,
    /// Nothing is told but trouble and what workers write.
    silent: bool,
    no_colour: bool,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Outlets {
    stdout: Outlet,
    /// `None`: the same file as stdout.
    stderr: Option<Outlet>,
}

#[derive(Debug)]
struct Outlet {
    /// `None`: it could not be opened, and what would go there is discarded.
    printer: Option<Printer>,
    frame: Frame,
    /// Whose line has no end yet.
    amid: Option<Source>,
}

type Source = (InstanceId, Stream);

impl Console {
    /// A console for an app with this many slots.
    pub fn new(instances: u32) -> Self {
        let speakers = Speakers::of_one_app(instances);
        Self {
            outlets: None,
            tally: Tally::default(),
            speakers,
            raw: false,
            silent: false,
            no_colour: false,
            scratch: Vec::new(),
        }
    }

    /// A console for apps that it is [told of](Self::know) later; with `raw` workers' lines are printed as they are.
    pub fn of_daemon(raw: bool) -> Self {
        Self { raw, ..Self::new(1) }
    }

    /// From now on nothing is told but trouble and what workers write.
    #[must_use]
    pub fn silenced(mut self) -> Self {
        self.silent = true;
        self
    }

    /// A terminal gets no colours either.
    #[must_use]
    pub fn without_colours(mut self) -> Self {
        self.no_colour = true;
        self
    }

    /// Tells how it ended, gives readers a moment for the rest, and says with which code to exit.
    pub fn end(self, outcome: Outcome) -> Ending {
        let (status, line) = self.tally.ending(outcome);
        self.close(line);
        status
    }

    /// Says how it ended without a word; readers get a moment for the rest.
    pub fn end_quietly(self, outcome: Outcome) -> Ending {
        let (ending, _) = self.tally.ending(outcome);
        self.flush();
        ending
    }

    /// Takes a notice in that is not to be printed.
    pub fn note(&mut self, notice: &Notice) {
        self.tally.note(notice);
    }

    /// Tells why the engine could not go on.
    pub fn fail(self, error: &EngineError) -> Ending {
        self.close(notices::failure(error));
        Ending::Failure
    }

    /// Learns what the apps are called, before it hears of them.
    pub fn know(&mut self, names: &BTreeMap<AppId, String>) {
        self.speakers.know(names);
    }

    /// Prints a line of trouble of the program's own.
    pub fn trouble(&mut self, what: &str) {
        self.say(&[Line::trouble(what)]);
    }

    fn close(mut self, last: Line) {
        self.say(&[last]);
        self.flush();
    }

    fn flush(self) {
        let until = Instant::now() + FLUSH_TIME;
        if let Some(outlets) = self.outlets {
            outlets.stdout.finish(until);
            outlets.stderr.into_iter().for_each(|outlet| outlet.finish(until));
        }
    }

    /// Prints lines of one weight as one unit.
    fn say(&mut self, lines: &[Line]) {
        let weight = lines.first().map_or(Weight::News, |line| line.weight);
        if self.silent && weight == Weight::News {
            return;
        }
        let stream = match weight {
            Weight::News => Stream::Stdout,
            Weight::Trouble => Stream::Stderr,
        };
        self.print(stream, None, |frame, _, into| {
            lines.iter().for_each(|line| frame.log(line, into));
            None
        });
    }

    /// Whose line on the stream has no end yet.
    fn amid(&mut self, stream: Stream) -> Option<Source> {
        self.outlets.as_mut().and_then(|outlets| outlets.of(stream).amid)
    }

    /// Prints what `write` appends, which is told whether it goes on with a line of this source, and says whose line has
    /// no end yet.
    fn print(
        &mut self,
        stream: Stream,
        source: Option<Source>,
        write: impl FnOnce(Frame, bool, &mut Vec<u8>) -> Option<Source>,
    ) {
        let outlets = self
            .outlets
            .get_or_insert_with(|| Outlets::open(self.speakers.width(), wants_colour() && !self.no_colour));
        let outlet = outlets.of(stream);
        self.scratch.clear();
        let goes_on = outlet.amid.is_some() && outlet.amid == source;
        if outlet.amid.is_some() && !goes_on {
            self.scratch.push(b'\n');
        }
        outlet.amid = write(outlet.frame, goes_on, &mut self.scratch);
        if let Some(printer) = &outlet.printer {
            printer.print(&self.scratch);
        }
    }
}

impl Observer for Console {
    fn bulletin(&mut self, bulletin: &Bulletin) {
        self.tally.note(&bulletin.notice);
        if let Some(line) = notices::bulletin(bulletin) {
            let app = bulletin.notice.app();
            let line = line.of(app.and_then(|app| self.speakers.name_among_many(app)));
            self.say(&[line]);
        }
    }

    fn output(&mut self, line: &OutputLine<'_>) {
        let speaker = (!self.raw).then(|| self.speakers.of(line.place));
        let source = (line.place.instance, line.stream);
        if line.goes_on && line.bytes.is_empty() && !line.more && self.amid(line.stream) != Some(source) {
            // It was ended already, by somebody else's line.
            return;
        }
        self.print(line.stream, Some(source), |frame, goes_on, into| {
            if let Some(speaker) = speaker.filter(|_| !goes_on) {
                frame.speaker(&speaker, line.place.slot, into);
            }
            into.extend_from_slice(line.bytes);
            if !line.more {
                into.push(b'\n');
            }
            line.more.then_some(source)
        });
    }

    fn report(&mut self, report: &Report) {
        self.say(&reports::render(report));
    }

    fn alert(&mut self, alert: &Alert) {
        let name = alert.app().and_then(|app| self.speakers.name_among_many(app));
        self.say(&[notices::alert(alert).of(name)]);
    }
}

impl Outlets {
    fn open(width: usize, colour: bool) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let frames = [stdout.is_terminal(), stderr.is_terminal()]
            .map(|terminal| Frame::new(width, terminal && colour));
        let [out, err] = [duplicate(&stdout), duplicate(&stderr)];
        let is_one = matches!((&out, &err), (Ok(out), Ok(err)) if is_same(out, err));
        let [out_frame, err_frame] = frames;
        Self { stdout: Outlet::new(out, out_frame), stderr: (!is_one).then(|| Outlet::new(err, err_frame)) }
    }

    fn of(&mut self, stream: Stream) -> &mut Outlet {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => self.stderr.as_mut().unwrap_or(&mut self.stdout),
        }
    }
}

impl Outlet {
    fn new(file: io::Result<File>, frame: Frame) -> Self {
        let tell = move |loss: &Loss| {
            let mut bytes = Vec::new();
            frame.log(&loss_line(loss), &mut bytes);
            bytes
        };
        let printer = file.and_then(|file| Printer::start(file, QUEUE_BYTES_MAX, tell)).ok();
        Self { printer, frame, amid: None }
    }

    fn finish(self, until: Instant) {
        if let Some(printer) = self.printer {
            printer.finish(until);
        }
    }
}

fn loss_line(loss: &Loss) -> Line {
    let lines = count(loss.lines, "line was", "lines were");
    match &loss.error {
        None => Line::trouble(format!("{lines} dropped: the output was not read")),
        Some(error) => Line::trouble(format!("{lines} dropped: cannot write: {error}")),
    }
}

/// A descriptor of its own, without the standard library's lock and line buffer.
fn duplicate(stream: &impl AsFd) -> io::Result<File> {
    Ok(File::from(stream.as_fd().try_clone_to_owned()?))
}

fn is_same(one: &File, other: &File) -> bool {
    let id = |file: &File| file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    id(one).is_some() && id(one) == id(other)
}

fn wants_colour() -> bool {
    let is_set = |key| std::env::var_os(key).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !is_set("NO_COLOR") && !is_dumb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_under_two_names_is_one() {
        let open = |path| File::open(path).unwrap();
        assert!(is_same(&open("/dev/null"), &open("/dev/null")));
        assert!(!is_same(&open("/dev/null"), &open("/dev/zero")));
    }

    #[test]
    fn losses_are_counted_in_words() {
        let line = |lines, error: Option<&str>| loss_line(&Loss { lines, error: error.map(str::to_owned) });
        assert_eq!(line(1, None).text, "1 line was dropped: the output was not read");
        assert_eq!(line(7, None).text, "7 lines were dropped: the output was not read");
        assert_eq!(line(2, Some("disk full")).text, "2 lines were dropped: cannot write: disk full");
    }
}
