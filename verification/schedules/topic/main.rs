//! Topics and boards under the schedule: their calls in any order, each of them stopped before each of its
//! accesses, the recovery killed as well. On the production code, one shared access at a time
//! (`src/check/turns.rs`), so every failure replays from its seed.
//!
//! `MATRIX_TOPIC_SEEDS` sets how many interleavings are tried for each stop (default 30), `MATRIX_TOPIC_RUNS`
//! how many without one.
#![allow(missing_docs)]

#[path = "../acts.rs"]
mod acts;
#[path = "../../support/common.rs"]
mod common;
mod play;
#[path = "../stage.rs"]
mod stage;

use acts::{at_every_access, naming, notice_all};
use atomic_matrix::backend::orderings::TOPIC_MUTANTS;
use atomic_matrix::check::turns::{Scheduled, Scheduling, TURNS};
use atomic_matrix::ipc::link::LAPS;
use atomic_matrix::ipc::structure::Sort;
use common::setting;
use fastrand::Rng;
use play::scene::Scene;
use play::{ACTS, PUBLISHERS, Tally, VICTIM, publisher, run};
use stage::{Player, Stage};
use std::cell::Cell;
use std::rc::Rc;

/// Every act stopped before every access.
fn enumerate(sort: Sort, seeds: u64, tally: &Tally) {
    let name = |what, k, seed| format!("{sort:?}, {what:?} stopped at {k}, seed {seed}");
    at_every_access(
        &ACTS,
        |what| what as u64,
        seeds,
        name,
        |stop, seed| run::<Scheduled>(sort, Some(stop), seed, tally),
    );
}

#[test]
fn crash_t1_a_topic_stopped_at_every_access() {
    let tally = Tally::default();
    enumerate(Sort::Topic, setting("MATRIX_TOPIC_SEEDS", 30), &tally);
    let (stops, killed, reads) = (tally.stops.get(), tally.killed.get(), tally.reads.get());
    println!("{stops} stops, {killed} recoveries killed, {reads} reads; accesses of a call: {}", tally.most.get());
    assert!(stops > 300 && killed > 30 && reads > 1000, "{stops} {killed} {reads}");
    assert_eq!(tally.lagged.get(), 0, "T1: a lossless topic loses nothing");
    assert!(tally.most.get() <= 200, "Q4: {}", tally.most.get());
}

#[test]
fn crash_t1_b1_a_board_stopped_at_every_access() {
    let tally = Tally::default();
    enumerate(Sort::Board, setting("MATRIX_TOPIC_SEEDS", 30), &tally);
    let (stops, lagged) = (tally.stops.get(), tally.lagged.get());
    println!("{stops} stops, {lagged} publications overrun; accesses of a call: {}", tally.most.get());
    assert!(stops > 300 && lagged > 100, "{stops} {lagged}");
}

#[test]
fn schedules_t1_calls_in_any_order() {
    let tally = Tally::default();
    for seed in 0..setting("MATRIX_TOPIC_RUNS", 2000) {
        for sort in [Sort::Topic, Sort::Board] {
            naming(|| format!("{sort:?}, seed {seed}"), || run::<Scheduled>(sort, None, seed, &tally));
        }
    }
    println!("{} reads, {} overrun", tally.reads.get(), tally.lagged.get());
}

/// Who is nobody's reader, and looks again after others have published, is told exactly how many it has missed, however
/// many they are: laps of the log, whose numbers come back, and all between (T1).
fn missed(sort: Sort) {
    for shift in 1..=2 {
        let laps = (3 * LAPS) << shift;
        (0..=laps).for_each(|count| {
            Scene::<Scheduled>::new(sort, shift, true).misses(VICTIM, count, &mut Rng::with_seed(count))
        });
    }
}

#[test]
fn t1_what_was_missed_is_counted_however_much_it_is() {
    missed(Sort::Board);
}

/// Who may not write looks for the newest, and is stopped at each of its accesses while others publish laps: what it
/// finds is what it says it is, though the numbers of laps come back (B1).
fn laps_pass() {
    for (k, more) in (0..12).flat_map(|k| (1..=2 * LAPS + 4).map(move |more| (k, more))) {
        let (scene, random) = (Rc::new(Scene::<Scheduled>::new(Sort::Board, 1, true)), &mut Rng::with_seed(k));
        (0..3).for_each(|_| scene.publish(PUBLISHERS[0], random));
        let found = Rc::new(Cell::new(None));
        let (own, told) = (scene.clone(), found.clone());
        let looker = Player::new(move || told.set(own.newest_unhelped()));
        let players = vec![looker, publisher(&scene, PUBLISHERS[0], more as usize, random)];
        let mut turns = [(0, 0); TURNS];
        turns[..2].copy_from_slice(&[(0, k), (1, u64::MAX)]);
        Scheduled::play(players, Scheduling::Turns(turns), random);
        let (ticket, what) = found.get().expect("something was published");
        assert!(ticket >= 2, "B1: an older one than was there before");
        assert_eq!(what, scene.published_at(ticket), "B1: ticket {ticket}; stopped at {k} while {more} are published");
    }
}

#[test]
fn b1_the_newest_is_what_it_says_although_laps_pass() {
    laps_pass();
}

/// Which check notices each planted fault. Any that survives fails.
#[test]
fn mutant_topic_table() {
    let in_any_order = |sort| (0..4000).for_each(|seed| _ = run::<Scheduled>(sort, None, seed, &Tally::default()));
    let checks: [(&str, &dyn Fn()); 7] = [
        ("board: laps pass", &laps_pass),
        ("board: any number is missed", &|| missed(Sort::Board)),
        ("topic: every call stopped at every access", &|| enumerate(Sort::Topic, 8, &Tally::default())),
        ("topic: calls in any order", &|| in_any_order(Sort::Topic)),
        ("board: every call stopped at every access", &|| enumerate(Sort::Board, 8, &Tally::default())),
        ("board: calls in any order", &|| in_any_order(Sort::Board)),
        ("topic: every call stopped at every access, at length", &|| enumerate(Sort::Topic, 60, &Tally::default())),
    ];
    notice_all(TOPIC_MUTANTS, &checks);
}
