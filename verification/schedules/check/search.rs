//! How far the search goes, and in which order those play who wait.

use crate::{LOOK, MAKE, PUT};
use atomic_matrix::backend::{Backend, Word as _};
use atomic_matrix::check::turns::{self, Scheduled};
use atomic_matrix::check::{Scenario, explore, explore_kills};
use atomic_matrix::memory::Memory;
use std::sync::{Arc, Mutex};

/// So many threads with an access each, and an end that always fails.
struct Fails {
    threads: usize,
    plays: Arc<Mutex<u64>>,
}
impl Scenario for Fails {
    type Shared = u32;
    type Outcome = ();
    fn threads(&self) -> usize {
        self.threads
    }
    fn begin<M: Memory>(&self, memory: &M) -> u32 {
        *self.plays.lock().expect("no panic") += 1;
        memory.allocate(1).expect("room")
    }
    fn thread<M: Memory>(&self, _: usize, memory: &M, block: &u32) {
        memory.word(*block, 0).store(1, &PUT);
    }
    fn end<M: Memory>(&self, _: &M, _: &u32, _: &[Option<()>]) {
        panic!("as always");
    }
}

#[test]
fn a_shorter_failure_is_looked_for_so_often_and_no_more() {
    let plays = |threads| {
        let plays = Arc::new(Mutex::new(0));
        let failure = explore(Fails { threads, plays: plays.clone() }, 3).expect_err("it fails");
        assert_eq!((failure.how.as_str(), failure.steps.len()), ("without a preemption", threads));
        Arc::into_inner(plays).expect("all plays are over").into_inner().expect("no panic")
    };
    // All orders of three threads; of eight there are 40 320.
    assert_eq!((plays(3), plays(8)), (6, 20_001));
}

/// One thread tells the other to go on, after it has paused a few times itself.
struct Rests {
    /// Who tells.
    teller: usize,
}
impl Scenario for Rests {
    type Shared = u32;
    type Outcome = ();
    fn threads(&self) -> usize {
        2
    }
    fn begin<M: Memory>(&self, memory: &M) -> u32 {
        let block = memory.allocate(1).expect("room");
        memory.word(block, 0).store(0, &MAKE);
        block
    }
    fn thread<M: Memory>(&self, number: usize, memory: &M, block: &u32) {
        let word = memory.word(*block, 0);
        if number == self.teller {
            (0..3).for_each(|_| memory.pause());
            word.store(1, &PUT);
        }
        while word.load(&LOOK) == 0 {
            memory.pause();
        }
    }
    fn end<M: Memory>(&self, memory: &M, block: &u32, _: &[Option<()>]) {
        assert_eq!(memory.word(*block, 0).load(&LOOK), 1);
    }
}

#[test]
fn where_all_wait_each_has_its_turn() {
    for teller in [0, 1] {
        let explored = explore(Rests { teller }, 2).expect("nobody waits for ever");
        assert_eq!(explored.killed, 0);
        let killed = explore_kills(Rests { teller }, 0).expect_err("who tells may die before");
        assert!(killed.message.contains("livelock"), "{killed}");
    }
}

/// A block is given away, taken back, given away, and freed; each thread does so alone.
struct Owns;
impl Scenario for Owns {
    type Shared = ();
    type Outcome = ();
    fn threads(&self) -> usize {
        1
    }
    fn begin<M: Memory>(&self, _: &M) {}
    fn thread<M: Memory>(&self, _: usize, memory: &M, (): &()) {
        let block = memory.allocate(1).expect("room");
        memory.word(block, 0).store(block.into(), &PUT);
        assert!(memory.hand_over(block) && memory.adopt(block));
        memory.word(block, 0).store(block.into(), &PUT);
        assert!(memory.free(block));
        assert!(!memory.adopt(block) && !memory.hand_over(block) && !memory.free(block), "it is free");
    }
    fn end<M: Memory>(&self, memory: &M, (): &(), outcomes: &[Option<()>]) {
        assert!(outcomes[0].is_none() || memory.live() == 0);
        assert!(outcomes[0].is_none(), "to see the steps");
    }
}

#[test]
fn what_becomes_of_a_block_is_told() {
    let failure = explore(Owns, 0).expect_err("it says so");
    let told = ["allocates a", "at PUT writes a[0]: a", "hands a over", "adopts a", "at PUT writes a[0]: a", "frees a"];
    assert_eq!(failure.steps, told.map(|step| format!("thread 0 {step}")));
}

#[test]
fn the_killed_are_counted() {
    let explored = explore_kills(Steps, 0).expect("nothing fails");
    // Before each of its three accesses, behind the last one, and not at all.
    assert_eq!((explored.plays, explored.killed), (5, 4), "{explored:?}");
}

/// One thread, three accesses.
struct Steps;
impl Scenario for Steps {
    type Shared = u32;
    type Outcome = ();
    fn threads(&self) -> usize {
        1
    }
    fn begin<M: Memory>(&self, memory: &M) -> u32 {
        memory.allocate(1).expect("room")
    }
    fn thread<M: Memory>(&self, _: usize, memory: &M, block: &u32) {
        (0..3).for_each(|value| memory.word(*block, 0).store(value, &PUT));
    }
    fn end<M: Memory>(&self, memory: &M, _: &u32, _: &[Option<()>]) {
        assert_eq!(memory.live(), 1);
    }
}

#[test]
fn a_player_stops_so_many_accesses_from_now() {
    let steps = || {
        let word = Scheduled::word(0);
        (0..4).for_each(|_| _ = word.load(&LOOK));
        turns::stop_in(3);
        (0..9).for_each(|_| _ = word.load(&LOOK));
    };
    let ending = turns::alone(steps, None);
    assert_eq!((ending.stopped, ending.accesses), (true, 7));
}

#[test]
fn a_pause_counts_in_a_search_alone() {
    explore(Steps, 1).expect("nothing fails");
    assert_eq!(turns::alone(|| (0..5).for_each(|_| Scheduled::pause()), None).accesses, 0, "the search is over");
}

#[test]
fn a_panic_that_is_expected_is_told_in_short() {
    assert!(!turns::quiet() && turns::quietly(turns::quiet) && !turns::quiet());
    assert_eq!(
        turns::caught(|| panic!("two  words\n{}", "x".repeat(100))),
        Some(format!("two words {}", "x".repeat(80)))
    );
    assert_eq!(turns::caught(|| ()), None);
}
