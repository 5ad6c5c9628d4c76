//! The shuttle backend: words of the randomized scheduler. Sequentially consistent, so never evidence for an ordering.
#![allow(clippy::disallowed_types, reason = "this folder is where raw atomics live")]

use super::decorators::{count_down, unless_stopped};
use super::{Backend, Mutant, Site, Word};
use shuttle::sync::atomic::{AtomicU64, fence};
use shuttle::sync::{Condvar, Mutex};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

thread_local! {
    static MUTANT: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Switches a deliberate fault on (or off) for the models that this thread runs from now on.
pub fn set_mutant(mutant: Option<Mutant>) {
    MUTANT.set(mutant);
}

shuttle::thread_local! {
    static STOP_AFTER: std::cell::Cell<Option<u64>> = std::cell::Cell::new(None);
}

/// Ends `operation`, and the calling thread's part in the model, before its access number `k` (from 0):
/// `None` if it was ended. The shared words stay as they are, as if its process had been killed.
pub fn stopped_at<T>(k: u64, operation: impl FnOnce() -> T) -> Option<T> {
    STOP_AFTER.with(|left| left.set(Some(k)));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(operation));
    STOP_AFTER.with(|left| left.set(None));
    unless_stopped(result)
}

/// Passed before each access.
fn gate() {
    STOP_AFTER.with(count_down);
}

/// Shuttle's atomics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shuttle;

/// A word of [`Shuttle`], and who sleeps on it, if anybody ever does.
#[derive(Debug)]
pub struct ShuttleWord(AtomicU64, OnceLock<(Mutex<usize>, Condvar)>);

impl ShuttleWord {
    fn sleepers(&self) -> &(Mutex<usize>, Condvar) {
        self.1.get_or_init(|| (Mutex::new(0), Condvar::new()))
    }
}

impl Word for ShuttleWord {
    fn load(&self, site: &'static Site) -> u64 {
        gate();
        self.0.load(site.order)
    }
    fn store(&self, value: u64, site: &'static Site) {
        gate();
        self.0.store(value, site.order);
    }
    fn cas(&self, old: u64, new: u64, site: &'static Site) -> Result<u64, u64> {
        gate();
        self.0.compare_exchange(old, new, site.order, site.fail)
    }
    fn fetch_or(&self, bits: u64, site: &'static Site) -> u64 {
        gate();
        self.0.fetch_or(bits, site.order)
    }
    fn fetch_and(&self, bits: u64, site: &'static Site) -> u64 {
        gate();
        self.0.fetch_and(bits, site.order)
    }
    fn fetch_add(&self, n: u64, site: &'static Site) -> u64 {
        gate();
        self.0.fetch_add(n, site.order)
    }
}

/// The stand-in for a granule's payload: busy while somebody accesses it, which lasts across a yield.
#[derive(Debug, Default)]
pub struct ShuttleCell(AtomicBool);

impl Backend for Shuttle {
    type Word = ShuttleWord;
    type Cell = ShuttleCell;

    fn word(value: u64) -> ShuttleWord {
        ShuttleWord(AtomicU64::new(value), OnceLock::new())
    }
    fn cell() -> ShuttleCell {
        ShuttleCell::default()
    }
    fn touch(cell: &ShuttleCell) {
        assert!(!cell.0.swap(true, Ordering::AcqRel), "S1: two users of one granule");
        shuttle::thread::yield_now();
        cell.0.store(false, Ordering::Release);
    }
    fn fence(site: &'static Site) {
        fence(site.order);
    }
    fn pause() {
        shuttle::thread::yield_now();
    }
    fn wait(word: &ShuttleWord, expected: u64, _at_most: Duration) -> bool {
        gate();
        let (asleep, woken) = word.sleepers();
        let mut asleep = asleep.lock().expect("no thread panics under the lock");
        if word.0.load(Ordering::SeqCst) as u32 == expected as u32 {
            *asleep += 1;
            drop(woken.wait(asleep));
        }
        false
    }
    fn wake(word: &ShuttleWord, most: u32) -> usize {
        gate();
        let (asleep, woken) = word.sleepers();
        let mut asleep = asleep.lock().expect("no thread panics under the lock");
        let count = (*asleep).min(most as usize);
        *asleep -= count;
        (0..count).for_each(|_| woken.notify_one());
        count
    }
    fn mutated(mutant: Mutant) -> bool {
        MUTANT.get() == Some(mutant)
    }
}
