//! The table under maps in every order of its calls, each of them stopped before each of its accesses, the
//! recovery killed as well. On the production code, one shared access at a time (`src/check/turns.rs`), so
//! every failure replays from its seed.
//!
//! `MATRIX_MAP_SEEDS` sets how many interleavings are tried for each stop (default 12), `MATRIX_MAP_RUNS` how
//! many without one.
#![allow(missing_docs)]

#[path = "../acts.rs"]
mod acts;
#[path = "../../support/common.rs"]
mod common;
#[path = "../../support/linear.rs"]
mod linear;
mod play;
#[path = "../stage.rs"]
mod stage;

use acts::{at_every_access, naming, notice_all};
use atomic_matrix::backend::orderings::MAP_MUTANTS;
use atomic_matrix::check::turns::Scheduled;
use common::setting;
use play::{ACTS, Crowd, Tally, run};

/// Every act stopped before every access.
fn enumerate(seeds: u64, crowd: Crowd, tally: &Tally) {
    let name = |what, k, seed| format!("{what:?} stopped at {k}, {crowd:?}, seed {seed}");
    at_every_access(
        &ACTS,
        |what| what as u64,
        seeds,
        name,
        |stop, seed| run::<Scheduled>(Some(stop), crowd, seed, tally),
    );
}

#[test]
fn crash_m1_q3_every_call_stopped_at_every_access() {
    let tally = Tally::default();
    let seeds = setting("MATRIX_MAP_SEEDS", 12);
    enumerate(seeds, Crowd::Mixed, &tally);
    enumerate(seeds, Crowd::Still, &tally);
    let (stops, killed, amid, alone) = (tally.stops.get(), tally.killed.get(), tally.amid.get(), tally.alone.get());
    println!("{stops} stops, {killed} recoveries killed; accesses of a call: alone {alone}, amid others {amid}");
    assert!(stops > 1000 && killed > 100, "{stops} {killed}");
    assert!(alone <= 120 && amid <= 500, "Q4: alone {alone}, amid others {amid}");
}

#[test]
fn schedules_m1_m2_calls_in_any_order() {
    let tally = Tally::default();
    for seed in 0..setting("MATRIX_MAP_RUNS", 4000) {
        naming(|| format!("seed {seed}"), || run::<Scheduled>(None, Crowd::Mixed, seed, &tally));
    }
    let (shared, full) = (tally.shared.get(), tally.full.get());
    println!("{shared} displaced while they were read, {full} refused for want of a place");
    assert!(shared > 50 && full > 100, "{shared} {full}");
}

/// Which check notices each planted fault, and where first. Any that survives fails.
#[test]
fn mutant_map_table() {
    let checks: [(&str, &dyn Fn()); 4] = [
        ("calls in any order", &|| {
            (0..4000).for_each(|seed| _ = run::<Scheduled>(None, Crowd::Mixed, seed, &Tally::default()))
        }),
        ("every call stopped at every access", &|| enumerate(12, Crowd::Mixed, &Tally::default())),
        ("nobody about until the recovery", &|| enumerate(12, Crowd::Still, &Tally::default())),
        ("calls in any order, at length", &|| {
            (4000..40_000).for_each(|seed| _ = run::<Scheduled>(None, Crowd::Mixed, seed, &Tally::default()));
        }),
    ];
    notice_all(MAP_MUTANTS, &checks);
}
