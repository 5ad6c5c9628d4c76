//! Permits: a count that many take from and give to.
//!
//! Taking a permit that is there, and giving one, are lock-free: a compare-and-swap that fails has lost to
//! another taker's. Who finds none waits for somebody to give one. *Killed*: between taking and giving, the
//! permit is gone, for a permit has no owner that anybody could ask about: use a lock where that matters.
//! Killed while it waits: nothing is lost. Killed after giving and before waking: the next one who looks has
//! it, after a nap at the latest.

use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::ipc::wait::Bell;
use std::time::Instant;

/// The words of a semaphore: all 0 is one without permits.
pub struct Permits<'a, B: Backend> {
    /// How many may be taken.
    pub count: &'a B::Word,
    /// Rung when some are given.
    pub bell: Bell<'a, B>,
}

impl<B: Backend> Permits<'_, B> {
    /// Takes a permit, if there is one.
    pub fn try_take(&self) -> bool {
        let mut count = self.count.load(&SYNC_HINT);
        while count > 0 {
            if B::mutated(Mutant::PermitTakenPlainly) {
                self.count.store(count - 1, &SYNC_GIVE);
                return true;
            }
            match self.count.cas(count, count - 1, &SYNC_TAKE) {
                Ok(_) => return true,
                Err(found) => count = found,
            }
        }
        false
    }
    /// Takes a permit, or says false when there is none until the deadline.
    pub fn take(&self, deadline: Option<Instant>) -> bool {
        self.bell.wait(deadline, |_| self.try_take().then_some(())).is_some()
    }
    /// Gives so many permits.
    pub fn give(&self, permits: u32) {
        self.bell.ring_after(permits, || self.count.fetch_add(permits.into(), &SYNC_GIVE));
    }
    /// How many are there just now.
    pub fn available(&self) -> u64 {
        self.count.load(&SYNC_HINT)
    }
}
