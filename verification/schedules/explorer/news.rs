//! L2 with what was refused remembered (matrix::news): one gives something back while another, which wants it,
//! is being refused. At rest nobody is refused because of what it remembers.

use super::turns::{self, Player, Policy, TURNS, play};
use super::world::World;
use atomic_matrix::backend::Mutant;
use atomic_matrix::backend::decorators::set_mutant;
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use atomic_matrix::matrix::recovery::Policy as Give;
use atomic_matrix::segment::region::BoxedRegion;
use atomic_matrix::segment::size_class::Larges;
use fastrand::Rng;
use std::cell::RefCell;
use std::rc::Rc;

type Modelled = Heap<BoxedRegion<turns::Scheduled>>;

/// How something is given back, of a sector of twelve granules that is full otherwise.
struct Way {
    name: &'static str,
    biased: bool,
    larges: Larges,
    /// Blocks that the owner of the block frees with.
    ceiling: usize,
    /// Granules of the block, and of what is asked for.
    sizes: (u32, u32),
    give: fn(&Modelled, &mut ThreadCache, Live),
}

const SMALL: Larges = Larges { from: 4, part: 1 };
const OWNER: u16 = 2;
const ANOTHER: u16 = 3;

fn free(heap: &Modelled, cache: &mut ThreadCache, block: Live) {
    heap.free(cache, block.at, Some(block.header.generation())).expect("S5: it is live");
}

const WAYS: [Way; 7] = [
    Way { name: "merged", biased: false, larges: Larges::USUAL, ceiling: 0, sizes: (6, 6), give: free },
    Way { name: "parked", biased: true, larges: Larges::USUAL, ceiling: 4, sizes: (6, 6), give: free },
    Way {
        name: "another's",
        biased: true,
        larges: Larges::USUAL,
        ceiling: 4,
        sizes: (6, 6),
        give: |heap, _, block| free(heap, &mut ThreadCache::with_ceiling(ANOTHER, 4), block),
    },
    Way {
        name: "unaided",
        biased: true,
        larges: Larges::USUAL,
        ceiling: 4,
        sizes: (6, 6),
        give: |heap, _, block| heap.free_unaided(block.at, None).expect("S5: it is live"),
    },
    Way { name: "large", biased: true, larges: SMALL, ceiling: 4, sizes: (6, 6), give: free },
    Way {
        name: "parked when a run is cut up",
        biased: true,
        larges: Larges::USUAL,
        ceiling: 4,
        sizes: (6, 2),
        give: |heap, cache, block| {
            heap.free(cache, block.at, None).expect("S5: it is live");
            heap.parking().flush(cache);
            let _ = heap.allocate(cache, 1, 1, Kind::Raw);
        },
    },
    Way {
        name: "shrunk",
        biased: true,
        larges: Larges::USUAL,
        ceiling: 4,
        sizes: (6, 3),
        give: |heap, cache, block| {
            let _ = heap.resizing().resize(cache, block, 3);
        },
    },
];

/// A full sector, and the block in it.
fn full(way: &Way) -> (Rc<World>, ThreadCache, Live) {
    let world = World::with_larges(12, way.biased, 6, way.larges);
    let mut cache = ThreadCache::with_pool(OWNER, way.ceiling, 12);
    let block = world.heap.allocate(&mut cache, way.sizes.0, 1, Kind::Raw).expect("the sector is empty");
    let mut filler = ThreadCache::with_ceiling(8, 0);
    while world.heap.allocate(&mut filler, 1, 1, Kind::Raw).is_ok() {}
    (Rc::new(world), cache, block)
}

/// Plays `give` for `k` accesses, a request for `j`, `give` to its end, or not, and the request to its own.
/// Both ends' accesses, and what is wrong then: whoever was refused is refused again, and a newcomer is not.
fn one(way: &'static Way, k: u64, j: u64, dies: bool) -> ([u64; 2], bool) {
    let (world, mut cache, block) = full(way);
    let asker = Rc::new(RefCell::new(ThreadCache::with_ceiling(1, 0)));
    let own = world.clone();
    let gives = move || (way.give)(&own.heap, &mut cache, block);
    let (own, asking) = (world.clone(), asker.clone());
    let served = Rc::new(RefCell::new(false));
    let told = served.clone();
    let asks = move || {
        let got = own.heap.allocate(&mut asking.borrow_mut(), way.sizes.1, 1, Kind::Raw);
        *told.borrow_mut() = got.is_ok();
    };
    let giver = if dies { Player::stopped_at(gives, k) } else { Player::new(gives) };
    let mut order = [(1, u64::MAX); TURNS];
    (order[0], order[1], order[2]) = ((0, k), (1, j), (0, u64::MAX));
    let ends = play(vec![giver, Player::new(asks)], Policy::Turns(order), &mut Rng::with_seed(0));
    if dies {
        world.heap.recoveries().recover(&mut ThreadCache::with_ceiling(4, 0), OWNER, Give::Keep);
        world.heap.recoveries().recover(&mut ThreadCache::with_ceiling(4, 0), ANOTHER, Give::Keep);
    }
    let ask = |cache: &mut ThreadCache| world.heap.allocate(cache, way.sizes.1, 1, Kind::Raw).is_ok();
    let wrong = !*served.borrow() && !ask(&mut asker.borrow_mut()) && ask(&mut ThreadCache::with_ceiling(5, 0));
    ([ends[0].accesses, ends[1].accesses], wrong)
}

/// All ways, the giver interrupted at every access, by the whole request or by a part of it; or dead there.
fn refused_wrongly() -> Option<String> {
    for way in &WAYS {
        for k in 0.. {
            let mut gave = 0;
            for j in (0..).step_by(3).chain([u64::MAX]) {
                let (accesses, wrong) = one(way, k, j, false);
                if wrong {
                    return Some(format!("L2: {}: interrupted at {k}, for {j} accesses", way.name));
                }
                gave = accesses[0];
                if j > accesses[1] {
                    break;
                }
            }
            if one(way, k, u64::MAX, true).1 {
                return Some(format!("L2: {}: dead at {k}", way.name));
            }
            if k > gave {
                break;
            }
        }
    }
    None
}

#[test]
fn schedules_l2_who_was_refused_hears_of_whatever_is_given_back() {
    assert_eq!(refused_wrongly(), None);
}

#[test]
fn mutant_news_is_caught() {
    for mutant in [Mutant::NewsUntold, Mutant::NewsToldEarly, Mutant::NewsReadLate, Mutant::NewsIgnored] {
        set_mutant(Some(mutant));
        let found = refused_wrongly();
        set_mutant(None);
        println!("mutant {mutant:?} | {}", found.as_deref().unwrap_or("SURVIVES"));
        assert!(found.is_some(), "{mutant:?} survives");
    }
}
