//! The channel under the schedule: its calls in any order, each of them stopped before each of its accesses,
//! the recovery helped and killed. Everything runs on the production code, one shared access at a time
//! (`src/check/turns.rs`), so every failure replays from its seed.
//!
//! `MATRIX_CHANNEL_SEEDS` sets how many interleavings are tried for each stop (default 40),
//! `MATRIX_CHANNEL_RUNS` how many without one.
#![allow(missing_docs)]

#[path = "../acts.rs"]
mod acts;
#[path = "../../support/common.rs"]
mod common;
mod departure;
#[path = "../../support/linear.rs"]
mod linear;
mod play;
#[path = "../stage.rs"]
mod stage;

use acts::{at_every_access, naming, notice_all};
use atomic_matrix::backend::orderings::{CHANNEL_MUTANTS, HOLD_MUTANTS};
use atomic_matrix::check::turns::Scheduled;
use atomic_matrix::ipc::structure::Sort;
use common::setting;
use play::{ACTS, Crowd, Tally, WORK, run};

const SORTS: [Sort; 3] = [Sort::Channel, Sort::Single, Sort::Redelivering];

/// Every act stopped before every access.
fn enumerate(seeds: u64, crowd: Crowd, tally: &Tally) {
    let name = |what, k, seed| format!("{:?}: {what:?} stopped at {k}, {crowd:?}, seed {seed}", tally.sort);
    let acts = if tally.sort == Sort::Redelivering { &WORK[..] } else { &ACTS[..] };
    at_every_access(
        acts,
        |what| what as u64,
        seeds,
        name,
        |stop, seed| run::<Scheduled>(Some(stop), crowd, seed, tally),
    );
}

#[test]
fn crash_q2_q3_q4_every_call_stopped_at_every_access() {
    let seeds = setting("MATRIX_CHANNEL_SEEDS", 40);
    for sort in SORTS {
        let tally = Tally::of(sort);
        enumerate(seeds, Crowd::Mixed, &tally);
        let (stops, killed, amid, alone) = (tally.stops.get(), tally.killed.get(), tally.amid.get(), tally.alone.get());
        println!("{sort:?}: {stops} stops, {killed} recoveries killed; accesses of a call: alone {alone}, amid {amid}");
        assert!(stops > 1000 && killed > 100);
        // One of a batch of several is given back to be used again; four holds may each be looked at twice.
        let most = if sort == Sort::Redelivering { 60 } else { 41 };
        assert!(alone <= most && amid <= 200, "Q4: alone {alone}, amid others {amid}");
    }
}

/// The standing test of L-c: with receivers about, pending messages are taken long before a recovery comes.
#[test]
fn crash_q3_a_full_ring_with_slow_receivers() {
    for sort in SORTS {
        let tally = Tally::of(sort);
        enumerate(setting("MATRIX_CHANNEL_SEEDS", 40), Crowd::Slow, &tally);
        enumerate(setting("MATRIX_CHANNEL_SEEDS", 40), Crowd::Still, &tally);
        assert!(tally.stops.get() > 500);
    }
}

/// Two recover the dead at once. Each step of a recovery may be the other's, and neither goes on before it is done.
#[test]
fn crash_q3_the_dead_are_recovered_by_two_at_once() {
    for sort in SORTS {
        let tally = Tally::of(sort);
        enumerate(setting("MATRIX_CHANNEL_SEEDS", 40) / 4, Crowd::Pair, &tally);
        println!("{sort:?}: {} stops, {} of the two killed", tally.stops.get(), tally.killed.get());
        assert!(tally.stops.get() > 500 && tally.killed.get() > 100);
    }
}

#[test]
fn schedules_q1_q2_calls_in_any_order() {
    for sort in SORTS {
        let tally = Tally::of(sort);
        for seed in 0..setting("MATRIX_CHANNEL_RUNS", 3000) {
            naming(|| format!("{sort:?}, seed {seed}"), || run::<Scheduled>(None, Crowd::Mixed, seed, &tally));
        }
        println!("{sort:?}: accesses of a call: alone {}, amid others {}", tally.alone.get(), tally.amid.get());
    }
}

/// Which check notices each planted fault, and where first. Any that survives fails.
#[test]
fn mutant_channel_table() {
    let (many, single) = (|| Tally::of(Sort::Channel), || Tally::of(Sort::Single));
    let any_order = |tally: &Tally| (0..20_000).for_each(|seed| _ = run::<Scheduled>(None, Crowd::Mixed, seed, tally));
    let checks: [(&str, &dyn Fn()); 8] = [
        ("comings and goings", &|| (0..3000).for_each(|seed| departure::run(seed, &departure::Met::default()))),
        ("a full ring with slow receivers", &|| enumerate(20, Crowd::Slow, &many())),
        ("nobody about until the recovery", &|| enumerate(20, Crowd::Still, &many())),
        ("every call stopped at every access", &|| enumerate(40, Crowd::Mixed, &many())),
        ("calls in any order", &|| any_order(&many())),
        ("one sender and one receiver, nobody about until the recovery", &|| enumerate(20, Crowd::Still, &single())),
        ("one sender and one receiver, stopped at every access", &|| enumerate(40, Crowd::Mixed, &single())),
        ("one sender and one receiver, in any order", &|| any_order(&single())),
    ];
    notice_all(CHANNEL_MUTANTS, &checks);
}

/// The same for what workers hold.
#[test]
fn mutant_hold_table() {
    let tally = || Tally::of(Sort::Redelivering);
    let any_order = || (0..20_000).for_each(|seed| _ = run::<Scheduled>(None, Crowd::Mixed, seed, &tally()));
    let checks: [(&str, &dyn Fn()); 4] = [
        ("recovered by two at once", &|| enumerate(10, Crowd::Pair, &tally())),
        ("nobody about until the recovery", &|| enumerate(20, Crowd::Still, &tally())),
        ("every call stopped at every access", &|| enumerate(40, Crowd::Mixed, &tally())),
        ("calls in any order", &any_order),
    ];
    notice_all(HOLD_MUTANTS, &checks);
}
