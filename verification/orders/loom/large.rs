//! Large blocks: parked without bias, taken by whoever comes, freed by others and sent home.

use crate::model::Met::{Lost, Mark};
use crate::model::{World, mark, part, scenarios, strict};
use atomic_matrix::backend::orderings::CLAIM;
use atomic_matrix::matrix::heap::{Kind, ThreadCache};
use atomic_matrix::segment::region::Region;

/// In a box: the stacks of loom's threads are small.
fn cache(owner: u16) -> Box<ThreadCache> {
    Box::new(ThreadCache::with_pool(owner, 2, 4))
}

scenarios! {
    // Two caches know of one parked block, and want it: one gets it, the other cuts one.
    loom_s1_a_large_block_is_taken_beside_a_healer Some(1), Some(2), 50, [Lost(&CLAIM), Mark("again")] => {
        let world = World::with_large(4, 0);
        let mut owner = cache(1);
        let block = world.allocate(&mut owner, 2);
        world.free(&mut owner, block);
        world.run([
            part(move |w| {
                let again = w.allocate(&mut owner, 2);
                if again.header.generation() == block.header.generation() + 1 && again.at == block.at {
                    mark("again");
                }
            }),
            part(|w| {
                let mut other = strict(2);
                w.heap.heal(&mut other);
                let block = w.heap.allocate(&mut other, 1, 1, Kind::Raw).expect("L2: there is room");
                w.heap.region().touch(block.at, 1);
            }),
        ]);
        let tally = world.verify();
        assert_eq!((tally.live.blocks, tally.live.granules), (2, 3), "S1");
    }

    // A consumer uses and frees its producer's block, which goes home; the producer takes it again and uses it.
    loom_s3_a_large_block_goes_home Some(2), Some(3), 50, [Mark("home")] => {
        let world = World::with_large(6, 1);
        let (mut producer, mut consumer) = (cache(1), cache(2));
        let block = world.allocate(&mut producer, 2);
        world.run([
            part(move |w| w.free(&mut consumer, block)),
            part(move |w| {
                let again = w.allocate(&mut producer, 2);
                if again.at == block.at {
                    mark("home");
                }
                w.free(&mut producer, again);
                w.heap.parking().flush(&mut producer);
            }),
        ]);
        world.heap.heal(&mut strict(3));
        world.is_whole();
    }

    // One frees, and must evict its other block for that; a neighbour is freed at the same time.
    loom_l3_an_eviction_beside_a_free Some(1), Some(2), 50, [Mark("evicted")] => {
        let world = World::with_large(7, 0);
        let mut owner = Box::new(ThreadCache::with_pool(1, 2, 2));
        let mut other = strict(2);
        let [beside, first, second] = [2, 2, 2].map(|size| world.allocate(&mut owner, size));
        world.free(&mut owner, first);
        world.heap.ownership().give_to(beside, 2).expect("live");
        world.run([
            part(move |w| {
                w.free(&mut owner, second);
                if w.heap.look(first.at).is_free() {
                    mark("evicted");
                }
                w.heap.parking().flush(&mut owner);
            }),
            part(move |w| {
                let beside = w.heap.live_at(beside.at).expect("live");
                w.free(&mut other, beside);
            }),
        ]);
        world.is_whole();
    }
}
