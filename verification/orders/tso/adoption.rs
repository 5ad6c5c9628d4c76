//! Blocks that change their owner while it frees them, dies or leaves.

use super::drawn;
use crate::turns::{Player, Scheduled, Scheduling, play_buffered, unseen};
use crate::world::World;
use atomic_matrix::backend::orderings::{JOIN_FENCE, OWN_STORE, THIEF_FENCE};
use atomic_matrix::backend::{Backend, Reach, Site};
use atomic_matrix::matrix::block_header::Header;
use atomic_matrix::matrix::heap::{Kind, Live, ThreadCache};
use atomic_matrix::matrix::recovery::Policy as Give;
use atomic_matrix::segment::layout::Granule;
use fastrand::Rng;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// An owner frees its block by a plain store while others adopt it, one from the other, or free it for its
/// owner and take what is free. A bystander, to whom the block belonged once, names it all the same; it, or
/// an adopter, may stop for ever.
pub(crate) fn adopters(seed: u64) -> [bool; 3] {
    let random = &mut Rng::with_seed(seed);
    let world = Rc::new(World::roomy(3, 6));
    let processes: Vec<u64> = (0..5).map(|_| random.u64(1..=2)).collect();
    world.set_processes(&processes);
    let cache = |owner: u16| Rc::new(RefCell::new(ThreadCache::with_ceiling(owner, 2)));
    let caches: Vec<_> = (1..=5).map(cache).collect();
    let block = world.allocate(&mut caches[0].borrow_mut(), 1, 1, Kind::Raw).expect("room");
    // From now on it is whose it comes to be: once adopted, never its first owner's again.
    world.give_up(block, 1);
    let generation = block.header.generation();
    let holder = Rc::new(Cell::new(0));
    let another_frees = random.bool();
    // As a handler frees what it has a pointer to, or by the offset.
    let (quick, by_offset) = (random.bool(), random.bool());
    let owner = {
        let (world, cache, holder) = (world.clone(), caches[0].clone(), holder.clone());
        Player::new(move || {
            let cache_ref = &mut cache.borrow_mut();
            let freed = match quick {
                // SAFETY: every cache of this world is used with its heap alone.
                true => unsafe {
                    let layout = world.heap.layout();
                    let looks = |cache: &ThreadCache| world.heap.look_to_free(cache, block.at, layout);
                    let header = if by_offset { looks(cache_ref) } else { block.header };
                    world.heap.free_own(cache_ref, block.at, header, false, layout)
                },
                false => world.heap.free_local(cache_ref, block),
            };
            if freed {
                assert!(another_frees || holder.get() == 0, "S1: freed by its owner, and another's");
                world.allocate(cache_ref, 1, 1, Kind::Raw);
            }
        })
    };
    // Player and number of whoever stops, and where.
    let stops = match random.u32(0..4) {
        0 => Some((1, random.u64(1..40))),
        1 => Some((3, random.u64(1..6))),
        _ => None,
    };
    let player = |number: usize, body: Box<dyn FnOnce()>| match stops {
        Some((who, k)) if who == number => Player::stopped_at(body, k),
        _ => Player::new(body),
    };
    let adopts = |number: usize| {
        let (world, holder) = (world.clone(), holder.clone());
        let body = move || {
            let me = number as u16 + 1;
            for _ in 0..3 {
                let Ok(live) = world.heap.live_at(block.at) else { return };
                if live.header.generation() != generation || live.header.owner() == me {
                    return;
                }
                let adopted = world.heap.adoption().rename_from(me, live.at, live.header, me).is_some();
                // Another may have adopted it from here by now.
                if adopted && unseen(|| world.heap.look(block.at)).owner() == me {
                    holder.set(me);
                }
            }
        };
        player(number, Box::new(body))
    };
    let frees = |number: usize| {
        let (world, cache) = (world.clone(), caches[number].clone());
        let body = move || {
            let cache = &mut cache.borrow_mut();
            let known = block.header;
            // By a pointer, without a look, as long as nobody has adopted it.
            // SAFETY: every cache of this world is used with its heap alone.
            let quick = unsafe { world.heap.free_next(cache, block.at, known, world.heap.layout()) };
            if quick || world.heap.free(cache, block.at, Some(generation)).is_ok() {
                world.heal(cache);
                world.allocate(cache, 1, 1, Kind::Raw);
            }
        };
        player(number, Box::new(body))
    };
    // Which binds the caches.
    for cache in &caches[2..4] {
        world.heap.allocate(&mut cache.borrow_mut(), 1, 1, Kind::Raw).expect("room");
    }
    let bystander = {
        let (world, cache) = (world.clone(), caches[3].clone());
        let body = move || {
            for _ in 0..3 {
                let (cache, layout) = (&mut cache.borrow_mut(), world.heap.layout());
                // By a pointer from when it had the block itself, before others adopted it: the same generation.
                let Live { at, header } = block;
                let before = Header::new(header.state(), cache.owner(), header.generation(), header.low());
                // SAFETY: every cache of this world is used with its heap alone.
                let freed = unsafe { world.heap.free_own(cache, at, before, false, layout) };
                assert!(!freed, "S1: it is this one's no longer");
            }
        };
        player(3, Box::new(body))
    };
    let third = if another_frees { frees(2) } else { adopts(2) };
    let mut hands = vec![owner, adopts(1), third, bystander];
    if random.bool() {
        hands.push(adopts(4));
    }
    // The owner stands between its look and its store, or the bystander between name and look, while the
    // others have their turns.
    let turns = match random.bool() {
        true => [(0, 5), (1, 40), (2, 80), (0, 40), (2, 80), (1, 40), (4, 80), (0, 40)],
        false => [(3, 40), (0, 5), (1, 40), (2, 80), (0, 40), (4, 80), (1, 40), (3, 40)],
    };
    let policy = if random.bool() { drawn(turns, random) } else { Scheduling::draw(random, 25 * hands.len() as u64) };
    let ends = play_buffered(hands, &processes, policy, random);
    let met = |site: &Site| ends.iter().any(|end| end.passed(site));
    let met = [met(&THIEF_FENCE), met(&OWN_STORE), quick && met(&OWN_STORE)];
    let heap = &world.heap;
    let is_here = || heap.live_at(block.at).is_ok_and(|live| live.header.generation() == generation);
    let stopped = ends.iter().position(|end| end.stopped).map(|player| player as u16 + 1);
    // Who stops while it adopts keeps this one block from the other adopters (L1).
    if stopped != Some(2)
        && let Ok(live) = heap.live_at(block.at)
        && live.header.generation() == generation
    {
        let adopted = heap.ownership().give_from(7, live, live.header.owner().min(5));
        assert!(adopted.is_ok(), "L1: nobody else changes it, and it can't be adopted");
    }
    let mut was_its = false;
    if let Some(dead) = stopped {
        was_its = heap.live_at(block.at).is_ok_and(|live| live.header.holder() == dead);
        assert!(!was_its || dead == 2, "S1: it came to be the bystander's");
        heap.recoveries().recover(&mut ThreadCache::with_ceiling(7, 0), dead, Give::GiveBack);
        let now = heap.look(block.at);
        assert_eq!((now.holder(), now.parked_by()), (now.owner(), now.parked_by() & 0x3FF), "C1: still being adopted");
    }
    if !another_frees && holder.get() != 0 && !was_its {
        assert!(is_here(), "S1: adopted, and gone");
    }
    heap.tally().unwrap_or_else(|fault| panic!("at rest: {fault}"));
    met
}

/// Calls it when it goes, even by the unwinding of who stops for ever.
struct AtEnd<F: Fn()>(F);

/// Waits for a flag, for some accesses of its own: between them others have their turns.
fn waits_for(world: &World, flag: &Cell<bool>) -> bool {
    (0..150).any(|_| {
        world.heap.look(Granule(0));
        flag.get()
    })
}

/// An owner names its block, to free it, and dies at any access, or leaves in good order, while another
/// adopts the block, and perhaps dies too. As soon as its slot may be released it is, and the next holder has
/// the same number: it names the block as well, as a bystander to whom that never belongs.
pub(crate) fn leavers(seed: u64) -> [bool; 3] {
    const OWNER: u16 = 1;
    const ADOPTER: u16 = 2;
    const RECOVERER: u16 = 7;
    let random = &mut Rng::with_seed(seed);
    let world = Rc::new(World::roomy(3, 6));
    let processes: Vec<u64> = (0..4).map(|_| random.u64(1..=2)).collect();
    world.set_processes(&processes);
    let mut cache = ThreadCache::with_ceiling(OWNER, 2);
    let block = world.allocate(&mut cache, 1, 1, Kind::Raw).expect("room");
    world.give_up(block, OWNER);
    let generation = block.header.generation();
    let is_here = {
        let world = world.clone();
        move || world.heap.live_at(block.at).is_ok_and(|live| live.header.generation() == generation)
    };
    let flag = || Rc::new(Cell::new(false));
    let (adopted, dead, released) = (flag(), flag(), flag());
    let slot = {
        let world = world.clone();
        move |process: u64| world.set_processes(&[process])
    };
    let release = {
        let (released, slot) = (released.clone(), slot.clone());
        move || {
            slot(0);
            released.set(true);
        }
    };
    let (leaves, quick) = (random.bool(), random.bool());
    let owner = {
        let (world, dead, release) = (world.clone(), dead.clone(), release.clone());
        let body = move || {
            let _dead = AtEnd(|| dead.set(true));
            let _ = match quick {
                // SAFETY: every cache of this world is used with its heap alone.
                true => unsafe { world.heap.free_own(&mut cache, block.at, block.header, false, world.heap.layout()) },
                false => world.heap.free_local(&mut cache, block),
            };
            if leaves {
                world.heap.parking().flush(&mut cache);
                if (0..2).any(|_| world.heap.ownership().disown(&[OWNER]).is_empty()) {
                    release();
                }
            }
        };
        if leaves { Player::new(body) } else { Player::stopped_at(body, random.u64(0..5)) }
    };
    let adopter = {
        let (world, adopted) = (world.clone(), adopted.clone());
        let body = move || {
            for _ in 0..2 {
                let Ok(live) = world.heap.live_at(block.at) else { return };
                let same = live.header.generation() == generation;
                if !same || world.heap.adoption().rename_from(ADOPTER, live.at, live.header, ADOPTER).is_some() {
                    return adopted.set(same);
                }
            }
        };
        if random.u32(0..4) == 0 { Player::stopped_at(body, random.u64(1..20)) } else { Player::new(body) }
    };
    let recoverer = {
        let (world, dead, released) = (world.clone(), dead.clone(), released.clone());
        Player::new(move || {
            if !waits_for(&world, &dead) || released.get() {
                return;
            }
            // What a dead process has stored is stored.
            Scheduled::heavy_fence(&THIEF_FENCE, Reach::System);
            let cache = &mut ThreadCache::with_ceiling(RECOVERER, 0);
            if (0..2).any(|_| world.heap.recoveries().recover(cache, OWNER, Give::GiveBack).open_adoptions == 0) {
                release();
            }
        })
    };
    let next = {
        let (world, released, process) = (world.clone(), released.clone(), processes[3]);
        Player::new(move || {
            if !waits_for(&world, &released) {
                return;
            }
            slot(process);
            Scheduled::fence(&JOIN_FENCE);
            let cache = &mut ThreadCache::with_ceiling(OWNER, 2);
            let other = world.allocate(cache, 1, 1, Kind::Raw);
            for _ in 0..2 {
                let same = other.is_some_and(|other| other.at == block.at);
                let freed = world.heap.free_local(cache, block);
                assert!(!freed || same, "S1: it was never this one's, but of the number's last holder");
            }
        })
    };
    let turns = match random.bool() {
        true => [(0, 4), (1, 12), (0, 40), (2, 40), (3, 80), (1, 12), (3, 80), (2, 80)],
        false => [(0, 4), (1, 12), (2, 80), (0, 40), (3, 80), (1, 12), (2, 80), (3, 80)],
    };
    let policy = if random.u32(0..4) > 0 { drawn(turns, random) } else { Scheduling::draw(random, 150) };
    let ends = play_buffered(vec![owner, adopter, recoverer, next], &processes, policy, random);
    let met = |site: &Site| ends.iter().any(|end| end.passed(site));
    let met = [met(&THIEF_FENCE), met(&OWN_STORE), quick && met(&OWN_STORE)];
    let heap = &world.heap;
    let cache = &mut ThreadCache::with_ceiling(RECOVERER, 0);
    let adopter_died = ends[1].stopped;
    if adopter_died {
        heap.recoveries().recover(cache, ADOPTER, Give::GiveBack);
    }
    if !released.get() {
        let open = heap.recoveries().recover(cache, OWNER, Give::GiveBack).open_adoptions;
        assert_eq!(open, 0, "C1: nobody adopts it any more");
    }
    if is_here() {
        // Nobody's, where its owner has left; or the adopter's.
        let holder = heap.look(block.at).owner();
        assert!(holder == 0 && leaves || holder == ADOPTER && !adopter_died, "C1: it is {holder}'s");
    } else {
        assert!(!adopted.get() || adopter_died, "S1: adopted, and gone");
    }
    heap.tally().unwrap_or_else(|fault| panic!("at rest: {fault}"));
    met
}

impl<F: Fn()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
