//! Blocks are resized beside everything else, and freed by others meanwhile.

use super::turns::{Player, Scheduling, caught, play};
use super::world::World;
use atomic_matrix::backend::Mutant;
use atomic_matrix::backend::decorators::set_mutant;
use atomic_matrix::matrix::heap::{Kind, Live, ThreadCache};
use atomic_matrix::matrix::recovery::Policy as Give;
use atomic_matrix::matrix::runs::LARGEST_RUN;
use fastrand::Rng;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Players of a scenario at most.
const PLAYERS: usize = 3;

/// What one scenario has met.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Met {
    pub(crate) grown: u64,
    pub(crate) shrunk: u64,
    /// Resizings of a block that another freed at that moment.
    pub(crate) lost: u64,
}

/// Everybody's one block that others may free by its offset while its owner resizes it.
type Shared = [Cell<Option<Live>>; PLAYERS];

struct Crew {
    world: Rc<World>,
    largest: u32,
    shared: Rc<Shared>,
    met: Rc<Cell<Met>>,
}

impl Crew {
    /// Resizes the player's shared block, if it is still that.
    fn resize_shared(&self, cache: &mut ThreadCache, random: &mut Rng) {
        let cell = &self.shared[cache.owner() as usize - 1];
        let Some(block) = cell.get() else { return };
        let resized = self.world.heap.resizing().resize(cache, block, random.u32(1..=2 * self.largest));
        let mut met = self.met.get();
        met.lost += u64::from(cell.get().is_none());
        self.met.set(met);
        // Who has freed it by its offset has freed it, as it was or as it is.
        if cell.get().is_some() {
            cell.set(Some(resized.unwrap_or(block)));
        }
    }

    /// Frees another's shared block by its offset: refused while that one has it in its hands.
    fn free_shared(&self, cache: &mut ThreadCache, random: &mut Rng) {
        let cell = &self.shared[random.usize(0..PLAYERS)];
        let Some(block) = cell.take() else { return };
        if self.world.heap.free(cache, block.at, None).is_err() {
            cell.set(Some(self.world.heap.live_at(block.at).unwrap_or(block)));
        }
    }

    fn resize(&self, cache: &mut ThreadCache, block: Live, random: &mut Rng) -> Live {
        let now = self.world.resize(cache, block, random.u32(1..=2 * self.largest));
        let mut met = self.met.get();
        met.grown += u64::from(now.header.size() > block.header.size());
        met.shrunk += u64::from(now.header.size() < block.header.size());
        self.met.set(met);
        now
    }

    fn play(&self, cache: &mut ThreadCache, live: &RefCell<Vec<Live>>, random: &mut Rng) {
        for _ in 0..random.usize(3..10) {
            let block = match random.u32(0..10) {
                0..3 => self.world.allocate(cache, random.u32(1..=self.largest), 1, kind(random)),
                3..7 if !live.borrow().is_empty() => {
                    let at = random.usize(0..live.borrow().len());
                    Some(live.borrow_mut().swap_remove(at))
                }
                _ => {
                    if random.bool() {
                        self.resize_shared(cache, random)
                    } else {
                        self.free_shared(cache, random)
                    }
                    continue;
                }
            };
            let Some(block) = block else { continue };
            match random.u32(0..3) {
                0 => self.world.free(cache, block),
                1 => live.borrow_mut().push(block),
                _ => {
                    let now = self.resize(cache, block, random);
                    live.borrow_mut().push(now);
                }
            }
        }
    }
}

fn kind(random: &mut Rng) -> Kind {
    if random.bool() { Kind::Raw } else { Kind::Typed(5) }
}

/// One scenario; panics with what is wrong.
pub(crate) fn scenario(seed: u64) -> Met {
    let random = &mut Rng::with_seed(seed);
    let (shift, ceiling) = ([4, 6][random.usize(0..2)], [0, 0, 4][random.usize(0..3)]);
    let span = 1 << (6 - shift);
    let granules = [12, 24, 48][random.usize(0..3)] * span;
    let largest = random.u32(1..=granules / span / 4) * span;
    let world = Rc::new(World::with(granules, random.bool(), shift));
    let shared = Rc::new(Shared::default());
    let met = Rc::new(Cell::new(Met::default()));
    let live: Vec<Rc<RefCell<Vec<Live>>>> = (0..PLAYERS).map(|_| Rc::default()).collect();
    let caches: Vec<_> =
        (1..=PLAYERS as u16).map(|n| Rc::new(RefCell::new(ThreadCache::with_ceiling(n, ceiling)))).collect();
    for (number, cache) in caches.iter().enumerate() {
        let cache = &mut *cache.borrow_mut();
        shared[number].set(world.heap.allocate(cache, random.u32(1..=largest), 1, kind(random)).ok());
        let blocks =
            (0..random.usize(0..4)).filter_map(|_| world.allocate(cache, random.u32(1..=largest), 1, kind(random)));
        live[number].borrow_mut().extend(blocks);
    }
    let stop_at = random.bool().then(|| random.u64(1..150));
    let players = caches.iter().enumerate().map(|(number, cache)| {
        let crew = Crew { world: world.clone(), largest, shared: shared.clone(), met: met.clone() };
        let (cache, live, mut random) = (cache.clone(), live[number].clone(), random.fork());
        let body = move || crew.play(&mut cache.borrow_mut(), &live, &mut random);
        match stop_at.filter(|_| number == 0) {
            Some(k) => Player::stopped_at(body, k),
            None => Player::new(body),
        }
    });
    let stopped = play(players.collect(), Scheduling::draw(random, 300), random)[0].stopped;
    assert_eq!(world.heap.tally().expect("S4").granules, u64::from(granules), "S4");
    if stopped {
        let hidden = (LARGEST_RUN * span).max(4 * largest + span);
        world.nothing_is_hidden(&mut ThreadCache::with_ceiling(6, ceiling), hidden);
        world.bury(1);
        world.heap.recoveries().recover(&mut ThreadCache::with_ceiling(7, 0), 1, Give::GiveBack);
    }
    for (cache, live) in caches.iter().zip(&live).skip(stopped as usize) {
        let cache = &mut *cache.borrow_mut();
        live.borrow_mut().drain(..).for_each(|block| world.free(cache, block));
        world.heap.parking().flush(cache);
    }
    let mut left = vec![];
    world.heap.walk(|g, header| left.extend(header.is_live().then_some(g))).expect("S4");
    assert!(left.len() <= PLAYERS, "{left:?}: the shared ones alone are live");
    let last = &mut ThreadCache::with_ceiling(7, 0);
    left.into_iter().for_each(|g| world.heap.free(last, g, None).expect("live"));
    world.heap.heal(last);
    let tally = world.heap.verify().unwrap_or_else(|fault| panic!("all freed: {fault}"));
    assert_eq!((tally.free.blocks, tally.free.granules), (1, u64::from(granules)), "L3");
    met.get()
}

/// An owner that does not take its block into its hands for the while writes over what others have made of it.
pub(crate) fn noticed_unheld(count: u64) -> Option<(u64, String)> {
    set_mutant(Some(Mutant::ResizedUnheld));
    let found = (0..count).find_map(|seed| Some((seed, caught(|| _ = scenario(seed))?)));
    set_mutant(None);
    found
}
