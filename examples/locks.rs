//! A mutex, a semaphore and an event: run `cargo run --example locks` in three terminals; two at a time have
//! a desk, and each counts what it has done. Kill one while it has the lock: the next one is told. `cargo run
//! --example locks stop` ends them all.

use atomic_matrix::{Options, Result};
use std::time::Duration;

fn main() -> Result<()> {
    let segment = Options::new().name("locks").size(1 << 20).open_or_create()?;
    let (desks, stop) = (segment.semaphore("desks", 2)?, segment.event("stop")?);
    let done = segment.mutex::<[u64; 2]>("done")?; // zeros at first
    if std::env::args().nth(1).as_deref() == Some("stop") {
        stop.set()?; // whoever waits goes on, and whoever comes
        return segment.unlink();
    }
    while !stop.is_set()? {
        if !desks.take(Duration::from_secs(5))? {
            println!("every desk is taken"); // a permit of the dead is gone: use a mutex where that matters
            continue;
        }
        if let Some(mut done) = done.lock(Duration::from_secs(5))? {
            if done.is_poisoned() {
                println!("whoever had the lock has died: {:?} may be half-written", *done);
                done[1] = done[0];
                done.cure()?;
            }
            done[0] += 1;
            stop.wait(Duration::from_millis(500))?; // the work: kill me here
            done[1] += 1;
            println!("done {} times", done[1]);
        } // released
        desks.give(1)?;
    }
    Ok(())
}
