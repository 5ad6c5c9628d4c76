//! The operations that a participant is stopped in, each with a heap prepared so that it takes the path it is
//! named after.

use super::world::World;
use atomic_matrix::backend::Site;
use atomic_matrix::backend::orderings::*;
use atomic_matrix::matrix::heap::{Kind, Live, ThreadCache};
use atomic_matrix::matrix::recovery::Policy;
use atomic_matrix::segment::directory::{Directory, NamedBlock};
use atomic_matrix::segment::layout::Granule;
use atomic_matrix::segment::size_class::Larges;
use std::rc::Rc;

/// The number of the participant that is stopped.
pub(crate) const VICTIM: u16 = 1;
/// One that has died before.
pub(crate) const DEAD: u16 = 8;
/// The name in the directory that the operations on names are about.
pub(crate) const NAME: &[u8] = b"name";

/// One operation.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) granules: u32,
    /// Of every cache; 0 parks nothing.
    pub(crate) ceiling: usize,
    /// Granules of large blocks that a cache parks, which are blocks of 4 granules and more; where it is 0,
    /// no block is large.
    pub(crate) pool: u32,
    pub(crate) prepare: fn(&mut Scene),
    pub(crate) run: fn(&mut Scene),
    /// Sites that an undisturbed run passes, and sites that it does not: what tells its path from another.
    pub(crate) through: &'static [&'static Site],
    pub(crate) around: &'static [&'static Site],
}

/// The victim's side of a scenario.
pub(crate) struct Scene {
    pub(crate) world: Rc<World>,
    pub(crate) cache: ThreadCache,
    /// A bystander's cache, and the blocks that it holds.
    other: ThreadCache,
    pub(crate) others: Vec<Live>,
    /// Participants that died before.
    pub(crate) dead: Vec<u16>,
    /// Blocks of the victim that the operation does not touch, and those that it is about.
    pub(crate) kept: Vec<Live>,
    pub(crate) target: Vec<Live>,
}

impl Scene {
    pub(crate) fn new(operation: &Operation) -> Self {
        let cache = |owner| ThreadCache::with_pool(owner, operation.ceiling, operation.pool);
        let biased = operation.granules.is_multiple_of(3);
        let larges = if operation.pool > 0 { Larges { from: 4, part: 2 } } else { Larges::USUAL };
        let world = Rc::new(World::with_larges(operation.granules, biased, 6, larges));
        let mut scene = Self {
            world,
            cache: cache(VICTIM),
            other: cache(2),
            others: vec![],
            dead: vec![],
            kept: vec![],
            target: vec![],
        };
        (operation.prepare)(&mut scene);
        scene
    }

    fn take(&mut self, size: u32) -> Live {
        self.world.allocate(&mut self.cache, size, 1, Kind::Raw).expect("there is room")
    }
    fn keep(&mut self, size: u32) {
        let block = self.take(size);
        self.kept.push(block);
    }
    fn aim(&mut self, size: u32) {
        let block = self.take(size);
        self.target.push(block);
    }
    fn other(&mut self, size: u32) -> Live {
        self.world.allocate(&mut self.other, size, 1, Kind::Raw).expect("there is room")
    }
    fn free_target(&mut self) {
        let block = self.target.pop().expect("prepared");
        self.world.free(&mut self.cache, block);
    }
    fn resize_target(&mut self, size: u32) {
        let block = self.target.pop().expect("prepared");
        self.kept.push(self.world.resize(&mut self.cache, block, size));
    }
    /// Survivors may have been quicker.
    fn allocate(&mut self, size: u32, align: u32, kind: Kind) {
        self.kept.extend(self.world.allocate(&mut self.cache, size, align, kind));
    }
    /// Three in a row: the first is kept, the last is free, and the one between is what the operation is about.
    fn before_a_free_one(&mut self, sizes: [u32; 3]) {
        let [left, middle, right] = self.three(sizes);
        self.kept.push(left);
        self.release(right);
        self.target.push(middle);
    }
    /// Three in a row: the first is free, the last one is kept.
    fn behind_a_free_one(&mut self, sizes: [u32; 3]) {
        let [left, middle, right] = self.three(sizes);
        self.kept.push(right);
        self.release(left);
        self.target.push(middle);
    }
    /// Three neighbours of these sizes, in the order of the sector; the victim holds all.
    fn three(&mut self, sizes: [u32; 3]) -> [Live; 3] {
        // The last one is cut off the tail first.
        let [left, middle, right] = sizes;
        let right = self.take(right);
        let middle = self.take(middle);
        [self.take(left), middle, right]
    }
    fn release(&mut self, block: Live) {
        self.world.free(&mut self.cache, block);
    }
    /// Blocks of these sizes come back, one after the other.
    fn park(&mut self, sizes: &[u32]) {
        let blocks: Vec<_> = sizes.iter().map(|&size| self.take(size)).collect();
        blocks.into_iter().for_each(|block| self.release(block));
    }
    /// Four of a size: one is what the operation is about, one is kept, the others come back.
    fn aim_beside_two_freed(&mut self, size: u32) {
        let [target, kept, one, two] = [(); 4].map(|()| self.take(size));
        [one, two].into_iter().for_each(|block| self.release(block));
        self.target.push(target);
        self.kept.push(kept);
    }
    fn entry(block: Live) -> NamedBlock {
        NamedBlock { offset: block.at.0, generation: block.header.generation(), fingerprint: None }
    }
    fn directory(&self) -> Directory<'_, impl atomic_matrix::segment::region::Region> {
        Directory(self.world.heap.region())
    }
    /// A block under [`NAME`].
    fn publish_one(&mut self) {
        self.aim(2);
        self.publish();
    }
    /// Publishes the first target.
    fn publish(&mut self) {
        let block = self.target.pop().expect("prepared");
        self.world.give_up(block, VICTIM);
        if self.world.heap.ownership().publish(VICTIM, NAME, block, Self::entry(block)).is_err() {
            self.world.claim(block, VICTIM, 1, 1);
            self.kept.push(block);
        }
    }
}

/// Takes the block published under [`NAME`] for the participant `owner`.
pub(crate) fn take_named(world: &World, owner: u16) -> Option<Live> {
    let found = Directory(world.heap.region()).lookup(NAME)?;
    let live = world.heap.live_at(Granule(found.block.offset)).ok()?;
    let ours =
        live.header.generation() == found.block.generation && world.heap.ownership().take_published(owner, live, found);
    ours.then(|| {
        world.claim(live, owner, 1, 1);
        world.heap.live_at(live.at).expect("it is ours")
    })
}

/// What a recoverer does for a participant that has died.
pub(crate) fn recover(world: &World, cache: &mut ThreadCache, dead: u16, policy: Policy) {
    world.heap.recoveries().recover(cache, dead, policy);
    let directory = Directory(world.heap.region());
    directory.recover(dead);
    directory.retain(|entry| {
        let live = world.heap.live_at(Granule(entry.offset));
        live.is_ok_and(|live| live.header.generation() == entry.generation)
    });
}

/// The sector was full of the bystander's blocks, which are parked or in the transfer cache now, as far as
/// there is room.
fn all_parked(s: &mut Scene) {
    let world = s.world.clone();
    let blocks: Vec<_> = std::iter::from_fn(|| world.allocate(&mut s.other, 3, 1, Kind::Raw)).collect();
    blocks.into_iter().for_each(|block| s.world.free(&mut s.other, block));
}

/// What an operation is where it says nothing else: nothing is parked, nothing is large, nothing was there before.
const PLAIN: Operation =
    Operation { name: "", granules: 80, ceiling: 0, pool: 0, prepare: |_| {}, run: |_| {}, through: &[], around: &[] };

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "allocate, exact",
        prepare: |s| {
            let [_, middle, right] = s.three([3, 5, 3]);
            s.kept.push(right);
            s.release(middle);
        },
        run: |s| s.allocate(5, 1, Kind::Raw),
        through: &[&CLAIM],
        around: &[&ANNOUNCE],
        ..PLAIN
    },
    Operation {
        name: "allocate, cut",
        prepare: |s| s.keep(2),
        run: |s| s.allocate(5, 1, Kind::Raw),
        through: &[&ANNOUNCE, &CARVE, &COMMIT],
        around: &[&FREEZE],
        ..PLAIN
    },
    Operation {
        name: "allocate, carve",
        ceiling: 4,
        prepare: |s| s.keep(3),
        run: |s| s.allocate(2, 1, Kind::Raw),
        through: &[&ANNOUNCE, &HELD_STORE],
        around: &[&BATCH_CLAIM],
        ..PLAIN
    },
    Operation {
        name: "allocate, carve off a line",
        granules: 77,
        ceiling: 8,
        run: |s| s.allocate(1, 1, Kind::Typed(7)),
        through: &[&ANNOUNCE, &HELD_STORE],
        ..PLAIN
    },
    Operation {
        name: "allocate, parked",
        ceiling: 4,
        prepare: |s| s.park(&[2]),
        run: |s| s.allocate(2, 1, Kind::Raw),
        through: &[&CLAIM],
        around: &[&HEADER_LOOK, &HINT_LOOK],
        ..PLAIN
    },
    Operation {
        name: "allocate, from the transfer cache",
        ceiling: 2,
        prepare: |s| {
            let blocks = [(); 6].map(|()| s.other(2));
            blocks.into_iter().for_each(|block| s.world.free(&mut s.other, block));
        },
        run: |s| s.allocate(2, 1, Kind::Raw),
        through: &[&BATCH_CLAIM, &CLAIM],
        around: &[&HINT_LOOK],
        ..PLAIN
    },
    Operation {
        name: "allocate, aligned",
        granules: 78,
        prepare: |s| s.keep(2),
        run: |s| s.allocate(3, 8, Kind::Raw),
        through: &[&ANNOUNCE, &HELD_STORE],
        ..PLAIN
    },
    Operation { name: "allocate, typed", run: |s| s.allocate(3, 1, Kind::Typed(99)), through: &[&ANNOUNCE], ..PLAIN },
    Operation {
        name: "allocate, swept up",
        granules: 30,
        ceiling: 12,
        prepare: all_parked,
        run: |s| s.allocate(20, 1, Kind::Raw),
        through: &[&HEADER_WALK, &FREEZE],
        ..PLAIN
    },
    Operation {
        name: "allocate, refused",
        granules: 12,
        prepare: |s| {
            (0..4).for_each(|_| s.keep(2));
            let block = s.other(4);
            s.others.push(block);
        },
        run: |s| assert!(s.world.heap.allocate(&mut s.cache, 5, 1, Kind::Raw).is_err()),
        through: &[&HEADER_WALK],
        around: &[&ANNOUNCE],
        ..PLAIN
    },
    Operation {
        name: "free, parked",
        ceiling: 4,
        prepare: |s| s.aim(2),
        run: Scene::free_target,
        through: &[&PARK],
        around: &[&CLAIM, &BATCH_CLAIM],
        ..PLAIN
    },
    Operation {
        name: "free, spilt",
        ceiling: 2,
        prepare: |s| s.aim_beside_two_freed(2),
        run: Scene::free_target,
        through: &[&PARK, &BATCH_CLAIM, &BATCH_PASS],
        around: &[&FREEZE],
        ..PLAIN
    },
    Operation {
        name: "free, spilt and merged",
        ceiling: 2,
        prepare: |s| {
            let blocks = [(); 6].map(|()| s.other(2));
            let [target, kept, one, two] = [(); 4].map(|()| s.take(2));
            blocks.into_iter().for_each(|block| s.world.free(&mut s.other, block));
            [one, two].into_iter().for_each(|block| s.release(block));
            s.target.push(target);
            s.kept.push(kept);
        },
        run: Scene::free_target,
        through: &[&PARK, &LOOK_FENCE],
        around: &[&BATCH_PASS],
        ..PLAIN
    },
    Operation {
        name: "free, alone",
        prepare: |s| {
            let [left, middle, right] = s.three([3, 4, 5]);
            s.kept.extend([left, right]);
            s.target.push(middle);
        },
        run: Scene::free_target,
        through: &[&PARK, &CLAIM, &LOOK_FENCE, &HINT_SET],
        around: &[&FREEZE],
        ..PLAIN
    },
    Operation {
        name: "free, joins its left",
        prepare: |s| s.behind_a_free_one([3, 4, 5]),
        run: Scene::free_target,
        through: &[&FREEZE, &LOOK_FENCE],
        ..PLAIN
    },
    Operation {
        name: "free, joins its right",
        prepare: |s| s.before_a_free_one([3, 4, 5]),
        run: Scene::free_target,
        through: &[&FREEZE, &LOOK_FENCE],
        around: &[&ANNOUNCE],
        ..PLAIN
    },
    Operation {
        name: "free, joins both",
        prepare: |s| {
            let [left, middle, right] = s.three([3, 4, 5]);
            s.release(left);
            s.release(right);
            s.target.push(middle);
        },
        run: Scene::free_target,
        through: &[&FREEZE, &LOOK_FENCE],
        ..PLAIN
    },
    Operation {
        name: "free, large",
        granules: 260,
        ceiling: 4,
        prepare: |s| s.behind_a_free_one([123, 125, 2]),
        run: Scene::free_target,
        through: &[&PARK, &ANNOUNCE, &COMMIT, &FREEZE],
        around: &[&CLAIM],
        ..PLAIN
    },
    Operation {
        name: "flush",
        ceiling: 4,
        prepare: |s| s.park(&[2; 4]),
        run: |s| s.world.heap.parking().flush(&mut s.cache),
        through: &[&CLAIM, &FREEZE],
        around: &[&HEADER_WALK],
        ..PLAIN
    },
    Operation {
        name: "heal",
        granules: 30,
        ceiling: 4,
        prepare: all_parked,
        run: |s| s.world.heap.heal(&mut s.cache),
        through: &[&HEADER_WALK, &FREEZE],
        ..PLAIN
    },
    Operation {
        name: "allocate, from the pool",
        granules: 81,
        ceiling: 4,
        pool: 12,
        prepare: |s| s.park(&[5]),
        run: |s| s.allocate(5, 1, Kind::Raw),
        through: &[&CLAIM],
        around: &[&HEADER_LOOK, &HINT_LOOK],
    },
    Operation {
        name: "allocate, a large block that came home",
        granules: 81,
        ceiling: 4,
        pool: 12,
        prepare: |s| {
            let block = s.take(5);
            s.world.free_of(&mut s.other, block, VICTIM);
        },
        run: |s| s.allocate(5, 1, Kind::Raw),
        through: &[&BATCH_CLAIM, &CLAIM],
        around: &[&HINT_LOOK, &ANNOUNCE],
    },
    Operation {
        name: "free, into the pool",
        granules: 81,
        ceiling: 4,
        pool: 12,
        prepare: |s| s.aim(5),
        run: Scene::free_target,
        through: &[&PARK],
        around: &[&CLAIM, &ANNOUNCE],
    },
    Operation {
        name: "free, evicting from the pool",
        granules: 81,
        ceiling: 4,
        pool: 12,
        prepare: |s| s.aim_beside_two_freed(5),
        run: Scene::free_target,
        through: &[&PARK, &CLAIM, &LOOK_FENCE],
        around: &[&BATCH_PASS],
    },
    Operation {
        name: "free, a large block goes home",
        granules: 81,
        ceiling: 4,
        pool: 12,
        prepare: |s| {
            died(s, 5);
            let mut blocks = vec![];
            s.world.heap.walk(|at, header| blocks.push(Live { at, header })).expect("S4");
            let is_its =
                |block: &Live| block.header.is_live() && block.header.owner() == DEAD && block.header.size() == 4;
            s.target.push(blocks.into_iter().find(is_its).expect("it had one"));
        },
        run: |s| {
            let block = s.target.pop().expect("prepared");
            let current = Some(block.header.generation());
            s.world.heap.free(&mut s.cache, block.at, current).expect("it is live");
        },
        through: &[&PARK, &BATCH_CLAIM, &BATCH_PASS],
        around: &[&ANNOUNCE],
    },
    Operation {
        name: "flush, large blocks",
        granules: 81,
        ceiling: 4,
        pool: 24,
        prepare: |s| s.park(&[5, 6, 7]),
        run: |s| s.world.heap.large().flush_large(&mut s.cache),
        through: &[&CLAIM, &FREEZE],
        around: &[&HEADER_WALK],
    },
    Operation {
        name: "hand over",
        granules: 40,
        prepare: |s| s.aim(2),
        run: |s| {
            let block = s.target.pop().expect("prepared");
            s.world.give_up(block, VICTIM);
            s.world.heap.ownership().give_to(block, 0).expect("ours");
        },
        through: &[&ADOPT],
        ..PLAIN
    },
    Operation {
        name: "adopt",
        granules: 40,
        prepare: |s| {
            let block = s.other(2);
            s.world.give_up(block, 2);
            let header = s.world.heap.adoption().rename(block.at, block.header, 0).expect("the bystander's");
            s.target.push(Live { at: block.at, header });
        },
        run: |s| {
            let block = s.target.pop().expect("prepared");
            s.world.heap.ownership().give_to(block, VICTIM).expect("nobody else knows of it");
            s.world.claim(block, VICTIM, 2, 1);
            s.kept.push(block);
        },
        through: &[&ADOPT],
        ..PLAIN
    },
    Operation {
        name: "publish",
        granules: 40,
        prepare: |s| s.aim(2),
        run: Scene::publish,
        through: &[&DIR_WRITE, &DIR_CLAIM, &ADOPT],
        ..PLAIN
    },
    Operation {
        name: "publish, taken",
        granules: 40,
        prepare: |s| {
            s.publish_one();
            s.aim(3);
        },
        run: Scene::publish,
        through: &[&DIR_WRITE, &DIR_CLAIM],
        around: &[&ADOPT],
        ..PLAIN
    },
    Operation {
        name: "take",
        granules: 40,
        prepare: Scene::publish_one,
        run: |s| s.kept.extend(take_named(&s.world, VICTIM)),
        through: &[&DIR_LOOK, &DIR_CLAIM, &ADOPT],
        ..PLAIN
    },
    Operation {
        name: "withdraw",
        granules: 40,
        prepare: Scene::publish_one,
        run: |s| _ = s.directory().withdraw(NAME),
        through: &[&DIR_LOOK, &DIR_CLAIM],
        around: &[&ADOPT],
        ..PLAIN
    },
    Operation {
        name: "recover",
        granules: 40,
        prepare: |s| died(s, 12),
        run: |s| recover(&s.world, &mut s.cache, DEAD, Policy::GiveBack),
        through: &[&PIN, &PARK, &CLAIM, &FREEZE, &BATCH_LOOK],
        ..PLAIN
    },
    Operation {
        name: "recover, keeping blocks",
        granules: 40,
        prepare: |s| died(s, 5),
        run: |s| recover(&s.world, &mut s.cache, DEAD, Policy::Keep),
        through: &[&PIN, &ADOPT, &BATCH_LOOK],
        ..PLAIN
    },
    Operation {
        name: "resize, grows over all that is free behind it",
        prepare: |s| s.before_a_free_one([3, 4, 5]),
        run: |s| s.resize_target(9),
        through: &[&CLAIM, &HELD_STORE],
        around: &[&ANNOUNCE],
        ..PLAIN
    },
    Operation {
        name: "resize, grows and gives the rest back",
        granules: 81,
        prepare: |s| s.before_a_free_one([3, 4, 5]),
        run: |s| s.resize_target(6),
        through: &[&CLAIM, &HELD_STORE, &LOOK_FENCE],
        ..PLAIN
    },
    Operation {
        name: "resize, shrinks, and its end joins its right",
        prepare: |s| s.before_a_free_one([3, 8, 5]),
        run: |s| s.resize_target(2),
        through: &[&CLAIM, &HELD_STORE, &FREEZE, &LOOK_FENCE],
        ..PLAIN
    },
    Operation {
        name: "leave",
        granules: 40,
        ceiling: 4,
        prepare: |s| {
            s.keep(2);
            s.keep(3);
        },
        run: |s| {
            for block in std::mem::take(&mut s.kept) {
                s.world.give_up(block, VICTIM);
            }
            s.world.heap.parking().flush(&mut s.cache);
            assert!(s.world.heap.ownership().disown(&[VICTIM]).is_empty(), "nobody adopts");
        },
        through: &[&ADOPT],
        ..PLAIN
    },
];

/// A participant has died.
fn died(s: &mut Scene, k: u64) {
    dead(&s.world, k);
    s.dead.push(DEAD);
}

/// A participant has died with two live blocks, `k` accesses into a third allocation.
pub(crate) fn dead(world: &Rc<World>, k: u64) {
    let world = world.clone();
    let body = move || {
        let cache = &mut ThreadCache::with_ceiling(DEAD, 0);
        let blocks = [3, 4].map(|size| world.heap.allocate(cache, size, 1, Kind::Raw).expect("there is room"));
        assert!(blocks[0].at != blocks[1].at);
        super::turns::stop_in(k);
        let _ = world.heap.allocate(cache, 5, 1, Kind::Raw);
    };
    assert!(super::turns::alone(body, None).stopped);
}
