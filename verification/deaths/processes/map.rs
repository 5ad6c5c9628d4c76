//! A map that several processes use, of which some are killed or stopped all the time: each value is whole,
//! one has what it takes, and nothing is left.
//!
//! Each worker numbers the values that it puts in. A value that was displaced is ticked off by whoever has
//! it; so each that was put in is ticked off once, is in the map at the end, or was in the hands of somebody
//! who was killed.

use crate::common::{Rng, Scratch, setting};
use atomic_matrix::Error;
use atomic_matrix::handlers::{Block, Handler, HandlerFunctions};
use atomic_matrix::ipc::Refused;
use atomic_matrix::segment::Options;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use uuid::Uuid;

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
const STOP: usize = TWICE + 3;
const ALL: usize = TWICE + 4;
const NAME: &str = "values";
const KEYS: u64 = 24;

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
    /// Whether a value is one that somebody put in; if so, whose and which.
    fn known(&self, value: &[u64]) -> Option<(usize, u64)> {
        let first = value.first().copied().unwrap_or(u64::MAX);
        let (life, k) = ((first >> 32) as usize, first & 0xFFFF_FFFF);
        let whole = life < LIVES && (k as usize) < EACH && value.iter().copied().eq(words(life as u64, k));
        if !whole {
            self.word(TORN).fetch_add(1, SeqCst);
        }
        whole.then_some((life, k))
    }
    /// Ticks off a value that was displaced.
    fn tick(&self, value: &[u64]) {
        if let Some((life, k)) = self.known(value) {
            let bit = 1 << (k % 64);
            if self.word(BITS + life * WORDS + k as usize / 64).fetch_or(bit, SeqCst) & bit != 0 {
                self.word(TWICE).fetch_add(1, SeqCst);
            }
        }
    }
}

fn words(life: u64, k: u64) -> impl Iterator<Item = u64> {
    let first = life << 32 | k;
    (0..2 + k % 40).map(move |i| if i == 0 { first } else { first ^ i.wrapping_mul(0x9E37_79B9_7F4A_7C15) })
}

#[test]
#[ignore = "a role: the tests of this file run it in processes of its own"]
fn map_worker() {
    let Ok(segment) = std::env::var("MATRIX_MAP_SEGMENT") else { return };
    let attach = |id: &str| Options::new().id(Uuid::parse_str(id).expect("an id")).attach().expect("it exists");
    let handler = attach(&segment);
    let side = attach(&std::env::var("MATRIX_MAP_BOOKS").expect("said"));
    let block = side.lookup::<[u64; ALL]>("books").expect("published");
    let books = Books { handler: side, block };
    let life = setting("MATRIX_MAP_LIFE", 1);
    let map = handler.map::<[u64]>(NAME).open_or_create().expect("it is there");
    let (begun, put) = (books.word(BEGUN + life as usize), books.word(PUT + life as usize));
    let mut random = Rng(life);
    let mut k = 0;
    while !books.stopped() {
        let key = (random.word() % KEYS).to_le_bytes();
        match random.below(4) {
            0 if (k as usize) < EACH => {
                let mut message = match map.message_slice(&key, words(life, k).count()) {
                    Ok(message) => message,
                    Err(Error::OutOfMemory { .. }) => continue,
                    Err(error) => panic!("{error}"),
                };
                message.iter_mut().zip(words(life, k)).for_each(|(word, value)| *word = value);
                begun.store(k + 1, SeqCst);
                match map.insert(&key, message) {
                    Ok(old) => old.iter().for_each(|old| books.tick(old)),
                    // Not put in, and freed: ticked off here.
                    Err(refused) => {
                        assert!(matches!(refused.why, Refused::Full | Refused::NoGuard), "{refused:?}");
                        books.tick(&refused.message);
                    }
                }
                k += 1;
                put.store(k, SeqCst);
            }
            1 => map.take(&key).ok().flatten().iter().for_each(|taken| books.tick(taken)),
            _ => {
                if let Ok(Some(value)) = map.get(&key) {
                    let first = books.known(&value);
                    std::thread::yield_now();
                    assert_eq!(books.known(&value), first, "M1: it changes while it is read");
                    books.word(READ).fetch_add(1, SeqCst);
                }
            }
        }
    }
}

struct Crew {
    heap: Scratch,
    side: Scratch,
}

impl Crew {
    fn spawn(&self, life: u64) -> Child {
        Command::new(std::env::current_exe().expect("this binary"))
            .args(["--ignored", "--exact", "map::map_worker"])
            .env("MATRIX_MAP_SEGMENT", self.heap.0.to_string())
            .env("MATRIX_MAP_BOOKS", self.side.0.to_string())
            .env("MATRIX_MAP_LIFE", life.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("spawned")
    }
}

pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("it is one");
    rustix::process::kill_process(pid, signal).expect("it is ours");
}

/// As many kills as `MATRIX_KILLS` says, in rounds of some hundreds; or for `MATRIX_KILL_SECONDS`, two by default.
pub(crate) fn in_rounds(round: impl Fn(u64, u64, Instant) -> u64) {
    let (seed, kills) = (setting("MATRIX_SEED", 7), setting("MATRIX_KILLS", 0));
    if kills == 0 {
        round(seed, u64::MAX, Instant::now() + Duration::from_secs(setting("MATRIX_KILL_SECONDS", 2)));
        return;
    }
    let (mut killed, mut rounds) = (0, 0);
    while killed < kills {
        rounds += 1;
        killed += round(seed + rounds, kills - killed, Instant::now() + Duration::from_secs(3600));
    }
    println!("{killed} kills in {rounds} rounds, all books balance");
}

/// Three workers, killed and replaced, or stopped for a while, until the time is over or so many were killed: how many.
fn round(seed: u64, kills: u64, end: Instant) -> u64 {
    let crew = Crew { heap: Scratch::new(), side: Scratch::new() };
    let handler = crew.heap.options().size(2 << 20).create().expect("created");
    let side = crew.side.options().size(8 << 20).create().expect("created");
    let block = side.allocate::<[u64; ALL]>().expect("room");
    side.publish("books", &block).expect("published");
    let books = Books { block: side.lookup("books").expect("published"), handler: side };
    // Two buckets.
    let map = handler.map::<[u64]>(NAME).capacity(4).guards(16).open_or_create().expect("made");
    let mut random = Rng(seed);
    let (mut lives, mut killed) = (3, 0);
    let mut workers: Vec<Child> = (1..=lives).map(|life| crew.spawn(life)).collect();
    while Instant::now() < end && killed < kills && (lives as usize) + 1 < LIVES {
        std::thread::sleep(Duration::from_millis(5 + random.below(30) as u64));
        let at = random.below(workers.len());
        if random.below(4) == 0 {
            stopped_for_a_while(&books, &workers[at]);
            continue;
        }
        workers[at].kill().expect("it runs");
        workers[at].wait().expect("it has ended");
        killed += 1;
        lives += 1;
        workers[at] = crew.spawn(lives);
    }
    // The last ones come to something before they end.
    let (read, patience) = (books.word(READ).load(SeqCst), Instant::now());
    while books.word(READ).load(SeqCst) < read + 100 && patience.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
    books.word(STOP).store(1, SeqCst);
    for mut worker in workers {
        assert!(worker.wait().expect("it has ended").success(), "a worker failed");
    }
    handler.reap().expect("a slot");
    balance(&books, &map, killed);
    map.remove().expect("ours");
    drop(map);
    crate::common::rest_is_one_block(&handler);
    killed
}

/// Stopped, not dead: others go on, and nothing of its is touched.
fn stopped_for_a_while(books: &Books, worker: &Child) {
    signal(worker, rustix::process::Signal::STOP);
    let before = books.word(READ).load(SeqCst);
    let waited = Instant::now();
    while books.word(READ).load(SeqCst) < before + 20 && waited.elapsed() < Duration::from_secs(10) {
        std::thread::yield_now();
    }
    assert!(books.word(READ).load(SeqCst) > before, "Q4: nobody reads while one is stopped");
    signal(worker, rustix::process::Signal::CONT);
}

#[test]
fn q3_users_of_a_map_are_killed() {
    in_rounds(round);
}

/// Each value that was put in was displaced once, or is there; but for what those who were killed had in their hands.
fn balance(books: &Books, map: &atomic_matrix::ipc::Map<[u64]>, kills: u64) {
    let there = map.keys().expect("a guard").len();
    assert_eq!(there, map.len(), "M2");
    for key in map.keys().expect("a guard") {
        books.tick(&map.take(&key).expect("a slot").expect("it is there"));
    }
    assert!(map.is_empty());
    let (mut put, mut lost, mut displaced) = (0, 0, 0);
    for life in 1..LIVES {
        let ticked = |k: u64| books.word(BITS + life * WORDS + k as usize / 64).load(SeqCst) >> (k % 64) & 1 == 1;
        let (begun, told) = (books.word(BEGUN + life).load(SeqCst), books.word(PUT + life).load(SeqCst));
        lost += (0..told).filter(|&k| !ticked(k)).count() as u64;
        displaced += (0..begun).filter(|&k| ticked(k)).count() as u64;
        put += told;
        assert!((begun..EACH as u64).all(|k| !ticked(k)), "M1: a value that nobody put in");
    }
    println!("{put} put in, {displaced} displaced or there, {lost} in the hands of {kills} killed");
    assert_eq!((books.word(TWICE).load(SeqCst), books.word(TORN).load(SeqCst)), (0, 0), "M1: twice, torn");
    assert!(lost <= kills, "Q3: {lost} values lost");
    assert!(put > 100 && books.word(READ).load(SeqCst) > 100, "nothing happened");
}
