//! What of the lines that were written has come.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Value, json};

use super::writer::number_of;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Lines that are there, whole.
    pub(crate) whole: u64,
    /// Lines that are not.
    pub(crate) missing: u64,
    /// Of those, as many as the file tells of.
    pub(crate) told: u64,
    /// What is neither a line nor told: torn ones, and parts of several in one.
    pub(crate) torn: u64,
    /// Lines that are there more than once.
    pub(crate) doubled: u64,
}

impl Tally {
    /// Of the lines with these numbers.
    pub(crate) fn of(text: &[u8], numbers: Range<u64>) -> Self {
        let mut found = BTreeSet::new();
        let mut tally = Self::default();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match (number_of(line), told(line)) {
                (Some(number), _) if !numbers.contains(&number) => {}
                (Some(number), _) => tally.doubled += u64::from(!found.insert(number)),
                (None, Some(count)) => tally.told += count,
                (None, None) => tally.torn += 1,
            }
        }
        tally.whole = found.len() as u64;
        tally.missing = (numbers.end - numbers.start) - tally.whole;
        tally
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.whole += other.whole;
        self.missing += other.missing;
        self.told += other.told;
        self.torn += other.torn;
        self.doubled += other.doubled;
    }

    pub(crate) fn json(&self) -> Value {
        let Self { whole, missing, told, torn, doubled } = self;
        json!({ "whole": whole, "missing": missing, "told": told, "torn": torn, "doubled": doubled })
    }
}

/// `[oxherd] 31 lines lost: the disk is full`
fn told(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"[oxherd] ")?;
    std::str::from_utf8(rest).ok()?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::writer::line;

    #[test]
    fn lines_are_whole_missing_torn_or_twice() {
        let text = [
            &line(3),
            "[oxherd] 2 lines lost: the disk is full\n",
            &line(6),
            &line(6),
            "000",
            &line(7),
            &line(99),
        ];
        let tally = Tally::of(text.concat().as_bytes(), 3..9);
        assert_eq!(tally, Tally { whole: 2, missing: 4, told: 2, torn: 1, doubled: 1 });
        assert_eq!(Tally::of(b"", 0..5), Tally { missing: 5, ..Tally::default() });
    }
}
