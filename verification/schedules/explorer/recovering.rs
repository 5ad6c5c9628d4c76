//! A recovery beside a merge: what the dead had freed, and not hinted yet, is hinted in the end.

use super::turns::{Player, Scheduling, TURNS, play};
use super::world::World;
use atomic_matrix::matrix::heap::{Kind, Live, ThreadCache};
use atomic_matrix::matrix::recovery::Policy as Give;
use fastrand::Rng;
use std::rc::Rc;

const DEAD: u16 = 1;
const NEIGHBOUR: u16 = 2;

/// A full sector. A block of the one who will die, and one of its neighbour's behind it: both together are of the
/// first one's class.
fn full() -> (Rc<World>, [Live; 2]) {
    let world = World::with(70, false, 6);
    let take = |owner, size| world.allocate(&mut ThreadCache::with_ceiling(owner, 0), size, 1, Kind::Raw);
    let [behind, block] = [take(NEIGHBOUR, 1), take(DEAD, 33)].map(|block| block.expect("room"));
    while take(3, 1).is_some() {}
    assert_eq!(block.at.0 + block.header.size(), behind.at.0);
    (Rc::new(world), [block, behind])
}

fn frees(world: &Rc<World>, owner: u16, block: Live) -> impl FnOnce() + 'static {
    let world = world.clone();
    move || world.free(&mut ThreadCache::with_ceiling(owner, 0), block)
}

fn turns(first: &[(usize, u64)]) -> Scheduling {
    let mut turns = [(0, u64::MAX); TURNS];
    turns[..first.len()].copy_from_slice(first);
    Scheduling::Turns(turns)
}

/// Whether who stops before its access number `k` of its free owes something by then; None: it has ended.
fn owes(k: u64) -> Option<bool> {
    let (world, [block, _]) = full();
    let dies = vec![Player::stopped_at(frees(&world, DEAD, block), k)];
    let stopped = play(dies, turns(&[]), &mut Rng::with_seed(0))[0].stopped;
    stopped.then(|| world.heap.verify().is_err())
}

/// One stops for ever before its access number `k` of its free. Its recovery makes `r` accesses, the neighbour's free
/// `j`, then both go on. The accesses of both, and what is wrong at rest.
fn one(k: u64, r: u64, j: u64) -> ([u64; 2], Option<String>) {
    let (world, [block, behind]) = full();
    let own = world.clone();
    let recovers = move || {
        own.heap.recoveries().recover(&mut ThreadCache::with_ceiling(7, 0), DEAD, Give::GiveBack);
    };
    let players = vec![
        Player::stopped_at(frees(&world, DEAD, block), k),
        Player::new(frees(&world, NEIGHBOUR, behind)),
        Player::new(recovers),
    ];
    let order = turns(&[(0, u64::MAX), (2, r), (1, j), (2, u64::MAX), (1, u64::MAX)]);
    let ends = play(players, order, &mut Rng::with_seed(0));
    ([ends[2].accesses, ends[1].accesses], world.heap.verify().err().map(|fault| format!("{fault}, at {k}, {r}, {j}")))
}

/// Every three moments at which the dead one owes something; how many there are, and the first fault.
pub(crate) fn every_moment() -> (u64, Option<String>) {
    let mut count = 0;
    for k in (0..).map_while(|k| owes(k).map(|owes| (k, owes))).filter_map(|(k, owes)| owes.then_some(k)) {
        for r in 0.. {
            let mut recovered = 0;
            for j in 0.. {
                let ([recovery, merge], fault) = one(k, r, j);
                if fault.is_some() {
                    return (count, fault);
                }
                (recovered, count) = (recovery, count + 1);
                if merge <= j {
                    break;
                }
            }
            if recovered <= r {
                break;
            }
        }
    }
    (count, None)
}
