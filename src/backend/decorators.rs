//! A wrapper around any backend that counts accesses, stops a participant at its k-th one, and plants faults.
//!
//! It keeps its settings in thread-local variables, so that each test thread plays its own part.

use super::{Backend, Mutant, Reach, Site, Word};
use std::cell::Cell;
use std::marker::PhantomData;
use std::time::Duration;

/// Accesses of this thread since [`Counts::reset`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Loads.
    pub loads: u64,
    /// Stores.
    pub stores: u64,
    /// Read-modify-writes, failed ones included.
    pub rmws: u64,
    /// Fences of this thread alone.
    pub fences: u64,
    /// Fences that reach other threads.
    pub heavy_fences: u64,
    /// Those of them that reach other processes, which take milliseconds.
    pub far_fences: u64,
    /// Calls to sleep on a word, or to wake those who do.
    pub sleeps_and_wakes: u64,
}

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts::NONE) };
    static STOP_AFTER: Cell<Option<u64>> = const { Cell::new(None) };
    static MUTANT: Cell<Option<Mutant>> = const { Cell::new(None) };
}
/// What happens, and before which access.
#[cfg(test)]
type Interruption = (u64, Box<dyn FnOnce()>);
#[cfg(test)]
thread_local! {
    static MEANWHILE: Cell<Option<Interruption>> = const { Cell::new(None) };
}

impl Counts {
    const NONE: Self =
        Self { loads: 0, stores: 0, rmws: 0, fences: 0, heavy_fences: 0, far_fences: 0, sleeps_and_wakes: 0 };

    /// Forgets what was counted on this thread.
    pub fn reset() {
        COUNTS.set(Self::NONE);
    }
    /// What was counted on this thread.
    pub fn get() -> Self {
        COUNTS.get()
    }
    /// All accesses to shared words.
    pub fn accesses(self) -> u64 {
        self.loads + self.stores + self.rmws
    }
}

/// The payload of the unwinding that stands for a participant's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Runs `operation` and ends it for ever before its access number `k` (from 0): `None` if it was ended.
///
/// The shared words stay as they are; whatever the operation kept to itself is lost, as if its process had been killed.
pub fn stopped_at<T>(k: u64, operation: impl FnOnce() -> T) -> Option<T> {
    STOP_AFTER.set(Some(k));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(operation));
    STOP_AFTER.set(None);
    unless_stopped(result)
}

/// What was caught of an operation: `None` if it was ended by [`count_down`]; any other panic goes on.
pub(super) fn unless_stopped<T>(caught: std::thread::Result<T>) -> Option<T> {
    match caught {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<Stopped>() => None,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

/// One access fewer is left, or none: then the operation ends here.
pub(super) fn count_down(left: &Cell<Option<u64>>) {
    match left.get() {
        Some(0) => {
            left.set(None);
            std::panic::resume_unwind(Box::new(Stopped));
        }
        Some(k) => left.set(Some(k - 1)),
        None => {}
    }
}

/// Switches a deliberate fault on (or off) for this thread.
pub fn set_mutant(mutant: Option<Mutant>) {
    MUTANT.set(mutant);
}

/// Runs `operation`, and all of `meanwhile`, another's, before its access number `k` (from 0): whether it came to that.
#[cfg(test)]
pub(crate) fn interrupted_at<T>(
    k: u64,
    meanwhile: impl FnOnce() + 'static,
    operation: impl FnOnce() -> T,
) -> (T, bool) {
    MEANWHILE.set(Some((k, Box::new(meanwhile))));
    let result = operation();
    (result, MEANWHILE.take().is_none())
}

#[cfg(test)]
fn interrupt() {
    match MEANWHILE.take() {
        Some((0, meanwhile)) => meanwhile(),
        left => MEANWHILE.set(left.map(|(k, meanwhile)| (k - 1, meanwhile))),
    }
}

fn note(count: impl FnOnce(&mut Counts)) {
    #[cfg(test)]
    interrupt();
    STOP_AFTER.with(count_down);
    let mut counts = COUNTS.get();
    count(&mut counts);
    COUNTS.set(counts);
}

/// A backend that counts, stops and mutates as this module's functions say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Probe<B>(PhantomData<B>);

/// A word of [`Probe`].
#[derive(Debug)]
#[repr(transparent)]
pub struct ProbeWord<W>(W);

impl<W: Word> Word for ProbeWord<W> {
    fn load(&self, site: &'static Site) -> u64 {
        note(|c| c.loads += 1);
        self.0.load(site)
    }
    fn store(&self, value: u64, site: &'static Site) {
        note(|c| c.stores += 1);
        self.0.store(value, site);
    }
    fn cas(&self, old: u64, new: u64, site: &'static Site) -> Result<u64, u64> {
        note(|c| c.rmws += 1);
        self.0.cas(old, new, site)
    }
    fn fetch_or(&self, bits: u64, site: &'static Site) -> u64 {
        note(|c| c.rmws += 1);
        self.0.fetch_or(bits, site)
    }
    fn fetch_and(&self, bits: u64, site: &'static Site) -> u64 {
        note(|c| c.rmws += 1);
        self.0.fetch_and(bits, site)
    }
    fn fetch_add(&self, n: u64, site: &'static Site) -> u64 {
        note(|c| c.rmws += 1);
        self.0.fetch_add(n, site)
    }
}

impl<B: Backend> Backend for Probe<B> {
    type Word = ProbeWord<B::Word>;
    type Cell = B::Cell;
    const TIME_PASSES: bool = B::TIME_PASSES;
    fn word(value: u64) -> Self::Word {
        ProbeWord(B::word(value))
    }
    fn cell() -> Self::Cell {
        B::cell()
    }
    fn touch(cell: &Self::Cell) {
        B::touch(cell);
    }
    fn fence(site: &'static Site) {
        note(|c| c.fences += 1);
        B::fence(site);
    }
    fn light_fence(site: &'static Site) {
        B::light_fence(site);
    }
    fn heavy_fence(site: &'static Site, reach: Reach) -> bool {
        note(|c| {
            c.heavy_fences += 1;
            c.far_fences += u64::from(reach == Reach::System);
        });
        B::heavy_fence(site, reach)
    }
    fn fence_behind_rmw(site: &'static Site) {
        note(|c| c.fences += 1);
        B::fence_behind_rmw(site);
    }
    fn fence_between_loads(site: &'static Site) {
        note(|c| c.fences += 1);
        B::fence_between_loads(site);
    }
    fn pause() {
        B::pause();
    }
    fn wait(word: &Self::Word, expected: u64, at_most: Duration) -> bool {
        note(|c| c.sleeps_and_wakes += 1);
        B::wait(&word.0, expected, at_most)
    }
    fn wait_any(words: &[(&Self::Word, u64)], at_most: Duration) -> bool {
        note(|c| c.sleeps_and_wakes += 1);
        let words: Vec<_> = words.iter().map(|(word, expected)| (&word.0, *expected)).collect();
        B::wait_any(&words, at_most)
    }
    fn wake(word: &Self::Word, most: u32) -> usize {
        note(|c| c.sleeps_and_wakes += 1);
        B::wake(&word.0, most)
    }
    fn mutated(mutant: Mutant) -> bool {
        MUTANT.get() == Some(mutant)
    }
}
