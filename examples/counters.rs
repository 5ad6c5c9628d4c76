//! A value in common: run `cargo run --example counters` in as many terminals as you like; all count in the same
//! numbers, where they lie. Kill any of them as you please. `cargo run --example counters end` ends them.
#![allow(clippy::disallowed_types, reason = "the words of users' own types, of which the heap has none")]

use atomic_matrix::{Options, Result};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

atomic_matrix::in_place! {
    /// What all have done: an atomic is written by any process, the rest by whoever makes it.
    struct Work { most: u64, done: AtomicU64, by_weekday: [AtomicU64; 7] }
}

fn main() -> Result<()> {
    let segment = Options::new().name("counters").size(1 << 20).open_or_create()?;
    let work = segment.common_with::<Work>("work", |work| work.most = 1000)?; // nobody else sees it before that
    let work = work.get()?; // a plain reference: no lock, no call
    if std::env::args().nth(1).as_deref() == Some("end") {
        work.done.store(work.most, Relaxed);
        return segment.unlink();
    }
    while work.done.load(Relaxed) < work.most {
        let number = work.done.fetch_add(1, Relaxed) + 1; // nobody else gets this one
        work.by_weekday[number as usize % 7].fetch_add(1, Relaxed);
        println!("number {number}");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
