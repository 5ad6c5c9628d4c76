//! Work that is delivered again: senders and workers are killed all the time, and every message
//! that was sent is done, at least once; and where workers send it on, it comes out exactly once.
//!
//! `MATRIX_KILL_SECONDS` lengthens the runs.

use crate::books::{Books, Crew, SMALL, all_end, at_work, in_rounds, is_slow, pass_on, sign, whole};
use crate::common::Rng;
use crate::held::{Stops, Times};
use atomic_matrix::handlers::Handler;
use atomic_matrix::ipc::{Channel, Delivery, Unreceived, Unsent};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// Senders that there may be one after the other, and messages that each sends at most.
const LIVES: usize = 512;
const EACH: usize = 1 << 17;
const WORDS: usize = EACH / 64;
/// Books: what each sender began to send, and what was sent when it looked; a bit for each message
/// that was done.
const BEGUN: usize = 0;
const SENT: usize = LIVES;
const BITS: usize = 2 * LIVES;
const TWICE: usize = BITS + LIVES * WORDS;
const TORN: usize = TWICE + 1;
const AGAIN: usize = TWICE + 2;
const ALL: usize = TWICE + 4;
const JOBS: &str = "jobs";
const DONE: &str = "done";
/// So many may be held at a time.
const HOLDS: u16 = 24;
const SOON: Duration = Duration::from_millis(50);
/// How long a worker waits for a message: longer than a nap.
const LONGER: Duration = Duration::from_millis(300);

#[test]
#[ignore = "a role: the tests of this file run it in processes of its own"]
fn work_worker() {
    let Some((handler, books, life)) = at_work::<ALL>() else { return };
    match life {
        0 => work(&handler, &books),
        life => send(&handler, &books, life),
    }
}

fn send(handler: &Handler, books: &Books<ALL>, life: u64) {
    let jobs = handler.channel::<[u64]>(JOBS).redeliver(HOLDS).open().expect("it is there");
    let sender = jobs.sender().expect("a sender");
    pass_on(handler, books, (life, EACH, SMALL), [BEGUN, SENT], |message| {
        // Nobody may be there to receive just now.
        let clocks = books.clocks();
        clocks.waits(|| sender.send_timeout(message, Duration::from_millis(100))).map_err(|refused| {
            assert!(matches!(refused.why, Unsent::Timeout | Unsent::Disconnected { .. }), "{refused:?}");
            refused.message
        })
    });
}

/// Does what it gets; holds some of it for a while, and gives some back. Or sends everything on.
fn work(handler: &Handler, books: &Books<ALL>) {
    let jobs = handler.channel::<[u64]>(JOBS).redeliver(HOLDS).open().expect("it is there");
    let worker = jobs.worker().expect("a worker");
    let done = handler.channel::<[u64]>(DONE).open().and_then(|done| done.sender()).expect("it is there");
    let mut held: Vec<Delivery<'_, [u64]>> = vec![];
    let clocks = books.clocks();
    let since = |received: &Result<Delivery<'_, [u64]>, Unreceived>| {
        let first = received.as_ref().ok().filter(|job| job.deliveries() == 1)?;
        let (life, k) = sign(first);
        clocks.since(life, k)
    };
    for k in 1_u64.. {
        match clocks.waits_for(|| worker.recv_timeout(LONGER), since) {
            Ok(job) if is_slow() => clocks.waits(|| job.forward(&done)).expect("the test receives"),
            Ok(job) => {
                note(books, &job, job.deliveries() > 1);
                match k % 8 {
                    0 => drop(job),
                    1..=3 => held.push(job),
                    _ => clocks.timed(|| job.ack()),
                }
                if held.len() == 4 {
                    held.drain(..).for_each(Delivery::ack);
                }
            }
            Err(Unreceived::Timeout | Unreceived::Disconnected { .. }) if books.stopped() => break,
            Err(Unreceived::Timeout | Unreceived::Disconnected { .. }) => {
                held.drain(..).for_each(Delivery::ack);
                std::thread::yield_now();
            }
            Err(why) => panic!("{why}"),
        }
    }
    held.drain(..).for_each(Delivery::ack);
}

/// Ticks a message off, which may be ticked off already only if it was delivered before.
fn note(books: &Books<ALL>, message: &[u64], again: bool) {
    books.word(AGAIN).fetch_add(again.into(), SeqCst);
    match whole(message, (LIVES, EACH, SMALL)) {
        None => _ = books.word(TORN).fetch_add(1, SeqCst),
        Some((life, k)) if books.tick(BITS + life * WORDS, k) || again => {}
        Some(_) => _ = books.word(TWICE).fetch_add(1, SeqCst),
    }
}

/// Two senders and two workers, of which some are killed and replaced, or stopped for a while.
fn round(forward: bool, (seed, kills, until): (u64, u64, Instant)) -> (u64, Times) {
    let (crew, books) = Crew::new::<ALL>("work::work_worker", forward);
    let handler = crew.heap.options().size(2 << 20).create().expect("created");
    let jobs = handler.channel::<[u64]>(JOBS).capacity(16).redeliver(HOLDS).create().expect("made");
    let done = handler.channel::<[u64]>(DONE).capacity(8).create().expect("made");
    let results = done.receiver().expect("a receiver");
    let mut random = Rng(seed);
    let over = AtomicBool::new(false);
    let killed = std::thread::scope(|scope| {
        // Until the workers have ended, who may wait for room to send on what is left.
        let _over = Stops(&over);
        scope.spawn(|| {
            // What comes out once is done once.
            loop {
                match results.recv_timeout(SOON) {
                    Ok(message) => note(&books, &message, false),
                    Err(Unreceived::Timeout | Unreceived::Disconnected { .. }) if over.load(SeqCst) => return,
                    Err(Unreceived::Timeout | Unreceived::Disconnected { .. }) => std::thread::sleep(SOON / 50),
                    Err(why) => panic!("{why}"),
                }
            }
        });
        let mut workers = [1, 2, 0, 0].map(|life| (life, crew.spawn(life)));
        let killed = crew.kills(books.clocks(), &mut workers, &mut random, (kills, until, LIVES - 2), 10..40, |_| true);
        all_end(&books, workers.into_iter().map(|(_, worker)| worker));
        killed
    });
    handler.reap().expect("a slot");
    let on = done.sender().expect("a sender");
    let worker = jobs.worker().expect("a worker");
    while let Ok(job) = worker.try_recv() {
        note(&books, &job, job.deliveries() > 1);
        job.ack();
    }
    results.try_iter().for_each(|message| note(&books, &message, false));
    drop((on, worker, results));
    println!("{} senders and {} workers killed", killed[0], killed[1]);
    balance(&handler, (jobs.unacknowledged(), jobs.ends()), &books);
    [jobs.remove(), done.remove()].into_iter().for_each(|removed| removed.expect("ours"));
    drop((jobs, done) as (_, Channel<[u64]>));
    crate::common::rest_is_one_block(&handler);
    (killed[0] + killed[1], books.clocks().times())
}

/// What was sent was done, all of it, and nothing is held; a message came a second time only with
/// its count.
fn balance(handler: &Handler, (held, ends): ((u64, u64), (u64, u64)), books: &Books<ALL>) {
    assert_eq!((held, ends), ((0, 0), (0, 0)), "Q6: the dead are not counted, and hold nothing");
    let (mut sent, mut lost, mut got) = (0, 0, 0);
    for life in 1..LIVES {
        let received = |k: u64| books.ticked(BITS + life * WORDS, k);
        let (begun, told) = (books.get(BEGUN + life), books.get(SENT + life));
        lost += (0..told).filter(|&k| !received(k)).count();
        got += (0..begun).filter(|&k| received(k)).count();
        sent += told;
        assert!((begun..EACH as u64).all(|k| !received(k)), "received what nobody sent");
    }
    println!("{sent} sent, {got} done, {} deliveries of what was delivered before", books.get(AGAIN));
    assert_eq!((books.get(TWICE), books.get(TORN)), (0, 0), "Q1, S3: twice, torn");
    assert_eq!(lost, 0, "Q3: messages lost");
    assert!(sent > 100 && handler.participants().iter().all(|one| one.alive), "nothing happened");
}

#[test]
fn q3_workers_are_killed_and_nothing_is_lost() {
    in_rounds("work", |seed, kills, until| round(false, (seed, kills, until)));
}

#[test]
fn q3_workers_that_send_on_are_killed_and_nothing_comes_twice() {
    in_rounds("work sent on", |seed, kills, until| round(true, (seed, kills, until)));
}
