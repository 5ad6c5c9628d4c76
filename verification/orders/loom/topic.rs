//! The log: what a reader sees of a publication, and what its cursor protects.

use crate::model::Met::{Mark, Read};
use crate::model::{World, mark, part, scenarios, strict};
use atomic_matrix::backend::orderings::{CELL_LOOK, LABEL_WRITE};
use atomic_matrix::backend::{Backend, Site, Word};
use atomic_matrix::ipc::link::Link;
use atomic_matrix::ipc::log::{Log, Lowest, ReadStatus};
use atomic_matrix::ipc::ring::NotSent;
use atomic_matrix::ipc::structure::{Shape, Sort, Structure};
use atomic_matrix::matrix::heap::{Live, ThreadCache};
use atomic_matrix::segment::region::{BoxedRegion, Region};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A log of one cell and so many cursors, in a world that has `granules` besides.
fn topic<B: Backend>(sort: Sort, readers: u16, granules: u32) -> (Arc<World<B>>, Live) {
    let shape = Shape { sort, cells_shift: 0, readers, content: 7 };
    let world = World::with_payload(granules, |layout| shape.granules(layout));
    let live = world.structure(shape);
    (world, live)
}

fn log<B: Backend>(world: &World<B>, topic: Live) -> Log<'_, BoxedRegion<B>> {
    Log::of(Structure::at(&world.heap, topic).expect("it is there"))
}

/// Writes the payload and publishes: true if there was room.
fn publish<B: Backend>(
    world: &World<B>,
    topic: Live,
    cache: &mut ThreadCache,
    block: Live,
    lowest: &mut Lowest,
) -> bool {
    world.heap.region().touch(block.at, 1);
    match log(world, topic).publish(cache, block, lowest) {
        Ok(()) => true,
        Err(NotSent::Full) => {
            mark("full");
            false
        }
        Err(other) => panic!("T1: {other:?}"),
    }
}

/// A word of a value that is copied without a guard.
const COPIED: Site = Site::own("COPIED", Relaxed, "nothing: COPY_FENCE stands behind its reading");

/// A board of two cells on which the values 1 and 2 stand, in a world that has a granule besides.
fn board<B: Backend>(cache: &mut ThreadCache, site: &'static Site) -> (Arc<World<B>>, Live, [Live; 3]) {
    let shape = Shape { sort: Sort::Board, cells_shift: 1, readers: 0, content: 7 };
    let world = World::with_payload_everywhere(3, |layout| shape.granules(layout));
    let board = world.structure(shape);
    let blocks = [(); 3].map(|()| world.allocate(cache, 1));
    for (&block, value) in blocks[..2].iter().zip(1..) {
        write(&world, block, value, site);
        assert!(publish(&world, board, cache, block, &mut Lowest::default()));
    }
    (world, board, blocks)
}

fn write<B: Backend>(world: &World<B>, block: Live, value: u64, site: &'static Site) {
    let words = world.heap.region().payload(block.at, 2).expect("it has payload");
    words.iter().for_each(|word| word.store(value, site));
}

/// Copies a publication's value, which no guard keeps: it counts if its cell names the block still.
fn copied<B: Backend>(world: &World<B>, log: &Log<'_, BoxedRegion<B>>, ticket: u64, link: Link) -> Option<[u64; 2]> {
    let words = world.heap.region().payload(link.at(), 2).expect("it has payload");
    world.turn();
    let copy = [&words[0], &words[1]].map(|word| word.load(&COPIED));
    log.is_still_at(ticket, link).then_some(copy)
}

/// The third value is set, and the memory of the oldest is used again, beside one that copies the oldest value.
fn the_oldest_is_copied(mut cache: Box<ThreadCache>, site: &'static Site) {
    let (world, board, [oldest, _, next]) = board(&mut cache, site);
    write(&world, next, 3, site);
    world.run([
        part(move |w: &World| {
            assert!(publish(w, board, &mut cache, next, &mut Lowest::default()));
            let again = w.allocate(&mut cache, 1);
            assert_eq!(again.at, oldest.at);
            write(w, again, 4, site);
        }),
        part(move |w: &World| {
            let log = log(w, board);
            let mut ticket = 0;
            match log.look_from(&mut ticket) {
                ReadStatus::Block(_, link) => match copied(w, &log, ticket, link) {
                    Some(copy) => {
                        mark("whole");
                        assert_eq!(copy, [ticket + 1; 2], "B1: a copy is torn");
                    }
                    None => mark("overrun"),
                },
                ReadStatus::Lagged(_) => mark("missed"),
                other => panic!("T1: {other:?}"),
            }
        }),
    ]);
}

scenarios! {
    // Two values are set, and the memory of each that was taken out is used again, beside one that copies the newest
    // without a look at its block, twice: each copy is whole, and the second no older than the first.
    loom_b1_a_copy_of_the_newest_is_whole Some(2), Some(3), 50, [Mark("whole"), Mark("overrun"), Read(&CELL_LOOK)] => {
        let (world, board, [_, _, third]) = board(&mut strict(1), &COPIED);
        world.run([
            part(move |w: &World| {
                let mut cache = strict(1);
                write(w, third, 3, &COPIED);
                let mut next = third;
                for value in 4..6 {
                    assert!(publish(w, board, &mut cache, next, &mut Lowest::default()));
                    next = w.allocate(&mut cache, 1);
                    write(w, next, value, &COPIED);
                }
            }),
            part(move |w: &World| {
                let log = log(w, board);
                let mut before = 0;
                for _ in 0..2 {
                    let (link, ticket) = log.newest_link().expect("B1: there is one throughout");
                    assert!(ticket >= before, "B1: an older one than before");
                    before = ticket;
                    match copied(w, &log, ticket, link) {
                        Some(copy) => {
                            mark("whole");
                            assert_eq!(copy, [ticket + 1; 2], "B1: a copy is torn");
                        }
                        None => mark("overrun"),
                    }
                }
            }),
        ]);
    }

    // A value is overwritten and its memory used again while it is copied: the copy is whole, or does not count. Between
    // the cell that is emptied and the next use stands the fence of the free that merges the block.
    loom_b1_a_copy_is_whole Some(2), Some(3), 50, [Mark("whole"), Mark("overrun"), Mark("missed")] => {
        the_oldest_is_copied(strict(1), &COPIED);
    }

    // The same where the block is parked and taken again, without a fence: what is written with release holds there.
    loom_b1_a_copy_of_what_is_released_is_whole Some(2), Some(3), 50, [Mark("whole"), Mark("overrun"), Mark("missed")] => {
        the_oldest_is_copied(Box::new(ThreadCache::with_ceiling(1, 2)), &LABEL_WRITE);
    }

    // A publisher overwrites what a reader has read, and uses its memory again: behind all that the reader did with it.
    loom_t1_what_is_read_is_not_overwritten Some(3), Some(3), 20, [Mark("read"), Mark("full"), Mark("overwritten")] => {
        let (world, topic) = topic(Sort::Topic, 1, 2);
        let mut cache = strict(1);
        let [first, second] = [(); 2].map(|()| world.allocate(&mut cache, 1));
        let cursor = log(&world, topic).join(2, 0).expect("there is a cursor");
        assert!(publish(&world, topic, &mut cache, first, &mut Lowest::default()));
        world.run([
            part(move |w: &World| {
                // What it takes out it parks, and gets again without a fence.
                let mut cache = Box::new(ThreadCache::with_ceiling(1, 2));
                if publish(w, topic, &mut cache, second, &mut Lowest::default()) {
                    mark("overwritten");
                    // The same memory again.
                    let again = w.allocate(&mut cache, 1);
                    w.free(&mut cache, again);
                }
            }),
            part(move |w: &World| {
                let ReadStatus::Block(live, _) = log(w, topic).look(cursor) else { panic!("T1: it is there") };
                assert_eq!(live.at, first.at, "T1: in order");
                mark("read");
                w.heap.region().touch(live.at, 1);
                log(w, topic).advance(cursor);
            }),
        ]);
    }

    // A reader joins beside a publisher: what it finds from then on stays until it has read it.
    loom_t1_a_reader_joins_beside_a_publisher Some(2), Some(3), 50, [Mark("read"), Mark("full")] => {
        let (world, topic) = topic(Sort::Topic, 1, 3);
        let mut cache = strict(1);
        let [first, second, third] = [(); 3].map(|()| world.allocate(&mut cache, 1));
        assert!(publish(&world, topic, &mut cache, first, &mut Lowest::default()));
        world.run([
            part(move |w: &World| {
                let (mut cache, mut lowest) = (strict(1), Lowest::default());
                if publish(w, topic, &mut cache, second, &mut lowest) && publish(w, topic, &mut cache, third, &mut lowest) {
                    // The memory of both that were overwritten.
                    for _ in 0..2 {
                        w.allocate(&mut cache, 1);
                    }
                }
            }),
            part(move |w: &World| {
                let cursor = log(w, topic).join(2, 0).expect("there is a cursor");
                let begins = log(w, topic).position(cursor);
                if let ReadStatus::Block(live, _) = log(w, topic).look(cursor) {
                    mark("read");
                    assert_eq!(live.at, [first, second, third][begins as usize].at, "T1: ticket {begins}");
                    w.heap.region().touch(live.at, 1);
                    log(w, topic).advance(cursor);
                }
            }),
        ]);
    }

    // One reader leaves, and another has its cursor after it: behind all that the first has read.
    loom_t1_a_cursor_has_one_holder Some(2), Some(3), 20, [Mark("passed on")] => {
        let (world, topic) = topic(Sort::Topic, 1, 2);
        let mut cache = strict(1);
        let first = world.allocate(&mut cache, 1);
        let cursor = log(&world, topic).join(1, 0).expect("there is a cursor");
        world.run([
            part(move |w: &World| {
                w.heap.region().touch(first.at, 1);
                log(w, topic).leave(cursor);
            }),
            part(move |w: &World| {
                if log(w, topic).join(2, 0).is_some() {
                    mark("passed on");
                    w.heap.region().touch(first.at, 1);
                }
            }),
        ]);
    }
}
