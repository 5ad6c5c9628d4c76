//! S5: offsets and generations of any value against a sound heap.
#![no_main]

#[path = "../../inputs/mod.rs"]
mod hostile;

use hostile::{decode, offsets::Case};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some(case) = decode::<Case>(input) {
        case.play();
    }
});
