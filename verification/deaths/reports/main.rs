//! What users of other libraries have reported, as tests of this one: the page `papers/reports.md` has all of them, with the
//! test of each. Here are those that no other file is about.
//!
//! Roles that need a process of their own are ignored tests, which [`support::child`] runs by name in a new process.

mod clock;
#[path = "../../support/common.rs"]
mod common;
mod exits;
mod page;
#[path = "../../api/segment/support.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod support;

use atomic_matrix::Error;
use atomic_matrix::handlers::Handler;
use atomic_matrix::ipc::Unsent;
use common::{MIB, Scratch};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Write};
use std::process::Child;
use std::time::{Duration, Instant};
use support::{argument, child, succeed};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(30);
/// How long somebody is stopped: many naps, and many times as long as what others take for a death.
const STOPPED: Duration = Duration::from_secs(2);

/// A process that runs a role, and is killed with the test if that fails.
struct Role(Option<Child>);

impl Role {
    /// Started, and so far that it has said READY.
    fn ready(role: &str, scratch: &Scratch) -> Self {
        let mut child = child(role, &scratch.0.to_string());
        let mut lines = BufReader::with_capacity(1, child.stdout.as_mut().expect("piped")).lines();
        if !lines.any(|line| line.expect("readable") == "READY") {
            panic!("{role} has ended: {}", succeed(child));
        }
        Self(Some(child))
    }
    fn signal(&self, signal: Signal) {
        let child = self.0.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("it is there");
    }
    /// It may go on, and ends well.
    fn ends(mut self) {
        let mut child = self.0.take().expect("it runs");
        child.stdin.as_mut().expect("piped").write_all(b"go on\n").expect("it waits");
        succeed(child);
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = (child.kill(), child.wait());
        }
    }
}

/// In a role: the segment that it was told.
fn told() -> Option<Handler> {
    Some(Scratch::attach(&std::mem::ManuallyDrop::new(Scratch(argument()?.parse().expect("an id")))))
}

/// In a role: says that it is ready, and waits until it may go on.
fn ready() {
    println!("\nREADY");
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
}

/// 5: a message on its way while its receiver sleeps, however long that is: no clock takes it away.
#[test]
fn q3_what_is_on_its_way_waits_for_who_sleeps() {
    let (scratch, handler) = common::segment();
    let channel = handler.channel::<[u64; 3]>("orders").create().expect("made");
    let sender = channel.sender().expect("a sender");
    let receiver = Role::ready("receives_later", &scratch);
    receiver.signal(Signal::STOP);
    sender.send_value([7, 8, 9]).expect("there is a receiver");
    let begun = Instant::now();
    while begun.elapsed() < STOPPED {
        // Whoever looks for the dead finds none.
        let recovered = handler.reap().expect("a slot");
        assert_eq!((recovered.participants, channel.len()), (0, 1));
        std::thread::sleep(SHORT);
    }
    receiver.signal(Signal::CONT);
    receiver.ends();
    assert!(channel.is_empty());
}

#[test]
#[ignore = "a role: receives when it is told to"]
fn receives_later() {
    let Some(handler) = told() else { return };
    let receiver = handler.channel::<[u64; 3]>("orders").open().and_then(|orders| orders.receiver()).expect("made");
    ready();
    assert_eq!(*receiver.recv_timeout(LONG).expect("it was sent"), [7, 8, 9]);
}

/// 20: whoever is slow keeps what it has: a lock, a role, its place in a topic. Nobody decides by a clock.
#[test]
fn c1_a_slow_owner_keeps_what_it_has() {
    let (scratch, handler) = common::segment();
    let mutex = handler.mutex::<u64>("state").expect("made");
    let line = handler.channel::<u64>("line").single().create().expect("made");
    let topic = handler.topic::<u64>("news").cells(1).subscribers(1).open_or_create().expect("made");
    let owner = Role::ready("is_slow", &scratch);
    topic.publish_value(1).expect("room");
    owner.signal(Signal::STOP);
    let begun = Instant::now();
    while begun.elapsed() < STOPPED {
        assert!(mutex.lock(Duration::from_millis(200)).expect("a participant").is_none());
        assert!(matches!(line.receiver(), Err(Error::RoleTaken { role: "receiver", .. })));
        assert!(matches!(topic.subscribe(0), Err(Error::NoSubscriberSlot { .. })));
        let refused = topic.publish_timeout(handler.message_of(2).expect("room"), SHORT);
        assert_eq!(refused.expect_err("it has not read the first").why, Unsent::Timeout);
        assert_eq!(handler.reap().expect("a slot").participants, 0);
    }
    owner.signal(Signal::CONT);
    owner.ends();
    let state = mutex.lock(LONG).expect("a participant").expect("it is free");
    assert_eq!((*state, state.is_poisoned()), (42, false), "its owner has finished");
}

#[test]
#[ignore = "a role: has a lock, a role and a place, and is slow"]
fn is_slow() {
    let Some(handler) = told() else { return };
    let mutex = handler.mutex::<u64>("state").expect("made");
    let line = handler.channel::<u64>("line").single().open().expect("made");
    let topic = handler.topic::<u64>("news").open_or_create().expect("made");
    let (_receiver, mut subscriber) = (line.receiver().expect("it is free"), topic.subscribe(0).expect("one place"));
    let mut state = mutex.lock(LONG).expect("a participant").expect("it is free");
    ready();
    *state = 42;
    assert_eq!(subscriber.try_next().expect("open").as_deref(), Some(&1));
}

/// 8: a publisher that waits for room goes on when the last subscriber leaves, and when it dies.
#[test]
fn t1_a_publisher_goes_on_when_the_last_subscriber_ends() {
    let (scratch, handler) = common::segment();
    let topic = handler.topic::<u64>("news").cells(1).open_or_create().expect("made");
    for dies in [false, true] {
        let other = scratch.attach();
        let theirs = other.topic::<u64>("news").open_or_create().expect("made");
        let subscriber = theirs.subscribe(0).expect("a place");
        topic.publish_value(1).expect("room");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| topic.publish_timeout(handler.message_of(2).expect("room"), LONG).is_ok());
            std::thread::sleep(SHORT);
            assert!(!waits.is_finished(), "it is full");
            if dies {
                // SAFETY: no handle of it is used or dropped from here on.
                unsafe { other.matrix().segment().end_life() };
                std::mem::forget((subscriber, theirs, other));
            } else {
                drop(subscriber);
            }
            assert!(waits.join().expect("it ends"), "dies: {dies}");
        });
    }
}

/// 7: a subscriber that comes again and again costs nothing.
#[test]
fn t1_a_subscriber_that_comes_a_hundred_thousand_times_costs_nothing() {
    let (_scratch, handler) = common::segment();
    let topic = handler.topic::<u64>("news").cells(4).subscribers(2).open_or_create().expect("made");
    let mut used = None;
    for k in 0..100_000 {
        let mut subscriber = topic.subscribe(0).expect("its last place is free");
        topic.publish_value(k).expect("everything was read");
        assert_eq!(subscriber.try_next().expect("open").as_deref(), Some(&k));
        drop(subscriber);
        if k % 10_000 == 9 {
            let now = handler.stats().expect("they tile").live_blocks;
            assert_eq!(*used.get_or_insert(now), now, "after {k}");
        }
    }
    topic.remove().expect("ours");
    drop(topic);
    common::rest_is_one_block(&handler);
}

/// 18: places that only the dead hold are given up before anybody is refused.
#[test]
fn t1_m1_places_of_the_dead_are_given_up_before_anybody_is_refused() {
    let (scratch, handler) = common::segment();
    let topic = handler.topic::<u64>("news").subscribers(2).open_or_create().expect("made");
    let map = handler.map::<u64>("settings").guards(3).open_or_create().expect("made");
    map.insert_value(b"one", 1).expect("a guard");
    for _ in 0..10 {
        let dying = scratch.attach();
        let theirs = (
            dying.topic::<u64>("news").open_or_create().expect("made"),
            dying.map::<u64>("settings").open_or_create().expect("made"),
        );
        // Leaked: their owner ends by dying.
        let (topic, map) = &*Box::leak(Box::new(theirs));
        let all = (
            [(); 2].map(|()| topic.subscribe(0).expect("the places of the dead are free")),
            [(); 2].map(|()| map.get(b"one").expect("the guards of the dead are free").expect("it is there")),
        );
        assert!(matches!(topic.subscribe(0), Err(Error::NoSubscriberSlot { .. })), "they live");
        std::mem::forget(all);
        // SAFETY: no handle of it is used or dropped from here on.
        unsafe { dying.matrix().segment().end_life() };
        std::mem::forget(dying);
    }
    let _both = [(); 2].map(|()| topic.subscribe(0).expect("the places of the dead are free"));
    let _all = [(); 3].map(|()| map.get(b"one").expect("the guards of the dead are free").expect("it is there"));
}

/// 14: however often something is announced without anybody who looks, nothing fills up.
#[test]
fn q5_ten_million_notifications_fill_nothing() {
    let handler = atomic_matrix::segment::Options::new().memfd().size(MIB).create().expect("a memory file");
    let event = handler.event("ready").expect("made");
    let board = handler.board::<u64>("latest").expect("made");
    let before = handler.stats().expect("they tile").live_blocks;
    for _ in 0..10_000_000 {
        event.set().expect("no fork");
    }
    for k in 0..100_000 {
        board.set(k).expect("the one before last goes");
    }
    assert!(event.wait_and_clear(Duration::ZERO).expect("no fork"), "it is set");
    assert!(!event.is_set().expect("no fork"), "once");
    assert_eq!(board.get().expect("readable"), Some(99_999));
    let now = handler.stats().expect("they tile").live_blocks;
    assert!(now <= before + 8, "{before} blocks before, {now} after: a board keeps its last few values");
}

/// 15: what is set, given, sent or published before anybody waits for it is there for whoever comes, although
/// its giver was killed meanwhile.
#[test]
fn q5_what_was_announced_before_anybody_waits_is_not_lost() {
    let (scratch, handler) = common::segment();
    let giver = Role::ready("announces", &scratch);
    giver.signal(Signal::KILL);
    drop(giver);
    assert!(handler.event("ready").and_then(|event| event.wait(LONG)).expect("made"));
    assert!(handler.semaphore("permits", 0).and_then(|permits| permits.take(LONG)).expect("made"));
    let orders = handler.channel::<u64>("orders").open().and_then(|orders| orders.receiver()).expect("made");
    assert_eq!(*orders.recv_timeout(LONG).expect("it was sent"), 7);
    let mut news = handler.topic::<u64>("news").open_or_create().and_then(|news| news.subscribe(1)).expect("made");
    assert_eq!(news.next_timeout(LONG).expect("open").as_deref(), Some(&8));
    assert_eq!(handler.board::<u64>("latest").and_then(|latest| latest.changed(&mut 0, LONG)).expect("made"), Some(9));
}

#[test]
#[ignore = "a role: announces, and is killed"]
fn announces() {
    let Some(handler) = told() else { return };
    handler.event("ready").and_then(|event| event.set()).expect("made");
    handler.semaphore("permits", 0).and_then(|permits| permits.give(1)).expect("made");
    let orders = handler.channel::<u64>("orders").create().expect("made");
    orders.sender().expect("a sender").send_value(7).expect("room");
    handler.topic::<u64>("news").open_or_create().and_then(|news| news.publish_value(8)).expect("made");
    handler.board::<u64>("latest").and_then(|latest| latest.set(9)).expect("made");
    ready();
}

/// 17: a process's descriptors do not grow with what is in the segment, nor with those who use it.
#[test]
fn descriptors_do_not_grow_with_structures_and_peers() {
    let scratch = Scratch::new();
    let _handler = scratch.options().size(16 * MIB).create().expect("created");
    let peers = [(); 4].map(|()| Role::ready("is_a_peer", &scratch));
    let counts = Role::ready("counts_its_descriptors", &scratch);
    counts.ends();
    peers.into_iter().for_each(Role::ends);
}

#[test]
#[ignore = "a role: uses a channel until it may end"]
fn is_a_peer() {
    let Some(handler) = told() else { return };
    let channel = handler.channel::<u64>("c0").open_or_create().expect("made");
    let _ends = (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"));
    ready();
}

#[test]
#[ignore = "a role: counts its descriptors"]
fn counts_its_descriptors() {
    let open = || std::fs::read_dir("/proc/self/fd").expect("readable").count();
    let before = open();
    let Some(handler) = told() else { return };
    let channels: Vec<_> = (0..40)
        .map(|k| {
            let channel = handler.channel::<u64>(&format!("c{k}")).capacity(4).open_or_create().expect("made");
            (channel.sender().expect("a sender"), channel.receiver().expect("a receiver"))
        })
        .collect();
    let topics: Vec<_> = (0..40)
        .map(|k| handler.topic::<u64>(&format!("t{k}")).cells(2).subscribers(1).open_or_create().expect("made"))
        .map(|topic| topic.subscribe(0).expect("a place"))
        .collect();
    let events: Vec<_> = (0..40).map(|k| handler.event(&format!("e{k}")).expect("made")).collect();
    assert_eq!(channels[1].1.recv_timeout(SHORT).err(), Some(atomic_matrix::ipc::Unreceived::Timeout));
    assert!(!events[0].wait(SHORT).expect("no fork"));
    assert!(handler.participants().len() > 4, "its peers are there");
    assert_eq!(open() - before, 1, "{} structures", channels.len() + topics.len() + events.len());
    ready();
}
