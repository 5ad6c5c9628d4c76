//! Refusals: a second refused request costs no walk over the blocks.
//!
//! A request that nothing parked or hinted serves is refused once it has looked at every block. As long as nobody gives
//! anything back (matrix::news), the next request for as much need not look again: it costs one look at each slot,
//! whatever the number of blocks. What the cache itself
//! has given back since is followed in matrix::made.
//!
//! Why no room is overlooked (L2): the refused one has read the counts before the sweep that was in vain. Let
//! a block be free when a later request begins, and fit. If its transition was counted when the counts were
//! read, the sweep saw it free, or saw what has become of it since, which was news or took it. Else its count
//! comes behind that reading; it has come by now, or its giver stands still in between, and hides what it is
//! freeing, as any participant does that is stopped in a free. What is not counted gives nothing that was not
//! free before: a cut, a mark, a join of two free blocks (a sweep leaves none beside each other). A sweep that
//! had to leave a block with its owner, who was about to store it, or that met damage, remembers nothing.

use super::operation::Held;
use super::runs::Fit;
use super::steal::FarSteal;
use super::sweep::Swept;
use super::thread_cache::ThreadCache;
use super::words::{Exhausted, Heap, view};
use crate::backend::{Backend, Mutant, Reach};
use crate::segment::layout::Granule;
use crate::segment::region::Region;

view! {
    /// What was refused before, and what is refused now.
    pub(super) struct Refusing, refusing
}

impl<R: Region> Refusing<'_, R> {
    /// What is known without a sweep of a request that nothing hinted serves: that it is refused, or a block that the
    /// cache has made since as much was refused. None: who asks has to look.
    pub(super) fn recall(self, cache: &mut ThreadCache, asked: Fit) -> Option<Result<Held, Exhausted>> {
        let own_news = self.heap.news().own_news(cache);
        let refused = cache.refused.as_deref()?;
        if !refused.asked.has_no_more_than(asked.size, asked.align) {
            return None;
        }
        if !R::Backend::check(refused.own_news == own_news, Mutant::NewsIgnored) {
            self.heap.parking().merge_own(cache);
        }
        // Behind the merging: what it did not find where it was parked, somebody has counted before taking it.
        let (before, now) = (cache.refused.as_deref()?.news_of_others, self.heap.news().news_of_others(cache));
        if !R::Backend::check(now == before, Mutant::NewsIgnored) {
            return None;
        }
        self.look_at_made(cache, asked)
    }

    /// Takes what fits from the blocks that the cache has made. None: somebody else may have had a hand in one.
    fn look_at_made(self, cache: &mut ThreadCache, asked: Fit) -> Option<Result<Held, Exhausted>> {
        let mut place = 0;
        while let Some(&(at, most)) = cache.refused.as_deref()?.made.get(place) {
            if most < asked.size {
                place += 1;
                continue;
            }
            let (g, header) = (Granule(at), self.heap.look(Granule(at)));
            if header.is_live() {
                cache.refused.as_deref_mut()?.made.swap_remove(place);
                continue;
            }
            if !header.is_free() || !self.heap.fits_sector(g, header) {
                self.heap.made().forget(cache);
                return None;
            }
            if let Some(tail) = self.heap.runs().tail_for(asked, g, header.size()) {
                let taken = self.heap.operations().take(cache, g, header, tail);
                if taken.is_none() {
                    self.heap.made().forget(cache);
                }
                return taken.map(Ok);
            }
            place += 1;
        }
        let own_news = self.heap.news().own_news(cache);
        let refused = cache.refused.as_deref_mut()?;
        refused.own_news = own_news;
        Some(Err(Exhausted { free: refused.free, largest: refused.largest }))
    }

    /// Takes the first block that fits at all, wherever it is (L2). What other processes' caches have parked is
    /// taken where nothing else serves, and by fences of that reach; then the sweep begins anew. A second sweep
    /// looks for what was given back behind the first. What is refused is remembered.
    pub(super) fn sweep_for(self, reach: Reach, cache: &mut ThreadCache, asked: Fit) -> Result<Held, Exhausted> {
        let mut sweeps = if R::Backend::takes(Mutant::SecondSweepDropped) { 2 } else { 1 };
        let (mut whole, mut said, mut far) = (None, Exhausted::default(), FarSteal::of(reach));
        while sweeps > 0 {
            let before = self.heap.news().news_of_others(cache);
            let mut seen = Swept::default();
            if let Some(held) = self.heap.sweep(cache, Some(asked), &mut seen) {
                return Ok(held);
            }
            said = seen.room;
            if seen.far && self.heap.stealing().steal_far(cache, &mut far) {
                continue;
            }
            sweeps -= 1;
            let left_out = seen.broken || seen.owned || seen.far;
            let behind = self.heap.news().news_of_others(cache);
            let read = if R::Backend::takes(Mutant::NewsReadLate) { before } else { behind };
            whole = (!left_out).then_some(read);
            if !left_out && read == behind {
                break;
            }
        }
        match whole {
            Some(news_of_others) => {
                // Nothing is parked any more: what waited for a fence is free.
                cache.limbo = None;
                self.remember(cache, news_of_others, asked, said);
            }
            None => self.heap.made().forget(cache),
        }
        Err(said)
    }

    fn remember(self, cache: &mut ThreadCache, news_of_others: u64, asked: Fit, said: Exhausted) {
        // What the cache itself has given back in a sweep, the sweep has looked at.
        let own_news = self.heap.news().own_news(cache);
        let refused = cache.refused.get_or_insert_default();
        if refused.news_of_others != news_of_others {
            (refused.asked, refused.made) = Default::default();
        }
        (refused.news_of_others, refused.own_news) = (news_of_others, own_news);
        (refused.free, refused.largest) = (said.free, said.largest);
        // As much was refused as the largest free block does not have.
        let beyond = u32::try_from(said.largest + 1).unwrap_or(u32::MAX);
        refused.asked.add(beyond, 1);
        refused.asked.add(asked.size, asked.align);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::decorators::{Counts, Probe, stopped_at};
    use crate::backend::orderings::FORMAT;
    use crate::backend::{Native, Word};
    use crate::matrix::heap::{Kind, Live};
    use crate::matrix::recovery::Policy;
    use crate::segment::layout::{Layout, Params};
    use crate::segment::region::BoxedRegion;

    type Counted = Heap<BoxedRegion<Probe<Native>>>;

    const ASKER: u16 = 1;
    const OWNER: u16 = 2;
    const OTHER: u16 = 3;

    fn heap(bytes: u64, biased: bool) -> Counted {
        let params = Params { biased, ..Params::for_segment(bytes) };
        Heap::format(BoxedRegion::new(Layout::fit(bytes, params).expect("room for a sector")))
    }

    /// How a block of the owner's is given back. The owner's cache, and the block.
    type Give = fn(&Counted, &mut ThreadCache, Live);

    fn free(heap: &Counted, cache: &mut ThreadCache, block: Live) {
        heap.free(cache, block.at, Some(block.header.generation())).expect("live");
    }

    /// Every way in which a block, or a part of one, ceases to be live, or held: with the block's granules, and of
    /// what is asked for.
    const WAYS: &[(&str, [u32; 2], Give)] = &[
        ("freed by its owner", [40; 2], free),
        ("freed by its owner at once", [40; 2], |heap, cache, block| {
            // SAFETY: one heap, and its own geometry.
            let quick = unsafe { heap.free_own(cache, block.at, block.header, false, heap.layout()) };
            if !quick {
                free(heap, cache, block);
            }
        }),
        ("freed by its owner, of a middle size", [104; 2], |heap, cache, block| {
            // SAFETY: one heap, and its own geometry.
            let quick = unsafe { heap.free_next(cache, block.at, block.header, heap.layout()) };
            if !quick {
                free(heap, cache, block);
            }
        }),
        ("freed by another at once", [40; 2], |heap, _, block| {
            let mut other = ThreadCache::new(OTHER);
            heap.bias().bind(&mut other);
            // SAFETY: one heap, to which the cache is bound, and its own geometry.
            let quick = unsafe { heap.free_next(&mut other, block.at, block.header, heap.layout()) };
            if !quick {
                free(heap, &mut other, block);
            }
        }),
        ("large, freed by its owner", [300; 2], free),
        ("large, freed by its owner for the second time", [300; 2], |heap, cache, block| {
            free(heap, cache, block);
            let again = heap.allocate(cache, 300, 1, Kind::Raw).expect("it is parked");
            // SAFETY: one heap, and its own geometry.
            let quick = unsafe { heap.free_next(cache, again.at, again.header, heap.layout()) };
            if !quick {
                free(heap, cache, again);
            }
        }),
        ("very large", [3000; 2], free),
        ("of no bin's size", [123; 2], free),
        ("freed by another", [40; 2], |heap, _, block| free(heap, &mut ThreadCache::new(OTHER), block)),
        ("large, freed by another", [300; 2], |heap, _, block| free(heap, &mut ThreadCache::new(OTHER), block)),
        ("very large, freed by another", [3000; 2], |heap, _, block| free(heap, &mut ThreadCache::new(OTHER), block)),
        ("freed for another", [40; 2], |heap, cache, block| {
            if !heap.free_to(cache, block, OTHER) {
                free(heap, cache, block);
            }
        }),
        ("large, freed for another", [300; 2], |heap, cache, block| assert!(heap.free_to(cache, block, OTHER))),
        ("freed without a number", [40; 2], |heap, _, block| heap.free_unaided(block.at, None).expect("live")),
        ("large, freed without a number", [300; 2], |heap, _, block| heap.free_unaided(block.at, None).expect("live")),
        ("its owner has died", [40; 2], |heap, _, _| {
            heap.recoveries().recover(&mut ThreadCache::new(OTHER), OWNER, Policy::GiveBack);
        }),
        ("its owner has died, and a newcomer walks without a number", [40; 2], |heap, _, _| {
            let dead = heap.recoveries().slots().bury(OWNER, OTHER);
            assert!(
                heap.recoveries()
                    .recover_predecessor(&mut crate::matrix::recovery::Recovery::of(vec![dead], Policy::GiveBack))
            );
        }),
        ("its owner has died in its free", [40; 2], |heap, cache, block| {
            let at =
                (0..).find(|&k| stopped_at(k, || free(heap, cache, block)).is_some() || !heap.look(block.at).is_live());
            assert!(at.is_some());
            heap.recoveries().recover(&mut ThreadCache::new(OTHER), OWNER, Policy::GiveBack);
        }),
        ("adopted by one who has died, and freed", [40; 2], |heap, _, block| {
            let adopted = heap.adoption().rename_from(OTHER, block.at, block.header, OTHER).expect("live");
            free(heap, &mut ThreadCache::new(OTHER), Live { header: adopted, ..block });
        }),
        ("shrunk where it is", [300, 40], |heap, cache, block| {
            let shrunk = heap.resizing().resize(cache, block, 104).expect("it is the owner's");
            assert_eq!((shrunk.at, shrunk.header.size()), (block.at, 104));
        }),
    ];

    /// Whoever was refused finds what has been given back since, however it was. Biased and not; by the
    /// asker's own number, too.
    #[test]
    fn l2_news_of_every_kind_is_noticed() {
        for (biased, &(way, [size, asked], give)) in
            [false, true].iter().flat_map(|b| WAYS.iter().map(move |w| (*b, w)))
        {
            for own in [false, true] {
                let heap = heap(256 << 10, biased);
                let (mut asker, mut other) = (ThreadCache::new(ASKER), ThreadCache::new(OWNER));
                let block = heap.allocate(&mut other, size, 1, Kind::Raw).expect("room");
                let mut filler = ThreadCache::new(4);
                while heap.allocate(&mut filler, 8, 1, Kind::Raw).is_ok() {}
                while heap.allocate(&mut filler, 4, 1, Kind::Raw).is_ok() {}
                for _ in 0..2 {
                    assert!(heap.allocate(&mut asker, asked, 1, Kind::Raw).is_err(), "{way}");
                }
                match own {
                    false => give(&heap, &mut other, block),
                    true => {
                        let adopted = heap.adoption().rename_from(ASKER, block.at, block.header, ASKER).expect("live");
                        free(&heap, &mut asker, Live { header: adopted, ..block });
                    }
                }
                assert!(heap.allocate(&mut asker, asked, 1, Kind::Raw).is_ok(), "{way}, biased {biased}, own {own}");
            }
        }
    }

    /// What is larger, or has a larger alignment, is refused as well without a look; what may fit is looked for.
    #[test]
    fn l2_a_refusal_counts_for_no_less() {
        let heap = heap(256 << 10, true);
        let (mut asker, mut other) = (ThreadCache::new(ASKER), ThreadCache::new(OWNER));
        let hole = heap.allocate(&mut other, 40, 1, Kind::Raw).expect("room");
        while heap.allocate(&mut other, 8, 1, Kind::Raw).is_ok() {}
        free(&heap, &mut other, hole);
        let mut ask = |size, align| {
            Counts::reset();
            let got = heap.allocate(&mut asker, size, align, Kind::Raw);
            (got.is_ok(), Counts::get().accesses())
        };
        let (first, walked) = ask(60, 1);
        assert!(!first);
        for (size, align) in [(60, 1), (61, 1), (60, 16), (5000, 256)] {
            let (served, accesses) = ask(size, align);
            assert!(!served && accesses * 4 < walked, "{size} at {align}: {accesses}, walked {walked}");
        }
        assert!(ask(39, 1).0, "there is room for less");
        assert!(!ask(60, 1).0);
    }

    /// A request that was refused for its alignment alone says nothing of one without.
    #[test]
    fn l2_an_aligned_refusal_counts_for_aligned_requests() {
        let heap = heap(256 << 10, false);
        let (mut asker, mut other) = (ThreadCache::new(ASKER), ThreadCache::new(OWNER));
        let mut blocks = vec![];
        while let Ok(block) = heap.allocate(&mut other, 8, 1, Kind::Raw) {
            blocks.push(block);
        }
        while heap.allocate(&mut other, 4, 1, Kind::Raw).is_ok() {}
        let odd = blocks.iter().find(|block| block.at.0 % 16 == 8).expect("every other one");
        free(&heap, &mut other, *odd);
        let mut ask = |size, align| heap.allocate(&mut asker, size, align, Kind::Raw).is_ok();
        assert!(!ask(8, 16));
        assert!(!ask(9, 1));
        assert!(ask(8, 8));
    }

    /// What was too small for one request serves the next.
    #[test]
    fn l2_what_was_made_serves_a_smaller_request() {
        for biased in [false, true] {
            let heap = heap(256 << 10, biased);
            let mut cache = ThreadCache::new(ASKER);
            let mut blocks = vec![];
            while let Ok(block) = heap.allocate(&mut cache, 8, 1, Kind::Raw) {
                blocks.push(block);
            }
            while heap.allocate(&mut cache, 4, 1, Kind::Raw).is_ok() {}
            // The hints serve nobody who asks for an alignment with so little to spare.
            let aligned = blocks.iter().find(|block| block.at.0 % 16 == 0).expect("every other one");
            free(&heap, &mut cache, *aligned);
            let mut ask = |size, align| heap.allocate(&mut cache, size, align, Kind::Raw).is_ok();
            assert!(!ask(9, 1));
            assert!(!ask(9, 1));
            assert!(ask(8, 16), "biased: {biased}");
        }
    }

    /// What a refusal says is free is what a walk counts: its sweep has counted it, after merging to both sides
    /// what others had parked.
    #[test]
    fn a_refusal_says_what_is_free() {
        for (biased, every) in [false, true].iter().flat_map(|b| [5, 7, 11, 13].map(|every| (*b, every))) {
            let heap = heap(256 << 10, biased);
            let (mut asker, mut other) = (ThreadCache::new(ASKER), ThreadCache::new(OWNER));
            let sizes = [4, 40, 8, 300, 12, 104].iter().cycle();
            let blocks: Vec<Live> =
                sizes.map_while(|&size| heap.allocate(&mut other, size, 1, Kind::Raw).ok()).collect();
            blocks.iter().skip(1).step_by(every).for_each(|&block| free(&heap, &mut other, block));
            let said = heap.allocate(&mut asker, 5000, 1, Kind::Raw).expect_err("too much");
            let counted = heap.tally().expect("at rest");
            assert_eq!((counted.parked.blocks, counted.in_flight.blocks), (0, 0));
            assert_eq!((said.free, said.largest), (counted.free.granules, counted.largest_free));
            assert!(said.free > said.largest && said.largest > 0, "{said:?}");
        }
    }

    /// Sizes of sectors in MiB; larger ones take seconds each.
    fn megabytes() -> Vec<u64> {
        let more: &[u64] = if std::env::var_os("MATRIX_BOUNDED").is_some() { &[256, 1024] } else { &[] };
        [&[1, 16, 64], more].concat()
    }

    /// L4: as long as nothing is given back, a refusal costs the same whatever the size of the sector and the number
    /// of blocks. With news it is one sweep: a few accesses for each block.
    #[test]
    fn l4_a_refusal_without_news_looks_at_no_block() {
        let mut most = 0;
        for megabytes in megabytes() {
            let heap = heap(megabytes << 20, true);
            let (mut asker, mut filler) = (ThreadCache::new(ASKER), ThreadCache::new(OWNER));
            let hole = heap.allocate(&mut filler, 4, 1, Kind::Raw).expect("room");
            while heap.allocate(&mut filler, 64, 1, Kind::Raw).is_ok() {}
            while heap.allocate(&mut filler, 4, 1, Kind::Raw).is_ok() {}
            let blocks = heap.tally().expect("at rest").live.blocks;
            let mut refused = |size| {
                Counts::reset();
                assert!(heap.allocate(&mut asker, size, 1, Kind::Raw).is_err());
                Counts::get().accesses()
            };
            let first = refused(4);
            free(&heap, &mut filler, hole);
            let with_news = refused(64);
            // The slots that were ever used, here all, are looked at once, or twice where it is asked how much may be
            // parked; the rest are the searches that come before.
            let slots = heap.layout().params.participants as u64;
            let most_here = [64, 64, 300, 5000].map(&mut refused).into_iter().max().expect("four") - 2 * slots;
            heap.word(heap.layout().highest()).store(3, &FORMAT);
            let few_slots = [64, 64, 300, 5000].map(refused).into_iter().max().expect("four");
            println!(
                "{megabytes} MiB, {blocks} blocks: refused at first with {first} accesses, with news {with_news}, \
                 without {few_slots} at most"
            );
            most = most.max(most_here).max(few_slots);
            for walk in [first, with_news] {
                assert!(blocks < walk && walk < 5 * blocks + 1000, "{walk} accesses, {blocks} blocks: one sweep");
            }
        }
        assert!(most < 200, "{most} accesses");
    }

    /// L4: requests of several alignments, none of which says anything of another, are remembered together.
    #[test]
    fn l4_refusals_at_all_alignments_are_remembered() {
        let heap = heap(256 << 10, true);
        let (mut asker, mut filler) = (ThreadCache::new(ASKER), ThreadCache::new(OWNER));
        let block = heap.allocate(&mut filler, 208, 256, Kind::Raw).expect("room");
        while heap.allocate(&mut filler, 8, 1, Kind::Raw).is_ok() {}
        while heap.allocate(&mut filler, 4, 1, Kind::Raw).is_ok() {}
        // From 8 granules behind a multiple of 256, 200 are free: as much as any of these asks for, at no multiple.
        heap.resizing().resize(&mut filler, block, 8).expect("it is the owner's");
        heap.word(heap.layout().highest()).store(3, &FORMAT);
        let mut refused = |(size, align)| {
            Counts::reset();
            assert!(heap.allocate(&mut asker, size, align, Kind::Raw).is_err(), "{size} at {align}");
            Counts::get().accesses()
        };
        let asked = [(201, 1), (193, 16), (177, 32), (145, 64), (81, 128), (73, 256)];
        let first = asked.map(&mut refused);
        let again = asked.map(&mut refused);
        println!("at first {first:?} accesses, then {again:?}");
        assert!(first.iter().all(|&walked| walked > 1000) && again.iter().all(|&accesses| accesses < 300));
        assert!(heap.allocate(&mut asker, 80, 128, Kind::Raw).is_ok(), "there is room for less");
    }

    /// Of many counts, the median and the 99th percentile.
    fn percentiles(mut counts: Vec<u64>) -> (u64, u64) {
        counts.sort_unstable();
        (counts[counts.len() / 2], counts[counts.len() * 99 / 100])
    }

    /// L4 of a cache that lives in a full sector: evict until there is room, then allocate. The accesses of a round,
    /// and those of a call; of so many of a hundred granules, by sizes and their alignment.
    fn rounds(megabytes: u64, fill: u32, sizes: std::ops::RangeInclusive<u32>, align: u32) -> [(u64, u64); 2] {
        let heap = heap(megabytes << 20, true);
        // As if three had ever joined: each slot that was is looked at.
        heap.word(heap.layout().highest()).store(3, &FORMAT);
        let (mut cache, mut dice) = (ThreadCache::new(ASKER), fastrand::Rng::with_seed(megabytes));
        let (mut live, mut granules) = (vec![], 0);
        while granules < heap.layout().granules / 100 * fill {
            let size = dice.u32(sizes.clone());
            let Ok(block) = heap.allocate(&mut cache, size, align, Kind::Raw) else { break };
            granules += size;
            live.push(block);
        }
        let mut calls = vec![];
        let round = |_| {
            let (size, mut all) = (dice.u32(sizes.clone()), 0);
            let mut count = || {
                let accesses = Counts::get().accesses();
                Counts::reset();
                calls.push(accesses);
                all += accesses;
            };
            Counts::reset();
            loop {
                free(&heap, &mut cache, live.swap_remove(dice.usize(..live.len())));
                count();
                let served = heap.allocate(&mut cache, size, align, Kind::Raw);
                count();
                if let Ok(block) = served {
                    live.push(block);
                    return all;
                }
            }
        };
        let rounds: Vec<u64> = (0..1000).map(round).collect();
        [percentiles(rounds), percentiles(calls)]
    }

    /// Of one size and alignment the next request has what was evicted, as in a sector that is half full. Where
    /// sizes differ, a round may take many evictions, but no call grows with the number of blocks: the cache knows
    /// what it has made.
    #[test]
    fn l4_evict_one_allocate_one_in_a_full_sector() {
        for (what, sizes, align) in [
            ("3000 bytes", 188..=188, 1),
            ("1500 bytes at multiples of 64", 94..=94, 4),
            ("2 to 3 KiB", 128..=192, 1),
            ("2 to 3 KiB at multiples of 64", 128..=192, 4),
            ("64 bytes to 64 KiB", 4..=4096, 1),
        ] {
            for megabytes in megabytes() {
                let [(half, _), (half_call, _)] = rounds(megabytes, 50, sizes.clone(), align);
                let [(median, most), (_, most_call)] = rounds(megabytes, 100, sizes.clone(), align);
                println!(
                    "{what}, {megabytes} MiB: {half} accesses half full, {half_call} a call; full {median}, 99th \
                     percentile {most}, of a call {most_call}"
                );
                assert!(median <= 20 * half, "{what}, {megabytes} MiB: {median}, half full {half}");
                assert!(most_call <= 500, "{what}, {megabytes} MiB: {most_call} accesses of a call");
            }
        }
    }
}
