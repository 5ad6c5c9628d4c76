//! C2: attach to hostile segment files and make every call on them.
#![no_main]

#[path = "../../inputs/mod.rs"]
mod hostile;

use hostile::{Memory, calls::Case, decode};
use std::sync::LazyLock;

static MEMORY: LazyLock<Memory> = LazyLock::new(Memory::new);

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some(case) = decode::<Case>(input) {
        case.play(&MEMORY);
    }
});
