//! Waiting for several bells at once.
//!
//! As `ipc::wait`, for each bell: be counted in at all of them, one fence, one more try of each, asleep until one
//! of them has rung since. What is new is that a bell which calls *one* of its sleepers may call one that takes
//! something else. So whoever was woken and leaves with what another bell stands for **passes the call on**
//! at each bell that had rung: otherwise a sleeper there would sleep on beside what was put. A call too many
//! wakes somebody for nothing; none is lost. What was tried in vain after the call needs none: somebody else
//! had taken it.
//!
//! *Killed* between its call and passing it on: the others look again after their nap.

use super::wait::{Bell, CountedIn, Look, NAP, fence_of_sleepers, left_until};
use crate::backend::Backend;
use std::time::Instant;

/// Tries each until one has something, asleep in between; none after the deadline, when each was tried once
/// more. Says which it was. The tries begin with `first`.
pub fn wait_for_any<B: Backend, T>(
    bells: &[Bell<'_, B>],
    first: usize,
    deadline: Option<Instant>,
    mut attempt: impl FnMut(usize, Look) -> Option<T>,
) -> Option<(usize, T)> {
    let mut try_all = |look| {
        let mut order = (0..bells.len()).map(|k| (first + k) % bells.len());
        order.find_map(|at| attempt(at, look).map(|found| (at, found)))
    };
    for _ in 0..B::SPINS {
        if let Some(found) = try_all(Look::Spinning) {
            return Some(found);
        }
        B::pause();
    }
    let mut look = Look::Quick;
    // Bells whose call may have been this one's, since it slept last.
    let mut called = vec![false; bells.len()];
    loop {
        let counted: Vec<CountedIn> = bells.iter().map(Bell::count_in).collect();
        fence_of_sleepers::<B>();
        let found = try_all(look);
        let left = left_until(deadline);
        let over = found.is_some() || left.is_zero();
        let sleeps = !over && counted.iter().all(|counted| counted.counts);
        if sleeps {
            let words: Vec<_> = bells.iter().zip(&counted).map(|(bell, counted)| (bell.rings, counted.heard)).collect();
            look = if B::wait_any(&words, left.min(NAP)) { Look::Thorough } else { Look::Quick };
        }
        // What was tried in vain since the call before needs no other.
        if found.is_none() {
            let rung = bells.iter().zip(&counted).map(|(bell, counted)| sleeps && bell.has_rung(*counted));
            called = rung.collect();
        }
        bells.iter().zip(counted).for_each(|(bell, counted)| bell.leave(counted));
        match found {
            Some((taken, found)) => {
                let others = bells.iter().enumerate().filter(|(at, _)| called[*at] && *at != taken);
                others.for_each(|(_, bell)| bell.pass_on());
                return Some((taken, found));
            }
            None if over => return None,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Word;
    use crate::backend::awake::{Awake, meanwhile, slept};
    use crate::backend::orderings::BELL_LOOK;
    use std::sync::Arc;

    /// Two bells, at each of which another sleeps as well, and how often each is rung in the end.
    fn rung(act: impl FnOnce(&[Bell<'_, Awake>; 2], Arc<[<Awake as Backend>::Word; 4]>)) -> [u64; 2] {
        let words = Arc::new([0; 4].map(Awake::word));
        let [one, asleep_there, two, asleep_here] = &*words;
        let bells = [Bell::new(one, asleep_there), Bell::new(two, asleep_here)];
        let _others = bells.map(|bell| bell.count_in());
        slept();
        act(&bells, Arc::clone(&words));
        [one, two].map(|rings| rings.load(&BELL_LOOK))
    }

    #[test]
    fn q5_who_finds_something_at_once_does_not_sleep() {
        let rung = rung(|bells, _| {
            assert_eq!(wait_for_any(bells, 1, None, |at, _| Some(at)), Some((1, 1)));
            assert_eq!(slept(), [0; 0]);
            assert_eq!(wait_for_any(bells, 0, Some(Instant::now()), |_, _| None::<()>), None);
            assert_eq!(slept(), [0; 0], "the time is over");
        });
        assert_eq!(rung, [0, 0]);
    }

    /// Called at both bells while it slept, it takes from one: the other's call goes to who else sleeps there.
    #[test]
    fn q5_of_two_calls_the_one_that_is_not_used_is_passed_on() {
        for (rings, passed_on) in [([true, true], [1, 2]), ([true, false], [1, 0])] {
            let rung = rung(|bells, words| {
                meanwhile(move || {
                    let bells = [Bell::<Awake>::new(&words[0], &words[1]), Bell::new(&words[2], &words[3])];
                    bells.iter().zip(rings).filter(|(_, rings)| *rings).for_each(|(bell, _)| bell.ring(1));
                });
                let mut tries = 0;
                let mut third = |at, _| {
                    tries += 1;
                    (tries > 2).then_some(at)
                };
                assert_eq!(wait_for_any(bells, 0, None, &mut third), Some((0, 0)));
                assert_eq!(slept(), [2]);
            });
            assert_eq!(rung, passed_on);
        }
    }
}
