//! What holds for every structure: a forked child has no part in any, handles are counted, and what is gone
//! is in nobody's way.

use crate::common;
use crate::forked;
use atomic_matrix::Error;
use atomic_matrix::handlers::Handler;
use atomic_matrix::ipc::{Unreceived, Unsent};
use atomic_matrix::segment::Options;
use std::alloc::Layout;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(5);

/// Never dropped: what a forked child has of it is not dropped there.
fn leaked(handler: &Handler) -> &'static Handler {
    Box::leak(Box::new(handler.clone()))
}

#[test]
fn a_forked_child_has_no_part_in_any_structure() {
    let (_scratch, handler) = common::segment();
    let handler = leaked(&handler);
    let is = |refused: Option<Error>| matches!(refused, Some(Error::ForkedChild { .. }));

    let channel = handler.channel::<u64>("channel").create().expect("there is room");
    let (tx, rx) = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
    tx.send_value(1).expect("room");
    let message = std::cell::Cell::new(Some(handler.message_of(2u64).expect("room")));
    // Send and Sync are asked for, since the closure goes to another process: there is one thread there.
    let message = std::sync::Mutex::new(message);
    let child = channel.clone();
    forked("a channel", move || {
        let message = message.lock().expect("nobody panics").take().expect("it is there");
        let refused = tx.try_send(message).map_err(|refused| {
            let why = refused.why;
            std::mem::forget(refused);
            why
        });
        child.close();
        refused == Err(Unsent::NoParticipant)
            && rx.try_recv().err() == Some(Unreceived::NoParticipant)
            && rx.recv_timeout(SHORT).err() == Some(Unreceived::NoParticipant)
            && (child.len(), child.ends()) == (0, (0, 0))
            && is(child.sender().err())
            && is(child.receiver().err())
            && is(child.remove().err())
    });
    let rx = channel.receiver().expect("a receiver");
    assert_eq!(*rx.try_recv().expect("it is there, and not closed"), 1);

    let topic = handler.topic::<u64>("topic").open_or_create().expect("there is room");
    let mut subscriber = topic.subscribe(0).expect("there are places");
    topic.publish_value(1).expect("there is room");
    let parts = std::sync::Mutex::new((topic, subscriber));
    let act = move || {
        let (topic, subscriber) = &mut *parts.lock().expect("nobody panics");
        topic.published() == 0
            && is(topic.subscribe(0).err())
            && is(topic.publish_value(2).err())
            && is(subscriber.try_next().err())
            && is(subscriber.next_timeout(SHORT).err())
            && is(topic.remove().err())
    };
    forked("a topic", act);
    let topic = handler.topic::<u64>("topic").open_or_create().expect("it is there");
    assert_eq!(topic.published(), 1);
    subscriber = topic.subscribe(1).expect("there are places");
    assert_eq!(*subscriber.try_next().expect("it is open").expect("one is there"), 1);

    let board = handler.board::<u64>("board").expect("there is room");
    board.set(1).expect("there is room");
    forked("a board", move || {
        is(board.set(2).err())
            && is(board.get().err())
            && is(board.changed(&mut 0, SHORT).err())
            && is(board.remove().err())
    });
    assert_eq!(handler.board::<u64>("board").expect("it is there").get().expect("it is a board"), Some(1));

    let (event, semaphore) = (handler.event("event").expect("room"), handler.semaphore("semaphore", 1).expect("room"));
    let (barrier, mutex) = (handler.barrier("barrier", 1).expect("room"), handler.mutex::<u64>("mutex").expect("room"));
    let opened = (event.clone(), semaphore.clone(), mutex.clone());
    let in_common = handler.common::<u64>("common").expect("room");
    forked("what waits", move || {
        is(event.set().err())
            && is(event.clear().err())
            && is(event.is_set().err())
            && is(event.wait(SHORT).err())
            && is(event.wait_and_clear(SHORT).err())
            && is(event.remove().err())
            && is(semaphore.try_take().err())
            && is(semaphore.take(SHORT).err())
            && is(semaphore.give(1).err())
            && is(semaphore.available().err())
            && is(semaphore.remove().err())
            && is(barrier.meet(SHORT).err())
            && is(barrier.remove().err())
            && is(mutex.try_lock().err())
            && is(mutex.lock(SHORT).err())
            && is(mutex.remove().err())
            && is(in_common.get().err())
            && is(in_common.remove().err())
    });
    forked("open", move || {
        is(handler.channel::<u64>("channel").open().err())
            && is(handler.topic::<u64>("topic").open_or_create().err())
            && is(handler.board::<u64>("board").err())
            && is(handler.event("event").err())
            && is(handler.semaphore("semaphore", 1).err())
            && is(handler.barrier("barrier", 1).err())
            && is(handler.mutex::<u64>("mutex").err())
            && is(handler.common::<u64>("common").err())
    });
    let (event, semaphore, mutex) = opened;
    assert!(!event.is_set().expect("it is ours") && semaphore.try_take().expect("it is ours"));
    assert!(mutex.try_lock().expect("it is ours").is_some());
    assert_eq!(handler.names().len(), 8, "nothing was removed");
}

/// What cannot be counted is refused, and nothing else comes to be counted for it.
#[test]
fn handles_are_counted_as_far_as_they_can_be() {
    const MOST: usize = 0xFFFF;
    let handler = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    let channel = handler.channel::<u64>("channel").create().expect("there is room");
    let rx = channel.receiver().expect("a receiver");
    let senders: Vec<_> = (0..MOST).map(|_| channel.sender().expect("a sender")).collect();
    assert!(matches!(channel.sender(), Err(Error::TooManyHandles { most: 0xFFFF })));
    assert_eq!(channel.ends(), (MOST as u64, 1));
    drop(senders);
    assert_eq!(channel.ends(), (0, 1));
    assert_eq!(rx.try_recv().err(), Some(Unreceived::Disconnected { died: false }));
    let opened: Vec<_> = (1..MOST).map(|_| handler.channel::<u64>("channel").open().expect("it is there")).collect();
    assert!(matches!(handler.channel::<u64>("channel").open(), Err(Error::TooManyHandles { .. })));
    assert_eq!(channel.ends(), (0, 1));
    drop((opened, rx));
    channel.remove().expect("it is ours");
    drop(channel);
    assert_eq!(handler.stats().expect("they tile").live_blocks, 0, "it was freed after the last of them");
}

#[test]
fn cells_that_no_topic_has_are_refused() {
    let handler = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    for cells in [0, (1 << 20) + 1, usize::MAX] {
        let refused = handler.topic::<u64>("topic").cells(cells).open_or_create();
        assert!(matches!(refused, Err(Error::BadOption { .. })));
    }
}

/// What a subscriber reads where it lies, and what waits in a channel, can't be taken or freed by anybody else,
/// whatever leads to it.
#[test]
fn a_block_in_a_structure_is_that_structures_alone() {
    in_structures::<20>();
    in_structures::<2000>();
}

fn in_structures<const WORDS: usize>() {
    let handler = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    let topic = handler.topic::<[u64; WORDS]>("topic").open_or_create().expect("there is room");
    let channel = handler.channel::<[u64; WORDS]>("channel").create().expect("there is room");
    let (tx, rx) = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
    let mut subscriber = topic.subscribe(0).expect("there are places");
    topic.publish_value([7; WORDS]).expect("there is room");
    tx.send_value([8; WORDS]).expect("there is room");
    let reading = subscriber.try_next().expect("it is open").expect("one is there");
    let inside = |refused: Result<(), Error>| assert!(matches!(refused, Err(Error::InStructure { .. })), "{refused:?}");
    let references = handler.refs::<[u64; WORDS]>().expect("they tile");
    assert_eq!(references.len(), 2);
    for reference in references {
        inside(handler.take_ref(reference).map(drop));
        inside(handler.free_ref(reference));
        inside(handler.free_at(reference.offset()));
        inside(handler.adopt_at(reference.offset(), None).map(drop));
        let block = handler.get_block::<[u64; WORDS]>(reference.offset()).expect("it is one");
        inside(handler.hand_over(&block.pointer()));
        inside(handler.resize(block.pointer().cast(), Layout::new::<u64>()).map(drop));
        inside(handler.store_bytes(&block.pointer().cast(), &[1]));
        inside(handler.try_free(block));
        let mut block = handler.get_block::<[u64; WORDS]>(reference.offset()).expect("it is one");
        inside(handler.store(&mut block, [9; WORDS]));
        let block = handler.get_block::<[u64; WORDS]>(reference.offset()).expect("it is one");
        assert!(handler.publish("name", &block).is_err() && handler.names().len() == 2);
        assert!(handler.read_ref(reference).is_ok(), "it may be copied");
    }
    assert_eq!(*reading, [7; WORDS]);
    drop(reading);
    assert_eq!(*rx.try_recv().expect("it is there still"), [8; WORDS]);
    topic.remove().expect("it is ours");
    channel.remove().expect("it is ours");
}

/// Nor is a structure's own block anybody's to free, to take or to write, small or large.
#[test]
fn a_structures_own_block_is_freed_by_its_removal_alone() {
    let handler = Options::new().memfd().size(16 << 20).create().expect("a memory file");
    let channel = handler.channel::<u64>("channel").create().expect("there is room");
    let large = handler.channel::<u64>("large").capacity(1 << 16).create().expect("there is room");
    let topic = handler.topic::<u64>("topic").open_or_create().expect("there is room");
    let map = handler.map::<u64>("map").open_or_create().expect("there is room");
    let event = handler.event("event").expect("there is room");
    let names = handler.names();
    assert_eq!(names.len(), 5);
    let inside = |refused: Result<(), Error>| assert!(matches!(refused, Err(Error::InStructure { .. })), "{refused:?}");
    for name in names {
        let pointer = handler.pointer_at(name.offset, name.generation).expect("it is there");
        inside(handler.free_at(name.offset));
        inside(handler.free_raw(pointer));
        inside(handler.adopt_at(name.offset, Some(name.generation)).map(drop));
        inside(handler.hand_over(&pointer));
        inside(handler.resize(pointer, Layout::new::<u64>()).map(drop));
        inside(handler.store_bytes(&pointer, &[1]));
    }
    for channel in [&channel, &large] {
        channel.sender().expect("a sender").send_value(7).expect("it is open");
        assert_eq!(channel.receiver().expect("a receiver").try_recv().map(|number| *number), Ok(7));
    }
    channel.remove().expect("it is ours");
    large.remove().expect("it is ours");
    topic.remove().expect("it is ours");
    map.remove().expect("it is ours");
    event.remove().expect("it is ours");
    drop((channel, large, topic, map, event));
    assert_eq!(handler.verify().expect("sound").live_blocks, 0, "all are freed");
}

#[test]
fn what_structures_hold_is_looked_at_and_not_taken() {
    let (scratch, handler) = common::segment();
    assert_eq!(handler.structures().expect("sound"), []);
    let channel = handler.channel::<u64>("numbers").capacity(4).create().expect("there is room");
    let (tx, rx) = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
    (0..6).for_each(|k| {
        tx.send_value(k).expect("room");
        if k > 2 {
            assert_eq!(rx.try_recv().map(|number| *number), Ok(k - 3));
        }
    });
    let found = handler.structures().expect("sound");
    let seen: Vec<_> = handler.contents(&found[0], 64).into_iter().map(|one| (one.number, one.first[0])).collect();
    assert_eq!((found[0].depth, found[0].ever, seen), (3, Some(6), vec![(3, 3), (4, 4), (5, 5)]));
    assert_eq!(channel.len(), 3, "nothing was taken");
    let looker = scratch.attach_unreaped();
    assert_eq!(looker.structures().expect("sound"), found);
    channel.remove().expect("ours");
    assert!(handler.structures().expect("sound")[0].removed);
    drop((tx, rx, channel));
    assert_eq!((handler.contents(&found[0], 64), handler.structures().expect("sound")), (vec![], vec![]));
}
