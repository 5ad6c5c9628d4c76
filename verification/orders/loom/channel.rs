//! The channel: what a receiver sees of a message, who gets it, and who may still write a structure that is freed.

use crate::model::Met::{Lost, Mark, Read};
use crate::model::{Part, World, mark, part, scenarios, strict};
use atomic_matrix::backend::Backend;
use atomic_matrix::backend::orderings::*;
use atomic_matrix::ipc::ring::{NotReceived, NotSent, Ring};
use atomic_matrix::ipc::structure::{Role, Shape, Sort, Structure};
use atomic_matrix::matrix::heap::Live;
use atomic_matrix::segment::layout::Granule;
use atomic_matrix::segment::region::{BoxedRegion, Region};
use std::sync::{Arc, Mutex};

/// A channel of `1 << shift` cells, in a world that has `granules` besides, used by participants 1 to 4.
fn channel<B: Backend>(shift: u32, granules: u32) -> (Arc<World<B>>, Live) {
    queue(Sort::Channel, shift, granules)
}

fn queue<B: Backend>(sort: Sort, shift: u32, granules: u32) -> (Arc<World<B>>, Live) {
    let shape = Shape { sort, cells_shift: shift, readers: 0, content: 7 };
    let world = World::with_payload(granules, |layout| shape.granules(layout));
    let live = world.structure(shape);
    (world, live)
}

/// The ring of a structure that the caller is counted among the users of, or that nobody frees.
fn ring<B: Backend>(world: &World<B>, channel: Live) -> Ring<'_, BoxedRegion<B>> {
    Ring::of(Structure::at(&world.heap, channel).expect("it is there"))
}

/// Writes its payload and sends a block: true if it was sent.
fn send<B: Backend>(world: &World<B>, channel: Live, me: u16, block: Live) -> bool {
    world.heap.region().touch(block.at, 1);
    match ring(world, channel).send(me, block) {
        Ok(()) => true,
        Err(NotSent::Full) => {
            mark("full");
            // It is the sender's as before.
            world.heap.region().touch(block.at, 1);
            false
        }
        Err(other) => panic!("Q2: {other:?}"),
    }
}

/// Receives and writes the payload.
fn receive<B: Backend>(world: &World<B>, channel: Live, me: u16) -> Option<Live> {
    match ring(world, channel).receive(me) {
        Ok(taken) => {
            mark("received");
            world.heap.region().touch(taken.live.at, 1);
            Some(taken.live)
        }
        Err(NotReceived::Empty) => {
            mark("empty");
            None
        }
        Err(other) => panic!("Q2: {other:?}"),
    }
}

/// Everything in the ring, in its order.
fn drain<B: Backend>(world: &World<B>, channel: Live) -> Vec<Live> {
    std::iter::from_fn(|| receive(world, channel, 4)).collect()
}

/// What the parts of a scenario have to tell. Locked while nothing is called: all threads of a model are one
/// thread of the operating system.
type Told<T> = Arc<Mutex<Vec<T>>>;

/// A part that receives once, and tells what.
fn receiver(channel: Live, me: u16, got: &Told<Live>) -> Part {
    let got = got.clone();
    part(move |w: &World| {
        let received = receive(w, channel, me);
        got.lock().unwrap().extend(received);
    })
}

/// Where the blocks are that were received, and behind them those that are left.
fn received(world: &World, channel: Live, got: &Told<Live>) -> Vec<Granule> {
    let got = got.lock().unwrap().clone();
    got.into_iter().chain(drain(world, channel)).map(|live| live.at).collect()
}

/// A sender and a receiver of a queue of one cell.
fn a_message_is_seen(sort: Sort) {
    let (world, channel) = queue(sort, 0, 2);
    let [first, second] = [(); 2].map(|()| world.allocate(&mut strict(1), 1));
    let got = Told::default();
    let told = got.clone();
    world.run([
        part(move |w: &World| {
            assert!(send(w, channel, 1, first), "Q2: there was room");
            let _ = send(w, channel, 1, second);
        }),
        part(move |w: &World| {
            let got: Vec<_> = (0..2).filter_map(|_| receive(w, channel, 2)).collect();
            told.lock().unwrap().extend(got);
        }),
    ]);
    let all = received(&world, channel, &got);
    assert!(all[0] == first.at && all.get(1).is_none_or(|&at| at == second.at), "Q2: {all:?}");
}

scenarios! {
    // The receiver sees what the sender wrote, whether the sender has let go or not; and the sender finds the
    // cell empty again.
    loom_q1_q2_a_message_is_seen Some(3), Some(3), 100,
        [Mark("received"), Mark("empty"), Mark("full"), Lost(&LET_GO)] => { a_message_is_seen(Sort::Channel) }

    // The same with one sender and one receiver, which empties no cell: the sender puts the next link over the old one.
    loom_q1_q2_one_sender_one_receiver Some(3), Some(3), 100,
        [Mark("received"), Mark("empty"), Mark("full"), Lost(&LET_GO)] => { a_message_is_seen(Sort::Single) }

    // Two want to be the one sender: who has the role goes on where the one before it was.
    loom_q2_q6_a_role_is_passed_on Some(3), Some(3), 20, [Mark("refused"), Mark("sent")] => {
        let (world, line) = queue(Sort::Single, 1, 2);
        let sent = Told::default();
        let parts = [1, 2].map(|me| (me, world.allocate(&mut strict(me), 1))).map(|(me, block)| {
            let sent = sent.clone();
            part(move |w: &World| {
                let structure = Structure::at(&w.heap, line).expect("it is there");
                if structure.take_role(me, Role::Sender).is_err() {
                    return mark("refused");
                }
                assert!(send(w, line, me, block), "Q2: there was room");
                mark("sent");
                sent.lock().unwrap().push(block.at);
                structure.drop_role(me, Role::Sender);
            })
        });
        world.run(parts);
        let got: Vec<_> = drain(&world, line).iter().map(|live| live.at).collect();
        assert_eq!(got, *sent.lock().unwrap(), "Q2, Q3");
    }

    // A batch is sent beside one that is received, which is sent and received beside others: each message as one alone.
    loom_q1_q2_batches Some(2), Some(2), 100, [Mark("two"), Mark("one"), Lost(&TICKET_STEP)] => {
        let (world, channel) = channel(1, 3);
        let blocks = [(); 3].map(|()| world.allocate(&mut strict(1), 1));
        assert!(send(&world, channel, 1, blocks[0]));
        let got = Told::default();
        let told = got.clone();
        world.run([
            part(move |w: &World| {
                let next = |sent: usize| blocks.get(1 + sent).copied();
                blocks[1..].iter().for_each(|block| w.heap.region().touch(block.at, 1));
                let _ = ring(w, channel).send_many(1, next);
            }),
            part(move |w: &World| {
                let mut got = vec![];
                let _ = ring(w, channel).receive_many(2, 2, |taken| {
                    w.heap.region().touch(taken.live.at, 1);
                    got.push(taken.live);
                });
                mark(if got.len() == 2 { "two" } else { "one" });
                told.lock().unwrap().extend(got);
            }),
        ]);
        let all = received(&world, channel, &got);
        assert!(all.len() >= 2 && all.iter().zip(&blocks).all(|(&at, block)| at == block.at), "Q2: {all:?}");
    }

    // Two senders, one cell: one of them has it.
    loom_q1_q2_two_senders_one_cell Some(3), Some(3), 100, [Mark("full"), Lost(&CELL_PUT)] => {
        let (world, channel) = channel(0, 2);
        let sent = Told::default();
        let [one, two] = [1, 2].map(|me| (me, world.allocate(&mut strict(me), 1))).map(|(me, block)| {
            let sent = sent.clone();
            part(move |w: &World| {
                let was_sent = send(w, channel, me, block);
                sent.lock().unwrap().extend(was_sent.then_some(block.at));
            })
        });
        world.run([one, two]);
        let got: Vec<_> = drain(&world, channel).iter().map(|live| live.at).collect();
        assert_eq!((got.len(), &got), (1, &*sent.lock().unwrap()), "Q2: one of them is sent");
    }

    // Two receivers, one message: one of them has it, and the other finds nothing.
    loom_q1_q2_two_receivers_one_message Some(3), Some(3), 100, [Mark("empty"), Lost(&TAKE)] => {
        let (world, channel) = channel(0, 1);
        let block = world.allocate(&mut strict(1), 1);
        assert!(send(&world, channel, 1, block));
        let got = Told::default();
        let [one, two] = [2, 3].map(|me| receiver(channel, me, &got));
        world.run([one, two]);
        assert_eq!(got.lock().unwrap().len(), 1, "Q1: one receiver has it");
    }

    // A full ring: its oldest message is received and sent on, while another sends.
    loom_q1_q2_a_full_ring_is_refilled Some(2), Some(3), 100, [Mark("full"), Lost(&CELL_CLEAR), Lost(&TICKET_STEP)] => {
        let (world, channel) = channel(1, 3);
        let [first, second, third] = [(); 3].map(|()| world.allocate(&mut strict(1), 1));
        assert!(send(&world, channel, 1, first) && send(&world, channel, 1, second));
        let sent = Told::default();
        let told = sent.clone();
        world.run([
            part(move |w: &World| {
                if send(w, channel, 1, third) {
                    told.lock().unwrap().push(third.at);
                }
            }),
            part(move |w: &World| {
                let oldest = receive(w, channel, 2).expect("Q2: there are two");
                assert_eq!(oldest.at, first.at, "Q2: first in, first out");
                if send(w, channel, 2, oldest) {
                    mark("sent on");
                }
            }),
        ]);
        let left: Vec<_> = drain(&world, channel).iter().map(|live| live.at).collect();
        assert_eq!(left[0], second.at, "Q2: {left:?}");
        assert!(sent.lock().unwrap().iter().all(|at| left.contains(at)), "Q3: {left:?}");
    }

    // Two receive two messages of one ring and look a third time, while it is filled again: nobody sees a
    // ticket's cell as it was a lap before.
    loom_q2_receivers_lap_each_other Some(1), Some(2), 100, [Mark("received"), Lost(&TICKET_STEP)] => {
        let (world, channel) = channel(0, 2);
        let [first, second] = [(); 2].map(|()| world.allocate(&mut strict(1), 1));
        assert!(send(&world, channel, 1, first));
        let got = Told::default();
        let [one, two] = [2, 3].map(|me| receiver(channel, me, &got));
        world.run([one, two, part(move |w: &World| _ = send(w, channel, 1, second))]);
        let mut all = received(&world, channel, &got);
        all.sort_unstable();
        all.dedup();
        assert!(all.contains(&first.at) && all.len() <= 2, "Q1: {all:?}");
    }

    // Who ends a channel and who sends: what was sent is received before the end, and what was not stays its sender's.
    loom_q6_the_end_is_behind_every_message Some(3), Some(3), 50, [Mark("closed"), Lost(&CELL_PUT), Lost(&CELL_SEAL)] => {
        let (world, channel) = channel(0, 1);
        let block = world.allocate(&mut strict(1), 1);
        let [sent, received] = [Told::default(), Told::default()];
        let (sends, receives) = (sent.clone(), received.clone());
        world.run([
            part(move |w: &World| {
                w.heap.region().touch(block.at, 1);
                match ring(w, channel).send(1, block) {
                    Ok(()) => sends.lock().unwrap().push(()),
                    Err(NotSent::Closed) => mark("closed"),
                    Err(other) => panic!("Q6: {other:?}"),
                }
            }),
            part(move |w: &World| {
                ring(w, channel).close();
                if let Ok(taken) = ring(w, channel).receive(2) {
                    w.heap.region().touch(taken.live.at, 1);
                    receives.lock().unwrap().push(());
                    assert_eq!(ring(w, channel).receive(2), Err(NotReceived::Closed), "Q6: nothing is behind the end");
                }
            }),
        ]);
        let all: Vec<()> = received.lock().unwrap().drain(..).collect();
        assert_eq!(all.len(), sent.lock().unwrap().len(), "Q6: the end came before what was sent");
    }

    // One comes, another removes the structure and frees it: either it is freed, or somebody is counted; never both.
    loom_q3_a_structure_is_freed_beside_a_comer Some(3), Some(3), 50, [Mark("freed"), Mark("joined"), Read(&VISIT_LOOK)] => {
        let (world, channel) = channel(0, 0);
        let [freed, joined] = [Told::default(), Told::default()];
        let (frees, joins) = (freed.clone(), joined.clone());
        {
            let ring = ring(&world, channel);
            ring.close();
            assert_eq!(ring.receive(1), Err(NotReceived::Closed));
        }
        world.run([
            part(move |w: &World| {
                let came = Structure::visit(&w.heap, 2, channel, |structure| structure.join(2, Role::User));
                if came == Some(Ok(())) {
                    mark("joined");
                    joins.lock().unwrap().push(());
                }
            }),
            part(move |w: &World| {
                Structure::visit(&w.heap, 1, channel, |structure| structure.remove()).expect("nobody else frees it");
                if Structure::free_if_unused(&w.heap, &mut strict(1), channel) {
                    mark("freed");
                    frees.lock().unwrap().push(());
                }
            }),
        ]);
        let (freed, joined) = (freed.lock().unwrap().len(), joined.lock().unwrap().len());
        assert!(freed + joined <= 1, "Q3: freed although somebody is counted");
    }

    // One comes to a structure without a name as the last one leaves: it is removed, or the comer is counted; never
    // both.
    loom_q6_one_comes_as_the_last_one_leaves Some(3), Some(3), 50, [Mark("freed"), Mark("entered"), Mark("gone")] => {
        let (world, channel) = channel(0, 0);
        {
            let structure = Structure::at(&world.heap, channel).expect("it is there");
            structure.leave_to_users();
            assert_eq!(structure.join(1, Role::User), Ok(()));
            Ring::of(structure).close();
            assert_eq!(Ring::of(structure).receive(1), Err(NotReceived::Closed));
        }
        world.run([
            part(move |w: &World| {
                let entered = Structure::visit(&w.heap, 2, channel, |structure| structure.enter(2).map(|()| structure));
                match entered {
                    Some(Ok(structure)) => {
                        mark("entered");
                        w.heap.region().touch(channel.at, 1);
                        assert!(!structure.is_removed(), "Q6: removed although somebody is counted");
                    }
                    _ => mark("gone"),
                }
            }),
            part(move |w: &World| {
                Structure::at(&w.heap, channel).expect("it is counted").leave(1, Role::User);
                Structure::drain_removed(&w.heap, &mut strict(1), channel);
                if Structure::free_if_unused(&w.heap, &mut strict(1), channel) {
                    mark("freed");
                    w.heap.region().touch(channel.at, 1);
                }
            }),
        ]);
    }

    // The last user leaves, another frees: what the user wrote comes before.
    loom_q3_the_last_one_leaves Some(3), Some(3), 20, [Mark("freed")] => {
        let (world, channel) = channel(0, 0);
        {
            let structure = Structure::at(&world.heap, channel).expect("it is there");
            assert_eq!(structure.join(2, Role::User), Ok(()));
            structure.remove();
            assert_eq!(Ring::of(structure).receive(1), Err(NotReceived::Closed));
        }
        world.run([
            part(move |w: &World| {
                let structure = Structure::at(&w.heap, channel).expect("it is counted");
                w.heap.region().touch(channel.at, 1);
                structure.leave(2, Role::User);
            }),
            part(move |w: &World| {
                if Structure::free_if_unused(&w.heap, &mut strict(1), channel) {
                    mark("freed");
                    w.heap.region().touch(channel.at, 1);
                }
            }),
        ]);
    }
}
