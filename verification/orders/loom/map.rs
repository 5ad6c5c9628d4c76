//! The table: what a reader sees of a value, what its cursor protects, and who has what was displaced.

use crate::model::Met::{Lost, Mark, Point};
use crate::model::{World, mark, part, scenarios, strict};
use atomic_matrix::backend::Backend;
use atomic_matrix::backend::orderings::{CURSOR_FENCE, CURSOR_LOOK, RETIRE, TURN_CHANGE, TURN_RECHECK};
use atomic_matrix::ipc::link::Link;
use atomic_matrix::ipc::structure::{Shape, Sort, Structure};
use atomic_matrix::ipc::table::{By, Key, NotPut, Owned, Table, When};
use atomic_matrix::matrix::heap::{Kind, Live, ThreadCache};
use atomic_matrix::segment::region::{BoxedRegion, Region};
use std::sync::{Arc, Mutex};

/// A table of one bucket with so many places and cursors, in a world that has `granules` besides.
fn table<B: Backend>(places: usize, cursors: u16, granules: u32) -> (Arc<World<B>>, Live) {
    let cells_shift = (places + 1).ilog2();
    let shape = Shape { sort: Sort::Map, cells_shift, readers: cursors, content: 7 };
    let world = World::with_payload_everywhere(granules, |layout| shape.granules(layout));
    let live = world.structure(shape);
    (world, live)
}

fn at<B: Backend>(world: &World<B>, map: Live) -> Table<'_, BoxedRegion<B>> {
    Table::of(Structure::at(&world.heap, map).expect("it is there"))
}

fn key(which: u64) -> Key<'static> {
    Key { hash: which << 60, bytes: b"" }
}

/// A key that says itself which it is.
fn named(which: usize) -> Key<'static> {
    const NAMES: [&[u8]; 2] = [b"a", b"b"];
    Key { hash: (which as u64) << 60, bytes: NAMES[which] }
}

/// A participant, its cache, and a cursor that it holds.
struct Player {
    cache: Box<ThreadCache>,
    cursor: usize,
}

impl Player {
    fn new<B: Backend>(world: &World<B>, map: Live, me: u16) -> Self {
        Self { cache: strict(me), cursor: at(world, map).hold(me).expect("there is one") }
    }
    fn by(&mut self) -> By<'_> {
        let home = self.cache.owner();
        By { cache: &mut self.cache, cursor: self.cursor, home }
    }
    /// A block that is labelled with a key.
    fn block<B: Backend>(&mut self, world: &World<B>, map: Live, which: u64) -> Live {
        let block = world.heap.allocate(&mut self.cache, 1, 1, Kind::Raw).expect("L2: there is room");
        assert!(at(world, map).write_label(block, &key(which)));
        block
    }
    /// Writes the payload and puts the block in. What was displaced, if it was put in.
    fn put<B: Backend>(&mut self, world: &World<B>, map: Live, block: Live, which: u64) -> Option<Option<Link>> {
        world.heap.region().touch(block.at, 1);
        match at(world, map).put(&mut self.by(), block, &key(which), When::Always) {
            Ok(was) => Some(was),
            Err(NotPut::Full) => {
                mark("full");
                None
            }
            Err(other) => panic!("M1: {other:?}"),
        }
    }
    /// Writes what it has displaced, and frees it, unless somebody reads it: then it is the last one's.
    fn end<B: Backend>(&mut self, world: &World<B>, map: Live, was: Link) {
        let table = at(world, map);
        match table.own(&mut self.by(), was) {
            Owned::Mine(live) => {
                mark("mine");
                world.free(&mut self.cache, live);
            }
            Owned::Shared => {
                mark("shared");
                table.unname(&mut self.by(), Some(was));
            }
            Owned::Gone => panic!("M1: who displaced it has it"),
        }
    }
    /// Reads what is under a key: its block.
    fn get<B: Backend>(&mut self, world: &World<B>, map: Live, which: u64) -> Option<Live> {
        let (live, link) = at(world, map).get(&mut self.by(), &key(which))?;
        world.heap.region().touch(live.at, 1);
        at(world, map).unname(&mut self.by(), Some(link));
        Some(live)
    }
}

/// Everything is free but the table and what is in it.
fn nothing_is_left<B: Backend>(world: &World<B>, map: Live) {
    let tally = world.verify();
    assert_eq!(tally.live.blocks, 1 + at(world, map).len() as u64, "Q3: {tally:?}");
}

/// One puts a key in while another takes another one out: neither change is lost.
fn put_beside_take() {
    let (world, map) = table(3, 3, 3);
    let [mut one, mut two] = [1, 2].map(|me| Player::new(&world, map, me));
    let (first, second) = (two.block(&world, map, 0), one.block(&world, map, 1));
    assert_eq!(two.put(&world, map, first, 0), Some(None));
    world.run([
        part(move |w: &World| assert_eq!(one.put(w, map, second, 1), Some(None))),
        part(move |w: &World| {
            let was = at(w, map).take(&mut two.by(), &key(0)).expect("M1: it is there");
            two.end(w, map, was);
        }),
    ]);
    let mut last = Player::new(&world, map, 3);
    let found = [0, 1].map(|which| last.get(&world, map, which).map(|live| live.at));
    assert_eq!(found, [None, Some(second.at)], "M1");
    nothing_is_left(&world, map);
}

scenarios! {
    // What is under a key is seen whole, and no earlier than it is put in.
    loom_m1_a_value_is_seen Some(2), Some(3), 30, [Mark("found"), Mark("absent")] => {
        let (world, map) = table(1, 2, 2);
        let [mut one, mut two] = [1, 2].map(|me| Player::new(&world, map, me));
        let block = one.block(&world, map, 0);
        world.run([
            part(move |w: &World| assert_eq!(one.put(w, map, block, 0), Some(None))),
            part(move |w: &World| match two.get(w, map, 0) {
                Some(live) => {
                    mark("found");
                    assert_eq!(live.at, block.at);
                    assert!(two.get(w, map, 0).is_some(), "M1: it stays");
                }
                None => mark("absent"),
            }),
        ]);
    }

    // Two change one bucket at once: neither change is lost.
    loom_m1_two_keys_of_one_bucket Some(2), Some(2), 30, [Lost(&TURN_CHANGE)] => {
        let (world, map) = table(3, 2, 3);
        let [mut one, mut two] = [1, 2].map(|me| Player::new(&world, map, me));
        let (first, second) = (one.block(&world, map, 0), two.block(&world, map, 1));
        world.run([
            part(move |w: &World| assert_eq!(one.put(w, map, first, 0), Some(None))),
            part(move |w: &World| assert_eq!(two.put(w, map, second, 1), Some(None))),
        ]);
        at(&world, map).drop_cursor(0);
        at(&world, map).drop_cursor(1);
        let mut last = Player::new(&world, map, 3);
        let found = [0, 1].map(|which| last.get(&world, map, which).map(|live| live.at));
        assert_eq!(found, [Some(first.at), Some(second.at)], "M1");
        nothing_is_left(&world, map);
    }

    // One puts a key in while another takes another one out: neither change is lost.
    loom_m1_put_beside_take Some(2), Some(2), 30, [Lost(&TURN_CHANGE), Mark("mine")] => {
        put_beside_take();
    }

    // One has said by the turn that a key is in, and has not completed that: who makes the next change finds the place.
    loom_m1_the_next_change_completes_the_last Some(2), Some(2), 30, [Point(&TURN_RECHECK), Mark("mine")] => {
        put_beside_take();
    }

    // One takes what another has named and leaves, while a third comes to read it. Who leaves has not found the third's
    // cursor, and then finds that who has displaced the block leaves as well: so the third has found it displaced.
    loom_m1_a_reader_comes_while_two_leave Some(2), Some(2), 30,
        [Point(&CURSOR_FENCE), Point(&CURSOR_LOOK), Mark("mine"), Mark("shared"), Mark("left"), Mark("read")] => {
        let (world, map) = table(1, 3, 2);
        let [mut three, mut one, mut two] = [3, 1, 2].map(|me| Player::new(&world, map, me));
        let block = one.block(&world, map, 0);
        assert_eq!(one.put(&world, map, block, 0), Some(None));
        let (_, link) = at(&world, map).get(&mut two.by(), &key(0)).expect("it is there");
        let reading = Arc::new(Mutex::new(None));
        let reads = reading.clone();
        world.run([
            part(move |w: &World| {
                let was = at(w, map).take(&mut one.by(), &key(0)).expect("M1: it is there");
                one.end(w, map, was);
            }),
            part(move |w: &World| {
                let me = two.cache.owner();
                if let (_, Some(live)) = at(w, map).leave(two.cursor, me, me, link) {
                    mark("left");
                    w.free(&mut two.cache, live);
                }
            }),
            part(move |w: &World| {
                if let Some((live, link)) = at(w, map).get(&mut three.by(), &key(0)) {
                    mark("read");
                    w.heap.region().touch(live.at, 1);
                    *reads.lock().unwrap() = Some((three, link));
                }
            }),
        ]);
        if let Some((mut three, link)) = reading.lock().unwrap().take() {
            at(&world, map).unname(&mut three.by(), Some(link));
        }
        nothing_is_left(&world, map);
    }

    // Two put a value under one key: one of them displaces the other's, and has it.
    loom_m1_two_values_of_one_key Some(2), Some(2), 30, [Lost(&TURN_CHANGE), Mark("mine")] => {
        let (world, map) = table(3, 2, 3);
        let told = Arc::new(Mutex::new(vec![]));
        let parts = [1, 2].map(|me| {
            let mut player = Player::new(&world, map, me);
            let (block, told) = (player.block(&world, map, 0), told.clone());
            part(move |w: &World| {
                let was = player.put(w, map, block, 0).expect("M1: there is room");
                told.lock().unwrap().push(was.is_some());
                if let Some(was) = was {
                    player.end(w, map, was);
                }
            })
        });
        world.run(parts);
        let told = told.lock().unwrap().clone();
        assert!(told[0] != told[1], "M1: {told:?}");
        assert_eq!(at(&world, map).len(), 1, "M1");
        nothing_is_left(&world, map);
    }

    // A value is replaced while it is read: nobody writes it before its reader has done with it, and somebody frees it.
    loom_m1_what_is_read_is_not_written Some(3), Some(3), 30, [Mark("mine"), Mark("shared"), Mark("old"), Mark("new")] => {
        let (world, map) = table(3, 2, 3);
        let [mut one, mut two] = [1, 2].map(|me| Player::new(&world, map, me));
        let (old, new) = (one.block(&world, map, 0), one.block(&world, map, 0));
        assert_eq!(one.put(&world, map, old, 0), Some(None));
        world.run([
            part(move |w: &World| {
                let was = one.put(w, map, new, 0).flatten().expect("M1: it was there");
                one.end(w, map, was);
            }),
            part(move |w: &World| {
                let live = two.get(w, map, 0).expect("M1: there is one throughout");
                mark(if live.at == old.at { "old" } else { "new" });
            }),
        ]);
        nothing_is_left(&world, map);
    }

    // What is read without a cursor is displaced, freed and labelled with another key meanwhile: the reader finds the old
    // value, or begins anew and finds the new one.
    loom_m1_a_copy_is_made_beside_another_use Some(2), Some(3), 30, [Mark("old"), Mark("new")] => {
        let (world, map) = table(3, 2, 2);
        let mut one = Player::new(&world, map, 1);
        let (old, new) = (one.block(&world, map, 0), one.block(&world, map, 0));
        assert_eq!(one.put(&world, map, old, 0), Some(None));
        world.run([
            part(move |w: &World| {
                let was = one.put(w, map, new, 0).flatten().expect("M1: it was there");
                one.end(w, map, was);
                assert_eq!(one.block(w, map, 1).at, old.at);
            }),
            part(move |w: &World| {
                let copied = at(w, map).copied(&key(0), |live, _| live.at).expect("M1: there is one throughout");
                mark(if copied == old.at { "old" } else { "new" });
            }),
        ]);
    }

    // The same where another takes the block that was displaced, behind that, and labels it: nothing but the label itself
    // orders that behind the change of the bucket.
    loom_m1_a_copy_is_made_beside_anothers_use Some(1), Some(2), 30, [Mark("old"), Mark("new")] => {
        let (world, map) = table(3, 2, 2);
        let mut one = Player::new(&world, map, 1);
        let (old, new) = (one.block(&world, map, 0), one.block(&world, map, 0));
        assert_eq!(one.put(&world, map, old, 0), Some(None));
        let own = Arc::clone(&world);
        world.run([
            part(move |w: &World| {
                let was = one.put(w, map, new, 0).flatten().expect("M1: it was there");
                one.end(w, map, was);
                let another = loom::thread::spawn(move || {
                    let block = own.heap.allocate(&mut strict(2), 1, 1, Kind::Raw).expect("L2: it was freed");
                    assert_eq!(block.at, old.at);
                    assert!(at(&own, map).write_label(block, &key(1)));
                });
                another.join().unwrap();
            }),
            part(move |w: &World| {
                let copied = at(w, map).copied(&key(0), |live, _| live.at).expect("M1: there is one throughout");
                mark(if copied == old.at { "old" } else { "new" });
            }),
        ]);
    }

    // The keys of a bucket are read while one is taken out and the value of the other replaced: that one is there once.
    loom_m2_keys_are_read_beside_changes Some(1), Some(2), 30, [Mark("both"), Mark("one")] => {
        let (world, map) = table(3, 2, 3);
        let [mut one, mut two] = [1, 2].map(|me| Player::new(&world, map, me));
        let [stays, taken, new] = [0, 1, 0].map(|which| {
            let block = world.heap.allocate(&mut one.cache, 1, 1, Kind::Raw).expect("L2: there is room");
            assert!(at(&world, map).write_label(block, &named(which)));
            block
        });
        // What is taken stands in front, and its place is the next one's: a reader may have passed that.
        for (block, which) in [(taken, 1), (stays, 0)] {
            assert!(at(&world, map).put(&mut one.by(), block, &named(which), When::Always).is_ok_and(|was| was.is_none()));
        }
        world.run([
            part(move |w: &World| {
                let was = at(w, map).take(&mut one.by(), &named(1)).expect("M1: it is there");
                one.end(w, map, was);
                let was = at(w, map).put(&mut one.by(), new, &named(0), When::Always).expect("M1: there is room");
                one.end(w, map, was.expect("M1: it was there"));
            }),
            part(move |w: &World| {
                let mut keys = at(w, map).keys(&mut two.by(), 0);
                keys.sort_unstable();
                mark(if keys.len() == 2 { "both" } else { "one" });
                assert!(keys == [b"a", b"b"] || keys == [b"a"], "M2: {keys:?}");
            }),
        ]);
        nothing_is_left(&world, map);
    }

    // Two leave what was displaced meanwhile: the last one has it, behind all that the other has read.
    loom_m1_the_last_to_leave_has_it Some(3), Some(3), 30, [Mark("first"), Mark("second")] => {
        let (world, map) = table(1, 3, 2);
        let [mut one, mut two, mut three] = [1, 2, 3].map(|me| Player::new(&world, map, me));
        let block = one.block(&world, map, 0);
        assert_eq!(one.put(&world, map, block, 0), Some(None));
        let [(_, link), _] = [&mut two, &mut three].map(|player| {
            at(&world, map).get(&mut player.by(), &key(0)).expect("it is there")
        });
        let was = at(&world, map).take(&mut one.by(), &key(0)).expect("it is there");
        one.end(&world, map, was);
        let had = Arc::new(Mutex::new(0));
        let leave = |player: Player, reads: bool, name: &'static str| {
            let had = had.clone();
            part(move |w: &World| {
                if reads {
                    w.heap.region().touch(block.at, 1);
                }
                let me = player.cache.owner();
                if let (_, Some(live)) = at(w, map).leave(player.cursor, me, me, link) {
                    mark(name);
                    w.heap.region().touch(live.at, 1);
                    *had.lock().unwrap() += 1;
                }
            })
        };
        world.run([leave(two, true, "first"), leave(three, false, "second")]);
        assert_eq!(*had.lock().unwrap(), 1, "M1: one of them has it");
    }

    // Two take what one of them has read until just now: one has it, and whoever is the last to name it frees it.
    loom_m1_a_reader_leaves_beside_who_takes Some(3), Some(3), 30, [Mark("mine"), Mark("shared"), Lost(&RETIRE)] => {
        let (world, map) = table(1, 2, 2);
        let [mut one, mut two] = [1, 2].map(|me| Player::new(&world, map, me));
        let block = one.block(&world, map, 0);
        assert_eq!(one.put(&world, map, block, 0), Some(None));
        let (_, link) = at(&world, map).get(&mut two.by(), &key(0)).expect("it is there");
        let took = Arc::new(Mutex::new(0));
        let take = |mut player: Player, reads: Option<Link>| {
            let took = took.clone();
            part(move |w: &World| {
                if reads.is_some() {
                    w.heap.region().touch(block.at, 1);
                    at(w, map).unname(&mut player.by(), reads);
                }
                if let Some(was) = at(w, map).take(&mut player.by(), &key(0)) {
                    *took.lock().unwrap() += 1;
                    player.end(w, map, was);
                }
            })
        };
        world.run([take(one, None), take(two, Some(link))]);
        assert_eq!(*took.lock().unwrap(), 1, "M1: one has it");
        nothing_is_left(&world, map);
    }

    // A place is used again by another key, as soon as it is empty.
    loom_m1_a_place_is_used_again Some(2), Some(2), 30, [Mark("full"), Mark("put")] => {
        let (world, map) = table(1, 2, 3);
        let [mut one, mut two] = [1, 2].map(|me| Player::new(&world, map, me));
        let (first, second) = (one.block(&world, map, 0), two.block(&world, map, 1));
        assert_eq!(one.put(&world, map, first, 0), Some(None));
        world.run([
            part(move |w: &World| {
                let was = at(w, map).take(&mut one.by(), &key(0)).expect("M1: it is there");
                one.end(w, map, was);
            }),
            part(move |w: &World| {
                if two.put(w, map, second, 1).is_some() {
                    mark("put");
                    assert_eq!(two.get(w, map, 1).map(|live| live.at), Some(second.at), "M1");
                }
            }),
        ]);
    }
}
