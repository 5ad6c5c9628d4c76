//! Seats: small numbers for the threads of this process, each one thread's at a time. They are places in tables.
#![allow(clippy::disallowed_types, reason = "this folder is where raw atomics live")]

use std::sync::atomic::{AtomicU64, Ordering};

/// How many there are: threads beyond do without.
pub(crate) const SEATS: usize = 255;
const BITS: usize = u64::BITS as usize;

/// A bit for each seat that is taken. A forked child finds those of its parent's other threads taken for good.
static TAKEN: [AtomicU64; SEATS.div_ceil(BITS)] = [const { AtomicU64::new(0) }; SEATS.div_ceil(BITS)];

/// A seat that no thread has; none if all are taken. Waits for nobody. Whatever its last holder wrote before
/// it gave the seat back happened before.
pub(crate) fn take() -> Option<usize> {
    #[cfg(test)]
    if NONE_LEFT.get() {
        return None;
    }
    for (at, word) in TAKEN.iter().enumerate() {
        let mut seen = word.load(Ordering::Relaxed);
        while seen != u64::MAX {
            let bit = seen.trailing_ones();
            seen = word.fetch_or(1 << bit, Ordering::AcqRel);
            let seat = at * BITS + bit as usize;
            if seen & 1 << bit == 0 {
                return (seat < SEATS).then_some(seat);
            }
        }
    }
    None
}

/// Gives a seat back.
pub(crate) fn give_back(seat: usize) {
    if let Some(word) = TAKEN.get(seat / BITS).filter(|_| seat < SEATS) {
        word.fetch_and(!(1 << (seat % BITS)), Ordering::AcqRel);
    }
}

#[cfg(test)]
thread_local! {
    static NONE_LEFT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `operation` as if all seats were taken.
#[cfg(test)]
pub(crate) fn with_none_left<T>(operation: impl FnOnce() -> T) -> T {
    NONE_LEFT.set(true);
    let done = operation();
    NONE_LEFT.set(false);
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Mutex;

    #[test]
    fn a_seat_is_one_threads_at_a_time() {
        let taken = Mutex::new(HashSet::new());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let seat = take().expect("there are more seats than threads here");
                        assert!(seat < SEATS && taken.lock().expect("no panic").insert(seat), "{seat} is taken");
                        std::thread::yield_now();
                        taken.lock().expect("no panic").remove(&seat);
                        give_back(seat);
                    }
                });
            }
        });
    }
}
