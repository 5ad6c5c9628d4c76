//! C2': change words of segments whose structures are in use, and make every call of every structure.
#![no_main]

#[path = "../../inputs/mod.rs"]
mod hostile;

use hostile::{Memory, decode, structures::Case};
use std::sync::LazyLock;

static MEMORY: LazyLock<Memory> = LazyLock::new(Memory::new);

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some(case) = decode::<Case>(input) {
        case.play(&MEMORY);
    }
});
