//! Locks, events, semaphores and barriers: what is refused, bounded waits, and what a death does.

use crate::common;
use atomic_matrix::Error;
use atomic_matrix::segment::Options;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(60);

atomic_matrix::shared! {
    #[repr(align(256))]
    struct Wide { bytes: [u8; 256] }
}

#[test]
fn locks_say_why_they_refuse() {
    let handler = Options::new().memfd().size(1 << 20).create().expect("a memory file");
    assert!(matches!(handler.mutex::<Wide>("wide"), Err(Error::BadAlignment { .. })));
    assert!(matches!(handler.mutex::<[u64; (1 << 20) + 1]>("large"), Err(Error::TooLarge { .. })));
    let mutex = handler.mutex::<u64>("counter").expect("there is room");
    assert!(matches!(handler.mutex::<i64>("counter"), Err(Error::TypeMismatch { .. })));
    assert!(matches!(handler.event("counter"), Err(Error::TypeMismatch { .. })));
    assert!(matches!(handler.semaphore("counter", 1), Err(Error::TypeMismatch { .. })));
    assert!(matches!(handler.barrier("counter", 1), Err(Error::TypeMismatch { .. })));
    let guard = mutex.lock(LONG).expect("it is ours to lock").expect("it is free");
    assert!(matches!(mutex.lock(LONG), Err(Error::LockedByCaller)));
    assert!(matches!(mutex.try_lock(), Err(Error::LockedByCaller)));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(mutex.try_lock().expect("a participant").is_none());
            assert!(mutex.lock(SHORT).expect("a participant").is_none(), "its holder lives");
        });
    });
    drop(guard);
    // One at a time, whoever it is.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    *mutex.lock(LONG).expect("a participant").expect("nobody keeps it") += 1;
                }
            });
        }
    });
    assert_eq!(mutex.try_lock().expect("a participant").map(|count| *count), Some(8000));
    mutex.remove().expect("it is ours");
}

#[test]
fn a_lock_passes_from_the_dead() {
    let (scratch, handler) = common::segment();
    let mutex = handler.mutex::<[u64; 3]>("state").expect("there is room");
    let other = scratch.attach();
    let theirs = other.mutex::<[u64; 3]>("state").expect("it is there");
    let mut guard = theirs.lock(LONG).expect("a participant").expect("it is free");
    guard[0] = 7;
    std::mem::forget(guard);
    assert!(mutex.lock(SHORT).expect("a participant").is_none(), "its holder lives");
    std::mem::forget(theirs);
    // SAFETY: nothing is done through this attachment any more.
    unsafe { other.matrix().segment().end_life() };
    std::mem::forget(other);
    let mut guard = mutex.lock(LONG).expect("a participant").expect("a nap later it is found dead");
    assert!(guard.is_poisoned() && *guard == [7, 0, 0]);
    drop(guard);
    guard = mutex.lock(LONG).expect("a participant").expect("it is free");
    assert!(guard.is_poisoned(), "until it is cured");
    guard.cure().expect("it is ours");
    drop(guard);
    let panicked = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let _guard = mutex.lock(LONG).expect("a participant").expect("it is free");
                std::panic::resume_unwind(Box::new(()));
            })
            .join()
    });
    assert!(panicked.is_err() && mutex.try_lock().expect("a participant").is_some_and(|guard| guard.is_poisoned()));
}

#[test]
fn events_semaphores_and_barriers_wait_with_a_bound() {
    let (scratch, handler) = common::segment();
    let other = scratch.attach();
    let (event, theirs) = (handler.event("ready").expect("there is room"), other.event("ready").expect("it is there"));
    let ours = |told: Result<bool, Error>| told.expect("it is ours to use");
    assert!(!ours(event.is_set()) && !ours(event.wait(SHORT)) && !ours(event.clear()));
    theirs.set().expect("it is ours to use");
    assert!(ours(event.is_set()) && ours(event.wait(SHORT)));
    assert!(ours(event.wait_and_clear(SHORT)) && !ours(event.wait_and_clear(SHORT)));
    let semaphore = handler.semaphore("permits", 2).expect("there is room");
    let theirs = other.semaphore("permits", 9).expect("it is there");
    assert!(ours(theirs.try_take()) && ours(theirs.take(SHORT)));
    assert!(!ours(semaphore.try_take()) && !ours(semaphore.take(SHORT)));
    let barrier = handler.barrier("meeting", 3).expect("there is room");
    let meet = |timeout| barrier.meet(timeout).expect("it is ours to use");
    assert_eq!(meet(SHORT), None);
    let leaders: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    assert!(ours(event.wait(LONG)) && ours(semaphore.take(LONG)));
                    usize::from(meet(LONG).expect("all come")) + usize::from(meet(LONG).expect("all come"))
                })
            })
            .collect();
        event.set().expect("it is ours to use");
        theirs.give(3).expect("it is ours to use");
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!((leaders, semaphore.available().expect("it is ours to use")), (2, 0));
    event.remove().expect("it is ours");
    semaphore.remove().expect("it is ours");
    barrier.remove().expect("it is ours");
    assert!(handler.names().is_empty());
    drop((event, semaphore, barrier, theirs));
    assert!(handler.stats().expect("they tile").live_blocks <= 1, "but for an event that another has open");
}
