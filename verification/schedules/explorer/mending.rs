//! Damage is mended beside traffic: what is broken is set aside, exactly that, and unowned block is touched.

use super::turns::{Player, Scheduling, play, unseen};
use super::world::World;
use atomic_matrix::backend::Word;
use atomic_matrix::backend::orderings::HELD_STORE;
use atomic_matrix::matrix::block_header::{Header, State};
use atomic_matrix::matrix::heap::{Kind, Live, ThreadCache};
use atomic_matrix::matrix::recovery::KEPT;
use atomic_matrix::matrix::sweep::Mended;
use atomic_matrix::segment::region::Region;
use fastrand::Rng;
use std::cell::RefCell;
use std::rc::Rc;

/// Whose the damaged block is, in the marks: an allocation that got any of it would be noticed.
const LOST: u16 = 8;

/// The traffic's part.
fn allocate_and_free(world: &World, cache: &mut ThreadCache, random: &mut Rng) -> Vec<Live> {
    let mut live = vec![];
    for _ in 0..random.usize(2..7) {
        if random.u32(0..5) < 3 {
            live.extend(world.allocate(cache, random.u32(1..=6), 1, Kind::Raw));
        } else if !live.is_empty() {
            let block = live.swap_remove(random.usize(0..live.len()));
            world.free(cache, block);
        }
    }
    live
}

/// What is broken in one scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// A head has become an inside word.
    Frozen,
    /// A head says that its block reaches behind the sector.
    TooLong,
}

fn damage(world: &World, block: Live, broken: Broken) {
    let header = block.header;
    let word = match broken {
        Broken::Frozen => Header::new(State::Inside, 9, header.generation() + 1, 0),
        Broken::TooLong => Header::new(State::Allocated, LOST, header.generation(), header.low() | 0xFFFF),
    };
    let layout = world.heap.layout();
    unseen(|| world.heap.region().word(layout.header(block.at)).store(word.0, &HELD_STORE));
}

/// One scenario. True if it was mended while the others went on.
pub(crate) fn scenario(seed: u64) -> bool {
    let random = &mut Rng::with_seed(seed);
    let world = Rc::new(World::with([40, 48, 60][random.usize(0..3)], random.bool(), [4, 6][random.usize(0..2)]));
    // Blocks of various sizes; some are freed again, so that the damaged one stands beside anything.
    let cache = &mut ThreadCache::with_ceiling(LOST, 0);
    let mut blocks: Vec<Live> =
        (0..random.usize(1..6)).filter_map(|_| world.allocate(cache, random.u32(1..=6), 1, Kind::Raw)).collect();
    let lost = blocks.swap_remove(random.usize(0..blocks.len()));
    blocks.into_iter().filter(|_| random.bool()).for_each(|block| world.free(cache, block));
    let broken = [Broken::Frozen, Broken::TooLong][random.usize(0..2)];
    damage(&world, lost, broken);
    let (told, ceiling) = (Rc::new(RefCell::new(Mended::default())), random.usize(0..2) * 4);
    let mut players = vec![];
    for owner in 1..=random.u16(1..=2) {
        let (own, mut random) = (world.clone(), random.fork());
        players.push(Player::new(move || {
            let cache = &mut ThreadCache::with_ceiling(owner, ceiling);
            let live = allocate_and_free(&own, cache, &mut random);
            live.into_iter().for_each(|block| own.free(cache, block));
            own.heap.parking().flush(cache);
        }));
    }
    for owner in 5..=random.u16(5..=6) {
        let (own, told) = (world.clone(), told.clone());
        players.push(Player::new(move || {
            let mended = own.heap.repair(&mut ThreadCache::with_ceiling(owner, 0));
            told.borrow_mut().set_aside.blocks += mended.set_aside.blocks;
            told.borrow_mut().set_aside.granules += mended.set_aside.granules;
            told.borrow_mut().shortened += mended.shortened;
        }));
    }
    play(players, Scheduling::draw(random, 300), random);
    let beside = told.borrow().set_aside.blocks > 0;
    let last = Rc::new(RefCell::new(Mended::default()));
    let (own, tells) = (world.clone(), last.clone());
    super::turns::alone(move || _ = tells.replace(own.heap.repair(&mut ThreadCache::with_ceiling(7, 0))), None);
    let (told, last) = (*told.borrow(), *last.borrow());
    assert_eq!(last.left, None, "at rest everything is mended");
    assert_eq!(told.shortened + last.shortened, 0, "no free block was damaged");
    let set_aside = told.set_aside.granules + last.set_aside.granules;
    assert_eq!(
        (set_aside, told.set_aside.blocks + last.set_aside.blocks),
        (u64::from(lost.header.size()), 1),
        "exactly {lost:?}"
    );
    world.heap.verify().unwrap_or_else(|fault| panic!("{broken:?}: {fault}"));
    let kept = world.heap.live_at(lost.at).expect("set aside");
    assert_eq!((kept.header.owner(), kept.header.size()), (KEPT, lost.header.size()));
    beside
}
