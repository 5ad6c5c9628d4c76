//! Bounded work (L4): shared accesses of each operation, counted on real segments, against the segment's size
//! and the number of blocks in it.
//!
//! The ordinary test measures a few cells and asserts that they are flat. All of them, up to 16 GiB and a
//! million blocks, with the table in `papers/data/bounded-work.csv` and the plot in
//! `papers/figures/bounded-work.svg`, and the same for sizes, fill and alignment (`bounded-asked`):
//!
//! `MATRIX_BOUNDED=all cargo test --release --test bounded -- --nocapture`
//!
//! The segments are sparse files in `/dev/shm`: 16 GiB are mapped, but only the pages that are touched exist
//! (payloads are not touched). A million blocks and holes take about 300 MB of headers and hints.
#![allow(missing_docs)]

mod asked;
#[path = "../../support/common.rs"]
mod common;
mod homes;
mod messages;
mod plot;
mod times;

use atomic_matrix::backend::decorators::{Counts, Probe, ProbeWord};
use atomic_matrix::backend::{Native, NativeWord};
use atomic_matrix::matrix::heap::{Heap, Kind, Live, ThreadCache};
use atomic_matrix::segment::Segment;
use atomic_matrix::segment::layout::{Granule, Layout};
use atomic_matrix::segment::region::{Region, WordIndex};
use common::{MIB, Rng, Scratch};
use std::fmt::Write;

/// A segment whose accesses are counted.
struct Counted(Segment);

impl Region for Counted {
    type Backend = Probe<Native>;
    fn layout(&self) -> &Layout {
        Region::layout(&self.0)
    }
    fn word(&self, index: WordIndex) -> &ProbeWord<NativeWord> {
        let word: *const NativeWord = Region::word(&self.0, index);
        // SAFETY: a reference to the segment's word, cast to a type that is `repr(transparent)` over it and
        // only counts.
        unsafe { &*word.cast() }
    }
    fn touch(&self, _: Granule, _: u32) {}
}

/// Accesses of one operation, over all its samples.
#[derive(Clone, Debug)]
struct Cell {
    operation: &'static str,
    segment: usize,
    /// Live blocks, and as many holes between them.
    blocks: usize,
    samples: Vec<u64>,
}

impl Cell {
    fn mean(&self) -> f64 {
        self.samples.iter().sum::<u64>() as f64 / self.samples.len() as f64
    }
    fn quantile(&self, q: f64) -> u64 {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        sorted[((sorted.len() - 1) as f64 * q).round() as usize]
    }
}

const SAMPLES: usize = 4000;
/// Blocks between the holes have 1 to 20 granules of 64 bytes, and so have the holes.
const LARGEST: usize = 20;

/// What is measured: its name, whether freed blocks are parked, granules (up to), alignment in granules.
const OPERATIONS: [(&str, &str, usize, u32, u32); 4] = [
    ("allocate, parked", "free, parked", 30, 30, 1),
    ("allocate, strict", "free, strict", 0, 40, 1),
    ("allocate, aligned", "free, aligned", 0, 4, 16),
    ("allocate, large", "free, large", 0, 2000, 1),
];

/// Whether so many blocks and holes fit with room to spare; three quarters of a segment are its sector, about.
fn fits(segment: usize, blocks: usize) -> bool {
    blocks * 2 * (LARGEST / 2 + 1) * 64 + 2000 * 64 * 2 <= segment / 4 * 3
}

fn measure(segment: usize, blocks: usize) -> Vec<Cell> {
    let scratch = Scratch::new();
    drop(scratch.options().size(segment).reserve(false).create().expect("a sparse file"));
    let heap = Heap::new(Counted(scratch.options().attach_segment().expect("it is there")));
    let mut cells = vec![];
    let mut random = Rng(blocks as u64);
    let mut filler = ThreadCache::with_ceiling(1, 0);
    let mut allocate = |size: u32| heap.allocate(&mut filler, size, 1, Kind::Raw).expect("it fits");
    // One more than holes, so that nothing merges.
    let filled: Vec<Live> = (0..2 * blocks + 1).map(|_| allocate(1 + random.below(LARGEST) as u32)).collect();
    for hole in filled.iter().skip(1).step_by(2) {
        heap.free(&mut filler, hole.at, None).expect("it is live");
    }
    for (allocation, free, ceiling, most, align) in OPERATIONS {
        let mut cache = ThreadCache::with_ceiling(2, ceiling);
        let (mut allocations, mut frees) = (vec![], vec![]);
        for _ in 0..SAMPLES {
            let size = 1 + random.below(most as usize) as u32;
            Counts::reset();
            let block = heap.allocate(&mut cache, size, align, Kind::Raw).expect("it fits");
            allocations.push(Counts::get().accesses());
            Counts::reset();
            heap.free(&mut cache, block.at, None).expect("it is live");
            frees.push(Counts::get().accesses());
        }
        heap.parking().flush(&mut cache);
        cells.push(Cell { operation: allocation, segment, blocks, samples: allocations });
        cells.push(Cell { operation: free, segment, blocks, samples: frees });
    }
    cells
}

/// Prints a table of means and most, in lines of `operation, segment, blocks`.
fn csv(cells: &[Cell]) -> String {
    let mut text =
        String::from("operation;segment_bytes;live_blocks;holes;samples;mean_accesses;p99_accesses;most_accesses\n");
    for cell in cells {
        let Cell { operation, segment, blocks, samples } = cell;
        let (mean, p99, most) = (cell.mean(), cell.quantile(0.99), cell.quantile(1.0));
        let live = blocks + 1;
        let _ = writeln!(text, "{operation};{segment};{live};{blocks};{};{mean:.2};{p99};{most}", samples.len());
    }
    text
}

fn measure_all(segments: &[usize], blocks: &[usize]) -> Vec<Cell> {
    let grid = segments.iter().flat_map(|&segment| blocks.iter().map(move |&blocks| (segment, blocks)));
    let cells: Vec<_> = grid.filter(|&(s, b)| fits(s, b)).flat_map(|(s, b)| measure(s, b)).collect();
    print!("{}", csv(&cells));
    cells
}

/// The mean of every operation is bounded by what the smallest cell has, whatever grows. A single one may
/// clear many old hints, which others have paid for.
fn assert_flat(cells: &[Cell]) {
    for cell in cells {
        let of_same = cells.iter().filter(|other| other.operation == cell.operation);
        let least = of_same.min_by_key(|other| (other.segment, other.blocks)).expect("itself");
        let bound = 1.5 * least.mean() + 15.0;
        assert!(
            cell.mean() <= bound,
            "L4: {}: {} accesses, where the smallest has {}: {cell:?}",
            cell.operation,
            cell.mean(),
            least.mean()
        );
        assert!(cell.quantile(1.0) < 5000, "L4: {} in one {}", cell.quantile(1.0), cell.operation);
    }
}

#[test]
fn bounded_l4_accesses_grow_neither_with_the_segment_nor_with_its_blocks() {
    if std::env::var("MATRIX_BOUNDED").is_err() {
        return assert_flat(&measure_all(&[MIB, 64 * MIB, 1024 * MIB], &[1, 100, 10_000]));
    }
    const GIB: usize = 1 << 30;
    let segments = [MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, GIB, 4 * GIB, 16 * GIB];
    let cells = measure_all(&segments, &[1, 10, 100, 1000, 10_000, 100_000, 1_000_000]);
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../papers/data/bounded-work.csv"), csv(&cells))
        .expect("written");
    plot::draw(&cells, concat!(env!("CARGO_MANIFEST_DIR"), "/../papers/figures/bounded-work.svg"));
    assert_flat(&cells);
}
