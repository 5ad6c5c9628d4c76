//! A barrier: a known number of participants meet, again and again.
//!
//! Arriving is lock-free, and waits for the others by nature. *Killed* before it arrives: the others wait,
//! each for as long as it is ready to. Killed after: it counts as having arrived. Whoever gives up takes its
//! arrival back, unless the barrier has opened meanwhile.

use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::ipc::wait::Bell;
use crate::packed::packed;
use std::time::Instant;

/// The words of a barrier: all 0 is one at which nobody has arrived.
pub struct Gate<'a, B: Backend> {
    /// `round | arrived`, 32 bits each.
    pub round: &'a B::Word,
    /// Rung when it opens.
    pub bell: Bell<'a, B>,
    /// How many meet: 1 at least.
    pub parties: u32,
}

packed! {
    /// A barrier's word.
    struct Rounds { ARRIVED: 32, ROUND: 32 }
}

fn round(word: u64) -> u64 {
    Rounds::ROUND.get(word)
}

/// How a participant got through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// It was the last to arrive: one of each round.
    Leader,
    /// Others were there before or after.
    Follower,
}

impl<B: Backend> Gate<'_, B> {
    /// Arrives, and waits for the others; none if they do not come until the deadline.
    pub fn meet(&self, deadline: Option<Instant>) -> Option<Passed> {
        let mut now = self.round.load(&SYNC_HINT);
        let arrived = loop {
            let last = Rounds::ARRIVED.get(now) + 1 >= self.parties.into();
            let next = if last { Rounds::ROUND.of(round(now) + 1) } else { now + 1 };
            match self.round.cas(now, next, &SYNC_PASS) {
                Ok(_) if last => {
                    self.bell.ring(u32::MAX);
                    return Some(Passed::Leader);
                }
                Ok(_) => break round(now),
                Err(found) => now = found,
            }
        };
        let opened = || (round(self.round.load(&SYNC_LOOK)) != arrived).then_some(Passed::Follower);
        self.bell.wait(deadline, |_| opened()).or_else(|| self.give_up(arrived))
    }

    /// Takes an arrival back, unless all have arrived meanwhile.
    fn give_up(&self, arrived: u64) -> Option<Passed> {
        if B::mutated(Mutant::ArrivalKept) {
            return None;
        }
        let mut now = self.round.load(&SYNC_LOOK);
        while B::check(round(now) == arrived, Mutant::ArrivalUnchecked) {
            match self.round.cas(now, now.wrapping_sub(1), &SYNC_PASS) {
                Ok(_) => return None,
                Err(found) => now = found,
            }
        }
        Some(Passed::Follower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;

    /// Somebody has written 0 while one waits.
    #[test]
    fn c2p_an_arrival_that_is_not_counted_any_more_is_taken_back() {
        let (round, rings, asleep) = (Native::word(0), Native::word(0), Native::word(0));
        let gate = Gate::<Native> { round: &round, bell: Bell::new(&rings, &asleep), parties: 2 };
        assert_eq!(gate.give_up(0), None);
    }
}
