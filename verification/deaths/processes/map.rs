//! A map that several processes use, of which some are killed or stopped all the time: each value is whole,
//! one has what it takes, and nothing is left.
//!
//! Each worker numbers the values that it puts in. A value that was displaced is ticked off by whoever has
//! it; so each that was put in is ticked off once, is in the map at the end, or was in the hands of somebody
//! who was killed.

use crate::books::{Books, Crew, MOST_AT_ONCE, SMALL, a_while, all_end, at_work, grows, in_rounds, stop, whole, words};
use crate::common::Rng;
use crate::held::Times;
use atomic_matrix::Error;
use atomic_matrix::ipc::Refused;
use std::process::Child;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// Workers that there may be one after the other, and values that each puts in at most.
const LIVES: usize = 512;
const EACH: usize = 1 << 16;
const WORDS: usize = EACH / 64;
/// Books: what each began to put in, and what was in when it looked; a bit for each value that was displaced.
const BEGUN: usize = 0;
const PUT: usize = LIVES;
const BITS: usize = 2 * LIVES;
const TWICE: usize = BITS + LIVES * WORDS;
const TORN: usize = TWICE + 1;
const READ: usize = TWICE + 2;
const ALL: usize = TWICE + 4;
const NAME: &str = "values";
const KEYS: u64 = 24;

impl Books<ALL> {
    /// Whether a value is one that somebody put in; if so, whose and which.
    fn known(&self, value: &[u64]) -> Option<(usize, u64)> {
        let known = whole(value, (LIVES, EACH, SMALL));
        if known.is_none() {
            self.word(TORN).fetch_add(1, SeqCst);
        }
        known
    }
    /// Ticks off a value that was displaced.
    fn displaced(&self, value: &[u64]) {
        if let Some((life, k)) = self.known(value)
            && !self.tick(BITS + life * WORDS, k)
        {
            self.word(TWICE).fetch_add(1, SeqCst);
        }
    }
}

#[test]
#[ignore = "a role: the tests of this file run it in processes of its own"]
fn map_worker() {
    let Some((handler, books, life)) = at_work::<ALL>() else { return };
    let map = handler.map::<[u64]>(NAME).open_or_create().expect("it is there");
    let (begun, put) = (books.word(BEGUN + life as usize), books.word(PUT + life as usize));
    let (mut random, clocks) = (Rng(life), books.clocks());
    let mut k = 0;
    while !books.stopped() {
        let key = (random.word() % KEYS).to_le_bytes();
        match random.below(4) {
            0 if (k as usize) < EACH => {
                let mut message = match clocks.heap(|| map.message_slice(&key, SMALL(k) as usize)) {
                    Ok(message) => message,
                    Err(Error::OutOfMemory { .. }) => continue,
                    Err(error) => panic!("{error}"),
                };
                message.iter_mut().zip(words(life, k, SMALL)).for_each(|(word, value)| *word = value);
                begun.store(k + 1, SeqCst);
                match clocks.timed(|| map.insert(&key, message)) {
                    Ok(old) => old.iter().for_each(|old| books.displaced(old)),
                    // Not put in, and freed: ticked off here.
                    Err(refused) => {
                        assert!(matches!(refused.why, Refused::Full | Refused::NoGuard), "{refused:?}");
                        books.displaced(&refused.message);
                    }
                }
                k += 1;
                put.store(k, SeqCst);
            }
            1 => clocks.timed(|| map.take(&key)).ok().flatten().iter().for_each(|taken| books.displaced(taken)),
            _ => {
                if let Ok(Some(value)) = clocks.timed(|| map.get(&key)) {
                    let first = books.known(&value);
                    std::thread::yield_now();
                    assert_eq!(books.known(&value), first, "M1: it changes while it is read");
                    books.word(READ).fetch_add(1, SeqCst);
                }
            }
        }
    }
}

/// Three workers, killed and replaced, or stopped for a while, until the time is over or so many were killed: how many.
fn round(seed: u64, kills: u64, end: Instant) -> (u64, Times) {
    let (crew, books) = Crew::new::<ALL>("map::map_worker", false);
    let handler = crew.heap.options().size(2 << 20).create().expect("created");
    // Two buckets.
    let map = handler.map::<[u64]>(NAME).capacity(4).guards(16).open_or_create().expect("made");
    let mut random = Rng(seed);
    let (mut lives, mut killed) = (3, 0);
    let mut workers = [1, 2, 3].map(|life| (life, crew.spawn(life)));
    while Instant::now() < end && killed < kills && lives as usize + MOST_AT_ONCE < LIVES {
        std::thread::sleep(Duration::from_millis(5 + random.below(30) as u64));
        let at = random.below(workers.len());
        if random.below(5) == 0 {
            stopped_for_a_while(&books, &workers[at].1, a_while(&mut random));
            continue;
        }
        let [all, _] = crew.kill_some(books.clocks(), &mut workers, &mut random, at, &mut lives, &|_| true);
        killed += all;
    }
    // The last ones come to something before they end.
    grows(&books, READ, 100);
    all_end(&books, workers.into_iter().map(|(_, worker)| worker));
    handler.reap().expect("a slot");
    balance(&books, &map, killed);
    map.remove().expect("ours");
    drop(map);
    crate::common::rest_is_one_block(&handler);
    (killed, books.clocks().times())
}

/// Stopped, not dead: others go on, and nothing of its is touched.
fn stopped_for_a_while(books: &Books<ALL>, worker: &Child, time: Duration) {
    let read = stop(books.clocks(), worker, || {
        let (before, waited) = (books.get(READ), Instant::now());
        while waited.elapsed() < time || books.get(READ) < before + 20 && waited.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_micros(100));
        }
        books.get(READ) - before
    });
    assert!(read > 0, "Q4: nobody reads while one is stopped");
}

#[test]
fn q3_users_of_a_map_are_killed() {
    in_rounds("map", round);
}

/// Each value that was put in was displaced once, or is there; but for what those who were killed had in their hands.
fn balance(books: &Books<ALL>, map: &atomic_matrix::ipc::Map<[u64]>, kills: u64) {
    let there = map.keys().expect("a guard").len();
    assert_eq!(there, map.len(), "M2");
    for key in map.keys().expect("a guard") {
        books.displaced(&map.take(&key).expect("a slot").expect("it is there"));
    }
    assert!(map.is_empty());
    let (mut put, mut lost, mut displaced) = (0, 0, 0);
    for life in 1..LIVES {
        let ticked = |k: u64| books.ticked(BITS + life * WORDS, k);
        let (begun, told) = (books.get(BEGUN + life), books.get(PUT + life));
        lost += (0..told).filter(|&k| !ticked(k)).count() as u64;
        displaced += (0..begun).filter(|&k| ticked(k)).count() as u64;
        put += told;
        assert!((begun..EACH as u64).all(|k| !ticked(k)), "M1: a value that nobody put in");
    }
    println!("{put} put in, {displaced} displaced or there, {lost} in the hands of {kills} killed");
    assert_eq!((books.get(TWICE), books.get(TORN)), (0, 0), "M1: twice, torn");
    assert!(lost <= kills, "Q3: {lost} values lost");
    assert!(put > 100 && books.get(READ) > 100, "nothing happened");
}
