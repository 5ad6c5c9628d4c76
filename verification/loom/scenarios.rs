//! The scenarios. Blocks are cut from the tail of a free block, so that the first allocation lies last.

use crate::model::{Scenario, World, part, strict};
use atomic_matrix::matrix::heap::{Kind, Lane};
use atomic_matrix::matrix::token::State;
use atomic_matrix::segment::region::Region;
use std::sync::{Arc, Mutex};

macro_rules! scenarios {
    ($($name:ident $plain:expr, $rmw:expr, $minimum:literal $body:block)*) => {
        /// Every scenario.
        pub(crate) const ALL: &[Scenario] = &[$(Scenario {
            name: stringify!($name),
            body: || $body,
            bounds: ($plain, $rmw),
            minimum: $minimum,
        }),*];
        $(
            #[test]
            fn $name() {
                let scenario = ALL.iter().find(|s| s.name == stringify!($name)).unwrap();
                scenario.check();
            }
        )*
    };
}

scenarios! {
    // Two threads cut the same free block; each gets its own granule, and what remains is in order.
    loom_s1_cut_races_cut Some(2), Some(3), 100 {
        let world = World::new(4, 0);
        world.run([
            part(|w| { w.allocate(&mut strict(1), 1); }),
            part(|w| { w.allocate(&mut strict(2), 1); }),
        ]);
        let tally = world.verify();
        assert_eq!((tally.live.blocks, tally.free.granules), (2, 2));
    }

    // A block is freed and merged to its left while another thread cuts that left neighbour.
    loom_s3_alloc_races_ripple Some(2), Some(3), 100 {
        let world = World::new(3, 0);
        let block = world.allocate(&mut strict(1), 1);
        world.run([
            part(move |w| w.free(&mut strict(1), block)),
            part(|w| {
                let mut lane = strict(2);
                let block = w.allocate(&mut lane, 1);
                w.free(&mut lane, block);
            }),
        ]);
        world.is_whole();
    }

    // Two neighbours are freed at the same time: at rest they are one block, without any healing.
    loom_l3_adjacent_frees_merge Some(3), Some(3), 100 {
        let world = World::new(2, 0);
        let mut lane = strict(1);
        let (right, left) = (world.allocate(&mut lane, 1), world.allocate(&mut lane, 1));
        world.run([part(move |w| w.free(&mut strict(1), left)), part(move |w| w.free(&mut strict(2), right))]);
        world.is_whole();
    }

    // The same where no word of the hints is written by both: different leaves, different classes.
    loom_l3_adjacent_frees_in_two_chunks_merge Some(3), Some(3), 100 {
        let world = World::new(66, 0);
        let mut lane = strict(1);
        let (right, left) = (world.allocate(&mut lane, 2), world.allocate(&mut lane, 64));
        world.run([part(move |w| w.free(&mut strict(1), left)), part(move |w| w.free(&mut strict(2), right))]);
        world.is_whole();
    }

    // The same with a free block to the left of both.
    loom_l3_frees_beside_a_free_block_merge Some(3), Some(3), 100 {
        let world = World::new(4, 0);
        let mut lane = strict(1);
        let (right, left) = (world.allocate(&mut lane, 1), world.allocate(&mut lane, 1));
        world.run([part(move |w| w.free(&mut strict(1), left)), part(move |w| w.free(&mut strict(2), right))]);
        world.is_whole();
    }

    // A join is about to freeze a free block that another thread takes whole.
    loom_s1_exact_take_races_freeze Some(2), Some(3), 100 {
        let world = World::new(4, 0);
        let mut lane = strict(1);
        let right = world.allocate(&mut lane, 2);
        let middle = world.allocate(&mut lane, 1);
        world.free(&mut lane, right);
        world.run([
            part(move |w| w.free(&mut strict(1), middle)),
            part(|w| { w.allocate(&mut strict(2), 2); }),
        ]);
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.free.granules), (2, 2));
    }

    // The owner of a parked block takes it again while another lane heals.
    loom_s3_pop_races_heal Some(2), Some(3), 100 {
        let world = World::new(2, 0);
        let mut owner = Lane::with_ceiling(1, 2);
        let block = world.allocate(&mut owner, 1);
        world.free(&mut owner, block);
        world.run([
            part(move |w| {
                let block = w.allocate(&mut owner, 1);
                w.free(&mut owner, block);
            }),
            part(|w| w.heap.heal(&mut strict(2))),
        ]);
        world.heap.heal(&mut strict(3));
        world.is_whole();
    }

    // A parked block is merged, cut anew, used and parked by another lane, under its first owner's stale index.
    loom_s3_stale_pop_takes_anothers_block Some(3), Some(3), 100 {
        let world = World::new(2, 0);
        let mut owner = Lane::with_ceiling(1, 2);
        let block = world.allocate(&mut owner, 1);
        world.free(&mut owner, block);
        world.run([
            part(move |w| {
                if let Some(block) = w.heap.allocate_parked(&mut owner, 1, Kind::Raw) {
                    w.heap.region().touch(block.at, 1);
                }
            }),
            part(move |w| {
                let mut lane = Lane::with_ceiling(2, 2);
                w.heap.heal(&mut lane);
                let block = w.allocate(&mut lane, 1);
                w.free(&mut lane, block);
            }),
        ]);
        world.heap.heal(&mut strict(3));
        world.verify();
    }

    // A parked block is merged, cut anew with another size and parked again under its owner's stale index.
    loom_s4_pop_races_resize Some(1), Some(3), 100 {
        let world = World::new(3, 0);
        let mut owner = Lane::with_ceiling(1, 2);
        let right = world.allocate(&mut owner, 1);
        let parked = world.allocate(&mut owner, 1);
        world.free(&mut owner, parked);
        world.free(&mut strict(2), right);
        world.run([
            part(move |w| { w.allocate(&mut owner, 1); }),
            part(|w| {
                let mut lane = Lane::with_ceiling(2, 2);
                w.heap.heal(&mut lane);
                if let Ok(block) = w.heap.allocate(&mut lane, 2, 1, Kind::Raw) {
                    w.free(&mut lane, block);
                }
            }),
        ]);
        world.heap.heal(&mut strict(3));
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.free.granules), (1, 2), "S4");
    }

    // A lane's stack overflows into the exchange while another lane looks for a batch there.
    loom_s3_batch_is_handed_over Some(3), Some(3), 100 {
        let world = World::new(3, 1);
        let mut giver = Lane::with_ceiling(1, 2);
        let blocks = [(); 3].map(|()| world.allocate(&mut giver, 1));
        world.free(&mut giver, blocks[0]);
        world.free(&mut giver, blocks[1]);
        world.run([
            part(move |w| w.free(&mut giver, blocks[2])),
            part(|w| { w.allocate(&mut Lane::with_ceiling(2, 2), 1); }),
        ]);
        world.heap.heal(&mut strict(3));
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.free.granules), (1, 2), "S4");
    }

    // Two threads free one block: one of them is refused.
    loom_s5_double_free_is_refused_once Some(3), Some(3), 20 {
        let world = World::new(2, 0);
        let block = world.allocate(&mut strict(1), 1);
        let freed = Arc::new(Mutex::new(0));
        let [one, two] = [1, 2].map(|owner| {
            let freed = freed.clone();
            part(move |w| { let ok = w.try_free(&mut strict(owner), block).is_ok() as u32;
                *freed.lock().unwrap() += ok; })
        });
        world.run([one, two]);
        assert_eq!(*freed.lock().unwrap(), 1, "S5");
        world.is_whole();
    }

    // A stale free races the block's free and the next allocation at its place.
    loom_s5_stale_free_is_refused Some(2), Some(3), 100 {
        let world = World::new(2, 0);
        let block = world.allocate(&mut strict(1), 1);
        let freed = Arc::new(Mutex::new(0));
        let (here, there) = (freed.clone(), freed.clone());
        world.run([
            part(move |w| {
                let mut lane = strict(1);
                let ok = w.try_free(&mut lane, block).is_ok() as u32;
                *here.lock().unwrap() += ok;
                let next = w.allocate(&mut lane, 1);
                w.free(&mut lane, next);
            }),
            part(move |w| { let ok = w.try_free(&mut strict(2), block).is_ok() as u32;
                *there.lock().unwrap() += ok; }),
        ]);
        assert_eq!(*freed.lock().unwrap(), 1, "S5");
        world.is_whole();
    }

    // Three threads want a granule each of a block of three: all get one.
    loom_l2_three_cuts_use_all_room Some(0), Some(2), 100 {
        let world = World::new(3, 0);
        world.run([1, 2, 3].map(|owner| part(move |w| { w.allocate(&mut strict(owner), 1); })));
        assert_eq!(world.verify().live.granules, 3);
    }

    // A lane flushes two parked blocks one after the other: the other one serves an allocation.
    loom_l2_alloc_races_flush Some(2), Some(3), 100 {
        let world = World::new(3, 0);
        let mut lane = Lane::with_ceiling(1, 2);
        let blocks = [(); 3].map(|()| world.allocate(&mut lane, 1));
        world.free(&mut lane, blocks[0]);
        world.free(&mut lane, blocks[2]);
        world.run([
            part(move |w| w.heap.flush(&mut lane)),
            part(|w| { w.allocate(&mut strict(2), 1); }),
        ]);
        world.heap.heal(&mut strict(3));
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.free.granules), (2, 1));
    }

    // A searcher clears a stale hint while a block is published behind it.
    loom_l2_hint_clear_races_publish Some(3), Some(3), 100 {
        let world = World::new(3, 0);
        let mut lane = strict(1);
        let blocks = [(); 3].map(|()| world.allocate(&mut lane, 1));
        world.free(&mut lane, blocks[0]);
        // The hint of the first granule, taken whole, is stale now.
        assert_eq!(world.heap.look(blocks[2].at).state(), State::Allocated);
        world.run([
            part(move |w| w.free(&mut strict(1), blocks[2])),
            part(|w| { w.allocate(&mut strict(2), 1); }),
        ]);
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.free.granules), (2, 1));
    }
}
