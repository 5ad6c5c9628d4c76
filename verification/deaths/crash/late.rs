//! A recovery that stands still: whoever walks for a dead participant is set aside before each of its
//! accesses, others help, the number goes to a newcomer, and the first one goes on as if nothing had happened
//! (L2, C1, S1).

use crate::operations::{DEAD, dead};
use crate::turns::{Player, Scheduling, TURNS, alone, play};
use crate::world::World;
use atomic_matrix::matrix::heap::{Kind, Live, ThreadCache};
use atomic_matrix::matrix::recovery::{Policy as Give, Recovery};
use atomic_matrix::segment::slot::Dead;
use fastrand::Rng;
use std::cell::RefCell;
use std::rc::Rc;

/// Who is set aside, who helps, and who adopts a block of the dead one's before that.
const FIRST: u16 = 1;
const HELPER: u16 = 5;
const ADOPTER: u16 = 4;

/// The newcomer's life.
const LIFE: u32 = 77;

/// How the first one walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    /// With a cache of its own.
    Recoverer,
    /// As a newcomer, which has reserved the number, and has none of its own.
    Newcomer,
}

/// What became of the number while the first one stood still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Taken,
    Kept,
}

/// A heap in which [`DEAD`] has died, so many accesses into its third allocation.
fn world(granules: u32, died_at: u64) -> (Rc<World>, Live) {
    let world = Rc::new(World::of(granules, 6));
    (1..=DEAD).for_each(|number| assert!(world.heap.recoveries().slots().take(number, 0)));
    dead(&world, died_at);
    let mut first = None;
    world.heap.walk(|at, header| first = first.or(header.is_live().then_some(Live { at, header }))).expect("S4");
    (world, first.expect("it has two blocks"))
}

/// The helper's part: another adopts one of the dead one's blocks, the recovery is helped to its end, a
/// newcomer takes the number if that is to be had, allocates, and adopts the block, which has had one
/// generation all the time.
fn help(world: &World, dead: Dead, block: Live, first: First) -> (Number, Vec<Live>) {
    let heap = &world.heap;
    // The first one may have given it back already.
    let adopted = heap.adoption().rename_from(ADOPTER, block.at, block.header, ADOPTER);
    adopted.inspect(|_| world.claim(block, ADOPTER, 1, 1));
    let cache = &mut ThreadCache::with_ceiling(HELPER, 0);
    let recovery = &mut Recovery::of(vec![dead], Give::GiveBack);
    heap.recoveries().recover_all(cache, recovery);
    assert_eq!(recovery.total().open_adoptions, 0, "nobody adopts any more");
    // Unless the newcomer has taken the number already, and is looking at the neighbours.
    if !heap.recoveries().slots().is_held(DEAD) {
        heap.walk(|g, header| assert!(header.parked_by() != DEAD, "L2: {g:?} is the dead one's: {header:?}"))
            .expect("S4");
    }
    world.nothing_is_hidden(cache, 30);
    let taken = heap.recoveries().slots().take(DEAD, 0);
    assert!(!taken || first == First::Recoverer, "the number is reserved for a newcomer");
    if !taken {
        if let Some(header) = adopted {
            world.free(&mut ThreadCache::with_ceiling(ADOPTER, 0), Live { at: block.at, header });
        }
        return (Number::Kept, vec![]);
    }
    let mut holds = vec![];
    if let Some(header) = adopted {
        let unowned = heap.adoption().rename_from(ADOPTER, block.at, header, 0).expect("its own");
        let header = heap.adoption().rename_from(DEAD, block.at, unowned, DEAD).expect("unowned");
        assert_eq!(header, block.header, "the word has come back");
        world.give_up(block, ADOPTER);
        world.claim(block, DEAD, 1, 1);
        holds.push(block);
    }
    let next = &mut ThreadCache::with_ceiling(DEAD, 4);
    holds.extend([2, 3, 2].iter().filter_map(|&size| world.allocate(next, size, 1, Kind::Raw)));
    (Number::Taken, holds)
}

/// The first one is set aside before its access number `k`; what became of the number, or none if it had come
/// to its end.
fn set_aside(first: First, granules: u32, died_at: u64, k: u64) -> Option<Number> {
    let (world, block) = world(granules, died_at);
    let ended = Rc::new(RefCell::new(false));
    let result = Rc::new(RefCell::new(None));
    let (own, has_ended) = (world.clone(), ended.clone());
    // Declared dead by compare-and-swap on the word that told whose death it was: a late declaration hits nobody else.
    let dead = world.heap.recoveries().slots().bury(DEAD, FIRST);
    let dead = match first {
        First::Recoverer => dead,
        First::Newcomer => world.heap.recoveries().slots().reserve(dead, LIFE).expect("nobody else moves"),
    };
    let walks = move || {
        let cache = &mut ThreadCache::with_ceiling(if first == First::Newcomer { DEAD } else { FIRST }, 0);
        let recovery = &mut Recovery::of(vec![dead], Give::GiveBack);
        match first {
            First::Recoverer => own.heap.recoveries().recover_all(cache, recovery),
            First::Newcomer => {
                assert!(own.heap.recoveries().recover_predecessor(recovery));
                assert!(own.heap.recoveries().slots().take(DEAD, LIFE), "the number is reserved for it");
                own.heap.settle_all(cache);
            }
        }
        has_ended.replace(true);
    };
    let (own, has_ended, told) = (world.clone(), ended.clone(), result.clone());
    let helps = move || {
        if !*has_ended.borrow() {
            told.replace(Some(help(&own, dead, block, first)));
        }
    };
    let mut turns = [(1, u64::MAX); TURNS];
    turns[0] = (0, k);
    play(vec![Player::new(walks), Player::new(helps)], Scheduling::Turns(turns), &mut Rng::with_seed(0));
    let (number, holds) = result.take()?;
    let heap = &world.heap;
    for block in &holds {
        assert_eq!(heap.live_at(block.at), Ok(*block), "S1: a late helper has taken what a newcomer holds");
    }
    let (own, at_the_end) = (world.clone(), number);
    let ends = move || {
        let cache = &mut ThreadCache::with_ceiling(HELPER, 0);
        if first == First::Recoverer && at_the_end == Number::Kept {
            own.heap.recoveries().recover(cache, DEAD, Give::GiveBack);
            assert!(own.heap.recoveries().slots().take(DEAD, 0), "C1: the number is nobody's, and not to be had");
        }
        // By the recoveries alone: nobody has healed.
        own.heap.verify().unwrap_or_else(|fault| panic!("recovered: {fault}"));
        holds.into_iter().for_each(|block| own.free(&mut ThreadCache::with_ceiling(DEAD, 0), block));
        own.heap.heal(cache);
    };
    alone(ends, None);
    let tally = heap.verify().unwrap_or_else(|fault| panic!("at rest: {fault}"));
    assert_eq!((tally.free.blocks, tally.free.granules), (1, granules as u64), "C1, L3");
    Some(number)
}

/// Every access of every way to walk; how often the number was taken, and kept.
pub(crate) fn every_access(say: impl Fn(String)) -> (u64, u64) {
    let (mut taken, mut kept) = (0, 0);
    for first in [First::Recoverer, First::Newcomer] {
        // With biased parking and without; dead in a cut, in the operation behind it, and at rest.
        for (granules, died_at) in [(40, 5), (40, 12), (42, 9), (42, 14), (42, 16)] {
            let mut k = 0;
            loop {
                say(format!("{first:?}, {granules} granules, died at {died_at}, set aside at {k}"));
                match set_aside(first, granules, died_at, k) {
                    None => break,
                    Some(Number::Taken) => taken += 1,
                    Some(Number::Kept) => kept += 1,
                }
                k += 1;
            }
        }
    }
    (taken, kept)
}
