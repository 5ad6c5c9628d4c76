//! The log: what a reader sees of a publication, and what its cursor protects.

use crate::model::Met::Mark;
use crate::model::{World, mark, part, scenarios, strict};
use atomic_matrix::backend::Backend;
use atomic_matrix::ipc::log::{Log, Lowest, ReadStatus};
use atomic_matrix::ipc::ring::NotSent;
use atomic_matrix::ipc::structure::{Shape, Sort, Structure};
use atomic_matrix::matrix::heap::{Live, ThreadCache};
use atomic_matrix::segment::region::{BoxedRegion, Region};
use std::sync::Arc;

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

scenarios! {
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
