//! Free: a quick step for the thread's own small blocks (`_own`), a second one for larger sizes, large blocks and
//! another cache's small ones (`_next`), then one thorough step for all. The calls are drawn in [`super::heap`].

use super::block_header::{Header, LINKED, State, is_nobody, place};
use super::thread_cache::ThreadCache;
use super::words::{Heap, Kind, Live, Refusal};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::segment::layout::{Geometry, Granule};
use crate::segment::region::Region;
use crate::segment::size_class::EXACT;

/// What the caller of the quick step knows of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Its header, as an allocation of untyped bytes gave it.
    Raw(Header),
    /// Its header, as an allocation for a type gave it.
    Typed(Header),
    /// Where it begins. Of the cache's own blocks, the quick steps serve those that are untyped.
    Offset,
}

impl Kind {
    /// What is known of a block of this kind whose header an allocation gave.
    pub(crate) const fn known(self, header: Header) -> Known {
        match self {
            Self::Raw => Known::Raw(header),
            Self::Typed(_) => Known::Typed(header),
        }
    }
}

impl Known {
    /// The generation, if it is known.
    #[inline(always)]
    pub(crate) fn generation(self) -> Option<u32> {
        match self {
            Self::Raw(header) | Self::Typed(header) => Some(header.generation()),
            Self::Offset => None,
        }
    }
}

/// Whose block it is, as far as a free asks.
enum Owner {
    /// This cache's, which parks it by a plain store.
    Me,
    /// Another's, which may store its header plainly at this moment.
    Remote,
    /// Nobody stores its header plainly: it is unowned, or of a size that is not parked, or there is no bias.
    Unowned,
    /// A large block: nobody stores its header plainly either; it is parked for its owner.
    Large,
}

impl<R: Region> Heap<R> {
    /// Frees the live block that begins at `g`: one compare-and-swap at most where it is parked, else the Ripple.
    ///
    /// With a `generation`, only the block of that generation. Lock-free: each new attempt is another's
    /// change of the block's owner.
    ///
    /// # Errors
    /// [`Refusal`], and nothing has changed (S5).
    #[inline]
    pub fn free(&self, cache: &mut ThreadCache, g: Granule, generation: Option<u32>) -> Result<(), Refusal> {
        self.free_live(cache, self.live_of(g, generation)?)
    }

    /// The same for a block that was found live a moment ago.
    ///
    /// # Errors
    /// As for [`Heap::free`].
    #[inline]
    pub(crate) fn free_live(&self, cache: &mut ThreadCache, mut live: Live) -> Result<(), Refusal> {
        self.bias().bind(cache);
        loop {
            if live.header.owner() == LINKED {
                // A structure's: whoever reads or takes it there counts on it.
                return Err(Refusal::Linked(live.header));
            }
            let freed = match self.owner_of(cache, live.header) {
                Owner::Me => self.free_local(cache, live),
                Owner::Remote => self.free_remote(cache, live),
                Owner::Unowned => self.free_shared(cache, live),
                Owner::Large => self.large().free_large(cache, live),
            };
            if freed {
                return Ok(());
            }
            // It has changed. If it only changed hands (adopted, handed over, its owner left), it is the same
            // block all the same.
            if R::Backend::mutated(Mutant::NewOwnerRefused) {
                return Err(Refusal::NotLive(self.look(live.at)));
            }
            live = self.live_of(live.at, Some(live.header.generation()))?;
        }
    }

    #[inline(always)]
    fn owner_of(&self, cache: &ThreadCache, live: Header) -> Owner {
        match live.owner() {
            _ if cache.parks() && self.layout().large_bin(live.size()).is_some() => Owner::Large,
            _ if !self.biased() || self.layout().bin_of(live.size()).is_none() => Owner::Unowned,
            owner if owner == cache.owner && cache.parks() => Owner::Me,
            owner if owner == cache.owner || is_nobody(owner) => Owner::Unowned,
            _ => Owner::Remote,
        }
    }

    /// Parks the cache's own block on its stack: no locked instruction. False: it has changed, and nothing was done.
    #[inline(never)]
    pub fn free_local(&self, cache: &mut ThreadCache, live: Live) -> bool {
        let Live { at: g, header } = live;
        let (hazard, bin) = (self.bias().hazard_of(cache), self.layout().bin_of(header.size()));
        let Some(bin) = bin.filter(|_| hazard != 0 && cache.parks() && header.owner() == cache.owner) else {
            return false;
        };
        if !cache.stacks[bin.0].has_room() {
            self.parking().flush_half(cache, bin);
            self.stealing().empty_full_limbo(cache);
        }
        let parked = Header::new(State::Acked, header.owner(), header.generation(), self.place(g, header.size()));
        let change = |now: Header| (now == header && cache.stacks[bin.0].push(g)).then_some((parked, ()));
        // SAFETY: `hazard_of` is in range.
        unsafe { self.bias().give_own(hazard, g, self.header(g), change) }.is_some()
    }

    /// Frees the cache's own block into the hands of `home`, the cache that it came from: it is parked as
    /// that one's, and goes the way home of blocks that are freed for others. No locked instruction, for a
    /// large one a compare-and-swap. False: it has changed, or is not parked for others, and nothing was
    /// done.
    ///
    /// Once the header says `home`, nobody stores it plainly but who has that number and was given its index.
    #[inline(never)]
    pub fn free_to(&self, cache: &mut ThreadCache, live: Live, home: u16) -> bool {
        self.bias().bind(cache);
        let Live { at: g, header } = live;
        let (hazard, size) = (self.bias().hazard_of(cache), header.size());
        let is_own = cache.parks() && header.owner() == cache.owner;
        let is_anothers = home != cache.owner && self.is_participant(home);
        if !is_own || !is_anothers {
            return false;
        }
        if self.layout().large_bin(size).is_some() {
            return self.large().free_large_to(cache, live, home);
        }
        let bin = self.layout().bin_of(size).filter(|_| self.biased() && hazard != 0);
        let Some(bin) = bin else { return false };
        let parked = Header::new(State::Acked, home, header.generation(), self.place(g, size));
        let change = |now: Header| (now == header).then_some((parked, ()));
        // SAFETY: `hazard_of` is in range.
        if unsafe { self.bias().give_own(hazard, g, self.header(g), change) }.is_none() {
            return false;
        }
        self.remote_frees().send_home(cache, bin, home, g);
        true
    }

    /// Gives another cache's block back to that cache's parked blocks. False: it has changed, and nothing was done.
    #[inline(never)]
    fn free_remote(&self, cache: &mut ThreadCache, live: Live) -> bool {
        let Live { at: g, header } = live;
        let (owner, size) = (header.owner(), header.size());
        let acked = Header::new(State::Acked, owner, header.generation(), self.place(g, size));
        if self.header(g).cas(header.0, acked.0, &PARK).is_err() {
            return false;
        }
        self.news().gave(cache);
        match self.parking().parking_bin(cache, size) {
            // Whoever adopts it says what becomes of it.
            _ if self.bias().is_adopting(owner) && R::Backend::takes(Mutant::AdoptedSentHome) => {
                self.made().sent(cache)
            }
            Some(bin) => self.remote_frees().send_home(cache, bin, owner, g),
            None => self.stealing().merge_batch(cache, &[g.0]),
        }
        true
    }

    /// Parks a block as this cache's, or merges it. False: it has changed, and nothing was done.
    #[inline(never)]
    fn free_shared(&self, cache: &mut ThreadCache, live: Live) -> bool {
        let Live { at: g, header } = live;
        let acked = Header::new(State::Acked, cache.owner(), header.generation(), self.place(g, header.size()));
        if self.header(g).cas(header.0, acked.0, &PARK).is_err() {
            return false;
        }
        self.news().gave(cache);
        match self.parking().parking_bin(cache, header.size()) {
            Some(bin) => self.parking().remember(cache, bin, g),
            None => drop(self.operations().coalesce(cache, g, acked)),
        }
        true
    }

    /// Frees a block for a thread that has no cache, and can't get one: by one compare-and-swap, as for
    /// another's block. It is parked, its owner's or unowned, and nobody is told where: whoever runs short or
    /// heals merges it. Waits for nobody.
    ///
    /// # Errors
    /// [`Refusal`], and nothing has changed (S5).
    #[cold]
    pub fn free_unaided(&self, g: Granule, mut generation: Option<u32>) -> Result<(), Refusal> {
        loop {
            let Live { header, .. } = self.live_of(g, generation)?;
            if header.owner() == LINKED {
                return Err(Refusal::Linked(header));
            }
            // Its owner may be about to store the same word.
            let owner = if self.biased() && self.layout().bin_of(header.size()).is_some() { header.owner() } else { 0 };
            let acked = Header::new(State::Acked, owner, header.generation(), self.place(g, header.size()));
            if self.header(g).cas(header.0, acked.0, &PARK).is_ok() {
                self.news().gave_unaided();
                return Ok(());
            }
            generation = Some(header.generation());
        }
    }

    /// The quick step: parks the live block at `g` on the cache's own stack, if it is the cache's own, what
    /// the caller knows, of a size that has a stack to itself (less than `EXACT` granules), and there is room.
    /// No locked instruction. False: nothing was done.
    ///
    /// Where the caller knows the header, what is stored, and where, follows from that: nothing waits for the
    /// one in memory, which is only compared.
    ///
    /// # Safety
    /// As for [`Heap::allocate_own`], and a known header's position is that of the granule in its span, as an
    /// allocation gave them.
    #[inline(always)]
    pub unsafe fn free_own(&self, cache: &mut ThreadCache, g: Granule, known: Known, geometry: &impl Geometry) -> bool {
        let (own, hazard, shift) = (Header(cache.own_live_header), cache.hazard, geometry.span_shift());
        let (is_own, size) = match known {
            Known::Raw(header) => (header.held_by_same(own), header.low_size()),
            Known::Typed(header) => (header.is_typed() && header.owner() == own.owner(), header.size()),
            Known::Offset => (true, 0),
        };
        if g.0 >= cache.free_limit || !is_own || size >= EXACT {
            return false;
        }
        // SAFETY: the cache is bound, to this heap, says the caller: it has as many granules, spans like
        // these, and this word.
        let word = unsafe { self.region().header_in_range(g, shift) };
        if known == Known::Offset {
            // Another cache may have written it last, or may own it: then one transfer of its line serves the
            // look and the change.
            word.expect_write();
        }
        let position = g.0 & ((1 << shift) - 1);
        let expected = own.0 | u64::from(place(position, 0));
        let change = |now: Header| {
            let (parked, size) = match known {
                Known::Raw(header) | Known::Typed(header) => {
                    let live = self.same_block(now, header)?;
                    // Another segment's pointer that bears this one's mark fits no header here.
                    debug_assert!(now != header || header.position() == position);
                    let parked = match known {
                        Known::Raw(_) => live.parked(),
                        _ => Header::new(State::Acked, live.owner(), live.generation(), place(live.position(), size)),
                    };
                    (parked, size as usize)
                }
                Known::Offset => {
                    // The size, if everything else is as it should be.
                    let size = now.meaning() ^ expected;
                    (size.wrapping_sub(1) < EXACT as u64 - 1).then_some((now.parked(), size as usize))?
                }
            };
            cache.stacks.get_mut(size)?.push(g).then_some((parked, ()))
        };
        // SAFETY: the cache is bound, to this heap, says the caller: its slot's word is one of the region's.
        unsafe { self.bias().give_own(hazard, g, word, change) }.is_some()
    }

    /// As [`Heap::free_own`], for an untyped block of more granules: onto the own stack, or a large one by
    /// one compare-and-swap; and for another cache's small block.
    ///
    /// # Safety
    /// As for [`Heap::free_own`].
    #[inline(always)]
    pub unsafe fn free_next(
        &self,
        cache: &mut ThreadCache,
        g: Granule,
        known: Known,
        geometry: &impl Geometry,
    ) -> bool {
        if g.0 >= cache.granules {
            return false;
        }
        let generation = match known {
            // A large one: that its header is as the caller knows it, the compare-and-swap sees.
            Known::Raw(header) if header.held_by_same(Header(cache.own_live_header)) && header.low_size() >= EXACT => {
                // The cache's next user writes it: its first line comes while its header does.
                self.region().expect_payload(g);
                let size = header.low_size();
                if self.layout().bin_of(size).is_none() {
                    // SAFETY: as in `free_own`.
                    return unsafe {
                        let word = self.region().header_in_range(g, geometry.span_shift());
                        self.large().free_own_large(cache, (g, word), header, size)
                    };
                }
                Some(header.generation())
            }
            _ => known.generation(),
        };
        let (own, hazard, shift) = (cache.own_live_header, cache.hazard, geometry.span_shift());
        // SAFETY: as in `free_own`.
        let word = unsafe { self.region().header_in_range(g, shift) };
        let header = Header(word.load(&HEADER_HINT));
        // The size, if everything else is as it should be.
        let size = header.meaning() ^ (own | u64::from(place(g.0 & ((1 << shift) - 1), 0)));
        let current = generation.is_none_or(|held| held == header.generation());
        if !current {
            return false;
        }
        if size > u64::from(cache.granules - g.0) {
            return self.free_if_remote(cache, g, header);
        }
        let size = size as u32;
        let Some(bin) = self.layout().bin_of(size) else {
            // SAFETY: a cache that has granules is bound, to this heap, says the caller.
            return unsafe { self.large().free_own_large(cache, (g, word), header, size) };
        };
        let stack = &mut cache.stacks[bin.0];
        if !stack.has_room() {
            return false;
        }
        let change = |now: Header| (now == header).then(|| (header.parked(), ()));
        // SAFETY: `hazard` is the index that the cache was bound with, to this heap, says the caller.
        unsafe { self.bias().give_own(hazard, g, word, change) }.is_some_and(|()| stack.push(g))
    }

    /// Gives a block back whose header says that it is another cache's small one. False: nothing was done.
    #[inline(always)]
    fn free_if_remote(&self, cache: &mut ThreadCache, g: Granule, header: Header) -> bool {
        let header = self.header_at(g, header);
        header.is_live()
            && self.fits_sector(g, header)
            && matches!(self.owner_of(cache, header), Owner::Remote)
            && self.free_remote(cache, Live { at: g, header })
    }

    /// The header of the block that the caller knows, if it still stands.
    #[inline(always)]
    fn same_block(&self, now: Header, known: Header) -> Option<Header> {
        match R::Backend::mutated(Mutant::GenerationIgnored) {
            true => (now.meaning() == known.meaning()).then_some(now),
            false => (now == known).then_some(known),
        }
    }

    /// The block at `g` will be freed soon: its header's line may come. No access.
    #[inline(always)]
    pub fn will_free(&self, g: Granule) {
        self.header(g).expect_write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::tests::biased;
    use crate::matrix::words::Kind;

    /// A cache of a large heap, used with a small one by mistake, names granules within the small one's words.
    #[test]
    fn s5_a_cache_of_another_heap_stays_within_this_ones_words() {
        let (large, small) = (biased(4 << 20, 1024), biased(64 << 10, 4));
        let mut cache = ThreadCache::new(1000);
        large.allocate(&mut cache, 8, 1, Kind::Raw).expect("room");
        let mut other = ThreadCache::new(1);
        let block = small.allocate(&mut other, 8, 1, Kind::Raw).expect("room");
        assert!(cache.hazard as usize > small.layout().words, "the case is met");
        assert!(!small.free_local(&mut cache, block.of(1000)), "it is another cache's");
    }

    /// The second step gives another cache's small block back to that one, once; a large one it leaves alone.
    #[test]
    fn s5_the_second_step_frees_anothers_small_block_once() {
        let heap = biased(4 << 20, 4);
        let (mut owner, mut freer) = (ThreadCache::new(1), ThreadCache::new(2));
        heap.bias().bind(&mut freer);
        for size in [4, 8, 40, 64, 120, 121, 500] {
            let block = heap.allocate(&mut owner, size, 1, Kind::Raw).expect("room");
            let stale = Header(block.header.0 ^ Header::new(State::Inside, 0, 1, 0).0);
            // SAFETY: one heap for the cache, which is bound to it, and the heap's own geometry.
            let mut free = |at, known| unsafe { heap.free_next(&mut freer, at, known, heap.layout()) };
            assert!(!free(block.at, Known::Raw(stale)), "S5: another generation");
            assert!(!free(block.at.plus(1), Known::Offset), "S5: nothing begins there");
            assert_eq!(heap.look(block.at), block.header, "S5: nothing has changed");
            let small = heap.layout().bin_of(size).is_some();
            assert_eq!(
                free(block.at, if size == 40 { Known::Raw(block.header) } else { Known::Offset }),
                small,
                "{size}"
            );
            if small {
                let parked = heap.look(block.at);
                assert_eq!((parked.state(), parked.owner(), parked.size()), (State::Acked, 1, size));
                assert!(!free(block.at, Known::Offset), "S5: it is free");
            }
        }
    }

    /// The second step frees what the caller knows, once, as the thorough one does: onto a stack, or into the pool.
    #[test]
    fn s5_the_second_step_frees_what_the_caller_knows_and_once() {
        let (quick, thorough) = (biased(4 << 20, 4), biased(4 << 20, 4));
        let (mut cache, mut other) = (ThreadCache::new(1), ThreadCache::new(1));
        for round in 0..3 {
            for size in [EXACT + 3, 64, 120, 121, 128, 500, 4096] {
                let block = quick.allocate(&mut cache, size, 1, Kind::Raw).expect("room");
                assert_eq!(thorough.allocate(&mut other, size, 1, Kind::Raw), Ok(block));
                let stale = Header(block.header.0 ^ Header::new(State::Inside, 0, 1, 0).0);
                // SAFETY: one heap for each cache, and its own geometry.
                let mut free = |known| unsafe { quick.free_next(&mut cache, block.at, known, quick.layout()) };
                assert!(!free(Known::Raw(stale)), "S5: another generation");
                assert_eq!(quick.look(block.at), block.header, "S5: nothing has changed");
                let known = if round == 1 { Known::Offset } else { Known::Raw(block.header) };
                // The first large one makes the pool.
                if !free(known) {
                    assert!(round == 0 && size == 121, "{size}");
                    quick.free(&mut cache, block.at, Some(block.header.generation())).expect("live");
                }
                // SAFETY: one heap for each cache, and its own geometry.
                let mut again = |known| unsafe { quick.free_next(&mut cache, block.at, known, quick.layout()) };
                assert!(!again(known), "S5: a second time");
                thorough.free(&mut other, block.at, Some(block.header.generation())).expect("live");
                assert_eq!(quick.look(block.at), thorough.look(block.at), "{size}");
            }
        }
    }

    /// The quick ways to free leave what the thorough one leaves, typed or not, whatever the size and
    /// wherever in its span.
    #[test]
    fn s4_a_quick_free_leaves_what_a_thorough_one_leaves() {
        let (quick, thorough) = (biased(1 << 20, 4), biased(1 << 20, 4));
        let (mut cache, mut other) = (ThreadCache::new(1), ThreadCache::new(1));
        let layout = quick.layout();
        let mut positions = std::collections::BTreeSet::new();
        for (round, size) in (0..4).flat_map(|round| (layout.span_mask + 1..EXACT).map(move |size| (round, size))) {
            for kind in [Kind::Raw, Kind::Typed(0x1FF_FFFF), Kind::Typed(round)] {
                let mut made = vec![];
                for _ in 0..4 {
                    let block = quick.allocate(&mut cache, size, 1, kind).expect("room");
                    assert_eq!(thorough.allocate(&mut other, size, 1, kind), Ok(block));
                    made.push(block);
                }
                for block in made {
                    let typed = kind != Kind::Raw;
                    assert_eq!(typed, block.header.is_typed());
                    let stale = Header(block.header.0 ^ Header::new(State::Inside, 0, 1, 0).0);
                    let known = |header, typed| if typed { Known::Typed(header) } else { Known::Raw(header) };
                    // SAFETY: one heap for each cache, and its own geometry.
                    unsafe {
                        assert!(
                            !quick.free_own(&mut cache, block.at, known(stale, typed), layout),
                            "S5: another generation"
                        );
                        assert!(
                            !quick.free_own(&mut cache, block.at, known(block.header, !typed), layout),
                            "S5: of another kind"
                        );
                        let freed = quick.free_own(&mut cache, block.at, known(block.header, typed), layout);
                        assert!(freed || !cache.stacks[size as usize].has_room(), "{size} {kind:?}");
                        if !freed {
                            quick.free(&mut cache, block.at, Some(block.header.generation())).expect("live");
                        }
                    }
                    thorough.free(&mut other, block.at, Some(block.header.generation())).expect("live");
                    assert_eq!(quick.look(block.at), thorough.look(block.at), "{size} {kind:?}");
                    positions.insert(block.header.position());
                }
            }
        }
        assert_eq!(positions.len(), 4, "everywhere in a span: {positions:?}");
    }
}
