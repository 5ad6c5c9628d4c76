//! Whatever puts something, or makes room, rings for those who sleep until then: none of them waits for the end of a
//! nap ([`NAP`](super::wait::NAP)), which would hide it.

use super::structure::{Role, Structure};
use super::testing::handler;
use crate::handlers::Handler;
use crate::segment::directory::Directory;
use std::time::Duration;

/// Whether one that sleeps in this role at the structure of that name was called meanwhile.
fn calls(handler: &Handler, name: &str, sleeper: Role, act: impl FnOnce()) -> bool {
    let heap = handler.matrix().heap();
    let found = Directory(heap.region()).find_unhelped(name.as_bytes()).expect("it has a name");
    let live = heap.live_of(handler.matrix().offsets().granule(found.offset), Some(found.generation));
    let bell = Structure::at(heap, live.expect("it is live")).expect("a structure").bell(sleeper);
    let counted = bell.count_in();
    act();
    let rung = bell.has_rung(counted);
    bell.leave(counted);
    rung
}

#[test]
fn q5_whoever_puts_or_takes_messages_rings() {
    let handler = handler();
    let channel = handler.channel::<u64>("channel").capacity(4).create().expect("made");
    let single = handler.channel::<u64>("single").capacity(4).single().create().expect("made");
    let jobs = handler.channel::<u64>("jobs").capacity(4).redeliver(2).create().expect("made");
    let message = || handler.message_of(7).expect("room");
    macro_rules! ends {
        ($name:literal, $channel:ident) => {{
            let (tx, rx) = ($channel.sender().expect("a sender"), $channel.receiver().expect("a receiver"));
            let (mut none, mut two, mut got) = (vec![], vec![message(), message()], vec![]);
            let rings = |sleeper, act: &mut dyn FnMut()| calls(&handler, $name, sleeper, act);
            assert!(rings(Role::Receiver, &mut || tx.send_value(1).expect("room")), "sent");
            assert!(rings(Role::Receiver, &mut || assert_eq!(tx.try_send_many(&mut two), Ok(2))), "a batch");
            assert!(!rings(Role::Receiver, &mut || assert_eq!(tx.try_send_many(&mut none), Ok(0))), "no batch");
            assert!(rings(Role::Sender, &mut || drop(rx.try_recv().expect("sent"))), "received");
            assert!(rings(Role::Sender, &mut || assert_eq!(rx.try_recv_many(9, &mut got), Ok(2))), "a batch");
            assert!(!rings(Role::Sender, &mut || assert!(rx.try_recv().is_err())), "nothing is received");
            drop(got);
            assert!(calls(&handler, $name, Role::Receiver, || drop(tx)), "the last sender leaves");
            assert!(calls(&handler, $name, Role::Sender, || drop(rx)), "the last receiver leaves");
            assert!(rings_of_both(&handler, $name, || $channel.close()), "closed");
        }};
    }
    ends!("channel", channel);
    ends!("single", single);
    let (tx, worker) = (jobs.sender().expect("a sender"), jobs.worker().expect("a worker"));
    tx.send_value(1).expect("room");
    let mut held = None;
    assert!(calls(&handler, "jobs", Role::Sender, || held = worker.try_recv().ok()), "received");
    assert!(calls(&handler, "jobs", Role::Receiver, || drop(held.take())), "given back");
}

fn rings_of_both(handler: &Handler, name: &str, act: impl FnOnce()) -> bool {
    let mut receivers = false;
    calls(handler, name, Role::Sender, || receivers = calls(handler, name, Role::Receiver, act)) && receivers
}

#[test]
fn q5_whoever_publishes_reads_or_gives_rings() {
    let handler = handler();
    let topic = handler.topic::<u64>("topic").cells(4).open_or_create().expect("made");
    let mut subscriber = topic.subscribe(0).expect("a place");
    assert!(calls(&handler, "topic", Role::Receiver, || topic.publish_value(1).expect("room")), "published");
    assert!(calls(&handler, "topic", Role::Sender, || drop(subscriber.try_next().expect("open"))), "read");
    assert!(calls(&handler, "topic", Role::Sender, || drop(subscriber)), "the subscriber leaves");

    let service = handler.service::<u64, u64>("service").open_or_create().expect("made");
    let (client, server) = (service.client().expect("a client"), service.server().expect("a server"));
    let mut asked = None;
    let ask = || asked = client.stream(handler.message_of(1).expect("room"), Duration::ZERO).ok();
    assert!(calls(&handler, "service", Role::Receiver, ask), "asked");
    assert!(calls(&handler, "service", Role::Sender, || drop(server.try_next())), "taken");
    drop(asked);

    let (event, desks) = (handler.event("event").expect("made"), handler.semaphore("desks", 0).expect("made"));
    let (gate, count) = (handler.barrier("gate", 1).expect("made"), handler.mutex::<u64>("count").expect("made"));
    let rings = |name, act: &mut dyn FnMut()| calls(&handler, name, Role::Receiver, act);
    assert!(rings("event", &mut || event.set().expect("ours")), "set");
    assert!(rings("desks", &mut || desks.give(1).expect("ours")), "given");
    assert!(rings("gate", &mut || assert!(gate.meet(Duration::ZERO).expect("ours").is_some())), "the last one comes");
    let mut locked = count.lock(Duration::ZERO).expect("ours");
    assert!(locked.is_some() && rings("count", &mut || drop(locked.take())), "unlocked");
}
