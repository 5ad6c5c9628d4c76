//! Larger models of the production heap under shuttle: random and priority-based (PCT) schedules, replayable by seed.
//!
//! Everything is sequentially consistent here: no evidence for any ordering. `MATRIX_SEED` and
//! `MATRIX_SCHEDULES` choose other schedules and more of them.

#[path = "../call/play.rs"]
mod call;
#[path = "../../support/calls.rs"]
mod calls;
#[path = "../channel/play.rs"]
mod channel;
#[path = "../../support/common.rs"]
mod common;
#[path = "../../support/linear.rs"]
mod linear;
#[path = "../map/play.rs"]
mod map;
#[expect(unreachable_pub, reason = "the model is written as a module of its own")]
#[path = "../../../models/sequential.rs"]
mod sequential;
#[path = "../stage.rs"]
mod stage;
mod structures;
#[path = "../../support/survivors.rs"]
mod survivors;
#[path = "../sync/play.rs"]
mod sync;
#[path = "../topic/play.rs"]
mod topic;

use atomic_matrix::backend::Mutant;
use atomic_matrix::backend::orderings::MUTANTS;
use atomic_matrix::backend::shuttle::{Shuttle, set_mutant, stopped_at};
use atomic_matrix::check::turns;
use atomic_matrix::matrix::heap::{Heap, Kind, Live, Refusal, ThreadCache};
use atomic_matrix::matrix::recovery::Policy;
use atomic_matrix::segment::layout::{Layout, Params};
use atomic_matrix::segment::region::{BoxedRegion, Region};
use atomic_matrix::segment::size_class::Larges;
use calls::{call, excuse, id};
use common::setting;
use linear::{Span, linearizable};
use sequential::{Call, State};
use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use std::cell::Cell;
use std::sync::{Arc, Mutex};
use survivors::is_found_elsewhere;

/// What a scenario is made of.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    threads: u16,
    granules: u32,
    /// log2 of a granule's bytes: below 6, several share a header.
    shift: u32,
    /// Of the caches; 0 parks nothing.
    ceiling: usize,
    /// Which blocks are large, and granules of them that a cache parks.
    larges: Larges,
    pool: u32,
    batches: usize,
    /// Steps of each thread.
    steps: u32,
    /// Blocks that a thread holds at most, and granules in each.
    blocks: usize,
    largest: u32,
    /// There is always room: no allocation may fail (L2).
    roomy: bool,
    /// Threads heal now and then.
    heals: bool,
    /// So many threads stop for ever, each at a random access; another recovers them while the rest work on.
    mortals: u16,
    /// All schedules have the same operations, those of this round; else each has its own.
    round: Option<u64>,
}

/// Two chunks, hardly enough room, nothing parked.
const TIGHT: Scenario = Scenario {
    name: "tight strict",
    threads: 6,
    granules: 70,
    shift: 6,
    ceiling: 0,
    larges: Larges::USUAL,
    pool: 0,
    batches: 0,
    steps: 8,
    blocks: 3,
    largest: 12,
    roomy: false,
    heals: false,
    mortals: 0,
    round: None,
};
/// As much room as all blocks, all operations in flight and the fragments between them can take, and one more block.
const ROOMY: Scenario = Scenario {
    name: "roomy strict",
    threads: 5,
    granules: 2 * 5 * (2 * 3 + 3 + 3),
    blocks: 2,
    largest: 3,
    roomy: true,
    heals: true,
    ..TIGHT
};
/// Stacks of two, batches in exchange, healing in between.
const PARKING: Scenario = Scenario {
    name: "tight parking",
    threads: 8,
    granules: 80,
    ceiling: 2,
    batches: 1,
    largest: 4,
    heals: true,
    ..TIGHT
};
/// Runs of parked blocks are cut up; an operation may hide a run.
const RUNS: Scenario = Scenario {
    name: "roomy parking",
    threads: 4,
    granules: 700,
    ceiling: 8,
    batches: 1,
    blocks: 4,
    largest: 3,
    roomy: true,
    heals: true,
    ..TIGHT
};
/// So little room that threads help, abort and join the same few blocks all the time.
const TINY: Scenario =
    Scenario { name: "tiny strict", threads: 4, granules: 5, steps: 12, blocks: 2, largest: 2, ..TIGHT };
/// Three of seven stop for ever, with parked blocks, batches and all.
const DEATHS: Scenario = Scenario { name: "three of seven die", threads: 7, granules: 120, mortals: 3, ..PARKING };
/// The smallest that still has a race: every schedule is tried, one after the other, as far as the bound goes.
const SMALLEST: Scenario =
    Scenario { name: "smallest strict", threads: 2, granules: 3, steps: 2, blocks: 1, largest: 2, ..TIGHT };
/// Four granules share a header, and blocks begin anywhere among them.
const PACKED: Scenario = Scenario { name: "packed parking", granules: 280, shift: 4, largest: 16, ..PARKING };
/// The same with nothing parked, and hardly any room.
const PACKED_TINY: Scenario = Scenario { name: "packed tiny strict", granules: 20, shift: 4, largest: 8, ..TINY };
/// Blocks of more than one granule are large: parked in small pools, evicted, and taken by whoever runs short.
const LARGE: Scenario = Scenario {
    name: "large parking",
    threads: 6,
    granules: 60,
    larges: Larges { from: 2, part: 4 },
    pool: 9,
    largest: 7,
    ..PARKING
};
/// The same, and two of six stop for ever.
const LARGE_DEATHS: Scenario = Scenario { name: "large parking, two of six die", mortals: 2, ..LARGE };
const ALL: [Scenario; 10] = [TIGHT, ROOMY, PARKING, RUNS, TINY, DEATHS, PACKED, PACKED_TINY, LARGE, LARGE_DEATHS];

struct World {
    heap: Heap<BoxedRegion<Shuttle>>,
    marks: Mutex<Vec<u16>>,
    /// Those who have stopped and wait for their recovery.
    dead: Mutex<Vec<u16>>,
}

impl World {
    fn mark(&self, block: Live, from: u16, to: u16) {
        for mark in &mut self.marks.lock().unwrap()[block.at.index()..][..block.header.size() as usize] {
            assert_eq!(std::mem::replace(mark, to), from, "S1: {block:?}");
        }
    }
    fn allocate(&self, cache: &mut ThreadCache, size: u32, roomy: bool) -> Option<Live> {
        let block = match self.heap.allocate(cache, size, 1, Kind::Raw) {
            Ok(block) => block,
            Err(full) if roomy => panic!("L2: no {size}: {full:?}"),
            Err(_) => return None,
        };
        assert!(block.header.size() >= size, "S2");
        self.mark(block, 0, cache.owner());
        self.heap.region().touch(block.at, block.header.size());
        Some(block)
    }
    /// Recovers one that has stopped, if there is one.
    fn recover(&self, cache: &mut ThreadCache) -> bool {
        let Some(dead) = self.dead.lock().unwrap().pop() else { return false };
        self.marks.lock().unwrap().iter_mut().filter(|mark| **mark == dead).for_each(|mark| *mark = 0);
        self.heap.recoveries().recover(cache, dead, Policy::GiveBack);
        RECOVERED.set(RECOVERED.get() + 1);
        true
    }
    fn free(&self, cache: &mut ThreadCache, block: Live) {
        self.heap.region().touch(block.at, block.header.size());
        self.mark(block, cache.owner(), 0);
        self.heap.free(cache, block.at, Some(block.header.generation())).expect("S5: it is live");
    }
}

thread_local! {
    static SCHEDULES: Cell<u64> = const { Cell::new(0) };
    static RECOVERED: Cell<u64> = const { Cell::new(0) };
}

struct Rng(u64);
impl Rng {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as u32) % n
    }
}

impl Scenario {
    fn run(self) {
        let round = self.round.unwrap_or(SCHEDULES.get());
        SCHEDULES.set(SCHEDULES.get() + 1);
        let params = Params {
            granule_shift: self.shift,
            participants: 9,
            batches: self.batches,
            directory: 0,
            header_words: 1,
            line_words: 1,
            biased: false,
            larges: self.larges,
        };
        let heap = Heap::format(BoxedRegion::new(Layout::new(self.granules, params)));
        let marks = Mutex::new(vec![0; self.granules as usize]);
        let world = Arc::new(World { heap, marks, dead: Mutex::default() });
        let threads: Vec<_> = (1..=self.threads)
            .map(|owner| {
                let world = world.clone();
                shuttle::thread::spawn(move || {
                    if owner > self.mortals {
                        return self.thread(&world, owner, round);
                    }
                    let last = Rng(round << 8 | owner as u64).below(400) as u64;
                    if stopped_at(last, || self.thread(&world, owner, round)).is_none() {
                        world.dead.lock().unwrap().push(owner);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        while world.recover(&mut ThreadCache::with_ceiling(9, 0)) {}
        if self.ceiling > 0 {
            world.heap.heal(&mut ThreadCache::with_ceiling(9, 0));
        }
        // With nothing parked, L3 holds without any healing.
        let tally = world.heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"));
        assert_eq!((tally.free.blocks, tally.free.granules), (1, self.granules as u64), "L3");
    }

    fn thread(self, world: &World, owner: u16, round: u64) {
        let mut cache = ThreadCache::with_pool(owner, self.ceiling, self.pool);
        let mut rng = Rng(round << 8 | owner as u64);
        rng.below(2);
        let mut live: Vec<Live> = vec![];
        for _ in 0..self.steps {
            if owner > self.mortals && self.mortals > 0 && rng.below(3) == 0 {
                world.recover(&mut cache);
            }
            match rng.below(16) {
                0 if self.heals => world.heap.heal(&mut cache),
                1..8 if live.len() < self.blocks => {
                    live.extend(world.allocate(&mut cache, 1 + rng.below(self.largest), self.roomy));
                }
                _ if live.is_empty() => {}
                _ => {
                    let block = live.swap_remove(rng.below(live.len() as u32) as usize);
                    world.free(&mut cache, block);
                    let again = world.heap.free(&mut cache, block.at, Some(block.header.generation()));
                    assert!(matches!(again, Err(Refusal::NotLive(_) | Refusal::Stale { .. })), "S5");
                }
            }
        }
        live.into_iter().for_each(|block| world.free(&mut cache, block));
    }

    fn explore(self, scheduler: impl Scheduler + 'static) {
        let mut config = shuttle::Config::new();
        config.stack_size = 1 << 18;
        config.silence_warnings = true;
        if turns::quiet() {
            config.failure_persistence = shuttle::FailurePersistence::None;
        }
        SCHEDULES.set(0);
        shuttle::Runner::new(scheduler, config).run(move || self.run());
    }

    fn check(self) {
        let (seed, schedules) = (setting("MATRIX_SEED", 20), setting("MATRIX_SCHEDULES", 2000));
        println!(
            "{}: seed {seed}; replay with MATRIX_SEED={seed} MATRIX_SCHEDULES={schedules}, from the first schedule on",
            self.name
        );
        self.explore(RandomScheduler::new_from_seed(seed, schedules as usize));
        println!("{} | random | {} schedules | seed {seed}", self.name, SCHEDULES.get());
        assert_eq!(SCHEDULES.get(), schedules);
        self.explore(PctScheduler::new_from_seed(seed, 3, schedules as usize));
        println!("{} | PCT(3) | {} schedules | seed {seed}", self.name, SCHEDULES.get());
        assert_eq!(SCHEDULES.get(), schedules);
    }
}

/// One history of overlapping calls by several threads: linearizable, or a panic.
fn names(round: u64) {
    let params = Params {
        granule_shift: 6,
        participants: 9,
        batches: 1,
        directory: 3,
        header_words: 1,
        line_words: 1,
        biased: false,
        larges: Larges::USUAL,
    };
    let heap = Arc::new(Heap::format(BoxedRegion::<Shuttle>::new(Layout::new(24, params))));
    let clock = Arc::new(Mutex::new(0));
    let history = Arc::new(Mutex::new(vec![]));
    let now = |clock: &Mutex<u64>| {
        let mut clock = clock.lock().unwrap();
        *clock += 1;
        *clock
    };
    let blocks: Vec<Live> = (0..4)
        .map(|_| {
            let block = heap.allocate(&mut ThreadCache::with_ceiling(8, 0), 2, 1, Kind::Raw).expect("there is room");
            heap.ownership().give_to(block, 0).expect("it is live");
            for call in [Call::Allocate { block: id(block), size: 2 }, Call::HandOver { block: id(block) }] {
                history.lock().unwrap().push(Span { call, from: now(&clock), to: now(&clock) });
            }
            block
        })
        .collect();
    let known = Arc::new(Mutex::new(blocks));
    let mut random = fastrand::Rng::with_seed(round);
    let ceiling = random.usize(0..3);
    let threads: Vec<_> = (1..=random.u16(2..=5))
        .map(|owner| {
            let (heap, clock, history, known) = (heap.clone(), clock.clone(), history.clone(), known.clone());
            let mut random = random.fork();
            shuttle::thread::spawn(move || {
                let cache = &mut ThreadCache::with_ceiling(owner, ceiling);
                for _ in 0..random.usize(1..6) {
                    let from = now(&clock);
                    let call = call(&heap, cache, &known, &mut random);
                    history.lock().unwrap().push(Span { call, from, to: now(&clock) });
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut history = history.lock().unwrap().clone();
    excuse(&mut history);
    assert!(linearizable(&history, State::default(), |state, call| state.after(call)), "not linearizable: {history:?}");
}

#[test]
fn shuttle_s1_s5_histories_are_linearizable() {
    let (seed, schedules) = (setting("MATRIX_SEED", 20), setting("MATRIX_SCHEDULES", 2000));
    SCHEDULES.set(0);
    let mut config = shuttle::Config::new();
    config.silence_warnings = true;
    shuttle::Runner::new(RandomScheduler::new_from_seed(seed, schedules as usize), config).run(|| {
        SCHEDULES.set(SCHEDULES.get() + 1);
        names(SCHEDULES.get());
    });
    println!("histories | random | {} schedules | seed {seed}", SCHEDULES.get());
    assert_eq!(SCHEDULES.get(), schedules);
}

/// Every schedule of the same few operations, depth first, as far as the bound goes.
#[test]
fn shuttle_s1_l3_depth_first() {
    let (most, mut sum) = (setting("MATRIX_SCHEDULES", 2000), 0);
    for round in 0..10 {
        Scenario { round: Some(round), ..SMALLEST }.explore(DfsScheduler::new(Some(most as usize), false));
        let reached = SCHEDULES.get();
        let bound = if reached < most { "exhaustive" } else { "bounded" };
        println!("{}, operations {round} | depth first | {reached} schedules | {bound}", SMALLEST.name);
        sum += reached;
    }
    assert!(sum > 5000, "only {sum} schedules");
}

/// A schedule that fails, fails again when its seed is given again, at the same schedule and with the same words.
#[test]
fn shuttle_failures_replay_from_their_seed() {
    set_mutant(Some(Mutant::PopSizeUnchecked));
    let [first, again] = [(); 2].map(|()| {
        let run = || PARKING.explore(RandomScheduler::new_from_seed(7, 500));
        let message = turns::caught(run).expect("the fault is noticed");
        (SCHEDULES.get(), message)
    });
    set_mutant(None);
    println!("PopSizeUnchecked: schedule {} of seed 7: {}", first.0, first.1);
    assert_eq!(first, again);
    assert!(first.0 > 1, "the first schedule of a seed shows little");
}

#[test]
fn shuttle_c1_three_of_seven_die() {
    RECOVERED.set(0);
    DEATHS.check();
    println!("{} recovered", RECOVERED.get());
    assert!(RECOVERED.get() > SCHEDULES.get(), "hardly anybody died");
}

#[test]
fn shuttle_l3_tight_strict() {
    TIGHT.check();
}

#[test]
fn shuttle_l2_roomy_strict() {
    ROOMY.check();
}

#[test]
fn shuttle_s1_tight_parking() {
    PARKING.check();
}

#[test]
fn shuttle_l2_roomy_parking() {
    RUNS.check();
}

#[test]
fn shuttle_l3_tiny_strict() {
    TINY.check();
}

#[test]
fn shuttle_s1_several_granules_share_a_header() {
    PACKED.check();
    PACKED_TINY.check();
}

/// Which faults these schedules notice. The survivors are printed, too: SURVIVORS are known, any other fails the test.
#[test]
fn mutant_shuttle_table() {
    // An early head is harmful only if its carver is killed, and for the helper's second reading there is the
    // search below. What only a participant that stops for ever
    // makes harmful, `crash` and `schedules` notice.
    const SURVIVORS: &[Mutant] = &[
        Mutant::HazardUnset,
        Mutant::HazardIgnored,
        // All are of one process here.
        Mutant::FarLeftOut,
        // A number's next holder is met in `crash` and under loom.
        Mutant::RecoveryRecheckDropped,
        Mutant::PinIgnored,
        Mutant::HelperRecheckDropped,
        Mutant::HintRelookDropped,
        Mutant::CarveAckedEarly,
        Mutant::LargeHeld,
        Mutant::LeafAloneRehinted,
        Mutant::NewOwnerRefused,
        Mutant::PublishedFromAnybody,
        Mutant::ChainUnrepaired,
        Mutant::RecoveryUnsettled,
        Mutant::PositionUnchecked,
        Mutant::LargeFitUnchecked,
        Mutant::PoolUnbounded,
    ];
    let mut lost = vec![];
    for &mutant in MUTANTS {
        set_mutant(Some(mutant));
        let caught = ALL.iter().find_map(|scenario| {
            let run = || scenario.explore(RandomScheduler::new_from_seed(20, 200));
            let message = turns::caught(run)?;
            Some(format!("{}, schedule {}: {message}", scenario.name, SCHEDULES.get()))
        });
        set_mutant(None);
        println!("mutant {mutant:?} | {}", caught.as_deref().unwrap_or("SURVIVES"));
        if caught.is_none() && !is_found_elsewhere(mutant, SURVIVORS) {
            lost.push(mutant);
        }
    }
    assert!(lost.is_empty(), "not noticed: {lost:?}");
}

/// A helper that does not read the head again freezes a block for a join that is not announced any more: one
/// schedule in some tens of thousands, so seed after seed is tried. (Without the fault,
/// `shuttle_l3_tiny_strict` runs the same scenario.)
#[test]
fn mutant_helper_recheck_dropped_is_caught() {
    set_mutant(Some(Mutant::HelperRecheckDropped));
    let caught = (3..63).find_map(|seed| {
        let run = || TINY.explore(RandomScheduler::new_from_seed(seed, 6000));
        let message = turns::caught(run)?;
        Some(format!("{}, seed {seed}, schedule {}: {message}", TINY.name, SCHEDULES.get()))
    });
    set_mutant(None);
    println!("mutant HelperRecheckDropped | {}", caught.as_deref().unwrap_or("SURVIVES"));
    assert!(caught.is_some(), "HelperRecheckDropped survives");
}
