//! What is slower than with the system's allocator, by time: the figures of `papers/limits.md`.
//!
//! `cargo test --release -p verification --test bounded slower -- --ignored --nocapture`

use crate::common::MIB;
use atomic_matrix::handlers::Handler;
use atomic_matrix::segment::Options;
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::time::Instant;

/// Best and median of eleven times, in nanoseconds for each of so many.
fn times(each: usize, mut operation: impl FnMut()) -> [f64; 2] {
    operation();
    let mut all = [0.0; 11];
    for time in &mut all {
        let begun = Instant::now();
        operation();
        *time = begun.elapsed().as_nanos() as f64 / each as f64;
    }
    all.sort_by(f64::total_cmp);
    [all[0], all[5]]
}

fn bytes(size: usize) -> Layout {
    Layout::from_size_align(size, 16).expect("a layout")
}

/// So many blocks are allocated, and then all are freed, in their order.
fn fill_and_clear(handler: &Handler, blocks: usize, size: usize) -> [[f64; 2]; 2] {
    let ours = times(blocks, || {
        let all: Vec<_> = (0..blocks).map(|_| handler.allocate_raw(size).expect("room")).collect();
        all.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
    });
    let theirs = times(blocks, || {
        // SAFETY: of a size that isn't nought; each is given back once, with the layout that it was asked for with.
        let all: Vec<_> = (0..blocks).map(|_| black_box(unsafe { System.alloc(bytes(size)) })).collect();
        // SAFETY: each is live, and given back once, with its layout.
        all.into_iter().for_each(|block| unsafe { System.dealloc(block, bytes(size)) });
    });
    [ours, theirs]
}

/// A thread starts, allocates and frees one block, and ends, beside so many live ones.
fn short_threads(handler: &Handler, live: usize) -> [[f64; 2]; 2] {
    let all: Vec<_> = (0..live).map(|_| handler.allocate_raw(64).expect("room")).collect();
    let threads = |operation: &(dyn Fn() + Sync)| {
        times(20, || (0..20).for_each(|_| std::thread::scope(|scope| drop(scope.spawn(operation)))))
    };
    let ours = threads(&|| handler.free_raw(handler.allocate_raw(64).expect("room")).expect("live"));
    // SAFETY: allocated with this layout, and given back once.
    let theirs = threads(&|| unsafe { System.dealloc(black_box(System.alloc(bytes(64))), bytes(64)) });
    all.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
    [ours, theirs]
}

/// A block grows from 64 bytes to 1 MiB, each time twice as large, alone in its segment.
fn grow(handler: &Handler) -> [[f64; 2]; 2] {
    let sizes = || (7..=20).map(|shift| 1_usize << shift);
    let ours = times(14, || {
        let mut block = handler.allocate_raw(64).expect("room");
        sizes().for_each(|size| block = handler.resize(block, bytes(size)).expect("room"));
        handler.free_raw(block).expect("live");
    });
    let theirs = times(14, || {
        // SAFETY: a size that isn't nought.
        let (mut size, mut block) = (64, unsafe { System.alloc(bytes(64)) });
        for next in sizes() {
            // SAFETY: it is live and has that size.
            block = black_box(unsafe { System.realloc(block, bytes(size), next) });
            size = next;
        }
        // SAFETY: it is live and has that size.
        unsafe { System.dealloc(block, bytes(size)) };
    });
    [ours, theirs]
}

#[test]
#[ignore = "by hand, in release: it measures"]
fn slower_than_the_systems_allocator() {
    let handler = Options::new().memfd().size(256 * MIB).create().expect("a segment");
    let print = |name: &str, [ours, theirs]: [[f64; 2]; 2]| {
        let ratio = ours[0] / theirs[0];
        println!(
            "{name}: {:.0} ({:.0}) ns, System {:.0} ({:.0}): {ratio:.1} ×",
            ours[0], ours[1], theirs[0], theirs[1]
        );
    };
    for (blocks, size) in [(200, 64), (2_000, 64), (20_000, 64), (100_000, 64), (20_000, 512)] {
        let times = fill_and_clear(&handler, blocks, size);
        print(&format!("{blocks} blocks of {size} bytes, all allocated, then all freed"), times);
    }
    for live in [0, 200_000] {
        print(&format!("a thread of one block beside {live}"), short_threads(&handler, live));
    }
    print("a step of growth, 64 bytes to 1 MiB", grow(&handler));
}
