//! A walker beside two joins of one participant: what was live all the time is met once, wherever the two stand.

use super::turns::{Player, Scheduling, TURNS, play};
use super::world::World;
use atomic_matrix::matrix::heap::{Kind, Live, ThreadCache};
use fastrand::Rng;
use std::cell::Cell;
use std::rc::Rc;

/// Six blocks, from the sector's beginning to its end; the second and the fifth are free. Their headers have
/// one generation.
fn six() -> (Rc<World>, [Live; 6]) {
    let world = Rc::new(World::with(48, false, 6));
    let cache = &mut ThreadCache::with_ceiling(2, 0);
    let mut blocks = [4, 16, 4, 4, 4, 16].map(|size| world.allocate(cache, size, 1, Kind::Raw).expect("room"));
    blocks.sort_by_key(|block| block.at.0);
    assert_eq!(blocks.map(|block| block.at.0), SIX.map(|(at, _)| at));
    for at in [1, 4] {
        world.free(cache, blocks[at]);
    }
    (world, blocks)
}

const SIX: [(u32, u32); 6] = [(0, 16), (16, 4), (20, 4), (24, 4), (28, 16), (44, 4)];

/// The walker is set aside before its access number `walked`, when the other has made `first` accesses, and
/// goes on behind `second` more. How often it met each of the three that stay, and whether both came to these
/// accesses.
fn walk_beside(first: u64, walked: u64, second: u64) -> ([u32; 2], bool) {
    let (world, blocks) = six();
    let met = Rc::new(Cell::new([0; 2]));
    let own = world.clone();
    // The first block is joined with the second, then the fourth with the fifth.
    let joins = move || {
        let cache = &mut ThreadCache::with_ceiling(1, 0);
        own.heap.free(cache, blocks[0].at, None).expect("live");
        own.heap.free(cache, blocks[3].at, None).expect("live");
    };
    let (own, tells) = (world.clone(), met.clone());
    let walks = move || {
        let mut seen = [0; 2];
        let walked = own.heap.walk(|g, _| {
            for (seen, at) in seen.iter_mut().zip([2, 5]) {
                *seen += u32::from(g == blocks[at].at);
            }
        });
        walked.expect("S4");
        tells.set(seen);
    };
    let mut turns = [(1, u64::MAX); TURNS];
    (turns[0], turns[1], turns[2]) = ((0, first), (1, walked), (0, second));
    let ends = play(vec![Player::new(joins), Player::new(walks)], Scheduling::Turns(turns), &mut Rng::with_seed(0));
    (met.get(), ends[0].accesses >= first + second && ends[1].accesses >= walked)
}

/// Every three moments; the first at which a block was not met once.
pub(crate) fn every_moment() -> (u64, Option<String>) {
    let mut count = 0;
    for first in 0.. {
        if !walk_beside(first, 0, 0).1 {
            break;
        }
        for walked in 1.. {
            if !walk_beside(first, walked, 0).1 {
                break;
            }
            for second in 0.. {
                let (met, in_range) = walk_beside(first, walked, second);
                count += 1;
                if met != [1; 2] {
                    return (count, Some(format!("{met:?} at {first}, {walked}, {second}")));
                }
                if !in_range {
                    break;
                }
            }
        }
    }
    (count, None)
}
