//! A channel between processes of which some are killed all the time: the books of what was sent, received
//! and freed balance.
//!
//! The books lie in a segment of their own, in words that a kill leaves as they are. `MATRIX_KILL_SECONDS`
//! lengthens the runs. *Frames* are messages of 64 KiB to 3 MiB, of which the memory has room for a few.

use crate::books::{Books, Crew, Length, SMALL, all_end, at_work, in_rounds, is_slow, pass_on, sign, whole};
use crate::common::Rng;
use crate::held::Times;
use atomic_matrix::Error;
use atomic_matrix::handlers::Handler;
use atomic_matrix::ipc::{Message, SendError, Unreceived, Unsent};
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

/// How long a sender waits for room, and a receiver for a message: longer than a nap.
const PATIENCE: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(300)];

/// 64 KiB to 3 MiB, as many of each power of two; not in their order.
const FRAME: Length = |k| {
    let random = k.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let least = (64 << 10 >> 3) << (random % 6);
    (least + random / 6 % least).min(3 << 20 >> 3)
};

#[test]
#[ignore = "a role: the tests of this file run it in processes of its own"]
fn channel_worker() {
    many(SMALL);
}

#[test]
#[ignore = "a role: the tests of this file run it in processes of its own"]
fn frame_worker() {
    many(FRAME);
}

fn many(length: Length) {
    let Some((handler, books, life)) = at_work::<ALL>() else { return };
    let channel = handler.channel::<[u64]>(NAME).open().expect("it is there");
    if life == 0 {
        let receiver = channel.receiver().expect("a receiver");
        return receive(&books, length, || receiver.try_recv(), || receiver.recv_timeout(PATIENCE[1]));
    }
    let sender = channel.sender().expect("a sender");
    send(
        &handler,
        &books,
        (life, length),
        |message| sender.try_send(message),
        |message| sender.send_timeout(message, PATIENCE[0]),
    );
}

/// The same with one sender and one receiver at a time: the others wait for the role.
#[test]
#[ignore = "a role: the tests of this file run it in processes of its own"]
fn single_worker() {
    let Some((handler, books, life)) = at_work::<ALL>() else { return };
    let channel = handler.channel::<[u64]>(NAME).single().open().expect("it is there");
    if life == 0 {
        let Some(receiver) = role(&books, || channel.receiver()) else { return };
        return receive(&books, SMALL, || receiver.try_recv(), || receiver.recv_timeout(PATIENCE[1]));
    }
    let Some(sender) = role(&books, || channel.sender()) else { return };
    send(
        &handler,
        &books,
        (life, SMALL),
        |message| sender.try_send(message),
        |message| sender.send_timeout(message, PATIENCE[0]),
    );
}

/// A role, as soon as its holder is dead. None if all shall end before.
fn role<T>(books: &Books<ALL>, mut wanted: impl FnMut() -> Result<T, Error>) -> Option<T> {
    while !books.stopped() {
        match wanted() {
            Ok(end) => return Some(end),
            Err(Error::RoleTaken { .. }) => std::thread::sleep(Duration::from_millis(2)),
            Err(error) => panic!("{error}"),
        }
    }
    None
}

type Sent<'h> = Result<(), SendError<'h, [u64]>>;
type Received<'r> = Result<Message<'r, [u64]>, Unreceived>;

fn send<'h>(
    handler: &'h Handler,
    books: &Books<ALL>,
    (life, length): (u64, Length),
    mut quickly: impl FnMut(Message<'h, [u64]>) -> Sent<'h>,
    mut patiently: impl FnMut(Message<'h, [u64]>) -> Sent<'h>,
) {
    let clocks = books.clocks();
    pass_on(handler, books, (life, EACH, length), [BEGUN, SENT], |message| {
        let refused = match clocks.timed(|| quickly(message)) {
            // Nobody may be there to receive just now.
            Err(refused) if refused.why == Unsent::Full => clocks.waits(|| patiently(refused.message)),
            done => done,
        };
        refused.map_err(|refused| {
            assert!(matches!(refused.why, Unsent::Timeout | Unsent::Disconnected { .. }), "{refused:?}");
            refused.message
        })
    });
}

fn receive<'r>(
    books: &Books<ALL>,
    length: Length,
    mut quickly: impl FnMut() -> Received<'r>,
    mut patiently: impl FnMut() -> Received<'r>,
) {
    let (slow, clocks) = (is_slow(), books.clocks());
    let since = |received: &Received<'r>| {
        let (life, k) = sign(received.as_ref().ok()?);
        clocks.since(life, k)
    };
    for k in 1_u64.. {
        let received = match clocks.timed(&mut quickly) {
            Err(Unreceived::Empty) => clocks.waits_for(&mut patiently, since),
            received => received,
        };
        match received {
            Ok(message) => {
                note(books, &message, length);
                if k.is_multiple_of(8) {
                    std::thread::yield_now();
                    let still = whole(&message, (LIVES, EACH, length)).is_some();
                    books.word(TORN).fetch_add(u64::from(!still), SeqCst);
                }
                clocks.heap(|| drop(message));
            }
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
fn note(books: &Books<ALL>, message: &[u64], length: Length) {
    match whole(message, (LIVES, EACH, length)) {
        None => _ = books.word(TORN).fetch_add(1, SeqCst),
        Some((life, k)) if books.tick(BITS + life * WORDS, k) => {}
        Some(_) => _ = books.word(TWICE).fetch_add(1, SeqCst),
    }
}

/// A sort of channel, and its workers.
struct Sort {
    role: &'static str,
    length: Length,
    /// Of the segment.
    size: usize,
    slow: bool,
}

const PLAIN: Sort = Sort { role: "channel::channel_worker", length: SMALL, size: 2 << 20, slow: false };
/// The ring is full most of the time.
const SLOW: Sort = Sort { slow: true, ..PLAIN };
const FRAMES: Sort = Sort { role: "channel::frame_worker", length: FRAME, size: 32 << 20, slow: false };

/// Two senders and two receivers; those that `kills` allows are killed and replaced, or stopped for a while, until the time is over or so
/// many were killed: how many.
fn round(sort: &Sort, [senders, receivers]: [bool; 2], limits: (u64, u64, Instant)) -> (u64, Times) {
    let (crew, books) = Crew::new::<ALL>(sort.role, sort.slow);
    let handler = crew.heap.options().size(sort.size).create().expect("created");
    let channel = handler.channel::<[u64]>(NAME).capacity(16).create().expect("made");
    let may = |life| if life != 0 { senders } else { receivers };
    let killed = at_once(&crew, &books, limits, may);
    handler.reap().expect("a slot");
    let receiver = channel.receiver().expect("a receiver");
    while let Ok(message) = receiver.try_recv() {
        note(&books, &message, sort.length);
    }
    assert_eq!(channel.ends(), (0, 1), "Q6: the dead are not counted");
    drop(receiver);
    channel.remove().expect("ours");
    drop(channel);
    balance(&handler, &books, killed)
}

/// The same with one sender and one receiver at a time; two more wait for the roles.
fn round_of_one(seed: u64, kills: u64, until: Instant) -> (u64, Times) {
    let (crew, books) = Crew::new::<ALL>("channel::single_worker", false);
    let handler = crew.heap.options().size(2 << 20).create().expect("created");
    let channel = handler.channel::<[u64]>(NAME).single().capacity(16).create().expect("made");
    let killed = at_once(&crew, &books, (seed, kills, until), |_| true);
    handler.reap().expect("a slot");
    let receiver = channel.receiver().expect("the dead one's role is free");
    while let Ok(message) = receiver.try_recv() {
        note(&books, &message, SMALL);
    }
    assert_eq!(channel.ends(), (0, 1), "Q6: the dead are not counted");
    drop(receiver);
    channel.remove().expect("ours");
    drop(channel);
    balance(&handler, &books, killed)
}

/// Workers at work, and how many senders and receivers were killed.
fn at_once(
    crew: &Crew,
    books: &Books<ALL>,
    (seed, kills, until): (u64, u64, Instant),
    may: impl Fn(u64) -> bool,
) -> [u64; 2] {
    let mut random = Rng(seed);
    let mut workers = [1, 2, 0, 0].map(|life| (life, crew.spawn(life)));
    let limits = (kills, until, LIVES - 2);
    let killed = crew.kills(books.clocks(), &mut workers, &mut random, limits, 10..40, may);
    all_end(books, workers.into_iter().map(|(_, worker)| worker));
    killed
}

/// What was sent was received once and whole, but for what a killed receiver had in its hands; and all memory
/// is free again. How many were killed.
fn balance(handler: &Handler, books: &Books<ALL>, [killed_senders, killed_receivers]: [u64; 2]) -> (u64, Times) {
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
    crate::common::rest_is_one_block(handler);
    println!("{killed_senders} senders and {killed_receivers} receivers killed");
    (killed_senders + killed_receivers, books.clocks().times())
}

fn run(what: &str, sort: &Sort, allowed: [bool; 2]) {
    in_rounds(what, |seed, kills, until| round(sort, allowed, (seed, kills, until)));
}

#[test]
fn q3_senders_are_killed() {
    run("channel, senders", &PLAIN, [true, false]);
}

#[test]
fn q3_receivers_are_killed() {
    run("channel, receivers", &PLAIN, [false, true]);
}

#[test]
fn q3_all_are_killed_while_the_ring_is_full() {
    run("channel, all", &SLOW, [true, true]);
}

#[test]
fn q3_all_are_killed_amid_frames() {
    run("channel, frames", &FRAMES, [true, true]);
}

#[test]
fn frames_are_of_every_size() {
    let lengths: Vec<u64> = (0..10_000).map(|k| 8 * FRAME(k)).collect();
    assert_eq!((lengths.iter().min(), lengths.iter().max()), (Some(&(64 << 10)), Some(&(3 << 20))));
}

#[test]
fn q3_the_one_sender_and_the_one_receiver_are_killed() {
    in_rounds("one sender, one receiver", round_of_one);
}
