//! Locks, semaphores, events, barriers and names that are replaced: their calls in any order, each of them stopped before
//! each of its accesses, and who finds that one dead stopped as well. What everybody was told is linearizable; what a
//! barrier lets through is counted. On the production code, one shared access at a time (`src/check/turns.rs`), so every
//! failure replays from its seed. Nobody sleeps here, since the time is over at each call's first try: loom has that.
//!
//! `MATRIX_SYNC_SEEDS` sets how many interleavings are tried for each stop (default 60), `MATRIX_SYNC_RUNS` how many
//! without one.
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
use atomic_matrix::backend::orderings::SYNC_MUTANTS;
use atomic_matrix::check::turns::Scheduled;
use common::setting;
use play::{SUBJECTS, Subject, Tally, run};

/// Every access of all calls of a subject is one at which their caller is stopped.
fn enumerate(subject: Subject, seeds: u64, tally: &Tally) {
    let name = |subject, k, seed| format!("{subject:?} stopped at {k}, seed {seed}");
    at_every_access(
        &[subject],
        |subject| subject as u64,
        seeds,
        name,
        |(subject, k), seed| run::<Scheduled>(subject, Some(k), seed, tally),
    );
}

fn in_any_order(subject: Subject, runs: u64, tally: &Tally) {
    for seed in 0..runs {
        naming(|| format!("{subject:?}, seed {seed}"), || run::<Scheduled>(subject, None, seed, tally));
    }
}

#[test]
fn crash_s3_s5_c1_every_call_stopped_at_every_access() {
    for subject in SUBJECTS {
        let tally = Tally::default();
        enumerate(subject, setting("MATRIX_SYNC_SEEDS", 60), &tally);
        let (stops, killed, met, most) = (tally.stops.get(), tally.killed.get(), tally.met.get(), tally.most.get());
        println!(
            "{subject:?}: {stops} stops, {killed} who found them dead killed, {met} met; accesses of a call: {most}"
        );
        assert!(stops > 200 && killed > 50 && met > 100, "{subject:?}: {stops} {killed} {met}");
        assert!(most <= 300, "L1: {subject:?}: {most}");
    }
}

#[test]
fn schedules_s3_s5_calls_in_any_order() {
    for subject in SUBJECTS {
        let tally = Tally::default();
        in_any_order(subject, setting("MATRIX_SYNC_RUNS", 4000), &tally);
        println!("{subject:?}: {} met; accesses of a call: {}", tally.met.get(), tally.most.get());
        assert!(tally.met.get() > 500, "{subject:?}: {}", tally.met.get());
    }
}

/// Which check notices each planted fault. Any that survives fails.
#[test]
fn mutant_sync_table() {
    let orders = || SUBJECTS.iter().for_each(|&subject| in_any_order(subject, 4000, &Tally::default()));
    let stops = || SUBJECTS.iter().for_each(|&subject| enumerate(subject, 60, &Tally::default()));
    let checks: [(&str, &dyn Fn()); 2] =
        [("calls in any order", &orders), ("every call stopped at every access", &stops)];
    notice_all(SYNC_MUTANTS, &checks);
}
