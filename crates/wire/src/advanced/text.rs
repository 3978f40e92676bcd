//! What `JSON.stringify` makes of strings and numbers. It only appends.

/// The content of a string whose characters are a byte each.
pub(super) fn push_latin1(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (plain, others) = rest.split_at(plain_len(rest));
        out.extend_from_slice(plain);
        let Some((first, others)) = others.split_first() else { return };
        push_char(out, char::from(*first));
        rest = others;
    }
}

/// How many bytes from the first on are written as they are.
fn plain_len(bytes: &[u8]) -> usize {
    let words = bytes.chunks_exact(8);
    let tail = words.remainder();
    let is_plain = |word: &[u8]| word.try_into().is_ok_and(|word| is_plain(u64::from_le_bytes(word)));
    let len = words.clone().take_while(|word| is_plain(word)).count() * 8;
    let rest =
        if len + tail.len() == bytes.len() { tail } else { bytes.get(len..len + 8).unwrap_or_default() };
    len + rest.iter().take_while(|byte| is_plain_byte(**byte)).count()
}

fn is_plain_byte(byte: u8) -> bool {
    (0x20..0x80).contains(&byte) && byte != b'"' && byte != b'\\'
}

/// Whether [`is_plain_byte`] holds for each of 8 bytes.
fn is_plain(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    let all = |byte: u8| ONES * u64::from(byte);
    // Where no byte has its highest bit, a byte less than the one subtracted from it gets that bit.
    let equals = |byte: u8| (word ^ all(byte)).wrapping_sub(ONES);
    (word | word.wrapping_sub(all(0x20)) | equals(b'"') | equals(b'\\')) & HIGH == 0
}

/// The content of a string of UTF-16 units, lone surrogates as escapes.
pub(super) fn push_utf16(out: &mut Vec<u8>, bytes: &[u8]) {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    for unit in char::decode_utf16(units) {
        match unit {
            Ok(unit) => push_char(out, unit),
            Err(lone) => push_escape(out, lone.unpaired_surrogate()),
        }
    }
}

/// The content of a string in UTF-8; what is none is replaced.
pub(super) fn push_utf8(out: &mut Vec<u8>, bytes: &[u8]) {
    String::from_utf8_lossy(bytes).chars().for_each(|each| push_char(out, each));
}

fn push_char(out: &mut Vec<u8>, each: char) {
    match each {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '\0'..' ' => push_escape(out, each as u16),
        _ => out.extend_from_slice(each.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn push_escape(out: &mut Vec<u8>, unit: u16) {
    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
}

/// A whole number.
pub(super) fn push_integer(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    push_digits(out, number.unsigned_abs());
}

fn push_digits(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A number as JavaScript writes it; `null` for what JSON has no number for.
pub(super) fn push_double(out: &mut Vec<u8>, number: f64) {
    /// Whole numbers up to here are exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let size = number.abs();
    if !number.is_finite() {
        out.extend_from_slice(b"null");
    } else if number.fract() == 0.0 && size <= EXACT {
        push_integer(out, number as i64);
    } else if (1e-6..1e21).contains(&size) {
        out.extend_from_slice(number.to_string().as_bytes());
    } else {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let sign = if exponent.starts_with('-') { "" } else { "+" };
        out.extend_from_slice(format!("{digits}e{sign}{exponent}").as_bytes());
    }
}

/// The ISO string of a moment in milliseconds since 1970, with its quotes; `null` for one that no `Date` can be.
pub(super) fn push_date(out: &mut Vec<u8>, millis: f64) {
    const DAY: i64 = 86_400_000;
    const MAX: f64 = 8.64e15;
    if !(-MAX..=MAX).contains(&millis) {
        return out.extend_from_slice(b"null");
    }
    let millis = millis as i64;
    let (year, month, day) = civil(millis.div_euclid(DAY));
    let rest = millis.rem_euclid(DAY);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{}{:06}", if year < 0 { '-' } else { '+' }, year.abs()),
    };
    let fraction = rest % 1000;
    let text = format!("\"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z\"");
    out.extend_from_slice(text.as_bytes());
}

/// Year, month and day of a number of days since 1970: 400 years, which begin with a March, are the same length.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Decimal digits cost the square of their number, so beyond this a `BigInt` is written in hexadecimal ones.
const MAX_DECIMAL_BYTES: usize = 512;

/// A `BigInt`, with quotes. `bytes` begin with the lowest.
pub(super) fn push_bigint(out: &mut Vec<u8>, is_negative: bool, bytes: &[u8]) {
    let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    let bytes = bytes.get(..len).unwrap_or_default();
    out.push(b'"');
    if is_negative && len > 0 {
        out.push(b'-');
    }
    if len > MAX_DECIMAL_BYTES {
        push_hexadecimal(out, bytes);
    } else {
        push_decimal(out, bytes);
    }
    out.push(b'"');
}

fn push_hexadecimal(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"0x");
    let start = out.len();
    for byte in bytes.iter().rev() {
        out.extend([byte >> 4, byte & 15].map(|half| b"0123456789abcdef"[usize::from(half)]));
    }
    if out.get(start) == Some(&b'0') {
        out.remove(start);
    }
}

fn push_decimal(out: &mut Vec<u8>, bytes: &[u8]) {
    const GROUP: u64 = 1_000_000_000;
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word: u32, byte| word << 8 | u32::from(*byte));
    let mut words: Vec<u32> = bytes.chunks(4).map(word).collect();
    let mut groups = Vec::new();
    while !words.is_empty() {
        let rest = words.iter_mut().rev().fold(0, |rest, word| {
            let whole = rest << 32 | u64::from(*word);
            *word = (whole / GROUP) as u32;
            whole % GROUP
        });
        groups.push(rest);
        while words.last() == Some(&0) {
            words.pop();
        }
    }
    push_digits(out, groups.pop().unwrap_or_default());
    groups.iter().rev().for_each(|group| out.extend_from_slice(format!("{group:09}").as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_as_javascript_writes_them() {
        for (number, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.5, "1.5"),
            (-2e9, "-2000000000"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.25e300, "1.25e+300"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (5e-324, "5e-324"),
            (f64::NAN, "null"),
            (f64::NEG_INFINITY, "null"),
        ] {
            assert_eq!(text(|out| push_double(out, number)), expected);
        }
    }

    #[test]
    fn dates_over_the_whole_range() {
        for (millis, expected) in [
            (0.0, "\"1970-01-01T00:00:00.000Z\""),
            (951_782_400_000.0, "\"2000-02-29T00:00:00.000Z\""),
            (-1.0, "\"1969-12-31T23:59:59.999Z\""),
            (8.64e15, "\"+275760-09-13T00:00:00.000Z\""),
            (-8.64e15, "\"-271821-04-20T00:00:00.000Z\""),
            (-62_167_219_200_001.0, "\"-000001-12-31T23:59:59.999Z\""),
            (f64::NAN, "null"),
            (8.65e15, "null"),
        ] {
            assert_eq!(text(|out| push_date(out, millis)), expected);
        }
    }

    #[test]
    fn big_integers() {
        for (negative, bytes, expected) in [
            (false, &[][..], "\"0\""),
            (true, &[0, 0], "\"0\""),
            (true, &[1], "\"-1\""),
            (false, &[0xff; 8], "\"18446744073709551615\""),
            (false, &[0, 0xca, 0x9a, 0x3b], "\"1000000000\""),
            (false, &[0; 9], "\"0\""),
            (false, &[0, 0, 0, 0, 0, 0, 0, 0, 1], "\"18446744073709551616\""),
        ] {
            assert_eq!(text(|out| push_bigint(out, negative, bytes)), expected);
        }
        let mut long = vec![0; MAX_DECIMAL_BYTES];
        long.push(9);
        assert_eq!(text(|out| push_bigint(out, true, &long)), format!("\"-0x9{}\"", "00".repeat(512)));
    }

    #[test]
    fn plain_bytes_are_told_by_eight() {
        for byte in 0..=255 {
            for at in 0..8 {
                let mut bytes = *b"abcdefgh";
                bytes[at] = byte;
                assert_eq!(is_plain(u64::from_le_bytes(bytes)), is_plain_byte(byte), "{byte} at {at}");
            }
        }
        for len in 0..40 {
            for at in 0..len {
                let mut bytes = vec![b'x'; len];
                assert_eq!(plain_len(&bytes), len);
                bytes[at] = b'"';
                assert_eq!(plain_len(&bytes), at);
                let expected = "x".repeat(at) + "\\\"" + &"x".repeat(len - at - 1);
                assert_eq!(text(|out| push_latin1(out, &bytes)), expected);
            }
        }
    }

    #[test]
    fn strings() {
        assert_eq!(text(|out| push_latin1(out, b"a\"\\\n\x01\x7f\xe9")), "a\\\"\\\\\\n\\u0001\u{7f}é");
        let units: Vec<u8> =
            [0x61, 0xd800, 0xd83d, 0xde00, 0xdc00].iter().flat_map(|unit: &u16| unit.to_le_bytes()).collect();
        assert_eq!(text(|out| push_utf16(out, &units)), "a\\ud800😀\\udc00");
    }
}
