//! How many fences a call makes that reach other processes: each takes milliseconds.

use crate::backend::decorators::{Counts, Probe, set_mutant};
use crate::backend::orderings::{HELD_STORE, SLOT_WRITE};
use crate::backend::{Mutant, Native, Word};
use crate::matrix::block_header::{Header, State};
use crate::matrix::heap::{Heap, Kind, Live, ThreadCache};
use crate::segment::layout::{Layout, Params, SlotWord};
use crate::segment::region::BoxedRegion;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

type FarHeap = Heap<BoxedRegion<Probe<Native>>>;

/// The participants: an owner and its neighbour in one process, a thief, and another, in processes of their own.
const OWNER: u16 = 1;
const NEIGHBOUR: u16 = 2;
const THIEF: u16 = 3;
const OTHER: u16 = 4;
const PROCESSES: [(u16, u64); 4] = [(OWNER, 7), (NEIGHBOUR, 7), (THIEF, 8), (OTHER, 9)];
const BLOCK: u32 = 8;

fn heap() -> FarHeap {
    let params = Params { biased: true, participants: 6, ..Params::for_segment(4 << 20) };
    let heap: FarHeap = Heap::format(BoxedRegion::new(Layout::fit(4 << 20, params).expect("room for a sector")));
    for (number, process) in PROCESSES {
        heap.slot(number, SlotWord::Process).store(process, &SLOT_WRITE);
    }
    heap
}

fn allocate(heap: &FarHeap, cache: &mut ThreadCache) -> Option<Live> {
    heap.allocate(cache, BLOCK, 1, Kind::Raw).ok()
}

/// The sector is full of blocks that the owner has parked, whose indices nobody has; every so many, if any, is marked
/// by another thief.
fn all_parked(heap: &FarHeap, marked: Option<usize>) -> usize {
    let mut owner = ThreadCache::new(OWNER);
    let blocks: Vec<Live> = std::iter::from_fn(|| allocate(heap, &mut owner)).collect();
    for (at, live) in blocks.iter().enumerate() {
        let place = heap.place(live.at, live.header.size());
        let parked = Header::new(State::Acked, OWNER, live.header.generation(), place);
        let is_marked = marked.is_some_and(|every| at % every == 0);
        let header = if is_marked { parked.marked(OTHER) } else { parked };
        heap.header(live.at).store(header.0, &HELD_STORE);
    }
    blocks.len()
}

/// Fences that reach other processes, of one call.
fn far_fences<T>(call: impl FnOnce() -> T) -> (u64, T) {
    Counts::reset();
    let result = call();
    (Counts::get().far_fences, result)
}

fn is_one_free_block(heap: &FarHeap) {
    let tally = heap.verify().expect("at rest");
    assert_eq!((tally.free.blocks, tally.free.granules), (1, heap.layout().granules as u64));
}

/// However many blocks another process's cache has parked, and whoever has marked them.
#[test]
fn l4_a_call_makes_one_fence_for_all_that_other_processes_have_parked() {
    for (marked, fences) in [(None, 1), (Some(2), 2), (Some(1), 1)] {
        for asks in [false, true] {
            let heap = heap();
            let parked = all_parked(&heap, marked);
            assert!(parked > 6000, "{parked}");
            let mut thief = ThreadCache::new(THIEF);
            let whole = heap.layout().granules;
            let (made, ()) = far_fences(|| match asks {
                true => _ = heap.allocate(&mut thief, whole, 1, Kind::Raw).expect("L2: all of it is parked"),
                false => heap.heal(&mut thief),
            });
            // A second one only for what another thief has marked, which stands still.
            assert_eq!(made, fences, "asks {asks}, marked {marked:?}");
            let again = far_fences(|| heap.heal(&mut thief)).0;
            assert_eq!(again, 0, "nothing is parked any more");
            if !asks {
                is_one_free_block(&heap);
            }
        }
    }
}

/// What one has taken and does not need is nobody's: the next one takes it without a fence.
#[test]
fn l4_what_one_fence_has_taken_needs_no_other() {
    let heap = heap();
    all_parked(&heap, None);
    let mut thief = ThreadCache::with_ceiling(THIEF, 0);
    let (made, block) = far_fences(|| allocate(&heap, &mut thief));
    assert_eq!((made, block.is_some()), (1, true));
    let mut other = ThreadCache::with_ceiling(OTHER, 0);
    let (made, blocks) = far_fences(|| std::iter::from_fn(|| allocate(&heap, &mut other)).count());
    assert!(made == 0 && blocks > 6000, "{made} fences for {blocks} blocks");
}

/// Nor is one made for what the dead have parked, once they have been declared dead.
#[test]
fn l4_c1_the_dead_cost_no_fence() {
    let heap = heap();
    all_parked(&heap, None);
    heap.recoveries().slots().bury(OWNER, THIEF);
    let (made, ()) = far_fences(|| heap.heal(&mut ThreadCache::new(THIEF)));
    assert_eq!(made, 0);
    is_one_free_block(&heap);
}

/// Who can do something else first makes none, and is refused; nor does a free, but for each of so many thousands.
#[test]
fn l4_a_call_that_puts_it_off_makes_none() {
    let heap = heap();
    all_parked(&heap, None);
    let mut thief = ThreadCache::new(THIEF);
    let near = crate::backend::Reach::Process;
    let (made, found) = far_fences(|| heap.allocate_within(near, &mut thief, BLOCK, 1, Kind::Raw));
    assert_eq!((made, found.is_err()), (0, true));
    // And it does not remember to have been refused.
    assert!(allocate(&heap, &mut thief).is_some(), "L2");
}

/// What waits for a fence that reaches others is bounded: a free makes one for so many thousands.
#[test]
fn l4_frees_make_one_fence_for_thousands() {
    let heap = heap();
    let (mut owner, mut freer) = (ThreadCache::new(OWNER), ThreadCache::new(THIEF));
    let blocks: Vec<Live> = (0..20_000).map_while(|_| allocate(&heap, &mut owner)).collect();
    let waiting = |freer: &ThreadCache| freer.limbo.as_ref().map_or(0, |limbo| limbo.0.len());
    let (made, most) = far_fences(|| {
        let freed = blocks.iter().map(|live| {
            heap.free(&mut freer, live.at, Some(live.header.generation())).expect("live");
            waiting(&freer)
        });
        freed.max().unwrap_or(0)
    });
    assert_eq!(blocks.len(), 20_000);
    assert!((3..=5).contains(&made) && most < 5000, "{made} fences, {most} blocks wait");
}

/// Beside an owner that takes and parks all the while: what it parks behind the fence stays its own.
#[test]
fn l4_a_refusal_beside_owners_at_work_makes_one_fence() {
    let (heap, over, full) = (heap(), AtomicBool::new(false), Barrier::new(3));
    let most = std::thread::scope(|scope| {
        for number in [OWNER, NEIGHBOUR] {
            let (heap, over, full) = (&heap, &over, &full);
            scope.spawn(move || {
                let mut cache = ThreadCache::new(number);
                let mut blocks: Vec<Live> = (0..3000).filter_map(|_| allocate(heap, &mut cache)).collect();
                let mut at = 0;
                full.wait();
                while !over.load(Relaxed) && !blocks.is_empty() {
                    at = (at + 7919) % blocks.len();
                    let live = blocks.swap_remove(at);
                    heap.free(&mut cache, live.at, Some(live.header.generation())).expect("S5: its own");
                    blocks.extend(allocate(heap, &mut cache));
                }
            });
        }
        let mut thief = ThreadCache::new(THIEF);
        let whole = heap.layout().granules;
        full.wait();
        let call = |_| far_fences(|| _ = heap.allocate(&mut thief, whole, 1, Kind::Raw)).0;
        let most = (0..8).map(call).max();
        over.store(true, Relaxed);
        most
    });
    println!("{most:?} fences at most");
    assert_eq!(most, Some(1), "fences in one call");
}

#[test]
fn mutant_far_left_out_is_caught() {
    let served = |mutant| {
        let heap = heap();
        all_parked(&heap, None);
        set_mutant(mutant);
        let served = allocate(&heap, &mut ThreadCache::new(THIEF)).is_some();
        set_mutant(None);
        served
    };
    assert_eq!((served(None), served(Some(Mutant::FarLeftOut))), (true, false), "FarLeftOut survives");
}
