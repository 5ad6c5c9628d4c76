//! Random schedules of several participants, one shared access at a time, replayable by seed.
//!
//! Who goes on, and for how many accesses, is drawn from the seed ([`turns`]). Sequentially consistent: no
//! evidence for an ordering. Tens of thousands of tiny scenarios a second, participants stopped for ever
//! among them, with marks for S1, a bound for L2, and the hints and merges verified at the end *without
//! healing* (L2, L3), after a recovery where somebody was stopped.
//!
//! `MATRIX_SCHEDULES` sets how many of each kind are run, `MATRIX_SEED` the first seed.
#![allow(missing_docs)]

#[path = "../../support/calls.rs"]
mod calls;
#[path = "../../support/common.rs"]
mod common;
#[path = "../../support/linear.rs"]
mod linear;
mod mending;
mod moving;
mod names;
mod news;
mod recovering;
mod resizing;
#[expect(unreachable_pub, reason = "the model is written as a module of its own")]
#[path = "../../../models/sequential.rs"]
mod sequential;
#[path = "../../support/survivors.rs"]
mod survivors;
mod walker;
mod world;

use atomic_matrix::backend::Mutant;
use atomic_matrix::backend::decorators::set_mutant;
use atomic_matrix::backend::orderings::MUTANTS;
use atomic_matrix::check::turns;
use atomic_matrix::matrix::heap::{Kind, Live, ThreadCache};
use atomic_matrix::matrix::recovery::Policy as Give;
use atomic_matrix::matrix::runs::LARGEST_RUN;
use atomic_matrix::segment::size_class::Larges;
use common::setting;
use fastrand::Rng;
use std::cell::RefCell;
use std::rc::Rc;
use survivors::is_found_elsewhere;
use turns::{Player, Scheduling, play};
use world::World;

/// What kind of scenario.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Sort {
    /// A few operations each, of any size, strict or parking.
    Any,
    /// The whole sector is freed by one while the others want single granules.
    Hot,
    /// Hardly any room: the same few granules all the time.
    Tiny,
    /// Searchers are led astray by old hints to where a block is being freed.
    Search,
    /// A block that the hints do not lead to is merged with its left neighbours while a sweep comes near.
    Walk,
    /// As `Any`, and one participant stops for ever.
    Stop,
    /// Runs of parked blocks are cut up and healed away, where other caches remember old ones; one may stop for ever.
    Runs,
    /// As `Any`, `Tiny` and `Stop`, where two or four granules share a header, and blocks begin anywhere among them.
    Packed,
    /// Blocks of two granules and more are large: parked in small pools, evicted, freed by others and sent
    /// home, taken by whoever runs short; one may stop for ever.
    Large,
    /// Calls on names and on blocks that everybody knows: linearizable ([`names`]).
    Names,
}

const SORTS: [Sort; 10] = [
    Sort::Any,
    Sort::Hot,
    Sort::Tiny,
    Sort::Search,
    Sort::Walk,
    Sort::Stop,
    Sort::Runs,
    Sort::Packed,
    Sort::Large,
    Sort::Names,
];

/// Of an aligned request.
const LARGEST_ALIGN: u32 = 8;

/// What a scenario is made of.
struct Plan {
    granules: u32,
    /// log2 of a granule's bytes.
    shift: u32,
    players: usize,
    /// Of the caches; 0 parks nothing.
    ceiling: usize,
    /// Which blocks are large, and granules of them that a cache parks.
    larges: Larges,
    pool: u32,
    /// Granules that are asked for.
    smallest: u32,
    largest: u32,
    /// Steps of each player, and of how many that are no allocations one heals.
    steps: std::ops::Range<usize>,
    heals: u32,
    /// Whether some requests are aligned.
    aligns: bool,
    /// Accesses of all players, about.
    length: u64,
    /// Where the first player stops for ever.
    stop_at: Option<u64>,
}

impl Plan {
    fn draw(sort: Sort, random: &mut Rng) -> Self {
        let granules = [5, 9, 20, 40, 70, 150][random.usize(0..6)];
        let players = random.usize(2..=4);
        let any = Self {
            granules,
            shift: 6,
            players,
            ceiling: if random.bool() { 0 } else { random.usize(1..=3) },
            larges: Larges::USUAL,
            pool: 0,
            largest: [1, 4, granules / 3][random.usize(0..3)].max(1),
            smallest: 1,
            steps: 2..8,
            heals: 12,
            aligns: random.bool(),
            length: 120 * players as u64,
            stop_at: None,
        };
        let stop_at = random.u64(1..150);
        let hot = Self { players: 3, ceiling: 0, largest: 1, steps: 1..2, length: 180, ..any };
        match sort {
            Sort::Any | Sort::Names => any,
            Sort::Hot => Self { granules: [34, 40, 66][random.usize(0..3)], ..hot },
            Sort::Walk => Self { granules: 128, aligns: false, smallest: 17, largest: 17, length: 120, ..hot },
            Sort::Search => Self { granules: 70, largest: 2, length: 90, ..hot },
            Sort::Tiny => {
                let (players, largest) = (random.usize(3..=4), random.u32(1..=2));
                Self { granules: random.u32(3..=9), players, ceiling: 0, largest, steps: 2..5, length: 200, ..any }
            }
            Sort::Stop => Self { stop_at: Some(stop_at), ..any },
            Sort::Packed => {
                let shift = random.u32(4..=5);
                let span = 1 << (6 - shift);
                let granules = [3, 5, 9, 20, 40][random.usize(0..5)] * span;
                let (largest, steps) = (random.u32(span..=(granules / 3).max(2 * span)), 2..random.usize(4..10));
                let stop_at = random.bool().then_some(stop_at);
                Self { granules, shift, smallest: span, largest, steps, stop_at, ..any }
            }
            Sort::Large => {
                let shift = [6, 6, 4][random.usize(0..3)];
                let span = 1 << (6 - shift);
                let granules = [12, 20, 40, 66][random.usize(0..4)] * span;
                let (from, largest) = (random.u32(1..=3) * span, random.u32(2..=granules / span / 3) * span);
                Self {
                    granules,
                    shift,
                    ceiling: random.usize(1..=3),
                    larges: Larges { from, part: 2 },
                    pool: random.u32(1..=granules / 2),
                    smallest: span,
                    largest,
                    steps: 2..12,
                    length: 400,
                    stop_at: random.bool().then_some(stop_at),
                    ..any
                }
            }
            Sort::Runs => {
                let (ceiling, stop_at) = (random.usize(4..=8), random.bool().then(|| random.u64(1..600)));
                Self { granules: random.u32(20..50), ceiling, largest: 1, heals: 2, length: 400, stop_at, ..any }
            }
        }
    }
}

/// The blocks of a player.
type Holding = Rc<RefCell<Vec<Live>>>;

/// What the players hold before they begin.
fn prepare(sort: Sort, plan: &Plan, world: &World, caches: &mut [ThreadCache], random: &mut Rng) -> Vec<Vec<Live>> {
    let mut live: Vec<Vec<Live>> = vec![vec![]; plan.players];
    let mut take = |player: usize, size: u32| {
        let block = world.allocate(&mut caches[player], size, 1, Kind::Raw);
        live[player].extend(block);
        block
    };
    match sort {
        Sort::Hot => _ = take(0, plan.granules),
        Sort::Search => {
            // The first player's last block is where the hints for sizes 1 and 2 lead, which are all old; a
            // free block of 3 lies in another chunk.
            let [_, free, ..] = [1, 3, 64, 1, 1].map(|size| take(0, size).expect("there is room"));
            live[0].retain(|block| *block != free);
            world.free(&mut caches[0], free);
        }
        Sort::Walk => {
            // From the end: a block that stays, one of 17 that becomes free, two neighbours for the first two
            // players to free, and in the first chunk a free block of 16, which is of the class of 17. The one of
            // 17 has lost its hint, as if a searcher had stopped behind its clear.
            let [_, free, left, further, ..] = [1, 17, 3, 2, 88, 1].map(|size| take(2, size).expect("there is room"));
            live[2].retain(|block| ![free, left, further].contains(block));
            world.free(&mut caches[2], free);
            world.lose_hint(free.at);
            for (player, block) in [left, further].into_iter().enumerate() {
                world.change_hands(block, 3, player as u16 + 1);
                live[player].push(block);
            }
        }
        _ => {
            (0..random.usize(0..12)).for_each(|_| _ = take(random.usize(0..plan.players), random.u32(1..=plan.largest)))
        }
    }
    live
}

/// One scenario; panics with what is wrong.
fn scenario(sort: Sort, seed: u64) {
    if sort == Sort::Names {
        return names::scenario(seed);
    }
    let random = &mut Rng::with_seed(seed);
    let plan = Rc::new(Plan::draw(sort, random));
    let biased = plan.granules.is_multiple_of(3);
    let world = Rc::new(World::with_larges(plan.granules, biased, plan.shift, plan.larges));
    // Threads of one process, of two, or each one of its own: what others have parked is near, or far.
    let processes = [[1, 1, 1, 1, 1, 1, 1], [1, 2, 1, 2, 1, 2, 1], [1, 2, 3, 4, 5, 6, 7]][seed as usize % 3];
    world.set_processes(&processes);
    let cache = |owner| ThreadCache::with_pool(owner, plan.ceiling, plan.pool);
    let mut caches: Vec<_> = (1..=plan.players as u16).map(cache).collect();
    let live = prepare(sort, &plan, &world, &mut caches, random);
    let live: Vec<Holding> = live.into_iter().map(|live| Rc::new(RefCell::new(live))).collect();
    let caches: Vec<_> = caches.into_iter().map(|cache| Rc::new(RefCell::new(cache))).collect();
    let live_of_all = Rc::new(live.clone());
    let hands = caches.iter().enumerate().map(|(number, cache)| {
        let (world, plan, mut random) = (world.clone(), plan.clone(), random.fork());
        let (cache, all) = (cache.clone(), live_of_all.clone());
        let stop_at = plan.stop_at.filter(|_| number == 0);
        let body = move || {
            for _ in 0..random.usize(plan.steps.clone()) {
                let allocates = match sort {
                    Sort::Walk => number == 2,
                    Sort::Hot | Sort::Search => number > 0,
                    _ => random.bool(),
                };
                // What one frees that stops is of its own: its recovery gives it back.
                let others = sort == Sort::Large && stop_at.is_none() && random.u8(0..3) == 0;
                let from = if others && !allocates { random.usize(0..plan.players) } else { number };
                step(&world, &plan, &mut cache.borrow_mut(), (&all[from], from as u16 + 1), allocates, &mut random);
            }
        };
        match stop_at {
            Some(k) => Player::stopped_at(body, k),
            None => Player::new(body),
        }
    });
    let hands = hands.collect();
    let policy = Scheduling::draw(random, plan.length);
    let stopped = play(hands, policy, random)[0].stopped;
    assert_eq!(world.heap.tally().expect("S4").granules, plan.granules as u64, "S4");
    if stopped && random.bool() {
        // What it hides: a run that it cuts up, a block that it merges, or what it asked for, with room for
        // the alignment.
        let spans = |n: u32| n << world.heap.layout().span_shift;
        let hidden = if plan.ceiling > 0 {
            spans(LARGEST_RUN)
        } else {
            spans(30).max(plan.largest + spans(2) + LARGEST_ALIGN - 2)
        };
        world.nothing_is_hidden(&mut ThreadCache::with_ceiling(6, plan.ceiling), hidden);
    }
    if stopped {
        world.bury(1);
        world.heap.recoveries().recover(&mut ThreadCache::with_ceiling(7, 0), 1, Give::GiveBack);
        assert!(!world.keeps_large(1), "the dead one's large blocks stay parked");
    }
    for cache in &caches {
        assert!(cache.borrow().parked_large() <= plan.pool, "a pool has its bound");
    }
    for cache in &caches[stopped as usize..] {
        world.heap.parking().flush(&mut cache.borrow_mut());
    }
    // With bias, what thieves and owners in flight have in their hands is not told apart well enough: a block
    // may be on its way from one to the other.
    if plan.ceiling == 0 && !stopped && !world.heap.layout().params.biased {
        world.no_refusal_was_wrong();
    }
    // Every free block is hinted and no merge was missed, though nobody has healed.
    world.heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"));
    for (cache, live) in caches.iter().zip(&live).skip(stopped as usize) {
        let cache = &mut *cache.borrow_mut();
        live.borrow_mut().drain(..).for_each(|block| world.free(cache, block));
        world.heap.parking().flush(cache);
    }
    world.heap.heal(&mut ThreadCache::with_ceiling(7, 0));
    let tally = world.heap.verify().unwrap_or_else(|fault| panic!("all freed: {fault}"));
    assert_eq!((tally.free.blocks, tally.free.granules), (1, plan.granules as u64), "L3");
}

fn step(
    world: &World,
    plan: &Plan,
    cache: &mut ThreadCache,
    (live, owner): (&Holding, u16),
    allocates: bool,
    random: &mut Rng,
) {
    let Plan { ceiling, largest, .. } = *plan;
    if allocates {
        let roomy = || largest == 1 && ceiling == 0 && world.live() + 9 <= world.granules();
        let before = roomy();
        let align = if plan.aligns && random.u32(0..3) == 0 { 2 << random.u32(0..LARGEST_ALIGN.ilog2()) } else { 1 };
        let size = random.u32(plan.smallest..=largest);
        match world.allocate(cache, size, align, Kind::Raw) {
            Some(block) => live.borrow_mut().push(block),
            None => assert!(
                !(align == 1 && before && roomy()),
                "L2: {} of {} granules are live",
                world.live(),
                world.granules()
            ),
        }
    } else if plan.steps.len() > 1 && random.u32(0..plan.heals) == 0 {
        world.heal(cache);
    } else if !live.borrow().is_empty() {
        let last = live.borrow().len() - 1;
        let block = live.borrow_mut().swap_remove(if plan.steps.len() > 1 { random.usize(0..=last) } else { last });
        world.free_of(cache, block, owner);
        if random.bool() {
            let again = world.heap.free(cache, block.at, Some(block.header.generation()));
            assert!(again.is_err(), "S5: {block:?} was freed twice");
        }
    }
}

fn play_many(sort: Sort) {
    let (first, count) = (setting("MATRIX_SEED", 0), setting("MATRIX_SCHEDULES", 20_000));
    for seed in first..first + count {
        if let Err(payload) = std::panic::catch_unwind(|| scenario(sort, seed)) {
            eprintln!("replay: MATRIX_SEED={seed} MATRIX_SCHEDULES=1 cargo test --test schedules schedules_");
            std::panic::resume_unwind(payload);
        }
    }
    println!("{sort:?}: {count} schedules from seed {first}");
}

#[test]
fn schedules_s1_s4_l3_any_operations() {
    play_many(Sort::Any);
}

#[test]
fn schedules_l2_l3_one_frees_all_while_others_want_little() {
    play_many(Sort::Hot);
}

#[test]
fn schedules_s1_l3_the_same_few_granules() {
    play_many(Sort::Tiny);
}

#[test]
fn schedules_l2_searchers_and_old_hints() {
    play_many(Sort::Search);
}

#[test]
fn schedules_l2_a_block_moves_behind_a_sweep() {
    play_many(Sort::Walk);
}

#[test]
fn schedules_s1_c1_runs_are_cut_up() {
    play_many(Sort::Runs);
}

#[test]
fn schedules_s1_c1_several_granules_share_a_header() {
    play_many(Sort::Packed);
}

#[test]
fn schedules_s1_l2_c1_large_blocks_are_parked_and_go_home() {
    play_many(Sort::Large);
}

#[test]
fn schedules_s1_s5_names_and_frees_are_linearizable() {
    play_many(Sort::Names);
}

#[test]
fn schedules_c1_one_stops_for_ever() {
    play_many(Sort::Stop);
}

/// A sector full of small blocks and one of eight granules at its beginning. One participant asks for eight
/// granules, and after its first `k` accesses another frees the block. How many accesses the first one makes
/// at most, and at how many of them it is still in time.
fn freed_while_it_looks() -> (u64, u64) {
    let mut in_time = 0;
    for k in 0.. {
        let world = Rc::new(World::with(40, false, 6));
        let cache = &mut ThreadCache::with_ceiling(2, 0);
        (0..32).for_each(|_| _ = world.allocate(cache, 1, 1, Kind::Raw));
        let block = world.allocate(cache, 8, 1, Kind::Raw).expect("as much is left");
        let served = Rc::new(RefCell::new(false));
        let (own, told) = (world.clone(), served.clone());
        let asks = move || {
            told.replace(own.allocate(&mut ThreadCache::with_ceiling(1, 0), 8, 1, Kind::Raw).is_some());
        };
        let frees = move || world.free(&mut ThreadCache::with_ceiling(2, 0), block);
        let mut turns = [(1, u64::MAX); turns::TURNS];
        turns[0] = (0, k);
        let ends = play(vec![Player::new(asks), Player::new(frees)], Scheduling::Turns(turns), &mut Rng::with_seed(0));
        if ends[0].accesses <= k {
            return (ends[0].accesses, in_time);
        }
        in_time += u64::from(*served.borrow());
    }
    (0, 0)
}

/// The last try sweeps twice: what is freed behind the first sweep, the second one finds.
#[test]
fn schedules_l2_what_is_freed_behind_a_sweep_is_found() {
    let (accesses, in_time) = freed_while_it_looks();
    set_mutant(Some(Mutant::SecondSweepDropped));
    let (_, with_one) = freed_while_it_looks();
    set_mutant(None);
    println!("in time at {in_time} of {accesses} accesses; with one sweep, at {with_one}");
    assert!(in_time >= with_one + 33, "L2: a sweep looks at 33 tiles");
    assert!(3 * in_time > accesses, "L2: two of three walks are sweeps");
}

#[test]
fn schedules_s1_c2_damage_is_mended_beside_traffic() {
    let (first, count) = (setting("MATRIX_SEED", 0), setting("MATRIX_SCHEDULES", 20_000));
    let mut beside = 0;
    for seed in first..first + count {
        match std::panic::catch_unwind(|| mending::scenario(seed)) {
            Ok(mended) => beside += u64::from(mended),
            Err(payload) => {
                eprintln!("replay: MATRIX_SEED={seed} MATRIX_SCHEDULES=1 cargo test --test schedules mended");
                std::panic::resume_unwind(payload);
            }
        }
    }
    println!("mended in {beside} of {count} schedules from seed {first}, while the others went on");
    assert!(count < 100 || beside * 2 > count, "most are mended beside traffic");
}

#[test]
fn schedules_s1_s4_c1_blocks_are_resized_and_freed_meanwhile() {
    let (first, count) = (setting("MATRIX_SEED", 0), setting("MATRIX_SCHEDULES", 20_000));
    let mut all = resizing::Met::default();
    for seed in first..first + count {
        let met = std::panic::catch_unwind(|| resizing::scenario(seed)).unwrap_or_else(|payload| {
            eprintln!("replay: MATRIX_SEED={seed} MATRIX_SCHEDULES=1 cargo test --test schedules resized");
            std::panic::resume_unwind(payload)
        });
        (all.grown, all.shrunk, all.lost) = (all.grown + met.grown, all.shrunk + met.shrunk, all.lost + met.lost);
    }
    println!("{count} schedules from seed {first}: {all:?}");
    assert!(count < 100 || all.grown.min(all.shrunk).min(all.lost) > count / 50, "the cases are met");
    let noticed = resizing::noticed_unheld(100_000);
    println!("mutant ResizedUnheld | {noticed:?}");
    assert!(noticed.is_some(), "ResizedUnheld survives");
}

/// The whole sector is one block, of more granules than are held while they are merged. One participant frees
/// it and stops for ever after `k` accesses; then another asks for a granule. At how many accesses the block
/// was free by then, and the other was refused.
fn refused_while_one_frees() -> usize {
    let mut refused = 0;
    for k in 0.. {
        let world = Rc::new(World::with(40, false, 6));
        let block =
            world.allocate(&mut ThreadCache::with_ceiling(1, 0), 40, 1, Kind::Raw).expect("the sector is empty");
        let own = world.clone();
        let frees = move || own.free(&mut ThreadCache::with_ceiling(1, 0), block);
        let stops = vec![Player::stopped_at(frees, k)];
        let stopped = play(stops, Scheduling::Turns([(0, u64::MAX); turns::TURNS]), &mut Rng::with_seed(0))[0].stopped;
        let is_free = !world.heap.look(block.at).is_live();
        let served = world.heap.allocate(&mut ThreadCache::with_ceiling(2, 0), 1, 1, Kind::Raw).is_ok();
        refused += usize::from(is_free && !served);
        if !stopped {
            return refused;
        }
    }
    0
}

/// Whoever stops while it frees a large block hides it from nobody.
#[test]
fn schedules_l2_a_large_block_is_not_hidden_by_who_frees_it() {
    assert_eq!(refused_while_one_frees(), 0, "L2");
    set_mutant(Some(Mutant::LargeHeld));
    let with_fault = refused_while_one_frees();
    set_mutant(None);
    println!("with the fault, refused at {with_fault} accesses");
    assert!(with_fault > 0);
}

/// A walker counts a join's right-hand block as the left one's only while that join stands: what the slot
/// says may be of the next join, under the same generation.
#[test]
fn schedules_s4_a_walker_counts_a_join_once() {
    let (count, wrong) = walker::every_moment();
    assert_eq!(wrong, None, "S4");
    set_mutant(Some(Mutant::JoinRecheckDropped));
    let (_, noticed) = walker::every_moment();
    set_mutant(None);
    println!("{count} schedules; without the recheck: {noticed:?}");
    assert!(noticed.is_some(), "JoinRecheckDropped survives");
}

/// A merge that was announced while a recovery walked past: whoever announced it hints nothing where the class stays,
/// and the dead one had not hinted what it had freed.
#[test]
fn schedules_l2_c1_what_the_dead_had_freed_is_hinted_beside_a_merge() {
    let (count, wrong) = recovering::every_moment();
    assert_eq!(wrong, None, "at rest");
    assert!(count > 1000);
    set_mutant(Some(Mutant::InFlightUnsettled));
    let (_, noticed) = recovering::every_moment();
    set_mutant(None);
    println!("{count} schedules; mutant InFlightUnsettled | {noticed:?}");
    assert!(noticed.is_some(), "InFlightUnsettled survives");
}

/// The faults that are looked for: all, or the one that `MATRIX_MUTANT` names.
fn mutants() -> impl Iterator<Item = Mutant> {
    let only = std::env::var("MATRIX_MUTANT").ok();
    let wanted = move |mutant: &Mutant| only.as_ref().is_none_or(|only| *only == format!("{mutant:?}"));
    MUTANTS.iter().copied().filter(wanted)
}

/// What goes wrong with the fault switched on.
fn noticed(mutant: Mutant, sort: Sort, seed: u64) -> Option<String> {
    set_mutant(Some(mutant));
    let message = turns::caught(|| scenario(sort, seed));
    set_mutant(None);
    Some(format!("{sort:?}, seed {seed}: {}", message?))
}

/// Seeds known to notice the faults that take a long search.
const KNOWN: &[(Mutant, Sort, u64)] =
    &[(Mutant::HelperRecheckDropped, Sort::Hot, 50_366), (Mutant::CarveAckedEarly, Sort::Any, 40_739)];

/// Every fault is noticed: at a known seed, or by a search over all sorts, seed after seed.
#[test]
fn mutant_schedules_table() {
    const SURVIVORS: &[Mutant] = &[
        // A number's next holder is met in `crash` and under loom.
        Mutant::RecoveryRecheckDropped,
        Mutant::PinIgnored,
        // Has a test of its own, above.
        Mutant::LargeHeld,
    ];
    let mut lost = vec![];
    for mutant in mutants() {
        let count = if is_found_elsewhere(mutant, SURVIVORS) {
            1000
        } else {
            setting("MATRIX_SCHEDULES", 1_000_000).max(100_000)
        };
        let known = KNOWN.iter().find(|known| known.0 == mutant);
        // Another seed of the same sort, where a change of the accesses has made another schedule of this one.
        let alike = |&(_, sort, seed): &(_, _, u64)| {
            std::iter::once(seed).chain(0..count).find_map(|seed| noticed(mutant, sort, seed))
        };
        let search = || (0..count).find_map(|seed| SORTS.iter().find_map(|&sort| noticed(mutant, sort, seed)));
        let found = known.and_then(alike).or_else(search);
        println!("mutant {mutant:?} | {}", found.as_deref().unwrap_or("SURVIVES"));
        if found.is_none() && !is_found_elsewhere(mutant, SURVIVORS) {
            lost.push(mutant);
        }
    }
    assert!(lost.is_empty(), "not noticed: {lost:?}");
}

/// How often each fault is noticed, by sort: what to tune a sort by.
#[test]
#[ignore = "a table for whoever changes the scenarios, about a minute"]
fn mutant_rates() {
    let count = setting("MATRIX_SCHEDULES", 20_000);
    for mutant in mutants() {
        let rates = SORTS.map(|sort| {
            let seeds: Vec<_> = (0..count).filter(|&seed| noticed(mutant, sort, seed).is_some()).collect();
            format!("{sort:?} {} (first {:?})", seeds.len(), seeds.first())
        });
        println!("mutant {mutant:?}, of {count} each | {}", rates.join(" | "));
    }
}
