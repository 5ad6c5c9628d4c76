//! What shuttle can't see: one test for each limit, so that a release of shuttle that changes one is noticed here.
//!
//! `cargo test --features shuttle --test litmus_shuttle`. The table in `verification/README.md` names them.
#![allow(clippy::disallowed_types, reason = "the subject is the checker's own atomics")]

use shuttle::scheduler::DfsScheduler;
use shuttle::sync::Arc;
use shuttle::sync::atomic::AtomicU64;
use shuttle::sync::atomic::Ordering::Relaxed;
use shuttle::{Config, Runner, thread};
use std::cell::UnsafeCell;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Every result of `body`, over all schedules.
fn outcomes<T: Ord + Send + 'static>(body: impl Fn() -> T + Send + Sync + 'static) -> (BTreeSet<T>, usize) {
    let seen = std::sync::Arc::new(Mutex::new(BTreeSet::new()));
    let inside = seen.clone();
    let schedules = Runner::new(DfsScheduler::new(None, false), Config::new()).run(move || {
        let result = body();
        inside.lock().unwrap().insert(result);
    });
    (std::mem::take(&mut *seen.lock().unwrap()), schedules)
}

/// Every access is sequentially consistent, whatever it says: relaxed stores are seen at once. No evidence
/// for an ordering.
#[test]
fn every_access_is_sequentially_consistent() {
    let (seen, schedules) = outcomes(|| {
        let words = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let theirs = words.clone();
        let other = thread::spawn(move || {
            theirs.1.store(1, Relaxed);
            theirs.0.load(Relaxed)
        });
        words.0.store(1, Relaxed);
        let own = words.1.load(Relaxed);
        (own, other.join().unwrap())
    });
    println!("{schedules} schedules: {seen:?}");
    assert_eq!(seen, BTreeSet::from([(0, 1), (1, 0), (1, 1)]));
}

struct Payload(UnsafeCell<u64>);
// SAFETY: a lie, and the subject: nobody notices. (All of shuttle's threads run on one thread of the system,
// one at a time.)
unsafe impl Sync for Payload {}
// SAFETY: as above.
unsafe impl Send for Payload {}

/// Two threads write one plain cell without any order between them, and nothing is reported. (The crate's
/// models mark payload as in use across a yield.)
#[test]
fn races_on_plain_memory_are_not_reported() {
    let (seen, schedules) = outcomes(|| {
        let cell = Arc::new(Payload(UnsafeCell::new(0)));
        let theirs = cell.clone();
        // SAFETY: none in truth; see above.
        let other = thread::spawn(move || unsafe { *theirs.0.get() += 1 });
        thread::yield_now();
        // SAFETY: as above.
        unsafe { *cell.0.get() += 1 };
        other.join().unwrap();
        // SAFETY: the other has been joined.
        unsafe { *cell.0.get() }
    });
    println!("{schedules} schedules");
    assert_eq!(seen, BTreeSet::from([2]));
}
