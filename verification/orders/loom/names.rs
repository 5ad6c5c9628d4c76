//! The directory: one publisher of a name, and what a reader of it sees.

use crate::model::Met::Mark;
use crate::model::{World, mark, part, scenarios, strict};
use atomic_matrix::matrix::heap::Live;
use atomic_matrix::segment::directory::{Directory, NamedBlock};
use atomic_matrix::segment::region::Region;
use std::sync::{Arc, Mutex};

const NAME: &[u8] = b"name";

fn entry(block: Live) -> NamedBlock {
    NamedBlock { offset: block.at.0, generation: block.header.generation(), fingerprint: None }
}

scenarios! {
    // A reader finds a name, and uses the block that its publisher has written before.
    loom_s3_reader_of_a_name_sees_the_payload Some(2), Some(3), 20, [Mark("found")] => {
        let world = World::with_names(2, 1);
        let block = world.allocate(&mut strict(1), 1);
        world.run([
            part(move |w: &World| {
                w.heap.region().touch(block.at, 1);
                Directory(w.heap.region()).publish(1, NAME, entry(block)).expect("it has room");
            }),
            part(move |w: &World| {
                let Some(found) = Directory(w.heap.region()).lookup(NAME) else { return };
                mark("found");
                assert_eq!(found.block, entry(block), "a name stands for its block");
                w.heap.region().touch(block.at, 1);
            }),
        ]);
    }

    // Two publish one name: it stands for one block, and the other is told so.
    loom_s5_one_of_two_publishes Some(1), Some(2), 100, [Mark("refused")] => {
        let world = World::with_names(2, 2);
        let published = Arc::new(Mutex::new(0));
        let mut cache = strict(1);
        let [one, two] = [1, 2].map(|owner| (owner, world.allocate(&mut cache, 1))).map(|(owner, block)| {
            let published = published.clone();
            part(move |w: &World| {
                match Directory(w.heap.region()).publish(owner, NAME, entry(block)) {
                    Ok(()) => *published.lock().unwrap() += 1,
                    Err(_) => mark("refused"),
                }
            })
        });
        world.run([one, two]);
        assert_eq!(*published.lock().unwrap(), 1, "S5: a name is published once");
        let directory = Directory(world.heap.region());
        assert!(directory.withdraw(NAME) && !directory.withdraw(NAME));
    }

    // An entry is used again under another name while somebody reads it: a name never stands for the other's block.
    loom_s5_entry_is_reused_beside_a_reader Some(2), Some(3), 100, [Mark("found"), Mark("gone")] => {
        let world = World::with_names(2, 1);
        let mut cache = strict(1);
        let [first, second] = [(); 2].map(|()| world.allocate(&mut cache, 1));
        Directory(world.heap.region()).publish(1, NAME, entry(first)).expect("it has room");
        world.run([
            part(move |w: &World| {
                let directory = Directory(w.heap.region());
                assert!(directory.withdraw(NAME));
                directory.publish(1, b"other", entry(second)).expect("it has room");
            }),
            part(move |w: &World| match Directory(w.heap.region()).lookup(NAME) {
                Some(found) => {
                    mark("found");
                    assert_eq!(found.block, entry(first), "S5: another name's block");
                }
                None => mark("gone"),
            }),
        ]);
    }

    // One takes what is published, another withdraws the name: one of them has it.
    loom_s5_a_take_races_a_withdrawal Some(2), Some(3), 50, [Mark("taken"), Mark("withdrawn")] => {
        let world = World::with_names(2, 1);
        let mut cache = strict(1);
        let block = world.allocate(&mut cache, 1);
        world.heap.region().touch(block.at, 1);
        world.heap.ownership().publish(1, NAME, block, entry(block)).expect("it has room");
        world.run([
            part(move |w: &World| {
                let Some(found) = Directory(w.heap.region()).lookup(NAME) else { return };
                let Ok(live) = w.heap.live_at(block.at) else { return };
                if w.heap.ownership().take_published(2, live, found) {
                    mark("taken");
                    w.heap.region().touch(block.at, 1);
                }
            }),
            part(move |w: &World| {
                if Directory(w.heap.region()).withdraw(NAME) {
                    mark("withdrawn");
                }
            }),
        ]);
        let owner = world.heap.look(block.at).owner();
        assert!(owner == 2 || owner == 0, "S5: it has one owner or nobody: {owner}");
        assert!(!Directory(world.heap.region()).withdraw(NAME), "the name is gone");
    }

    // A name is replaced beside a reader, by an entry that the reader has passed: it always stands for one of the two.
    loom_s5_a_replaced_name_never_stands_for_nothing Some(2), Some(3), 50, [Mark("old"), Mark("new")] => {
        let world = World::with_names(3, 2);
        let mut cache = strict(1);
        let [other, first, second] = [(); 3].map(|()| world.allocate(&mut cache, 1));
        let directory = Directory(world.heap.region());
        directory.publish(1, b"other", entry(other)).expect("it has room");
        directory.publish(1, NAME, entry(first)).expect("it has room");
        assert!(directory.withdraw(b"other"));
        world.run([
            part(move |w: &World| {
                let old = Directory(w.heap.region()).replace(1, NAME, entry(second));
                assert_eq!(old, Ok(Some(entry(first))));
            }),
            part(move |w: &World| {
                let found = Directory(w.heap.region()).lookup(NAME).expect("S5: the name stands for something").block;
                mark(if found == entry(first) { "old" } else { "new" });
                assert!(found == entry(first) || found == entry(second));
            }),
        ]);
        assert!(Directory(world.heap.region()).withdraw(NAME) && !Directory(world.heap.region()).withdraw(NAME));
    }

    // Two replace one name: one gets what was there, the other gets the one's.
    loom_s5_two_replace_one_name Some(1), Some(2), 100, [Mark("first")] => {
        let world = World::with_names(3, 3);
        let mut cache = strict(1);
        let [first, one, two] = [(); 3].map(|()| world.allocate(&mut cache, 1));
        Directory(world.heap.region()).publish(1, NAME, entry(first)).expect("it has room");
        let olds = Arc::new(Mutex::new(vec![]));
        let parts = [(1, one), (2, two)].map(|(owner, block)| {
            let olds = olds.clone();
            part(move |w: &World| {
                let old = Directory(w.heap.region()).replace(owner, NAME, entry(block)).expect("it has room");
                if old == Some(entry(first)) { mark("first") }
                olds.lock().unwrap().push(old.expect("there was one"));
            })
        });
        world.run(parts);
        let left = Directory(world.heap.region()).lookup(NAME).expect("it is published").block;
        let mut all = olds.lock().unwrap().clone();
        all.push(left);
        assert_eq!([first, one, two].map(entry).iter().filter(|one| all.contains(one)).count(), 3, "S5: each is \
            replaced once");
        assert!(Directory(world.heap.region()).withdraw(NAME) && !Directory(world.heap.region()).withdraw(NAME));
    }
}
