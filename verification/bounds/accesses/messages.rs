//! Locked instructions of a message, counted.

use atomic_matrix::backend::decorators::{Counts, Probe};
use atomic_matrix::backend::orderings::*;
use atomic_matrix::backend::{Backend, Native, Reach, Word};
use atomic_matrix::ipc::ring::Ring;
use atomic_matrix::ipc::structure::{Shape, Sort, Structure};
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use atomic_matrix::segment::layout::{Layout, Params};
use atomic_matrix::segment::region::BoxedRegion;
use atomic_matrix::segment::size_class::Larges;
use std::time::Duration;

const MESSAGES: u64 = 64;

/// Read-modify-writes of `MESSAGES` messages in batches of so many: of their sends, and of their receipts.
fn locked(sort: Sort, batch: usize) -> (u64, u64) {
    let params = Params {
        granule_shift: 6,
        participants: 4,
        batches: 1,
        directory: 3,
        header_words: 2,
        line_words: 8,
        biased: false,
        larges: Larges::USUAL,
    };
    let heap = Heap::format(BoxedRegion::<Probe<Native>>::with_payload(Layout::new(4096, params), 64));
    let mut cache = ThreadCache::with_ceiling(1, 0);
    let shape = Shape { sort, cells_shift: 5, readers: 0, content: 7 };
    let made = Structure::make(&heap, &mut cache, shape).expect("there is room");
    let header = heap.adoption().rename(made.at, made.header, 0).expect("it is ours");
    let ring = Ring::of(Structure::at(&heap, Live { at: made.at, header }).expect("it is there"));
    let (mut sends, mut receipts) = (0, 0);
    for _ in 0..MESSAGES as usize / batch {
        let blocks: Vec<_> =
            (0..batch).map(|_| heap.allocate(&mut cache, 1, 1, Kind::Raw).expect("there is room")).collect();
        Counts::reset();
        match blocks[..] {
            [one] => ring.send(1, one).expect("there is room"),
            _ => assert_eq!(ring.send_many(1, |sent| blocks.get(sent).copied()), (batch, Ok(()))),
        }
        sends += Counts::get().rmws;
        let mut got = Vec::with_capacity(batch);
        Counts::reset();
        match batch {
            1 => got.push(ring.receive(1).expect("it was sent")),
            _ => assert_eq!(ring.receive_many(1, batch, |taken| got.push(taken)), Ok(batch)),
        }
        receipts += Counts::get().rmws;
        for taken in got {
            heap.free(&mut cache, taken.live.at, Some(taken.live.header.generation())).expect("it is ours");
        }
    }
    (sends, receipts)
}

/// What the figures of this test stand on: each access is counted once, as what it is.
#[test]
fn bounded_l4_each_access_is_counted_once() {
    type Counting = Probe<Native>;
    let word = Counting::word(0);
    let counted = |access: &dyn Fn()| {
        Counts::reset();
        access();
        Counts::get()
    };
    let none = counted(&|| ());
    let load = Counts { loads: 1, ..none };
    let store = Counts { stores: 1, ..none };
    let rmw = Counts { rmws: 1, ..none };
    let fence = Counts { fences: 1, ..none };
    let heavy = Counts { heavy_fences: 1, ..none };
    let call = Counts { sleeps_and_wakes: 1, ..none };
    let soon = Duration::ZERO;
    let accesses: [(&str, Counts, &dyn Fn()); 15] = [
        ("load", load, &|| _ = word.load(&SLEEPERS_LOOK)),
        ("store", store, &|| word.store(0, &STRUCTURE_WRITE)),
        ("cas", rmw, &|| _ = word.cas(0, 0, &SLEEPERS_LEAVE)),
        ("a cas that fails", rmw, &|| _ = word.cas(9, 0, &SLEEPERS_LEAVE)),
        ("fetch_or", rmw, &|| _ = word.fetch_or(0, &STRUCTURE_CHANGE)),
        ("fetch_and", rmw, &|| _ = word.fetch_and(0, &STRUCTURE_CHANGE)),
        ("fetch_add", rmw, &|| _ = word.fetch_add(0, &STRUCTURE_CHANGE)),
        ("fence", fence, &|| Counting::fence(&RING_FENCE)),
        ("fence_behind_rmw", fence, &|| Counting::fence_behind_rmw(&RING_FENCE)),
        ("fence_between_loads", fence, &|| Counting::fence_between_loads(&CURSOR_FENCE)),
        ("light_fence", none, &|| Counting::light_fence(&RING_FENCE)),
        ("heavy_fence", heavy, &|| _ = Counting::heavy_fence(&THIEF_FENCE, Reach::Process)),
        ("wait", call, &|| _ = Counting::wait(&word, 1, soon)),
        ("wait_any", call, &|| _ = Counting::wait_any(&[(&word, 1)], soon)),
        ("wake", call, &|| _ = Counting::wake(&word, 1)),
    ];
    for (what, expected, access) in accesses {
        assert_eq!(counted(access), expected, "{what}");
    }
}

#[test]
fn bounded_l4_locked_instructions_of_a_message() {
    assert_eq!(locked(Sort::Channel, 1), (3 * MESSAGES, 3 * MESSAGES));
    assert_eq!(locked(Sort::Channel, 16), (2 * MESSAGES + MESSAGES / 16, 2 * MESSAGES + MESSAGES / 16));
    assert_eq!(locked(Sort::Single, 1), (2 * MESSAGES, MESSAGES));
    assert_eq!(locked(Sort::Single, 16), (2 * MESSAGES, MESSAGES));
}
