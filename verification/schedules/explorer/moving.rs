//! L2 where blocks move: a free block is merged with its left neighbour while a sweep is between the two, so that the
//! sweep has passed it, and finds it nowhere. Once in the first sweep, and once in the second.

use super::turns::{self, Player, Scheduling, play};
use super::world::World;
use atomic_matrix::backend::Mutant;
use atomic_matrix::backend::decorators::set_mutant;
use atomic_matrix::matrix::heap::{Kind, Live, ThreadCache};
use fastrand::Rng;
use std::cell::RefCell;
use std::rc::Rc;

/// Granules of the free block, and of the request.
const SIZE: u32 = 8;

/// Two neighbours of the free block are freed, one after the other: the nearer one after `first` accesses of the
/// request, the other after `second` more. How many the request makes, and whether it is served.
fn one(first: u64, second: u64) -> (u64, bool) {
    let world = Rc::new(World::with(16, false, 6));
    let mut cache = ThreadCache::with_ceiling(3, 0);
    // From the end: one that stays, the free one, and what is freed later; in front is another one that stays.
    let sizes = [1, SIZE, 2, 2, 3];
    let blocks = sizes.map(|size| world.heap.allocate(&mut cache, size, 1, Kind::Raw).expect("there is room"));
    let [_, free, nearer, further, _] = blocks;
    let give = |cache: &mut ThreadCache, block: Live| {
        world.heap.free(cache, block.at, Some(block.header.generation())).expect("S5: it is live");
    };
    give(&mut cache, free);
    // As if a searcher had stopped behind its clear.
    world.lose_hint(free.at);
    let served = Rc::new(RefCell::new(false));
    let (own, told) = (world.clone(), served.clone());
    let asks = move || {
        told.replace(own.heap.allocate(&mut ThreadCache::with_ceiling(1, 0), SIZE, 1, Kind::Raw).is_ok());
    };
    let frees = |number: u16, block: Live| {
        let own = world.clone();
        move || {
            let cache = &mut ThreadCache::with_ceiling(number, 0);
            own.heap.free(cache, block.at, Some(block.header.generation())).expect("S5: it is live");
        }
    };
    let players = vec![Player::new(asks), Player::new(frees(2, nearer)), Player::new(frees(4, further))];
    let mut order = [(0, u64::MAX); turns::TURNS];
    (order[0], order[1], order[2], order[3]) = ((0, first), (1, u64::MAX), (0, second), (2, u64::MAX));
    let ends = play(players, Scheduling::Turns(order), &mut Rng::with_seed(0));
    let served = *served.borrow();
    (ends[0].accesses, served)
}

/// Of all such schedules, the first one in which the request is refused; and how many there are.
fn refused() -> (u64, Option<(u64, u64)>) {
    let mut count = 0;
    for first in 0.. {
        let mut ended = false;
        for second in 0.. {
            let (accesses, served) = one(first, second);
            count += 1;
            if !served {
                return (count, Some((first, second)));
            }
            ended = accesses <= first;
            if accesses <= first + second {
                break;
            }
        }
        if ended {
            return (count, None);
        }
    }
    (count, None)
}

/// A block that was free throughout is found, wherever it begins by then.
#[test]
fn schedules_l2_a_block_that_moves_behind_both_sweeps_is_found() {
    let (count, wrong) = refused();
    assert_eq!(wrong, None, "L2");
    set_mutant(Some(Mutant::SweepGoesOn));
    let (_, noticed) = refused();
    set_mutant(None);
    println!("{count} schedules; mutant SweepGoesOn | {noticed:?}");
    assert!(noticed.is_some(), "SweepGoesOn survives");
}
