//! The last try of an allocation: what is given back behind its first sweep.

use crate::model::Met::Mark;
use crate::model::{World, mark, part, scenarios, strict};
use atomic_matrix::backend::loom::{Passes, Setting};
use atomic_matrix::backend::orderings::{HEADER_WALK, NEWS_LOOK};
use atomic_matrix::matrix::heap::Kind;
use atomic_matrix::segment::region::Region;
use std::sync::{Arc, Mutex};

/// Looks of sweeps at headers, and of those who are refused at what others have given back.
fn looks() -> [u64; 2] {
    [&HEADER_WALK, &NEWS_LOOK].map(|site| Passes::of(site).loads)
}

scenarios! {
    // One asks for a granule, and another frees one of the two that there are: where its free has ended behind the first
    // sweep, and before the look whether anything was given back, the second sweep finds it. (With weak memory it may find
    // the header as it was.)
    loom_l2_what_is_freed_behind_a_sweep_is_found Some(1), Some(2), 50, [Mark("behind the first sweep")] => {
        let world = World::new(2, 0);
        let blocks = [(); 2].map(|()| world.allocate(&mut strict(1), 1));
        let begun = looks();
        assert!(world.heap.allocate(&mut strict(3), 1, 1, Kind::Raw).is_err(), "S1: all is live");
        let now = looks();
        // One sweep, and a look at what was given back on each side of it.
        let [tiles, news] = [now[0] - begun[0], (now[1] - begun[1]) / 2];
        assert_eq!(tiles, 2);
        let (served, freed) = (Arc::new(Mutex::new(false)), Arc::new(Mutex::new([0; 2])));
        let (asks, frees) = (served.clone(), freed.clone());
        world.run([
            part(move |w: &World| {
                let got = w.heap.allocate(&mut strict(2), 1, 1, Kind::Raw);
                if let Ok(block) = got {
                    w.heap.region().touch(block.at, 1);
                }
                *asks.lock().unwrap() = got.is_ok();
            }),
            part(move |w: &World| {
                w.free(&mut strict(1), blocks[0]);
                *frees.lock().unwrap() = looks();
            }),
        ]);
        // A load is counted before others may have their turn in front of it. A look at what was given back loads first
        // nobody's count, and then the freer's.
        let [walked, read] = *freed.lock().unwrap();
        let in_front_of_its_count = now[1] + news + 2;
        if walked <= now[0] + tiles && read <= in_front_of_its_count {
            assert!(*served.lock().unwrap() || !Setting::get().all_rmw, "L2: it was free before the second sweep");
            if walked == now[0] + tiles && read >= now[1] + news {
                mark("behind the first sweep");
            }
        }
    }
}
