//! What is an aid alone, and nobody would miss but by time or room: indices that go home, bits that lie, counts of what
//! waits, and what a refusal says.

use super::biased;
use crate::backend::decorators::{Counts, Probe, interrupted_at};
use crate::backend::orderings::{BATCH_MAP, FORMAT, HAZARD_SET, HELD_STORE};
use crate::backend::{Backend, Native, Word};
use crate::matrix::block_header::{Header, State, adopter};
use crate::matrix::heap::{Heap, Kind, Live, ThreadCache};
use crate::matrix::ownership::Ownership;
use crate::matrix::size_class::Bin;
use crate::matrix::thread_cache::WAYS;
use crate::segment::layout::{BATCH, Granule, Layout, Params, SlotWord};
use crate::segment::region::BoxedRegion;
use std::collections::BTreeSet;

type Boxed<B> = Heap<BoxedRegion<B>>;
type Owns<'a> = Ownership<'a, BoxedRegion<Native>>;

fn allocate<B: Backend>(heap: &Boxed<B>, cache: &mut ThreadCache, size: u32) -> Live {
    heap.allocate(cache, size, 1, Kind::Raw).expect("room")
}

/// Blocks of `size` in sequence, and none parked beside them.
fn cut(heap: &Boxed<Native>, cache: &mut ThreadCache, size: u32, count: usize) -> Vec<Live> {
    let blocks = (0..count).map(|_| allocate(heap, cache, size)).collect();
    heap.parking().flush(cache);
    blocks
}

/// The same block in this state, of this owner.
fn set<B: Backend>(heap: &Boxed<B>, live: Live, state: State, owner: u16) -> Header {
    let header = Header::new(state, owner, live.header.generation(), heap.place(live.at, live.header.size()));
    heap.header(live.at).store(header.0, &HELD_STORE);
    header
}

fn places(blocks: &[Live]) -> BTreeSet<u32> {
    blocks.iter().map(|live| live.at.0).collect()
}

/// What a cache frees in turn, of two sizes or of two owners, comes back to each: nothing is cut anew.
#[test]
fn l4_what_is_freed_in_turn_goes_home_each_to_its_own() {
    let other = 2 + WAYS as u16;
    for (numbers, sizes) in [([2, 2], [8, 9]), ([2, other], [8, 8]), ([other, 2], [8, 20])] {
        let heap = biased(16 << 20, 16);
        let mut owners = [2, other].map(ThreadCache::new);
        let owner = |number: u16| usize::from(number == other);
        let sent = [0, 1].map(|i| cut(&heap, &mut owners[owner(numbers[i])], sizes[i], BATCH / 2));
        let mut freer = ThreadCache::new(3);
        for (one, another) in sent[0].iter().zip(&sent[1]) {
            heap.free(&mut freer, one.at, None).expect("live");
            heap.free(&mut freer, another.at, None).expect("live");
        }
        heap.parking().flush(&mut freer);
        for i in [0, 1] {
            let cache = &mut owners[owner(numbers[i])];
            let again: Vec<_> = (0..BATCH / 2).map(|_| allocate(&heap, cache, sizes[i])).collect();
            assert_eq!(places(&again), places(&sent[i]), "{numbers:?} {sizes:?}");
        }
        assert_eq!(heap.auditing().places_in_use(), 0, "all have come home");
    }
}

/// A bit that leads to no batch is cleared and no other; a slot that somebody else has claimed gets none, and one that
/// is found full does.
#[test]
fn l4_the_map_of_batches_is_mended_bit_by_bit() {
    let (bin, heap, mut cache) = (Bin(8), biased(16 << 20, 16), ThreadCache::new(1));
    let mut unowned = |live: Live| {
        set(&heap, live, State::Acked, 0);
        live.at.0
    };
    let batch: Vec<u32> = cut(&heap, &mut cache, 8, BATCH).into_iter().map(&mut unowned).collect();
    // Where a cache begins: the first batch that it puts into an empty map.
    let map = || heap.word(heap.layout().batch_map(bin.0)).load(&BATCH_MAP);
    assert!(heap.transfer_cache().put_batch(&cache, bin, &batch));
    let first = map();
    assert!(first.is_power_of_two() && heap.transfer_cache().put_batch(&cache, bin, &batch));
    let second = map() & !first;
    // The first slot is full, and its bit gone: who meets it tells.
    heap.word(heap.layout().batch_map(bin.0)).store(second, &FORMAT);
    assert!(heap.transfer_cache().put_batch(&cache, bin, &batch));
    let third = map() & !(first | second);
    assert_eq!((map(), third.is_power_of_two()), (first | second | third, true));
    // The first slot is claimed, by another.
    let slot = heap.layout().transfer_slot(bin.0, first.trailing_zeros() as usize);
    heap.word(slot).store(2 << 32 | 3, &FORMAT);
    heap.word(heap.layout().batch_map(bin.0)).store(second | third, &FORMAT);
    assert!(heap.transfer_cache().put_batch(&cache, bin, &batch));
    assert_eq!(map() & first, 0, "it is nobody's yet");
    // Nothing is in the first slot, and its bit is set.
    let before = map();
    heap.word(slot).store(0, &FORMAT);
    heap.word(heap.layout().batch_map(bin.0)).store(before | first, &FORMAT);
    heap.transfer_cache().get_batch(&mut cache, bin);
    assert_eq!(map(), before & !second, "that one is cleared, and the one whose batch was taken");
}

/// A batch that is put where another has just met none: its bit is set again.
#[test]
fn l4_a_bit_that_is_cleared_beside_a_batch_is_set_again() {
    type Probed = Boxed<Probe<Native>>;
    let bin = Bin(8);
    let mut met_none = 0;
    for k in 1..5 {
        let params = Params { biased: true, ..Params::for_segment(4 << 20) };
        let layout = Layout::fit(4 << 20, params).expect("room for a sector");
        let heap: &'static Probed = Box::leak(Box::new(Heap::format(BoxedRegion::new(layout))));
        let map = heap.word(heap.layout().batch_map(bin.0));
        let put = || heap.transfer_cache().put_batch(&ThreadCache::new(1), bin, &[8]);
        assert!(put());
        let bit = map.load(&BATCH_MAP);
        let slot = heap.word(heap.layout().transfer_slot(bin.0, bit.trailing_zeros() as usize));
        slot.store(0, &FORMAT);
        // The bit lies from now on: while a getter clears it, another fills the slot.
        let fill = move || {
            map.store(0, &FORMAT);
            assert!(heap.transfer_cache().put_batch(&ThreadCache::new(1), bin, &[8]));
        };
        let mut getter = ThreadCache::new(1);
        let (got, met) = interrupted_at(k, fill, || heap.transfer_cache().get_batch(&mut getter, bin));
        if met && !got {
            assert_eq!((slot.load(&BATCH_MAP) >> 32, map.load(&BATCH_MAP)), (1, bit), "L4: before access {k}");
            met_none += 1;
        }
    }
    assert!(met_none >= 2, "before and behind the clearing: {met_none}");
}

/// A request that is larger than the sector is told what is free, parked and in flight.
#[test]
fn l2_who_asks_for_more_than_there_is_is_told_what_there_is() {
    let heap = biased(1 << 20, 4);
    let mut cache = ThreadCache::with_ceiling(1, 0);
    let [_, parked, held] = [100, 40, 12].map(|size| allocate(&heap, &mut cache, size));
    let [live, parked_size, held_size] = [100u32, 40, 12].map(u64::from);
    set(&heap, parked, State::Acked, 0);
    set(&heap, held, State::Coalescing, 1);
    let all = heap.layout().granules;
    let refused = heap.allocate(&mut cache, all + 1, 1, Kind::Raw).expect_err("larger than all");
    assert_eq!(refused.free, u64::from(all) - live);
    assert_eq!(refused.largest, u64::from(all) - live - parked_size - held_size);
}

/// Without a walk a request is served from what is parked or hinted, and at a multiple as it asks.
#[test]
fn s1_who_does_not_sweep_is_served_at_a_multiple() {
    let heap = biased(1 << 20, 4);
    let mut cache = ThreadCache::new(1);
    let blocks = cut(&heap, &mut cache, 8, 12);
    let (at_multiples, others): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|live| live.at.0.is_multiple_of(16));
    assert!(at_multiples.len() >= 5 && others.len() >= 5);
    let free = |cache: &mut ThreadCache, live: &Live| heap.free(cache, live.at, None).expect("live");
    free(&mut cache, &at_multiples[0]);
    others.iter().for_each(|live| free(&mut cache, live));
    assert_eq!(cache.parked(), others.len() + 1);
    let first = heap.allocate_unswept(&mut cache, 8, 16, Kind::Raw).expect("parked");
    assert_eq!(first.at, at_multiples[0].at);
    let second = heap.allocate_unswept(&mut cache, 8, 16, Kind::Raw).expect("hinted");
    assert!(second.at.0.is_multiple_of(16), "{second:?}");
    // And what is large.
    let large = allocate(&heap, &mut cache, 1000);
    let before = cache.parked();
    free(&mut cache, &large);
    assert_eq!((cache.parked(), cache.parked_large()), (before + 1, large.header.size()));
    let again = heap.allocate_unswept(&mut cache, 1000, 1, Kind::Raw).expect("parked");
    assert_eq!((again.at, cache.parked_large()), (large.at, 0));
}

/// A large block that is parked costs one compare-and-swap, without a look before it.
#[test]
fn l4_a_parked_large_block_is_taken_by_one_access() {
    let params = Params { biased: true, ..Params::for_segment(4 << 20) };
    let layout = Layout::fit(4 << 20, params).expect("room for a sector");
    let heap: Boxed<Probe<Native>> = Heap::format(BoxedRegion::new(layout));
    let mut cache = ThreadCache::new(1);
    let block = allocate(&heap, &mut cache, 1000);
    heap.free(&mut cache, block.at, None).expect("live");
    Counts::reset();
    let again = heap.large().pop_large(&mut cache, 1000, 0, Kind::Raw).expect("parked");
    assert_eq!((again.at, Counts::get()), (block.at, Counts { rmws: 1, ..Counts::default() }));
}

/// A newcomer merges what is nobody's, and no more: what another has parked stays that one's.
#[test]
fn l3_a_newcomer_merges_what_is_nobodys() {
    let heap = biased(1 << 20, 4);
    let mut cache = ThreadCache::with_ceiling(1, 0);
    let [unowned, anothers] = [8, 8].map(|size| allocate(&heap, &mut cache, size));
    set(&heap, unowned, State::Acked, 0);
    set(&heap, anothers, State::Acked, 1);
    heap.settle_all(&mut ThreadCache::new(2));
    let tally = heap.verify().expect("sound");
    assert_eq!((tally.parked.blocks, tally.parked.granules), (1, 8));
    assert_eq!(heap.look(anothers.at).state(), State::Acked);
}

/// What somebody knows of a block, and what has turn of it meanwhile: it is given, or published, as it is now.
#[test]
fn s5_a_block_changes_its_owner_whoever_has_it_by_now() {
    const ME: u16 = 1;
    let scene = || {
        let heap = biased(1 << 20, 6);
        let live = allocate(&heap, &mut ThreadCache::with_ceiling(2, 0), 8);
        (heap, live)
    };
    let after = |turn: &dyn Fn(&Boxed<Native>, Live), act: fn(Owns<'_>, Live) -> bool| {
        let (heap, live) = scene();
        turn(&heap, live);
        let before = heap.look(live.at);
        let done = act(heap.ownership(), live);
        let now = heap.look(live.at);
        (done, (now != before).then_some(now.owner()))
    };
    let same = |_: &Boxed<Native>, _: Live| ();
    let taken = |heap: &Boxed<Native>, live: Live| _ = set(heap, live, State::Allocated, 3);
    let adopted = |heap: &Boxed<Native>, live: Live| _ = set(heap, live, State::Allocated, adopter(3));
    let freed = |heap: &Boxed<Native>, live: Live| _ = set(heap, live, State::Acked, 2);
    let named =
        |heap: &Boxed<Native>, live: Live| heap.slot(2, SlotWord::Hazard).store(u64::from(live.at.0) + 1, &HAZARD_SET);
    // Published: it is nobody's, or has another owner, or is gone.
    let publish = |ownership: Owns<'_>, live| ownership.publish_given(ME, live);
    assert_eq!(after(&same, publish), (true, Some(0)));
    assert_eq!(after(&taken, publish), (true, None));
    assert_eq!(after(&freed, publish), (true, None));
    assert_eq!(after(&adopted, publish), (false, None));
    assert_eq!(after(&named, publish), (false, None));
    // Read while it was changing hands: nobody can tell whose it was.
    let late = |ownership: Owns<'_>, live: Live| {
        let header = Header::new(State::Allocated, adopter(3), live.header.generation(), live.header.low());
        ownership.publish_given(ME, Live { header, ..live })
    };
    assert_eq!(after(&adopted, late), (false, None));
    assert_eq!(after(&freed, late), (true, None));
    // Given by one that need not have it.
    let give = |ownership: Owns<'_>, live| ownership.give_from(ME, live, 4).is_ok();
    assert_eq!(after(&same, give), (true, Some(4)));
    assert_eq!(after(&taken, give), (true, Some(4)));
    assert_eq!(after(&freed, give), (false, None));
    assert_eq!(after(&adopted, give), (false, None));
    assert_eq!(after(&named, give), (false, None));
    // Given by who answers for it.
    let give_to = |ownership: Owns<'_>, live| ownership.give_to(live, 4).is_ok();
    assert_eq!(after(&taken, give_to), (true, Some(4)));
    assert_eq!(after(&freed, give_to), (false, None));
    let again = |heap: &Boxed<Native>, live: Live| {
        heap.header(live.at)
            .store(Header::new(State::Allocated, 2, live.header.generation() + 1, live.header.low()).0, &HELD_STORE);
    };
    assert_eq!(after(&again, give_to), (false, None));
}

/// What is written behind the last row or class leads no search for the largest block astray (C2).
#[test]
fn c2_bits_beyond_the_last_class_do_not_hide_the_largest_block() {
    let heap = biased(1 << 20, 4);
    let mut cache = ThreadCache::with_ceiling(1, 0);
    let layout = heap.layout();
    let all = heap.hints().largest(&mut cache);
    assert_eq!(all, layout.granules);
    let first = heap.word(layout.first_level());
    first.fetch_or(1 << 63, &FORMAT);
    assert_eq!(heap.hints().largest(&mut cache), all, "a row that there is not");
    let last = layout.classes.div_ceil(8) - 1;
    if !layout.classes.is_multiple_of(8) {
        heap.word(layout.second_level(last)).fetch_or(1 << 7, &FORMAT);
        assert_eq!(heap.hints().largest(&mut cache), all, "a class that there is not");
        heap.word(layout.second_level(last)).fetch_and(!(1 << 7), &FORMAT);
    }
    // A row without classes: its bit goes.
    allocate(&heap, &mut cache, all - all / 16);
    let rest = heap.hints().largest(&mut cache);
    assert_eq!(u64::from(rest), heap.tally().expect("sound").largest_free);
    first.fetch_or(1 << last, &FORMAT);
    assert_eq!((heap.hints().largest(&mut cache), first.load(&FORMAT) >> last), (rest, 1 << 63 >> last));
}

/// The threads' blocks go back when they end: a thread leaves none parked.
#[test]
fn l2_a_thread_that_ends_leaves_nothing_parked() {
    let handler = crate::segment::Options::new().memfd().size(4 << 20).create().expect("created");
    let kept = handler.allocate_raw(100).expect("room");
    let before = handler.stats().expect("sound").parked_blocks;
    let work = || {
        let blocks: Vec<_> = (0..40).map(|i| handler.allocate_raw(100 + i % 2 * 5000).expect("room")).collect();
        blocks.iter().for_each(|block| handler.free_raw(*block).expect("live"));
        handler.stats().expect("sound").parked_blocks
    };
    let most = std::thread::scope(|scope| scope.spawn(work).join().expect("no panic"));
    assert!(most >= before + 10, "{most}");
    assert_eq!(handler.verify().expect("sound").parked_blocks, before);
    handler.free_raw(kept).expect("live");
}

/// Debug builds look at what comes in: that it is live, and that a stack is within its bounds.
#[cfg(debug_assertions)]
mod boundaries {
    use super::*;

    #[test]
    #[should_panic(expected = "to be freed")]
    fn a_header_of_no_live_block_is_not_freed() {
        let heap = biased(1 << 20, 4);
        let mut cache = ThreadCache::new(1);
        let live = allocate(&heap, &mut cache, 8);
        let header = set(&heap, live, State::Acked, 1);
        let _ = heap.free_live(&mut cache, Live { header, ..live });
    }

    #[test]
    #[should_panic(expected = "a cache of number 5")]
    fn a_number_of_nobody_does_not_allocate() {
        let _ = biased(1 << 20, 4).allocate(&mut ThreadCache::new(5), 8, 1, Kind::Raw);
    }

    #[test]
    #[should_panic(expected = "a stack from 30 to 29")]
    fn a_stack_does_not_end_before_it_begins() {
        let mut cache = ThreadCache::with_ceiling(1, 0);
        cache.stacks[3].top -= 1;
        cache.stacks[3].pop();
    }

    #[test]
    #[should_panic(expected = "a stack from 0 to 31")]
    fn a_stack_does_not_end_behind_its_room() {
        let mut cache = ThreadCache::new(1);
        cache.stacks[3].top = 31;
        cache.stacks[3].push(Granule(4));
    }
}
