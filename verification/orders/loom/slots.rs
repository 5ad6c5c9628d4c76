//! Slots: a number changes hands beside a helper of its last holder's recovery that is late (C1, S1).

use crate::model::Met::Mark;
use crate::model::{World, mark, part, scenarios, strict};
use atomic_matrix::matrix::recovery::{Policy, Recovery};
use atomic_matrix::segment::region::Region;

/// The number of the dead, and its block's adopter.
const DEAD: u16 = 4;
const ADOPTER: u16 = 2;

scenarios! {
    // Two walk for one dead participant. The second adopts its block, ends the recovery, takes the number,
    // and gives the block to itself under that number: the word has come back, and the first one, wherever it
    // stands, must not take it for the dead one's.
    loom_c1_a_number_waits_for_a_late_helper Some(2), Some(3), 300, [Mark("taken"), Mark("kept")] => {
        let world = World::new(1, 0);
        [1, ADOPTER, DEAD].into_iter().for_each(|number| assert!(world.heap.recoveries().slots().take(number, 0)));
        let block = world.allocate(&mut strict(DEAD), 1);
        let dead = world.heap.recoveries().slots().bury(DEAD, 1);
        let recover = move |w: &World, owner: u16| {
            w.heap.recoveries().recover_all(&mut strict(owner), &mut Recovery::of(vec![dead], Policy::GiveBack));
        };
        world.run([
            part(move |w: &World| recover(w, 1)),
            part(move |w: &World| {
                let (mut cache, mut recovery) = (strict(ADOPTER), Recovery::of(vec![dead], Policy::GiveBack));
                w.heap.recoveries().begin_recovery(Some(&mut cache), &mut recovery);
                // Behind its own fences, as another's adoption may be.
                let adopted = w.heap.adoption().rename(block.at, block.header, ADOPTER);
                while !w.heap.recoveries().recover_tiles(Some(&mut cache), &mut recovery, u32::MAX) {}
                w.heap.recoveries().end_recovery(&mut cache, &mut recovery);
                let Some(adopted) = adopted else { return };
                if !w.heap.recoveries().slots().take(DEAD, 0) {
                    return mark("kept");
                }
                mark("taken");
                let again = w.heap.adoption().rename(block.at, adopted, DEAD).expect("its own");
                assert_eq!(again, block.header, "the word has come back");
                w.heap.region().touch(block.at, 1);
            }),
        ]);
        let slots = world.heap.recoveries().slots();
        let is_live = world.heap.live_at(block.at).is_ok();
        assert!(is_live || !slots.is_held(DEAD), "S1: a late helper has taken what a newcomer holds");
        if !slots.is_held(DEAD) {
            recover(&world, 1);
            assert!(slots.take(DEAD, 0), "C1: the number is nobody's, and not to be had");
        }
        if is_live {
            let generation = Some(block.header.generation());
            world.heap.free(&mut strict(DEAD), block.at, generation).expect("it is live");
        }
        world.is_whole();
    }
}
