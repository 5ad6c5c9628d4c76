//! A channel between processes of which some are killed all the time: the books of what was sent, received
//! and freed balance.
//!
//! The books lie in a segment of their own, in words that a kill leaves as they are. `MATRIX_KILL_SECONDS`
//! lengthens the runs.

use crate::common::{Rng, Scratch, setting};
use atomic_matrix::Error;
use atomic_matrix::handlers::{Block, Handler, HandlerFunctions};
use atomic_matrix::ipc::{Message, Unreceived, Unsent};
use atomic_matrix::segment::Options;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use uuid::Uuid;

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
const STOP: usize = TWICE + 2;
const ALL: usize = TWICE + 3;
const NAME: &str = "numbers";

struct Books {
    handler: Handler,
    block: Block<[u64; ALL]>,
}

impl Books {
    fn word(&self, i: usize) -> &AtomicU64 {
        assert!(i < ALL);
        let first: *mut u64 = self.handler.resolve(&self.block.pointer()).cast();
        // SAFETY: in range of the live block; everybody accesses it atomically; the handler lives as long.
        unsafe { AtomicU64::from_ptr(first.add(i)) }
    }
    fn stopped(&self) -> bool {
        self.word(STOP).load(SeqCst) != 0
    }
}

/// What message `k` of a sender is made of: its length follows from `k`, each word from both.
fn words(life: u64, k: u64) -> impl Iterator<Item = u64> {
    (0..2 + k % 50)
        .map(move |i| if i == 0 { life << 32 | k } else { (life << 32 | k) ^ i.wrapping_mul(0x9E37_79B9_7F4A_7C15) })
}

#[test]
#[ignore = "a role: the tests of this file run it in processes of its own"]
fn channel_worker() {
    let Ok(segment) = std::env::var("MATRIX_CHANNEL_SEGMENT") else { return };
    let attach = |id: &str| Options::new().id(Uuid::parse_str(id).expect("an id")).attach().expect("it exists");
    let handler = attach(&segment);
    let side = attach(&std::env::var("MATRIX_CHANNEL_BOOKS").expect("said"));
    let block = side.lookup::<[u64; ALL]>("books").expect("published");
    let books = Books { handler: side, block };
    match setting("MATRIX_CHANNEL_LIFE", 0) {
        0 => receive(&handler, &books),
        life => send(&handler, &books, life),
    }
}

fn send(handler: &Handler, books: &Books, life: u64) {
    let sender = handler.channel::<[u64]>(NAME).open().and_then(|channel| channel.sender()).expect("it is there");
    let (begun, sent) = (books.word(BEGUN + life as usize), books.word(SENT + life as usize));
    for k in 0..EACH as u64 {
        let mut message = loop {
            match handler.message_slice::<u64>(words(life, k).count()) {
                Ok(message) => break message,
                Err(Error::OutOfMemory { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        message.iter_mut().zip(words(life, k)).for_each(|(word, value)| *word = value);
        begun.store(k + 1, SeqCst);
        // Nobody may be there to receive just now.
        let mut next: Option<Message<'_, [u64]>> = Some(message);
        while let Some(message) = next.take() {
            if let Err(refused) = sender.send_timeout(message, Duration::from_millis(100)) {
                assert!(matches!(refused.why, Unsent::Timeout | Unsent::Disconnected { .. }), "{refused:?}");
                if books.stopped() {
                    begun.store(k, SeqCst);
                    return;
                }
                next = Some(refused.message);
            }
        }
        sent.store(k + 1, SeqCst);
        if books.stopped() {
            return;
        }
    }
}

fn receive(handler: &Handler, books: &Books) {
    let slow = setting("MATRIX_CHANNEL_SLOW", 0) != 0;
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
fn note(books: &Books, message: &[u64]) {
    let (life, k) = (message[0] >> 32, message[0] & 0xFFFF_FFFF);
    if life as usize >= LIVES || k as usize >= EACH || !message.iter().copied().eq(words(life, k)) {
        books.word(TORN).fetch_add(1, SeqCst);
        return;
    }
    let bit = 1 << (k % 64);
    if books.word(BITS + life as usize * WORDS + k as usize / 64).fetch_or(bit, SeqCst) & bit != 0 {
        books.word(TWICE).fetch_add(1, SeqCst);
    }
}

struct Crew {
    heap: Scratch,
    side: Scratch,
    slow: bool,
}

impl Crew {
    fn spawn(&self, life: usize) -> Child {
        Command::new(std::env::current_exe().expect("this binary"))
            .args(["--ignored", "--exact", "channel::channel_worker"])
            .env("MATRIX_CHANNEL_SEGMENT", self.heap.0.to_string())
            .env("MATRIX_CHANNEL_BOOKS", self.side.0.to_string())
            .env("MATRIX_CHANNEL_LIFE", life.to_string())
            .env("MATRIX_CHANNEL_SLOW", u8::from(self.slow).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("spawned")
    }
}

/// Two senders and two receivers; those that `kills` allows are killed and replaced until the time is over.
fn run(slow: bool, kills_senders: bool, kills_receivers: bool) {
    let crew = Crew { heap: Scratch::new(), side: Scratch::new(), slow };
    let handler = crew.heap.options().size(2 << 20).create().expect("created");
    let side = crew.side.options().size(16 << 20).create().expect("created");
    let block = side.allocate::<[u64; ALL]>().expect("room");
    side.publish("books", &block).expect("published");
    let books = Books { block: side.lookup("books").expect("published"), handler: side };
    let channel = handler.channel::<[u64]>(NAME).capacity(16).create().expect("made");
    let mut random = Rng(setting("MATRIX_SEED", 7));
    let mut lives = 2;
    let mut workers = vec![(1, crew.spawn(1)), (2, crew.spawn(2)), (0, crew.spawn(0)), (0, crew.spawn(0))];
    let (mut killed_senders, mut killed_receivers) = (0, 0);
    let end = Instant::now() + Duration::from_secs(setting("MATRIX_KILL_SECONDS", 2));
    while Instant::now() < end && lives + 2 < LIVES {
        std::thread::sleep(Duration::from_millis(10 + random.below(30) as u64));
        let at = random.below(4);
        let is_sender = workers[at].0 != 0;
        if if is_sender { kills_senders } else { kills_receivers } {
            workers[at].1.kill().expect("it runs");
            workers[at].1.wait().expect("it has ended");
            let life = if is_sender {
                killed_senders += 1;
                lives += 1;
                lives
            } else {
                killed_receivers += 1;
                0
            };
            workers[at] = (life, crew.spawn(life));
        }
    }
    books.word(STOP).store(1, SeqCst);
    for (_, mut worker) in workers {
        assert!(worker.wait().expect("it has ended").success(), "a worker failed");
    }
    balance(&handler, channel, &books, killed_receivers);
    println!("{killed_senders} senders and {killed_receivers} receivers killed");
}

/// What was sent was received once and whole, but for what a killed receiver had in its hands; and all memory
/// is free again.
fn balance(handler: &Handler, channel: atomic_matrix::ipc::Channel<[u64]>, books: &Books, killed_receivers: u64) {
    handler.reap().expect("a slot");
    let receiver = channel.receiver().expect("a receiver");
    while let Ok(message) = receiver.try_recv() {
        note(books, &message);
    }
    assert_eq!(channel.ends(), (0, 1), "Q6: the dead are not counted");
    let (mut sent, mut lost, mut got) = (0, 0, 0);
    for life in 1..LIVES {
        let received = |k: u64| books.word(BITS + life * WORDS + k as usize / 64).load(SeqCst) >> (k % 64) & 1 == 1;
        let (begun, told) = (books.word(BEGUN + life).load(SeqCst), books.word(SENT + life).load(SeqCst));
        lost += (0..told).filter(|&k| !received(k)).count() as u64;
        got += (0..begun).filter(|&k| received(k)).count() as u64;
        sent += told;
        assert!((begun..EACH as u64).all(|k| !received(k)), "received what nobody sent");
    }
    println!("{sent} sent, {got} received, {lost} in the hands of {killed_receivers} killed receivers");
    assert_eq!((books.word(TWICE).load(SeqCst), books.word(TORN).load(SeqCst)), (0, 0), "Q1, S3: twice, torn");
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
