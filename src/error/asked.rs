//! How what was asked for is told: a segment, a block or a structure, by its name if it was asked for by one.

use crate::matrix::block_header::FINGERPRINT_MASK;

/// What was asked for.
pub(super) struct Wanted<'a> {
    pub(super) offset: &'a u32,
    pub(super) name: &'a Option<String>,
    pub(super) expected: &'a str,
    pub(super) expected_fingerprint: &'a u32,
}

/// What is said of a block or structure that is of another sort, or of another type.
pub(super) fn another_type(asked: Wanted<'_>, found: Option<&str>, fingerprint: Option<u32>) -> String {
    let Wanted { offset, name, expected, expected_fingerprint } = asked;
    if let Some(found) = found {
        let (what, or_else) = match name {
            Some(name) => (format!("{name:?}"), ", or choose another name"),
            None => (format!("what lies at offset {offset}"), ""),
        };
        return match fingerprint {
            Some(fingerprint) => format!(
                "{what} was opened as {expected} (fingerprint {expected_fingerprint:#010x}), but is {found} of \
                    another type (fingerprint {fingerprint:#010x}); use the type that it was made with"
            ),
            None => format!("{what} was opened as {expected}, but is {found}; open it as what it is{or_else}"),
        };
    }
    let block = match name {
        Some(name) => format!("{name:?} (the block at offset {offset})"),
        None => format!("the block at offset {offset}"),
    };
    let (holds, help) = match fingerprint {
        Some(FINGERPRINT_MASK) => ("is a structure".to_owned(), "open it as what it is, by its name"),
        Some(found) => {
            (format!("holds a type of fingerprint {found:#010x}"), "use the type that it was allocated with")
        }
        None => ("holds no typed value".to_owned(), "use the type that it was allocated with"),
    };
    format!("{block} was asked for as {expected} (fingerprint {expected_fingerprint:#010x}), but {holds}; {help}")
}

/// A segment, by the name that was given for it, and by what that stands for: its file or its id.
pub(super) fn called(name: &Option<String>, stands_for: impl std::fmt::Display) -> String {
    match name {
        Some(name) => format!("segment {name:?} ({stands_for})"),
        None => format!("segment {stands_for}"),
    }
}

/// What it was asked for by.
pub(super) fn word(name: &Option<String>) -> &'static str {
    if name.is_some() { "name" } else { "id" }
}
