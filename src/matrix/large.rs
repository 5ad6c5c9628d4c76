//! Large blocks: freed blocks above the bins' sizes wait unmerged as well, but each is taken and given by one
//! compare-and-swap.
//!
//! A parked large block is ACKED and in no cache's bias: anybody may take it, the sweep of a request that
//! finds nothing else among them. So nothing is hidden (L2), and what a dead cache has parked is free memory.
//! What a cache remembers of its own ([`Pool`]) is an aid.
//!
//! - A block is remembered under the sixteenth of a power of two that it has at least. A request looks at the
//!   newest block of its own sixteenth, which may or may not do, and of the next one, which does: what it
//!   gets is less than an eighth larger.
//! - A request that finds none cuts a block of its own size; or of the next sixteenth's smallest, while
//!   blocks of that come back, or one of the own sixteenth waits that is too small. So who only fills a
//!   segment wastes nothing, and where blocks come and go, all requests of a sixteenth can have any of the
//!   next one's blocks. (If those that are too small were no sign, more and more of them would wait, and
//!   crowd out the others.)
//! - The caches' large parked blocks have as much as the largest free block at most, and a third of the sector,
//!   divided by the slots in use: what is parked keeps its neighbours apart, and the less is free, the more that
//!   costs. Once no free block has a twelfth of the sector, no request is rounded up. Where there is no room, those
//!   go first that were not asked for lately; a free merges [`EVICTIONS`] at most, and each block once.
//! - Whoever frees another cache's block parks it for that cache, and its index goes home
//!   (matrix::transfer_cache), all sizes in one ring of homes. A batch, and what is on its way home in one
//!   ring, are bounded in granules. What finds no home stays with the cache that freed it.
//! - They are given back when a request runs short, when their thread ends, and when their cache's
//!   participant has died.

use super::block_header::{Header, State, is_nobody};
use super::pool::{Parked, Pool, WAYS, Way};
use super::thread_cache::{FEW, MOST_SHORT_LOOKS, ThreadCache};
use super::transfer_cache::{ALL, full, places};
use super::words::view;
use super::words::{Heap, Kind, Live};
use crate::backend::orderings::{BATCH_LOOK, CLAIM, HELD_STORE, PARK, SLOT_LOOK};
use crate::backend::{Backend, Mutant, Word};
use crate::segment::layout::{BATCH, Granule, SlotWord};
use crate::segment::region::Region;
use crate::segment::size_class::{Bin, Large};

/// All caches' large parked blocks have as much as the largest free block at most, up to this part of the sector...
const MOST_PART: u32 = 3;
/// ...or this part of it, however little is free.
const SCARCE_PART: u32 = 128;
/// Requests are rounded up while a free block has this part of the sector: memory is plentiful.
const ROUND_UP_PART: u32 = 12;
/// A free merges so many parked blocks at most to make room for one.
pub(super) const EVICTIONS: usize = 14;
/// A cache looks again how much it may park once it has cut and merged this part of the sector, or this many blocks.
const LOOK_PART: u32 = 16;
const STEPS_PER_LOOK: u32 = 256;
/// A batch that goes home has this part of the sector at most, or one block.
const BATCH_PART: u32 = 64;
/// Blocks of one size that wait in a cache's homes have this part of the sector, or one batch. (Of all sizes
/// together less than five times as much: the more a batch has, the fewer homes it may go to, from the first
/// on.)
const HOMES_PART: u32 = 16;
/// Stands for all large bins in a home's control word: no block is in this bin.
pub(super) const LARGE: Bin = Bin(0);

view! {
    /// Large blocks, which wait as well.
    pub struct LargeBlocks, large
}

impl<R: Region> LargeBlocks<'_, R> {
    /// A parked large block of at least `size` granules from the own pool, at a multiple of `mask` + 1
    /// granules, if the newest of one of two bins is one: one compare-and-swap.
    #[inline(always)]
    pub fn pop_large(self, cache: &mut ThreadCache, size: u32, mask: u32, kind: Kind) -> Option<Live> {
        let bin = self.heap.layout().large_bin(size)?;
        self.pop_large_from(cache, bin, size, mask, kind).some()
    }

    /// The same for a size of this bin. [`Live::NONE`] if there is none.
    #[inline(always)]
    pub(super) fn pop_large_from(self, cache: &mut ThreadCache, bin: Large, size: u32, mask: u32, kind: Kind) -> Live {
        let Some(pool) = cache.large.as_deref_mut() else { return Live::NONE };
        if kind == Kind::Raw {
            let own = pool.newest_or_none(bin);
            let fits = R::Backend::check(own.size() >= size, Mutant::LargeFitUnchecked);
            let from = if fits { bin } else { Large(bin.0 + 1) };
            let block = if fits { own } else { pool.newest_or_none(from) };
            if block.at.0 & mask == 0
                && let Some(header) = self.take_own(cache.own_live_header, block)
            {
                pool.take_newest(from, block);
                return Live { at: block.at, header };
            }
        }
        self.pop_any_large(cache, bin, size, mask, kind)
    }

    /// Takes the block, untyped, if there is one, and its header is as it was remembered: one compare-and-swap without
    /// a look before it.
    ///
    /// S1, by events: let T remember W = ACKED(P, generation n, position, size), and let T's compare-and-swap succeed.
    /// - At that event the header is W. A header word is all there is to know of a block: here one of this size begins,
    ///   and is parked; nobody stores the header of a large block plainly. So T takes a parked block that is large
    ///   enough, and whoever else expects W, to take the block, to merge it or to make it unowned, fails from then on.
    /// - W may be another parking's than the one that was remembered: the block was taken, or merged, and W came back
    ///   by 2^20 changes. T relies on nothing that it knew of the former one, so that does not matter.
    /// - Whoever wrote W last parked the block behind all uses of it (PARK, released), or carried that on: CLAIM
    ///   acquires it.
    /// - Who adopts or frees the block beside T expects a live header, so T's event is before or behind theirs. If T is
    ///   killed before the event nothing has changed, and the pool is gone with its process; behind it, the block is
    ///   live and T's, as any that its user has.
    /// - The new word is ALLOCATED(T, n + 1). In the last generation the sum counts the owner up instead: (P + 1, 0).
    ///   If that is T, it is the word that a claim would write. Else nothing is done here, and who looks takes the
    ///   block (`LargeBlocks::pop_any_large`). So it is with all that T has parked itself, and, since a header of 0
    ///   becomes none of T's either, where there is no block.
    #[inline(always)]
    fn take_own(self, own_live_header: u64, block: Parked) -> Option<Header> {
        let live = Header(block.header.0.wrapping_add(const { Header::becoming_live(State::Allocated, 0, 0) }));
        if !R::Backend::check(live.held_by_same(Header(own_live_header)), Mutant::OwnerCountedUp) {
            return None;
        }
        let word = self.heap.header(block.at);
        if R::Backend::mutated(Mutant::LargeTakenUnasked) {
            word.store(live.0, &HELD_STORE);
            return Some(live);
        }
        word.cas(block.header.0, live.0, &CLAIM).is_ok().then_some(live)
    }

    /// As `LargeBlocks::pop_large_from`, of any kind, and from whomever the block was parked. Indices that have gone
    /// stale are dropped.
    #[inline(never)]
    fn pop_any_large(self, cache: &mut ThreadCache, bin: Large, size: u32, mask: u32, kind: Kind) -> Live {
        for bin in [bin, Large(bin.0 + 1)] {
            while let Some(block) = cache.large.as_deref().and_then(|pool| pool.newest(bin)) {
                let fits = R::Backend::check(block.size() >= size, Mutant::LargeFitUnchecked);
                if !fits || block.at.0 & mask != 0 {
                    break;
                }
                self.pool(cache).take_newest(bin, block);
                if let Some(header) = self.heap.claim_parked(cache.owner, block.at, block.size(), kind) {
                    return Live { at: block.at, header };
                }
                self.heap.made().dropped(cache);
            }
        }
        Live::NONE
    }

    /// Parks the cache's own live block, of a large bin's size, which has this header as far as the caller knows.
    /// False: nothing was done.
    ///
    /// # Safety
    /// The cache is bound, to this heap.
    #[inline(always)]
    pub(super) unsafe fn free_own_large(
        self,
        cache: &mut ThreadCache,
        (g, word): (Granule, &<R::Backend as Backend>::Word),
        header: Header,
        bin: Large,
    ) -> bool {
        let parked = header.parked(false);
        let Some(pool) = cache.large.as_deref_mut() else { return false };
        if word.cas(header.0, parked.0, &PARK).is_err() {
            return false;
        }
        let (bias, block) = (self.heap.bias(), Parked { at: g, header: parked });
        // SAFETY: its hazard word is one of this heap's slots', says the caller.
        self.heap.news().count(unsafe { bias.given_beside(cache.hazard) });
        pool.push_first(bin, block) || self.keep_large(cache, bin, block)
    }

    /// Parks a live large block, here or for whose it is, by one compare-and-swap. False: it has changed, and
    /// nothing was done.
    #[inline(never)]
    pub(super) fn free_large(self, cache: &mut ThreadCache, live: Live) -> bool {
        let owner = live.header.owner();
        let whose = if is_nobody(owner) { cache.owner } else { owner };
        self.free_large_to(cache, live, whose)
    }

    /// As `LargeBlocks::free_large`, for the cache that the block is to go to.
    pub(super) fn free_large_to(self, cache: &mut ThreadCache, live: Live, whose: u16) -> bool {
        let Live { at: g, header } = live;
        let size = header.size();
        let acked = Header::new(State::Acked, whose, header.generation(), self.heap.place(g, size));
        if self.heap.header(g).cas(header.0, acked.0, &PARK).is_err() {
            return false;
        }
        self.heap.news().gave(cache);
        let block = Parked { at: g, header: acked };
        match self.heap.layout().large_bin(size) {
            _ if whose != cache.owner => self.send_large_home(cache, whose, block),
            Some(bin) => _ = self.keep_large(cache, bin, block),
            None => self.merge_large(cache, block),
        }
        true
    }

    /// The granules to cut for a request of `size`: a little more, while blocks of the next sixteenth come back.
    pub(super) fn rounded(self, cache: &mut ThreadCache, size: u32) -> u32 {
        let up = Large::round_up(size);
        let Some(bin) = self.heap.layout().large_bin(up) else { return size };
        self.moved(cache, size);
        let own = self.heap.layout().large_bin(size);
        let rounded = up != size && cache.large.as_mut().is_some_and(|pool| pool.is_rounded(own, bin));
        if rounded { up } else { size }
    }

    /// Remembers a parked block of the bin. Without room, others are merged first. Always true, which is what the free
    /// ends with.
    #[inline(never)]
    fn keep_large(self, cache: &mut ThreadCache, bin: Large, block: Parked) -> bool {
        if let Some(pool) = cache.large.as_deref_mut()
            && pool.push(bin, block)
        {
            return true;
        }
        self.make_room(cache, bin, block)
    }

    #[cold]
    #[inline(never)]
    fn make_room(self, cache: &mut ThreadCache, bin: Large, block: Parked) -> bool {
        if R::Backend::mutated(Mutant::PoolUnbounded) {
            self.pool(cache).set_budget(u32::MAX, true);
        }
        for _ in 0..EVICTIONS {
            let pool = self.pool(cache);
            if pool.push_after_all(bin, block) {
                return true;
            }
            if !pool.may_have(block.size()) {
                break;
            }
            let Some(evicted) = pool.evict() else { break };
            self.merge_large(cache, evicted);
            self.moved(cache, evicted.size());
        }
        if !self.pool(cache).push_after_all(bin, block) {
            self.pool(cache).came_back(bin);
            self.merge_large(cache, block);
        }
        true
    }

    fn pool(self, cache: &mut ThreadCache) -> &mut Pool {
        if cache.large.is_none() {
            let mut pool = Pool::new();
            let (budget, plenty) = self.budget(cache);
            pool.set_budget(budget, plenty);
            cache.large = Some(pool);
        }
        cache.large.as_deref_mut().unwrap_or_else(|| unreachable!("made above"))
    }

    /// So many granules were cut or merged: from time to time, the cache looks again how much it may park.
    fn moved(self, cache: &mut ThreadCache, granules: u32) {
        let all = self.heap.layout().granules;
        let Some(pool) = cache.large.as_deref_mut() else { return };
        pool.moved += granules.max(all / LOOK_PART / STEPS_PER_LOOK);
        if pool.moved >= all / LOOK_PART {
            pool.moved = 0;
            let (budget, plenty) = self.budget(cache);
            self.pool(cache).set_budget(budget, plenty);
        }
    }

    /// What this cache may park, its share of what all may, and whether memory is plentiful.
    fn budget(self, cache: &mut ThreadCache) -> (u32, bool) {
        if let Some(most) = cache.most_large {
            return (most, true);
        }
        let layout = self.heap.layout();
        let held = |&number: &u16| self.heap.word(layout.slot(number, SlotWord::State)).load(&SLOT_LOOK) != 0;
        let caches = (1..=self.heap.news().highest_number()).filter(held).count().max(1) as u32;
        let largest = self.heap.hints().largest(cache);
        let most = largest.min(layout.granules / MOST_PART).max(layout.granules / SCARCE_PART);
        (most / caches, largest >= layout.granules / ROUND_UP_PART)
    }

    /// Merges a block that was parked, if it still is.
    fn merge_large(self, cache: &mut ThreadCache, block: Parked) {
        let header = self.heap.look(block.at);
        if header.is_given_up()
            && header.size() == block.size()
            && self.heap.layout().large_bin(header.size()).is_some()
        {
            self.heap.operations().coalesce(cache, block.at, header);
        }
    }

    /// Collects another cache's block; a full batch goes home.
    fn send_large_home(self, cache: &mut ThreadCache, owner: u16, block: Parked) {
        let most = self.heap.layout().granules / BATCH_PART;
        let at = owner as usize % WAYS;
        let is_full = |way: &Way, more: u32| way.length == BATCH || way.granules + more > most;
        self.heap.made().sent(cache);
        let way = &mut self.pool(cache).ways[at];
        if way.length > 0 && (way.owner != owner || is_full(way, block.size())) {
            self.dispatch_large(cache, at);
        }
        let way = &mut self.pool(cache).ways[at];
        way.owner = owner;
        way.items[way.length % BATCH] = block.at.0;
        way.length += 1;
        way.granules += block.size();
        if is_full(way, 0) {
            self.dispatch_large(cache, at);
        }
    }

    /// Sends a batch home. Without room there it stays here.
    fn dispatch_large(self, cache: &mut ThreadCache, at: usize) {
        let layout = self.heap.layout();
        let way = self.pool(cache).ways[at];
        let ring = (layout.granules / HOMES_PART / way.granules.max(1)).max(1).min(layout.ring() as u32);
        let given = places(way.next_home, ring as usize).find(|&at| {
            let home = layout.home_of(way.owner, LARGE.0, at);
            self.heap.word(home).load(&BATCH_LOOK) == 0
                && self.heap.transfer_cache().fill(cache, home, way.batch(), full(way.owner, LARGE)).is_ok()
        });
        let next_home = given.map_or(way.next_home, |at| at as u8 + 1);
        self.pool(cache).ways[at] = Way { next_home, ..Way::default() };
        if given.is_none() {
            way.batch().iter().for_each(|&g| self.receive_large(cache, Granule(g)));
        }
    }

    /// Remembers a block that was parked for this cache, or by it. The index may come from shared memory, and
    /// the block may be gone (C2).
    fn receive_large(self, cache: &mut ThreadCache, g: Granule) {
        let header = self.heap.look(g);
        if let Some(bin) = self.heap.layout().large_bin(header.low_size())
            && header.state() == State::Acked
            && self.heap.fits_sector(g, header)
        {
            self.keep_large(cache, bin, Parked { at: g, header });
        }
    }

    /// Takes a batch of this cache's large blocks from its homes into the own pool. False if none was found.
    pub(super) fn take_large_home(self, cache: &mut ThreadCache) -> bool {
        let looks = match cache.large.as_deref_mut() {
            Some(pool) if pool.short_looks > 0 => {
                pool.short_looks -= 1;
                FEW
            }
            _ => ALL,
        };
        let found = self.look_at_large_homes(cache, looks);
        if looks == ALL || found {
            let pool = self.pool(cache);
            pool.patience = if found { 0 } else { (2 * pool.patience + 1).min(MOST_SHORT_LOOKS) };
            pool.short_looks = pool.patience;
        }
        found
    }

    fn look_at_large_homes(self, cache: &mut ThreadCache, looks: usize) -> bool {
        let layout = self.heap.layout();
        let next = cache.large.as_ref().map_or(0, |pool| pool.next_home);
        for at in places(next, layout.ring()).take(looks) {
            let home = layout.home_of(cache.owner, LARGE.0, at);
            let found = self.heap.word(home).load(&BATCH_LOOK);
            if found & !0xFF == full(cache.owner, LARGE)
                && let Some((items, count)) = self.heap.transfer_cache().open_batch(cache, home, found)
            {
                self.pool(cache).next_home = at as u8 + 1;
                items[..count].iter().for_each(|&g| self.receive_large(cache, Granule(g)));
                return count > 0;
            }
        }
        false
    }

    /// Merges all large blocks that this cache has parked.
    pub(super) fn merge_pool(self, cache: &mut ThreadCache) {
        while let Some(block) = cache.large.as_deref_mut().and_then(Pool::evict) {
            self.merge_large(cache, block);
        }
    }

    /// Merges all large blocks that this cache has parked, or has on their way home to others.
    pub fn flush_large(self, cache: &mut ThreadCache) {
        if self.heap.layout().large_bins == 0 {
            return;
        }
        while self.look_at_large_homes(cache, ALL) {}
        self.merge_pool(cache);
        let Some(pool) = cache.large.take() else { return };
        for g in pool.ways.iter().flat_map(Way::batch).map(|&g| Granule(g)) {
            let header = self.heap.look(g);
            self.merge_large(cache, Parked { at: g, header });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;
    use crate::backend::decorators::{Counts, Probe, set_mutant};
    use crate::segment::layout::{Layout, Params};
    use crate::segment::region::BoxedRegion;

    type Counted = Heap<BoxedRegion<Probe<Native>>>;
    /// Draws a size, in granules.
    type Sizes = fn(&mut fastrand::Rng) -> u32;

    /// Caches that take turns, each with so many live blocks, in a segment of so many MiB.
    struct Churn {
        what: &'static str,
        mebibytes: u64,
        caches: u16,
        live: usize,
        sizes: Sizes,
    }

    const MIDDLE: Sizes = |dice| dice.u32(64..=256);
    const LARGE: Sizes = |dice| dice.u32(256..=4096);
    const LOG: Sizes = |dice| dice.u32(4..8) << dice.u32(0..12) | dice.u32(0..4);

    impl Churn {
        fn heap(&self) -> Counted {
            let bytes = self.mebibytes << 20;
            let params = Params { biased: true, ..Params::for_segment(bytes) };
            Heap::format(BoxedRegion::new(Layout::fit(bytes, params).expect("room for a sector")))
        }
        /// Allocates seven times of ten, else frees one at random, so often with each cache; says how often by now.
        fn run(&self, heap: &Counted, rounds: usize, mut each: impl FnMut(usize, &mut ThreadCache)) {
            let mut dice = fastrand::Rng::with_seed(17);
            let mut all: Vec<_> = (1..=self.caches).map(|owner| (Box::new(ThreadCache::new(owner)), vec![])).collect();
            for round in 0..rounds {
                for (cache, blocks) in &mut all {
                    if blocks.len() < self.live && dice.u8(0..10) < 7 {
                        blocks.push(heap.allocate(cache, (self.sizes)(&mut dice), 1, Kind::Raw).expect("room"));
                    } else if !blocks.is_empty() {
                        let block: Live = blocks.swap_remove(dice.usize(..blocks.len()));
                        heap.free(cache, block.at, Some(block.header.generation())).expect("live");
                    }
                }
                each(round + 1, &mut all[0].0);
            }
        }
        /// Mean accesses of an allocation or a free, once sizes have come and gone for a while.
        fn steady(&self) -> f64 {
            let rounds = 300 * self.live.min(400);
            self.run(&self.heap(), 2 * rounds, |round, _| {
                if round == rounds {
                    Counts::reset();
                }
            });
            Counts::get().accesses() as f64 / (rounds * self.caches as usize) as f64
        }
    }

    /// Whoever parked it, in whatever generation: it is this cache's then, one generation on.
    fn takes_in_every_generation() -> bool {
        const LAST: u32 = (1 << 20) - 1;
        let churn = Churn { what: "", mebibytes: 1, caches: 3, live: 0, sizes: LARGE };
        let takes = |parker: u16, generation: u32| {
            let (heap, mut cache) = (churn.heap(), ThreadCache::new(2));
            let Live { at, header } = heap.allocate(&mut cache, 200, 1, Kind::Raw).expect("room");
            let parked = Header::new(State::Acked, parker, generation, header.low());
            heap.header(at).store(parked.0, &HELD_STORE);
            heap.large().receive_large(&mut cache, at);
            let again = heap.allocate(&mut cache, 200, 1, Kind::Raw).expect("room");
            let expected = Header::new(State::Allocated, 2, generation.wrapping_add(1), header.low());
            (again.at, again.header, heap.look(at)) == (at, expected, expected)
        };
        (0..=3).all(|parker| [0, 1, LAST - 1, LAST].into_iter().all(|generation| takes(parker, generation)))
    }

    #[test]
    fn s1_a_large_block_is_taken_in_the_last_generation_as_in_any() {
        assert!(takes_in_every_generation());
    }

    #[test]
    fn mutant_owner_counted_up_is_caught() {
        set_mutant(Some(Mutant::OwnerCountedUp));
        let caught = !takes_in_every_generation();
        set_mutant(None);
        assert!(caught, "OwnerCountedUp survives");
    }

    /// Where blocks of many sizes come and go, hardly any is cut or merged, whatever their order, and however much of
    /// the segment they take, up to a half.
    #[test]
    fn l4_a_mix_is_served_from_what_is_parked() {
        let churn = |what, mebibytes, caches, live, sizes| Churn { what, mebibytes, caches, live, sizes };
        for (churn, most) in [
            (churn("4 to 64 KiB", 256, 1, 100, LARGE), 5.0),
            (churn("4 to 64 KiB", 256, 2, 100, LARGE), 5.0),
            (churn("1 to 4 KiB", 256, 1, 200, MIDDLE), 5.0),
            (churn("1 to 4 KiB", 256, 2, 200, MIDDLE), 5.0),
            (churn("64 B to 256 KiB, log-uniform", 256, 1, 400, LOG), 5.0),
            (churn("64 B to 256 KiB, log-uniform", 256, 2, 400, LOG), 5.0),
            (churn("4 to 64 KiB, a third of the segment", 32, 1, 310, LARGE), 5.0),
            (churn("4 to 64 KiB, half of the segment", 32, 1, 465, LARGE), 12.0),
            (churn("64 B to 256 KiB, log-uniform, a quarter of the segment", 64, 2, 370, LOG), 12.0),
        ] {
            let mean = churn.steady();
            println!("{}, {} live, {} cache(s): {mean:.2} accesses a call", churn.what, churn.live, churn.caches);
            assert!(mean < most, "{}, {}: {mean}", churn.what, churn.caches);
        }
    }

    fn in_eight_mebibytes() -> Counted {
        Churn { what: "", mebibytes: 8, caches: 1, live: 0, sizes: LARGE }.heap()
    }

    fn allocate(heap: &Counted, cache: &mut ThreadCache, size: u32) -> Live {
        heap.allocate(cache, size, 1, Kind::Raw).expect("room")
    }

    /// What may be parked is a share of the largest free block, and of the sector, for each slot that is held.
    #[test]
    fn l2_what_a_cache_may_park_follows_from_what_is_free() {
        let heap = in_eight_mebibytes();
        let (mut cache, all) = (ThreadCache::with_ceiling(1, 0), heap.layout().granules);
        assert_eq!(heap.large().budget(&mut cache), (all / MOST_PART, true));
        [1, 3, 4].iter().for_each(|&number| heap.slot(number, SlotWord::State).store(1, &HELD_STORE));
        assert_eq!(heap.large().budget(&mut cache), (all / MOST_PART / 3, true));
        for (size, plenty) in [(all - all / 11, true), (all / 50, false), (all / 15, false)] {
            allocate(&heap, &mut cache, size);
            let largest = heap.tally().expect("sound").largest_free as u32;
            assert_eq!(heap.large().budget(&mut cache), (largest.max(all / SCARCE_PART) / 3, plenty), "{largest}");
        }
        assert!(heap.tally().expect("sound").largest_free < u64::from(all / SCARCE_PART), "the least is met");
    }

    /// Who only fills a segment gets what it asks for, and no more.
    #[test]
    fn l2_who_only_fills_a_segment_wastes_nothing() {
        let (heap, mut cache) = (in_eight_mebibytes(), ThreadCache::new(1));
        for size in (400..4000).step_by(100) {
            assert_eq!(allocate(&heap, &mut cache, size).header.size(), size);
        }
    }

    /// A free without room parks its block and merges others, unless no room would be enough.
    #[test]
    fn l2_room_is_made_for_what_may_have_it() {
        let (heap, mut cache) = (in_eight_mebibytes(), ThreadCache::with_pool(1, 4, 2000));
        let blocks = [600, 600, 600, 560, 2400].map(|size| allocate(&heap, &mut cache, size));
        let parked = blocks.map(|live| {
            heap.free(&mut cache, live.at, None).expect("live");
            cache.parked_large()
        });
        assert_eq!(parked, [600, 1200, 1800, 1760, 1760]);
    }

    /// What is on its way home is bounded in granules: a batch is, and so are the batches in one ring.
    #[test]
    fn l2_what_goes_home_is_bounded_in_granules() {
        let heap = in_eight_mebibytes();
        let (mut owner, mut freer, all) = (ThreadCache::new(1), ThreadCache::new(2), heap.layout().granules);
        let most = all / BATCH_PART;
        let batch = [most / 2, most - most / 2, 400].map(|size| allocate(&heap, &mut owner, size));
        let larger = [most + 4; 6].map(|size| allocate(&heap, &mut owner, size));
        let mut free = |live: Live| {
            heap.free(&mut freer, live.at, None).expect("live");
            (freer.large.as_ref().expect("a pool").ways[1].length, heap.auditing().places_in_use())
        };
        assert_eq!(batch.map(&mut free), [(1, 0), (2, 0), (1, 1)]);
        let in_the_ring = (all / HOMES_PART / (most + 4)) as usize;
        assert!((2..5).contains(&in_the_ring));
        assert_eq!(larger.map(free).last(), Some(&(0, in_the_ring)), "with the first two batches");
    }

    /// Once so much was cut, a cache looks again how much it may park.
    #[test]
    fn l2_a_cache_that_fills_a_segment_may_park_less_and_less() {
        let (heap, mut cache) = (in_eight_mebibytes(), ThreadCache::with_ceiling(1, 4));
        let all = heap.layout().granules;
        let first = allocate(&heap, &mut cache, all / 100);
        heap.free(&mut cache, first.at, None).expect("live");
        let may_have = |cache: &ThreadCache| cache.large.as_ref().expect("a pool").may_have(all / 4);
        assert!(may_have(&cache), "while most is free");
        (0..90).for_each(|_| _ = allocate(&heap, &mut cache, all / 100));
        assert!(!may_have(&cache), "while little is");
    }

    /// What hints tell of the largest free block is an eighth too little at most, and never too much.
    #[test]
    fn hints_tell_of_the_largest_free_block() {
        let churn = Churn { what: "", mebibytes: 8, caches: 2, live: 30, sizes: LOG };
        let heap = churn.heap();
        let mut looks = 0;
        churn.run(&heap, 3000, |round, cache| {
            if round % 20 == 0 {
                let (said, largest) =
                    (u64::from(heap.hints().largest(cache)), heap.tally().expect("whole").largest_free);
                assert!((largest - largest / 8..=largest).contains(&said), "{said} of {largest}");
                looks += 1;
            }
        });
        assert_eq!(looks, 150);
    }
}
