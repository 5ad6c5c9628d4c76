//! What a refused cache has made free itself since: "evict one, allocate one" costs no walk over the blocks.
//!
//! A cache follows what it gives back itself (matrix::news has what others do), so that the requests behind a
//! refusal need no sweep for it. The sweep has left no free block beside another, and none parked. What this cache
//! alone has parked since stands on its stacks and in its pool, and the next request merges it; what has become
//! FREE has passed [`Made::add`], which remembers where it begins, if it is large enough for what was refused. A
//! request takes what fits of these, and is refused if none does. No other free block can have grown past what
//! was refused:
//! - Two neighbours become one by whoever has made one of them FREE. If that is this cache, it is remembered. If
//!   it is another, it has counted first what it gave back: news, and the next request sweeps. Or it finishes
//!   an operation that was in flight when this cache looked at both neighbours of what it had made: then the
//!   cache has forgotten all.
//! - What this cache has parked and another has taken to merge it, that one has counted before: whoever finds its block
//!   gone finds the news as well. So with the ends of a block that another has taken: it counts them before they
//!   are FREE.
//! - What the cache has freed for others, or sent to a home or a transfer slot, is parked where it doesn't look:
//!   then it forgets all. So it does where it drops the index of a block that it could not take: a thief may have
//!   marked that block and given it back, which nobody counts.
//! - Who takes what was made whole leaves nothing; who cuts its tail off leaves its head where it was; who gives back
//!   an end of what it took has news.

use super::block_header::{Header, State};
use super::thread_cache::ThreadCache;
use super::words::{Heap, view};
use crate::backend::{Backend, Mutant};
use crate::segment::layout::Granule;
use crate::segment::region::Region;

/// Free blocks that a cache remembers to have made.
const MADE: usize = 1024;

view! {
    /// What a refused cache has made free itself.
    pub(super) struct Made, made
}

/// A free block and its neighbours, as they were seen once the block was free.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vicinity {
    pub(super) block: Header,
    pub(super) right: Header,
    /// None: the left-hand neighbour has no footer, so it was never free.
    pub(super) left: Option<Header>,
}

impl<R: Region> Made<'_, R> {
    /// This cache has made a free block that begins at `g`, or changed its size, and has `seen` it and both neighbours
    /// behind a fence. None: somebody else has taken it by now.
    #[inline]
    pub(super) fn add(self, cache: &mut ThreadCache, g: Granule, seen: Option<Vicinity>) {
        if cache.refused.is_some() && R::Backend::takes(Mutant::MadeUntold) {
            self.remember_made(cache, g, seen);
        }
    }

    #[inline(never)]
    fn remember_made(self, cache: &mut ThreadCache, g: Granule, seen: Option<Vicinity>) {
        let known = seen.filter(|seen| {
            let end = g.plus(seen.block.size());
            R::Backend::check(self.is_alone(cache, end, seen), Mutant::MadeBesideOperation)
        });
        let (Some(Vicinity { block, .. }), Some(refused)) = (known, cache.refused.as_deref_mut()) else {
            return self.forget(cache);
        };
        let (size, end) = (block.size(), g.plus(block.size()));
        refused.largest = refused.largest.max(size.into());
        refused.made.retain(|&(at, _)| at < g.0 || at >= end.0);
        if refused.asked.least() <= size {
            refused.made.push((g.0, size));
        }
        if refused.made.len() > MADE {
            self.forget(cache);
        }
    }

    /// Whether nobody joins the free block that ends at `end` with a neighbour, but this cache, or who counts first
    /// what it gives back: no operation of another's was in flight on either.
    fn is_alone(self, cache: &ThreadCache, end: Granule, seen: &Vicinity) -> bool {
        let own = |header: Header| {
            header.owner() == cache.owner && matches!(header.state(), State::Acked | State::Coalescing)
        };
        let Vicinity { right, left, .. } = *seen;
        let right_stays = end.0 >= self.heap.layout().granules || right.is_live() || own(right);
        let left_stays = left.is_none_or(|left| own(left) || !matches!(left.state(), State::Free | State::Coalescing));
        right_stays && left_stays
    }

    /// What the cache remembers is not all that it would need to know.
    #[cold]
    pub(super) fn forget(self, cache: &mut ThreadCache) {
        cache.refused = None;
    }

    /// This cache has parked blocks where it does not look for them.
    #[inline]
    pub(super) fn sent(self, cache: &mut ThreadCache) {
        if cache.refused.is_some() && R::Backend::takes(Mutant::SentUntold) {
            self.forget(cache);
        }
    }

    /// This cache has tried to take a parked block, in vain, and drops its index. Another has taken it, or has only
    /// marked it for a while: then it is still parked. None, for who was to merge it.
    #[cold]
    #[inline(never)]
    pub(super) fn dropped(self, cache: &mut ThreadCache) -> Option<Granule> {
        if R::Backend::takes(Mutant::DroppedUntold) {
            self.forget(cache);
        }
        None
    }

    /// This cache is about to take a parked block of so many granules, whoever parked it, to merge it.
    #[inline]
    pub(super) fn merges(self, cache: &mut ThreadCache, size: u32) {
        self.heap.news().will_give(cache);
        if let Some(refused) = cache.refused.as_deref_mut() {
            refused.free += u64::from(size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::orderings::HELD_STORE;
    use crate::backend::{Native, Word};
    use crate::matrix::heap::Kind;
    use crate::segment::layout::{Layout, Params};
    use crate::segment::region::BoxedRegion;

    /// Nobody joins it with its right-hand neighbour who does not count that first: what lives stays, and what this
    /// cache itself has parked or coalesces.
    #[test]
    fn l2_a_free_block_is_alone_beside_what_lives_or_is_the_caches_own() {
        let layout = Layout::fit(64 << 10, Params::for_segment(64 << 10)).expect("room for a sector");
        let heap = Heap::format(BoxedRegion::<Native>::new(layout));
        let mut cache = ThreadCache::with_ceiling(1, 0);
        let mut blocks = [(); 3].map(|()| heap.allocate(&mut cache, 8, 1, Kind::Raw).expect("room").at);
        blocks.sort();
        let [left, middle, right] = blocks;
        assert_eq!((left.plus(8), middle.plus(8)), (middle, right), "side by side");
        let live = heap.look(right);
        for (state, owner, alone) in [
            (State::Allocated, 1, true),
            (State::Allocated, 2, true),
            (State::Acked, 1, true),
            (State::Acked, 2, false),
            (State::Coalescing, 1, true),
            (State::Coalescing, 2, false),
            (State::Free, 0, false),
            (State::Free, 1, false),
        ] {
            heap.header(right).store(Header::new(state, owner, live.generation(), live.low()).0, &HELD_STORE);
            let left = heap.footed_before(middle).map(|(_, left)| left);
            let seen = Vicinity { block: heap.look(middle), right: heap.look(right), left };
            assert_eq!(heap.made().is_alone(&cache, right, &seen), alone, "{state:?} of {owner}");
        }
    }
}
