//! 19: every exit from every structure: whoever leaves, and whoever dies, leaves nothing, and both ways are whole.

use crate::{LONG, common};
use atomic_matrix::handlers::Handler;
use atomic_matrix::ipc::Message;
use std::any::Any;

/// What somebody has in its hands of a structure; its owner is leaked, so that it may be dropped or not.
type Held = Box<dyn Any>;
/// A structure: made by who survives, used by who goes, removed.
type Structure = (&'static str, fn(&'static Handler) -> Held, fn(&'static Handler) -> Held, fn(&'static Handler));

/// A reference that is dropped by nobody.
fn kept<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Each is used as far as it goes: something is put in, something is in the hands of who goes, and something is waited for in vain.
const STRUCTURES: &[Structure] = &[
    (
        "channel",
        |handler| Box::new(handler.channel::<u64>("channel").create().expect("made")),
        |handler| {
            let channel = handler.channel::<u64>("channel").open().expect("made");
            let (sender, receiver) =
                (channel.sender().expect("a sender"), kept(channel.receiver().expect("a receiver")));
            (0..3).for_each(|k| sender.send_value(k).expect("room"));
            let message: Message<'static, u64> = receiver.recv().expect("it was sent");
            Box::new((sender, message, channel))
        },
        |handler| handler.channel::<u64>("channel").open().and_then(|it| it.remove()).expect("ours"),
    ),
    (
        "line",
        |handler| Box::new(handler.channel::<u64>("line").single().create().expect("made")),
        |handler| {
            let line = handler.channel::<u64>("line").single().open().expect("made");
            let (sender, receiver) = (line.sender().expect("a sender"), line.receiver().expect("a receiver"));
            (0..3).for_each(|k| sender.send_value(k).expect("room"));
            drop(receiver.recv().expect("it was sent"));
            Box::new((sender, receiver))
        },
        |handler| handler.channel::<u64>("line").single().open().and_then(|it| it.remove()).expect("ours"),
    ),
    (
        "topic",
        |handler| Box::new(handler.topic::<u64>("topic").cells(2).open_or_create().expect("made")),
        |handler| {
            let topic = handler.topic::<u64>("topic").open_or_create().expect("made");
            let subscriber = kept(topic.subscribe(0).expect("a place").into_samples());
            topic.publish_value(1).expect("room");
            Box::new((subscriber.try_next().expect("open").expect("it was published"), topic))
        },
        |handler| handler.topic::<u64>("topic").open_or_create().and_then(|it| it.remove()).expect("ours"),
    ),
    (
        "board",
        |handler| Box::new(handler.board::<u64>("board").expect("made")),
        |handler| {
            let board = handler.board::<u64>("board").expect("made");
            (0..9).for_each(|k| board.set(k).expect("room"));
            Box::new((handler.message_of(9_u64).expect("room"), board))
        },
        |handler| handler.board::<u64>("board").and_then(|it| it.remove()).expect("ours"),
    ),
    (
        "map",
        |handler| Box::new(handler.map::<u64>("map").open_or_create().expect("made")),
        |handler| {
            let map = kept(handler.map::<u64>("map").open_or_create().expect("made"));
            map.insert_value(b"one", 1).expect("room");
            map.insert_value(b"two", 2).expect("room");
            let read = map.get(b"one").expect("a guard").expect("it is there");
            Box::new((map.take(b"two").expect("a guard").expect("it is there"), read))
        },
        |handler| handler.map::<u64>("map").open_or_create().and_then(|it| it.remove()).expect("ours"),
    ),
    (
        "service",
        |handler| Box::new(handler.service::<u64, u64>("service").open_or_create().expect("made")),
        |handler| {
            let service = handler.service::<u64, u64>("service").open_or_create().expect("made");
            let (client, server) =
                (kept(service.client().expect("a client")), kept(service.server().expect("a server")));
            let responses = client.stream(client.request().expect("room"), LONG).expect("there is a server");
            Box::new((server.next_timeout(LONG).expect("it was sent"), responses))
        },
        |handler| handler.service::<u64, u64>("service").open_or_create().and_then(|it| it.remove()).expect("ours"),
    ),
    (
        "mutex",
        |handler| Box::new(handler.mutex::<u64>("mutex").expect("made")),
        |handler| {
            let mutex = kept(handler.mutex::<u64>("mutex").expect("made"));
            Box::new(mutex.lock(LONG).expect("a participant").expect("it is free"))
        },
        |handler| {
            let mutex = handler.mutex::<u64>("mutex").expect("made");
            assert!(mutex.lock(LONG).expect("a participant").is_some(), "whoever had it has gone");
            mutex.remove().expect("ours");
        },
    ),
];

/// Ends well, or dies as a process that is killed does; what was leaked to get there is leaked in both.
fn every_exit(dies: bool) {
    let scratch = common::Scratch::new();
    let made = scratch.options().size(common::MIB).create().expect("created");
    let handler = kept(made);
    for &(name, make, take_part, remove) in STRUCTURES {
        let ours = make(handler);
        // A thread of its own, whose slot and cache go with it.
        std::thread::scope(|scope| {
            let goes = scope.spawn(|| {
                let other = kept(scratch.attach());
                let held = take_part(other);
                if dies {
                    // SAFETY: no handle of it is used or dropped from here on.
                    unsafe { other.matrix().segment().end_life() };
                    std::mem::forget(held);
                } else {
                    drop(held);
                    // What was leaked above counts as in use, until its process ends.
                    // SAFETY: as above.
                    unsafe { other.matrix().segment().end_life() };
                }
            });
            goes.join().expect("it ends");
        });
        handler.reap().expect("a slot");
        remove(handler);
        drop(ours);
        handler.reap().expect("a slot");
        handler.heal().expect("a slot");
        let stats = handler.stats().expect("they tile");
        assert_eq!((stats.live_blocks, handler.names().len()), (0, 0), "{name}: dies: {dies}");
    }
    common::rest_is_one_block(handler);
}

#[test]
fn q3_q6_whoever_leaves_a_structure_leaves_nothing() {
    every_exit(false);
}

#[test]
fn q3_q6_whoever_dies_in_a_structure_leaves_nothing() {
    every_exit(true);
}
