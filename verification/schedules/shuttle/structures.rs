//! The structures under shuttle: the scenarios of the schedules, in orders that shuttle draws. Two of three runs have a
//! victim that stops for ever at a random access, and a recovery that may be killed as well.

use crate::channel::Crowd;
use crate::stage::{Player, Stage};
use crate::{call, channel, map, sync, topic};
use atomic_matrix::backend::Mutant;
use atomic_matrix::backend::orderings::{CALL_MUTANTS, CHANNEL_MUTANTS, MAP_MUTANTS, SYNC_MUTANTS, TOPIC_MUTANTS};
use atomic_matrix::backend::shuttle::{Shuttle, set_mutant, stopped_at};
use atomic_matrix::check::turns::{self, Scheduling};
use atomic_matrix::ipc::structure::Sort;
use fastrand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use std::cell::Cell;

/// What a thread of a model does.
struct OfOneThread(Player);

// SAFETY: all threads of an execution of shuttle are coroutines, run by one thread of the operating system.
unsafe impl Send for OfOneThread {}

impl OfOneThread {
    /// True if it was stopped.
    fn play(self) -> bool {
        let Player { body, stop_at } = self.0;
        match stop_at {
            Some(k) => stopped_at(k, body).is_none(),
            None => {
                body();
                false
            }
        }
    }
}

impl Stage for Shuttle {
    fn play(players: Vec<Player>, _: Scheduling, _: &mut Rng) -> Vec<bool> {
        let spawn = |player| {
            let player = OfOneThread(player);
            shuttle::thread::spawn(move || player.play())
        };
        let threads: Vec<_> = players.into_iter().map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("its panic is everybody's")).collect()
    }
}

thread_local! {
    static SCHEDULES: Cell<u64> = const { Cell::new(0) };
    static STOPS: Cell<u64> = const { Cell::new(0) };
    static KILLED: Cell<u64> = const { Cell::new(0) };
}

/// Who plays beside a victim, what that does, and the access before which it stops: in two of three runs. The first run
/// of each has none: PCT learns from it how long a run is.
fn drawn<C: Copy, A: Copy>(crowds: &[C], acts: &[A], within: u64, seed: u64) -> (C, Option<(A, u64)>) {
    let random = &mut Rng::with_seed(!seed);
    if seed as u32 == 1 || random.u32(0..3) == 0 {
        return (crowds[0], None);
    }
    let what = (acts[random.usize(0..acts.len())], random.u64(0..within));
    (crowds[random.usize(0..crowds.len())], Some(what))
}

fn note(stops: &Cell<u64>, killed: &Cell<u64>) {
    STOPS.set(STOPS.get() + stops.get());
    KILLED.set(KILLED.get() + killed.get());
}

fn queue(sort: Sort, seed: u64) {
    let tally = channel::Tally::of(sort);
    let acts = if sort == Sort::Redelivering { &channel::WORK[..] } else { &channel::ACTS[..] };
    let (crowd, what) = drawn(&[Crowd::Mixed, Crowd::Slow, Crowd::Still], acts, 32, seed);
    channel::run::<Shuttle>(what, crowd, seed, &tally);
    note(&tally.stops, &tally.killed);
}
fn many(seed: u64) {
    queue(Sort::Channel, seed);
}
fn single(seed: u64) {
    queue(Sort::Single, seed);
}
fn work(seed: u64) {
    queue(Sort::Redelivering, seed);
}
fn log(sort: Sort, seed: u64) {
    let tally = topic::Tally::default();
    topic::run::<Shuttle>(sort, drawn(&[()], &topic::ACTS, 32, seed).1, seed, &tally);
    note(&tally.stops, &tally.killed);
}
fn lossless(seed: u64) {
    log(Sort::Topic, seed);
}
fn board(seed: u64) {
    log(Sort::Board, seed);
}
fn table(seed: u64) {
    let tally = map::Tally::default();
    let (crowd, what) = drawn(&[map::Crowd::Mixed, map::Crowd::Still], &map::ACTS, 48, seed);
    map::run::<Shuttle>(what, crowd, seed, &tally);
    note(&tally.stops, &tally.killed);
}
fn service(seed: u64) {
    let tally = call::Tally::default();
    let (still, what) = drawn(&[false, true], &call::ACTS, 80, seed);
    call::run::<Shuttle>(what, still, seed, &tally);
    note(&tally.stops, &tally.killed);
}

fn waiting(seed: u64) {
    let tally = sync::Tally::default();
    let (subject, what) = drawn(&sync::SUBJECTS, &[()], 24, seed);
    // Without a victim, too, one of each.
    let subject = if what.is_none() { sync::SUBJECTS[seed as usize % sync::SUBJECTS.len()] } else { subject };
    sync::run::<Shuttle>(subject, what.map(|((), k)| k), seed, &tally);
    note(&tally.stops, &tally.killed);
}

fn explore(one: fn(u64), seed: u64, scheduler: impl Scheduler + 'static) {
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    if turns::quiet() {
        config.failure_persistence = shuttle::FailurePersistence::None;
    }
    SCHEDULES.set(0);
    shuttle::Runner::new(scheduler, config).run(move || {
        SCHEDULES.set(SCHEDULES.get() + 1);
        one(seed << 32 | SCHEDULES.get());
    });
}

/// Random and priority-based schedules, a quarter as many as of the heap's scenarios.
fn check(name: &str, one: fn(u64)) {
    let (seed, schedules) = (crate::setting("MATRIX_SEED", 20), crate::setting("MATRIX_SCHEDULES", 2000) / 4);
    STOPS.set(0);
    KILLED.set(0);
    explore(one, seed, RandomScheduler::new_from_seed(seed, schedules as usize));
    explore(one, seed, PctScheduler::new_from_seed(seed, 3, schedules as usize));
    let (stops, killed) = (STOPS.get(), KILLED.get());
    println!(
        "{name} | random, PCT(3) | {schedules} schedules | seed {seed} | {stops} stops, {killed} recoveries killed"
    );
    assert!(stops > schedules / 2 && killed > schedules / 10, "{stops} {killed}");
}

#[test]
fn shuttle_q1_q2_q3_channel() {
    check("channel", many);
}

#[test]
fn shuttle_q1_q2_q3_one_sender_one_receiver() {
    check("one sender, one receiver", single);
}

#[test]
fn shuttle_q1_q2_q3_work() {
    check("work that is delivered again", work);
}

#[test]
fn shuttle_t1_q3_topic() {
    check("topic", lossless);
}

#[test]
fn shuttle_b1_q3_board() {
    check("board", board);
}

#[test]
fn shuttle_m1_m2_q3_map() {
    check("map", table);
}

#[test]
fn shuttle_q3_q6_service() {
    check("service", service);
}

#[test]
fn shuttle_s3_s5_c1_locks_permits_events_barriers_and_names() {
    check("locks, permits, events, barriers, names", waiting);
}

/// Which faults these schedules notice. The survivors are printed, too: SURVIVORS are known, any other fails the test.
#[test]
fn mutant_shuttle_structures_table() {
    // They take a rarer race, laps that pass, a structure that is removed, several responses, or somebody asleep: the
    // schedules notice them.
    const SURVIVORS: &[Mutant] = &[
        Mutant::HeadUnvalidated,
        Mutant::TailUnvalidated,
        Mutant::VisitIgnored,
        Mutant::EnteredUnasked,
        Mutant::UnnamedKept,
        Mutant::RemovedUnasked,
        Mutant::JoinUnvalidated,
        Mutant::LapBelieved,
        Mutant::AbsentUnvalidated,
        Mutant::CursorDroppedEarly,
        Mutant::CopyUnvalidated,
        Mutant::GoneUnchecked,
        Mutant::LateEndsLook,
        Mutant::RingLeft,
        Mutant::RungEarly,
    ];
    struct Check(&'static str, fn(u64), &'static [Mutant]);
    let checks = [
        Check("channel", many, CHANNEL_MUTANTS),
        Check("one sender, one receiver", single, CHANNEL_MUTANTS),
        Check("topic", lossless, TOPIC_MUTANTS),
        Check("board", board, TOPIC_MUTANTS),
        Check("map", table, MAP_MUTANTS),
        Check("service", service, CALL_MUTANTS),
        Check("locks, permits, events, barriers, names", waiting, SYNC_MUTANTS),
    ];
    let mut mutants = [CHANNEL_MUTANTS, TOPIC_MUTANTS, MAP_MUTANTS, CALL_MUTANTS, SYNC_MUTANTS].concat();
    mutants.sort_unstable_by_key(|mutant| *mutant as u32);
    mutants.dedup();
    let mut lost = vec![];
    for mutant in mutants {
        set_mutant(Some(mutant));
        let noticed = checks.iter().filter(|check| check.2.contains(&mutant)).find_map(|&Check(name, one, _)| {
            let schedules = if SURVIVORS.contains(&mutant) { 600 } else { 2000 };
            let run = || explore(one, 20, RandomScheduler::new_from_seed(20, schedules));
            let message = turns::caught(run)?;
            Some(format!("{name}, schedule {}: {message}", SCHEDULES.get()))
        });
        set_mutant(None);
        println!("mutant {mutant:?} | {}", noticed.as_deref().unwrap_or("SURVIVES"));
        if noticed.is_none() && !SURVIVORS.contains(&mutant) {
            lost.push(mutant);
        }
    }
    assert!(lost.is_empty(), "not noticed: {lost:?}");
}
