//! A flag that many wait for.
//!
//! Setting and clearing it are wait-free. An event that is set before anybody waits for it is not lost, and a
//! million of them fill nothing: it is one bit. *Killed*: the flag is as it was set last. Killed after
//! setting and before waking: whoever waits sees it after a nap at the latest.

use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::ipc::wait::Bell;
use std::time::Instant;

/// The words of an event: all 0 is one that is not set.
pub struct Flag<'a, B: Backend> {
    /// 1 if it is set.
    pub flag: &'a B::Word,
    /// Rung when it is set.
    pub bell: Bell<'a, B>,
}

impl<B: Backend> Flag<'_, B> {
    /// Sets it: everybody who waits goes on, and whoever comes, until it is cleared.
    pub fn set(&self) {
        self.bell.ring_after(u32::MAX, || self.flag.fetch_or(1, &SYNC_GIVE));
    }
    /// Clears it, and says whether it was set: of several who clear it one is told so.
    pub fn clear(&self) -> bool {
        if B::mutated(Mutant::ClearedByTwo) {
            let was_set = self.is_set();
            self.flag.store(0, &SYNC_GIVE);
            return was_set;
        }
        self.flag.fetch_and(0, &SYNC_TAKE) == 1
    }
    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.flag.load(&SYNC_LOOK) == 1
    }
    /// Waits until it is set; false if it is not until the deadline.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        self.bell.wait(deadline, |_| self.is_set().then_some(())).is_some()
    }
    /// Waits until it is set and clears it: each setting lets one of those go on who wait in this way.
    pub fn wait_and_clear(&self, deadline: Option<Instant>) -> bool {
        self.bell.wait(deadline, |_| (self.is_set() && self.clear()).then_some(())).is_some()
    }
}
