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
