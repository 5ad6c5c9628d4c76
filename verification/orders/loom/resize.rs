//! A live block grows where it is, over what another frees, or while another frees it.

use crate::model::Met::{Lost, Mark};
use crate::model::{World, mark, part, scenarios, strict};
use atomic_matrix::backend::orderings::CLAIM;
use atomic_matrix::segment::region::Region;

scenarios! {
    // What its user wrote into the block behind comes before what is written there when the other has grown over
    // it; and the head that was erased is gone for whoever cuts there next.
    loom_s3_a_block_grows_over_what_another_frees Some(1), Some(2), 50, [Mark("grown")] => {
        let world = World::new(4, 0);
        let (mut owner, mut other) = (strict(1), strict(2));
        let behind = world.allocate(&mut other, 1);
        let block = world.allocate(&mut owner, 1);
        world.run([
            part(move |w| {
                let now = match w.heap.resizing().resize(&mut owner, block, 2) {
                    Some(now) => {
                        mark("grown");
                        now
                    }
                    None => block,
                };
                w.free(&mut owner, now);
            }),
            part(move |w| {
                w.free(&mut other, behind);
                let again = w.allocate(&mut other, 1);
                w.free(&mut other, again);
            }),
        ]);
        world.is_whole();
    }

    // One grows over a free block while another frees the block itself by a pointer to it: one of them is told.
    loom_s5_a_block_is_freed_while_it_grows Some(1), Some(2), 50, [Lost(&CLAIM), Mark("grown"), Mark("freed")] => {
        let world = World::new(4, 0);
        let (mut owner, mut other) = (strict(1), strict(2));
        let behind = world.allocate(&mut owner, 1);
        let block = world.allocate(&mut owner, 1);
        world.free(&mut owner, behind);
        world.run([
            part(move |w| {
                if let Some(now) = w.heap.resizing().resize(&mut owner, block, 2) {
                    mark("grown");
                    w.heap.region().touch(now.at, 2);
                    w.free(&mut owner, now);
                }
            }),
            part(move |w| {
                if w.try_free(&mut other, block).is_ok() {
                    mark("freed");
                }
            }),
        ]);
        world.is_whole();
    }
}
