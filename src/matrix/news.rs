//! News: how much each participant has given back, so that who was refused knows whether to look again
//! (matrix::refusals).
//!
//! Each participant counts what it gives back, in its own slot ([`SlotWord::Given`]): no locked instruction, in
//! the line that a free of a small block writes anyhow (a large block's free writes it for this alone). Nobody
//! else writes that word; it is never set back, and the number's next holder goes on from it. Nobody's slot
//! counts for those without a number.
//!
//! What counts: every transition of a block from live, or held, to parked or FREE (all kinds are in
//! `l2_news_of_every_kind_is_noticed`). It is counted behind the transition; where a parked or a held block is
//! merged, before as well. A recovery counts when it ends,
//! whatever it has found: the dead one may have stopped between a transition and its count.

use super::thread_cache::ThreadCache;
use super::words::{Heap, view};
use crate::backend::orderings::{NEWS_ADD, NEWS_COUNT, NEWS_LOOK, NEWS_OWN, SLOT_LOOK};
use crate::backend::{Backend, Mutant, Word};
use crate::segment::layout::SlotWord;
use crate::segment::region::Region;

view! {
    /// What has been given back.
    pub(super) struct News, news
}

impl<R: Region> News<'_, R> {
    /// As the cache's participant: a block has become free, or parked.
    #[inline]
    pub(super) fn gave(self, cache: &ThreadCache) {
        self.count(self.heap.slot(cache.owner, SlotWord::Given));
    }

    /// This cache is about to make something FREE that it holds, or to take what is parked.
    #[inline]
    pub(super) fn will_give(self, cache: &ThreadCache) {
        if R::Backend::takes(Mutant::NewsToldLate) {
            self.gave(cache);
        }
    }

    /// One more was given back by the participant whose word this is: the caller.
    #[inline(always)]
    pub(super) fn count(self, given: &<R::Backend as Backend>::Word) {
        if R::Backend::takes(Mutant::NewsUntold) {
            given.store(given.load(&NEWS_OWN).wrapping_add(1), &NEWS_COUNT);
        }
    }

    /// The same, without a number.
    pub(super) fn gave_unaided(self) {
        if R::Backend::takes(Mutant::NewsUntold) {
            self.heap.slot(0, SlotWord::Given).fetch_add(1, &NEWS_ADD);
        }
    }

    /// No participant has a higher number, or ever had one.
    pub(super) fn highest_number(self) -> u16 {
        let participants = self.heap.layout().params.participants as u64;
        // Nobody has joined a model's heap.
        let highest =
            Some(self.heap.word(self.heap.layout().highest()).load(&SLOT_LOOK)).filter(|&highest| highest > 0);
        highest.map_or(participants, |highest| highest.min(participants)) as u16
    }

    /// How much all others have given back, modulo 2^64.
    pub(super) fn news_of_others(self, cache: &ThreadCache) -> u64 {
        let counts = (0..=self.highest_number()).filter(|&number| number != cache.owner);
        counts.fold(0, |sum, number| sum.wrapping_add(self.heap.slot(number, SlotWord::Given).load(&NEWS_LOOK)))
    }

    /// How much the cache's number has.
    pub(super) fn own_news(self, cache: &ThreadCache) -> u64 {
        self.heap.slot(cache.owner, SlotWord::Given).load(&NEWS_OWN)
    }
}
