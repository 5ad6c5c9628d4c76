//! What loom can't see: one test for each limit, so that a release of loom that changes one is noticed here.
//!
//! `cargo test --features loom --test litmus_loom`. The table in `verification/README.md` names them.
#![allow(clippy::disallowed_types, reason = "the subject is the checker's own atomics")]

use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// loom as it comes: what the environment says would change what is pinned here.
fn unbounded() -> Builder {
    let mut builder = Builder::new();
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.checkpoint_interval = 20_000;
    builder
}

/// Explores `body` and returns every result that it had, and the executions.
fn outcomes<T: Ord + Send + 'static>(body: impl Fn() -> T + Send + Sync + 'static) -> (BTreeSet<T>, usize) {
    let seen = std::sync::Arc::new((Mutex::new(BTreeSet::new()), AtomicUsize::new(0)));
    let inside = seen.clone();
    unbounded().check(move || {
        let result = body();
        inside.0.lock().unwrap().insert(result);
        inside.1.fetch_add(1, Relaxed);
    });
    let executions = seen.1.load(Relaxed);
    (std::mem::take(&mut *seen.0.lock().unwrap()), executions)
}

/// Two words, both 0, and two threads: what each returns.
fn pair(
    left: impl Fn(&AtomicU64, &AtomicU64) -> u64 + Send + Sync + 'static,
    right: impl Fn(&AtomicU64, &AtomicU64) -> u64 + Send + Sync + 'static,
) -> BTreeSet<(u64, u64)> {
    let sides = std::sync::Arc::new((left, right));
    let body = move || {
        let words = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let (theirs, inside) = (words.clone(), sides.clone());
        let other = thread::spawn(move || inside.1(&theirs.0, &theirs.1));
        let own = sides.0(&words.0, &words.1);
        (own, other.join().unwrap())
    };
    outcomes(body).0
}

fn store_buffering(order: (Ordering, Ordering), fenced: bool) -> BTreeSet<(u64, u64)> {
    let side = move |mine: &AtomicU64, other: &AtomicU64| {
        mine.store(1, order.0);
        if fenced {
            fence(SeqCst);
        }
        other.load(order.1)
    };
    pair(side, move |x, y| side(y, x))
}

/// C11 forbids that both read 0; loom allows it. (Hence fences, nowhere SeqCst accesses, in this crate.)
#[test]
fn seq_cst_accesses_are_only_acquire_and_release() {
    assert!(store_buffering((SeqCst, SeqCst), false).contains(&(0, 0)));
}

/// The control: SeqCst fences are modelled as C11 has them.
#[test]
fn seq_cst_fences_are_modelled() {
    assert!(!store_buffering((Relaxed, Relaxed), true).contains(&(0, 0)));
    assert!(store_buffering((Relaxed, Relaxed), false).contains(&(0, 0)));
}

/// C11 and Arm allow that both read 1, each from the other's later store; loom never shows it.
#[test]
fn no_load_buffering() {
    let side = |from: &AtomicU64, to: &AtomicU64| {
        let seen = from.load(Relaxed);
        to.store(1, Relaxed);
        seen
    };
    let seen = pair(side, move |x, y| side(y, x));
    assert!(!seen.contains(&(1, 1)), "{seen:?}");
    assert!(seen.contains(&(0, 1)) && seen.contains(&(1, 0)), "{seen:?}");
}

/// Five threads with the main one; a sixth ends the run with a panic.
#[test]
fn five_threads_at_most() {
    let with = |spawned: usize| {
        catch_unwind(AssertUnwindSafe(|| {
            let mut builder = unbounded();
            builder.preemption_bound = Some(0);
            builder.check(move || {
                (0..spawned)
                    .map(|_| thread::spawn(|| {}))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|t| t.join().unwrap());
            });
        }))
    };
    assert!(with(4).is_ok());
    assert!(with(5).is_err());
}

/// Of a word's stores only the last seven can be read, though C11 lets an unsynchronised thread read any.
#[test]
fn seven_stores_are_remembered() {
    let (seen, _) = outcomes(|| {
        let word = Arc::new(AtomicU64::new(0));
        let theirs = word.clone();
        let writer = thread::spawn(move || (1..=8).for_each(|value| theirs.store(value, Relaxed)));
        writer.join().unwrap();
        0
    });
    assert_eq!(seen.len(), 1);
    // The reader does not join, so that all stores stay readable; the side channel tells that all of them were made.
    let (seen, _) = outcomes(|| {
        let word = Arc::new(AtomicU64::new(0));
        let done = std::sync::Arc::new(AtomicBool::new(false));
        let (theirs, tell) = (word.clone(), done.clone());
        let writer = thread::spawn(move || {
            (1..=8).for_each(|value| theirs.store(value, Relaxed));
            tell.store(true, Relaxed);
        });
        word.fetch_or(0, Relaxed);
        thread::yield_now();
        let (late, value) = (done.load(Relaxed), word.load(Relaxed));
        writer.join().unwrap();
        (late, value)
    });
    let late: Vec<u64> = seen.into_iter().filter(|seen| seen.0).map(|seen| seen.1).collect();
    assert!(!late.is_empty() && late.len() <= 7, "{late:?}");
    assert!(late.contains(&8) && !late.contains(&0), "{late:?}");
}

/// C11 lets a weak compare-and-swap fail for no reason; loom's never does. (The crate's decorators can make it.)
#[test]
fn weak_compare_and_swap_never_fails_for_no_reason() {
    let (seen, _) = outcomes(|| {
        let word = Arc::new(AtomicU64::new(0));
        let theirs = word.clone();
        let other = thread::spawn(move || theirs.fetch_add(2, AcqRel));
        let mut failed = false;
        let mut expected = word.load(Acquire);
        for _ in 0..3 {
            match word.compare_exchange_weak(expected, expected + 1, AcqRel, Acquire) {
                Ok(_) => break,
                Err(found) => {
                    failed |= found == expected;
                    expected = found;
                }
            }
        }
        other.join().unwrap();
        failed
    });
    assert_eq!(seen, BTreeSet::from([false]));
}

/// A load may return an old value, and so may a compare-and-swap that fails, in C11; in loom it always
/// returns the newest. (The crate's loom backend loads first, with the ordering of the failure.)
#[test]
fn failing_compare_and_swap_reads_the_newest() {
    let stale = |read: fn(&AtomicU64) -> u64| {
        let (seen, _) = outcomes(move || {
            let word = Arc::new(AtomicU64::new(0));
            let done = std::sync::Arc::new(AtomicBool::new(false));
            let (theirs, tell) = (word.clone(), done.clone());
            let writer = thread::spawn(move || {
                theirs.fetch_or(0, Relaxed);
                theirs.store(1, Relaxed);
                tell.store(true, Relaxed);
            });
            thread::yield_now();
            let late = done.load(Relaxed);
            let value = read(&word);
            writer.join().unwrap();
            late && value == 0
        });
        seen.contains(&true)
    };
    assert!(stale(|word| word.load(Relaxed)), "the control: a load returns an old value");
    assert!(!stale(|word| word.compare_exchange(5, 6, Relaxed, Relaxed).unwrap_err()));
}

/// A model that fails in some execution, but not in the first.
fn faulty(builder: &Builder) -> bool {
    let failed = catch_unwind(AssertUnwindSafe(|| {
        builder.check(|| {
            let word = Arc::new(AtomicU64::new(0));
            let theirs = word.clone();
            let other = thread::spawn(move || theirs.fetch_add(1, AcqRel));
            let before = word.fetch_add(1, AcqRel);
            other.join().unwrap();
            assert_eq!(before, 0, "the fault");
        });
    }));
    failed.is_err()
}

/// A run that is cut off passes. (The crate's models refuse an environment that sets such a limit, and each
/// asserts how much it explored.)
#[test]
fn a_run_that_is_cut_off_passes() {
    let mut builder = unbounded();
    assert!(faulty(&builder), "the control: the fault is found");
    builder.checkpoint_interval = 1;
    builder.max_permutations = Some(1);
    assert!(!faulty(&builder), "cut off after one execution, and passed");
}

/// The limit is looked at after every `checkpoint_interval` executions only: 20 000 unless set.
#[test]
fn a_limit_below_the_checkpoint_interval_does_nothing() {
    let mut builder = unbounded();
    builder.max_permutations = Some(1);
    assert!(faulty(&builder));
}

/// A store of another thread, behind `first`, races a load: what the load saw, and the executions.
fn store_behind(first: impl Fn(&AtomicU64) + Send + Sync + Copy + 'static) -> (BTreeSet<u64>, usize) {
    outcomes(move || {
        let word = Arc::new(AtomicU64::new(0));
        let theirs = word.clone();
        let writer = thread::spawn(move || {
            first(&theirs);
            theirs.store(1, Release);
        });
        let seen = word.load(Acquire);
        writer.join().unwrap();
        seen
    })
}

/// A thread whose first access is a load may never run in between (loom issue 392): one outcome of two, in
/// one execution. Begun with a read-modify-write, it does. Hence the two modes of the crate's models, as they
/// are and with every access a read-modify-write, and the least number of executions that each asserts.
#[test]
fn a_thread_that_begins_with_a_load_is_explored_less() {
    let (seen, executions) = store_behind(|word| {
        word.load(Relaxed);
    });
    assert_eq!((seen.len(), executions), (1, 1), "{seen:?}");
    let (seen, executions) = store_behind(|word| {
        word.fetch_or(0, AcqRel);
    });
    assert_eq!(seen, BTreeSet::from([0, 1]));
    assert!(executions > 1);
}

/// Not every order is explored, without a bound either: here one preemption is enough, between two loads, and only with
/// a word that both change there is it met. `Setting::points` of the crate's loom backend is such a word.
#[test]
fn a_change_between_two_loads_may_never_be_met() {
    let met = |with_point: bool| {
        let met = std::sync::Arc::new(AtomicBool::new(false));
        let seen = met.clone();
        unbounded().check(move || {
            let words = Arc::new([(); 4].map(|()| AtomicU64::new(0)));
            let point = move |words: &[AtomicU64; 4]| {
                if with_point {
                    words[3].fetch_add(1, Relaxed);
                }
            };
            // A turn, 0, and two places. One prepares a place and makes the turn 1; the other makes that 2.
            let parts = [0, 1].map(|which| {
                let (words, seen) = (words.clone(), seen.clone());
                thread::spawn(move || {
                    words[2].fetch_add(1, Relaxed);
                    if which == 0 {
                        let _ = words[1].compare_exchange(0, 1, Release, Relaxed);
                        let turn = words[0].load(Acquire);
                        if words[0].compare_exchange(turn, turn + 1, AcqRel, Acquire).is_ok() {
                            words[1].load(Acquire);
                            point(&words);
                            if words[0].load(Relaxed) == turn + 2 {
                                seen.store(true, Relaxed);
                            }
                            let _ = words[1].compare_exchange(1, 2, Release, Relaxed);
                        }
                    } else {
                        let turn = words[0].load(Acquire);
                        words[1].load(Acquire);
                        point(&words);
                        let _ = words[0].compare_exchange(turn, turn + 1, AcqRel, Acquire);
                    }
                })
            });
            parts.into_iter().for_each(|part| part.join().unwrap());
        });
        met.load(Relaxed)
    };
    assert!(!met(false) && met(true));
}

/// A plain store that races a read-modify-write is lost: the word ends as neither order of the two leaves it.
/// A false alarm, where the code has such a race; the crate's loom backend makes those stores swaps.
#[test]
fn a_store_that_races_a_read_modify_write_may_be_lost() {
    let (seen, _) = outcomes(|| {
        let word = Arc::new(AtomicU64::new(0));
        let theirs = word.clone();
        let other = thread::spawn(move || theirs.store(10, Release));
        let before = word.fetch_add(1, AcqRel);
        other.join().unwrap();
        (before, word.load(Acquire))
    });
    println!("{seen:?}");
    assert!(seen.contains(&(0, 10)) && seen.contains(&(10, 11)), "{seen:?}");
    assert!(seen.contains(&(0, 1)), "the store is lost: {seen:?}");
}
