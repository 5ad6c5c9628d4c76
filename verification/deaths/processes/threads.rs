//! Threads over one segment.

use crate::common::{MIB, Rng, Scratch, check, fill, pattern_seed, rest_is_one_block, setting};
use atomic_matrix::Error;
use atomic_matrix::handlers::HandlerFunctions;
use atomic_matrix::segment::Options;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

const THREADS: u64 = 8;

fn until() -> impl Fn() -> bool + Sync {
    let end = Instant::now() + Duration::from_secs(setting("MATRIX_STRESS_SECONDS", 2));
    move || Instant::now() < end
}

/// Threads fill, check and free, also each other's blocks.
fn patterns(strict: bool, granule: usize) {
    let scratch = Scratch::new();
    let handler = scratch.options().size(4 * MIB).granule(granule).strict(strict).create().expect("created");
    let (operations, checks, refusals) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let shared = std::sync::Mutex::new(vec![]);
    let going = until();
    std::thread::scope(|scope| {
        for writer in 1..=THREADS {
            let (handler, going, shared) = (handler.clone(), &going, &shared);
            let (operations, checks, refusals) = (&operations, &checks, &refusals);
            scope.spawn(move || {
                let mut rng = Rng(writer);
                let mut mine = vec![];
                let mut serial = 0;
                while going() {
                    for _ in 0..100 {
                        serial += 1;
                        match rng.below(16) {
                            0..=7 => {
                                let most = if rng.below(30) == 0 { 200_000 } else { 1500 };
                                let size = 1 + rng.below(most);
                                match handler.allocate_raw(size) {
                                    Ok(pointer) => {
                                        let usable = handler.usable_size(&pointer).expect("live");
                                        let seed = pattern_seed(writer, serial);
                                        fill(&handler, &pointer, usable, seed);
                                        mine.push((pointer, usable, seed));
                                    }
                                    Err(_) => {
                                        refusals.fetch_add(1, Relaxed);
                                        mine.drain(..mine.len() / 2).for_each(|(pointer, usable, seed)| {
                                            check(&handler, &pointer, usable, seed);
                                            handler.free_raw(pointer).expect("live");
                                        });
                                    }
                                }
                            }
                            8 if !mine.is_empty() => {
                                let block = mine.swap_remove(rng.below(mine.len()));
                                shared.lock().expect("nobody panicked").push(block);
                            }
                            9 => mine.extend(shared.lock().expect("nobody panicked").pop()),
                            _ if !mine.is_empty() => {
                                let (pointer, usable, seed) = mine.swap_remove(rng.below(mine.len()));
                                check(&handler, &pointer, usable, seed);
                                checks.fetch_add(1, Relaxed);
                                handler.free_raw(pointer).expect("live");
                            }
                            _ => {}
                        }
                    }
                    operations.fetch_add(100, Relaxed);
                }
                shared.lock().expect("nobody panicked").extend(mine);
            });
        }
    });
    for (pointer, usable, seed) in shared.into_inner().expect("nobody panicked") {
        check(&handler, &pointer, usable, seed);
        handler.free_raw(pointer).expect("live");
    }
    println!(
        "{THREADS} threads, strict {strict}, granule {granule}: {} operations, {} patterns checked, {} times \
            out of memory",
        operations.into_inner(),
        checks.into_inner(),
        refusals.into_inner()
    );
    rest_is_one_block(&handler);
}

#[test]
fn threads_keep_their_patterns_with_parking() {
    patterns(false, 64);
}

#[test]
fn threads_keep_their_patterns_in_strict_mode() {
    patterns(true, 64);
}

#[test]
fn threads_keep_their_patterns_with_small_granules() {
    patterns(false, 16);
}

/// L2: nobody is refused while nearly everything is free.
fn nearly_empty(strict: bool) {
    let scratch = Scratch::new();
    let handler = scratch.options().size(2 * MIB).strict(strict).create().expect("created");
    let allocations = AtomicU64::new(0);
    let going = until();
    std::thread::scope(|scope| {
        for seed in 1..=THREADS {
            let (handler, going, allocations) = (handler.clone(), &going, &allocations);
            scope.spawn(move || {
                let mut rng = Rng(seed);
                while going() {
                    for _ in 0..50 {
                        // Together at most 16 blocks of 8 KiB of 2 MiB, and what they hide.
                        let sizes = [1 + rng.below(8192), 1 + rng.below(2000)];
                        let blocks = sizes.map(|size| {
                            handler.allocate_raw(size).unwrap_or_else(|e| panic!("L2: {e}; {:?}", handler.stats()))
                        });
                        blocks.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
                    }
                    allocations.fetch_add(100, Relaxed);
                }
            });
        }
    });
    println!("{THREADS} threads over a nearly empty heap, strict {strict}: {allocations:?} allocations, none refused");
    rest_is_one_block(&handler);
}

#[test]
fn nobody_is_refused_in_a_nearly_empty_heap_with_parking() {
    nearly_empty(false);
}

#[test]
fn nobody_is_refused_in_a_nearly_empty_heap_in_strict_mode() {
    nearly_empty(true);
}

/// L2 where it is tight. Each thread has at most one block of a twentieth of the sector: the other seven leave at most
/// eight holes, together 13 twentieths, so one of them is large enough at every moment.
fn a_hole_is_always_found(strict: bool) {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).granule(64).strict(strict).create().expect("created");
    let largest = handler.stats().expect("sound").sector_bytes as usize / 20;
    let allocations = AtomicU64::new(0);
    let going = until();
    std::thread::scope(|scope| {
        for seed in 1..=THREADS {
            let (handler, going, allocations) = (handler.clone(), &going, &allocations);
            scope.spawn(move || {
                let mut rng = Rng(seed);
                while going() {
                    for _ in 0..100 {
                        let size = largest - rng.below(largest / 2);
                        let block = handler.allocate_raw(size);
                        let block = block.unwrap_or_else(|e| panic!("L2: {e}; {:?}", handler.stats()));
                        handler.free_raw(block).expect("live");
                    }
                    allocations.fetch_add(100, Relaxed);
                }
            });
        }
    });
    println!("{THREADS} threads, a twentieth each, strict {strict}: {allocations:?} allocations, none refused");
    rest_is_one_block(&handler);
}

#[test]
fn a_hole_is_always_found_with_parking() {
    a_hole_is_always_found(false);
}

#[test]
fn a_hole_is_always_found_in_strict_mode() {
    a_hole_is_always_found(true);
}

/// A name belongs to one publisher at a time, and whoever finds it finds the block of one that published it.
#[test]
fn names_have_one_publisher_at_a_time() {
    const NAMES: usize = 3;
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).create().expect("created");
    let holders: [AtomicU64; NAMES] = Default::default();
    let [published, taken, found] = [(); 3].map(|()| AtomicU64::new(0));
    let going = until();
    std::thread::scope(|scope| {
        for seed in 1..=THREADS {
            let handler = if seed % 2 == 0 { handler.clone() } else { scratch.attach() };
            let (holders, going, published, taken, found) = (&holders, &going, &published, &taken, &found);
            scope.spawn(move || {
                let mut rng = Rng(seed);
                while going() {
                    let i = rng.below(NAMES);
                    let name = format!("a name of more than one word, {i}");
                    if rng.below(2) == 0 {
                        match handler.lookup::<[u64; 4]>(&name) {
                            Ok(block) => {
                                // It may be freed at any moment; what was read while it was live is its publisher's.
                                if let Ok(value) = handler.load(&block)
                                    && handler.usable_size(&block.pointer()).is_ok()
                                {
                                    assert!(value[0] == i as u64 && value[1..].iter().all(|word| *word == value[1]));
                                    found.fetch_add(1, Relaxed);
                                }
                            }
                            Err(Error::NameUnknown { .. } | Error::NotLive { .. } | Error::Stale { .. }) => {}
                            Err(Error::TypeMismatch { .. }) => {}
                            Err(other) => panic!("{other}"),
                        }
                        continue;
                    }
                    let mut block = handler.allocate::<[u64; 4]>().expect("room");
                    handler.store(&mut block, [i as u64, seed, seed, seed]).expect("live");
                    match handler.publish(&name, &block) {
                        Ok(()) => {
                            assert_eq!(holders[i].swap(seed, SeqCst), 0, "published twice");
                            assert_eq!(handler.lookup::<[u64; 4]>(&name).expect("mine").pointer(), block.pointer());
                            assert_eq!(holders[i].swap(0, SeqCst), seed);
                            handler.withdraw(&name).expect("mine");
                            published.fetch_add(1, Relaxed);
                        }
                        Err(Error::NameTaken { .. }) => {
                            taken.fetch_add(1, Relaxed);
                        }
                        Err(other) => panic!("{other}"),
                    }
                    handler.free(block);
                }
            });
        }
    });
    println!("{THREADS} threads, {NAMES} names: {published:?} times published, {taken:?} times taken, {found:?} found");
    rest_is_one_block(&handler);
}

/// Threads that end give back their caches; the next ones park in the same.
#[test]
fn a_thousand_short_lived_threads_share_four_slots() {
    let scratch = Scratch::new();
    let handler = scratch.options().size(MIB).participants(4).create().expect("created");
    for round in 0..334 {
        let threads: Vec<_> = (0..3)
            .map(|i| {
                let handler = handler.clone();
                std::thread::spawn(move || {
                    let block = handler.allocate_raw(1 + (round + i) % 3000).expect("a slot and room");
                    handler.free_raw(block).expect("live");
                })
            })
            .collect();
        // Not a scope: that ends when the closures have, and a thread gives its cache back after that.
        threads.into_iter().for_each(|thread| thread.join().expect("no failure"));
    }
    rest_is_one_block(&handler);
}

/// A thread's first call beside another's search for the dead: both are of one process, whose locks do not
/// tell them apart.
#[test]
fn s1_a_thread_that_joins_is_not_taken_for_dead() {
    (0..5).for_each(|_| join_beside_searches());
}

fn join_beside_searches() {
    let handler = Options::new().memfd().size(MIB).participants(300).create().expect("memory");
    let (joined, end) = (AtomicU64::new(0), Instant::now() + Duration::from_secs(30));
    let joining = || joined.load(SeqCst) < 250 && Instant::now() < end;
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut looks = 0;
            while joining() {
                let recovered = handler.reap().expect("a slot");
                assert_eq!(recovered.participants, 0, "S1: nobody has died");
                assert!(handler.participants().iter().all(|participant| participant.alive));
                looks += 1;
            }
            looks
        });
        let (handler, joined, joining) = (&handler, &joined, &joining);
        for writer in 0..250 {
            scope.spawn(move || {
                let pointer = handler.allocate_raw(100).expect("room");
                let usable = handler.usable_size(&pointer).expect("S1: live until it is freed");
                fill(handler, &pointer, usable, pattern_seed(writer, 1));
                joined.fetch_add(1, SeqCst);
                // All keep their caches until all have one.
                while joining() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                check(handler, &pointer, usable, pattern_seed(writer, 1));
                handler.free_raw(pointer).expect("S1: live until it is freed");
            });
        }
        println!("250 threads joined beside {} searches", looks.join().expect("no search failed"));
    });
}
