//! Allocate: a quick step for a parked block of the thread's own (`_own`), a second one for larger sizes and large
//! blocks (`_next`), then one thorough step for all. The calls are drawn in [`super::heap`].

use super::block_header::{Header, State, place};
use super::operation::Held;
use super::runs::Fit;
use super::thread_cache::ThreadCache;
use super::words::{Exhausted, Heap, Kind, Live};
use crate::backend::{Backend, Reach};
use crate::segment::layout::{Geometry, Granule};
use crate::segment::region::Region;
use crate::segment::size_class::{Bin, EXACT, LARGEST_BIN};

impl<R: Region> Heap<R> {
    /// Allocates at least `size` granules at a multiple of `align` granules (a power of two).
    ///
    /// O(1) where a parked or a hinted block serves. When nothing fits, the own stack is flushed and the sector swept,
    /// and only then is the answer no.
    ///
    /// # Errors
    /// [`Exhausted`] when no block fits.
    #[inline]
    pub fn allocate(&self, cache: &mut ThreadCache, size: u32, align: u32, kind: Kind) -> Result<Live, Exhausted> {
        self.allocate_within(Reach::System, cache, size, align, kind)
    }

    /// The same by fences of this reach. For who has something else to try before one that takes milliseconds:
    /// with [`Reach::Process`], what other processes' caches have parked is left to them.
    ///
    /// # Errors
    /// As for [`Heap::allocate`].
    #[inline]
    pub(crate) fn allocate_within(
        &self,
        reach: Reach,
        cache: &mut ThreadCache,
        size: u32,
        align: u32,
        kind: Kind,
    ) -> Result<Live, Exhausted> {
        debug_assert!(align <= 1 || align.is_power_of_two(), "at a multiple of {align}");
        let size = size.max(self.least());
        let mask = align.max(1) - 1;
        if let Some(live) = self.allocate_parked_at(cache, size, mask, kind) {
            return Ok(live);
        }
        if let Some(live) = self.large().pop_large(cache, size, mask, kind) {
            return Ok(live);
        }
        self.allocate_by_search(reach, cache, Fit { size, align }, kind)
    }

    /// The quick step: the cache's own block of `size` granules (a span's at least) from its own stack,
    /// without a locked instruction, if the newest there is one at a multiple of `mask` + 1 granules; else
    /// nothing was done.
    ///
    /// # Safety
    /// The cache was never used with another heap, and the geometry is this heap's.
    #[inline(always)]
    pub unsafe fn allocate_own(
        &self,
        cache: &mut ThreadCache,
        size: usize,
        mask: u32,
        kind: Kind,
        geometry: &impl Geometry,
    ) -> Option<Live> {
        if size >= EXACT as usize {
            return None;
        }
        // SAFETY: the caller's.
        unsafe { self.revive_newest(cache, (size, size as u32), mask, kind, geometry) }
    }

    /// As [`Heap::allocate_own`], for a block of more granules: from the own stack, or a large one by one
    /// compare-and-swap. [`Live::NONE`]: nothing was done.
    ///
    /// # Safety
    /// As for [`Heap::allocate_own`].
    #[inline(always)]
    pub unsafe fn allocate_next(
        &self,
        cache: &mut ThreadCache,
        size: usize,
        mask: u32,
        kind: Kind,
        geometry: &impl Geometry,
    ) -> Live {
        if let Some(bin) = self.layout().large_bin_of(size, geometry) {
            return self.large().pop_large_from(cache, bin, size as u32, mask, kind);
        }
        // SAFETY: the caller's.
        unsafe { self.allocate_middle(cache, size, mask, kind, geometry) }
    }

    /// The same for a block of a bin that several sizes share.
    ///
    /// # Safety
    /// As for [`Heap::allocate_own`].
    #[inline(never)]
    unsafe fn allocate_middle(
        &self,
        cache: &mut ThreadCache,
        size: usize,
        mask: u32,
        kind: Kind,
        geometry: &impl Geometry,
    ) -> Live {
        if size < EXACT as usize || size > LARGEST_BIN as usize {
            return Live::NONE;
        }
        let Some(bin) = self.layout().bin_at_least(size as u32) else { return Live::NONE };
        // SAFETY: the caller's.
        unsafe { self.revive_newest(cache, (bin.0, bin.size()), mask, kind, geometry) }.unwrap_or(Live::NONE)
    }

    /// The newest block of the stack, whose blocks have `size` granules.
    ///
    /// # Safety
    /// As for [`Heap::allocate_own`].
    #[inline(always)]
    unsafe fn revive_newest(
        &self,
        cache: &mut ThreadCache,
        (stack, size): (usize, u32),
        mask: u32,
        kind: Kind,
        geometry: &impl Geometry,
    ) -> Option<Live> {
        let (hazard, own_live_header, shift) = (cache.hazard, cache.own_live_header, geometry.span_shift());
        let stack = cache.stacks.get_mut(stack)?;
        let newest = stack.top.wrapping_sub(1);
        let g = Granule(*stack.items.get(newest as usize)?);
        // Indices on stacks are in range, and what is below the oldest is not: a branch costs less than a clamp.
        if g.0 >= cache.granules || g.0 & mask != 0 {
            return None;
        }
        // SAFETY: the cache is bound, to this heap, says the caller: it has as many granules, spans like
        // these, and these words.
        let header = unsafe {
            let word = self.region().header_in_range(g, geometry);
            self.revive(hazard, own_live_header, g, word, size, kind, shift)
        }?;
        stack.top = newest;
        Some(Live { at: g, header })
    }

    /// Makes the parked block at `g` live again by a plain store, if it is the cache's own, of `size`
    /// granules. The live header.
    ///
    /// # Safety
    /// As for `Bias::change_own`. `word` is the header of `g`.
    #[inline(always)]
    #[expect(
        clippy::too_many_arguments,
        reason = "the quick step and the thorough one know some of them when they are compiled"
    )]
    unsafe fn revive(
        &self,
        hazard: u32,
        own_live_header: u64,
        g: Granule,
        word: &<R::Backend as Backend>::Word,
        size: u32,
        kind: Kind,
        shift: u32,
    ) -> Option<Header> {
        const RAW: u64 = Header::new(State::Allocated, 0, 0, 0).0;
        let at = place(g.0 & ((1 << shift) - 1), 0);
        // The live header, but for the generation.
        let (becoming_live, expected) = match kind {
            Kind::Raw => {
                (const { Header::becoming_live(State::Allocated, 0, 0) }, own_live_header | u64::from(at | size))
            }
            Kind::Typed(_) => {
                let spans = (g.plus(size).0 >> shift) - (g.0 >> shift);
                let (state, low) = kind.state_of(at | size, spans);
                let other_state = Header::new(state, 0, 0, 0).0.wrapping_sub(RAW);
                let expected = own_live_header.wrapping_add(other_state) | u64::from(low);
                (Header::becoming_live(state, at | size, low), expected)
            }
        };
        // By an example: this cache is 5, the block is of 7 granules, parked in generation 9. The word is
        // ACKED(5, 9, 7); one addition makes it `live`, ALLOCATED(5, 10, 7). `expected` is ALLOCATED(5, 0, 7), so
        // `live` differs from it in the generation alone, 10. Whatever else stood there differs in some other field,
        // too.
        let revive = |header: Header| {
            let live = header.0.wrapping_add(becoming_live);
            let generation = live ^ expected;
            // Put together anew, so that whoever asks it for its size need not wait for the word from memory.
            let handed_out = Header(expected | generation);
            (Header(generation).meaning() == 0 && generation != 0).then_some((Header(live), handed_out))
        };
        // Two closures: one that is small is compiled into its place.
        match kind {
            // SAFETY: the caller's.
            Kind::Raw => unsafe { self.bias().change_own(hazard, g, word, false, revive) },
            Kind::Typed(_) => {
                let change = |header| revive(header).inspect(|(_, live)| self.label(g, live.state(), kind));
                // SAFETY: the caller's.
                unsafe { self.bias().change_own(hazard, g, word, false, change) }
            }
        }
    }

    /// A block of at least `size` granules from the cache's own stack: at most one read-modify-write.
    #[inline]
    pub fn allocate_parked(&self, cache: &mut ThreadCache, size: u32, kind: Kind) -> Option<Live> {
        self.allocate_parked_at(cache, size, 0, kind)
    }

    /// The same, at a multiple of `mask` + 1 granules.
    #[inline]
    fn allocate_parked_at(&self, cache: &mut ThreadCache, size: u32, mask: u32, kind: Kind) -> Option<Live> {
        let bin = self.layout().bin_at_least(size)?;
        if !cache.has_parked(bin) {
            return None;
        }
        self.pop(cache, bin, mask, kind)
    }

    /// A parked block of the bin from the own stack, whatever has become of the indices there.
    #[inline(never)]
    fn pop(&self, cache: &mut ThreadCache, bin: Bin, mask: u32, kind: Kind) -> Option<Live> {
        let (hazard, shift, size) = (self.bias().hazard_of(cache), self.layout().span_shift, bin.size());
        while let Some(g) = cache.stacks[bin.0].pop_aligned(mask) {
            // SAFETY: `hazard_of`, if it is not 0, is this heap's word of the cache's slot.
            let own = || unsafe { self.revive(hazard, cache.own_live_header, g, self.header(g), size, kind, shift) };
            let own = if hazard == 0 { None } else { own() };
            if let Some(header) = own.or_else(|| self.claim_parked(cache.owner, g, size, kind)) {
                return Some(Live { at: g, header });
            }
            self.made().dropped(cache);
        }
        None
    }

    #[cold]
    #[inline(never)]
    fn allocate_by_search(
        &self,
        reach: Reach,
        cache: &mut ThreadCache,
        fit: Fit,
        kind: Kind,
    ) -> Result<Live, Exhausted> {
        match self.find_hinted(cache, fit.size, fit.align, kind) {
            Ok(live) => Ok(live),
            Err((asked, _)) if asked.size > self.layout().granules => Err(self.exhausted()),
            Err((asked, wanted)) => {
                let held = self.last_try(reach, cache, asked, wanted)?;
                Ok(self.hand_out(cache, held, wanted, kind))
            }
        }
    }

    /// As [`Heap::allocate`], without the last try: from what is parked for this cache, or hinted. No walk.
    pub(crate) fn allocate_unswept(&self, cache: &mut ThreadCache, size: u32, align: u32, kind: Kind) -> Option<Live> {
        debug_assert!(align <= 1 || align.is_power_of_two(), "at a multiple of {align}");
        let size = size.max(self.least());
        let mask = align.max(1) - 1;
        let parked = self.allocate_parked_at(cache, size, mask, kind);
        let parked = parked.or_else(|| self.large().pop_large(cache, size, mask, kind));
        parked.or_else(|| self.find_hinted(cache, size, align, kind).ok())
    }

    /// From what is parked in the transfer cache, or hinted. Else what would do, and what was looked for in
    /// vain: as much as the bin's blocks have, if it is one to be parked later.
    fn find_hinted(&self, cache: &mut ThreadCache, size: u32, align: u32, kind: Kind) -> Result<Live, (Fit, Fit)> {
        self.bias().bind(cache);
        // A block cut at a multiple of its alignment begins a span: what is in front has its own.
        let align = if align > 1 { align.max(self.least()) } else { 1 };
        let asked = Fit { size, align };
        let granules = self.layout().granules;
        if size > granules {
            return Err((asked, asked));
        }
        let bin = self.layout().bin_at_least(size).filter(|bin| cache.parks() && bin.size() <= granules);
        let parks = bin.filter(|_| align == 1);
        // An aligned one, too, has a bin's size: so it is parked when it is freed, and the next request of
        // its kind can have it.
        let size = bin.map_or(size, Bin::size);
        while let Some(bin) = parks
            && self.parking().take_batch(cache, bin)
        {
            if let Some(live) = self.allocate_parked(cache, size, kind) {
                return Ok(live);
            }
        }
        let large = cache.parks() && self.layout().large_bin(size).is_some();
        while large && self.large().take_large_home(cache) {
            if let Some(live) = self.large().pop_large(cache, size, align - 1, kind) {
                return Ok(live);
            }
        }
        let least = Fit { size, ..asked };
        let wanted = if large { Fit { size: self.large().rounded(cache, size), ..asked } } else { least };
        let room = wanted.room();
        let held = match (parks, bin) {
            (Some(bin), _) => self.runs().carve(cache, bin, room),
            // All blocks of such a run are at multiples.
            (None, Some(bin)) if align <= self.least() && size.is_multiple_of(align) => {
                self.runs().carve(cache, bin, room)
            }
            _ => self.runs().find_and_take(cache, room),
        };
        held.map(|held| self.hand_out(cache, held, wanted, kind)).ok_or((asked, least))
    }

    /// Hands out what was looked for of a held block, and gives back what is left of it.
    fn hand_out(&self, cache: &mut ThreadCache, held: Held, wanted: Fit, kind: Kind) -> Live {
        let held = self.runs().trim(cache, held, wanted.size, wanted.align);
        self.retype(cache, held.at, held.header, kind)
    }

    /// Nothing was hinted that surely fits: unless as much was refused before and nothing was given back since
    /// (matrix::refusals), take one that begins well; or merge what this cache has parked, then everything, and take
    /// the first block that fits at all, without room to spare for alignment or class (L2).
    #[cold]
    fn last_try(&self, reach: Reach, cache: &mut ThreadCache, asked: Fit, wanted: Fit) -> Result<Held, Exhausted> {
        if let Some(known) = self.refusing().recall(cache, asked) {
            return known;
        }
        if let Some(held) = self.runs().find_and_take_aligned(cache, asked) {
            return Ok(held);
        }
        self.parking().flush_near(cache);
        let held = self.runs().find_and_take(cache, wanted.room());
        let held = held.or_else(|| self.runs().find_and_take_aligned(cache, asked));
        held.map_or_else(|| self.refusing().sweep_for(reach, cache, asked), Ok)
    }

    pub(super) fn exhausted(&self) -> Exhausted {
        let tally = self.tally().unwrap_or_default();
        let free = tally.free.granules + tally.parked.granules + tally.in_flight.granules;
        Exhausted { free, largest: tally.largest_free }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::decorators::{Probe, stopped_at};
    use crate::backend::orderings::HELD_STORE;
    use crate::backend::{Native, Word};
    use crate::matrix::sweep::SWEPT;
    use crate::matrix::tests::biased;
    use crate::matrix::thread_cache::STACK;
    use crate::segment::layout::{Layout, Params};
    use crate::segment::region::BoxedRegion;
    use crate::segment::size_class::of_size;

    /// The only free block is of the asked size's class, and smaller ones are as well: it is found by its hint.
    #[test]
    fn l2_a_block_of_the_sizes_own_class_is_found_without_a_walk() {
        let sectors = (33..64).filter_map(|kib| Layout::fit(kib << 10, Params::for_segment(kib << 10)));
        let size = |layout: &Layout| layout.granules - 4;
        let in_one_class = |layout: &Layout| of_size(size(layout)) == of_size(layout.granules);
        let layout = sectors.into_iter().find(in_one_class).expect("most do not end where a class begins");
        let size = size(&layout);
        let heap = Heap::format(BoxedRegion::<Native>::new(layout));
        let before = SWEPT.get();
        let block = heap.allocate(&mut ThreadCache::new(1), size, 1, Kind::Raw).expect("there is one");
        assert_eq!((block.header.size() >= size, SWEPT.get()), (true, before));
    }

    /// No free block has room for an aligned one wherever that begins. One has it where it does begin, beyond those at
    /// both ends that have not, and beyond the words that have these: it is found without a walk.
    #[test]
    fn l4_an_aligned_block_that_begins_well_is_found_without_a_walk() {
        let layout = Layout::fit(4 << 20, Params::for_segment(4 << 20)).expect("room for a sector");
        let spacer = 16 + (layout.granules + 8) % 16;
        let heap = Heap::format(BoxedRegion::<Native>::new(layout));
        let mut cache = ThreadCache::with_ceiling(1, 0);
        let allocate = |cache: &mut ThreadCache, size| heap.allocate(cache, size, 1, Kind::Raw).ok();
        allocate(&mut cache, spacer).expect("room");
        let mut blocks: Vec<Granule> = std::iter::from_fn(|| Some(allocate(&mut cache, 96)?.at)).collect();
        blocks.sort_unstable();
        let (first, middle) = (blocks[0], blocks.len() / 2);
        assert!(blocks.iter().skip(1).all(|at| at.0 % 16 == 8) && first.0 < 200);
        let free = |cache: &mut ThreadCache, at| heap.free(cache, at, None).expect("live");
        // 102 granules, and 8 of them before a multiple of 16.
        free(&mut cache, blocks[middle]);
        free(&mut cache, blocks[middle + 1]);
        let behind = allocate(&mut cache, 90).expect("room").at;
        assert_eq!(behind, blocks[middle].plus(102));
        // Of the same class, without room at any multiple.
        for at in [2, 8, 14] {
            free(&mut cache, blocks[at]);
            free(&mut cache, blocks[blocks.len() - 1 - at]);
        }
        let before = SWEPT.get();
        // By another, which does not know what was freed.
        let mut another = ThreadCache::with_ceiling(2, 0);
        let block = heap.allocate(&mut another, 94, 16, Kind::Raw).expect("there is one");
        assert_eq!((block.at, SWEPT.get()), (blocks[middle].plus(8), before));
    }

    /// A block that is live has its fingerprint, at whichever access its allocation stopped, on whichever way
    /// it was found: whoever frees it by its offset may have merged it before the allocation goes on.
    #[test]
    fn s4_no_block_is_live_before_its_fingerprint_stands() {
        const FINGERPRINT: u32 = 0x123_4567;
        let params = Params { biased: true, participants: 4, ..Params::for_segment(64 << 10) };
        let layout = Layout::fit(64 << 10, params).expect("room for a sector");
        let mut stops = 0;
        for way in 0..4 {
            let (mut ends, mut k) = (false, 0);
            while !ends {
                let heap = Heap::format(BoxedRegion::<Probe<Native>>::new(layout.clone()));
                let mut cache = ThreadCache::with_ceiling(1, if way == 0 { 0 } else { STACK });
                if way > 0 {
                    let block = heap.allocate(&mut cache, 12, 1, Kind::Raw).expect("room");
                    heap.free(&mut cache, block.at, None).expect("live");
                }
                if way == 3 {
                    let at = Granule(cache.stacks[12].items[cache.stacks[12].top as usize - 1]);
                    heap.header(at).store(Header::new(State::Acked, 0, 5, heap.place(at, 12)).0, &HELD_STORE);
                }
                ends = stopped_at(k, || {
                    let quick = match way {
                        // SAFETY: one heap, and its own geometry.
                        1 => unsafe { heap.allocate_own(&mut cache, 12, 0, Kind::Typed(FINGERPRINT), heap.layout()) },
                        _ => None,
                    };
                    quick.is_some() || heap.allocate(&mut cache, 12, 1, Kind::Typed(FINGERPRINT)).is_ok()
                })
                .is_some();
                let mut live = 0;
                heap.walk(|at, header| {
                    if header.is_live() {
                        live += 1;
                        assert_eq!(heap.fingerprint(Live { at, header }), Some(FINGERPRINT), "{way}, stopped at {k}");
                    }
                })
                .expect("S4");
                assert!(live == 1 || !ends, "{way}");
                stops += live;
                k += 1;
            }
        }
        assert!(stops >= 4, "{stops}");
    }

    /// A parked block of the last generation, one generation on, looks like a live one of the next cache: S1
    /// if that cache has a stale index.
    #[test]
    fn s1_a_generation_that_wraps_makes_nobody_else_the_owner() {
        let heap = biased(1 << 20, 16);
        for (of, next) in [(4, 5), (0, 1)] {
            let (mut cache, mut first) = (ThreadCache::new(next), ThreadCache::new(of.max(1) + 7));
            heap.bias().bind(&mut cache);
            let block = heap.allocate(&mut first, 8, 1, Kind::Raw).expect("room");
            let last = Header(u64::MAX).generation();
            let parked = Header::new(State::Acked, of, last, heap.place(block.at, 8));
            heap.header(block.at).store(parked.0, &HELD_STORE);
            assert!(cache.stacks[8].push(block.at));
            // SAFETY: one heap, and its own geometry.
            let quick = unsafe { heap.allocate_own(&mut cache, 8, 0, Kind::Raw, heap.layout()) };
            assert_eq!(quick, None, "S1: a block of {of}'s");
            let slow = heap.pop(&mut cache, Bin(8), 0, Kind::Raw).map(|live| live.header);
            match of {
                0 => assert_eq!(slow.map(|header| (header.owner(), header.generation())), Some((next, 0))),
                _ => assert_eq!(slow, None, "S1: a block of {of}'s"),
            }
        }
    }
}
