//! What the feature `check` offers to structures of one's own finds what it says: small structures with a
//! fault each, and the same without it.
#![allow(missing_docs)]

mod search;

use atomic_matrix::backend::Backend;
use atomic_matrix::check::turns::{Player, Scheduled, Scheduling, play};
use atomic_matrix::check::{Failure, Scenario, explore, explore_kills, store_buffers};
use atomic_matrix::memory::{Memory, Site, Word};
use fastrand::Rng;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MAKE: Site = Site::own("MAKE", Relaxed, "nobody has seen it");
const LOOK: Site = Site::own("LOOK", Acquire, "PUT");
const PUT: Site = Site::own("PUT", Release, "LOOK");
const SWAP: Site = Site::own("SWAP", AcqRel, "SWAP of others");
const FENCE: Site = Site::own("FENCE", SeqCst, "FENCE of others");

/// Two threads do the same with one block of some words, which are 0 at first.
struct Two<T, E> {
    thread: T,
    end: E,
}

/// What a thread of [`Two`] does.
trait Part: Send + Sync + 'static {
    fn play<M: Memory>(&self, number: usize, memory: &M, block: u32) -> u64;
}

impl<T: Part, E: Fn(&[u64], &[Option<u64>], u64) + Send + Sync + 'static> Scenario for Two<T, E> {
    type Shared = u32;
    type Outcome = u64;
    fn threads(&self) -> usize {
        2
    }
    fn begin<M: Memory>(&self, memory: &M) -> u32 {
        let block = memory.allocate(4).expect("room");
        (0..4).for_each(|at| memory.word(block, at).store(0, &MAKE));
        block
    }
    fn thread<M: Memory>(&self, number: usize, memory: &M, block: &u32) -> u64 {
        self.thread.play(number, memory, *block)
    }
    fn end<M: Memory>(&self, memory: &M, block: &u32, outcomes: &[Option<u64>]) {
        let words: Vec<u64> = (0..4).map(|at| memory.word(*block, at).load(&LOOK)).collect();
        (self.end)(&words, outcomes, memory.live());
    }
}

/// Says that it is here and looks whether the other is, with a fence in between or without.
struct Dekker {
    fenced: bool,
}
impl Part for Dekker {
    fn play<M: Memory>(&self, number: usize, memory: &M, block: u32) -> u64 {
        memory.word(block, number).store(1, &PUT);
        if self.fenced {
            memory.fence(&FENCE);
        }
        memory.word(block, 1 - number).load(&LOOK)
    }
}

fn one_saw_the_other(_: &[u64], seen: &[Option<u64>], _: u64) {
    assert!(seen.contains(&Some(1)), "neither saw the other");
}

#[test]
fn a_missing_fence_is_found_with_store_buffers_alone() {
    let two = |fenced| Two { thread: Dekker { fenced }, end: one_saw_the_other };
    explore(two(false), 3).expect("no interleaving alone does it");
    store_buffers(two(true), 3000, 0).expect("fenced");
    let failure = store_buffers(two(false), 3000, 0).expect_err("both look before their stores are seen");
    assert!(failure.how.starts_with("with store buffers, at seed "), "{failure}");
    assert_eq!(failure.message, "neither saw the other");
    assert!(failure.steps.iter().any(|step| step == "thread 1's store at PUT reaches memory: a[1] is 1"), "{failure}");
}

/// Holds a lock while it adds one, and waits for the lock.
struct Locked {
    /// Who waits says so.
    pauses: bool,
}
impl Part for Locked {
    fn play<M: Memory>(&self, _: usize, memory: &M, block: u32) -> u64 {
        let (lock, count) = (memory.word(block, 0), memory.word(block, 1));
        while lock.cas(0, 1, &SWAP).is_err() {
            if self.pauses {
                memory.pause();
            }
        }
        count.store(count.load(&LOOK) + 1, &PUT);
        lock.store(0, &PUT);
        0
    }
}

fn both_counted(words: &[u64], outcomes: &[Option<u64>], _: u64) {
    let ended = outcomes.iter().flatten().count() as u64;
    assert!(words[1] >= ended, "an increment is lost");
}

#[test]
fn whoever_waits_is_set_aside_and_a_lock_of_a_dead_one_is_found() {
    let two = |pauses| Two { thread: Locked { pauses }, end: both_counted };
    let explored = explore(two(true), 3).expect("it is a lock");
    // Whoever is first may be interrupted, or not, before each of three accesses; the other looks, and waits.
    assert_eq!(explored.plays, 2 * (1 << 3), "{explored:?}");
    let spins = explore(two(false), 3).expect_err("nobody else goes on");
    assert!(spins.message.contains("livelock"), "{spins}");
    let dies = explore_kills(two(true), 1).expect_err("the lock is never released");
    assert!(dies.message.contains("livelock"), "{dies}");
    assert_eq!(dies.how, "without a preemption");
    assert_eq!(dies.steps[..2], ["thread 0 at SWAP changes a[0] from 0 to 1", "thread 0 is killed before LOOK"]);
}

/// Waits, without a look, for what never comes.
struct Waits;
impl Part for Waits {
    fn play<M: Memory>(&self, _: usize, memory: &M, _: u32) -> u64 {
        loop {
            memory.pause();
        }
    }
}

#[test]
fn who_waits_without_a_look_does_not_wait_for_ever() {
    let waits = explore(Two { thread: Waits, end: both_counted }, 0).expect_err("nobody goes on");
    assert!(waits.message.contains("livelock"), "{waits}");
    let (first, second) = (Scheduled::word(0), Scheduled::word(0));
    assert!(!Scheduled::wait(&first, 0, Duration::ZERO), "no time passes here");
    assert!(!Scheduled::wait_any(&[(&first, 0), (&second, 0)], Duration::ZERO), "no time passes here");
    assert_eq!(Scheduled::wake(&first, 1), 0, "nobody sleeps");
}

/// Says by a store that it was here.
struct Marks;
impl Part for Marks {
    fn play<M: Memory>(&self, number: usize, memory: &M, block: u32) -> u64 {
        memory.word(block, number).store(1, &PUT);
        7
    }
}

#[test]
fn whoever_is_killed_behind_its_last_access_has_no_outcome() {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let ends = seen.clone();
    let note = move |words: &[u64], outcomes: &[Option<u64>], _: u64| {
        let of = |number: usize| (words[number], outcomes[number]);
        ends.lock().expect("no panic").extend([of(0), of(1)]);
    };
    explore_kills(Two { thread: Marks, end: note }, 0).expect("nothing is wrong");
    let seen = seen.lock().expect("no panic").clone();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [(0, None), (1, None), (1, Some(7))]);
}

/// Who plays, access by access.
fn played(changes: usize, seed: u64) -> Vec<usize> {
    let order = Rc::new(RefCell::new(vec![]));
    let players = (0..2).map(|number| {
        let (order, word) = (order.clone(), Scheduled::word(0));
        Player::new(move || {
            for _ in 0..20 {
                word.load(&LOOK);
                order.borrow_mut().push(number);
            }
        })
    });
    play(players.collect(), Scheduling::Priorities { changes, length: 20 }, &mut Rng::with_seed(seed));
    Rc::into_inner(order).expect("all have ended").into_inner()
}

#[test]
fn whose_priority_changes_plays_last() {
    let runs = |order: Vec<usize>| order.chunk_by(|one, next| one == next).count();
    for seed in 0..50 {
        assert_eq!(runs(played(0, seed)), 2, "one after the other");
    }
    let most = |changes| (0..50).map(|seed| runs(played(changes, seed))).max();
    assert_eq!((most(1), most(2)), (Some(3), Some(4)), "each change is one more switch");
}

/// Puts a block of its own in the place, as one that is still its owner's, or as unowned.
struct Puts {
    hands_over: bool,
}
impl Part for Puts {
    fn play<M: Memory>(&self, _: usize, memory: &M, block: u32) -> u64 {
        let mine = memory.allocate(1).expect("room");
        memory.word(mine, 0).store(7, &MAKE);
        if self.hands_over {
            assert!(memory.hand_over(mine));
        }
        let put = memory.word(block, 0).cas(0, mine.into(), &SWAP).is_ok();
        if !put {
            assert!(memory.free(mine));
        }
        u64::from(put)
    }
}

#[test]
fn a_block_that_a_death_frees_in_a_structure_is_found() {
    // One block is the place, one stands in it; one more may be lost with whoever hands over and dies.
    let two = |hands_over, most| Two {
        thread: Puts { hands_over },
        end: move |words: &[u64], _: &[Option<u64>], live: u64| {
            assert!(words[0] == 0 || live >= 2, "what stands in the place is free");
            assert!(live <= most, "{live} blocks are left");
        },
    };
    explore(two(false, 2), 2).expect("without deaths it is right");
    explore_kills(two(true, 3), 1).expect("unowned");
    let lost = explore_kills(two(true, 2), 1).expect_err("a block is lost");
    assert!(lost.message.contains("3 blocks are left"), "{lost}");
    let freed = explore_kills(two(false, 2), 1).expect_err("its owner's death frees it");
    assert_eq!(freed.message, "what stands in the place is free");
    let tail: Vec<&str> = freed.steps.iter().map(String::as_str).collect();
    assert!(tail.contains(&"the recoverer gives back what thread 0 left"), "{freed}");
}

/// Adds one by a load and a store.
struct Forgets;
impl Part for Forgets {
    fn play<M: Memory>(&self, _: usize, memory: &M, block: u32) -> u64 {
        let count = memory.word(block, 1);
        count.store(count.load(&LOOK) + 1, &PUT);
        0
    }
}

#[test]
fn a_failure_is_the_same_each_time_and_as_short_as_can_be() {
    let run = || explore(Two { thread: Forgets, end: both_counted }, 2).expect_err("it forgets");
    let failure: Box<Failure> = run();
    assert_eq!(*failure, *run());
    assert_eq!((failure.how.as_str(), failure.steps.len()), ("with one preemption", 4), "{failure}");
    let steps =
        ["0 at LOOK reads a[1]: 0", "1 at LOOK reads a[1]: 0", "1 at PUT writes a[1]: 1", "0 at PUT writes a[1]: 1"];
    let lines: String = (1..).zip(steps).map(|(number, step)| format!("{number:>4}. thread {step}\n")).collect();
    let text = format!("fails with one preemption, in 4 steps:\n{lines}      an increment is lost");
    assert_eq!((failure.to_string(), format!("{failure:?}")), (text.clone(), text), "what `unwrap` prints is the text");
}
