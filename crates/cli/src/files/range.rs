//! The header `range`: which part of a file a client wants. One part only; of several the whole file is sent.

/// What is to be sent of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// From the first byte to the last, both included.
    Bytes {
        first: u64,
        last: u64,
    },
    /// Nothing that the file has.
    Outside,
}

/// Reads the header for a file of this size. What is malformed is as if it were not there.
pub(super) fn read(header: &str, size: u64) -> Part {
    let Some(ranges) = header.strip_prefix("bytes=") else { return Part::Whole };
    let Some((first, last)) = ranges.split_once('-').filter(|_| !ranges.contains(',')) else {
        return Part::Whole;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (first.trim(), last.trim()) {
        ("", "") => Part::Whole,
        ("", suffix) => match number(suffix) {
            None => Part::Whole,
            Some(0) => Part::Outside,
            Some(_) if size == 0 => Part::Outside,
            Some(length) => Part::Bytes { first: size.saturating_sub(length), last: size - 1 },
        },
        (first, last) => {
            let Some(first) = number(first) else { return Part::Whole };
            let last = if last.is_empty() { Some(u64::MAX) } else { number(last) };
            match last {
                None => Part::Whole,
                Some(last) if last < first => Part::Whole,
                Some(_) if first >= size => Part::Outside,
                Some(last) => Part::Bytes { first, last: last.min(size - 1) },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_is_understood() {
        let bytes = |first, last| Part::Bytes { first, last };
        assert_eq!(read("bytes=0-0", 10), bytes(0, 0));
        assert_eq!(read("bytes=5-", 10), bytes(5, 9));
        assert_eq!(read("bytes=-3", 10), bytes(7, 9));
        assert_eq!(read("bytes=-30", 10), bytes(0, 9));
        assert_eq!(read("bytes=2-99", 10), bytes(2, 9));
        for outside in ["bytes=10-", "bytes=-0"] {
            assert_eq!(read(outside, 10), Part::Outside, "{outside}");
        }
        assert_eq!(read("bytes=-1", 0), Part::Outside);
        for whole in ["bytes=0-1,3-4", "lines=1-2", "bytes=5-2", "bytes=a-b", "bytes=-"] {
            assert_eq!(read(whole, 10), Part::Whole, "{whole}");
        }
    }
}
