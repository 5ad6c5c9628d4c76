//! Is a history of overlapping calls linearizable? Wing and Gong's search (JPDC 1993), which tries every call
//! that nothing undone precedes, with Lowe's memory (CCPE 2017) of what has been tried.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::HashSet;
use std::hash::Hash;

/// A call with its answer, and when it began and ended. Times are all different.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<C> {
    pub(crate) call: C,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl<C> Span<C> {
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.from < other.to && other.from < self.to
    }
}

/// Whether some order of the calls (64 at most), each between its beginning and its end, leads from the state
/// to the end, each call giving the states that may follow, none if its answer is wrong there.
pub(crate) fn linearizable<C: Copy, S: Clone + Eq + Hash>(
    history: &[Span<C>],
    start: S,
    after: impl Fn(&S, C) -> Vec<S>,
) -> bool {
    assert!(history.len() <= 64, "a bit each");
    let all = if history.len() == 64 { !0 } else { (1u64 << history.len()) - 1 };
    let mut tried = HashSet::new();
    let mut open = vec![(0u64, start)];
    while let Some((done, state)) = open.pop() {
        if done == all {
            return true;
        }
        let left = || history.iter().enumerate().filter(|(i, _)| done >> i & 1 == 0);
        let first_end = left().map(|(_, span)| span.to).min().unwrap_or(u64::MAX);
        for (i, span) in left().filter(|(_, span)| span.from < first_end) {
            for next in after(&state, span.call) {
                if tried.insert((done | 1 << i, next.clone())) {
                    open.push((done | 1 << i, next));
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register: writes (true, value) and reads (false, value).
    fn register(history: &[(bool, u8, u64, u64)]) -> bool {
        let spans: Vec<_> = history.iter().map(|&(w, v, from, to)| Span { call: (w, v), from, to }).collect();
        linearizable(&spans, 0u8, |state, (writes, value)| match writes {
            true => vec![value],
            false => (*state == value).then_some(*state).into_iter().collect(),
        })
    }

    #[test]
    fn registers_tell_right_from_wrong() {
        assert!(register(&[(true, 1, 0, 1), (false, 1, 2, 3)]));
        assert!(!register(&[(true, 1, 0, 1), (false, 0, 2, 3)]), "a read after the write has ended");
        assert!(register(&[(true, 1, 0, 5), (false, 0, 1, 2), (false, 1, 3, 4)]));
        assert!(!register(&[(true, 1, 0, 7), (false, 1, 1, 2), (false, 0, 3, 4)]), "back in time");
        assert!(!register(&[(true, 1, 0, 1), (true, 2, 2, 3), (false, 1, 4, 5)]));
        assert!(register(&[(true, 1, 0, 3), (true, 2, 1, 2), (false, 1, 4, 5)]));
    }
}
