//! Free: a quick step for the thread's own small blocks (`_own`), a second one for larger sizes, large blocks and
//! another cache's small ones (`_next`), then one thorough step for all. The calls are drawn in [`super::heap`].

use super::block_header::{Header, LINKED, State, is_nobody};
use super::thread_cache::ThreadCache;
use super::words::{Heap, Live, Refusal};
use crate::backend::orderings::*;
use crate::backend::{Backend, Mutant, Word};
use crate::segment::layout::{Geometry, Granule, SlotWord};
use crate::segment::region::Region;
use crate::segment::size_class::{Bin, EXACT};

/// Whose block it is, as far as a free asks.
enum Owner {
    /// This cache's, which parks it by a plain store.
    Me,
    /// Another's, which may store its header plainly at this moment, and has it in this bin.
    Remote(Bin),
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
        debug_assert!(live.header.is_live(), "to be freed: {live:?}");
        self.bias().bind(cache);
        loop {
            if live.header.owner() == LINKED {
                // A structure's: whoever reads or takes it there counts on it.
                return Err(Refusal::Linked(live.header));
            }
            let freed = match self.owner_of(cache, live.header) {
                Owner::Me => self.free_local(cache, live),
                Owner::Remote(bin) => self.free_remote(cache, live, bin, self.slot(cache.owner, SlotWord::Given)),
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
        match (self.layout().bin_of(live.size()), live.owner()) {
            (Some(_), _) if !self.biased() => Owner::Unowned,
            (Some(_), owner) if owner == cache.owner && cache.parks() => Owner::Me,
            (Some(_), owner) if owner == cache.owner || is_nobody(owner) => Owner::Unowned,
            (Some(bin), _) => Owner::Remote(bin),
            (None, _) if cache.parks() && self.layout().large_bin(live.size()).is_some() => Owner::Large,
            (None, _) => Owner::Unowned,
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
        // SAFETY: `hazard_of`, if it is not 0, is this heap's word of the cache's slot.
        unsafe { self.bias().change_own(hazard, g, self.header(g), true, change) }.is_some()
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
        // SAFETY: `hazard_of`, if it is not 0, is this heap's word of the cache's slot.
        if unsafe { self.bias().change_own(hazard, g, self.header(g), true, change) }.is_none() {
            return false;
        }
        self.remote_frees().send_home(cache, bin, home, g);
        true
    }

    /// Gives another cache's block back to that cache's parked blocks. False: it has changed, and nothing was
    /// done. `given` is where this cache counts what it gives back.
    #[inline(never)]
    fn free_remote(
        &self,
        cache: &mut ThreadCache,
        live: Live,
        bin: Bin,
        given: &<R::Backend as Backend>::Word,
    ) -> bool {
        let Live { at: g, header } = live;
        let owner = header.owner();
        let acked = Header::new(State::Acked, owner, header.generation(), self.place(g, bin.size()));
        if self.header(g).cas(header.0, acked.0, &PARK).is_err() {
            return false;
        }
        self.news().count(given);
        if self.bias().is_adopting(owner) && R::Backend::takes(Mutant::AdoptedSentHome) {
            // Whoever adopts it says what becomes of it.
            self.made().sent(cache);
        } else if cache.parks() {
            self.remote_frees().send_home(cache, bin, owner, g);
        } else {
            self.stealing().merge_batch(cache, &[g.0]);
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

    /// The quick step: parks the cache's own live block at `g` on its stack. The caller knows its header, and
    /// whether it is typed. No locked instruction. False: it is another's, or has changed, or its size has no
    /// stack to itself, or there is no room; nothing was done.
    ///
    /// What is stored, and where, follows from the known header: nothing waits for the one in memory, which is
    /// only compared.
    ///
    /// # Safety
    /// As for [`Heap::allocate_own`], and the header's position is that of `g` in its span, as an allocation or a
    /// look gave them.
    #[inline(always)]
    pub unsafe fn free_own(
        &self,
        cache: &mut ThreadCache,
        g: Granule,
        header: Header,
        typed: bool,
        geometry: &impl Geometry,
    ) -> bool {
        let Some(stack) = cache.own_stack(g, header, typed) else { return false };
        let hazard = cache.hazard;
        // SAFETY: the cache is bound, to this heap, says the caller: it has as many granules, and this geometry.
        let word = unsafe { self.region().header_in_range(g, geometry) };
        let park = |now: Header| {
            let live = self.same_block(now, header)?;
            // Another segment's pointer with this one's serial fits no header here.
            debug_assert!(now != header || self.header_at(g, now) == now);
            cache.stacks.get_mut(stack)?.push(g).then(|| (live.parked(typed), ()))
        };
        // SAFETY: the cache is bound, to this heap, says the caller: `hazard` is its slot's word there.
        unsafe { self.bias().change_own(hazard, g, word, true, park) }.is_some()
    }

    /// What begins at `g`, for who has its offset alone and is about to free it: the free compares it once more.
    ///
    /// # Safety
    /// As for [`Heap::allocate_own`].
    #[inline(always)]
    pub unsafe fn look_to_free(&self, cache: &ThreadCache, g: Granule, geometry: &impl Geometry) -> Header {
        if g.0 >= cache.granules {
            return Header(0);
        }
        // SAFETY: as in `free_own`.
        let word = unsafe { self.region().header_in_range(g, geometry) };
        // Another cache may have written it last, or may own it: then one transfer of its line serves the look
        // and the change.
        word.expect_write();
        let header = Header(word.load(&HEADER_HINT));
        let here = is_at(header, g, geometry);
        // A size of 0 has no stack: the word comes from shared memory (C2).
        if R::Backend::check(here, Mutant::PositionUnchecked) && header.low_size() != 0 {
            return header;
        }
        Header(0)
    }

    /// The second step: as [`Heap::free_own`] for an untyped block of more granules, onto the own stack, or a
    /// large one by one compare-and-swap; and for another cache's small block.
    ///
    /// # Safety
    /// As for [`Heap::allocate_own`].
    #[inline(always)]
    pub unsafe fn free_next(
        &self,
        cache: &mut ThreadCache,
        g: Granule,
        header: Header,
        geometry: &impl Geometry,
    ) -> bool {
        if !cache.owns(header, false) {
            // SAFETY: the caller's.
            return unsafe { self.free_anothers(cache, g, header, geometry) };
        }
        let size = header.low_size();
        let Some(bin) = self.layout().large_bin_of(size as usize, geometry) else {
            // SAFETY: the caller's.
            return unsafe { self.free_middle(cache, g, header, geometry) };
        };
        if !cache.has_room_for(g, size) || !is_at(header, g, geometry) {
            return false;
        }
        // SAFETY: as in `free_own`.
        let word = unsafe { self.region().header_in_range(g, geometry) };
        // The cache's next user writes it: its first line comes while its header does.
        self.region().expect_payload(g, geometry);
        // SAFETY: a cache that has granules is bound, to this heap, says the caller.
        unsafe { self.large().free_own_large(cache, (g, word), header, bin) }
    }

    /// The same of the cache's own block of a bin, untyped.
    ///
    /// # Safety
    /// As for [`Heap::allocate_own`].
    #[inline(never)]
    unsafe fn free_middle(
        &self,
        cache: &mut ThreadCache,
        g: Granule,
        header: Header,
        geometry: &impl Geometry,
    ) -> bool {
        let size = header.low_size();
        let Some(bin) = self.layout().bin_of(size) else { return false };
        let stack = &cache.stacks[bin.0];
        if !cache.has_room_for(g, size) || !is_at(header, g, geometry) || !stack.has_room() {
            return false;
        }
        // SAFETY: as in `free_own`.
        let word = unsafe { self.region().header_in_range(g, geometry) };
        if size >= EXACT {
            self.region().expect_payload(g, geometry);
        }
        let (hazard, stack) = (cache.hazard, &mut cache.stacks[bin.0]);
        let park = |now: Header| (now == header).then(|| (header.parked(false), ()));
        // SAFETY: as in `free_own`.
        unsafe { self.bias().change_own(hazard, g, word, true, park) }.is_some_and(|()| stack.push(g))
    }

    /// The same of another cache's small block.
    ///
    /// # Safety
    /// As for [`Heap::allocate_own`].
    #[inline(never)]
    unsafe fn free_anothers(
        &self,
        cache: &mut ThreadCache,
        g: Granule,
        header: Header,
        geometry: &impl Geometry,
    ) -> bool {
        // An offset's header comes from shared memory (C2).
        let size = header.size();
        if !header.is_live() || !cache.has_room_for(g, size) || !is_at(header, g, geometry) {
            return false;
        }
        let Owner::Remote(bin) = self.owner_of(cache, header) else { return false };
        let bias = self.bias();
        // SAFETY: the cache is bound, to this heap, says the caller: that is its slot's word there.
        let given = unsafe { bias.given_beside(cache.hazard) };
        self.spans(g, size) > 0 && self.free_remote(cache, Live { at: g, header }, bin, given)
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

/// Whether the header says that its block begins at `g`, of the granules of its span.
#[inline(always)]
fn is_at(header: Header, g: Granule, geometry: &impl Geometry) -> bool {
    header.position() == g.0 & ((1 << geometry.span_shift()) - 1)
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
            let mut free = |at, header: Option<Header>| unsafe {
                let header = header.unwrap_or_else(|| heap.look_to_free(&freer, at, heap.layout()));
                heap.free_next(&mut freer, at, header, heap.layout())
            };
            assert!(!free(block.at, Some(stale)), "S5: another generation");
            assert!(!free(block.at.plus(1), None), "S5: nothing begins there");
            assert!(!free(block.at.plus(1), Some(block.header)), "S5: it begins elsewhere");
            assert!(!free(Granule(u32::MAX), None), "S5: out of range");
            heap.header(block.at).store(block.header.0 & !u64::from(Header(u64::MAX).low_size()), &HELD_STORE);
            assert!(!free(block.at, None), "C2: a live block of nothing");
            // Its owner looks, and frees what it has found.
            // SAFETY: one heap for each cache, and its own geometry.
            let freed = unsafe {
                let found = heap.look_to_free(&owner, block.at, heap.layout());
                heap.free_own(&mut owner, block.at, found, false, heap.layout())
            };
            assert!(!freed, "C2: nor does its owner free it");
            heap.header(block.at).store(block.header.0, &HELD_STORE);
            assert_eq!(heap.look(block.at), block.header, "S5: nothing has changed");
            let small = heap.layout().bin_of(size).is_some();
            assert_eq!(free(block.at, (size == 40).then_some(block.header)), small, "{size}");
            if small {
                let parked = heap.look(block.at);
                assert_eq!((parked.state(), parked.owner(), parked.size()), (State::Acked, 1, size));
                assert!(!free(block.at, None), "S5: it is free");
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
                let mut free = |header: Option<Header>| unsafe {
                    let header = header.unwrap_or_else(|| quick.look_to_free(&cache, block.at, quick.layout()));
                    quick.free_next(&mut cache, block.at, header, quick.layout())
                };
                assert!(!free(Some(stale)), "S5: another generation");
                assert_eq!(quick.look(block.at), block.header, "S5: nothing has changed");
                let known = (round != 1).then_some(block.header);
                // The first large one makes the pool.
                if !free(known) {
                    assert!(round == 0 && size == 121, "{size}");
                    quick.free(&mut cache, block.at, Some(block.header.generation())).expect("live");
                }
                // SAFETY: one heap for each cache, and its own geometry.
                let again = unsafe {
                    let found = quick.look_to_free(&cache, block.at, quick.layout());
                    [block.header, found].map(|header| quick.free_next(&mut cache, block.at, header, quick.layout()))
                };
                assert_eq!(again, [false; 2], "S5: a second time");
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
                    // SAFETY: one heap for each cache, and its own geometry.
                    let mut free =
                        |header, typed| unsafe { quick.free_own(&mut cache, block.at, header, typed, layout) };
                    assert!(!free(stale, typed), "S5: another generation");
                    assert!(!free(block.header, !typed), "S5: of another kind");
                    let freed = free(block.header, typed);
                    assert!(freed || !cache.stacks[size as usize].has_room(), "{size} {kind:?}");
                    if !freed {
                        quick.free(&mut cache, block.at, Some(block.header.generation())).expect("live");
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
