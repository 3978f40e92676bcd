//! Views of buffers: their numbers. How they are named differs between V8 and Node, what they hold does not.

use super::text::{push_bigint, push_double, push_integer};

/// What the bytes of a view are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Byte,
    /// Bytes that are written as `JSON.stringify` writes a Node `Buffer`.
    Buffer,
    I8,
    I16,
    U16,
    I32,
    U32,
    F16,
    F32,
    F64,
    I64,
    U64,
}

impl Element {
    /// By Node's number for it.
    pub(super) fn of_node(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::I8,
            1 | 2 | 9 => Self::Byte,
            3 => Self::I16,
            4 => Self::U16,
            5 => Self::I32,
            6 => Self::U32,
            7 => Self::F32,
            8 => Self::F64,
            10 => Self::Buffer,
            11 => Self::I64,
            12 => Self::U64,
            13 => Self::F16,
            _ => return None,
        })
    }

    /// By V8's letter for it.
    pub(super) fn of_v8(letter: u8) -> Option<Self> {
        Some(match letter {
            b'b' => Self::I8,
            b'B' | b'C' | b'?' => Self::Byte,
            b'w' => Self::I16,
            b'W' => Self::U16,
            b'd' => Self::I32,
            b'D' => Self::U32,
            b'h' => Self::F16,
            b'f' => Self::F32,
            b'F' => Self::F64,
            b'q' => Self::I64,
            b'Q' => Self::U64,
            _ => return None,
        })
    }

    pub(super) fn size(self) -> usize {
        match self {
            Self::Byte | Self::Buffer | Self::I8 => 1,
            Self::I16 | Self::U16 | Self::F16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    fn push(self, out: &mut Vec<u8>, bytes: &[u8]) {
        let raw = bytes.iter().rev().fold(0, |raw: u64, byte| raw << 8 | u64::from(*byte));
        match self {
            Self::Byte | Self::Buffer | Self::U16 | Self::U32 => push_integer(out, raw as i64),
            Self::I8 => push_integer(out, i64::from(raw as i8)),
            Self::I16 => push_integer(out, i64::from(raw as i16)),
            Self::I32 => push_integer(out, i64::from(raw as i32)),
            Self::F16 => push_double(out, half(raw as u16)),
            Self::F32 => push_double(out, f64::from(f32::from_bits(raw as u32))),
            Self::F64 => push_double(out, f64::from_bits(raw)),
            Self::I64 => push_bigint(out, (raw as i64) < 0, &(raw as i64).unsigned_abs().to_le_bytes()),
            Self::U64 => push_bigint(out, false, &raw.to_le_bytes()),
        }
    }
}

/// A view's numbers as an array. Whole ones only. False when `out` would become longer than `max`.
pub(super) fn push_view(out: &mut Vec<u8>, element: Element, bytes: &[u8], max: usize) -> bool {
    let is_buffer = element == Element::Buffer;
    out.extend_from_slice(if is_buffer { b"{\"type\":\"Buffer\",\"data\":[" } else { b"[" });
    for (at, number) in bytes.chunks_exact(element.size()).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        element.push(out, number);
        if out.len() > max {
            return false;
        }
    }
    out.extend_from_slice(if is_buffer { b"]}" } else { b"]" });
    true
}

/// A number of half precision.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f64::from(bits & 0x3ff);
    match (bits >> 10) & 0x1f {
        0 => sign * fraction * 2f64.powi(-24),
        0x1f if fraction == 0.0 => sign * f64::INFINITY,
        0x1f => f64::NAN,
        exponent => sign * (1.0 + fraction / 1024.0) * 2f64.powi(i32::from(exponent) - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(element: Element, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        assert!(push_view(&mut out, element, bytes, 1000));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn all_kinds() {
        let bytes = [0xff, 0x3c, 0, 0xc0, 0, 0, 0xf0, 0xbf];
        assert_eq!(shown(Element::Byte, &bytes), "[255,60,0,192,0,0,240,191]");
        assert_eq!(shown(Element::Buffer, &bytes[..2]), r#"{"type":"Buffer","data":[255,60]}"#);
        assert_eq!(shown(Element::I8, &bytes[..2]), "[-1,60]");
        assert_eq!(shown(Element::U16, &bytes), "[15615,49152,0,49136]");
        assert_eq!(shown(Element::I32, &bytes), "[-1073726209,-1074790400]");
        assert_eq!(shown(Element::F64, &[0, 0, 0, 0, 0, 0, 0xf0, 0xbf]), "[-1]");
        assert_eq!(shown(Element::I64, &[0xff; 8]), r#"["-1"]"#);
        assert_eq!(shown(Element::U64, &[0xff; 8]), r#"["18446744073709551615"]"#);
        assert_eq!(
            shown(Element::F16, &[0, 0x3c, 0, 0xc1, 1, 0, 0, 0x7c]),
            "[1,-2.5,5.960464477539063e-8,null]"
        );
        assert_eq!(shown(Element::F32, &[0; 3]), "[]", "half a number is none");
        assert!(!push_view(&mut Vec::new(), Element::Byte, &[1; 100], 50));
    }

    #[test]
    fn names_of_kinds() {
        assert_eq!(Element::of_node(10), Some(Element::Buffer));
        assert_eq!(Element::of_node(14), None);
        assert_eq!(Element::of_v8(b'Q').map(Element::size), Some(8));
        assert_eq!(Element::of_v8(b'x'), None);
    }
}
