//! Waiting: a *bell*, two words of a structure on which a *sleeper* that finds nothing sleeps until a *ringer* has put
//! something.
//!
//! ```text
//! sleeper                                    ringer
//!  1 try; it is there: done                   1 put
//!  2 sleepers += 1                            2 fence
//!  3 heard ← rings; do I still count?         3 sleepers = 0: done
//!  4 fence                                    4 rings += 1, wake
//!  5 try again; it is there: 7                5 none was woken, and sleepers is as before:
//!  6 sleep while rings = heard                     sleepers ← (next epoch, 0), rings += 1, wake all
//!  7 if I still count: sleepers −= 1; again
//! ```
//!
//! **None is lost among the living (Q5).** Of the two fences one comes first. If it is the ringer's, the
//! sleeper's second try finds what was put. If it is the sleeper's, the ringer sees it counted, and rings:
//! then `rings` is not what the sleeper has heard any more, so it does not fall asleep, or is woken.
//!
//! **The dead do not stay counted.** A sleeper that is killed leaves `sleepers` too large, so that each put
//! makes a system call in vain. The first ringer that wakes none starts the count anew, in the next *epoch*,
//! and rings once more: a sleeper that was counted and not yet asleep either hears that ring, and so sees that it
//! does not count any more, or does not fall asleep over it. No recovery is needed for that.
//!
//! **Every sleep has a bound**, [`NAP`]: so long at most is lost if a woken sleeper is killed before it takes
//! anything, or a ringer between putting and ringing. After a nap that no ring ended the try is
//! [`Look::Thorough`]: the time to ask whether the ringers are alive. No clock decides that.

use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::packed::packed;
use std::time::{Duration, Instant};

/// The longest sleep without another look.
pub const NAP: Duration = Duration::from_millis(50);

/// How a try looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The same as `Quick`, again and again before sleeping: no more is read than the word that is waited for.
    Spinning,
    /// Whether it is there.
    Quick,
    /// A nap is over without a ring: also whether those that should put it are alive.
    Thorough,
}

/// The moment at which waiting ends: none if that is too far away for the clock.
pub fn deadline(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// Two words of a structure, both 0 at first: how often it was rung, and how many sleep.
pub struct Bell<'a, B: Backend> {
    /// One more for each ring.
    pub rings: &'a B::Word,
    /// `epoch | sleepers`, 32 bits each.
    pub sleepers: &'a B::Word,
}

/// What is left until then, and [`NAP`] if that is never.
pub(super) fn left_until(deadline: Option<Instant>) -> Duration {
    deadline.map_or(NAP, |deadline| deadline.saturating_duration_since(Instant::now()))
}

/// Between being counted in at bells and the last try before sleeping.
pub fn fence_of_sleepers<B: Backend>() {
    if B::takes(Mutant::SleepersFenceDropped) {
        B::fence(&SLEEP_FENCE);
    }
}

/// One that is counted as asleep at a bell.
#[derive(Debug, Clone, Copy)]
#[must_use = "it is counted until it leaves"]
pub struct CountedIn {
    epoch: u64,
    /// How often the bell was rung before: asleep, it is woken by the next time.
    pub heard: u64,
    /// Whether it still counted behind that. If not, a ring may pass it by: it leaves and is counted in again.
    pub counts: bool,
}

packed! {
    /// The word of who sleeps at a bell.
    struct Sleepers {
        COUNT: 32,
        /// One more each time that the count begins anew.
        EPOCH: 32,
    }
}

fn epoch(word: u64) -> u64 {
    Sleepers::EPOCH.get(word)
}
fn count(word: u64) -> u64 {
    Sleepers::COUNT.get(word)
}

impl<B: Backend> Clone for Bell<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend> Copy for Bell<'_, B> {}

impl<'a, B: Backend> Bell<'a, B> {
    /// A bell of two words.
    pub fn new(rings: &'a B::Word, sleepers: &'a B::Word) -> Self {
        Self { rings, sleepers }
    }

    /// Tries until something is there, asleep in between; none after the deadline, when it has tried once more.
    ///
    /// `attempt` takes what it finds: it must see whatever was put before a ring.
    pub fn wait<T>(&self, deadline: Option<Instant>, mut attempt: impl FnMut(Look) -> Option<T>) -> Option<T> {
        for _ in 0..B::SPINS {
            if let Some(found) = attempt(Look::Spinning) {
                return Some(found);
            }
            B::pause();
        }
        let mut look = Look::Quick;
        loop {
            let counted = self.count_in();
            fence_of_sleepers::<B>();
            let found = attempt(look);
            let left = left_until(deadline);
            let over = found.is_some() || left.is_zero();
            if counted.counts && !over {
                let napped = B::wait(self.rings, counted.heard, left.min(NAP));
                look = if napped { Look::Thorough } else { Look::Quick };
            }
            self.leave(counted);
            if over {
                return found;
            }
        }
    }

    /// Counts one more as asleep, and hears how often the bell was rung. Before it tries once more and sleeps comes
    /// [`fence_of_sleepers`], once for all bells; it leaves each of them.
    pub fn count_in(&self) -> CountedIn {
        let counted = epoch(self.join());
        let heard = self.rings.load(&BELL_LOOK);
        let counts = B::check(epoch(self.sleepers.load(&SLEEPERS_LOOK)) == counted, Mutant::ResetUnnoticed);
        CountedIn { epoch: counted, heard, counts }
    }

    fn join(&self) -> u64 {
        if B::mutated(Mutant::CountedPlainly) {
            let before = self.sleepers.load(&SLEEPERS_LOOK);
            self.sleepers.store(before + 1, &SLEEPERS_JOIN);
            return before;
        }
        self.sleepers.fetch_add(1, &SLEEPERS_JOIN)
    }

    /// Whether the bell was rung since.
    pub fn has_rung(&self, counted: CountedIn) -> bool {
        self.rings.load(&BELL_LOOK) != counted.heard
    }

    /// Leaves for good without a look at what was put meanwhile: whoever was to take it may have been woken
    /// for it in vain, so that the call goes to another.
    pub fn leave_for_good(&self, counted: CountedIn) {
        let rung = self.has_rung(counted);
        self.leave(counted);
        if rung {
            self.pass_on();
        }
    }

    /// Leaves, and the call, if there was one, goes to one more who slept when it came; that is no ring. Who sleeps
    /// since then has heard the ring, and so has seen what was put; who has not heard it is woken, or does not fall
    /// asleep over it.
    pub fn leave_to_others(&self, counted: CountedIn) {
        let rung = self.has_rung(counted);
        self.leave(counted);
        if rung && B::mutated(Mutant::WatchRings) {
            self.ring(1);
        } else if rung {
            B::wake(self.rings, 1);
        }
    }

    /// Another sleeper gets the call that this one had.
    pub fn pass_on(&self) {
        if B::takes(Mutant::CallKept) {
            self.ring(1);
        }
    }

    /// Counts one sleeper fewer, unless they count anew since it was counted in.
    pub fn leave(&self, counted: CountedIn) {
        let counted = counted.epoch;
        let mut now = self.sleepers.load(&SLEEPERS_LOOK);
        while epoch(now) == counted && count(now) > 0 {
            match self.sleepers.cas(now, now - 1, &SLEEPERS_LEAVE) {
                Ok(_) => return,
                Err(found) => now = found,
            }
        }
    }

    /// Puts something, by a read-modify-write, and wakes as many as `most` sleepers.
    ///
    /// Without sleepers this costs one load.
    #[inline]
    pub fn ring_after<T>(&self, most: u32, put: impl FnOnce() -> T) -> T {
        if B::mutated(Mutant::WakeBeforePut) {
            self.ring(most);
            return put();
        }
        let done = put();
        self.ring(most);
        done
    }

    /// Wakes as many as `most` sleepers that wait for what this thread has put, if it has put that by a
    /// read-modify-write, or one stands between that and this.
    #[inline]
    pub fn ring(&self, most: u32) {
        if B::takes(Mutant::RingFenceDropped) {
            B::fence_behind_rmw(&RING_FENCE);
        }
        self.call(most);
    }

    /// As [`Bell::ring`], behind a plain store.
    #[inline]
    pub fn ring_after_store(&self, most: u32) {
        if B::takes(Mutant::StoreFenceDropped) {
            B::fence(&RING_FENCE);
        }
        self.call(most);
    }

    #[inline(always)]
    fn call(&self, most: u32) {
        let seen = self.sleepers.load(&SLEEPERS_LOOK);
        if count(seen) > 0 {
            self.wake(seen, most);
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&self, seen: u64, most: u32) {
        self.rings.fetch_add(1, &BELL_RING);
        if B::wake(self.rings, most) > 0 {
            return;
        }
        let anew = Sleepers::EPOCH.of(epoch(seen) + 1);
        if self.sleepers.cas(seen, anew, &SLEEPERS_RESET).is_ok() && B::takes(Mutant::ResetSilently) {
            self.rings.fetch_add(1, &BELL_RING);
            B::wake(self.rings, u32::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;
    use crate::ipc::sync::semaphore::Permits;

    #[test]
    fn who_waits_is_woken_or_gives_up_and_the_dead_do_not_stay_counted() {
        // Three of the dead are counted.
        let [count, rings, sleepers] = [0, 0, 3].map(Native::word);
        let permits = Permits::<Native> { count: &count, bell: Bell::new(&rings, &sleepers) };
        assert!(!permits.take(deadline(Duration::from_millis(1))), "there is none");
        std::thread::scope(|scope| {
            let taken: Vec<_> = (0..3).map(|_| scope.spawn(|| permits.take(None))).collect();
            std::thread::sleep(Duration::from_millis(5));
            permits.give(2);
            permits.give(1);
            assert!(taken.into_iter().all(|one| one.join().is_ok_and(|taken| taken)));
        });
        permits.give(1);
        assert_eq!((permits.available(), count_now(&permits)), (1, 0), "nobody sleeps");
        let before = rings.load(&BELL_LOOK);
        permits.give(1);
        assert_eq!(rings.load(&BELL_LOOK), before, "nobody is called");
    }

    fn count_now(permits: &Permits<'_, Native>) -> u64 {
        count(permits.bell.sleepers.load(&SLEEPERS_LOOK))
    }
}
