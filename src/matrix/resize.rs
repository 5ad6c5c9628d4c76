//! Resize: a live block grows over what is free behind it, or gives its end back, and stays where it is.
//!
//! The owner takes its block into its hands for the while (ALLOCATED → COALESCING, one compare-and-swap on what
//! it knows of it): whoever else would free or adopt it now finds no live block. Then its steps are those of
//! a held block, which nobody else changes, and the last one makes it live again, two to four generations on. So
//! to whoever keeps an older pointer, the block was freed and its place allocated anew.
//!
//! **Grow.** What is free behind it is taken *first*, whole, as an allocation takes it: without that, nothing
//! has changed. Then the block's word covers both, and only then the head that stands inside is erased (S4;
//! a cut up run has such heads, too, and a recovery erases them). What is too much is given back.
//!
//! Only what is no larger than the block will be is taken: so a grower that stops hides no more than an
//! allocation of its size does (L2). A larger one could be taken whole only, and would be hidden meanwhile.
//!
//! **Shrink.** The end gets a head under the block's own extent, then the block's word shrinks, then the end
//! is parked and merged: as large as it may be, nobody holds it.
//!
//! *Killed* on the way, the block is what its owner held alone: its recovery frees it, by either policy (C1).
//! L1: there is no loop; who loses a compare-and-swap says so, and the caller moves the block instead.

use super::block_header::{Header, State};
use super::operation::Held;
use super::size_class::Bin;
use super::thread_cache::ThreadCache;
use super::words::{Heap, Kind, Live, view};
use crate::backend::orderings::{CLAIM, HELD_STORE};
use crate::backend::{Backend, Mutant, Word};
use crate::segment::layout::Granule;
use crate::segment::region::Region;

view! {
    /// How a live block changes its size where it is.
    pub struct Resizing, resizing
}

impl<R: Region> Resizing<'_, R> {
    /// Gives the cache's own live block `size` granules at least, where it is: the block as it is now. None if
    /// there is no room behind it, or it is not this cache's: then nothing has changed. O(1), but for the
    /// merging of what is given back.
    pub fn resize(self, cache: &mut ThreadCache, live: Live, size: u32) -> Option<Live> {
        self.heap.bias().bind(cache);
        let least = size.max(self.heap.least());
        // As an allocation would: so it is parked when it is freed.
        let bin = self.heap.layout().bin_at_least(least).filter(|_| cache.parks());
        let wanted = bin.map_or(least, Bin::size);
        let has = live.header.size();
        if live.header.owner() != cache.owner() || !live.header.is_live() {
            None
        } else if has < least {
            self.grow(cache, live, least, wanted)
        } else {
            self.shrink(cache, live, wanted.min(has))
        }
    }

    /// Makes the cache's own live block one of this kind. None if it has changed, and nothing was done.
    pub fn label_as(self, cache: &mut ThreadCache, live: Live, kind: Kind) -> Option<Live> {
        let held = if live.header.owner() == cache.owner() { self.hold(cache, live)? } else { return None };
        Some(self.heap.retype(cache, held.at, held.header, kind))
    }

    fn grow(self, cache: &mut ThreadCache, live: Live, least: u32, wanted: u32) -> Option<Live> {
        let kind = self.kind_of(live);
        let right = self.take_behind(cache, live, least, wanted)?;
        let Some(block) = self.hold(cache, live) else {
            self.heap.operations().ripple(cache, right);
            return None;
        };
        let both = self.annex(cache, block, right);
        Some(self.end_at(cache, both, wanted, kind))
    }

    fn shrink(self, cache: &mut ThreadCache, live: Live, wanted: u32) -> Option<Live> {
        if !self.has_end(live.at, live.header.size(), wanted) {
            return Some(live);
        }
        let kind = self.kind_of(live);
        let block = self.hold(cache, live)?;
        Some(self.end_at(cache, block, wanted, kind))
    }

    fn kind_of(self, live: Live) -> Kind {
        self.heap.fingerprint(live).map_or(Kind::Raw, Kind::Typed)
    }

    /// Whether what a block of `size` granules has behind the first `wanted` has a span of its own.
    fn has_end(self, at: Granule, size: u32, wanted: u32) -> bool {
        size > wanted && self.heap.spans(at.plus(wanted), size - wanted) > 0
    }

    /// Takes what is free behind the block, if that is enough for `least` granules together and has no more
    /// than `most`.
    fn take_behind(self, cache: &mut ThreadCache, live: Live, least: u32, most: u32) -> Option<Held> {
        let (behind, has) = (live.at.plus(live.header.size()), live.header.size());
        let right = self.heap.look(behind);
        let size = right.size();
        let bounded = R::Backend::check(size <= most, Mutant::AnnexUnbounded);
        if !self.heap.fits_sector(behind, right) || has.saturating_add(size) < least || !bounded {
            return None;
        }
        match right.state() {
            State::Free => self.heap.operations().take(cache, behind, right, size),
            State::Acked if self.heap.bias().may_take(cache.owner(), right) => {
                self.heap.operations().hold(cache, behind, right)
            }
            _ => None,
        }
    }

    /// Takes the cache's own live block into its hands.
    fn hold(self, cache: &ThreadCache, live: Live) -> Option<Held> {
        let place = self.heap.place(live.at, live.header.size());
        let header = Header::new(State::Coalescing, cache.owner(), live.header.next_generation(), place);
        let word = self.heap.header(live.at);
        if R::Backend::mutated(Mutant::ResizedUnheld) {
            word.store(header.0, &HELD_STORE);
            return Some(Held { at: live.at, header });
        }
        word.cas(live.header.0, header.0, &CLAIM).is_ok().then_some(Held { at: live.at, header })
    }

    /// Makes one held block of two that are neighbours.
    fn annex(self, cache: &mut ThreadCache, left: Held, right: Held) -> Held {
        let place = self.heap.place(left.at, left.header.size() + right.header.size());
        let both = Header::new(State::Coalescing, cache.owner(), left.header.next_generation(), place);
        let erased = Header::new(State::Inside, self.heap.tag(cache), right.header.next_generation(), 0);
        let erase = || self.heap.header(right.at).store(erased.0, &HELD_STORE);
        let erased_first = R::Backend::mutated(Mutant::AnnexErasedFirst);
        if erased_first {
            erase();
        }
        // Its head is hidden under the block's extent from here on (S4).
        self.heap.header(left.at).store(both.0, &HELD_STORE);
        if !erased_first && R::Backend::takes(Mutant::AnnexHeadKept) {
            erase();
        }
        Held { at: left.at, header: both }
    }

    /// Makes a held block live, with `wanted` granules if what is behind them can go back.
    fn end_at(self, cache: &mut ThreadCache, held: Held, wanted: u32, kind: Kind) -> Live {
        if !self.has_end(held.at, held.header.size(), wanted) {
            return self.heap.retype(cache, held.at, held.header, kind);
        }
        let (block, end) = self.heap.operations().split_held(cache, held, wanted);
        let live = self.heap.retype(cache, block.at, block.header, kind);
        // Open to everybody from here on, as large as it may be (L2).
        let place = self.heap.place(end.at, end.header.size());
        let parked = Header::new(State::Acked, cache.owner(), end.header.generation(), place);
        self.heap.header(end.at).store(parked.0, &HELD_STORE);
        self.heap.news().gave(cache);
        self.heap.operations().coalesce(cache, end.at, parked);
        live
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Native;
    use crate::backend::decorators::{Probe, set_mutant, stopped_at};
    use crate::backend::orderings::RESIZE_MUTANTS;
    use crate::matrix::recovery::Policy;
    use crate::segment::layout::{Layout, Params};
    use crate::segment::region::BoxedRegion;
    use crate::segment::size_class::Larges;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    type Probed = Heap<BoxedRegion<Probe<Native>>>;
    const GRANULES: u32 = 4096;

    fn heap(shift: u32, biased: bool) -> Probed {
        let params = Params {
            granule_shift: shift,
            participants: 4,
            batches: 2,
            directory: 0,
            header_words: 2,
            line_words: 1,
            biased,
            larges: Larges::USUAL,
        };
        Heap::format(BoxedRegion::new(Layout::new(GRANULES, params)))
    }

    /// Three neighbours in the order of the sector; the last one is cut off the tail first.
    fn three(heap: &Probed, cache: &mut ThreadCache, sizes: [u32; 3], kind: Kind) -> [Live; 3] {
        let [left, middle, right] = sizes;
        let right = heap.allocate(cache, right, 1, Kind::Raw).expect("room");
        let middle = heap.allocate(cache, middle, 1, Kind::Raw).expect("room");
        [heap.allocate(cache, left, 1, kind).expect("room"), middle, right]
    }

    /// Any blocks are resized, allocated and freed in any order: no two overlap, each has what was asked for,
    /// its type is its own, and in the end all is one block.
    #[test]
    fn s1_s2_blocks_keep_apart_while_they_grow_and_shrink() {
        let (mut grown, mut shrunk, mut typed) = (0, 0, 0);
        for (ceiling, shift, biased) in [(0, 6, false), (30, 6, true), (0, 4, true), (30, 4, false), (30, 4, true)] {
            let (heap, mut cache, mut random) = (heap(shift, biased), ThreadCache::with_ceiling(1, ceiling), 7u64);
            let mut below = |n: u32| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((random >> 33) % u64::from(n)) as u32
            };
            let mut owners = vec![0u32; GRANULES as usize];
            let mut mark = |block: Live, from: u32, to: u32| {
                for owner in &mut owners[block.at.index()..][..block.header.size() as usize] {
                    assert_eq!(std::mem::replace(owner, to), from, "S1: {block:?}");
                }
            };
            let mut live: Vec<(Live, Kind, u32)> = vec![];
            for number in 1..30_000 {
                let most = [8, 40, 300][below(3) as usize];
                let size = 1 + below(most);
                let at = below(live.len().max(1) as u32) as usize;
                match below(10) {
                    0..4 => {
                        let kind = if below(2) == 0 { Kind::Raw } else { Kind::Typed(size) };
                        let Ok(block) = heap.allocate(&mut cache, size, 1, kind) else { continue };
                        mark(block, 0, number);
                        live.push((block, kind, number));
                    }
                    4..7 if !live.is_empty() => {
                        let (block, _, of) = live.swap_remove(at);
                        mark(block, of, 0);
                        heap.free(&mut cache, block.at, Some(block.header.generation())).expect("live");
                    }
                    _ if !live.is_empty() => {
                        let (block, kind, of) = live[at];
                        let resized = heap.resizing().resize(&mut cache, block, size);
                        assert_eq!(heap.look(block.at), resized.unwrap_or(block).header);
                        let Some(now) = resized else { continue };
                        assert!(now.at == block.at && now.header.size() >= size, "S2: {now:?} for {size}");
                        mark(block, of, 0);
                        mark(now, 0, of);
                        assert_eq!(heap.fingerprint(now).map_or(Kind::Raw, Kind::Typed), kind);
                        if now != block {
                            let stale = heap.free(&mut cache, block.at, Some(block.header.generation()));
                            assert!(stale.is_err(), "S5: the pointer is of the block before");
                        }
                        grown += u32::from(now.header.size() > block.header.size());
                        shrunk += u32::from(now.header.size() < block.header.size());
                        typed += u32::from(now != block && kind != Kind::Raw);
                        live[at].0 = now;
                    }
                    _ => {}
                }
            }
            for (block, ..) in live {
                heap.free(&mut cache, block.at, None).expect("live");
            }
            heap.heal(&mut cache);
            let tally = heap.verify().expect("sound");
            assert_eq!((tally.free.blocks, tally.free.granules), (1, u64::from(GRANULES)), "L3");
        }
        println!("{grown} grew, {shrunk} shrank, {typed} of them typed");
        assert!(grown > 500 && shrunk > 1000 && typed > 1000, "{grown} {shrunk} {typed}");
    }

    /// What one resizing is about.
    #[derive(Debug, Clone, Copy)]
    struct Case {
        shift: u32,
        /// Left, middle, right; the middle one is free, or parked.
        sizes: [u32; 3],
        ceiling: usize,
        kind: Kind,
        to: u32,
    }

    const CASES: &[Case] = &[
        // Over all of the middle one; over a part of it; with a type that moves into the next span.
        Case { shift: 6, sizes: [3, 4, 2], ceiling: 0, kind: Kind::Raw, to: 7 },
        Case { shift: 6, sizes: [3, 4, 2], ceiling: 0, kind: Kind::Typed(9), to: 5 },
        Case { shift: 6, sizes: [1, 1, 2], ceiling: 0, kind: Kind::Typed(9), to: 2 },
        Case { shift: 4, sizes: [5, 9, 6], ceiling: 0, kind: Kind::Typed(9), to: 11 },
        // Over what the owner has parked: the next block of the run.
        Case { shift: 4, sizes: [7, 7, 7], ceiling: 8, kind: Kind::Raw, to: 13 },
        // Larger than what is held while it is merged, and what is parked and large.
        Case { shift: 6, sizes: [100, 90, 2], ceiling: 0, kind: Kind::Raw, to: 150 },
        Case { shift: 6, sizes: [130, 125, 2], ceiling: 8, kind: Kind::Raw, to: 200 },
        // Shorter.
        Case { shift: 6, sizes: [9, 3, 2], ceiling: 0, kind: Kind::Typed(9), to: 1 },
        Case { shift: 4, sizes: [30, 8, 5], ceiling: 8, kind: Kind::Raw, to: 9 },
        Case { shift: 6, sizes: [300, 3, 2], ceiling: 0, kind: Kind::Raw, to: 20 },
    ];

    /// Stops the owner before each of its accesses; then `check` gets the heap, and what was done.
    fn at_every_stop(case: Case, biased: bool, mut check: impl FnMut(&Probed, [Live; 3], bool, &str)) -> u32 {
        for k in 0.. {
            let (heap, mut cache) = (heap(case.shift, biased), ThreadCache::with_ceiling(1, case.ceiling));
            let blocks = three(&heap, &mut cache, case.sizes, case.kind);
            heap.free(&mut cache, blocks[1].at, None).expect("live");
            let ended = stopped_at(k, || heap.resizing().resize(&mut cache, blocks[0], case.to));
            if let Some(resized) = ended {
                assert_eq!(resized.map(|live| live.header.size() >= case.to), Some(true), "{case:?}: the case is met");
            }
            check(&heap, blocks, ended.is_some(), &format!("{case:?}, biased {biased}, stopped at {k}"));
            if ended.is_some() {
                return k as u32;
            }
        }
        0
    }

    fn each_case(mut run: impl FnMut(Case, bool) -> u32) -> u32 {
        CASES.iter().flat_map(|&case| [(case, false), (case, true)]).map(|(case, biased)| run(case, biased)).sum()
    }

    fn tiles_cover_the_sector() -> u32 {
        each_case(|case, biased| {
            at_every_stop(case, biased, |heap, _, _, what| {
                let tally = heap.tally().unwrap_or_else(|fault| panic!("S4: {what}: {fault}"));
                assert_eq!(tally.granules, u64::from(GRANULES), "S4: {what}");
            })
        })
    }

    /// What a stopped owner hides: its block, and no more of what is free than it asked for.
    fn no_more_is_hidden_than_was_asked_for() -> u32 {
        // Behind the block is all the rest of the sector.
        let most = 2 * 300;
        each_case(|case, biased| {
            for k in 0.. {
                let (heap, mut cache) = (heap(case.shift, biased), ThreadCache::with_ceiling(1, 0));
                let rest = heap.allocate(&mut cache, GRANULES - 100, 1, Kind::Raw).expect("room");
                let live = heap.allocate(&mut cache, 50, 1, case.kind).expect("room");
                heap.free(&mut cache, rest.at, None).expect("live");
                let ended = stopped_at(k, || heap.resizing().resize(&mut cache, live, case.to));
                let other = &mut ThreadCache::with_ceiling(2, 0);
                heap.allocate(other, GRANULES - most, 1, Kind::Raw)
                    .unwrap_or_else(|e| panic!("L2: {case:?}, biased {biased}, stopped at {k}: {e:?}"));
                if ended.is_some() {
                    return k as u32;
                }
            }
            0
        })
    }

    /// Killed at every access, and its recoverer at some; nothing is missing, and no head stands where none should.
    fn nothing_is_lost(policy: Policy) -> u32 {
        let mut kills = 0;
        for deep in [Some(0), Some(3), Some(9), Some(20), Some(60), None] {
            kills += each_case(|case, biased| {
                at_every_stop(case, biased, |heap, _, _, what| {
                    if let Some(deep) = deep {
                        let mut cache = ThreadCache::with_ceiling(2, 0);
                        stopped_at(deep, || heap.recoveries().recover(&mut cache, 1, policy));
                        heap.recoveries().recover(&mut ThreadCache::with_ceiling(3, 0), 2, policy);
                    }
                    let cache = &mut ThreadCache::with_ceiling(3, 0);
                    heap.recoveries().recover(cache, 1, policy);
                    let mut kept = vec![];
                    heap.walk(|g, header| kept.extend(header.is_live().then_some(g))).expect(what);
                    // Its two blocks; in the middle of the resizing, the other one.
                    assert!(
                        policy == Policy::Keep && matches!(kept.len(), 1 | 2) || kept.is_empty(),
                        "{what}: {kept:?}"
                    );
                    kept.into_iter().for_each(|g| heap.free(cache, g, None).expect("live"));
                    heap.heal(cache);
                    let tally = heap.verify().unwrap_or_else(|fault| panic!("C1: {what}: {fault}"));
                    assert_eq!((tally.free.blocks, tally.free.granules), (1, u64::from(GRANULES)), "C1: {what}");
                    for g in (heap.least()..GRANULES).step_by(heap.least() as usize) {
                        let head = heap.look_at_span(heap.layout().span(Granule(g))).state();
                        assert_eq!(head, State::Inside, "a stale head at {g}: {what}");
                    }
                })
            });
        }
        kills
    }

    /// Another frees the block by its offset at the moment of every access of its owner's.
    fn freed_meanwhile() -> u32 {
        each_case(|case, biased| {
            at_every_stop(case, biased, |heap, blocks, ended, what| {
                // A stopped owner that goes on later is in the explorer; here it never does.
                let other = &mut ThreadCache::with_ceiling(2, 0);
                let freed = heap.free(other, blocks[0].at, None).is_ok();
                assert!(freed || !ended, "{what}: it is live again");
                heap.heal(other);
                let tally = heap.tally().unwrap_or_else(|fault| panic!("S4: {what}: {fault}"));
                assert_eq!(tally.granules, u64::from(GRANULES), "S4: {what}");
            })
        })
    }

    #[test]
    fn s4_tiles_cover_the_sector_wherever_a_resizing_stops() {
        let stops = tiles_cover_the_sector() + freed_meanwhile();
        println!("{stops} stops");
        assert!(stops > 400, "{stops}");
    }

    #[test]
    fn l2_a_stopped_grower_hides_no_more_than_it_asked_for() {
        no_more_is_hidden_than_was_asked_for();
    }

    #[test]
    fn c1_killed_at_every_step_of_a_resizing_and_recovered() {
        let kills = nothing_is_lost(Policy::GiveBack) + nothing_is_lost(Policy::Keep);
        println!("{kills} kills, nothing lost");
        assert!(kills > 2000, "{kills}");
    }

    #[test]
    fn mutant_resize_is_caught() {
        let checks: [(&str, fn()); 3] = [
            ("S4", || _ = tiles_cover_the_sector()),
            ("L2", || _ = no_more_is_hidden_than_was_asked_for()),
            ("C1", || _ = nothing_is_lost(Policy::GiveBack)),
        ];
        for &mutant in RESIZE_MUTANTS {
            set_mutant(Some(mutant));
            let caught = checks.iter().find(|(_, check)| catch_unwind(AssertUnwindSafe(check)).is_err());
            set_mutant(None);
            println!("mutant {mutant:?} | {:?}", caught.map(|(name, _)| name));
            // Takes another who frees the block meanwhile, and an owner that goes on: the schedules.
            assert!(caught.is_some() || mutant == Mutant::ResizedUnheld, "{mutant:?} survives");
        }
    }
}
