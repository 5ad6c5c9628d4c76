//! The scenarios. Blocks are cut from the tail of a free block, so that the first allocation lies last.

use crate::model::Met::{Lost, Mark, Read};
use crate::model::{World, mark, part, scenarios, strict};
use atomic_matrix::backend::Word;
use atomic_matrix::backend::loom::Setting;
use atomic_matrix::backend::orderings::*;
use atomic_matrix::matrix::block_header::State;
use atomic_matrix::matrix::heap::{Kind, ThreadCache};
use atomic_matrix::matrix::operation::Op;
use atomic_matrix::segment::layout::{Granule, SlotWord};
use atomic_matrix::segment::region::Region;
use std::sync::{Arc, Mutex};

scenarios! {
    // Two threads cut the same free block; each gets its own granule, and what remains is in order.
    loom_s1_cut_races_cut Some(2), Some(3), 100, [Lost(&COMMIT), Lost(&CARVE)] => {
        let world = World::new(4, 0);
        world.run([
            part(|w| { w.allocate(&mut strict(1), 1); }),
            part(|w| { w.allocate(&mut strict(2), 1); }),
        ]);
        let tally = world.verify();
        assert_eq!((tally.live.blocks, tally.free.granules), (2, 2));
    }

    // A cache wanted to cut a block, was too late to announce it, and then takes the block whole: whoever
    // meets it in that cache's hands must not take the cut for the operation in force. (What the attempt
    // leaves is written here as `cut` writes it; the fence that follows an announced operation does not
    // follow this one.)
    loom_s1_helper_meets_no_old_operation Some(2), Some(3), 100, [Read(&OP_READ), Mark("met")] => {
        let world = World::new(2, 0);
        world.run([
            part(|w: &World| {
                let slot = w.heap.region().word(w.heap.layout().slot(1, SlotWord::Op));
                slot.store(Op::Cut { at: Granule(0), size: 1 }.encode(), &OP_WRITE);
                slot.store(Op::None.encode(), &OP_WRITE);
                let Ok(block) = w.heap.allocate(&mut strict(1), 2, 1, Kind::Raw) else { return };
                w.heap.region().touch(block.at, 2);
            }),
            part(|w: &World| match w.heap.allocate(&mut strict(2), 1, 1, Kind::Raw) {
                Ok(block) => w.heap.region().touch(block.at, 1),
                Err(_) => mark("met"),
            }),
        ]);
        world.verify();
    }

    // A block is freed and merged to its left while another thread cuts that left neighbour.
    loom_s3_alloc_races_ripple Some(2), Some(3), 100, [Lost(&COMMIT), Lost(&ANNOUNCE)] => {
        let world = World::new(3, 0);
        let block = world.allocate(&mut strict(1), 1);
        world.run([
            part(move |w| w.free(&mut strict(1), block)),
            part(|w| {
                let mut cache = strict(2);
                let block = w.allocate(&mut cache, 1);
                w.free(&mut cache, block);
            }),
        ]);
        world.is_whole();
    }

    // Two neighbours are freed at the same time: at rest they are one block, without any healing.
    loom_l3_adjacent_frees_merge Some(3), Some(3), 100, [Lost(&ANNOUNCE)] => {
        let world = World::new(2, 0);
        let mut cache = strict(1);
        let (right, left) = (world.allocate(&mut cache, 1), world.allocate(&mut cache, 1));
        world.run([part(move |w| w.free(&mut strict(1), left)), part(move |w| w.free(&mut strict(2), right))]);
        world.is_whole();
    }

    // The same where no word of the hints is written by both: different leaves, different classes.
    loom_l3_adjacent_frees_in_two_chunks_merge Some(3), Some(3), 100, [] => {
        let world = World::new(66, 0);
        let mut cache = strict(1);
        let (right, left) = (world.allocate(&mut cache, 2), world.allocate(&mut cache, 64));
        world.run([part(move |w| w.free(&mut strict(1), left)), part(move |w| w.free(&mut strict(2), right))]);
        world.is_whole();
    }

    // The same with a free block to the left of both.
    loom_l3_frees_beside_a_free_block_merge Some(3), Some(3), 100, [] => {
        let world = World::new(4, 0);
        let mut cache = strict(1);
        let (right, left) = (world.allocate(&mut cache, 1), world.allocate(&mut cache, 1));
        world.run([part(move |w| w.free(&mut strict(1), left)), part(move |w| w.free(&mut strict(2), right))]);
        world.is_whole();
    }

    // A join is about to freeze a free block that another thread takes whole.
    loom_s1_exact_take_races_freeze Some(2), Some(3), 100, [] => {
        let world = World::new(4, 0);
        let mut cache = strict(1);
        let right = world.allocate(&mut cache, 2);
        let middle = world.allocate(&mut cache, 1);
        world.free(&mut cache, right);
        world.run([
            part(move |w| w.free(&mut strict(1), middle)),
            part(|w| { w.allocate(&mut strict(2), 2); }),
        ]);
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.free.granules), (2, 2));
    }

    // The owner of a parked block takes it again while another cache heals.
    loom_s3_pop_races_heal Some(2), Some(3), 100, [Lost(&CLAIM)] => {
        let world = World::new(2, 0);
        let mut owner = ThreadCache::with_ceiling(1, 2);
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

    // A parked block is merged, cut anew, used and parked by another cache, under its first owner's stale index.
    loom_s3_stale_pop_takes_anothers_block None, None, 100, [] => {
        let world = World::new(2, 0);
        let mut owner = ThreadCache::with_ceiling(1, 2);
        let block = world.allocate(&mut owner, 1);
        world.free(&mut owner, block);
        world.run([
            part(move |w| {
                if let Some(block) = w.heap.allocate_parked(&mut owner, 1, Kind::Raw) {
                    w.heap.region().touch(block.at, 1);
                }
            }),
            part(move |w| {
                let mut cache = ThreadCache::with_ceiling(2, 2);
                w.heap.heal(&mut cache);
                let block = w.allocate(&mut cache, 1);
                w.free(&mut cache, block);
            }),
        ]);
        world.heap.heal(&mut strict(3));
        world.verify();
    }

    // A parked block is merged, cut anew with another size and parked again under its owner's stale index.
    loom_s4_pop_races_resize Some(1), Some(3), 100, [] => {
        let world = World::new(3, 0);
        let mut owner = ThreadCache::with_ceiling(1, 2);
        let right = world.allocate(&mut owner, 1);
        let parked = world.allocate(&mut owner, 1);
        world.free(&mut owner, parked);
        world.free(&mut strict(2), right);
        world.run([
            part(move |w| { w.allocate(&mut owner, 1); }),
            part(|w| {
                let mut cache = ThreadCache::with_ceiling(2, 2);
                w.heap.heal(&mut cache);
                if let Ok(block) = w.heap.allocate(&mut cache, 2, 1, Kind::Raw) {
                    w.free(&mut cache, block);
                }
            }),
        ]);
        world.heap.heal(&mut strict(3));
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.free.granules), (1, 2), "S4");
    }

    // A cache's stack overflows into the transfer cache while another cache looks for a batch there.
    loom_s3_batch_is_handed_over None, None, 100, [Read(&BATCH_INDEX)] => {
        let world = World::new(3, 1);
        let mut giver = ThreadCache::with_ceiling(1, 2);
        let blocks = [(); 3].map(|()| world.allocate(&mut giver, 1));
        world.free(&mut giver, blocks[0]);
        world.free(&mut giver, blocks[1]);
        world.run([
            part(move |w| w.free(&mut giver, blocks[2])),
            part(|w| { w.allocate(&mut ThreadCache::with_ceiling(2, 2), 1); }),
        ]);
        world.heap.heal(&mut strict(3));
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.free.granules), (1, 2), "S4");
    }

    // Two threads free one block: one of them is refused.
    loom_s5_double_free_is_refused_once None, None, 20, [] => {
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
    loom_s5_stale_free_is_refused Some(2), Some(3), 100, [] => {
        let world = World::new(2, 0);
        let block = world.allocate(&mut strict(1), 1);
        let freed = Arc::new(Mutex::new(0));
        let (here, there) = (freed.clone(), freed.clone());
        world.run([
            part(move |w| {
                let mut cache = strict(1);
                let ok = w.try_free(&mut cache, block).is_ok() as u32;
                *here.lock().unwrap() += ok;
                let next = w.allocate(&mut cache, 1);
                w.free(&mut cache, next);
            }),
            part(move |w| { let ok = w.try_free(&mut strict(2), block).is_ok() as u32;
                *there.lock().unwrap() += ok; }),
        ]);
        assert_eq!(*freed.lock().unwrap(), 1, "S5");
        world.is_whole();
    }

    // Three threads want a granule each of a block of three: all get one. (With weak memory, whose stale
    // reads of the hints are too many for three threads, two of a block of two.)
    loom_l2_three_cuts_use_all_room Some(1), Some(2), 100, [] => {
        let cut = |owner| part(move |w: &World| { w.allocate(&mut strict(owner), 1); });
        let three = Setting::get().all_rmw;
        let world = World::new(if three { 3 } else { 2 }, 0);
        if three {
            world.run([1, 2, 3].map(cut));
        } else {
            world.run([1, 2].map(cut));
        }
        assert_eq!(world.verify().live.granules, if three { 3 } else { 2 });
    }

    // A cache flushes two parked blocks one after the other: the other one serves an allocation.
    loom_l2_alloc_races_flush Some(2), Some(3), 100, [Lost(&CLAIM)] => {
        let world = World::new(3, 0);
        let mut cache = ThreadCache::with_ceiling(1, 2);
        let blocks = [(); 3].map(|()| world.allocate(&mut cache, 1));
        world.free(&mut cache, blocks[0]);
        world.free(&mut cache, blocks[2]);
        world.run([
            part(move |w| w.heap.parking().flush(&mut cache)),
            part(|w| { w.allocate(&mut strict(2), 1); }),
        ]);
        world.heap.heal(&mut strict(3));
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.free.granules), (2, 1));
    }

    // A searcher clears a stale hint while a block is published behind it.
    loom_l2_hint_clear_races_publish Some(3), Some(3), 100, [] => {
        let world = World::new(3, 0);
        let mut cache = strict(1);
        let blocks = [(); 3].map(|()| world.allocate(&mut cache, 1));
        world.free(&mut cache, blocks[0]);
        // The hint of the first granule, taken whole, is stale now.
        assert_eq!(world.heap.look(blocks[2].at).state(), State::Allocated);
        world.run([
            part(move |w| w.free(&mut strict(1), blocks[2])),
            part(|w| { w.allocate(&mut strict(2), 1); }),
        ]);
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.free.granules), (2, 1));
    }

    // Three neighbours are freed at the same time: the middle one while both of its neighbours are.
    loom_l3_three_neighbours_freed_merge Some(1), Some(2), 100, [Lost(&ANNOUNCE), Lost(&FREEZE)] => {
        let world = World::new(3, 0);
        let mut cache = strict(1);
        let [right, middle, left] = [(); 3].map(|()| world.allocate(&mut cache, 1));
        world.run([
            part(move |w| w.free(&mut strict(1), left)),
            part(move |w| w.free(&mut strict(2), middle)),
            part(move |w| w.free(&mut strict(3), right)),
        ]);
        world.is_whole();
    }

    // The middle one of three is freed while a free block to its right is taken whole and given back: a join
    // that is aborted.
    loom_l3_join_is_aborted_and_heals Some(2), Some(3), 100, [Lost(&FREEZE)] => {
        let world = World::new(3, 0);
        let mut cache = strict(1);
        let [right, middle, left] = [(); 3].map(|()| world.allocate(&mut cache, 1));
        world.free(&mut cache, right);
        world.run([
            part(move |w| w.free(&mut strict(1), middle)),
            part(move |w| {
                let mut cache = strict(2);
                let block = w.allocate(&mut cache, 1);
                w.free(&mut cache, block);
            }),
        ]);
        world.free(&mut cache, left);
        world.is_whole();
    }

    // A block too large to be hidden is freed under an announcement, which another thread's allocation may
    // finish. There is room elsewhere all the time, in a larger block.
    loom_l2_large_free_is_finished_by_an_allocation Some(2), Some(3), 100, [Lost(&COMMIT), Mark("served by the \
        large block")] => {
        let world = World::new(64, 0);
        let mut cache = strict(1);
        let [right, between, large] = [32, 1, 31].map(|size| world.allocate(&mut cache, size));
        world.free(&mut cache, right);
        world.run([
            part(move |w| w.free(&mut strict(1), large)),
            part(move |w| {
                let mut cache = strict(2);
                let block = w.allocate(&mut cache, 1);
                if block.at.0 < 31 {
                    mark("served by the large block");
                }
            }),
        ]);
        world.free(&mut cache, between);
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.free.granules), (1, 63), "S4");
    }

    // A run is cut up into parked blocks beside another thread's cut of the same free block.
    loom_s1_carve_races_cut Some(1), Some(2), 100, [Mark("carved"), Lost(&COMMIT)] => {
        let world = World::new(12, 0);
        world.run([
            part(|w| {
                let mut cache = ThreadCache::with_ceiling(1, 2);
                w.allocate(&mut cache, 1);
                if cache.parked() > 0 {
                    mark("carved");
                }
            }),
            part(|w| { w.allocate(&mut strict(2), 1); }),
        ]);
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.granules), (2, 12), "S4");
    }

    // Another cache heals while a run is cut up: it may merge the parked blocks at once, and none that is not
    // parked yet.
    loom_s4_carve_races_heal Some(1), Some(2), 100, [Mark("carved"), Lost(&CLAIM)] => {
        let world = World::new(12, 0);
        world.run([
            part(|w| {
                let mut cache = ThreadCache::with_ceiling(1, 2);
                w.allocate(&mut cache, 1);
                if cache.parked() > 0 {
                    mark("carved");
                }
                w.heap.allocate_parked(&mut cache, 1, Kind::Raw);
            }),
            part(|w| w.heap.heal(&mut strict(2))),
        ]);
        world.heap.heal(&mut strict(3));
        let tally = world.verify();
        assert_eq!((tally.live.granules + tally.free.granules, tally.granules), (12, 12), "S4");
    }

    // Four granules share a header. Two threads cut the same free block, one of them so that the other's
    // block ends inside a span.
    loom_s1_packed_cut_races_cut Some(2), Some(3), 100, [Lost(&COMMIT), Lost(&CARVE)] => {
        let world = World::packed(16);
        world.run([
            part(|w| { w.allocate(&mut strict(1), 5); }),
            part(|w| { w.allocate(&mut strict(2), 6); }),
        ]);
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.free.granules), (11, 5), "S4");
    }

    // Two neighbours that meet inside a span are freed at the same time, beside a free block that ends inside one.
    loom_l3_packed_frees_merge Some(3), Some(3), 100, [Lost(&ANNOUNCE)] => {
        let world = World::packed(16);
        let mut cache = strict(1);
        let (right, left) = (world.allocate(&mut cache, 5), world.allocate(&mut cache, 6));
        world.run([part(move |w| w.free(&mut strict(1), left)), part(move |w| w.free(&mut strict(2), right))]);
        world.is_whole();
    }

    // A block is freed and merged to its left while that neighbour is cut to what has its span to itself, or
    // taken whole with what has not.
    loom_s3_packed_alloc_races_ripple Some(2), Some(3), 100, [Lost(&COMMIT), Mark("with what is over")] => {
        let world = World::packed(12);
        let block = world.allocate(&mut strict(1), 5);
        world.run([
            part(move |w| w.free(&mut strict(1), block)),
            part(|w| {
                let mut cache = strict(2);
                let block = w.allocate(&mut cache, 5);
                if block.header.size() > 5 {
                    mark("with what is over");
                }
                w.free(&mut cache, block);
            }),
        ]);
        world.is_whole();
    }

    // A parked block is merged and cut anew, a granule further on in the same span, used and parked by its
    // first owner, beside the stale index: what the index names is not there.
    loom_s1_stale_index_leads_to_another_position Some(2), Some(3), 100, [Mark("moved"), Lost(&CLAIM)] => {
        let world = World::packed(16);
        let mut owner = Box::new(ThreadCache::with_ceiling(1, 4));
        let end = world.allocate(&mut strict(1), 4);
        let block = world.allocate(&mut strict(1), 5);
        world.free(&mut owner, block);
        world.free(&mut strict(1), end);
        world.run([
            part(move |w| {
                let Some(block) = w.heap.allocate_parked(&mut owner, 5, Kind::Raw) else { return };
                assert_eq!(block.header.position(), block.at.0 % 4, "S1: {block:?}");
                w.heap.region().touch(block.at, 5);
            }),
            part(move |w| {
                let mut cache = strict(2);
                w.heap.heal(&mut cache);
                let Ok(end) = w.heap.allocate(&mut cache, 5, 1, Kind::Raw) else { return };
                let Ok(moved) = w.heap.allocate(&mut cache, 5, 1, Kind::Raw) else { return };
                w.heap.region().touch(end.at, 5);
                if moved.at.0 + 1 == block.at.0 {
                    mark("moved");
                }
                let mut parks = Box::new(ThreadCache::with_ceiling(3, 4));
                w.heap.free(&mut parks, moved.at, None).expect("S5: it is live");
                w.heap.region().touch(end.at, 5);
            }),
        ]);
        world.verify();
    }

    // What stands before an aligned block is given back while its left neighbour is freed.
    loom_s4_trim_races_free Some(1), Some(2), 100, [Lost(&COMMIT)] => {
        let world = World::new(6, 0);
        let mut cache = strict(1);
        let right = world.allocate(&mut cache, 1);
        world.run([
            part(move |w| w.free(&mut strict(1), right)),
            part(|w| {
                let mut cache = strict(2);
                let block = w.heap.allocate(&mut cache, 1, 4, Kind::Raw).expect("L2: there is room");
                assert_eq!(block.at.0 % 4, 0, "S2");
                w.free(&mut cache, block);
            }),
        ]);
        world.is_whole();
    }

    // An observer walks the tiles while another thread cuts and joins.
    loom_s4_walker_sees_tiles Some(2), Some(3), 100, [Mark("in flight")] => {
        let world = World::new(4, 0);
        let mut cache = strict(1);
        let [right, middle] = [(); 2].map(|()| world.allocate(&mut cache, 1));
        world.free(&mut cache, right);
        world.run([
            part(move |w| {
                let mut cache = strict(1);
                w.free(&mut cache, middle);
                w.allocate(&mut cache, 1);
            }),
            part(|w| {
                let tally = w.heap.tally().unwrap_or_else(|fault| panic!("S4: {fault}"));
                if tally.in_flight.blocks > 0 {
                    mark("in flight");
                }
            }),
        ]);
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.free.granules), (1, 3), "S4");
    }

    // A block changes owner: what its producer wrote is visible to the consumer that adopts it.
    loom_s3_adopter_sees_the_payload None, None, 10, [Mark("adopted")] => {
        let world = World::new(2, 0);
        let block = world.allocate(&mut strict(1), 1);
        world.run([
            part(move |w| {
                w.heap.region().touch(block.at, 1);
                w.heap.adoption().rename(block.at, block.header, 0).expect("nobody else has it");
            }),
            part(move |w| {
                let Ok(live) = w.heap.live_at(block.at) else { return };
                if live.header.owner() == 0 && w.heap.adoption().rename(live.at, live.header, 2).is_some() {
                    mark("adopted");
                    w.free(&mut strict(2), live);
                }
            }),
        ]);
        world.verify();
    }

    // A block is adopted, used and given back, under one generation: who adopts it next may have looked at it
    // before all that.
    loom_s3_block_comes_back_under_one_generation None, None, 20, [Mark("adopted after")] => {
        let world = World::new(2, 0);
        let block = world.allocate(&mut strict(1), 1);
        let unowned = world.heap.adoption().rename(block.at, block.header, 0).expect("nobody else has it");
        world.run([
            part(move |w| {
                let Some(ours) = w.heap.adoption().rename(block.at, unowned, 2) else { return };
                w.heap.region().touch(block.at, 1);
                w.heap.adoption().rename(block.at, ours, 0).expect("it is ours");
                mark("given back");
            }),
            part(move |w| {
                if w.heap.adoption().rename(block.at, unowned, 3).is_some() {
                    mark("adopted after");
                    w.heap.region().touch(block.at, 1);
                }
            }),
        ]);
        world.verify();
    }

    // Two consumers adopt one block: one gets it.
    loom_s5_one_of_two_adopts None, None, 50, [Lost(&ADOPT)] => {
        let world = World::new(2, 0);
        let block = world.allocate(&mut strict(1), 1);
        world.heap.adoption().rename(block.at, block.header, 0).expect("nobody else has it");
        let adopted = Arc::new(Mutex::new(0));
        let [one, two] = [2, 3].map(|owner| {
            let adopted = adopted.clone();
            part(move |w| {
                let Ok(live) = w.heap.live_at(block.at) else { return };
                if live.header.owner() == 0 && w.heap.adoption().rename(live.at, live.header, owner).is_some() {
                    *adopted.lock().unwrap() += 1;
                    w.free(&mut strict(owner), live);
                }
            })
        });
        world.run([one, two]);
        assert_eq!(*adopted.lock().unwrap(), 1, "S5");
        world.is_whole();
    }

    // Two caches want one batch of the transfer cache; the loser is served by what is parked elsewhere.
    loom_s1_two_takers_of_one_batch None, None, 100, [Read(&BATCH_INDEX), Lost(&BATCH_CLAIM)] => {
        let world = World::new(3, 1);
        let mut giver = ThreadCache::with_ceiling(1, 2);
        let blocks = [(); 3].map(|()| world.allocate(&mut giver, 1));
        blocks.into_iter().for_each(|block| world.free(&mut giver, block));
        world.run([2, 3].map(|owner| part(move |w| { w.allocate(&mut ThreadCache::with_ceiling(owner, 2), 1); })));
        world.heap.heal(&mut giver);
        let tally = world.verify();
        assert_eq!((tally.live.granules, tally.free.granules), (2, 1), "S4");
    }
}
