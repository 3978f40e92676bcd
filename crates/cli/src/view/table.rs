//! Tables: boxes that fit a terminal, or plain aligned columns. It knows nothing of what is in them.

use super::form::{Form, Screen};
use super::paint::{Paint, Styled, cut, printable, width};

/// What separates plain columns.
const GAP: &str = "  ";
/// Cells that can be cut are left at least this wide.
const CUT_MIN: usize = 8;
/// So wide they are left before a column goes in their favour.
const CUT_FIRST: usize = 16;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) heading: &'static str,
    /// The heading in a box, where room is scarce.
    pub(crate) boxed: &'static str,
    pub(crate) align: Align,
    pub(crate) fit: Fit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// What may be done with a column where room is scarce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Keep,
    /// It may be left out; the lowest goes first.
    Drop(u8),
    /// Its cells may be cut.
    Cut,
}

#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Column {
    pub(crate) const fn new(heading: &'static str, align: Align, fit: Fit) -> Self {
        Self { heading, boxed: heading, align, fit }
    }
}

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self::painted(Paint::Plain, text)
    }

    pub(crate) fn painted(paint: Paint, text: impl AsRef<str>) -> Self {
        Self { text: printable(text.as_ref()), paint }
    }
}

impl Table {
    pub(crate) fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with as many cells as there are columns.
    pub(crate) fn push(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// All lines, each with its end.
    pub(crate) fn show(&self, form: Form) -> String {
        match form {
            Form::Plain => self.plain(),
            Form::Terminal(screen) => self.boxes(screen),
        }
    }

    fn plain(&self) -> String {
        let columns: Vec<usize> = (0..self.columns.len()).collect();
        let widths = self.widths(|column| column.heading);
        let headings = self.columns.iter().map(|column| column.heading);
        let lines = std::iter::once(headings.collect::<Vec<_>>())
            .chain(self.rows.iter().map(|row| row.iter().map(|cell| cell.text.as_str()).collect()));
        let mut text = String::new();
        for line in lines {
            let cells: Vec<String> =
                columns.iter().map(|&at| aligned(line[at], widths[at], self.columns[at].align)).collect();
            text.push_str(cells.join(GAP).trim_end());
            text.push('\n');
        }
        text
    }

    fn boxes(&self, screen: Screen) -> String {
        let mut widths = self.widths(|column| column.boxed);
        let columns = self.fitting(&mut widths, screen.width);
        let rule = |left: &str, middle: &str, right: &str| {
            let dashes: Vec<String> = columns.iter().map(|&at| "─".repeat(widths[at] + 2)).collect();
            let line = format!("{left}{}{right}", dashes.join(middle));
            Styled::new(Paint::Dim, line).show(screen.colour) + "\n"
        };
        let line = |cells: Vec<(Paint, &str)>| {
            let mut line = Styled::new(Paint::Dim, "│");
            for (&at, (paint, text)) in columns.iter().zip(cells) {
                let text = if width(text) > widths[at] { cut(text, widths[at]) } else { text.into() };
                let text = aligned(&text, widths[at], self.columns[at].align);
                line = line.and(Paint::Plain, " ").and(paint, text).and(Paint::Dim, " │");
            }
            line.show(screen.colour) + "\n"
        };
        let mut text = rule("┌", "┬", "┐");
        text += &line(columns.iter().map(|&at| (Paint::Bold, self.columns[at].boxed)).collect());
        text += &rule("├", "┼", "┤");
        for row in &self.rows {
            text += &line(columns.iter().map(|&at| (row[at].paint, row[at].text.as_str())).collect());
        }
        text + &rule("└", "┴", "┘")
    }

    fn widths(&self, heading: impl Fn(&Column) -> &'static str) -> Vec<usize> {
        let cells = |at: usize| self.rows.iter().map(move |row| width(&row[at].text)).max().unwrap_or(0);
        self.columns.iter().enumerate().map(|(at, column)| cells(at).max(width(heading(column)))).collect()
    }

    /// Which columns have room. Long names are cut first, then columns go, then names are cut more.
    fn fitting(&self, widths: &mut [usize], room: usize) -> Vec<usize> {
        let mut columns: Vec<usize> = (0..self.columns.len()).collect();
        let excess = |columns: &[usize], widths: &[usize]| {
            let total = columns.iter().map(|&at| widths[at] + 3).sum::<usize>() + 1;
            total.saturating_sub(room)
        };
        self.cut_to(CUT_FIRST, excess(&columns, widths), widths);
        while excess(&columns, widths) > 0 {
            let droppable =
                columns.iter().enumerate().filter_map(|(index, &at)| match self.columns[at].fit {
                    Fit::Drop(rank) => Some((rank, index)),
                    Fit::Keep | Fit::Cut => None,
                });
            let Some((_, index)) = droppable.min() else { break };
            columns.remove(index);
        }
        self.cut_to(CUT_MIN, excess(&columns, widths), widths);
        columns
    }

    fn cut_to(&self, least: usize, mut excess: usize, widths: &mut [usize]) {
        for (column, width) in self.columns.iter().zip(widths) {
            if column.fit == Fit::Cut {
                let less = excess.min(width.saturating_sub(least));
                *width -= less;
                excess -= less;
            }
        }
    }
}

fn aligned(text: &str, wide: usize, align: Align) -> String {
    let blanks = " ".repeat(wide.saturating_sub(width(text)));
    match align {
        Align::Left => format!("{text}{blanks}"),
        Align::Right => format!("{blanks}{text}"),
    }
}
