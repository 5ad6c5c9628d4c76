//! Biased parking on processors with store buffers: the owner's plain stores reach others late, and only the
//! thief's barrier reaches into the owner's buffer (membarrier(2), modelled as an operation that drains all
//! buffers at once).
//!
//! The production heap, one shared access at a time in an order that a seed decides, as in
//! `verification/schedules/explorer`, but each player's stores wait in a buffer of its own (x86-TSO) and
//! drain when the seed says so. loom, whose fences are full ones on both sides, cannot show what happens to
//! an owner that does not fence. Players may stop for ever at any access.
//!
//! `MATRIX_SCHEDULES` sets how many of each sort are run, `MATRIX_SEED` the first seed.
#![allow(missing_docs)]

mod adoption;
mod bells;
#[path = "../../support/common.rs"]
mod common;
#[path = "../../support/linear.rs"]
mod linear;
#[path = "../../schedules/stage.rs"]
mod stage;
#[path = "../../schedules/explorer/world.rs"]
mod world;

use adoption::{adopters, leavers};
use atomic_matrix::backend::decorators::set_mutant;
use atomic_matrix::backend::orderings::{BATCH_INDEX, BATCH_PASS, HELD_STORE, OWN_STORE, THIEF_FENCE};
use atomic_matrix::backend::{Backend, Mutant, Reach, Site, Word};
use atomic_matrix::check::turns;
use atomic_matrix::matrix::block_header::Header;
use atomic_matrix::matrix::heap::{Kind, Live, ThreadCache};
use atomic_matrix::matrix::recovery::Policy as Give;
use atomic_matrix::segment::layout::Granule;
use common::setting;
use fastrand::Rng;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use turns::{Player, Scheduled, Scheduling, TURNS, play_buffered};
use world::World;

type ScheduledWord = <Scheduled as Backend>::Word;

/// What kind of scenario.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Sort {
    /// Owners take and park; others heal, allocate where there is hardly any room, and free what they were passed.
    Mixed,
    /// As `Mixed`, with room for runs, whose rest is parked as a block of another size, and with spans of
    /// one, two or four granules.
    Runs,
    /// One owner takes and parks the same blocks all the time while one other heals and takes what it got.
    Duel,
    /// As `Duel`, with two others.
    Thieves,
    /// One takes and parks the same block again and again while two others heal: a thief marks it twice by
    /// the same word ([`recurring`]).
    Recurring,
    /// One frees its block while others adopt it, one from the other, or free it for it ([`adopters`]).
    Adopters,
    /// An owner dies or leaves while another adopts its block; its number is used again as soon as it may be
    /// ([`leavers`]).
    Leavers,
    /// As `Mixed`, and the first participant stops for ever.
    OwnerStops,
    /// As `Duel`, and the thief stops for ever.
    ThiefStops,
}

const SORTS: [Sort; 9] = [
    Sort::Mixed,
    Sort::Runs,
    Sort::Duel,
    Sort::Thieves,
    Sort::Recurring,
    Sort::Adopters,
    Sort::Leavers,
    Sort::OwnerStops,
    Sort::ThiefStops,
];

/// Blocks on their way to another participant, which frees them: a word that is stored behind the block's
/// header, as a ring between two processes would.
struct Post(Vec<ScheduledWord>);

impl Post {
    fn send(&self, block: Live) -> bool {
        let message = (block.at.0 as u64 + 1) << 32 | block.header.generation() as u64;
        let empty = self.0.iter().find(|word| word.load(&BATCH_INDEX) == 0);
        empty.is_some_and(|word| word.cas(0, message, &BATCH_PASS).is_ok())
    }
    fn receive(&self) -> Option<(Granule, u32)> {
        let full = self.0.iter().find(|word| word.load(&BATCH_INDEX) != 0)?;
        let message = full.load(&BATCH_INDEX);
        (message != 0 && full.cas(message, 0, &BATCH_PASS).is_ok())
            .then(|| (Granule((message >> 32) as u32 - 1), message as u32))
    }
}

struct Scene {
    world: World,
    post: Post,
    sort: Sort,
    largest: u32,
    /// Blocks freed by a plain store, by what their allocation gave.
    quick: Cell<u64>,
}

impl Scene {
    fn passes_on(&self) -> bool {
        !matches!(self.sort, Sort::Duel | Sort::Thieves)
    }

    fn step(&self, number: usize, cache: &mut ThreadCache, live: &mut Vec<(Live, u16)>, random: &mut Rng) {
        let world = &self.world;
        let thief = number > 0;
        match random.u32(0..12) {
            0..5 => {
                let size = random.u32(1..=self.largest);
                // As a handler does: without a locked instruction if that serves, else in full.
                let layout = world.heap.layout();
                let kind = if live.len().is_multiple_of(2) { Kind::Raw } else { Kind::Typed(7) };
                // SAFETY: every cache of this world is used with its heap alone.
                let own =
                    |cache: &mut ThreadCache| unsafe { world.heap.allocate_own(cache, size as usize, 0, kind, layout) };
                let quick = if random.bool() { own(cache) } else { None };
                match quick {
                    Some(block) => {
                        world.claim(block, cache.owner(), size, 1);
                        live.push((block, cache.owner()));
                    }
                    None => live.extend(world.allocate(cache, size, 1, kind).map(|block| (block, cache.owner()))),
                }
            }
            5..9 if !live.is_empty() => {
                let (block, owner) = live.swap_remove(random.usize(0..live.len()));
                world.give_up(block, owner);
                let generation = Some(block.header.generation());
                let layout = world.heap.layout();
                let Live { at, header } = block;
                let (quick, by_offset) = (random.bool(), !header.is_typed() && random.bool());
                // SAFETY: as above.
                let quick = quick
                    && unsafe {
                        let header = if by_offset { world.heap.look_to_free(cache, at, layout) } else { header };
                        world.heap.free_own(cache, at, header, header.is_typed(), layout)
                    };
                match quick {
                    true => self.quick.set(self.quick.get() + 1),
                    false => world.heap.free(cache, block.at, generation).expect("S5: it is live"),
                }
                if random.u32(0..4) == 0 {
                    assert!(world.heap.free(cache, block.at, generation).is_err(), "S5: {block:?} was freed twice");
                }
            }
            9 if !live.is_empty() && self.passes_on() => {
                let (block, owner) = live.swap_remove(random.usize(0..live.len()));
                if owner != cache.owner() || !self.post.send(block) {
                    live.push((block, owner));
                }
            }
            10 if self.passes_on() => {
                if let Some((at, generation)) = self.post.receive() {
                    let header = world.heap.live_at(at).map(|live| live.header);
                    let header: Header = header.unwrap_or_else(|refusal| panic!("S5: passed on, and {refusal:?}"));
                    assert_eq!(header.generation(), generation, "S5: passed on, and another's");
                    live.push((Live { at, header }, header.owner()));
                }
            }
            _ if thief => world.heal(cache),
            _ => {}
        }
    }
}

/// One scenario; panics with what is wrong. Says whether a thief fenced and whether an owner stored plainly.
fn scenario(sort: Sort, seed: u64) -> [bool; 3] {
    match sort {
        Sort::Adopters => return adopters(seed),
        Sort::Leavers => return leavers(seed),
        Sort::Recurring => return recurring(seed),
        _ => {}
    }
    let random = &mut Rng::with_seed(seed);
    let duel = matches!(sort, Sort::Duel | Sort::ThiefStops | Sort::Thieves);
    let shift = if sort == Sort::Runs { random.u32(4..=6) } else { 6 };
    let granules = match sort {
        Sort::Runs => random.u32(8..=40) << (6 - shift),
        Sort::Thieves => random.u32(1..=2),
        _ if duel => random.u32(2..=6),
        _ => random.u32(4..=14),
    };
    let (players, steps) = match sort {
        Sort::Runs => (random.usize(2..=3), random.usize(4..=12)),
        Sort::Thieves => (3, random.usize(4..=10)),
        _ if duel => (2, 8),
        _ => (random.usize(2..=3), random.usize(3..=8)),
    };
    let scene = Rc::new(Scene {
        world: World::roomy(granules, shift),
        post: Post((0..3).map(|_| Scheduled::word(0)).collect()),
        sort,
        quick: Cell::new(0),
        largest: if duel { 1 } else { random.u32(1..=if sort == Sort::Runs { granules / 3 } else { 2 }) },
    });
    let stopping = match sort {
        Sort::OwnerStops => Some((0, random.u64(0..120))),
        Sort::ThiefStops => Some((1, random.u64(0..200))),
        _ => None,
    };
    let processes: Vec<u64> = (0..players).map(|_| random.u64(1..=2)).collect();
    scene.world.set_processes(&processes);
    let mut caches = vec![];
    let mut blocks = vec![];
    let hands = (0..players).map(|number| {
        let cache = Rc::new(RefCell::new(ThreadCache::with_ceiling(number as u16 + 1, random.usize(1..=3))));
        let live = Rc::new(RefCell::new(vec![]));
        let (scene, mut random) = (scene.clone(), random.fork());
        caches.push(cache.clone());
        blocks.push(live.clone());
        let body = move || {
            for _ in 0..steps {
                scene.step(number, &mut cache.borrow_mut(), &mut live.borrow_mut(), &mut random);
            }
        };
        match stopping {
            Some((who, k)) if who == number => Player::stopped_at(body, k),
            _ => Player::new(body),
        }
    });
    let hands: Vec<Player> = hands.collect();
    let policy = Scheduling::draw(random, 60 * players as u64);
    let ends = play_buffered(hands, &processes, policy, random);
    let met = |site: &Site| ends.iter().any(|end| end.passed(site));
    let met = [met(&THIEF_FENCE), met(&OWN_STORE), scene.quick.get() > 0];
    let World { heap, .. } = &scene.world;
    assert_eq!(heap.tally().expect("S4").granules, scene.world.granules() as u64, "S4");
    let stopped = ends.iter().position(|end| end.stopped);
    if let Some(stopped) = stopped {
        scene.world.bury(stopped as u16 + 1);
        heap.recoveries().recover(&mut ThreadCache::with_ceiling(7, 0), stopped as u16 + 1, Give::GiveBack);
    }
    for (number, cache) in caches.iter().enumerate().filter(|(number, _)| stopped != Some(*number)) {
        for (block, owner) in blocks[number].borrow_mut().drain(..) {
            let given_back = stopped.is_some_and(|dead| owner == dead as u16 + 1);
            if !given_back {
                scene.world.give_up(block, owner);
                heap.free(&mut cache.borrow_mut(), block.at, Some(block.header.generation())).expect("S5: it is live");
            }
        }
    }
    while let Some((at, generation)) = scene.post.receive() {
        // The stopped one's have been given back.
        let freed = heap.free(&mut ThreadCache::with_ceiling(7, 0), at, Some(generation));
        assert!(stopped.is_some() || freed.is_ok(), "S5: passed on, and refused");
    }
    for (_, cache) in caches.iter().enumerate().filter(|(number, _)| stopped != Some(*number)) {
        heap.parking().flush(&mut cache.borrow_mut());
    }
    heap.heal(&mut ThreadCache::with_ceiling(7, 0));
    // What a stopped one had in its hands while it passed it on stays live; without that, everything is one block.
    let tally = heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"));
    if stopped.is_none() {
        assert_eq!((tally.free.blocks, tally.free.granules), (1, granules as u64), "L3");
    }
    met
}

/// So many accesses at most for each of these turns.
fn drawn(turns: [(usize, u64); TURNS], random: &mut Rng) -> Scheduling {
    Scheduling::Turns(turns.map(|(player, most)| (player, random.u64(1..=most))))
}

/// The owner stands between its look and its store while a thief marks its block, gives it back and marks it
/// again: the store takes the generation back, and the next mark is the same word as the last. Whoever had
/// seen that one must not take the block now.
fn recurring(seed: u64) -> [bool; 3] {
    let random = &mut Rng::with_seed(seed);
    let world = Rc::new(World::with(1, true, 6));
    let processes: Vec<u64> = (0..3).map(|_| random.u64(1..=2)).collect();
    world.set_processes(&processes);
    let mut cache = ThreadCache::with_ceiling(1, 1);
    let block = world.allocate(&mut cache, 1, 1, Kind::Raw).expect("room");
    world.free(&mut cache, block);
    let owner = {
        let world = world.clone();
        move || {
            for _ in 0..3 {
                let Some(block) = world.allocate(&mut cache, 1, 1, Kind::Raw) else { return };
                world.free(&mut cache, block);
            }
        }
    };
    let thief = |number: u16, heals: usize| {
        let world = world.clone();
        Player::new(move || {
            let mut cache = ThreadCache::with_ceiling(number, 0);
            (0..heals).for_each(|_| world.heal(&mut cache));
            if let Some(block) = world.allocate(&mut cache, 1, 1, Kind::Raw) {
                world.free(&mut cache, block);
            }
        })
    };
    let hands = vec![Player::new(owner), thief(2, 4), thief(3, 1)];
    // Beside a far owner the thief's second mark stands from its 38th access to its 42nd, and the other has seen
    // it, and not fenced, at its eleventh.
    let policy = match processes[0] == processes[1] {
        true => drawn([(0, 4), (1, 30), (2, 14), (0, 3), (2, 4), (0, 8), (1, 20), (2, 24)], random),
        false => {
            let turns =
                [(0, 2..=3), (1, 36..=43), (2, 9..=12), (0, 1..=4), (2, 1..=6), (0, 4..=10), (1, 8..=45), (2, 1..=20)];
            Scheduling::Turns(turns.map(|(player, accesses)| (player, random.u64(accesses))))
        }
    };
    let ends = play_buffered(hands, &processes, policy, random);
    let met = |site: &Site| ends.iter().any(|end| end.passed(site));
    world.heap.heal(&mut ThreadCache::with_ceiling(7, 0));
    let tally = world.heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"));
    assert_eq!(tally.free.blocks, 1, "L3");
    [met(&THIEF_FENCE), met(&OWN_STORE), false]
}

fn play_many(sort: Sort) {
    let (first, count) = (setting("MATRIX_SEED", 0), setting("MATRIX_SCHEDULES", 20_000));
    let met = Cell::new([0; 3]);
    for seed in first..first + count {
        match std::panic::catch_unwind(|| scenario(sort, seed)) {
            Ok(now) => met.set(std::array::from_fn(|what| met.get()[what] + now[what] as u64)),
            Err(payload) => {
                eprintln!("replay: MATRIX_SEED={seed} MATRIX_SCHEDULES=1 cargo test --test tso tso_");
                std::panic::resume_unwind(payload);
            }
        }
    }
    let [fenced, stored, quick] = met.get();
    println!(
        "{sort:?}: {count} schedules from seed {first}, in {fenced} a thief fenced, in {stored} an owner stored \
            plainly, in {quick} to free \
         what it had a pointer to"
    );
    let quick = sort == Sort::Recurring || quick > count / 10;
    assert!(
        count < 1000 || fenced > count / 20 && stored > count / 2 && quick,
        "the paths that this is about were hardly taken"
    );
}

#[test]
fn tso_s1_s4_s5_owners_and_thieves() {
    play_many(Sort::Mixed);
}

#[test]
fn tso_s1_s4_runs_are_cut_up_beside_thieves() {
    play_many(Sort::Runs);
}

#[test]
fn tso_s1_an_owner_and_a_thief() {
    play_many(Sort::Duel);
}

#[test]
fn tso_s1_l2_an_owner_and_two_thieves() {
    play_many(Sort::Thieves);
}

#[test]
fn tso_s1_a_mark_comes_back() {
    play_many(Sort::Recurring);
}

#[test]
fn tso_s1_a_block_is_adopted_and_freed_at_once() {
    play_many(Sort::Adopters);
}

#[test]
fn tso_c1_s1_an_owner_leaves_while_its_block_is_adopted() {
    play_many(Sort::Leavers);
}

#[test]
fn tso_c1_an_owner_stops_for_ever() {
    play_many(Sort::OwnerStops);
}

#[test]
fn tso_c1_a_thief_stops_for_ever() {
    play_many(Sort::ThiefStops);
}

/// So many schedules of one sort, in some of which somebody sleeps to the end.
fn play_sleepers(what: &str, scenario: fn(u64) -> bool) {
    let (first, count) = (setting("MATRIX_SEED", 0), setting("MATRIX_SCHEDULES", 20_000));
    let mut asleep = 0;
    for seed in first..first + count {
        match std::panic::catch_unwind(|| scenario(seed)) {
            Ok(slept) => asleep += u64::from(slept),
            Err(payload) => {
                eprintln!("replay: MATRIX_SEED={seed} MATRIX_SCHEDULES=1 cargo test --test tso tso_q5");
                std::panic::resume_unwind(payload);
            }
        }
    }
    println!("{what}: {count} schedules from seed {first}, in {asleep} somebody is asleep at the end");
    assert!(count < 1000 || asleep > count / 200, "hardly anybody slept");
}

#[test]
fn tso_q5_sleepers_and_ringers() {
    play_sleepers("bells", bells::bells);
}

#[test]
fn tso_q5_one_sender_and_one_receiver_wait() {
    play_sleepers("one sender and one receiver", bells::single);
}

/// The machine has store buffers: two players that store and then load may both miss the other's store, but
/// not behind fences.
#[test]
fn tso_both_stores_may_be_late() {
    let late_among = |processes: [u64; 2], fence: fn()| {
        (0..200).any(|seed| {
            let words = Rc::new([Scheduled::word(0), Scheduled::word(0)]);
            let seen = Rc::new(Cell::new([9, 9]));
            let hand = |me: usize| {
                let (words, seen) = (words.clone(), seen.clone());
                Player::new(move || {
                    words[me].store(1, &HELD_STORE);
                    fence();
                    let other = words[1 - me].load(&BATCH_INDEX);
                    let mut both = seen.get();
                    both[me] = other;
                    seen.set(both);
                })
            };
            turns::begin();
            play_buffered(vec![hand(0), hand(1)], &processes, Scheduling::Bursts, &mut Rng::with_seed(seed));
            seen.get() == [0, 0]
        })
    };
    let late = |fence: fn()| late_among([1, 1], fence);
    assert!(late(|| {}), "stores are never late");
    assert!(!late(|| Scheduled::fence(&THIEF_FENCE)), "a fence does not drain");
    assert!(late(|| Scheduled::light_fence(&THIEF_FENCE)), "a light fence drains");
    let near = || _ = Scheduled::heavy_fence(&THIEF_FENCE, Reach::Process);
    let far = || _ = Scheduled::heavy_fence(&THIEF_FENCE, Reach::System);
    assert!(!late(near) && !late(far) && !late_among([1, 2], far), "a heavy fence does not drain");
}

/// Every fault in biased parking is noticed; without the processor's own reordering of the owner's accesses,
/// which x86 does not do, the owner's fence is only the compiler's.
#[test]
fn mutant_tso_table() {
    let mut lost = vec![];
    // Where the search begins: of some, one scenario in a million shows it.
    const FAULTS: [(Mutant, &[Sort], u64); 9] = [
        (Mutant::HazardUnset, &SORTS, 0),
        (Mutant::ThiefFenceDropped, &SORTS, 0),
        (Mutant::HazardIgnored, &SORTS, 0),
        (Mutant::MarkDropped, &SORTS, 0),
        (Mutant::ReachTooShort, &SORTS, 0),
        (Mutant::AnothersMarkUsed, &[Sort::Recurring], 0),
        (Mutant::AdoptingIgnored, &[Sort::Adopters], 0),
        (Mutant::BystanderBelieved, &[Sort::Adopters], 0),
        (Mutant::OpenAdoptionIgnored, &[Sort::Leavers], 0),
    ];
    for (mutant, sorts, first) in FAULTS {
        let noticed = |sort: Sort, seed: u64| {
            set_mutant(Some(mutant));
            let message = turns::caught(|| _ = scenario(sort, seed));
            set_mutant(None);
            Some(format!("{sort:?}, seed {seed}: {}", message?))
        };
        let count = setting("MATRIX_SCHEDULES", 500_000).max(500_000);
        let found = (first..first + count).find_map(|seed| sorts.iter().find_map(|&sort| noticed(sort, seed)));
        println!("mutant {mutant:?} | {}", found.as_deref().unwrap_or("SURVIVES"));
        lost.extend(found.is_none().then_some(mutant));
    }
    assert!(lost.is_empty(), "not noticed: {lost:?}");
}

/// What lets a sleeper sleep on, or the ring of one sender and one receiver lose its order.
#[test]
fn mutant_tso_sleepers_table() {
    type Scenario = fn(u64) -> bool;
    const FAULTS: [(Mutant, Scenario); 6] = [
        (Mutant::StoreFenceDropped, bells::bells),
        (Mutant::WakeBeforePut, bells::bells),
        (Mutant::ResetSilently, bells::bells),
        (Mutant::ResetUnnoticed, bells::bells),
        (Mutant::CountedPlainly, bells::bells),
        (Mutant::OldLinkIgnored, bells::single),
    ];
    let mut lost = vec![];
    for (mutant, scenario) in FAULTS {
        set_mutant(Some(mutant));
        let found =
            (0..50_000).find_map(|seed| Some((seed, turns::caught(|| _ = std::hint::black_box(scenario(seed)))?)));
        set_mutant(None);
        println!("mutant {mutant:?} | {found:?}");
        lost.extend(found.is_none().then_some(mutant));
    }
    assert!(lost.is_empty(), "not noticed: {lost:?}");
}
