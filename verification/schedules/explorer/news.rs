//! L2 with what was refused remembered (matrix::refusals): one gives something back while another, which wants it,
//! is being refused. At rest nobody is refused because of what it remembers.

use super::turns::{self, Player, Scheduling, TURNS, play};
use super::world::World;
use atomic_matrix::backend::Mutant;
use atomic_matrix::backend::decorators::set_mutant;
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use atomic_matrix::matrix::recovery::Policy as Give;
use atomic_matrix::segment::region::BoxedRegion;
use atomic_matrix::segment::size_class::Larges;
use fastrand::Rng;
use std::cell::{Cell, RefCell};
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

/// One who frees what is its own, if anything, and asks for so many granules at a multiple of so many, beside another.
struct Asker {
    world: Rc<World>,
    cache: Rc<RefCell<ThreadCache>>,
    asked: (u32, u32),
    served: Rc<Cell<bool>>,
}

impl Asker {
    fn new(world: &Rc<World>, cache: ThreadCache, asked: (u32, u32)) -> Self {
        Self { world: world.clone(), cache: Rc::new(RefCell::new(cache)), asked, served: Rc::default() }
    }

    /// Plays it as the second of two, by these turns, and then to its end: the accesses of both.
    fn beside(&self, other: Player, own: Option<Live>, turns: &[(usize, u64)]) -> [u64; 2] {
        let (world, cache, asked, served) = (self.world.clone(), self.cache.clone(), self.asked, self.served.clone());
        let asks = move || {
            let cache = &mut cache.borrow_mut();
            own.into_iter().for_each(|block| free(&world.heap, cache, block));
            served.set(world.heap.allocate(cache, asked.0, asked.1, Kind::Raw).is_ok());
        };
        let mut order = [(1, u64::MAX); TURNS];
        order[..turns.len()].copy_from_slice(turns);
        let ends = play(vec![other, Player::new(asks)], Scheduling::Turns(order), &mut Rng::with_seed(0));
        [ends[0].accesses, ends[1].accesses]
    }

    /// At rest: whether it was refused, and is so many times more, and a newcomer is not.
    fn is_refused_wrongly(&self, again: usize) -> bool {
        let ask =
            |cache: &mut ThreadCache| self.world.heap.allocate(cache, self.asked.0, self.asked.1, Kind::Raw).is_ok();
        let refused = !self.served.get() && (0..again).all(|_| !ask(&mut self.cache.borrow_mut()));
        refused && ask(&mut ThreadCache::with_ceiling(5, 0))
    }
}

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
    let asker = Asker::new(&world, ThreadCache::with_ceiling(1, 0), (way.sizes.1, 1));
    let own = world.clone();
    let gives = move || (way.give)(&own.heap, &mut cache, block);
    let giver = if dies { Player::stopped_at(gives, k) } else { Player::new(gives) };
    let accesses = asker.beside(giver, None, &[(0, k), (1, j), (0, u64::MAX)]);
    if dies {
        world.heap.recoveries().recover(&mut ThreadCache::with_ceiling(4, 0), OWNER, Give::Keep);
        world.heap.recoveries().recover(&mut ThreadCache::with_ceiling(4, 0), ANOTHER, Give::Keep);
    }
    (accesses, asker.is_refused_wrongly(1))
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

/// What another does in the free memory beside the asker's block.
struct Beside {
    name: &'static str,
    biased: bool,
    /// Blocks that either parks.
    ceiling: usize,
    act: fn(&Modelled, &mut ThreadCache),
    /// What the asker asks for, of the 12 granules of the sector: granules, and at a multiple of how many.
    asked: (u32, u32),
}

const BESIDE: [Beside; 8] = [
    Beside { name: "cuts", biased: false, ceiling: 0, act: |heap, cache| cut(heap, cache, 2), asked: (10, 1) },
    Beside { name: "cuts half", biased: false, ceiling: 0, act: |heap, cache| cut(heap, cache, 4), asked: (8, 8) },
    Beside { name: "cuts beside parked ones", biased: true, ceiling: 4, act: |h, c| cut(h, c, 2), asked: (10, 1) },
    Beside {
        name: "cuts, and frees again",
        biased: false,
        ceiling: 0,
        act: |heap, cache| {
            if let Ok(block) = heap.allocate(cache, 2, 1, Kind::Raw) {
                free(heap, cache, block);
            }
        },
        asked: (11, 1),
    },
    Beside {
        name: "takes all, and shrinks it",
        biased: false,
        ceiling: 0,
        act: |heap, cache| {
            if let Ok(block) = heap.allocate(cache, 8, 1, Kind::Raw) {
                let _ = heap.resizing().resize(cache, block, 2);
            }
        },
        asked: (9, 1),
    },
    Beside {
        name: "takes an aligned part",
        biased: false,
        ceiling: 0,
        act: |heap, cache| {
            let _ = heap.allocate(cache, 2, 4, Kind::Raw);
        },
        asked: (7, 1),
    },
    Beside {
        name: "is refused",
        biased: true,
        ceiling: 4,
        act: |heap, cache| {
            let _ = heap.allocate(cache, 12, 1, Kind::Raw);
        },
        asked: (12, 1),
    },
    Beside { name: "heals", biased: true, ceiling: 4, act: |heap, cache| heap.heal(cache), asked: (12, 1) },
];

fn cut(heap: &Modelled, cache: &mut ThreadCache, size: u32) {
    let _ = heap.allocate(cache, size, 1, Kind::Raw);
}

/// The first four granules are the asker's, the other eight free. The asker was refused, or was not; it frees its block
/// and asks, while the other acts: for `k` accesses, then the asker for `j`, the other for `step`, and both to their
/// ends, or the other dies at `k`. Both ends' accesses, and what is wrong then, as in [`one`].
fn one_beside(way: &'static Beside, refused: bool, [k, j, step]: [u64; 3], dies: bool) -> ([u64; 2], bool) {
    let world = Rc::new(World::with(12, way.biased, 6));
    let mut filler = ThreadCache::with_ceiling(ANOTHER, 0);
    let right = world.heap.allocate(&mut filler, 8, 1, Kind::Raw).expect("room");
    let mut cache = ThreadCache::with_ceiling(1, way.ceiling);
    let left = world.heap.allocate(&mut cache, 4, 1, Kind::Raw).expect("room");
    free(&world.heap, &mut filler, right);
    world.heap.parking().flush(&mut filler);
    if refused {
        assert!(world.heap.allocate(&mut cache, way.asked.0, way.asked.1, Kind::Raw).is_err() || way.asked.0 <= 8);
    }
    let (own, asker) = (world.clone(), Asker::new(&world, cache, way.asked));
    let acts = move || (way.act)(&own.heap, &mut ThreadCache::with_ceiling(OWNER, way.ceiling));
    let other = if dies { Player::stopped_at(acts, k) } else { Player::new(acts) };
    let accesses = asker.beside(other, Some(left), &[(0, k), (1, j), (0, step), (1, u64::MAX), (0, u64::MAX)]);
    if dies {
        world.heap.recoveries().recover(&mut ThreadCache::with_ceiling(4, 0), OWNER, Give::GiveBack);
    }
    (accesses, asker.is_refused_wrongly(2))
}

/// All of them, interrupted at every access.
fn refused_wrongly_beside() -> Option<String> {
    for (way, refused) in BESIDE.iter().flat_map(|way| [false, true].map(|refused| (way, refused))) {
        for k in 0.. {
            let mut acted = 0;
            for j in 0.. {
                let mut asked = 0;
                for step in 1..3 {
                    let (accesses, wrong) = one_beside(way, refused, [k, j, step], false);
                    if wrong {
                        return Some(format!(
                            "L2: who {} is interrupted at {k} and {step} later; the asker, refused before: {refused}, at {j}",
                            way.name
                        ));
                    }
                    (acted, asked) = accesses.into();
                }
                if j > asked {
                    break;
                }
            }
            if one_beside(way, refused, [k, u64::MAX, 0], true).1 {
                return Some(format!("L2: who {} is dead at {k}; the asker, refused before: {refused}", way.name));
            }
            if k > acted {
                break;
            }
        }
    }
    None
}

/// Whoever gives back what is its own, and asks for that and what is free beside it, is served at rest, whatever
/// another was doing there meanwhile.
#[test]
fn schedules_l2_what_was_given_back_beside_anothers_operation_is_found() {
    assert_eq!(refused_wrongly_beside(), None);
}

/// A cache that has freed for another, or with a full stack, finds that as well.
fn sent_is_missed() -> Option<String> {
    for count in [1, 2, 3, 4] {
        for anothers in [false, true] {
            let world = World::with(12, true, 6);
            let (mut owner, mut asker) = (ThreadCache::with_ceiling(OWNER, 2), ThreadCache::with_ceiling(1, 2));
            let giver = if anothers { &mut owner } else { &mut asker };
            let blocks: Vec<Live> =
                (0..3).map(|_| world.heap.allocate(giver, 4, 1, Kind::Raw).expect("room")).collect();
            assert!(world.heap.allocate(&mut asker, 1, 1, Kind::Raw).is_err());
            let (mut given, least) = (blocks.iter().take(count), 4 * count.min(3) as u32);
            given.by_ref().for_each(|&block| free(&world.heap, &mut asker, block));
            if world.heap.allocate(&mut asker, least, 1, Kind::Raw).is_err()
                && world.heap.allocate(&mut ThreadCache::with_ceiling(5, 0), least, 1, Kind::Raw).is_ok()
            {
                return Some(format!("L2: {count} blocks, another's: {anothers}"));
            }
        }
    }
    None
}

#[test]
fn schedules_l2_what_the_asker_has_sent_away_is_found() {
    assert_eq!(sent_is_missed(), None);
}

/// The asker was refused. It frees its own block, and asks for so many granules, while a thief, which wants more than there
/// is, marks the block and gives it back, since its owner names it: the asker for `j` accesses, the thief for `k`,
/// the asker for `step`, the thief for one, and both to their ends. Both ends' accesses, and what is wrong then, as in [`one`].
fn one_given_back(processes: &[u64], asked: u32, [j, k, step]: [u64; 3]) -> ([u64; 2], bool) {
    let world = Rc::new(World::with(8, true, 6));
    world.set_processes(processes);
    let mut cache = ThreadCache::with_ceiling(1, 4);
    let left = world.heap.allocate(&mut ThreadCache::with_ceiling(ANOTHER, 0), 4, 1, Kind::Raw).expect("room");
    let block = world.heap.allocate(&mut cache, 4, 1, Kind::Raw).expect("room");
    assert!(left.at > block.at && world.heap.allocate(&mut cache, asked, 1, Kind::Raw).is_err());
    let (own, asker) = (world.clone(), Asker::new(&world, cache, (asked, 1)));
    let thief = move || _ = own.heap.allocate(&mut ThreadCache::with_ceiling(OWNER, 0), 5, 1, Kind::Raw);
    let turns = [(1, j), (0, k), (1, step), (0, 1), (1, u64::MAX)];
    (asker.beside(Player::new(thief), Some(block), &turns), asker.is_refused_wrongly(2))
}

/// Accesses of a free that parks.
const FREE: u64 = 8;

/// All of them: thieves of the asker's process, and of another; the index comes to be dropped when it is popped, or when
/// it is merged.
fn dropped_is_missed() -> Option<String> {
    for (processes, asked) in [[1, 1], [1, 2]].iter().flat_map(|processes| [(processes, 4), (processes, 3)]) {
        for j in 0..FREE {
            for k in 0.. {
                let mut ends = [0; 2];
                for step in 1.. {
                    let (accesses, wrong) = one_given_back(processes, asked, [j, k, step]);
                    if wrong {
                        let thief = if processes[0] == processes[1] { "near" } else { "far" };
                        return Some(format!("L2: {asked} granules, a thief that is {thief}, at {j}, {k} and {step}"));
                    }
                    ends = accesses;
                    if j + step >= ends[1] {
                        break;
                    }
                }
                if k > ends[0] {
                    break;
                }
            }
        }
    }
    None
}

/// A thief's mark comes and goes, uncounted. Who has dropped the index of the block meanwhile looks for it.
#[test]
fn schedules_l2_what_a_thief_has_given_back_is_found() {
    assert_eq!(dropped_is_missed(), None);
}

/// The asker was refused, and has parked its own block since; another merges that block, and is interrupted after `k`
/// accesses by the asker's request for less, which pops no index. Where the block is FREE by then, a refusal is wrong.
fn merged_is_missed() -> Option<String> {
    for k in 0.. {
        let world = Rc::new(World::with(8, true, 6));
        let mut cache = ThreadCache::with_ceiling(1, 4);
        // Behind another one: no old hint leads to it.
        let block = world.heap.allocate(&mut cache, 4, 1, Kind::Raw).expect("room");
        while world.heap.allocate(&mut cache, 3, 1, Kind::Raw).is_ok() {}
        free(&world.heap, &mut cache, block);
        let (own, asked, wrong) = (world.clone(), world.clone(), Rc::new(RefCell::new(false)));
        let merges = move || own.heap.heal(&mut ThreadCache::with_ceiling(OWNER, 0));
        let told = wrong.clone();
        let asks = move || {
            let is_free = turns::unseen(|| asked.heap.look(block.at).is_free());
            *told.borrow_mut() = asked.heap.allocate(&mut cache, 3, 1, Kind::Raw).is_err() && is_free;
        };
        let mut order = [(1, u64::MAX); TURNS];
        order[0] = (0, k);
        let ends = play(vec![Player::new(merges), Player::new(asks)], Scheduling::Turns(order), &mut Rng::with_seed(0));
        if *wrong.borrow() {
            return Some(format!("L2: who merges is interrupted at {k}"));
        }
        if k > ends[0].accesses {
            return None;
        }
    }
    None
}

/// Who merges what the asker has parked counts it before it is free.
#[test]
fn schedules_l2_what_another_has_merged_is_found() {
    assert_eq!(merged_is_missed(), None);
}

/// Whether a check notices a fault.
type Check = fn() -> Option<String>;

#[test]
fn mutant_news_is_caught() {
    let planted: [(Mutant, Check); 10] = [
        (Mutant::NewsUntold, refused_wrongly),
        (Mutant::NewsToldEarly, refused_wrongly),
        (Mutant::NewsToldLate, merged_is_missed),
        (Mutant::NewsReadLate, refused_wrongly),
        (Mutant::NewsIgnored, refused_wrongly),
        (Mutant::MadeUntold, refused_wrongly_beside),
        (Mutant::MadeBesideOperation, refused_wrongly_beside),
        (Mutant::PassedIgnored, refused_wrongly_beside),
        (Mutant::SentUntold, sent_is_missed),
        (Mutant::DroppedUntold, dropped_is_missed),
    ];
    let survives = |&(mutant, check): &(Mutant, Check)| {
        set_mutant(Some(mutant));
        let found = check();
        set_mutant(None);
        println!("mutant {mutant:?} | {}", found.as_deref().unwrap_or("SURVIVES"));
        found.is_none()
    };
    let survivors: Vec<Mutant> = planted.iter().filter(|one| survives(one)).map(|one| one.0).collect();
    assert_eq!(survivors, []);
}
