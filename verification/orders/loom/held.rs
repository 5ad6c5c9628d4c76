//! What workers hold: who gets what was given back, what is seen of it, and who is woken when a
//! hold is free.

use crate::model::Met::{Lost, Mark};
use crate::model::{World, mark, part, scenarios, strict};
use atomic_matrix::backend::Backend;
use atomic_matrix::backend::orderings::*;
use atomic_matrix::ipc::held::Hold;
use atomic_matrix::ipc::ring::{NotReceived, Ring};
use atomic_matrix::ipc::structure::{Role, Shape, Sort, Structure};
use atomic_matrix::matrix::heap::Live;
use atomic_matrix::segment::region::{BoxedRegion, Region};
use std::sync::{Arc, Mutex};

/// A channel of two cells of which so many messages may be held, with as many messages sent by
/// participant 1.
fn channel<B: Backend>(holds: u16, messages: usize) -> (Arc<World<B>>, Live) {
    let shape = Shape { sort: Sort::Redelivering, cells_shift: 1, readers: holds, content: 7 };
    let world = World::with_payload(2, |layout| shape.granules(layout));
    let channel = world.structure(shape);
    for _ in 0..messages {
        let block = world.allocate(&mut strict(1), 1);
        world.heap.region().touch(block.at, 1);
        ring(&world, channel).send(1, block).expect("there is room");
    }
    (world, channel)
}

fn ring<B: Backend>(world: &World<B>, channel: Live) -> Ring<'_, BoxedRegion<B>> {
    Ring::of(Structure::at(&world.heap, channel).expect("it is there"))
}

/// Receives and looks at the payload.
fn receive<B: Backend>(world: &World<B>, channel: Live, me: u16) -> Option<(Live, Hold)> {
    match ring(world, channel).receive_held(me) {
        Ok((taken, hold)) => {
            world.heap.region().touch(taken.live.at, 1);
            Some((taken.live, hold))
        }
        Err(NotReceived::Empty) => {
            mark("empty");
            None
        }
        Err(NotReceived::AllHeld) => {
            mark("all held");
            None
        }
        Err(other) => panic!("Q2: {other:?}"),
    }
}

type Told<T> = Arc<Mutex<Vec<T>>>;

scenarios! {
    // One gives back what it holds, another receives: it sees what the first one did with it, or
    // finds nothing yet.
    loom_q1_what_goes_back_is_seen Some(3), Some(3), 20, [Mark("again"), Mark("empty")] => {
        let (world, channel) = channel(2, 1);
        let (live, hold) = receive(&world, channel, 2).expect("Q2: it was sent");
        world.run([
            part(move |w: &World| {
                w.heap.region().touch(live.at, 1);
                ring(w, channel).give_back(hold);
            }),
            part(move |w: &World| {
                if let Some((_, hold)) = receive(w, channel, 3) {
                    mark("again");
                    assert_eq!(hold.deliveries(), 2);
                    ring(w, channel).give_back(hold);
                }
            }),
        ]);
        assert!(receive(&world, channel, 4).is_some_and(|(_, hold)| hold.deliveries() > 1), "Q3: it waits");
    }

    // Two receive what was given back, while a third gives another one back: each message goes to
    // one of them.
    loom_q1_q3_a_return_is_received_once Some(1), Some(2), 50, [Mark("received"), Lost(&TAKE)] => {
        let (world, channel) = channel(2, 2);
        let [first, second] = [(); 2].map(|()| receive(&world, channel, 2).expect("Q2: it was sent"));
        ring(&world, channel).give_back(first.1);
        let got = Told::default();
        let [one, two] = [3, 4].map(|me| {
            let got = got.clone();
            part(move |w: &World| {
                let received = receive(w, channel, me);
                if received.is_some() { mark("received") }
                got.lock().unwrap().extend(received.map(|(live, _)| live.at));
            })
        });
        world.run([one, two, part(move |w: &World| ring(w, channel).give_back(second.1))]);
        let mut all = got.lock().unwrap().clone();
        all.extend(std::iter::from_fn(|| receive(&world, channel, 1)).map(|(live, _)| live.at));
        all.sort_unstable_by_key(|at| at.0);
        let mut sent = [first.0.at, second.0.at];
        sent.sort_unstable_by_key(|at| at.0);
        assert_eq!(all, sent, "Q1 Q3: each once");
    }

    // Two receive, one message may be held: never have both one, and the hold says who has it.
    loom_q3_a_hold_has_one_holder Some(1), Some(2), 50, [Mark("all held"), Mark("passed on")] => {
        let (world, channel) = channel(1, 2);
        let holding = Told::default();
        let hold = move |w: &World, me: u16, holding: &Told<Live>| {
            let (live, hold) = receive(w, channel, me)?;
            let mut holding = holding.lock().unwrap();
            assert!(holding.is_empty(), "Q3: two are held");
            holding.push(live);
            Some(hold)
        };
        let parts = [2, 3].map(|me| {
            let holding = holding.clone();
            part(move |w: &World| {
                let Some(first) = hold(w, me, &holding) else { return };
                assert_eq!(ring(w, channel).holds(), (1, 0), "Q3: it is held by nobody");
                holding.lock().unwrap().clear();
                ring(w, channel).acknowledge(first);
                if hold(w, me, &holding).is_some() { mark("passed on") }
            })
        });
        world.run(parts);
        let holding = holding.lock().unwrap();
        assert_eq!(ring(&world, channel).holds(), (holding.len() as u64, 0), "Q3: a message is held by nobody");
        assert!(holding.iter().all(|live| world.heap.look(live.at).owner() > 1), "Q3: it is not its holder's");
    }

    // One waits for a hold, another acknowledges: nobody stays asleep.
    loom_q5_who_waits_for_a_hold_is_woken Some(3), Some(3), 20, [Mark("received")] => {
        let (world, channel) = channel(1, 2);
        let (_, hold) = receive(&world, channel, 2).expect("Q2: it was sent");
        world.run([
            part(move |w: &World| ring(w, channel).acknowledge(hold)),
            part(move |w: &World| {
                let structure = Structure::at(&w.heap, channel).expect("it is there");
                let got = structure.bell(Role::Receiver).wait(None, |_| receive(w, channel, 3));
                if got.is_some() { mark("received") }
            }),
        ]);
    }

    // Two are about to take one message, each with a hold. Who gets none gives its hold up, while the
    // other, which has found the next message and no hold for it, falls asleep: it is woken.
    loom_q5_a_hold_that_was_claimed_in_vain_is_told Some(2), Some(2), 20, [Mark("received"), Mark("all held")] => {
        let (world, channel) = channel(2, 1);
        world.run([
            part(move |w: &World| {
                if let Some((_, hold)) = receive(w, channel, 2) {
                    ring(w, channel).give_back(hold);
                }
            }),
            part(move |w: &World| {
                let _ = receive(w, channel, 3);
                let block = w.allocate(&mut strict(3), 1);
                w.heap.region().touch(block.at, 1);
                ring(w, channel).send(3, block).expect("there is room");
                let structure = Structure::at(&w.heap, channel).expect("it is there");
                if structure.bell(Role::Receiver).wait(None, |_| receive(w, channel, 3)).is_some() {
                    mark("received");
                }
            }),
        ]);
    }

    // A recovery looks at the holds beside one that sends and one that receives: those of the
    // living stay.
    loom_q3_a_recovery_beside_a_worker Some(1), Some(2), 50, [Mark("received")] => {
        let (world, channel) = channel(1, 0);
        let held = Told::default();
        let told = held.clone();
        world.run([
            part(move |w: &World| {
                let block = w.allocate(&mut strict(1), 1);
                w.heap.region().touch(block.at, 1);
                ring(w, channel).send(1, block).expect("there is room");
            }),
            part(move |w: &World| {
                if receive(w, channel, 2).is_some() {
                    mark("received");
                    told.lock().unwrap().push(());
                }
            }),
            part(move |w: &World| _ = w.heap.settle_links(&mut strict(3), 4)),
        ]);
        let count = held.lock().unwrap().len() as u64;
        assert_eq!(ring(&world, channel).holds().0, count, "Q3: a hold of the living is empty");
    }
}
