//! Crash enumeration: a participant is stopped for ever before each shared access of each operation, others
//! work on beside it and afterwards, it is recovered, the recovery is killed and taken over. Everything runs
//! on the production heap and directory, one shared access at a time (`src/check/turns.rs`), so every failure
//! replays.
//!
//! `MATRIX_CRASH_SEEDS` sets how many interleavings are tried for each stop (default 10), each with one and with two
//! survivors.
#![allow(missing_docs)]

#[path = "../../support/common.rs"]
mod common;
mod late;
#[path = "../../support/linear.rs"]
mod linear;
mod operations;
#[path = "../../support/survivors.rs"]
mod survivors;
#[path = "../../schedules/explorer/world.rs"]
mod world;

use atomic_matrix::backend::decorators::set_mutant;
use atomic_matrix::backend::orderings::{BATCH_LOOK, MUTANTS};
use atomic_matrix::backend::{Mutant, Word};
use atomic_matrix::check::turns;
use atomic_matrix::matrix::block_header::State;
use atomic_matrix::matrix::heap::{Kind, Live, Refusal, ThreadCache};
use atomic_matrix::matrix::recovery::KEPT;
use atomic_matrix::matrix::recovery::Policy as Give;
use atomic_matrix::segment::directory::{Directory, NamedBlock, NotPublished};
use atomic_matrix::segment::layout::Granule;
use atomic_matrix::segment::region::Region;
use common::setting;
use fastrand::Rng;
use operations::{NAME, OPERATIONS, Operation, Scene, VICTIM, recover, take_named};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use survivors::is_found_elsewhere;
use turns::{Ending, Player, Scheduling, accesses, play};
use world::World;

/// Participants that survive, that recover, and that look on at the end.
const SURVIVORS: [u16; 2] = [3, 4];
const RECOVERERS: [u16; 2] = [5, 6];
const LAST: u16 = 7;

thread_local! {
    /// The scenario that failed last.
    static FAILED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The most accesses that an operation of a survivor took.
#[derive(Default)]
struct Most {
    allocate: Cell<u64>,
    free: Cell<u64>,
    name: Cell<u64>,
    heal: Cell<u64>,
}

fn measured<T>(most: &Cell<u64>, operation: impl FnOnce() -> T) -> T {
    let before = accesses();
    let result = operation();
    most.set(most.get().max(accesses() - before));
    result
}

/// What a survivor holds, visible to the checks.
type Holding = Rc<RefCell<Vec<Live>>>;

/// A survivor's work: a few operations of every kind.
fn survive(world: &World, cache: &mut ThreadCache, live: &Holding, most: &Most, random: &mut Rng) {
    let owner = cache.owner();
    let directory = Directory(world.heap.region());
    for _ in 0..random.usize(3..8) {
        match random.u32(0..20) {
            0..9 => {
                let (size, align) = ([1, 2, 2, 3, 5, 20][random.usize(0..6)], [1, 1, 1, 4][random.usize(0..4)]);
                let kind = if random.bool() { Kind::Raw } else { Kind::Typed(5) };
                let block = measured(&most.allocate, || world.allocate(cache, size, align, kind));
                live.borrow_mut().extend(block);
            }
            9..16 => {
                let block = live.borrow_mut().pop();
                if let Some(block) = block {
                    measured(&most.free, || world.free(cache, block));
                    let again = world.heap.free(cache, block.at, Some(block.header.generation()));
                    assert!(matches!(again, Err(Refusal::NotLive(_) | Refusal::Stale { .. })), "S5: {again:?}");
                }
            }
            16 => live.borrow_mut().extend(measured(&most.name, || take_named(world, owner))),
            17 => {
                let block = live.borrow_mut().pop();
                if let Some(block) = block {
                    let entry =
                        NamedBlock { offset: block.at.0, generation: block.header.generation(), fingerprint: None };
                    world.give_up(block, owner);
                    if measured(&most.name, || world.heap.ownership().publish(owner, NAME, block, entry)).is_err() {
                        world.claim(block, owner, 1, 1);
                        live.borrow_mut().push(block);
                    }
                }
            }
            18 => _ = measured(&most.name, || directory.withdraw(NAME)),
            _ => measured(&most.heal, || world.heap.heal(cache)),
        }
    }
}

/// What everybody but the dead holds.
struct Crew {
    world: Rc<World>,
    ceiling: usize,
    pool: u32,
    holdings: Vec<(u16, Holding)>,
    /// Blocks of the victim's that its operation does not touch.
    kept: Vec<Live>,
    dead: Vec<u16>,
}

impl Crew {
    fn of(scene: &Scene, operation: &Operation) -> Self {
        let others = (2, Rc::new(RefCell::new(scene.others.clone())));
        let kept = scene.kept.clone();
        let (world, dead) = (scene.world.clone(), scene.dead.clone());
        Self { world, ceiling: operation.ceiling, pool: operation.pool, holdings: vec![others], kept, dead }
    }

    fn cache(&self, owner: u16) -> ThreadCache {
        ThreadCache::with_pool(owner, self.ceiling, self.pool)
    }

    /// A survivor that joins the players.
    fn survivor(&mut self, owner: u16, most: &Rc<Most>, random: &mut Rng) -> Player {
        let known = self.holdings.iter().find(|(other, _)| *other == owner).map(|(_, live)| live.clone());
        let live = known.unwrap_or_else(|| {
            let live = Holding::default();
            self.holdings.push((owner, live.clone()));
            live
        });
        let (world, mut cache, most, mut random) = (self.world.clone(), self.cache(owner), most.clone(), random.fork());
        Player::new(move || survive(&world, &mut cache, &live, &most, &mut random))
    }

    fn recoverer(&self, owner: u16, dead: &[u16], stop_at: Option<u64>) -> Player {
        let (world, mut cache, dead) = (self.world.clone(), self.cache(owner), dead.to_vec());
        dead.iter().for_each(|&dead| world.bury(dead));
        let body = move || {
            dead.iter().for_each(|&dead| recover(&world, &mut cache, dead, Give::GiveBack));
        };
        match stop_at {
            Some(k) => Player::stopped_at(body, k),
            None => Player::new(body),
        }
    }

    /// S1, S4 and S5, at any moment when nobody is inside an operation, except those who have stopped.
    fn holds_at_once(&self) {
        let heap = &self.world.heap;
        let granules = self.world.granules();
        let mut covered = 0;
        heap.walk(|g, header| {
            assert_eq!(g.0, covered, "S4: tiles overlap or leave a gap at {g:?}");
            covered += header.size();
        })
        .unwrap_or_else(|fault| panic!("S4: {fault}"));
        assert_eq!(covered, granules, "S4");
        let held: Vec<Live> = self.holdings.iter().flat_map(|(_, live)| live.borrow().clone()).collect();
        for block in held.iter().chain(&self.kept) {
            let seen = heap.live_at(block.at).unwrap_or_else(|e| panic!("S1: {block:?} is gone: {e:?}"));
            let same = |header: atomic_matrix::matrix::block_header::Header| (header.generation(), header.size());
            assert_eq!(same(seen.header), same(block.header), "S1: {block:?} is {seen:?}");
        }
        for g in (0..granules + 2).map(Granule) {
            let before = heap.look(g);
            if !before.is_live() || g.0 >= granules {
                let refused = heap.free(&mut ThreadCache::with_ceiling(LAST, 0), g, None);
                assert!(refused.is_err() && heap.look(g) == before, "S5: {g:?}: {refused:?}");
            }
        }
    }

    /// L2: what the stopped ones hide is at most a block that they merge, or of the size that they asked for,
    /// 30 granules here.
    fn hides_nothing(&self) {
        let (world, mut cache) = (self.world.clone(), self.cache(LAST));
        turns::alone(move || world.nothing_is_hidden(&mut cache, 30), None);
    }

    /// The dead are recovered: everything is freed, and nothing is missing.
    fn nothing_is_lost(self) {
        let heap = &self.world.heap;
        let cache = &mut ThreadCache::with_ceiling(LAST, 0);
        for (owner, live) in &self.holdings {
            let cache = &mut ThreadCache::with_ceiling(*owner, 0);
            live.borrow_mut().drain(..).for_each(|block| self.world.free(cache, block));
        }
        let mut unowned = vec![];
        heap.walk(|g, header| {
            assert!(header.state() != State::Coalescing, "C1: in nobody's hands: {g:?}, {header:?}");
            if header.is_live() {
                assert!(matches!(header.owner(), 0 | KEPT), "C1: a dead participant's block at {g:?}");
                unowned.push(g);
            }
        })
        .expect("S4");
        unowned.into_iter().for_each(|g| heap.free(cache, g, None).expect("S5: it is live"));
        // L3 and the hints by the recovery alone, before anybody heals; a free that stopped half-way may have
        // left its block parked.
        heap.verify().unwrap_or_else(|fault| panic!("recovered: {fault}"));
        heap.heal(cache);
        let tally = heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"));
        assert_eq!((tally.free.blocks, tally.free.granules), (1, self.world.granules() as u64), "C1, L3");
        for g in 1..self.world.granules() {
            assert_eq!(heap.look(Granule(g)).state(), State::Inside, "a stale head at {g}");
        }
        for control in heap.layout().batch_controls() {
            let control = heap.region().word(control).load(&BATCH_LOOK);
            assert!(control == 0 || control >> 32 & 3 == 1, "C1: a batch is unowned: {control:#x}");
        }
        self.directory_is_whole();
    }

    /// No name is published twice, and no entry is lost.
    fn directory_is_whole(&self) {
        let directory = Directory(self.world.heap.region());
        directory.withdraw(NAME);
        assert!(!directory.withdraw(NAME), "a name was published twice");
        let entry = NamedBlock { offset: 0, generation: 0, fingerprint: None };
        let entries = self.world.heap.layout().params.directory;
        for i in 0..entries {
            assert_eq!(directory.publish(LAST, &[i as u8], entry), Ok(()), "C1: an entry is lost");
        }
        assert_eq!(directory.publish(LAST, b"more", entry), Err(NotPublished::Full));
    }
}

/// A victim of the operation, and everybody else.
fn set_up(operation: &'static Operation, stop_at: Option<u64>) -> (Player, Crew) {
    let mut scene = Scene::new(operation);
    let crew = Crew::of(&scene, operation);
    let body = move || (operation.run)(&mut scene);
    let victim = match stop_at {
        Some(k) => Player::stopped_at(body, k),
        None => Player::new(body),
    };
    (victim, crew)
}

/// The victim stops before its `k`-th access amid `survivors`; then all is checked. True if it came to its end before.
fn amid(operation: &'static Operation, k: u64, survivors: usize, seed: u64, table: &Row) -> bool {
    let random = &mut Rng::with_seed(seed ^ k << 8);
    let (victim, mut crew) = set_up(operation, Some(k));
    let mut players = vec![victim];
    players.extend(SURVIVORS[..survivors].iter().map(|&owner| crew.survivor(owner, &table.amid, random)));
    let policy = Scheduling::draw(random, 150);
    let finished = !play(players, policy, random)[0].stopped;
    table.stops.set(table.stops.get() + !finished as u64);
    crew.holds_at_once();
    // Nobody else moves now: what one needs alone is bounded (L1).
    let last = crew.survivor(LAST, &table.alone, random);
    play(vec![last], Scheduling::Bursts, random);
    crew.hides_nothing();
    crew.holds_at_once();
    // The recovery goes on amid the survivors, is killed somewhere in half of the runs, and taken over.
    let mut dead = crew.dead.clone();
    dead.push(VICTIM);
    let stop_at = random.bool().then(|| random.u64(0..300));
    let mut players = vec![crew.recoverer(RECOVERERS[0], &dead, stop_at)];
    players.extend(SURVIVORS[..survivors].iter().map(|&owner| crew.survivor(owner, &table.amid, random)));
    let killed = play(players, policy, random)[0].stopped;
    table.recoveries_killed.set(table.recoveries_killed.get() + killed as u64);
    crew.holds_at_once_after_recovery();
    if killed {
        dead.insert(random.usize(0..=dead.len()), RECOVERERS[0]);
        play(vec![crew.recoverer(RECOVERERS[1], &dead, None)], Scheduling::Bursts, random);
    }
    crew.nothing_is_lost();
    finished
}

impl Crew {
    /// As [`Crew::holds_at_once`]; the victim's blocks may be given back by now.
    fn holds_at_once_after_recovery(&mut self) {
        self.kept.clear();
        self.holds_at_once();
    }
}

/// The victim alone stops before its `k`-th access, its recoverer before its `j`-th, for each `j`.
fn recovery_killed(operation: &'static Operation, k: u64, table: &Row) {
    for j in 0.. {
        let random = &mut Rng::with_seed(j);
        let (victim, mut crew) = set_up(operation, Some(k));
        play(vec![victim], Scheduling::Bursts, random);
        crew.holds_at_once();
        let dead = [&crew.dead[..], &[VICTIM]].concat();
        let killed = play(vec![crew.recoverer(RECOVERERS[0], &dead, Some(j))], Scheduling::Bursts, random)[0].stopped;
        crew.holds_at_once_after_recovery();
        if j % 2 == 1 {
            crew.hides_nothing();
        }
        let dead = [&dead[..], &[RECOVERERS[0]]].concat();
        play(vec![crew.recoverer(RECOVERERS[1], &dead, None)], Scheduling::Bursts, random);
        crew.nothing_is_lost();
        if !killed {
            break;
        }
        table.recoveries_killed.set(table.recoveries_killed.get() + 1);
    }
}

/// What happened to one operation.
#[derive(Default)]
struct Row {
    stops: Cell<u64>,
    recoveries_killed: Cell<u64>,
    /// Of survivors that are interleaved with each other and the victim, and of one alone after the victim has stopped.
    amid: Rc<Most>,
    alone: Rc<Most>,
}

/// The operation undisturbed.
fn undisturbed(operation: &'static Operation) -> Ending {
    let (victim, _) = set_up(operation, None);
    play(vec![victim], Scheduling::Bursts, &mut Rng::with_seed(0))[0]
}

/// Each operation takes the path that it is named after.
#[test]
fn operations_take_their_paths() {
    for operation @ Operation { name, through, around, .. } in OPERATIONS {
        let end = undisturbed(operation);
        through.iter().for_each(|site| assert!(end.passed(site), "{name} does not pass {}", site.name));
        around.iter().for_each(|site| assert!(!end.passed(site), "{name} passes {}", site.name));
    }
}

/// Stops the operation before every access, with all that follows; returns its accesses when undisturbed.
fn enumerate(operation: &'static Operation, seeds: u64, row: &Row) -> u64 {
    let accesses = undisturbed(operation).accesses;
    for k in 0.. {
        let mut finished = true;
        for (survivors, seed) in [1, 2].into_iter().flat_map(|n| (0..seeds).map(move |seed| (n, seed))) {
            let what = || format!("{}, stopped at {k} amid {survivors} survivors, seed {seed}", operation.name);
            finished &= naming(what, || amid(operation, k, survivors, seed, row));
        }
        if k <= accesses {
            let what = || format!("{}, stopped at {k} alone", operation.name);
            naming(what, || recovery_killed(operation, k, row));
        }
        if finished && k > accesses {
            return accesses;
        }
    }
    accesses
}

/// Runs a scenario, and names it if it fails.
fn naming<T>(what: impl Fn() -> String, run: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        FAILED.set(what());
        if !turns::quiet() {
            eprintln!("{}", FAILED.with_borrow(Clone::clone));
        }
        std::panic::resume_unwind(payload)
    })
}

#[test]
fn crash_c1_l1_every_operation_stopped_at_every_access() {
    let seeds = setting("MATRIX_CRASH_SEEDS", 10);
    println!("| operation | accesses | stops | recoveries killed | alone: allocate, free, name, heal | interleaved |");
    println!("|---|---|---|---|---|---|");
    let (mut stops, mut kills) = (0, 0);
    for operation in OPERATIONS {
        let row = Row::default();
        let undisturbed = enumerate(operation, seeds, &row);
        let most = |most: &Most| [&most.allocate, &most.free, &most.name, &most.heal].map(Cell::get);
        let (alone, amid) = (most(&row.alone), most(&row.amid));
        let figures = |most: [u64; 4]| most.map(|n| n.to_string()).join(", ");
        println!(
            "| {} | {undisturbed} | {} | {} | {} | {} |",
            operation.name,
            row.stops.get(),
            row.recoveries_killed.get(),
            figures(alone),
            figures(amid)
        );
        assert!(alone.iter().all(|&n| n < 2000), "L1: {}: {alone:?}", operation.name);
        assert!(amid.iter().all(|&n| n < 6000), "L1: {}: {amid:?}", operation.name);
        stops += row.stops.get();
        kills += row.recoveries_killed.get();
    }
    println!("{stops} stops amid survivors, {kills} recoveries killed and taken over; nothing lost");
    assert!(stops > 1000 && kills > 1000);
}

/// Whoever needs what a dead participant left helps a recovery that stands still, and a late helper does no harm.
#[test]
fn crash_l2_c1_a_recovery_that_stands_still_is_helped() {
    let (taken, kept) = late::every_access(|what| FAILED.set(what));
    println!("set aside while the number was taken: {taken} times, while it was kept: {kept} times");
    assert!(taken > 50 && kept > 1000);
}

/// Which faults the enumeration notices, and where first. SURVIVORS are known; any other that survives fails the test.
#[test]
fn mutant_crash_table() {
    // They take rarer interleavings, which `schedules` finds.
    const SURVIVORS: &[Mutant] = &[
        Mutant::HazardUnset,
        Mutant::HazardIgnored,
        // All are of one process here.
        Mutant::FarLeftOut,
        Mutant::HelperRecheckDropped,
        Mutant::HintRelookDropped,
        Mutant::CarveAckedEarly,
        Mutant::LeafAloneRehinted,
        Mutant::NewOwnerRefused,
        Mutant::PublishedFromAnybody,
        // Spans have one granule here.
        Mutant::PositionUnchecked,
        // Everybody heals at the end, and nobody counts.
        Mutant::LargeFitUnchecked,
        Mutant::PoolUnbounded,
        // Nobody here comes back to what it remembers.
        Mutant::LargeTakenUnasked,
    ];
    let mut lost = vec![];
    for &mutant in MUTANTS {
        if is_found_elsewhere(mutant, SURVIVORS) {
            println!("mutant {mutant:?} | not looked for here");
            continue;
        }
        set_mutant(Some(mutant));
        let late = turns::caught(|| _ = late::every_access(|what| FAILED.set(what)));
        let late = late.map(|message| format!("{}: {message}", FAILED.take()));
        let noticed = late.or_else(|| {
            OPERATIONS.iter().find_map(|operation| {
                let message = turns::caught(|| _ = enumerate(operation, 4, &Row::default()))?;
                Some(format!("{}: {message}", FAILED.take()))
            })
        });
        set_mutant(None);
        println!("mutant {mutant:?} | {}", noticed.as_deref().unwrap_or("SURVIVES"));
        if noticed.is_none() {
            lost.push(mutant);
        }
    }
    assert!(lost.is_empty(), "not noticed: {lost:?}");
}
