//! A channel between processes of which some are killed all the time: the books of what was sent, received
//! and freed balance.
//!
//! The books lie in a segment of their own, in words that a kill leaves as they are. `MATRIX_KILL_SECONDS`
//! lengthens the runs.

use crate::books::{Books, Crew, all_end, at_work, in_rounds, is_slow, pass_on, whole};
use crate::common::Rng;
use atomic_matrix::handlers::Handler;
use atomic_matrix::ipc::{Unreceived, Unsent};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// Senders that there may be one after the other, and messages that each sends at most.
const LIVES: usize = 512;
const EACH: usize = 1 << 17;
const WORDS: usize = EACH / 64;
/// Books: what each sender began to send, and what was sent when it looked; a bit for each message received.
const BEGUN: usize = 0;
const SENT: usize = LIVES;
const BITS: usize = 2 * LIVES;
const TWICE: usize = BITS + LIVES * WORDS;
const TORN: usize = TWICE + 1;
const ALL: usize = TWICE + 3;
const NAME: &str = "numbers";

#[test]
#[ignore = "a role: the tests of this file run it in processes of its own"]
fn channel_worker() {
    let Some((handler, books, life)) = at_work::<ALL>() else { return };
    match life {
        0 => receive(&handler, &books),
        life => send(&handler, &books, life),
    }
}

fn send(handler: &Handler, books: &Books<ALL>, life: u64) {
    let sender = handler.channel::<[u64]>(NAME).open().and_then(|channel| channel.sender()).expect("it is there");
    pass_on(handler, books, (life, EACH), [BEGUN, SENT], |message| {
        // Nobody may be there to receive just now.
        sender.send_timeout(message, Duration::from_millis(100)).map_err(|refused| {
            assert!(matches!(refused.why, Unsent::Timeout | Unsent::Disconnected { .. }), "{refused:?}");
            refused.message
        })
    });
}

fn receive(handler: &Handler, books: &Books<ALL>) {
    let slow = is_slow();
    let receiver = handler.channel::<[u64]>(NAME).open().and_then(|channel| channel.receiver()).expect("it is there");
    for k in 1_u64.. {
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(message) => note(books, &message),
            Err(Unreceived::Timeout | Unreceived::Disconnected { .. }) if books.stopped() => return,
            Err(Unreceived::Timeout | Unreceived::Disconnected { .. }) => std::thread::yield_now(),
            Err(why) => panic!("{why}"),
        }
        if slow && k.is_multiple_of(8) {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Ticks a message off.
fn note(books: &Books<ALL>, message: &[u64]) {
    match whole(message, LIVES, EACH) {
        None => _ = books.word(TORN).fetch_add(1, SeqCst),
        Some((life, k)) if books.tick(BITS + life * WORDS, k) => {}
        Some(_) => _ = books.word(TWICE).fetch_add(1, SeqCst),
    }
}

/// Two senders and two receivers; those that `kills` allows are killed and replaced, or stopped for a while, until the time is over or so
/// many were killed: how many.
fn round(slow: bool, [senders, receivers]: [bool; 2], (seed, kills, until): (u64, u64, Instant)) -> u64 {
    let (crew, books) = Crew::new::<ALL>("channel::channel_worker", slow);
    let handler = crew.heap.options().size(2 << 20).create().expect("created");
    let channel = handler.channel::<[u64]>(NAME).capacity(16).create().expect("made");
    let mut random = Rng(seed);
    let mut workers = [1, 2, 0, 0].map(|life| (life, crew.spawn(life)));
    let may = |life| if life != 0 { senders } else { receivers };
    let [killed_senders, killed_receivers] =
        crew.kills(&mut workers, &mut random, (kills, until, LIVES - 2), 10..40, may);
    all_end(&books, workers.into_iter().map(|(_, worker)| worker));
    balance(&handler, channel, &books, killed_receivers);
    println!("{killed_senders} senders and {killed_receivers} receivers killed");
    killed_senders + killed_receivers
}

fn run(slow: bool, senders: bool, receivers: bool) {
    in_rounds(|seed, kills, until| round(slow, [senders, receivers], (seed, kills, until)));
}

/// What was sent was received once and whole, but for what a killed receiver had in its hands; and all memory
/// is free again.
fn balance(handler: &Handler, channel: atomic_matrix::ipc::Channel<[u64]>, books: &Books<ALL>, killed_receivers: u64) {
    handler.reap().expect("a slot");
    let receiver = channel.receiver().expect("a receiver");
    while let Ok(message) = receiver.try_recv() {
        note(books, &message);
    }
    assert_eq!(channel.ends(), (0, 1), "Q6: the dead are not counted");
    let (mut sent, mut lost, mut got) = (0, 0, 0);
    for life in 1..LIVES {
        let received = |k: u64| books.ticked(BITS + life * WORDS, k);
        let (begun, told) = (books.get(BEGUN + life), books.get(SENT + life));
        lost += (0..told).filter(|&k| !received(k)).count() as u64;
        got += (0..begun).filter(|&k| received(k)).count() as u64;
        sent += told;
        assert!((begun..EACH as u64).all(|k| !received(k)), "received what nobody sent");
    }
    println!("{sent} sent, {got} received, {lost} in the hands of {killed_receivers} killed receivers");
    assert_eq!((books.get(TWICE), books.get(TORN)), (0, 0), "Q1, S3: twice, torn");
    assert!(lost <= killed_receivers, "Q3: {lost} messages lost");
    assert!(sent > 100, "nothing happened");
    drop(receiver);
    channel.remove().expect("ours");
    drop(channel);
    crate::common::rest_is_one_block(handler);
}

#[test]
fn q3_senders_are_killed() {
    run(false, true, false);
}

#[test]
fn q3_receivers_are_killed() {
    run(false, false, true);
}

#[test]
fn q3_all_are_killed_while_the_ring_is_full() {
    run(true, true, true);
}
