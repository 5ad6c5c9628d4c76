//! What a bridge promises, with both ends in this process: two segments, and two sessions joined by loopback.
#![allow(missing_docs)]

mod common;

use atomic_matrix::ipc::{Samples, Topic};
use atomic_matrix::{Handler, Options};
use atomic_matrix_zenoh::carry::{Carried, Carrier, Event, Sort, Way};
use common::{LONG, config, free_port, until};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use zenoh::{Session, Wait};

/// Two hosts, each of which has a segment and a session.
struct Pair {
    here: Handler,
    there: Handler,
    sessions: [Session; 2],
}

impl Pair {
    fn new() -> Self {
        let segment = || Options::new().memfd().size(4 << 20).create().expect("a memory file");
        let end = format!("tcp/127.0.0.1:{}", free_port());
        let open = |config| zenoh::open(config).wait().expect("loopback");
        let listens = open(config(Some(&end), None));
        Self { here: segment(), there: segment(), sessions: [listens, open(config(None, Some(&end)))] }
    }
    fn outward(&self, sort: Sort) -> Bridge {
        Bridge::start(&self.here, &self.sessions[0], Way::Out, sort)
    }
    fn inward(&self, sort: Sort) -> Bridge {
        Bridge::start(&self.there, &self.sessions[1], Way::In, sort)
    }
}

/// One way of a bridge, until it is dropped.
struct Bridge {
    stop: Arc<AtomicBool>,
    events: Arc<Mutex<Vec<Event>>>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Bridge {
    fn start(handler: &Handler, session: &Session, way: Way, sort: Sort) -> Self {
        Self::under(&Carried::key(sort, "numbers"), handler, session, way, sort)
    }
    fn under(key: &str, handler: &Handler, session: &Session, way: Way, sort: Sort) -> Self {
        let carried = Carried { way, sort, name: "numbers".to_owned(), key: key.to_owned(), cells: 8 };
        let (stop, events) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(vec![])));
        let (handler, session, stops, told) = (handler.clone(), session.clone(), stop.clone(), events.clone());
        let thread = std::thread::spawn(move || {
            let tell = |event| told.lock().expect("nobody panics").push(event);
            let carrier =
                Carrier { handler: &handler, session: &session, carried: &carried, stop: &stops, tell: &tell };
            carrier.run().map_err(|error| error.to_string())
        });
        Self { stop, events, thread: Some(thread) }
    }
    fn has_told(&self, event: Event) -> bool {
        self.events.lock().expect("nobody panics").contains(&event)
    }
    /// Why it has ended by itself.
    fn refused(mut self) -> String {
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("it does not panic").expect_err("it does not go on")
    }
    fn end(&mut self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), |thread| thread.join().expect("it does not panic"))
    }
}
impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn topic(handler: &Handler) -> Topic<[u8]> {
    handler.topic("numbers").cells(8).open_or_create().expect("there is room")
}

/// Publishes a number; false if nobody makes room.
fn publish(topic: &Topic<[u8]>, number: u8) -> bool {
    let message = topic.handler().message_from(&vec![number; 1 + usize::from(number)]).expect("there is room");
    topic.publish_timeout(message, Duration::from_secs(2)).is_ok()
}

/// The numbers that are published, as many as asked for.
fn read(samples: &Samples<[u8]>, many: usize) -> Vec<u8> {
    let next = |_| {
        let sample = samples.next_timeout(LONG).expect("it is open").expect("it comes");
        assert_eq!(sample.len(), 1 + usize::from(sample[0]));
        sample[0]
    };
    (0..many).map(next).collect()
}

fn nothing_more(samples: &Samples<[u8]>) {
    let more = samples.next_timeout(Duration::from_millis(300)).expect("it is open");
    assert_eq!(more.map(|sample| sample[0]), None);
}

#[test]
fn a_full_topic_there_holds_up_publishers_here() {
    let pair = Pair::new();
    let (here, there) = (topic(&pair.here), topic(&pair.there));
    let samples = there.subscribe(0).expect("there is a place").into_samples();
    let (outward, inward) = (pair.outward(Sort::Topic), pair.inward(Sort::Topic));
    assert!(publish(&here, 0));
    until("it carries", || there.published() == 1);
    let published = 1 + (1..100).take_while(|&number| publish(&here, number)).count();
    assert_eq!(published, 16, "eight there, and eight here");
    assert!(outward.has_told(Event::HeldUp) && !outward.has_told(Event::GoesOn));
    assert_eq!(read(&samples, 16), (0..16).collect::<Vec<_>>());
    until("it is told that it goes on", || outward.has_told(Event::GoesOn));
    assert!(publish(&here, 16));
    assert_eq!(read(&samples, 1), [16]);
    assert!(inward.has_told(Event::Carries(0)) && outward.has_told(Event::Carries(0)));
}

#[test]
fn nothing_is_lost_or_comes_twice_when_either_bridge_is_started_again() {
    let pair = Pair::new();
    let (here, there) = (topic(&pair.here), topic(&pair.there));
    let samples = there.subscribe(0).expect("there is a place").into_samples();
    let (mut outward, mut inward) = (pair.outward(Sort::Topic), pair.inward(Sort::Topic));
    for round in 0..6 {
        let numbers = [0, 1, 2, 3].map(|number| 4 * round + number);
        assert!(numbers[..2].iter().all(|&number| publish(&here, number)));
        match round % 3 {
            0 => drop(std::mem::replace(&mut outward, pair.outward(Sort::Topic))),
            1 => {
                drop(inward);
                inward = pair.inward(Sort::Topic);
            }
            _ => {
                drop((outward, inward));
                (outward, inward) = (pair.outward(Sort::Topic), pair.inward(Sort::Topic));
            }
        }
        assert!(numbers[2..].iter().all(|&number| publish(&here, number)));
        assert_eq!(read(&samples, 4), numbers);
    }
    nothing_more(&samples);
}

#[test]
fn what_an_inward_bridge_was_doing_when_it_was_killed_is_told_by_the_topic() {
    let pair = Pair::new();
    let (here, there) = (topic(&pair.here), topic(&pair.there));
    let samples = there.subscribe(0).expect("there is a place").into_samples();
    let board = pair.there.board::<[u64; 3]>("bridge numbers in").expect("there is room");
    let mut number = 0;
    // It writes what it is about to do, publishes, and answers: killed before it publishes, or after, but before the
    // answer arrives: an outward bridge that is started again as well has no answer, and all is there still.
    for published in [false, true, true, false] {
        let (outward, inward) = (pair.outward(Sort::Topic), pair.inward(Sort::Topic));
        assert!(publish(&here, number));
        assert_eq!(read(&samples, 1), [number]);
        drop((outward, inward));
        let [source, next, before] = board.get().expect("it is one").expect("it was set");
        let now = u64::from(number);
        // What it did last was that, or a greeting after it.
        assert!([(now, now), (now + 1, now + 1)].contains(&(next, before)), "{next} {before} after {now}");
        let state = if published { [source, now, now] } else { [source, now + 1, now + 1] };
        board.set(state).expect("there is room");
        number += 1;
    }
    let (_outward, inward) = (pair.outward(Sort::Topic), pair.inward(Sort::Topic));
    assert!(publish(&here, number));
    assert_eq!(read(&samples, 1), [number]);
    nothing_more(&samples);
    assert!(inward.has_told(Event::Carries(number.into())));
}

#[test]
fn what_a_topic_no_longer_has_is_told() {
    let pair = Pair::new();
    let (here, there) = (topic(&pair.here), topic(&pair.there));
    let samples = there.subscribe(0).expect("there is a place").into_samples();
    let (outward, inward) = (pair.outward(Sort::Topic), pair.inward(Sort::Topic));
    assert!((0..3).all(|number| publish(&here, number)));
    assert_eq!(read(&samples, 3), [0, 1, 2]);
    drop(outward);
    assert!((3..23).all(|number| publish(&here, number)), "nobody holds them up");
    let _outward = pair.outward(Sort::Topic);
    assert_eq!(read(&samples, 7), [16, 17, 18, 19, 20, 21, 22], "eight cells, less one");
    assert!(inward.has_told(Event::Missed(13)));
    nothing_more(&samples);
}

#[test]
fn a_topic_that_was_made_anew_begins_anew() {
    let pair = Pair::new();
    let (here, there) = (topic(&pair.here), topic(&pair.there));
    let samples = there.subscribe(0).expect("there is a place").into_samples();
    let (outward, inward) = (pair.outward(Sort::Topic), pair.inward(Sort::Topic));
    assert!((0..5).all(|number| publish(&here, number)));
    assert_eq!(read(&samples, 5), [0, 1, 2, 3, 4]);
    here.remove().expect("it is ours");
    let why = outward.refused();
    assert!(why.contains("removed"), "{why}");
    drop(here);
    let here = topic(&pair.here);
    assert!((50..52).all(|number| publish(&here, number)));
    let outward = pair.outward(Sort::Topic);
    assert_eq!(read(&samples, 2), [50, 51]);
    assert!(inward.has_told(Event::Another));
    // While no bridge is there, and with more in it than the one before ever had: in the same place, perhaps.
    drop(outward);
    here.remove().expect("it is ours");
    drop(here);
    let here = topic(&pair.here);
    assert!((60..67).all(|number| publish(&here, number)));
    let _outward = pair.outward(Sort::Topic);
    assert_eq!(read(&samples, 7), [60, 61, 62, 63, 64, 65, 66]);
    nothing_more(&samples);
}

#[test]
fn a_topic_that_was_made_anew_there_goes_on() {
    let pair = Pair::new();
    let (here, there) = (topic(&pair.here), topic(&pair.there));
    let samples = there.subscribe(0).expect("there is a place").into_samples();
    let (_outward, inward) = (pair.outward(Sort::Topic), pair.inward(Sort::Topic));
    assert!((0..3).all(|number| publish(&here, number)));
    assert_eq!(read(&samples, 3), [0, 1, 2]);
    there.remove().expect("it is ours");
    assert!((3..6).all(|number| publish(&here, number)));
    let why = inward.refused();
    assert!(why.contains("closed or removed"), "{why}");
    drop((samples, there));
    let there = topic(&pair.there);
    let samples = there.subscribe(0).expect("there is a place").into_samples();
    let _inward = pair.inward(Sort::Topic);
    assert_eq!(read(&samples, 3), [3, 4, 5], "what it could not put in was not acknowledged");
    nothing_more(&samples);
}

#[test]
fn two_hosts_under_one_key_are_told() {
    let pair = Pair::new();
    let third = Options::new().memfd().size(4 << 20).create().expect("a memory file");
    let (here, other, there) = (topic(&pair.here), topic(&third), topic(&pair.there));
    let samples = there.subscribe(0).expect("there is a place").into_samples();
    let (_outward, inward) = (pair.outward(Sort::Topic), pair.inward(Sort::Topic));
    let _other = Bridge::start(&third, &pair.sessions[0], Way::Out, Sort::Topic);
    assert!(publish(&here, 0));
    assert_eq!(read(&samples, 1), [0]);
    assert!(!inward.has_told(Event::Another));
    for number in [1, 2, 3, 4] {
        assert!(publish(if number % 2 == 0 { &here } else { &other }, number));
        assert_eq!(read(&samples, 1), [number]);
    }
    assert!(inward.has_told(Event::Another));
}

#[test]
fn what_is_not_of_one_kind_on_both_hosts_is_refused_or_told() {
    let pair = Pair::new();
    for handler in [&pair.here, &pair.there] {
        let _typed = handler.topic::<u64>("numbers").open_or_create().expect("there is room");
    }
    let refused = [pair.outward(Sort::Topic), pair.inward(Sort::Topic), pair.outward(Sort::Lossy)];
    for why in refused.map(Bridge::refused) {
        assert!(why.contains("\"numbers\"") && why.contains("u8"), "{why}");
    }
    for key in ["a/*", "**", "a/b$*"] {
        let why = Bridge::under(key, &pair.here, &pair.sessions[0], Way::Out, Sort::Topic).refused();
        assert!(why.contains("key of its own"), "{why}");
    }
    // A lossy way has nothing for a channel.
    let pair = Pair::new();
    let here = topic(&pair.here);
    let outward = Bridge::under("key", &pair.here, &pair.sessions[0], Way::Out, Sort::Lossy);
    let inward = Bridge::under("key", &pair.there, &pair.sessions[1], Way::In, Sort::Channel);
    until("it carries", || outward.has_told(Event::Carries(0)));
    until("it is told", || {
        assert!(publish(&here, 0));
        inward.has_told(Event::Missed(1))
    });
}

#[test]
fn a_channel_is_carried_in_its_order_and_only_if_it_redelivers() {
    let pair = Pair::new();
    let jobs = pair.here.channel::<[u8]>("numbers").redeliver(16).create().expect("there is room");
    let sender = jobs.sender().expect("there is a place");
    let send = |number: u8| {
        let message = pair.here.message_from(&[number]).expect("there is room");
        sender.send_timeout(message, LONG).map_err(|no| no.why).expect("there is room");
    };
    let inward = pair.inward(Sort::Channel);
    let mut outward = pair.outward(Sort::Channel);
    (0..50).for_each(send);
    let there = || pair.there.channel::<[u8]>("numbers").redeliver(16).open();
    until("it is made there", || there().is_ok());
    let worker = there().expect("it is there").worker().expect("there is a place");
    let receive = || {
        let mut number = None;
        until("it comes", || {
            // While no bridge is there it has no sender.
            let job = worker.recv_timeout(Duration::from_millis(100)).ok();
            job.is_some_and(|job| {
                number = Some(job[0]);
                job.ack();
                true
            })
        });
        number.expect("it came")
    };
    assert_eq!((0..50).map(|_| receive()).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    until("all are acknowledged here", || jobs.is_empty() && jobs.unacknowledged() == (0, 0));
    outward.end().expect("nothing is wrong");
    drop((outward, inward));
    let (_outward, _inward) = (pair.outward(Sort::Channel), pair.inward(Sort::Channel));
    (50..60).for_each(send);
    assert_eq!((0..10).map(|_| receive()).collect::<Vec<_>>(), (50..60).collect::<Vec<_>>());

    let plain = Pair::new();
    let _channel = plain.here.channel::<[u8]>("numbers").create().expect("there is room");
    let why = plain.outward(Sort::Channel).refused();
    assert!(why.contains("Redelivering") && why.contains("but is a channel"), "{why}");
}

#[test]
fn a_lossy_way_holds_nobody_up() {
    let pair = Pair::new();
    let (here, there) = (topic(&pair.here), topic(&pair.there));
    let samples = there.subscribe(0).expect("there is a place").into_samples();
    let (outward, inward) = (pair.outward(Sort::Lossy), pair.inward(Sort::Topic));
    until("both are there", || outward.has_told(Event::Carries(0)));
    let mut arrived = vec![];
    for number in 0..200 {
        assert!(publish(&here, number), "nobody reads there");
        std::thread::sleep(Duration::from_millis(2));
    }
    until("it is told what had no room", || inward.has_told(Event::Missed(1)));
    while let Some(sample) = samples.next_timeout(Duration::from_millis(300)).expect("it is open") {
        arrived.push(sample[0]);
    }
    assert!(arrived.len() >= 8 && arrived.is_sorted(), "{arrived:?}");
}

#[test]
fn one_bridge_at_a_time_carries_a_topic_in() {
    let pair = Pair::new();
    let (here, there) = (topic(&pair.here), topic(&pair.there));
    let samples = there.subscribe(0).expect("there is a place").into_samples();
    let (_outward, first) = (pair.outward(Sort::Topic), pair.inward(Sort::Topic));
    assert!(publish(&here, 0));
    assert_eq!(read(&samples, 1), [0]);
    let second = pair.inward(Sort::Topic);
    until("it waits", || second.has_told(Event::Waits));
    assert!(publish(&here, 1));
    assert_eq!(read(&samples, 1), [1]);
    drop(first);
    assert!(publish(&here, 2));
    assert_eq!(read(&samples, 1), [2]);
    nothing_more(&samples);
}
