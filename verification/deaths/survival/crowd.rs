//! A process with many threads is killed: they are recovered in one walk, by whoever needs it first, and
//! others are served meanwhile.
//!
//! `MATRIX_DEAD_THREADS` (default 40) and `MATRIX_DEAD_MIB` (default 32) set how many there are, and how much
//! they hold in small blocks: `MATRIX_DEAD_THREADS=1000 MATRIX_DEAD_MIB=4096 cargo test --release -p
//! verification --test survival crowd -- --nocapture`.

use crate::common::{MIB, Scratch, rest_is_one_block, setting};
use crate::support::{argument, child};
use crate::told;
use atomic_matrix::Error;
use atomic_matrix::matrix::core::AtomicMatrix;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of a block.
const BLOCK: usize = 80;
/// What a survivor has, whatever the dead hold: so much is enough for its work.
const OWN: usize = 100;

fn threads() -> u64 {
    setting("MATRIX_DEAD_THREADS", 40)
}

#[test]
fn a_crowd_of_the_dead_is_recovered_in_one_walk() {
    let scratch = Scratch::new();
    let size = setting("MATRIX_DEAD_MIB", 32) as usize * MIB;
    let handler = scratch.options().size(size).participants(threads() as usize + 20).create().expect("created");
    let survivor = scratch.attach();
    let own: Vec<_> = (0..OWN).map(|_| survivor.allocate_raw(BLOCK).expect("room")).collect();
    let mut crowd = child("crowd::of_threads", &scratch.0.to_string());
    let blocks = told(&mut crowd, "BLOCKS");
    assert!(matches!(survivor.allocate_raw(BLOCK * 64), Err(Error::OutOfMemory { .. })), "they have everything");
    crowd.kill().expect("SIGKILL");
    crowd.wait().expect("a child");
    let done = AtomicBool::new(false);
    let block = std::thread::scope(|scope| {
        // Another works on with what it has, and asks for more.
        let beside = scope.spawn(|| {
            let (mut longest, mut served) = (Duration::ZERO, 0);
            while !done.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let block = survivor.allocate_raw(BLOCK).expect("L2: what the dead hold is free memory");
                longest = longest.max(begun.elapsed());
                survivor.free_raw(block).expect("live");
                served += 1;
            }
            (longest, served)
        });
        // So do threads that have never called before: each takes a slot.
        let newcomers = scope.spawn(|| {
            let (mut longest, mut came) = (Duration::ZERO, 0);
            while !done.load(Ordering::Relaxed) {
                let first = || {
                    let begun = Instant::now();
                    let block = survivor.allocate_raw(BLOCK).expect("L2: what the dead hold is free memory");
                    let took = begun.elapsed();
                    survivor.free_raw(block).expect("live");
                    took
                };
                let took = std::thread::scope(|one| one.spawn(first).join().expect("served"));
                longest = longest.max(took);
                came += 1;
            }
            (longest, came)
        });
        let begun = Instant::now();
        let block = handler.allocate_raw(BLOCK).expect("L2: what the dead hold is free memory");
        let first = begun.elapsed();
        handler.reap().expect("a slot");
        let all = begun.elapsed();
        done.store(true, Ordering::Relaxed);
        let (longest, served) = beside.join().expect("served");
        let (longest_first, came) = newcomers.join().expect("served");
        println!(
            "{} threads died with {blocks} blocks: the first allocation took {first:.1?}, all were recovered \
                after {all:.1?}; \
             beside it {served} allocations, the longest {longest:.1?}, and {came} threads' first ones, the \
                longest {longest_first:.1?}",
            threads()
        );
        block
    });
    own.into_iter().chain([block]).for_each(|block| survivor.free_raw(block).expect("live"));
    drop(survivor);
    assert!(handler.participants().iter().all(|p| p.alive));
    rest_is_one_block(&handler);
}

#[test]
#[ignore = "a role: fills the segment by many threads, and waits to be killed"]
fn of_threads() {
    let Some(id) = argument() else { return };
    let handler = AtomicMatrix::attach(id.parse().expect("an id")).expect("attached");
    let filled = std::sync::Barrier::new(threads() as usize + 1);
    let share = handler.stats().expect("sound").sector_bytes / threads() / 96;
    let fills = |all: bool| {
        // Each has its share, and what is left then.
        let mut held = 0;
        while (all || held < share) && handler.allocate_raw(BLOCK).is_ok() {
            held += 1;
        }
        held
    };
    std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..threads())
            .map(|_| {
                scope.spawn(|| {
                    let held = fills(false);
                    filled.wait();
                    held
                })
            })
            .collect();
        filled.wait();
        let held: u64 = crowd.into_iter().map(|thread| thread.join().expect("it fills")).sum();
        println!("\nBLOCKS {}", held + fills(true));
        std::thread::sleep(Duration::from_secs(600));
    });
}
