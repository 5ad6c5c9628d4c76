//! Words that no allocator wrote.

use super::super::block_header::{Header, State, place};
use super::super::heap::{Heap, Kind, ThreadCache};
use super::super::operation::Op;
use super::super::recovery::Policy;
use super::{PACKED, WIDE, heap_of};
use crate::backend::orderings::FORMAT;
use crate::backend::{Native, Word};
use crate::segment::layout::{Granule, SlotWord};
use crate::segment::region::{BoxedRegion, Region, WordIndex};

const GRANULES: u32 = 300;
type Damage = fn(&Heap<BoxedRegion<Native>>);
fn set(heap: &Heap<BoxedRegion<Native>>, g: u32, header: Header) {
    heap.region().word(heap.layout().header(Granule(g))).store(header.0, &FORMAT);
}
fn batch(heap: &Heap<BoxedRegion<Native>>, bin: usize, index: u32) {
    let slot = heap.layout().transfer_slot(bin, 0).0;
    let word = |i| heap.region().word(WordIndex(slot + i));
    heap.region().word(heap.layout().batch_map(bin)).store(1, &FORMAT);
    word(1).store(index as u64, &FORMAT);
    word(0).store(1 << 32 | 1, &FORMAT);
}
const CASES: &[(&str, Damage)] = &[
    ("a batch names a granule out of range, and the sentinel is parked", |heap| {
        set(heap, GRANULES, Header::new(State::Acked, 0, 0, 1));
        batch(heap, 1, u32::MAX);
    }),
    ("the last granule begins a parked block that does not fit", |heap| {
        set(heap, GRANULES - 1, Header::new(State::Acked, 0, 0, 30));
        batch(heap, 30, GRANULES - 1);
    }),
    ("a live block does not fit", |heap| set(heap, GRANULES - 1, Header::new(State::Allocated, 1, 0, 1000))),
    ("a live block of no size", |heap| set(heap, 7, Header::new(State::Allocated, 1, 0, 0))),
    ("a free block of no size", |heap| set(heap, 0, Header::new(State::Free, 0, 0, 0))),
    ("a free block larger than the sector", |heap| set(heap, 0, Header::new(State::Free, 0, 0, 1 << 29))),
    ("second-level bits of steps that do not exist", |heap| {
        for row in 0..heap.layout().classes.div_ceil(8) {
            heap.region().word(heap.layout().second_level(row)).store(!0 << 20, &FORMAT);
        }
    }),
    ("every hint is set", |heap| {
        for class in 0..heap.layout().classes {
            heap.region().word(heap.layout().tree(class, 0, 0)).store(!0, &FORMAT);
        }
        for chunk in 0..heap.layout().chunks() {
            heap.region().word(heap.layout().leaf(chunk)).store(!0, &FORMAT);
        }
        heap.region().word(heap.layout().first_level()).store(!0, &FORMAT);
    }),
    ("a join of nothing with itself is announced", |heap| {
        let nothing = Header::new(State::Coalescing, 1, 0, 0);
        set(heap, 0, nothing);
        let slot = |word| heap.region().word(heap.layout().slot(1, word));
        slot(SlotWord::Op).store(Op::Join { at: Granule(0), tag: 0 }.encode(), &FORMAT);
        slot(SlotWord::Right).store(nothing.0, &FORMAT);
    }),
    ("a parked block that ends in the span in which it begins", |heap| {
        set(heap, 8, Header::new(State::Acked, 0, 0, place(0, 3)));
        batch(heap, 3, 8);
    }),
    ("a cut that leaves nothing in front is announced", |heap| {
        let all = Header::new(State::Coalescing, 1, 0, place(0, GRANULES));
        set(heap, 0, all);
        let slot = |word| heap.region().word(heap.layout().slot(1, word));
        slot(SlotWord::Op).store(Op::Cut { at: Granule(0), size: GRANULES - 1 }.encode(), &FORMAT);
    }),
    ("an operation out of range is announced", |heap| {
        set(heap, GRANULES, Header::new(State::Coalescing, 1, 0, 1));
        let slot = |word| heap.region().word(heap.layout().slot(1, word));
        slot(SlotWord::Op).store(Op::Join { at: Granule(GRANULES + 9), tag: 9 }.encode(), &FORMAT);
    }),
];

/// Words that no allocator wrote: nothing hangs, nothing leads outside the sector, nothing that does not fit
/// is handed out.
#[test]
fn c2_hostile_words_neither_hang_nor_lead_outside() {
    for (what, damage) in CASES {
        for (ceiling, shift) in [(0, WIDE), (30, WIDE), (0, PACKED), (30, PACKED)] {
            let heap = heap_of::<Native>(GRANULES, shift);
            damage(&heap);
            let mut cache = ThreadCache::with_ceiling(2, ceiling);
            for g in [0, 7, GRANULES - 1, GRANULES, u32::MAX] {
                if let Ok(live) = heap.live_at(Granule(g)) {
                    assert!(live.at.0 + live.header.size() <= GRANULES && live.header.size() > 0, "{what}");
                }
                let _ = heap.free(&mut cache, Granule(g), None);
            }
            for size in [1, 2, 9, 30, 30, 100] {
                if let Ok(block) = heap.allocate(&mut cache, size, 1, Kind::Raw) {
                    assert!(block.at.0 < GRANULES && block.header.size() <= GRANULES - block.at.0, "{what}: {block:?}");
                    let _ = heap.free(&mut cache, block.at, None);
                }
            }
            heap.recoveries().recover(&mut cache, 1, Policy::GiveBack);
            heap.heal(&mut cache);
            let _ = (heap.tally(), heap.verify());
        }
    }
}
