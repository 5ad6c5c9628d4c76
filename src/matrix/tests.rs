//! Unit tests of the heap over boxed words.

mod aids;
mod drift;
mod endurance;
mod far;
mod hostile;
mod patterns;
mod refusals;

use super::block_header::State;
use super::heap::{Heap, Kind, Refusal, ThreadCache};
use super::recovery::{Policy, Recovery};
use crate::backend::decorators::{Counts, Probe, stopped_at};
use crate::backend::{Backend, Native};
use crate::segment::layout::{Granule, Layout, Params};
use crate::segment::region::BoxedRegion;
use crate::segment::size_class::Larges;

/// A span has one granule.
const WIDE: u32 = 6;
/// A span has four granules.
const PACKED: u32 = 4;

pub(super) fn heap<B: Backend>(granules: u32) -> Heap<BoxedRegion<B>> {
    heap_of(granules, WIDE)
}

fn heap_of<B: Backend>(granules: u32, granule_shift: u32) -> Heap<BoxedRegion<B>> {
    let params = Params {
        granule_shift,
        participants: 16,
        batches: 2,
        directory: 0,
        header_words: 2,
        line_words: 1,
        biased: false,
        larges: Larges::USUAL,
    };
    Heap::format(BoxedRegion::new(Layout::new(granules, params)))
}

/// A heap of boxed words with bias.
pub(super) fn biased(bytes: u64, participants: usize) -> Heap<BoxedRegion<Native>> {
    let params = Params { biased: true, participants, ..Params::for_segment(bytes) };
    Heap::format(BoxedRegion::new(Layout::fit(bytes, params).expect("room for a sector")))
}

fn rest_is_one_block<B: Backend>(heap: &Heap<BoxedRegion<B>>, cache: &mut ThreadCache) {
    heap.heal(cache);
    let tally = heap.verify().unwrap();
    assert_eq!((tally.free.blocks, tally.free.granules), (1, heap.layout().granules as u64));
}

struct Rng(u64);
impl Rng {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as u32) % n
    }
}

#[test]
fn s1_s2_s5_one_cache_allocates_frees_and_heals() {
    for (ceiling, shift) in
        [0, 2, 30].into_iter().flat_map(|ceiling| [(ceiling, WIDE), (ceiling, 5), (ceiling, PACKED)])
    {
        for granules in [1, 2, 63, 64, 65, 5000, 300_000] {
            let heap = heap_of::<Native>(granules, shift);
            let (granules, span) = (heap.layout().granules, heap.layout().span_mask + 1);
            let mut cache = ThreadCache::with_ceiling(1, ceiling);
            let mut rng = Rng(granules as u64);
            let mut live: Vec<(Granule, u32)> = vec![];
            let mut owner = vec![false; granules as usize];
            for _ in 0..20_000 {
                if rng.below(10) < 6 {
                    let most = if rng.below(10) == 0 { granules } else { 40.min(granules) };
                    let size = 1 + rng.below(most);
                    let align = 1 << rng.below(4);
                    let kind = if rng.below(2) == 0 { Kind::Raw } else { Kind::Typed(77) };
                    if let Ok(block) = heap.allocate(&mut cache, size, align, kind) {
                        let got = block.header.size();
                        assert!(
                            got >= size && block.at.0 % align == 0,
                            "S2: {block:?} for {size} at {align} of {granules}, {shift}"
                        );
                        for taken in &mut owner[block.at.index()..][..got as usize] {
                            assert!(!*taken, "S1");
                            *taken = true;
                        }
                        assert_eq!(heap.fingerprint(block), (kind != Kind::Raw).then_some(77));
                        live.push((block.at, got));
                    }
                } else if !live.is_empty() {
                    let (g, size) = live.swap_remove(rng.below(live.len() as u32) as usize);
                    owner[g.index()..][..size as usize].fill(false);
                    let header = heap.look(g);
                    for beside in (1..span).flat_map(|by| [g.plus(by), Granule(g.0.wrapping_sub(by))]) {
                        if !live.iter().any(|(at, _)| *at == beside) {
                            assert!(heap.free(&mut cache, beside, None).is_err(), "S5: beside the block");
                        }
                    }
                    assert_eq!(heap.look(g), header);
                    heap.free(&mut cache, g, None).unwrap();
                    assert!(matches!(heap.free(&mut cache, g, None), Err(Refusal::NotLive(_))), "S5");
                }
            }
            heap.verify().unwrap();
            for (g, _) in live {
                heap.free(&mut cache, g, None).unwrap();
            }
            rest_is_one_block(&heap, &mut cache);
            assert!(heap.allocate(&mut cache, (granules as u64 * 9 / 10).max(1) as u32, 1, Kind::Raw).is_ok());
        }
    }
}

#[test]
fn s1_l3_many_caches_keep_their_blocks_apart() {
    for (ceiling, shift) in [(0, WIDE), (30, WIDE), (0, PACKED), (30, PACKED)] {
        let granules = 4000u32;
        let heap = &heap_of::<Native>(granules, shift);
        let marks: &Vec<std::sync::Mutex<u16>> = &(0..granules).map(|_| std::sync::Mutex::new(0)).collect();
        std::thread::scope(|scope| {
            for owner in 1..=8u16 {
                scope.spawn(move || {
                    let mut cache = ThreadCache::with_ceiling(owner, ceiling);
                    let mut rng = Rng(owner as u64);
                    let mut live = vec![];
                    for _ in 0..60_000 {
                        if rng.below(10) < 5 {
                            let size = 1 + rng.below(20);
                            let Ok(block) = heap.allocate(&mut cache, size, 1, Kind::Raw) else { continue };
                            for mark in &marks[block.at.index()..][..block.header.size() as usize] {
                                let mut mark = mark.try_lock().expect("S1");
                                assert_eq!(*mark, 0, "S1");
                                *mark = owner;
                            }
                            live.push(block);
                        } else if !live.is_empty() {
                            let block = live.swap_remove(rng.below(live.len() as u32) as usize);
                            for mark in &marks[block.at.index()..][..block.header.size() as usize] {
                                let mut mark = mark.try_lock().expect("S1");
                                assert_eq!(std::mem::take(&mut *mark), owner, "S1");
                            }
                            heap.free(&mut cache, block.at, Some(block.header.generation())).unwrap();
                        }
                    }
                    for block in live {
                        marks[block.at.index()..][..block.header.size() as usize]
                            .iter()
                            .for_each(|m| *m.lock().unwrap() = 0);
                        heap.free(&mut cache, block.at, None).unwrap();
                    }
                    heap.parking().flush(&mut cache);
                });
            }
        });
        if ceiling == 0 {
            // L3 without any help from heal.
            assert_eq!(heap.verify().unwrap().free.blocks, 1);
        }
        rest_is_one_block(heap, &mut ThreadCache::new(1));
    }
}

/// Stops a participant at every step of an allocation, a free and a healing, strict and parking, small and
/// large; then `check` gets the heap as it was left, another participant's cache, and what happened.
fn at_every_stop(mut check: impl FnMut(&Heap<BoxedRegion<Probe<Native>>>, &mut ThreadCache, u32, &str)) {
    let mut stops = 0;
    let wide = [(0, 1), (0, 7), (0, 50), (0, 500), (30, 1), (30, 7)].map(|setup| (setup, WIDE));
    let packed = [(0, 5), (0, 30), (0, 501), (30, 5), (30, 34)].map(|setup| (setup, PACKED));
    for ((ceiling, size), shift) in wide.into_iter().chain(packed) {
        for part in ["allocate", "free", "heal"] {
            for k in 0.. {
                let heap = heap_of::<Probe<Native>>(4096, shift);
                let mut victim = ThreadCache::with_ceiling(1, ceiling);
                let left = heap.allocate(&mut victim, size, 1, Kind::Raw).unwrap();
                let held = heap.allocate(&mut victim, size, 1, Kind::Raw).unwrap();
                let right = heap.allocate(&mut victim, size, 1, Kind::Raw).unwrap();
                heap.free(&mut victim, left.at, None).unwrap();
                heap.free(&mut victim, right.at, None).unwrap();
                let finished = stopped_at(k, || match part {
                    "allocate" => drop(heap.allocate(&mut victim, size, 1, Kind::Raw)),
                    "free" => heap.free(&mut victim, held.at, None).unwrap(),
                    _ => heap.heal(&mut victim),
                });
                stops += 1;
                let what = format!("{part} of {size} (granules of {} bytes) stopped at {k}", 1 << shift);
                check(&heap, &mut ThreadCache::with_ceiling(2, ceiling), size, &what);
                if finished.is_some() {
                    break;
                }
            }
        }
    }
    println!("{stops} stops");
    assert!(stops > 200);
}

#[test]
fn s4_tiles_cover_the_sector_wherever_a_participant_stops() {
    at_every_stop(|heap, _, _, what| {
        assert_eq!(heap.tally().expect(what).granules, heap.layout().granules as u64, "{what}");
    });
}

/// With one participant stopped at each step of an allocation and of a free, the others never fail.
#[test]
fn l2_a_stopped_participant_hides_no_more_than_its_own_block() {
    at_every_stop(|heap, other, size, what| {
        // What may be hidden: the stopped one's block, the one it asked for (or the run that it cuts up), no more.
        let spans = super::runs::LARGEST_RUN + 8;
        let hidden = size + (spans << heap.layout().span_shift);
        for n in [1, 7, 64, 1000, heap.layout().granules - 3 * size - hidden] {
            let block = heap.allocate(other, n, 1, Kind::Raw).unwrap_or_else(|e| panic!("{what}: no {n}: {e:?}"));
            heap.free(other, block.at, None).unwrap();
        }
    });
}

/// One stops after it has acknowledged a huge block, another while it sweeps that block up for a single granule: the
/// block is nobody's secret.
#[test]
fn l2_a_sweeper_that_stops_does_not_hide_what_it_sweeps() {
    let mut stops = 0;
    for first in 0..8 {
        for k in 0.. {
            let heap = heap::<Probe<Native>>(4096);
            let mut caches =
                [ThreadCache::with_ceiling(1, 0), ThreadCache::with_ceiling(2, 0), ThreadCache::with_ceiling(3, 0)];
            let all = heap.allocate(&mut caches[0], 4096, 1, Kind::Raw).unwrap();
            stopped_at(first, || heap.free(&mut caches[0], all.at, None).unwrap());
            if heap.look(all.at).is_live() {
                break;
            }
            let finished = stopped_at(k, || heap.allocate(&mut caches[1], 1, 1, Kind::Raw).map(drop));
            stops += 1;
            for n in [1, 100, 3900] {
                heap.allocate(&mut caches[2], n, 1, Kind::Raw).map_or_else(
                    |e| panic!("free stopped at {first}, allocate(1) at {k}: no {n}: {e:?}"),
                    |block| heap.free(&mut caches[2], block.at, None).unwrap(),
                );
            }
            if finished.is_some() {
                break;
            }
        }
    }
    println!("{stops} stops");
    assert!(stops > 50);
}

/// Nobody waits for a stopped participant: the others end after a bounded number of their own accesses.
#[test]
fn l1_others_finish_whatever_step_a_participant_stops_at() {
    let mut most = 0;
    at_every_stop(|heap, other, size, _| {
        for n in [size, 3, 200] {
            Counts::reset();
            let block = heap.allocate(other, n, 1, Kind::Raw).unwrap();
            heap.free(other, block.at, None).unwrap();
            most = most.max(Counts::get().accesses());
        }
    });
    println!("at most {most} accesses for an allocation and a free beside a stopped participant");
    assert!(most < 1000, "{most}");
}

/// In a full segment, whoever frees a block and asks for another of its kind is served at once, whatever the
/// size and the alignment: the work of both does not grow with the segment.
#[test]
fn l4_in_a_full_segment_a_block_comes_back_to_its_kind() {
    for (size, align) in [(7, 1), (94, 4), (63, 16), (5, 64), (118, 8), (188, 1), (256, 256), (700, 8)] {
        for granules in [1 << 17, 1 << 19] {
            let layout =
                Layout::new(granules, Params { biased: true, participants: 4, ..Params::for_segment(1 << 20) });
            let heap = Heap::format(BoxedRegion::<Probe<Native>>::new(layout));
            let (mut cache, mut rng) = (ThreadCache::new(1), Rng(7));
            let mut live = vec![];
            while let Ok(block) = heap.allocate(&mut cache, size, align, Kind::Raw) {
                live.push(block);
            }
            let mut most = 0;
            for _ in 0..1000 {
                let block = live.swap_remove(rng.below(live.len() as u32) as usize);
                Counts::reset();
                heap.free(&mut cache, block.at, None).unwrap();
                live.push(heap.allocate(&mut cache, size, align, Kind::Raw).expect("one is free"));
                most = most.max(Counts::get().accesses());
            }
            println!("{size} granules at {align} of {granules}: at most {most} accesses");
            assert!(most < 30, "{size} at {align} of {granules}: {most}");
        }
    }
}

/// Accesses of one allocation and one free do not grow with the segment or with the number of blocks in it.
#[test]
fn l4_work_grows_neither_with_the_segment_nor_with_its_blocks() {
    for ceiling in [0, 30] {
        let mut table = vec![];
        for granules in [1 << 12, 1 << 16, 1 << 20, 1 << 22] {
            for blocks in [0, granules / 64] {
                let heap = heap::<Probe<Native>>(granules);
                let mut cache = ThreadCache::with_ceiling(1, ceiling);
                let mut rng = Rng(7);
                // Blocks with holes of many sizes between them.
                let live: Vec<_> = (0..blocks * 2)
                    .map(|_| heap.allocate(&mut cache, 1 + rng.below(20), 1, Kind::Raw).unwrap())
                    .collect();
                for block in live.iter().step_by(2) {
                    heap.free(&mut cache, block.at, None).unwrap();
                }
                let (mut sum, mut most) = (0, 0);
                for _ in 0..2000 {
                    Counts::reset();
                    let block = heap.allocate(&mut cache, 1 + rng.below(40), 1, Kind::Raw).unwrap();
                    heap.free(&mut cache, block.at, None).unwrap();
                    let accesses = Counts::get().accesses();
                    (sum, most) = (sum + accesses, most.max(accesses));
                }
                println!(
                    "ceiling {ceiling}, {granules:>8} granules, {blocks:>6} holes: mean {:.1}, most {most}",
                    sum as f64 / 2000.0
                );
                table.push((sum as f64 / 2000.0, most));
            }
        }
        let mean = |range: std::ops::Range<usize>| table[range].iter().map(|row| row.0).fold(0.0, f64::max);
        assert!(mean(4..8) < 2.0 * mean(0..4) + 10.0, "{table:?}");
        assert!(table.iter().all(|row| row.1 < 2000), "{table:?}");
    }
}

/// A newcomer takes a dead participant's number over.
fn revoke<B: Backend>(heap: &Heap<BoxedRegion<B>>, cache: &mut ThreadCache) {
    let number = cache.owner();
    let mut recovery = Recovery::of(vec![heap.recoveries().slots().bury(number, number)], Policy::GiveBack);
    assert!(heap.recoveries().recover_predecessor(&mut recovery), "nobody adopts");
    assert!(heap.recoveries().slots().take(number, 0), "nobody pins it");
    heap.settle_all(cache);
}

/// Participant 1 is recovered by a survivor, or by a newcomer that takes its number over.
fn recover_first<B: Backend>(heap: &Heap<BoxedRegion<B>>, cache: &mut ThreadCache, newcomer: bool) {
    match newcomer {
        true => revoke(heap, cache),
        false => drop(heap.recoveries().recover(cache, 1, Policy::GiveBack)),
    }
}

/// C1: a participant is killed at every step of every operation, its survivor (killed at every step of the recovery,
/// too, and replaced) gives back what it held, and nothing is missing.
#[test]
fn c1_killed_at_every_step_and_recovered() {
    const GRANULES: u32 = 512;
    let (mut kills, mut kills_in_recovery) = (0, 0);
    // Recovered by survivors, or by newcomers that have taken over the dead one's slot and number.
    let wide = [(0, 1), (0, 3), (2, 1), (30, 2)].map(|setup| (setup, WIDE));
    let packed = [(0, 5), (30, 7)].map(|setup| (setup, PACKED));
    let setups = wide.into_iter().chain(packed).flat_map(|setup| [(setup, [3, 4]), (setup, [1, 1])]);
    for (((ceiling, size), shift), [first, second]) in setups {
        for part in ["allocate", "allocate aligned", "free", "spill", "heal"] {
            let mut finished_at_all;
            for k in 0.. {
                finished_at_all = false;
                // How far the recovery gets before it is killed as well; the last round lets it finish.
                for deep in [Some(0), Some(7), Some(25), Some(60), None] {
                    let heap = heap_of::<Probe<Native>>(GRANULES, shift);
                    let mut victim = ThreadCache::with_ceiling(1, ceiling);
                    let mut witness = ThreadCache::with_ceiling(2, ceiling);
                    let kept = heap.allocate(&mut witness, 5, 1, Kind::Raw).unwrap();
                    let blocks: Vec<_> =
                        (0..40).map(|_| heap.allocate(&mut victim, size, 1, Kind::Typed(9)).unwrap()).collect();
                    for block in blocks.iter().skip(30).step_by(2) {
                        heap.free(&mut victim, block.at, None).unwrap();
                    }
                    let finished = stopped_at(k, || match part {
                        "allocate" => drop(heap.allocate(&mut victim, size, 1, Kind::Typed(7)).unwrap()),
                        "allocate aligned" => drop(heap.allocate(&mut victim, size, 8, Kind::Raw).unwrap()),
                        "free" => heap.free(&mut victim, blocks[31].at, None).unwrap(),
                        "spill" => (0..30).for_each(|i| heap.free(&mut victim, blocks[i].at, None).unwrap()),
                        _ => heap.heal(&mut victim),
                    });
                    kills += 1;
                    // The survivor works on at once.
                    let more = heap.allocate(&mut witness, 3, 1, Kind::Raw).unwrap();
                    heap.free(&mut witness, kept.at, None).unwrap();
                    let recover =
                        |number| recover_first(&heap, &mut ThreadCache::with_ceiling(number, ceiling), first == second);
                    if let Some(deep) = deep {
                        let done = stopped_at(deep, || recover(first));
                        kills_in_recovery += done.is_none() as u32;
                    }
                    let mut cache = ThreadCache::new(second);
                    if first != second {
                        heap.recoveries().recover(&mut cache, first, Policy::GiveBack);
                    }
                    recover(second);
                    assert!(heap.live_at(more.at).is_ok(), "S1: {part} of {size} killed at {k}, {deep:?}");
                    heap.free(&mut witness, more.at, None).unwrap();
                    if ceiling == 0 && part != "spill" {
                        // L3 and the hints, by the recovery alone.
                        heap.verify().unwrap_or_else(|e| panic!("{part} of {size} killed at {k}, {deep:?}: {e}"));
                    }
                    heap.heal(&mut cache);
                    let tally =
                        heap.verify().unwrap_or_else(|e| panic!("{part} of {size} killed at {k}, {deep:?}: {e}"));
                    assert_eq!(tally.free.granules, GRANULES as u64, "{part} of {size} killed at {k}, {deep:?}");
                    assert_eq!(tally.free.blocks, 1);
                    for g in 1..GRANULES {
                        assert_eq!(heap.look(Granule(g)).state(), State::Inside, "a stale head at {g}: {part} at {k}");
                    }
                    finished_at_all = finished.is_some();
                }
                if finished_at_all {
                    break;
                }
            }
        }
    }
    println!("{kills} kills, {kills_in_recovery} of them followed by a kill in the recovery; nothing lost");
    assert!(kills > 1000 && kills_in_recovery > 500);
}

#[test]
fn l4_a_parked_block_costs_one_read_modify_write_each_way() {
    let heap = heap::<Probe<Native>>(4096);
    let mut cache = ThreadCache::new(1);
    for size in [1, 2, 9, 30] {
        let warm = heap.allocate(&mut cache, size, 1, Kind::Raw).unwrap();
        heap.free(&mut cache, warm.at, None).unwrap();
        Counts::reset();
        let block = heap.allocate(&mut cache, size, 1, Kind::Raw).unwrap();
        assert_eq!(Counts::get(), Counts { loads: 1, rmws: 1, ..Counts::default() });
        Counts::reset();
        heap.free(&mut cache, block.at, None).unwrap();
        // And it is counted that something was given back (matrix::news).
        assert_eq!(Counts::get(), Counts { loads: 2, stores: 1, rmws: 1, ..Counts::default() });
    }
}

#[test]
fn the_lifecycle_is_visible() {
    let heap = heap::<Native>(256);
    let mut cache = ThreadCache::new(3);
    assert_eq!(heap.look(Granule(0)).state(), State::Free);
    let block = heap.allocate(&mut cache, 2, 1, Kind::Raw).unwrap();
    assert_eq!((block.header.state(), block.header.owner()), (State::Allocated, 3));
    heap.free(&mut cache, block.at, None).unwrap();
    assert_eq!(heap.look(block.at).state(), State::Acked);
    heap.parking().flush(&mut cache);
    assert_eq!(heap.look(block.at).state(), State::Inside);
}

/// A fresh segment in `/dev/shm`; its name goes away whatever happens.
struct Scratch(crate::handlers::Handler);

impl Scratch {
    fn new(bytes: usize) -> Self {
        Self(super::core::AtomicMatrix::bootstrap(None, bytes).expect("room in /dev/shm"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.0.unlink();
    }
}

/// The endurance test: 8 threads, 32 to 544 bytes, 70 % allocations and 30 % frees until the quota of a thread is
/// full, frees in random order.
#[test]
#[ignore = "endurance: 600 s on 8 threads; MATRIX_ENDURANCE_SECONDS shortens it"]
fn test_long_term_fragmentation_healing() {
    const THREADS: u64 = 8;
    let seconds = std::env::var("MATRIX_ENDURANCE_SECONDS").map_or(600, |text| text.parse().expect("whole seconds"));
    let scratch = Scratch::new(50 << 20);
    let handler = &scratch.0;
    let start = std::time::Instant::now();
    let end = start + std::time::Duration::from_secs(seconds);
    let done = endurance::Tallied::default();
    std::thread::scope(|scope| {
        for seed in 1..=THREADS {
            let done = &done;
            scope.spawn(move || endurance::churn(handler, seed, end, done));
        }
        let mut next = 10;
        while std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(200));
            let (passed, operations) = (start.elapsed().as_secs_f64(), done.operations());
            if passed >= next as f64 {
                println!("{passed:.0} s: {operations} operations, {:.2} Mop/s", operations as f64 / passed / 1e6);
                next += 10;
            }
        }
    });
    let passed = start.elapsed().as_secs_f64();
    endurance::report(handler, &done, passed);

    let stats = handler.verify().unwrap();
    assert_eq!(stats.live_blocks, done.live.lock().unwrap().len() as u64, "S4");
    assert_eq!(stats.live_bytes + stats.free_bytes + stats.parked_bytes, stats.sector_bytes, "S4");
    for pointer in done.live.lock().unwrap().drain(..) {
        handler.free_raw(pointer).unwrap();
    }
    handler.heal().unwrap();
    let stats = handler.verify().unwrap();
    println!("all freed and healed: {} free block of {} bytes", stats.free_blocks, stats.free_bytes);
    assert_eq!((stats.free_blocks, stats.free_bytes), (1, stats.sector_bytes), "L3: {stats:?}");
}

/// L2: room to spare, for alignment or for the size of a class, is asked for only while there is some.
#[test]
fn l2_a_hole_that_fits_exactly_serves() {
    for ceiling in [0, 30] {
        let plain = [(17, 17, 1), (51, 1, 64), (64, 64, 64), (100, 36, 64), (19, 19, 1), (9, 1, 8)];
        // Spans of four granules, with room to spare neither behind nor before.
        let packed = [(20, 20, 1), (20, 18, 1), (20, 17, 4), (64, 36, 32), (8, 5, 4), (8, 6, 2)];
        let cases = plain.map(|case| (WIDE, case)).into_iter().chain(packed.map(|case| (PACKED, case)));
        for (shift, (granules, size, align)) in cases {
            let heap = heap_of::<Native>(granules, shift);
            let mut cache = ThreadCache::with_ceiling(1, ceiling);
            let block = heap.allocate(&mut cache, size, align, Kind::Raw);
            let block = block.unwrap_or_else(|e| panic!("{size} at {align} of {granules}: {e:?}"));
            assert!(block.at.0.is_multiple_of(align) && block.header.size() >= size);
            heap.free(&mut cache, block.at, None).unwrap();
            rest_is_one_block(&heap, &mut cache);
        }
        // A hole in the middle.
        let heap = heap::<Native>(64);
        let mut cache = ThreadCache::with_ceiling(1, ceiling);
        let blocks = [20, 17, 27].map(|size| {
            let left = heap.layout().granules;
            heap.runs().find_and_take(&mut cache, size.min(left)).unwrap()
        });
        heap.operations().ripple(&mut cache, blocks[1]);
        assert!(heap.allocate(&mut cache, 18, 1, Kind::Raw).is_err());
        assert_eq!(heap.allocate(&mut cache, 17, 1, Kind::Raw).unwrap().at, blocks[1].at);
    }
}

/// An index that has gone stale names a granule of a span in which another block has been parked since, of
/// the same size and by the same cache: it is not taken for that block.
#[test]
fn s1_a_stale_index_does_not_lead_to_its_span() {
    for biased in [false, true] {
        let layout = heap_of::<Native>(64, PACKED).layout().clone();
        let layout = Layout::new(64, Params { biased, ..layout.params });
        let heap = Heap::format(BoxedRegion::<Native>::new(layout));
        let (mut cache, mut other) = (ThreadCache::with_ceiling(1, 4), ThreadCache::with_ceiling(2, 0));
        // From the end: five granules at 59, parked; then at 58, under the index of the other.
        let first = heap.allocate(&mut ThreadCache::with_ceiling(1, 0), 5, 1, Kind::Raw).unwrap();
        heap.free(&mut cache, first.at, None).unwrap();
        heap.heal(&mut other);
        let one = heap.allocate(&mut other, 4, 1, Kind::Raw).unwrap();
        heap.allocate(&mut other, 6, 1, Kind::Raw).unwrap();
        heap.free(&mut other, one.at, None).unwrap();
        let second = heap.allocate(&mut ThreadCache::with_ceiling(1, 0), 5, 1, Kind::Raw).unwrap();
        heap.free(&mut cache, second.at, None).unwrap();
        let mut found = vec![];
        while let Some(block) = heap.allocate_parked(&mut cache, 5, Kind::Raw) {
            assert_eq!(heap.live_at(block.at), Ok(block), "S1: {first:?} {second:?}");
            found.push(block.at);
        }
        found.dedup();
        assert_eq!(found.len(), 1, "S1: {first:?} {second:?}");
    }
}
