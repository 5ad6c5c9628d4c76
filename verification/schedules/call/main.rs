//! Calls in every order, each party stopped before each of its accesses, the recovery killed as well.
//! On the production code, one shared access at a time (`src/check/turns.rs`), so every failure replays from its seed.
//!
//! `MATRIX_CALL_SEEDS` sets how many interleavings are tried for each stop (default 12), `MATRIX_CALL_RUNS`
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
use atomic_matrix::backend::orderings::CALL_MUTANTS;
use atomic_matrix::check::turns::Scheduled;
use common::setting;
use play::{ACTS, Tally, run};

/// Every act stopped before every access.
fn enumerate(seeds: u64, still: bool, tally: &Tally) {
    let name = |what, k, seed| format!("{what:?} stopped at {k}, still: {still}, seed {seed}");
    at_every_access(
        &ACTS,
        |what| what as u64,
        seeds,
        name,
        |stop, seed| run::<Scheduled>(Some(stop), still, seed, tally),
    );
}

#[test]
fn crash_q3_q6_every_party_of_a_call_stopped_at_every_access() {
    let (tally, seeds) = (Tally::default(), setting("MATRIX_CALL_SEEDS", 12));
    enumerate(seeds, false, &tally);
    enumerate(seeds, true, &tally);
    let (stops, killed, told) = (tally.stops.get(), tally.killed.get(), tally.told.get());
    let (streams, full) = (tally.streams.get(), tally.full.get());
    println!(
        "{stops} stops, {killed} recoveries killed, {told} told that nobody answers, {streams} streams taken to their end, \
         {full} without room; accesses: {}",
        tally.most.get()
    );
    assert!(stops > 1000 && killed > 100 && told > 100, "{stops} {killed} {told}");
    assert!(streams > 100 && full > 100, "{streams} {full}");
    assert!(tally.most.get() <= 300, "Q4: {}", tally.most.get());
}

#[test]
fn schedules_q3_calls_in_any_order() {
    let tally = Tally::default();
    for seed in 0..setting("MATRIX_CALL_RUNS", 4000) {
        naming(|| format!("seed {seed}"), || run::<Scheduled>(None, false, seed, &tally));
    }
    let (told, late, streams) = (tally.told.get(), tally.late.get(), tally.streams.get());
    println!("{told} dropped, {late} answered too late, {streams} streams taken to their end");
    assert!(told > 100 && late > 5 && streams > 100);
}

/// Which check notices each planted fault, and where first. Any that survives fails.
#[test]
fn mutant_call_table() {
    let checks: [(&str, &dyn Fn()); 3] = [
        ("calls in any order", &|| {
            (0..4000).for_each(|seed| _ = run::<Scheduled>(None, false, seed, &Tally::default()))
        }),
        ("every party stopped at every access", &|| enumerate(12, false, &Tally::default())),
        ("nobody about until the recovery", &|| enumerate(12, true, &Tally::default())),
    ];
    notice_all(CALL_MUTANTS, &checks);
}
