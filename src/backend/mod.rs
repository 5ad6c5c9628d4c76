//! The seam under the allocator: words, fences and pauses, and the table of their orderings.
//!
//! The heap is generic over a [`Backend`]; production code runs on [`Native`] (the processor's own
//! atomics), the model checkers bring their own, and [`decorators`] wrap any of them to count, to stop a
//! participant at a chosen step, or to make compare-and-swap fail spuriously. Raw atomics and ordering
//! literals appear in this folder only; every access elsewhere names a [`Site`], which says what obligations it serves
//! (S1, S3, L2 and so on, here and in all of `src`: `verification/OBLIGATIONS.md`).
//!
//! From the ground up; each file uses those above it:
//!
//! - [`orderings`]: the table of all accesses, and the planted faults; [`payload`]: copies of bytes that others may
//!   change;
//! - `random`, `identities`, `seats`: the kernel's random numbers; serials of a process; small numbers of its threads;
//! - `process`: which process this is, also behind a fork; `native`: the production backend;
//! - [`decorators`]: to count, to stop, to plant faults; `loom` and `shuttle`: the model checkers' backends; `awake`:
//!   one for tests, of which nobody sleeps.

#[cfg(test)]
pub(crate) mod awake;
pub mod decorators;
pub(crate) mod identities;
pub(crate) mod native;
pub mod orderings;
pub mod payload;
mod process;
pub(crate) mod random;
pub(crate) mod seats;

#[cfg(feature = "loom")]
pub mod loom;
#[cfg(feature = "shuttle")]
pub mod shuttle;

pub use native::{Native, NativeWord};
pub use orderings::{Mutant, Site};
use std::time::Duration;

/// One 64-bit word of shared memory.
///
/// Each call names the [`Site`] it stands at, which fixes its memory ordering.
pub trait Word: Send + Sync {
    /// Reads the word.
    fn load(&self, site: &'static Site) -> u64;
    /// Writes the word. The caller is the only writer at that moment.
    fn store(&self, value: u64, site: &'static Site);
    /// Strong compare-and-swap: `Ok(old)` if the word was `old` and is now `new`, else `Err(found)`.
    fn cas(&self, old: u64, new: u64, site: &'static Site) -> Result<u64, u64>;
    /// Sets bits and returns the word as it was.
    fn fetch_or(&self, bits: u64, site: &'static Site) -> u64;
    /// Keeps only `bits` and returns the word as it was.
    fn fetch_and(&self, bits: u64, site: &'static Site) -> u64;
    /// Adds (wrapping) and returns the word as it was.
    fn fetch_add(&self, n: u64, site: &'static Site) -> u64;
    /// This thread is about to write the word: its cache line may come now, once and for good. No access.
    #[inline(always)]
    fn expect_write(&self) {}
    /// What the word may be, to say by it what else is about to be read; 0 if that is not known. No access: nothing
    /// may depend on it.
    #[inline(always)]
    fn guess(&self) -> u64 {
        0
    }
}

/// Whose threads a heavy fence makes pass a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This process's: some microseconds.
    Process,
    /// All of the system's: some milliseconds, in which the caller sleeps.
    System,
}

/// A family of atomic words with its fence and its pause.
pub trait Backend: Send + Sync + 'static {
    /// The word type. On [`Native`] it has the size and the alignment of `u64`.
    type Word: Word;
    /// The stand-in for a granule's payload: a checker's tracked cell, or nothing.
    type Cell: Send + Sync;

    /// A fresh word, for regions that own their words.
    fn word(value: u64) -> Self::Word;
    /// A fresh payload cell, for regions that own them.
    fn cell() -> Self::Cell;
    /// Notes an exclusive access to the payload of a granule (S1, S3): free on production backends.
    fn touch(cell: &Self::Cell);
    /// A memory fence.
    fn fence(site: &'static Site);
    /// The cheap side of an asymmetric pair of fences: orders this thread's accesses as seen by whoever calls
    /// [`Backend::heavy_fence`]. No instruction in production, but the compiler moves nothing across it.
    /// Models have a full fence on both sides.
    fn light_fence(site: &'static Site) {
        Self::fence(site);
    }
    /// The dear side: every thread within `reach` has passed a full barrier between this call's begin and its end.
    /// False if the system refused; then nothing is known.
    fn heavy_fence(site: &'static Site, _reach: Reach) -> bool {
        Self::fence(site);
        true
    }
    /// As [`Backend::fence`], where the last access of this thread that the fence has to order was a
    /// read-modify-write, or followed by one: on x86 that was a full barrier already, and only the compiler
    /// is told.
    #[inline(always)]
    fn fence_behind_rmw(site: &'static Site) {
        Self::fence(site);
    }
    /// A [`Backend::fence`] between loads: this thread only loads in front of it and behind it. (Those whom it looks at
    /// have their own, full fence between a store and a load.) On x86 loads happen in their order anyway, so only the
    /// compiler is told.
    #[inline(always)]
    fn fence_between_loads(site: &'static Site) {
        Self::fence(site);
    }
    /// Called in every retry loop: a yield to the scheduler under a model checker.
    fn pause();
    /// How often one looks again before one sleeps.
    const SPINS: u32 = 0;
    /// Whether time passes. Not for checkers: there every sleep ends by a wake.
    const TIME_PASSES: bool = false;
    /// Sleeps until [`Backend::wake`] is called on the word, for `at_most` at the longest, by a clock that
    /// nobody sets. Does not sleep if the word's low 32 bits are not those of `expected`: that look and
    /// falling asleep are one step to whoever changes the word and then wakes. May return for no reason. Says
    /// whether the time was over.
    ///
    /// Checkers sleep until they are woken, whatever `at_most`, so that a lost wake-up is a deadlock; a backend
    /// that says nothing of it only yields.
    fn wait(_word: &Self::Word, _expected: u64, _at_most: Duration) -> bool {
        Self::pause();
        false
    }
    /// Sleeps as [`Backend::wait`] until somebody is woken on one of the words, each with what is expected
    /// there. Whoever wakes one sleeper of a word may have woken this one, which counts as one on each.
    fn wait_any(_words: &[(&Self::Word, u64)], _at_most: Duration) -> bool {
        Self::pause();
        false
    }
    /// Wakes as many as `most` of those who sleep on the word, in any process: how many it were.
    fn wake(_word: &Self::Word, _most: u32) -> usize {
        0
    }
    /// Whether a deliberate fault is switched on: always false in production, a constant.
    #[inline(always)]
    fn mutated(_: Mutant) -> bool {
        false
    }

    /// A check of the algorithm's, which the fault lets pass.
    #[inline(always)]
    fn check(holds: bool, unless: Mutant) -> bool {
        holds || Self::mutated(unless)
    }

    /// Whether a step is taken: the fault leaves it out.
    #[inline(always)]
    fn takes(but_for: Mutant) -> bool {
        !Self::mutated(but_for)
    }
}
