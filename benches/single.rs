//! Single operations of one thread, by criterion.
//!
//! ```console
//! cargo bench --bench single
//! cargo bench --bench single -- allocate
//! ```

use atomic_matrix::handlers::{Handler, HandlerFunctions};
use atomic_matrix::matrix::core::AtomicMatrix;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use std::alloc::Layout;
use std::hint::black_box;
use std::time::Duration;

/// A segment without a name: nobody else attaches, and nothing stays behind.
fn segment(strict: bool) -> Handler {
    let handler =
        AtomicMatrix::options().size(64 << 20).strict(strict).populate(true).create().expect("64 MiB in /dev/shm");
    handler.unlink().expect("its name is ours");
    handler
}

fn pairs(c: &mut Criterion) {
    for (mode, strict) in [("parked", false), ("strict", true)] {
        let handler = segment(strict);
        let mut group = c.benchmark_group(format!("allocate and free, {mode}"));
        for size in [16, 64, 128, 256, 544, 1024, 4096, 65536, 1 << 20] {
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| {
                    let block = handler.allocate_raw(black_box(size)).expect("room");
                    handler.free_raw(black_box(block)).expect("live");
                });
            });
        }
    }
}

/// Each on its own: 1000 allocations, then 1000 frees, timed apart.
fn halves(c: &mut Criterion) {
    const MANY: u32 = 1000;
    let handler = segment(false);
    let mut group = c.benchmark_group("one of 1000 in a row");
    for size in [64, 544, 4096] {
        group.bench_function(BenchmarkId::new("allocate", size), |b| {
            b.iter_custom(|rounds| {
                halve(rounds, MANY, || {
                    let start = std::time::Instant::now();
                    let blocks: Vec<_> = (0..MANY).map(|_| handler.allocate_raw(size).expect("room")).collect();
                    let time = start.elapsed();
                    blocks.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
                    time
                })
            });
        });
        group.bench_function(BenchmarkId::new("free", size), |b| {
            b.iter_custom(|rounds| {
                halve(rounds, MANY, || {
                    let blocks: Vec<_> = (0..MANY).map(|_| handler.allocate_raw(size).expect("room")).collect();
                    let start = std::time::Instant::now();
                    blocks.into_iter().for_each(|block| handler.free_raw(block).expect("live"));
                    start.elapsed()
                })
            });
        });
    }
}

/// The time of so many operations, from as many passes of `many` each as it takes.
fn halve(rounds: u64, many: u32, mut pass: impl FnMut() -> Duration) -> Duration {
    let passes = rounds.div_ceil(many as u64);
    let time: Duration = (0..passes).map(|_| pass()).sum();
    Duration::from_secs_f64(time.as_secs_f64() * rounds as f64 / (passes * many as u64) as f64)
}

fn aligned(c: &mut Criterion) {
    let handler = segment(false);
    let mut group = c.benchmark_group("allocate and free 256 bytes, aligned");
    for align in [64, 128, 4096, 65536] {
        let layout = Layout::from_size_align(256, align).expect("a power of two");
        group.bench_function(BenchmarkId::from_parameter(align), |b| {
            b.iter(|| {
                let block = handler.allocate_layout(black_box(layout)).expect("room");
                handler.free_raw(block).expect("live");
            });
        });
    }
}

fn typed(c: &mut Criterion) {
    let handler = segment(false);
    let mut group = c.benchmark_group("typed, [u64; 16]");
    group.bench_function("allocate and free", |b| {
        b.iter(|| {
            let block = handler.allocate::<[u64; 16]>().expect("room");
            handler.free(block);
        });
    });
    let mut block = handler.allocate::<[u64; 16]>().expect("room");
    group.bench_function("store", |b| b.iter(|| handler.store(&mut block, black_box([7; 16])).expect("live")));
    group.bench_function("load", |b| b.iter(|| black_box(handler.load(&block).expect("live"))));
    let offset = block.offset();
    group.bench_function("get_block", |b| {
        b.iter(|| black_box(handler.get_block::<[u64; 16]>(black_box(offset)).expect("live")));
    });
}

fn names(c: &mut Criterion) {
    let handler = segment(false);
    let mut group = c.benchmark_group("directory");
    group.bench_function("publish and take", |b| {
        b.iter_batched(
            || handler.allocate::<u64>().expect("room"),
            |block| {
                handler.publish("orders", &block).expect("the name is free");
                handler.free(handler.take::<u64>("orders").expect("published"));
            },
            BatchSize::SmallInput,
        );
    });
    let block = handler.allocate::<u64>().expect("room");
    handler.publish("prices", &block).expect("the name is free");
    group.bench_function("lookup", |b| b.iter(|| black_box(handler.lookup::<u64>("prices").expect("published"))));
}

fn owners(c: &mut Criterion) {
    let handler = segment(false);
    let block = handler.allocate_raw(128).expect("room");
    c.bench_function("hand over and adopt", |b| {
        b.iter(|| {
            handler.hand_over(&block).expect("live");
            black_box(handler.adopt_at(block.offset(), Some(block.generation())).expect("live"));
        });
    });
}

/// Names that are removed in any case, also by a panic.
struct Named(Handler);

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.0.unlink(); // Gone already: fine.
    }
}

fn segments(c: &mut Criterion) {
    let mut group = c.benchmark_group("segment");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for mib in [1, 16] {
        let named = Named(AtomicMatrix::options().size(mib << 20).create().expect("room in /dev/shm"));
        group.bench_function(BenchmarkId::new("attach and leave, MiB", mib), |b| {
            b.iter(|| drop(AtomicMatrix::attach(named.0.id()).expect("it is there")));
        });
        group.bench_function(BenchmarkId::new("attach, allocate, free and leave, MiB", mib), |b| {
            b.iter(|| {
                let handler = AtomicMatrix::attach(named.0.id()).expect("it is there");
                let block = handler.allocate_raw(64).expect("room");
                handler.free_raw(block).expect("live");
            });
        });
        group.bench_function(BenchmarkId::new("create and remove, MiB", mib), |b| {
            b.iter(|| drop(Named(AtomicMatrix::options().size(mib << 20).create().expect("room in /dev/shm"))));
        });
    }
}

fn configured() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
}

criterion_group! { name = all; config = configured(); targets = pairs, halves, aligned, typed, names, owners, segments }
criterion_main!(all);
