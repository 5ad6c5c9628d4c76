//! What users of other libraries have reported, as tests of this one: the page `papers/reports.md` has all of them, with the
//! test of each. Here are those that no other file is about.
//!
//! Roles that need a process of their own are ignored tests, which [`support::child`] runs by name in a new process.

mod asleep;
mod clock;
#[path = "../../support/common.rs"]
mod common;
mod exits;
#[cfg(target_arch = "x86_64")]
mod maker;
mod page;
mod room;
#[path = "../../api/segment/support.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod support;

use atomic_matrix::Error;
use atomic_matrix::handlers::Handler;
use atomic_matrix::ipc::{Failed, Message, Unsent};
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
/// How long somebody sleeps with a message on its way.
const ASLEEP: Duration = Duration::from_secs(10);

/// A process that runs a role, and is killed with the test if that fails; and what it said before it was ready.
struct Role(Option<Child>, Vec<String>);

impl Role {
    /// Started, and so far that it has said READY.
    fn ready(role: &str, scratch: &Scratch) -> Self {
        Self::ready_with(role, &scratch.0.to_string())
    }
    fn ready_with(role: &str, argument: &str) -> Self {
        let mut child = child(role, argument);
        let mut said = vec![];
        for line in BufReader::with_capacity(1, child.stdout.as_mut().expect("piped")).lines() {
            said.push(line.expect("readable"));
            if said.last().is_some_and(|line| line == "READY") {
                return Self(Some(child), said);
            }
        }
        panic!("{role} has ended: {}", succeed(child));
    }
    fn child(&self) -> &Child {
        self.0.as_ref().expect("it runs")
    }
    /// The thread that plays the role, which has said so.
    fn thread(&self) -> i32 {
        let number = self.1.iter().find_map(|line| line.strip_prefix("THREAD ")?.parse().ok());
        number.expect("it has said its number")
    }
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child()), signal).expect("it is there");
    }
    /// It may go on.
    fn tell(&mut self) -> &mut Child {
        let child = self.0.as_mut().expect("it runs");
        child.stdin.as_mut().expect("piped").write_all(b"go on\n").expect("it waits");
        child
    }
    /// It may go on, and ends well.
    fn ends(mut self) {
        self.tell();
        succeed(self.0.take().expect("it runs"));
    }
    /// It may go on: how it ends.
    fn goes_on(mut self) -> std::process::ExitStatus {
        self.tell().wait().expect("a child")
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
    attached(&argument()?)
}
fn attached(id: &str) -> Option<Handler> {
    Some(Scratch::attach(&std::mem::ManuallyDrop::new(Scratch(id.parse().expect("an id")))))
}

/// In a role: says that it is ready, and which thread it is.
fn says_ready() {
    println!("\nTHREAD {}\nREADY", rustix::thread::gettid().as_raw_nonzero());
}

/// In a role: says that it is ready, and waits until it may go on.
fn ready() {
    says_ready();
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
}

/// 5: what is on its way while its receiver sleeps, or is stopped, for longer than anybody's watchdog: no clock takes it away.
#[test]
fn q3_what_is_on_its_way_waits_for_who_sleeps() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(16 * MIB).create().expect("created");
    let [stopped, sleeps] = ["stopped", "sleeps"].map(|name| {
        let frames = handler.channel::<[u64]>(name).create().expect("made");
        let (topic, calls) = (format!("{name} news"), format!("{name} calls"));
        let topic = handler.topic::<[u64]>(&topic).open_or_create().expect("made");
        let service = handler.service::<[u64], u64>(&calls).open_or_create().expect("made");
        let receiver = Role::ready_with("receives_later", &format!("{} {name}", scratch.0));
        (frames, topic, service, receiver)
    });
    stopped.3.signal(Signal::STOP);
    for (frames, topic, service, _) in [&stopped, &sleeps] {
        let sender = frames.sender().expect("a sender");
        SIZES.iter().for_each(|&size| sender.send(values(&handler, size)).expect("there is a receiver"));
        topic.try_publish(values(&handler, 5)).expect("room");
        let client = service.client().expect("a client");
        let call = client.call(values(&handler, 3), SHORT).expect_err("nobody answers so soon");
        assert_eq!(call.why, Failed::Timeout);
    }
    let begun = Instant::now();
    let clients = [&stopped, &sleeps].map(|(_, _, service, _)| service.client().expect("a client"));
    std::thread::scope(|scope| {
        let waits = clients.each_ref().map(|client| {
            scope.spawn(|| client.call(values(&handler, 7), LONG).map(|response| *response).expect("it is answered"))
        });
        while begun.elapsed() < ASLEEP {
            // Whoever looks for the dead finds none.
            let recovered = handler.reap().expect("a slot");
            assert_eq!((recovered.participants, stopped.0.len(), sleeps.0.len()), (0, SIZES.len(), SIZES.len()));
            std::thread::sleep(SHORT);
        }
        stopped.3.signal(Signal::CONT);
        [stopped.3, sleeps.3].into_iter().for_each(Role::ends);
        waits.into_iter().for_each(|wait| assert_eq!(wait.join().expect("it ends"), 7));
    });
    assert!(stopped.0.is_empty() && sleeps.0.is_empty());
}

/// Words of the messages: of a line, of half a page, of a large block.
const SIZES: [u64; 3] = [3, 300, 3 << 17];

fn values(handler: &Handler, size: u64) -> Message<'_, [u64]> {
    let mut message = handler.message_slice(size as usize).expect("room");
    message.iter_mut().zip(size..).for_each(|(word, value)| *word = value);
    message
}
fn are_whole(message: &[u64], size: u64) {
    assert!(message.iter().copied().eq(size..2 * size), "{} of {size} words", message.len());
}

#[test]
#[ignore = "a role: receives when it is told to"]
fn receives_later() {
    let Some(argument) = argument() else { return };
    let (id, name) = argument.split_once(' ').expect("two words");
    let handler = attached(id).expect("it is there");
    let receiver = handler.channel::<[u64]>(name).open().and_then(|orders| orders.receiver()).expect("made");
    let topic = handler.topic::<[u64]>(&format!("{name} news")).open_or_create().expect("made");
    let mut subscriber = topic.subscribe(0).expect("a place");
    let service = handler.service::<[u64], u64>(&format!("{name} calls")).open_or_create().expect("made");
    let server = service.server().expect("a server");
    ready();
    SIZES.iter().for_each(|&size| are_whole(&receiver.recv_timeout(LONG).expect("it was sent"), size));
    are_whole(&subscriber.next_timeout(LONG).expect("open").expect("it was published"), 5);
    // Of the two calls one was given up.
    let request = server.next_timeout(LONG).expect("it was sent");
    are_whole(&request, 7);
    let mut response = request.response().expect("room");
    *response = 7;
    request.respond(response).expect("it is waited for");
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
