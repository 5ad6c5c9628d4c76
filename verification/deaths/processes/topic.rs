//! A topic between processes of which some are killed or stopped all the time: who subscribes throughout gets each publication once,
//! whole and in its publisher's order, and so does everybody else from where they began; nothing is left.

use crate::books::{Books, Crew, SMALL, all_end, at_work, grows, in_rounds, pass_on, sign, whole};
use crate::common::Rng;
use crate::held::Times;
use atomic_matrix::handlers::Handler;
use atomic_matrix::ipc::{Subscriber, Unsent};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// Publishers that there may be one after the other, and messages that each publishes at most.
const LIVES: usize = 512;
const EACH: usize = 1 << 16;
const WORDS: usize = EACH / 64;
/// What each began to publish, and what was published when it looked; a bit for each that the one who stays has read.
const BEGUN: usize = 0;
const TOLD: usize = LIVES;
const BITS: usize = 2 * LIVES;
const WRONG: usize = BITS + LIVES * WORDS;
const READ: usize = WRONG + 1;
const ALL: usize = READ + 2;
const NAME: &str = "news";

#[test]
#[ignore = "a role: the tests of this file run it in processes of its own"]
fn topic_worker() {
    let Some((handler, books, life)) = at_work::<ALL>() else { return };
    let topic = handler.topic::<[u64]>(NAME).open_or_create().expect("it is there");
    match life {
        0 => {
            let mut last = vec![None; LIVES];
            let mut subscriber = topic.subscribe(0).expect("a cursor");
            while !books.stopped() {
                read(&books, &mut subscriber, &mut last);
            }
        }
        life => publish(&handler, &topic, &books, life),
    }
}

fn publish(handler: &Handler, topic: &atomic_matrix::ipc::Topic<[u64]>, books: &Books<ALL>, life: u64) {
    let clocks = books.clocks();
    pass_on(handler, books, (life, EACH, SMALL), [BEGUN, TOLD], |message| {
        let refused = match clocks.timed(|| topic.try_publish(message)) {
            Err(refused) if refused.why == Unsent::Full => {
                clocks.waits(|| topic.publish_timeout(refused.message, Duration::from_millis(100)))
            }
            done => done,
        };
        refused.map_err(|refused| {
            assert!(matches!(refused.why, Unsent::Timeout | Unsent::Full), "{refused:?}");
            refused.message
        })
    });
}

/// Reads on; whose it is and which, if there was one. Each publisher's come one after the other.
fn read(books: &Books<ALL>, subscriber: &mut Subscriber<[u64]>, last: &mut [Option<u64>]) -> Option<(usize, u64)> {
    let clocks = books.clocks();
    // Longer than a nap.
    let next = clocks.waits_for(
        || subscriber.next_timeout(Duration::from_millis(300)),
        |next| {
            let (life, k) = sign(next.as_ref().ok()?.as_ref()?);
            clocks.since(life, k)
        },
    );
    let news = next.expect("it is open")?;
    let found = whole(&news, (LIVES, EACH, SMALL));
    std::thread::yield_now();
    let in_order = found.is_some_and(|(life, k)| last[life].replace(k).is_none_or(|before| k == before + 1));
    if !in_order || whole(&news, (LIVES, EACH, SMALL)) != found {
        books.word(WRONG).fetch_add(1, SeqCst);
    }
    books.word(READ).fetch_add(1, SeqCst);
    found
}

/// Two publishers and two subscribers, killed and replaced, or stopped for a while, until the time is over or so many were killed: how many.
fn round(seed: u64, kills: u64, until: Instant) -> (u64, Times) {
    let (crew, books) = Crew::new::<ALL>("topic::topic_worker", false);
    let handler = crew.heap.options().size(2 << 20).create().expect("created");
    let topic = handler.topic::<[u64]>(NAME).cells(16).subscribers(8).open_or_create().expect("made");
    let mut stays = topic.subscribe(0).expect("a cursor");
    let mut random = Rng(seed);
    let mut killed = 0;
    let mut workers = [1, 2, 0, 0].map(|life| (life, crew.spawn(life)));
    std::thread::scope(|scope| {
        let books = &books;
        let reader = scope.spawn(move || {
            let mut last = vec![None; LIVES];
            while !books.stopped() {
                if let Some((life, k)) = read(books, &mut stays, &mut last)
                    && !books.tick(BITS + life * WORDS, k)
                {
                    books.word(WRONG).fetch_add(1, SeqCst);
                }
            }
            (last, stays)
        });
        killed = crew
            .kills(books.clocks(), &mut workers, &mut random, (kills, until, LIVES - 1), 5..30, |_| true)
            .iter()
            .sum();
        grows(books, READ, 100);
        all_end(books, workers.map(|(_, worker)| worker));
        let (mut last, mut stays) = reader.join().expect("it reads");
        handler.reap().expect("a slot");
        while let Some((life, k)) = read(books, &mut stays, &mut last) {
            assert!(books.tick(BITS + life * WORDS, k), "T1: twice");
        }
    });
    balance(&books, killed);
    topic.remove().expect("ours");
    drop(topic);
    crate::common::rest_is_one_block(&handler);
    (killed, books.clocks().times())
}

/// What was published was read once by who stayed, and nothing else.
fn balance(books: &Books<ALL>, killed: u64) {
    assert_eq!(books.get(WRONG), 0, "T1: torn, twice, or out of order");
    let mut published = 0;
    for life in 1..LIVES {
        let (begun, told) = (books.get(BEGUN + life), books.get(TOLD + life));
        let read = |k: u64| books.ticked(BITS + life * WORDS, k);
        assert!((0..told).all(read), "T1, Q3: publisher {life}'s are lost");
        assert!((begun..EACH as u64).all(|k| !read(k)), "read what nobody published");
        published += told;
    }
    assert!(published > 100, "nothing happened");
    println!("{published} published, {} read, {killed} killed", books.get(READ));
}

#[test]
fn t1_q3_publishers_and_subscribers_are_killed() {
    in_rounds("topic", round);
}
