//! A lock whose word says who holds it, so that a death is found out and told: *poisoning*.
//!
//! Taking a lock that is free is one compare-and-swap, and releasing it one read-modify-write; whoever finds
//! it held waits. *Killed* while it holds the lock: whoever waits looks after each nap whether the holder
//! lives, and whenever it is called, as a recovery does, whether it is known to be dead; if so, it takes the lock
//! over, poisoned: what the lock protects may be half-written. Killed before
//! the compare-and-swap: nothing has happened. Killed after the release and before it wakes anybody: the lock
//! is free, and found so after a nap. Nobody living ever loses it: no clock decides.

use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::ipc::wait::{Bell, Look};
use std::time::Instant;

/// The words of a lock: all 0 is one that is free.
pub struct Lock<'a, B: Backend> {
    /// `poisoned | holder`: 1 and 63 bits; holder 0 is nobody.
    pub word: &'a B::Word,
    /// Rung when it is released.
    pub bell: Bell<'a, B>,
}

/// A holder died, or panicked, since the last that said the data is whole.
const POISONED: u64 = 1 << 63;

/// Why a lock was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// This holder has it.
    Held(u64),
    /// The caller has it itself.
    Mine,
}

impl<B: Backend> Lock<'_, B> {
    /// Takes the lock as `me` (not 0, below 2^63, never another's), if it is free or `is_dead` says so of its
    /// holder: whether it is poisoned.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn try_take(&self, me: u64, is_dead: impl FnOnce(u64) -> bool) -> Result<bool, Busy> {
        let mut word = self.word.load(&SYNC_HINT);
        while word & !POISONED == 0 {
            match self.word.cas(word, word | me, &SYNC_TAKE) {
                Ok(_) => return Ok(word & POISONED != 0),
                Err(found) => word = found,
            }
        }
        let holder = word & !POISONED;
        if holder == me {
            return Err(Busy::Mine);
        }
        // A dead one changes the word no more, so that of several who find it dead one takes the lock over.
        let dead = is_dead(holder);
        if dead && self.take_over(word, me) {
            return Ok(true);
        }
        Err(Busy::Held(holder))
    }

    /// Takes the lock from a dead holder; false if another was quicker.
    fn take_over(&self, word: u64, me: u64) -> bool {
        if B::mutated(Mutant::TakenOverPlainly) {
            self.word.store(POISONED | me, &SYNC_GIVE);
            return true;
        }
        self.word.cas(word, POISONED | me, &SYNC_TAKE).is_ok()
    }

    /// Takes the lock, waiting for it; `is_dead` is asked about its holder, and thoroughly after each nap.
    ///
    /// # Errors
    /// [`Busy`] when the deadline has passed, or at once if the caller has it.
    pub fn take(
        &self,
        me: u64,
        deadline: Option<Instant>,
        mut is_dead: impl FnMut(u64, Look) -> bool,
    ) -> Result<bool, Busy> {
        let mut held_by = Busy::Held(0);
        let taken = self.bell.wait(deadline, |look| match self.try_take(me, |holder| is_dead(holder, look)) {
            Err(Busy::Held(holder)) => {
                held_by = Busy::Held(holder);
                None
            }
            done => Some(done),
        });
        taken.unwrap_or(Err(held_by))
    }

    /// Releases the lock, which the caller has.
    pub fn release(&self) {
        let kept = if B::mutated(Mutant::PoisonForgotten) { 0 } else { POISONED };
        self.bell.ring_after(1, || self.word.fetch_and(kept, &SYNC_GIVE));
    }
    /// Says that what it protects may be half-written; the caller has it.
    pub fn poison(&self) {
        self.word.fetch_or(POISONED, &SYNC_HINT);
    }
    /// Says that what it protects is whole again; the caller has it.
    pub fn cure(&self) {
        self.word.fetch_and(!POISONED, &SYNC_HINT);
    }
    /// Who has it, and whether it is poisoned.
    pub fn look(&self) -> (Option<u64>, bool) {
        let word = self.word.load(&SYNC_HINT);
        (Some(word & !POISONED).filter(|&holder| holder != 0), word & POISONED != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;

    /// Free, held, poisoned by who has it or by its death, and cured: what it says of itself, and to whom it is given.
    #[test]
    fn c1_a_lock_says_who_has_it_and_stays_poisoned_until_it_is_cured() {
        let [word, rings, asleep] = [0; 3].map(Native::word);
        let lock = Lock::<Native> { word: &word, bell: Bell::new(&rings, &asleep) };
        let (alive, dead) = (|_| false, |_| true);
        assert_eq!((lock.look(), lock.try_take(5, alive), lock.look()), ((None, false), Ok(false), (Some(5), false)));
        assert_eq!((lock.try_take(5, dead), lock.try_take(6, alive)), (Err(Busy::Mine), Err(Busy::Held(5))));
        lock.poison();
        assert_eq!(lock.look(), (Some(5), true));
        lock.release();
        assert_eq!((lock.look(), lock.try_take(6, alive), lock.look()), ((None, true), Ok(true), (Some(6), true)));
        lock.cure();
        assert_eq!(lock.look(), (Some(6), false), "it is held still");
        lock.release();
        assert_eq!((lock.look(), lock.try_take(6, alive)), ((None, false), Ok(false)));
        assert_eq!(
            (lock.try_take(7, |holder| holder == 6), lock.look()),
            (Ok(true), (Some(7), true)),
            "it is taken over"
        );
    }
}
