//! Types with atomics, used where they lie: in messages, in what is published, and as values in common; and the calls
//! that take a value.
#![allow(clippy::disallowed_types, reason = "the words of users' own types, of which the heap has none")]

use crate::common;
use atomic_matrix::ipc::{Common, Unsent};
use atomic_matrix::segment::Options;
use atomic_matrix::{Error, Handler};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

atomic_matrix::in_place! {
    /// What has been done.
    struct Work { limit: u64, done: AtomicU64, by_size: [AtomicU32; 4] }
}
atomic_matrix::in_place! {
    #[repr(align(256))]
    struct Wide { bytes: [u8; 248], done: AtomicU64 }
}
atomic_matrix::in_place! {
    struct Large { done: AtomicU64, rest: [u64; 1 << 20] }
}

const THREADS: u64 = 4;
const ROUNDS: u64 = 2000;

fn count(work: &Work) {
    for round in 0..ROUNDS {
        work.done.fetch_add(1, Relaxed);
        work.by_size[round as usize % 4].fetch_add(1, Relaxed);
    }
}

fn whole(work: &Work) {
    assert_eq!(work.done.load(Relaxed), THREADS * ROUNDS);
    assert!(work.by_size.iter().all(|done| u64::from(done.load(Relaxed)) == THREADS * ROUNDS / 4));
}

fn nothing_is_live(handler: &Handler) {
    assert_eq!(handler.verify().expect("sound").live_blocks, 0);
}

#[test]
fn values_in_common_say_why_they_refuse() {
    let handler = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    assert!(matches!(handler.common::<Wide>("wide"), Err(Error::BadAlignment { .. })));
    assert!(matches!(handler.common_with::<Large>("large", |_| ()), Err(Error::TooLarge { .. })));
    assert!(matches!(handler.common::<Work>(""), Err(Error::BadOption { .. })));
    let made = handler.common::<Work>("work").expect("there is room");
    assert!(matches!(handler.common::<AtomicU64>("work"), Err(Error::TypeMismatch { .. })));
    assert!(matches!(handler.mutex::<u64>("work"), Err(Error::TypeMismatch { .. })));
    assert!(handler.names().iter().all(|name| name.name == "work"), "what was refused has left no name");
    let found = handler.structures().expect("they tile");
    assert_eq!((found[0].kind, found[0].capacity, found[0].depth), ("common", 1, 1));
    made.remove().expect("it is ours");
    drop(made);
    nothing_is_live(&handler);
}

/// Of several who come first at once one makes it, and all count in the same.
#[test]
fn a_value_in_common_is_one_for_all() {
    let (scratch, handler) = common::segment();
    let at_once = |handler: &Handler| -> Common<Work> {
        let made = handler.common_with::<Work>("work", |work| work.limit = 7).expect("there is room");
        assert_eq!(made.get().expect("no fork").limit, 7, "nobody sees it before it is filled");
        count(made.get().expect("no fork"));
        made
    };
    let others: Vec<_> = (0..THREADS).map(|_| scratch.attach()).collect();
    let mut made: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = others.iter().map(|other| scope.spawn(|| at_once(other))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    whole(made[0].get().expect("no fork"));
    whole(handler.common::<Work>("work").expect("it is there").get().expect("no fork"));
    // Removed, it is another's name, and theirs goes on.
    made[0].remove().expect("it is ours");
    let anew = handler.common::<Work>("work").expect("there is room");
    assert_eq!(anew.get().expect("no fork").limit, 0);
    whole(made[1].clone().get().expect("no fork"));
    anew.remove().expect("it is ours");
    made.clear();
    drop(anew);
    nothing_is_live(&handler);
}

/// Who dies leaves it as its last access did. What is half made when its maker panics is nobody's.
#[test]
fn a_value_in_common_outlives_its_users() {
    let (scratch, handler) = common::segment();
    let panics = || handler.common_with::<Work>("work", |_| std::panic::resume_unwind(Box::new(())));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
    assert!(handler.names().is_empty());
    let other = scratch.attach();
    let theirs = other.common_with::<Work>("work", |work| work.limit = 7).expect("there is room");
    theirs.get().expect("no fork").done.fetch_add(3, Relaxed);
    std::mem::forget(theirs);
    // SAFETY: nothing is done through this attachment any more.
    unsafe { other.matrix().segment().end_life() };
    std::mem::forget(other);
    handler.reap().expect("a slot");
    let ours = handler.common::<Work>("work").expect("it is there");
    let work = ours.get().expect("no fork");
    assert_eq!((work.limit, work.done.load(Relaxed)), (7, 3));
    ours.remove().expect("it is ours");
    drop(ours);
    nothing_is_live(&handler);
}

/// Whoever has a message writes all of it; those who share what was published count in it where it lies.
#[test]
fn atomics_are_used_where_a_message_lies() {
    let (scratch, handler) = common::segment();
    let published = handler.topic::<Work>("work").open_or_create().expect("there is room");
    let others: Vec<_> = (0..THREADS).map(|_| scratch.attach()).collect();
    let mut subscribers: Vec<_> = others
        .iter()
        .map(|other| other.topic::<Work>("work").open_or_create().expect("it is there").subscribe(0).expect("a place"))
        .collect();
    let mut message = handler.message::<Work>().expect("there is room");
    *message = Work { limit: 7, done: AtomicU64::new(0), by_size: Default::default() };
    message.limit = 8;
    published.try_publish(message).expect("there is room");
    std::thread::scope(|scope| {
        for subscriber in &mut subscribers {
            scope.spawn(|| {
                let read = subscriber.try_next().expect("it is open").expect("it is there");
                count(&read);
                std::mem::forget(read); // it stays at this one
            });
        }
    });
    let read = subscribers[0].try_next().expect("it is open").expect("it is there");
    whole(&read);
    assert_eq!(read.limit, 8);
    drop(read);
    subscribers.clear();
    // A map's, read by several; taken out, it is one's own again.
    let map = handler.map::<[AtomicU64]>("counters").open_or_create().expect("there is room");
    let mut counters = map.message_slice(b"all", 3).expect("there is room");
    counters.iter_mut().for_each(|counter| *counter.get_mut() = 0);
    map.insert(b"all", counters).expect("there is room");
    let (one, two) = (map.get(b"all").expect("a guard"), map.get(b"all").expect("a guard"));
    one.as_ref().expect("it is there")[2].fetch_add(1, Relaxed);
    two.as_ref().expect("it is there")[2].fetch_add(1, Relaxed);
    drop((one, two));
    let taken = map.take(b"all").expect("a guard").expect("it is there");
    assert_eq!(taken[2].load(Relaxed), 2);
    drop(taken);
    published.remove().expect("it is ours");
    map.remove().expect("it is ours");
    drop((published, map));
    nothing_is_live(&handler);
}

/// The calls that take a value allocate its message, and free it where it is not sent.
#[test]
fn values_that_are_not_sent_say_why() {
    const SHORT: Duration = Duration::from_millis(1);
    let handler = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    let full = |sent| matches!(sent, Err(Error::NotSent { why: Unsent::Full }));
    let over = |sent| matches!(sent, Err(Error::NotSent { why: Unsent::Timeout }));
    let channel = handler.channel::<u64>("channel").capacity(1).create().expect("there is room");
    let (sender, receiver) = (channel.sender().expect("room"), channel.receiver().expect("room"));
    sender.try_send_value(1).expect("there is room");
    assert!(full(sender.try_send_value(2)) && over(sender.send_value_timeout(3, SHORT)));
    assert_eq!(receiver.try_recv().map(|one| *one), Ok(1));
    sender.send_value_timeout(4, SHORT).expect("there is room");
    assert_eq!(receiver.try_recv().map(|four| *four), Ok(4));
    let topic = handler.topic::<u64>("topic").cells(1).open_or_create().expect("there is room");
    let mut subscriber = topic.subscribe(0).expect("a place");
    topic.publish_value_timeout(1, SHORT).expect("there is room");
    assert!(full(topic.publish_value(2)) && over(topic.publish_value_timeout(3, SHORT)));
    assert_eq!(subscriber.try_next().expect("it is open").as_deref(), Some(&1));
    let service = handler.service::<u64, u64>("twice").open_or_create().expect("there is room");
    let (client, server) = (service.client().expect("room"), service.server().expect("room"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let request = server.next().expect("one comes");
            let twice = *request * 2;
            request.respond_value(twice).expect("it is awaited");
            drop(server.next().expect("one comes"));
        });
        let long = Duration::from_secs(60);
        assert_eq!(client.call_value(21, long).map(|twice| *twice).ok(), Some(42));
        assert!(matches!(client.call_value(22, long).map(drop), Err(Error::CallFailed { .. })), "it is dropped");
    });
    let asked = client.stream(handler.message_of(1).expect("room"), SHORT).expect("room");
    let request = server.try_next().expect("it is there");
    drop(asked);
    assert!(matches!(request.respond_value(2), Err(Error::NotAnswered { .. })));
    channel.remove().and(topic.remove()).and(service.remove()).expect("no fork");
    drop((sender, receiver, channel, subscriber, topic, client, server, service));
    nothing_is_live(&handler);
}
