//! How long single operations take, under workload A at two threads: every operation timed by the processor's
//! time stamp counter, and the cost of the two time stamps subtracted.

use crate::support::Outcome;
use crate::support::peers::{Matrix, Nothing, Peer, Spin, Talc, malloc};
use crate::support::registry::{HARNESS, MALLOC, MATRIX, TALC};
use crate::support::work::Random;
use crate::support::{ARENA, Arena};
use hdrhistogram::Histogram;
use quanta::Clock;
use serde::{Deserialize, Serialize};
use std::sync::Barrier;
use std::time::{Duration, Instant};

pub(crate) const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 100.0];
const LIVE: usize = 200;

/// One percentile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) peer: String,
    pub(crate) operation: String,
    pub(crate) percentile: f64,
    /// With the time stamps' cost subtracted.
    pub(crate) ns: f64,
    /// As measured.
    pub(crate) raw_ns: f64,
    pub(crate) time_stamps_ns: f64,
    /// The shortest time that the counter shows at all: nothing shorter can be told from 0.
    pub(crate) step_ns: f64,
    /// Of all samples of this operation, less the time stamps' mean cost: finer than a step, but with every
    /// interruption in it.
    pub(crate) mean_ns: f64,
    pub(crate) samples: u64,
}

/// Time stamps in nanoseconds, with fractions.
struct Stamps {
    clock: Clock,
    /// Nanoseconds for a tick.
    tick: f64,
    /// Ticks between two time stamps with nothing between them: the median.
    cost: u64,
    /// The same: the mean of all but the slowest hundredth.
    mean_cost: f64,
    /// The shortest time between two stamps that the counter shows at all.
    step: u64,
}

impl Stamps {
    fn calibrate() -> Self {
        let clock = Clock::new();
        let (start, ticks) = (Instant::now(), clock.raw());
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let tick = start.elapsed().as_nanos() as f64 / (clock.raw() - ticks) as f64;
        let mut costs: Vec<u64> = (0..100_001)
            .map(|_| {
                let before = clock.raw();
                clock.raw() - before
            })
            .collect();
        costs.sort_unstable();
        let usual = &costs[..costs.len() / 100 * 99];
        let mean_cost = usual.iter().sum::<u64>() as f64 / usual.len() as f64;
        // A scaled counter wavers by a tick around each step: what is far below the usual cost is no step.
        let step = costs.iter().copied().find(|&cost| cost > 0 && 2 * cost >= costs[costs.len() / 2]).unwrap_or(1);
        Self { clock, tick, cost: costs[costs.len() / 2], mean_cost, step }
    }
}

type Histograms = [Histogram<u64>; 2];

fn empty() -> Outcome<Histograms> {
    // Up to about ten seconds of ticks; longer ones count as that.
    let make = || Histogram::<u64>::new_with_bounds(1, 1 << 35, 3);
    Ok([make()?, make()?])
}

/// Workload A on one thread, timed.
fn worker<P: Peer>(peer: &P, stamps: &Stamps, end: Duration, number: u64, into: &mut Histograms, start: &Barrier) {
    let mut random = Random::new(number + 1);
    let mut live: Vec<(P::Block, usize)> = Vec::with_capacity(LIVE);
    peer.enter();
    if let Some(block) = peer.allocate(64) {
        peer.free(block, 64); // A thread's first operation is not the subject.
    }
    start.wait();
    let begun = Instant::now();
    let mut operations = 0;
    while begun.elapsed() < end {
        for _ in 0..256 {
            operations += 1;
            if live.len() < LIVE && random.below(10) < 7 {
                let size = random.size();
                let before = stamps.clock.raw();
                let block = peer.allocate(size);
                let ticks = stamps.clock.raw() - before;
                let Some(mut block) = block else { continue };
                into[0].saturating_record(ticks.max(1));
                peer.touch(&mut block, operations);
                live.push((block, size));
            } else if !live.is_empty() {
                let (block, size) = live.swap_remove(random.below(live.len() as u64) as usize);
                let before = stamps.clock.raw();
                peer.free(block, size);
                let ticks = stamps.clock.raw() - before;
                into[1].saturating_record(ticks.max(1));
            }
        }
    }
    for (block, size) in live {
        peer.free(block, size);
    }
}

fn measure<P: Peer>(name: &str, peer: &P, threads: usize, seconds: f64) -> Outcome<Vec<Point>> {
    let stamps = &Stamps::calibrate();
    let mut all: Vec<Histograms> = (0..threads).map(|_| empty()).collect::<Outcome<_>>()?;
    let start = &Barrier::new(threads);
    let time = Duration::from_secs_f64(seconds);
    std::thread::scope(|scope| {
        for (number, histograms) in all.iter_mut().enumerate() {
            scope.spawn(move || worker(peer, stamps, time, number as u64, histograms, start));
        }
    });
    let mut sum = empty()?;
    for histograms in all {
        for (sum, histogram) in sum.iter_mut().zip(histograms) {
            sum.add(histogram)?;
        }
    }
    let mut points = vec![];
    for (operation, histogram) in ["allocate", "free"].into_iter().zip(sum) {
        for percentile in PERCENTILES {
            let ticks = histogram.value_at_percentile(percentile);
            points.push(Point {
                peer: name.to_owned(),
                operation: operation.to_owned(),
                percentile,
                ns: ticks.saturating_sub(stamps.cost) as f64 * stamps.tick,
                raw_ns: ticks as f64 * stamps.tick,
                time_stamps_ns: stamps.cost as f64 * stamps.tick,
                step_ns: stamps.step as f64 * stamps.tick,
                mean_ns: (histogram.mean() - stamps.mean_cost) * stamps.tick,
                samples: histogram.len(),
            });
        }
    }
    Ok(points)
}

/// Percentiles of every peer, one after the other.
pub(crate) fn all(seconds: f64, mut tick: impl FnMut(&str)) -> Outcome<Vec<Point>> {
    const THREADS: usize = 2;
    let mut points = vec![];
    tick(HARNESS);
    points.extend(measure(HARNESS, &Nothing, THREADS, seconds)?);
    tick(MATRIX);
    points.extend(measure(MATRIX, &Matrix::create(ARENA, false)?.hide()?, THREADS, seconds)?);
    tick(TALC);
    points.extend(measure(TALC, &Talc::<Spin>::create(Arena::SMALL)?, THREADS, seconds)?);
    tick(MALLOC);
    points.extend(measure(MALLOC, &malloc(), THREADS, seconds)?);
    Ok(points)
}
