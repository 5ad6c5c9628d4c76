//! Biased parking: a cache stores the headers of its own blocks plainly, and thieves pay for a fence.
//!
//! Both fences are full ones here, on either side. What an owner that fences in earnest hides from another is
//! not seen: the buffered machine of verification/orders/tso has the owner's side without a fence, and the
//! thief's as an interruption of all.

use crate::model::Met::{Lost, Mark};
use crate::model::{Mortal, Scenario, World, executions, explore, mark, part, scenarios, strict};
use atomic_matrix::backend::Mutant;
use atomic_matrix::backend::decorators::stopped_at;
use atomic_matrix::backend::loom::Setting;
use atomic_matrix::backend::orderings::*;
use atomic_matrix::check::turns::quietly;
use atomic_matrix::matrix::heap::{Kind, ThreadCache};
use atomic_matrix::matrix::recovery::Policy;
use atomic_matrix::segment::layout::Granule;
use atomic_matrix::segment::region::Region;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// In a box: the stacks of loom's threads are small.
fn cache(owner: u16) -> Box<ThreadCache> {
    Box::new(ThreadCache::with_ceiling(owner, 2))
}

/// One asks for all there is, beside what gives it back; and once more when that is done.
fn asked_beside(world: &Arc<World>, give: impl FnOnce(&World) + 'static) {
    let asker = Rc::new(RefCell::new(strict(2)));
    let (asking, served) = (asker.clone(), Rc::new(Cell::new(false)));
    let told = served.clone();
    let ask = |world: &World, cache: &mut ThreadCache| world.heap.allocate(cache, 2, 1, Kind::Raw).is_ok();
    world.run([part(give), part(move |w| told.set(ask(w, &mut asking.borrow_mut())))]);
    mark(if served.get() { "served" } else { "refused" });
    assert!(served.get() || ask(world, &mut asker.borrow_mut()), "L2: all is free");
}

scenarios! {
    // One is refused while the owner of the only block frees it; then it asks again.
    loom_l2_what_is_given_back_beside_a_refusal_is_found Some(2), Some(2), 20, [Mark("refused"), Mark("served")] => {
        let world = World::biased(2, 0);
        let mut owner = cache(1);
        let block = world.allocate(&mut owner, 2);
        asked_beside(&world, move |w| w.free(&mut owner, block));
    }

    // The same, of one who has no number.
    loom_l2_what_is_freed_without_a_number_is_found Some(2), Some(2), 20, [Mark("refused"), Mark("served")] => {
        let world = World::biased(2, 0);
        let block = world.allocate(&mut cache(1), 2);
        asked_beside(&world, move |w| w.heap.free_unaided(block.at, None).expect("live"));
    }

    // An owner takes its parked block again while another cache heals; both use what they get.
    loom_s1_owner_pops_beside_a_thief Some(2), Some(3), 100, [Lost(&TAKE_OVER), Mark("stolen")] => {
        let world = World::biased(2, 0);
        let mut owner = cache(1);
        let block = world.allocate(&mut owner, 1);
        world.free(&mut owner, block);
        world.run([
            part(move |w| {
                let again = w.allocate(&mut owner, 1);
                if again.header.generation() != block.header.generation() + 1 {
                    mark("stolen");
                }
            }),
            part(|w| {
                let mut thief = strict(2);
                w.heap.heal(&mut thief);
                w.allocate(&mut thief, 1);
            }),
        ]);
        let tally = world.verify();
        assert_eq!((tally.live.blocks, tally.live.granules), (2, 2), "S1");
    }

    // The same where the owner frees, so that the thief comes between its look and its store.
    loom_s1_owner_frees_beside_a_thief Some(2), Some(3), 100, [Mark("whole")] => {
        let world = World::biased(2, 0);
        let mut owner = cache(1);
        let block = world.allocate(&mut owner, 1);
        world.run([
            part(move |w| {
                w.free(&mut owner, block);
                // The thief may have all of it.
                let Ok(again) = w.heap.allocate(&mut owner, 1, 1, Kind::Raw) else { return };
                w.heap.region().touch(again.at, 1);
                w.free(&mut owner, again);
            }),
            part(|w| {
                let mut thief = strict(2);
                w.heap.heal(&mut thief);
                if let Ok(all) = w.heap.allocate(&mut thief, 2, 1, Kind::Raw) {
                    mark("whole");
                    w.heap.region().touch(all.at, 2);
                    w.heap.free(&mut thief, all.at, None).expect("S5: it is live");
                }
            }),
        ]);
        world.heap.heal(&mut strict(3));
        world.is_whole();
    }

    // Two thieves and the owner want one parked block.
    loom_s1_two_thieves_and_the_owner Some(0), Some(1), 100, [Lost(&MARK)] => {
        let world = World::biased(3, 0);
        let mut owner = cache(1);
        let block = world.allocate(&mut owner, 1);
        world.free(&mut owner, block);
        let [one, two] = [2, 3].map(|number| part(move |w: &World| {
            let mut thief = strict(number);
            w.heap.heal(&mut thief);
            w.allocate(&mut thief, 1);
        }));
        world.run([part(move |w| { w.allocate(&mut owner, 1); }), one, two]);
        let tally = world.verify();
        assert_eq!((tally.live.blocks, tally.live.granules), (3, 3), "S1");
    }

    // A block is freed by another cache and goes home to its owner, which uses it again.
    loom_s3_freed_block_goes_home None, None, 60, [Mark("home")] => {
        let world = World::biased(2, 1);
        let (mut owner, mut other) = (cache(1), cache(2));
        let block = world.allocate(&mut owner, 1);
        world.run([
            part(move |w| {
                w.free(&mut other, block);
                w.heap.parking().flush(&mut other);
            }),
            part(move |w| {
                if w.allocate(&mut owner, 1).at == block.at {
                    mark("home");
                }
            }),
        ]);
        world.heap.heal(&mut strict(3));
        let tally = world.verify();
        assert_eq!((tally.live.blocks, tally.free.blocks), (1, 1), "S4");
    }

    // The owner and another cache free one block; whatever they are told, it is not handed out twice.
    loom_s1_two_caches_free_one_block Some(2), Some(3), 100, [Mark("both")] => {
        let world = World::biased(2, 1);
        let (mut owner, mut other) = (cache(1), cache(2));
        let block = world.allocate(&mut owner, 1);
        world.run([
            part(move |w| {
                let first = w.try_free(&mut owner, block).is_ok();
                w.allocate(&mut owner, 1);
                if first {
                    mark("both");
                }
            }),
            part(move |w| {
                let _ = w.try_free(&mut other, block);
                w.heap.parking().flush(&mut other);
                w.allocate(&mut other, 1);
            }),
        ]);
        let tally = world.verify();
        assert_eq!((tally.live.blocks, tally.live.granules), (2, 2), "S1");
    }

    // A block is adopted while its owner frees it: it goes to one of them.
    loom_s1_adoption_races_the_owners_free Some(2), Some(3), 100, [Mark("adopted"), Mark("kept")] => {
        let world = World::biased(2, 0);
        let mut owner = cache(1);
        let block = world.allocate(&mut owner, 1);
        world.run([
            part(move |w| {
                if w.try_free(&mut owner, block).is_ok() {
                    mark("kept");
                    w.allocate(&mut owner, 1);
                }
            }),
            part(move |w| {
                if w.heap.adoption().rename_from(2, block.at, block.header, 2).is_some() {
                    mark("adopted");
                    w.heap.region().touch(block.at, 1);
                }
            }),
        ]);
        world.verify();
    }

    // An owner spills what it has parked, which is unowned then; another cache merges it without asking anybody.
    loom_s3_renounced_block_is_swept Some(2), Some(3), 100, [Mark("swept")] => {
        let world = World::biased(3, 1);
        world.occupy_homes();
        let mut owner = cache(1);
        let blocks = [(); 3].map(|()| world.allocate(&mut owner, 1));
        world.run([
            part(move |w| blocks.into_iter().for_each(|block| w.free(&mut owner, block))),
            part(move |w| {
                let mut other = strict(2);
                let unowned = |w: &World| (0..3).any(|g| {
                    let header = w.heap.look(Granule(g));
                    header.is_given_up() && header.parked_by() == 0
                });
                if unowned(w) {
                    w.heap.heal(&mut other);
                    if let Ok(block) = w.heap.allocate(&mut other, 1, 1, Kind::Raw) {
                        mark("swept");
                        w.heap.region().touch(block.at, 1);
                    }
                }
            }),
        ]);
        world.heap.heal(&mut strict(3));
        world.verify();
    }

    // An owner spills what it has parked; another cache takes it from the transfer cache.
    loom_s3_spilt_block_changes_caches Some(2), Some(3), 100, [Mark("taken")] => {
        let world = World::biased(3, 1);
        world.occupy_homes();
        let mut owner = cache(1);
        let blocks = [(); 3].map(|()| world.allocate(&mut owner, 1));
        world.run([
            part(move |w| blocks.into_iter().for_each(|block| w.free(&mut owner, block))),
            part(move |w| {
                let mut other = cache(2);
                if let Ok(block) = w.heap.allocate(&mut other, 1, 1, Kind::Raw) {
                    mark("taken");
                    w.heap.region().touch(block.at, 1);
                    w.heap.free(&mut other, block.at, None).expect("S5: it is live");
                }
            }),
        ]);
        world.heap.heal(&mut strict(3));
        world.is_whole();
    }
}

thread_local! {
    static STEP: Cell<u64> = const { Cell::new(0) };
    static FINISHED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a scenario with its victim stopped at every access in turn: stops and executions.
fn every_step(name: &'static str, body: fn()) {
    for all_rmw in [false, true] {
        let bound = Some(1);
        let scenario = Scenario { name, body, bounds: (bound, bound), minimum: 1, meets: &[] };
        let (mut stops, mut sum) = (0, 0);
        FINISHED.set(false);
        while !FINISHED.get() {
            STEP.set(stops);
            sum += explore(&scenario, Setting { all_rmw, ..Setting::default() })
                .unwrap_or_else(|e| panic!("{name}, stopped before access {stops}: {e}"));
            stops += 1;
        }
        let mode = if all_rmw { "all-RMW" } else { "plain" };
        println!("{name} | {mode} | {stops} stops, {sum} executions | bounded(1)");
        assert!(stops > 4 && sum > 20, "{name}: explored too little");
    }
}

/// The victim has stopped somewhere; its survivors share what there is, and after its recovery everything is
/// there again.
fn stopped(thief: bool) {
    let world = World::<Mortal>::with_bias(2, 0, true);
    let (mut owner, mut victim) = (cache(1), strict(2));
    let block = world.allocate(&mut owner, 1);
    world.free(&mut owner, block);
    let dead = if thief { 2 } else { 1 };
    FINISHED.set(
        stopped_at(STEP.get(), || {
            if thief {
                world.heap.heal(&mut victim);
            } else {
                let again = world.allocate(&mut owner, 1);
                world.free(&mut owner, again);
            }
        })
        .is_some(),
    );
    let survivor = part(move |w: &World<Mortal>| {
        let mut cache = if thief { owner } else { cache(2) };
        let Ok(block) = w.heap.allocate(&mut cache, 1, 1, Kind::Raw) else { return };
        mark("served");
        w.heap.region().touch(block.at, 1);
        w.heap.region().touch(block.at, 1);
        w.heap.free(&mut cache, block.at, Some(block.header.generation())).expect("S5: it is live");
    });
    world.run([survivor, part(|w| w.heap.heal(&mut strict(3)))]);
    world.heap.recoveries().recover(&mut strict(3), dead, Policy::GiveBack);
    world.heap.heal(&mut strict(3));
    world.is_whole();
}

#[test]
fn loom_c1_a_thief_is_killed() {
    every_step("loom_c1_a_thief_is_killed", || stopped(true));
}

#[test]
fn loom_c1_an_owner_is_killed() {
    every_step("loom_c1_an_owner_is_killed", || stopped(false));
}

/// The first scenario with biased parking that notices the fault.
fn noticed(mutant: Mutant) -> Option<String> {
    ALL.iter().find_map(|scenario| {
        [true, false].into_iter().find_map(|all_rmw| {
            let setting = Setting { all_rmw, mutant: Some(mutant), ..Setting::default() };
            let message = quietly(|| explore(scenario, setting)).err()?;
            let message: String = message.chars().take(100).collect();
            Some(format!("{}, all-RMW {all_rmw}, execution {}: {message}", scenario.name, executions()))
        })
    })
}

macro_rules! mutants {
    ($($test:ident $mutant:ident;)*) => {$(
        #[test]
        fn $test() {
            let caught = noticed(Mutant::$mutant);
            println!("mutant {:?} | {}", Mutant::$mutant, caught.as_deref().unwrap_or("SURVIVES"));
            assert!(caught.is_some(), "{:?} survives", Mutant::$mutant);
        }
    )*};
}

mutants! {
    mutant_hazard_unset_is_caught HazardUnset;
    mutant_own_fence_dropped_is_caught OwnFenceDropped;
    mutant_thief_fence_dropped_is_caught ThiefFenceDropped;
    mutant_hazard_ignored_is_caught HazardIgnored;
    mutant_mark_dropped_is_caught MarkDropped;
}
