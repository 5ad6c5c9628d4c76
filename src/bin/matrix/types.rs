//! The types that this tool knows by their fingerprints, and how a value of one is written.
//!
//! Known are numbers, arrays of up to [`LONGEST`] of them, arrays of arrays, slices of all these, and text. A
//! fingerprint has 25 bits: another type is taken for one of these once in some thousands.

use atomic_matrix::{Shared, fingerprint};
use std::collections::HashMap;
use std::sync::OnceLock;

/// The longest array that is known.
const LONGEST: usize = 64;
/// The longest array of arrays, or of which there are slices.
const SHORT: usize = 8;
/// In front of what has a length.
const HEAD: usize = 16;
/// Numbers that are shown of a value.
const SHOWN: usize = 8;

/// A number's name and its bytes as text.
#[derive(Debug, Clone, Copy)]
struct Number {
    name: &'static str,
    bytes: usize,
    write: fn(&[u8]) -> String,
}

/// How numbers lie in a value: so many, in rows of so many.
#[derive(Debug, Clone)]
struct Known {
    name: String,
    /// None: bytes that are text, perhaps.
    number: Option<Number>,
    /// Numbers of a value, or of an item.
    numbers: usize,
    has_length: bool,
}

macro_rules! numbers {
    ($($type:ident)*) => {
        [$((
            Number {
                name: stringify!($type),
                bytes: size_of::<$type>(),
                write: |bytes| {
                    bytes.try_into().map($type::from_ne_bytes).map_or_else(|_| String::new(), |n| n.to_string())
                },
            },
            <$type as Shared>::FINGERPRINT,
        )),*]
    };
}

fn array(print: u32, items: usize) -> u32 {
    fingerprint("array", &[print, items as u32, (items as u64 >> 32) as u32])
}

fn all() -> HashMap<u32, Known> {
    let mut known = HashMap::new();
    let mut add = |print: u32, name: String, number, numbers| {
        let slice = Known { name: format!("[{name}]"), number, numbers, has_length: true };
        known.insert(fingerprint("slice", &[print]), slice);
        let one = Known { name, number, numbers, has_length: false };
        for of in ["mutex", "common"] {
            known.insert(fingerprint(of, &[print]), one.clone());
        }
        known.insert(print, one);
    };
    for (number, print) in numbers!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64) {
        add(print, number.name.to_owned(), Some(number), 1);
        for items in 1..=LONGEST {
            let row = array(print, items);
            add(row, format!("[{}; {items}]", number.name), Some(number), items);
            for rows in (1..=SHORT).filter(|_| items <= SHORT) {
                let name = format!("[[{}; {items}]; {rows}]", number.name);
                add(array(row, rows), name, Some(number), items * rows);
            }
        }
        if !number.name.starts_with('f') && number.bytes <= 8 {
            let (sign, bits) = number.name.split_at(1);
            let name = format!("Atomic{}{bits}", sign.to_ascii_uppercase());
            let atomic = fingerprint(&name, &[]);
            add(atomic, name.clone(), Some(number), 1);
            (1..=SHORT).for_each(|items| add(array(atomic, items), format!("[{name}; {items}]"), Some(number), items));
        }
    }
    let text = |name: &str| Known { name: name.to_owned(), number: None, numbers: 1, has_length: true };
    known.insert(fingerprint("slice", &[u8::FINGERPRINT]), text("[u8]"));
    known.insert(fingerprint("text", &[]), text("str"));
    known
}

fn known(print: u32) -> Option<&'static Known> {
    static ALL: OnceLock<HashMap<u32, Known>> = OnceLock::new();
    ALL.get_or_init(all).get(&print)
}

/// What a type is called, if it is known.
pub(crate) fn name(print: u32) -> Option<&'static str> {
    known(print).map(|known| &*known.name)
}

/// What a structure's type is called.
pub(crate) fn content_name(content: u32) -> String {
    match content {
        0 => "-".to_owned(),
        content => name(content).map_or_else(|| format!("{content:#010x}"), str::to_owned),
    }
}

/// A value as what it is, of which these are the first bytes; the bytes, where that is not known.
pub(crate) fn shown(print: Option<u32>, first: &[u8]) -> String {
    let Some(known) = print.and_then(known) else { return hex(&first[..first.len().min(32)]) };
    let length = first.first_chunk().map(|length| u64::from_ne_bytes(*length)).filter(|_| known.has_length);
    let there = if known.has_length { first.get(HEAD..).unwrap_or_default() } else { first };
    let Some(number) = known.number else { return text(there, length.unwrap_or_default()) };
    let values = if known.has_length { length.unwrap_or_default() } else { 1 };
    let all = values.saturating_mul(known.numbers as u64);
    let written = usize::try_from(all).unwrap_or(usize::MAX).min(there.len() / number.bytes);
    let numbers: Vec<String> = there.chunks_exact(number.bytes).take(written.min(SHOWN)).map(number.write).collect();
    match &*numbers {
        [one] if !known.has_length && known.numbers == 1 => one.clone(),
        some => format!("[{}{}]", some.join(", "), if (some.len() as u64) < all { ", ..." } else { "" }),
    }
}

/// Bytes, as text if they are that. So many there are, of which these are the first.
fn text(there: &[u8], length: u64) -> String {
    let there = &there[..there.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
    let more = if (there.len() as u64) < length { "..." } else { "" };
    match std::str::from_utf8(there) {
        Ok(text) => format!("{text:?}{more}"),
        Err(_) => hex(there) + more,
    }
}

/// A map's key: text, if it is that.
pub(crate) fn key(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| !c.is_control()) => text.to_owned(),
        _ => hex(&bytes[..bytes.len().min(32)]) + if bytes.len() > 32 { " ..." } else { "" },
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::disallowed_types, reason = "the words of users' own types, of which the heap has none")]
mod tests {
    use super::*;
    use atomic_matrix::InPlace;
    use atomic_matrix::ipc::Payload;
    use std::sync::atomic::{AtomicI16, AtomicU64};

    #[test]
    fn types_are_known_by_their_names() {
        let prints = [
            (<u16 as Shared>::FINGERPRINT, "u16"),
            (<f64 as Shared>::FINGERPRINT, "f64"),
            (<[u32; 3] as Shared>::FINGERPRINT, "[u32; 3]"),
            (<[[f32; 4]; 2] as Shared>::FINGERPRINT, "[[f32; 4]; 2]"),
            (<[u8] as Payload>::FINGERPRINT, "[u8]"),
            (<str as Payload>::FINGERPRINT, "str"),
            (<[[u16; 2]] as Payload>::FINGERPRINT, "[[u16; 2]]"),
            (<AtomicU64 as InPlace>::PRINT, "AtomicU64"),
            (<[AtomicI16; 5] as InPlace>::PRINT, "[AtomicI16; 5]"),
            (fingerprint("mutex", &[<[u64; 4] as Shared>::FINGERPRINT]), "[u64; 4]"),
        ];
        for (print, called) in prints {
            assert_eq!(name(print), Some(called));
        }
        assert_eq!([0, <u16 as Shared>::FINGERPRINT, 0xabc].map(content_name), ["-", "u16", "0x00000abc"]);
    }

    #[test]
    fn a_value_is_written_as_what_it_is() {
        let bytes = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_ne_bytes()).collect::<Vec<u8>>();
        let three = Some(<[u32; 3] as Shared>::FINGERPRINT);
        assert_eq!(shown(three, &bytes(&[1, 2, 3, 4])), "[1, 2, 3]");
        assert_eq!(shown(three, &bytes(&[1])), "[1, ...]");
        assert_eq!(shown(Some(<i64 as Shared>::FINGERPRINT), &(-7i64).to_ne_bytes()), "-7");
        assert_eq!(shown(Some(<f32 as Shared>::FINGERPRINT), &1.5f32.to_ne_bytes()), "1.5");
        let mut slice = [2u64.to_ne_bytes(), [0; 8]].concat();
        slice.extend(bytes(&[7, 8, 9]));
        assert_eq!(shown(Some(<[u32] as Payload>::FINGERPRINT), &slice), "[7, 8]");
        assert_eq!(shown(Some(<[u32] as Payload>::FINGERPRINT), &[]), "[]");
        assert_eq!(shown(None, &[1, 255]), "01 ff");
        assert_eq!([key(b"ada"), key(&[0, 1])], ["ada", "00 01"]);
    }
}
