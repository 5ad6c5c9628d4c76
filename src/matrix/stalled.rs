//! A helper that stalls before a compare-and-swap for as many changes as bring the generation back that it
//! expects (S1, S4).
//!
//! Debug builds take a second for the two million changes: nothing is skipped.

use super::block_header::{Header, State};
use super::heap::{Heap, Kind, Live, ThreadCache};
use super::operation::Op;
use super::tests::heap;
use crate::backend::decorators::{Probe, set_mutant};
use crate::backend::orderings::{ANNOUNCE, CARVE, COMMIT, FOOTER, OP_WRITE};
use crate::backend::{Mutant, Native, Word};
use crate::segment::layout::{Granule, SlotWord};
use crate::segment::region::BoxedRegion;

type Probed = Heap<BoxedRegion<Probe<Native>>>;

/// Frees that bring back the generation of a block that is freed alone and taken whole, three changes each.
const FREES: u32 = 349_525;

/// The owner, whose operations the others help with.
const OWNER: u16 = 2;

/// Three blocks, of eight granules each, which fill the sector.
fn three() -> (Probed, ThreadCache, [Live; 3]) {
    let (heap, mut cache) = (heap::<Probe<Native>>(24), ThreadCache::with_ceiling(OWNER, 0));
    let mut blocks = [0; 3].map(|_| heap.allocate(&mut cache, 8, 1, Kind::Raw).expect("room"));
    blocks.sort_by_key(|block| block.at.0);
    assert_eq!(blocks.map(|block| block.at.0), [0, 8, 16]);
    (heap, cache, blocks)
}

fn free(heap: &Probed, cache: &mut ThreadCache, at: Granule) {
    heap.free(cache, at, None).expect("live");
}

fn allocate(heap: &Probed, cache: &mut ThreadCache, at: Granule) {
    assert_eq!(heap.allocate(cache, 8, 1, Kind::Raw).map(|block| block.at), Ok(at));
}

/// A join of the first two blocks is announced, and a helper is about to freeze the right one. It goes on
/// when that one is free again, under the same generation, beside a live block. True if nothing is lost.
fn freeze_waits() -> bool {
    let (heap, mut cache, [x, y, _]) = three();
    free(&heap, &mut cache, y.at);
    let quoted = heap.look(y.at);
    // The owner frees x and announces the join: what the helper has read. The rest is done by others.
    let header = heap.look(x.at);
    let free_x = Header::new(State::Free, cache.next_tag(), header.next_generation(), header.low());
    let announced = Header::new(State::Coalescing, OWNER, free_x.next_generation(), header.low());
    let tag = cache.next_tag();
    heap.slot(OWNER, SlotWord::Right).store(quoted.0, &OP_WRITE);
    heap.slot(OWNER, SlotWord::Op).store(Op::Join { at: x.at, tag }.encode(), &OP_WRITE);
    heap.header(x.at).cas(header.0, announced.0, &ANNOUNCE).expect("nobody else");
    assert!(heap.operations().help(&mut ThreadCache::with_ceiling(3, 0), x.at, announced));
    heap.slot(OWNER, SlotWord::Op).store(Op::None.encode(), &OP_WRITE);
    // Both are allocated again, and the right one freed and taken ever again.
    allocate(&heap, &mut cache, y.at);
    allocate(&heap, &mut cache, x.at);
    for _ in 1..FREES {
        free(&heap, &mut cache, y.at);
        allocate(&heap, &mut cache, y.at);
    }
    free(&heap, &mut cache, y.at);
    assert_eq!(heap.look(y.at).generation(), quoted.generation(), "the case is met");
    assert_eq!(heap.look(y.at).low(), quoted.low(), "the case is met");
    // The helper goes on.
    let _ = heap.operations().finish_join(x.at, announced, quoted, tag);
    if heap.verify().is_err() {
        return false;
    }
    allocate(&heap, &mut cache, y.at);
    true
}

/// A helper is about to write the head of a tail, or a footer, where an inside word stands. It goes on when
/// an inside word of the same generation stands there again. True if that one stays.
fn inside_waits() -> bool {
    let (heap, mut cache, [x, y, z]) = three();
    free(&heap, &mut cache, x.at);
    free(&heap, &mut cache, y.at);
    let inside = heap.look(y.at);
    assert_eq!(inside.state(), State::Inside);
    // Four changes once, three each time, until the generation comes back.
    allocate(&heap, &mut cache, y.at);
    allocate(&heap, &mut cache, x.at);
    free(&heap, &mut cache, y.at);
    free(&heap, &mut cache, x.at);
    for _ in 1..FREES {
        allocate(&heap, &mut cache, y.at);
        free(&heap, &mut cache, y.at);
    }
    let again = heap.look(y.at);
    assert_eq!((again.generation(), again.low()), (inside.generation(), inside.low()), "the case is met");
    let head = Header::new(State::Coalescing, OWNER, inside.next_generation(), y.header.low());
    let carved = heap.header(y.at).cas(inside.0, head.0, &CARVE);
    let footer = heap.header(y.at).cas(inside.0, inside.next_inside(7).0, &FOOTER);
    let stays = carved.is_err() && footer.is_err();
    if stays {
        free(&heap, &mut cache, z.at);
        assert_eq!(heap.verify().map(|tally| tally.free.blocks), Ok(1));
    }
    stays
}

/// Rounds that bring the word of an announced cut back: its block is cut and joined again, four changes each.
const ROUNDS: u32 = 1 << 18;

/// A helper is about to commit a cut, and goes on when the same participant has just announced the same cut, under the
/// same generation: the one word that has no tag (OBLIGATIONS.md says how seldom). One round earlier or later it
/// changes nothing. The tail has no header then: it is told, and set aside, and nothing else is touched.
#[test]
fn s4_c2_what_a_commit_that_comes_back_leaves_is_mended() {
    for rounds in [ROUNDS - 1, ROUNDS, ROUNDS + 1] {
        let (heap, mut cache, [x, y, z]) = three();
        free(&heap, &mut cache, x.at);
        free(&heap, &mut cache, y.at);
        let cut_of = |whole: Header| Header::new(State::Coalescing, OWNER, whole.next_generation(), whole.low());
        let announced = cut_of(heap.look(x.at));
        for _ in 0..rounds {
            allocate(&heap, &mut cache, y.at);
            free(&heap, &mut cache, y.at);
        }
        let (whole, tag) = (heap.look(x.at), cache.next_tag());
        heap.slot(OWNER, SlotWord::Op).store(Op::Cut { at: x.at, size: 8 }.encode(), &OP_WRITE);
        heap.header(x.at).cas(whole.0, cut_of(whole).0, &ANNOUNCE).expect("nobody else");
        let rest = Header::new(State::Free, tag, announced.next_generation(), x.header.low());
        let late = heap.header(x.at).cas(announced.0, rest.0, &COMMIT);
        assert_eq!(late.is_ok(), rounds == ROUNDS, "the case is met, and no other");
        let mended = heap.repair(&mut ThreadCache::with_ceiling(3, 0));
        let lost = if rounds == ROUNDS { 8 } else { 0 };
        assert_eq!((mended.set_aside.granules, mended.shortened), (lost, 0), "{mended:?}");
        let tally = heap.verify().expect("S4: mended");
        assert!(
            heap.look(z.at) == z.header && tally.live.granules == 8 + lost,
            "another's block was touched: {tally:?}"
        );
    }
}

#[test]
fn s1_s4_a_helper_that_waits_for_the_same_generation_changes_nothing() {
    assert!(freeze_waits() && inside_waits(), "S1: a helper has changed what another operation wrote");
}

#[test]
fn mutant_tag_dropped_is_caught() {
    set_mutant(Some(Mutant::TagDropped));
    let caught = (!freeze_waits(), !inside_waits());
    set_mutant(None);
    assert_eq!(caught, (true, true), "TagDropped survives");
}
