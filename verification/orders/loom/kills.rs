//! A participant is stopped for ever before each of its accesses in turn; then two survivors work at the same
//! time, one of which recovers it: weak memory and kills together (C1).

use crate::model::{Mortal, Scenario, World, bound_name, deep, explore, mark, part, short, strict};
use atomic_matrix::backend::Mutant;
use atomic_matrix::backend::decorators::stopped_at;
use atomic_matrix::backend::loom::Setting;
use atomic_matrix::matrix::heap::{Kind, ThreadCache};
use atomic_matrix::matrix::recovery::Policy;
use atomic_matrix::segment::region::Region;
use std::cell::Cell;
use std::time::Instant;

thread_local! {
    /// Before which access the victim is stopped.
    static STEP: Cell<u64> = const { Cell::new(0) };
    /// Whether it got to its end all the same.
    static FINISHED: Cell<bool> = const { Cell::new(false) };
}

/// Runs the victim's part, alone, to before the access at which it is stopped in this exploration.
pub(crate) fn killed_at_its_step(victim: impl FnOnce()) {
    FINISHED.set(stopped_at(STEP.get(), victim).is_some());
}

/// What the victim is doing, beside a witness's live block and a free block on each side.
fn killed(granules: u32, ceiling: usize, victim: fn(&World<Mortal>, &mut ThreadCache)) {
    let world = World::<Mortal>::over(granules, 0);
    let mut cache = ThreadCache::with_ceiling(1, ceiling);
    let kept = world.allocate(&mut strict(2), 1);
    FINISHED.set(stopped_at(STEP.get(), || victim(&world, &mut cache)).is_some());
    world.run([
        part(|w: &World<Mortal>| {
            w.heap.recoveries().recover(&mut strict(3), 1, Policy::GiveBack);
        }),
        part(move |w: &World<Mortal>| {
            let mut cache = strict(2);
            w.free(&mut cache, kept);
            // What the other one holds just now may be missing.
            let Ok(block) = w.heap.allocate(&mut cache, 1, 1, Kind::Raw) else { return };
            mark("served");
            w.heap.region().touch(block.at, 1);
            w.free(&mut cache, block);
        }),
    ]);
    // A block that the dead one had parked, or was about to take into its hands again, is anybody's and waits
    // for healing.
    world.verify();
    world.heap.heal(&mut strict(3));
    world.is_whole();
}

thread_local! {
    /// Before which access of its own the second one is stopped, and whether it got to its end.
    static SECOND: Cell<(u64, bool)> = const { Cell::new((0, false)) };
}

/// The victim has stopped and so has its recoverer; another takes both over while a survivor works beside it.
fn recovery_killed() {
    let world = World::<Mortal>::over(4, 0);
    let kept = world.allocate(&mut strict(2), 1);
    let mut cache = strict(1);
    FINISHED.set(stopped_at(STEP.get(), || allocates_and_frees(&world, &mut cache)).is_some());
    let recovered =
        stopped_at(SECOND.get().0, || world.heap.recoveries().recover(&mut strict(3), 1, Policy::GiveBack)).is_some();
    SECOND.set((SECOND.get().0, recovered));
    world.run([
        part(|w: &World<Mortal>| {
            let mut cache = strict(4);
            w.heap.recoveries().recover(&mut cache, 1, Policy::GiveBack);
            w.heap.recoveries().recover(&mut cache, 3, Policy::GiveBack);
        }),
        part(move |w: &World<Mortal>| w.free(&mut strict(2), kept)),
    ]);
    world.verify();
    world.heap.heal(&mut strict(4));
    world.is_whole();
}

/// Two have stopped beside each other; two survivors recover one each at the same time.
fn two_recoveries() {
    let world = World::<Mortal>::over(4, 0);
    let (mut first, mut second) = (strict(1), strict(2));
    FINISHED.set(stopped_at(STEP.get(), || allocates_and_frees(&world, &mut first)).is_some());
    let step = SECOND.get().0;
    let ended = stopped_at(step, || {
        // What the other one holds just now may be missing.
        let Ok(block) = world.heap.allocate(&mut second, 1, 1, Kind::Raw) else { return };
        world.free(&mut second, block);
    });
    SECOND.set((step, ended.is_some()));
    let [one, two] = [(3, 1), (4, 2)].map(|(survivor, dead)| {
        part(move |w: &World<Mortal>| {
            w.heap.recoveries().recover(&mut strict(survivor), dead, Policy::GiveBack);
        })
    });
    world.run([one, two]);
    world.verify();
    world.heap.heal(&mut strict(4));
    world.is_whole();
}

#[test]
fn loom_c1_two_survivors_recover_at_once() {
    pairs_of_stops("loom_c1_two_survivors_recover_at_once", two_recoveries);
}

#[test]
fn loom_c1_recovery_is_killed_and_taken_over() {
    pairs_of_stops("loom_c1_recovery_is_killed_and_taken_over", recovery_killed);
}

/// Explores every so many steps of one that stops and of another that stops behind it.
fn pairs_of_stops(name: &'static str, body: fn()) {
    let stride = if deep() { 1 } else { 2 };
    for all_rmw in [false, true] {
        let (begun, mode) = (Instant::now(), if all_rmw { "all-RMW" } else { "plain" });
        // With weak memory a pair has thousands of executions: fewer pairs there.
        let stride = if all_rmw { stride } else { (3 + 2 * short() as u64) * stride };
        let scenario = Scenario { name, body, bounds: (Some(1), Some(1)), minimum: 1, meets: &[] };
        let (mut kills, mut executions, mut step) = (0, 0, 0);
        FINISHED.set(false);
        while !FINISHED.get() {
            let mut second = 0;
            SECOND.set((0, false));
            while !SECOND.get().1 {
                STEP.set(step);
                SECOND.set((second, false));
                executions += explore(&scenario, Setting { all_rmw, ..Setting::default() })
                    .unwrap_or_else(|e| panic!("{name}, {mode}, stopped before accesses {step} and {second}: {e}"));
                kills += 1;
                second += stride;
            }
            step += stride;
        }
        println!(
            "{name} | {mode} | {kills} pairs of stops, one at each {stride} accesses, {executions} executions | \
                {} | {:.1} s",
            bound_name(scenario.bound(all_rmw)),
            begun.elapsed().as_secs_f64(),
        );
        assert!(kills > 5 && executions > 5 * kills, "{name}: explored too little");
    }
}

fn allocates_and_frees(world: &World<Mortal>, cache: &mut ThreadCache) {
    let block = world.allocate(cache, 1);
    world.free(cache, block);
}

fn cuts_up_a_run(world: &World<Mortal>, cache: &mut ThreadCache) {
    let block = world.allocate(cache, 1);
    world.free(cache, block);
    world.heap.parking().flush(cache);
}

fn frees_a_large_block(world: &World<Mortal>, cache: &mut ThreadCache) {
    let block = world.allocate(cache, 31);
    world.free(cache, block);
}

/// Explores every step in all-RMW mode; with weak memory every `stride`th one, unless in depth.
pub(crate) fn every_step(name: &'static str, body: fn(), stride: u64, least: u64) {
    let scenario = Scenario { name, body, bounds: (Some(1), Some(1)), minimum: 1, meets: &[] };
    // The bounds are meant as they are: in depth it is the steps that become more.
    let scenario = if deep() { Scenario { bounds: (Some(0), Some(1)), ..scenario } } else { scenario };
    for all_rmw in [false, true] {
        let (begun, mode) = (Instant::now(), if all_rmw { "all-RMW" } else { "plain" });
        let (mut executions, mut fewest) = (0, u64::MAX);
        FINISHED.set(false);
        let (mut kills, mut step) = (0, 0);
        let stride = if all_rmw || deep() { 1 } else { stride << short() as u32 };
        while !FINISHED.get() {
            STEP.set(step);
            let these = explore(&scenario, Setting { all_rmw, ..Setting::default() })
                .unwrap_or_else(|e| panic!("{name}, {mode}, stopped before access {step}: {e}"));
            executions += these;
            fewest = fewest.min(these);
            kills += 1;
            step += stride;
        }
        println!(
            "{name} | {mode} | {kills} stops, one at each {stride} accesses, {executions} executions, at least \
                {fewest} each | {} | {:.1} s",
            bound_name(scenario.bound(all_rmw)),
            begun.elapsed().as_secs_f64(),
        );
        assert!(kills * stride > least && fewest >= 5, "{name}: explored too little");
    }
}

/// The first failure of a scenario under a fault, wherever its victim is stopped, in all-RMW mode.
pub(crate) fn noticed_at_some_step(name: &'static str, body: fn(), mutant: Mutant) -> Option<String> {
    let scenario = Scenario { name, body, bounds: (Some(1), Some(1)), minimum: 1, meets: &[] };
    let setting = Setting { all_rmw: true, mutant: Some(mutant), ..Setting::default() };
    FINISHED.set(false);
    (0..).find_map(|step| {
        STEP.set(step);
        match explore(&scenario, setting) {
            Err(failure) => Some(Some(format!("{name}, stopped before access {step}: {failure}"))),
            Ok(_) => FINISHED.get().then_some(None),
        }
    })?
}

#[test]
fn loom_c1_killed_in_allocations_and_frees() {
    every_step("loom_c1_killed_in_allocations_and_frees", || killed(4, 0, allocates_and_frees), 16, 40);
}

#[test]
fn loom_c1_killed_while_a_run_is_cut_up() {
    every_step("loom_c1_killed_while_a_run_is_cut_up", || killed(12, 2, cuts_up_a_run), 32, 40);
}

#[test]
fn loom_c1_killed_while_a_large_block_is_freed() {
    every_step("loom_c1_killed_while_a_large_block_is_freed", || killed(33, 0, frees_a_large_block), 32, 20);
}

/// A head under a run that is not cut up yet, shown as parked: an index that has gone stale takes it, and the
/// recovery of the run's holder erases it (S1).
fn stale_index_under_a_run() {
    let world = World::<Mortal>::over(12, 0);
    let mut stale = Box::new(ThreadCache::with_ceiling(2, 2));
    // Granule 9 is where the run's second block will lie: a run begins at a header line.
    let blocks: Vec<_> = (0..12).map(|_| world.allocate(&mut strict(2), 1)).collect();
    let at_nine = blocks.iter().copied().find(|block| block.at.0 == 9).expect("twelve blocks of one granule");
    world.free(&mut stale, at_nine);
    blocks.into_iter().filter(|block| block.at != at_nine.at).for_each(|block| world.free(&mut strict(2), block));
    world.heap.heal(&mut strict(3));
    let mut victim = Box::new(ThreadCache::with_ceiling(1, 2));
    FINISHED.set(stopped_at(STEP.get(), || world.allocate(&mut victim, 1)).is_some());
    let taken = world.heap.allocate_parked(&mut stale, 1, Kind::Raw);
    if taken.is_some() {
        mark("taken");
    }
    world.heap.recoveries().recover(&mut strict(3), 1, Policy::GiveBack);
    world.heap.heal(&mut strict(3));
    let tally = world.verify();
    assert_eq!(tally.live.granules, taken.is_some() as u64, "S1: a live block is gone");
}

/// Every step of [`stale_index_under_a_run`]: what was noticed first, and how often the stale index took a block.
pub(crate) fn stale_index_at_every_step(setting: Setting) -> (Option<String>, u64) {
    let body = stale_index_under_a_run as fn();
    let scenario = Scenario { name: "a stale index", body, bounds: (None, None), minimum: 1, meets: &[] };
    let mut taken = 0;
    for step in 0.. {
        STEP.set(step);
        FINISHED.set(false);
        if let Err(failure) = explore(&scenario, setting) {
            return (Some(format!("loom_s1_stale_index_under_a_run, stopped before access {step}: {failure}")), taken);
        }
        taken += crate::model::marks("taken");
        if FINISHED.get() {
            break;
        }
    }
    (None, taken)
}

#[test]
fn loom_s1_stale_index_under_a_run() {
    let (failure, taken) = stale_index_at_every_step(Setting::default());
    assert_eq!(failure, None);
    println!(
        "loom_s1_stale_index_under_a_run | every step | one execution each | the stale index took a block {taken} times"
    );
    assert!(taken > 0, "the stale index never took a block: nothing was shown");
}
