//! How quiet the machine was while something was measured.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Around one section.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Noise {
    pub(crate) section: String,
    /// Median time for a word to go from one core to the other and back.
    pub(crate) round_trip_before_ns: f64,
    pub(crate) round_trip_after_ns: f64,
    /// Processor time that other programs used, as a share of all cores' time.
    pub(crate) others: f64,
    /// Time that the hypervisor gave to other guests.
    pub(crate) stolen: f64,
    pub(crate) seconds: f64,
}

/// Ticks since the machine started: all, spent by programs, stolen; and those of this process and its ended children.
#[derive(Debug, Clone, Copy)]
struct Ticks {
    all: u64,
    busy: u64,
    stolen: u64,
    own: u64,
}

fn ticks() -> Option<Ticks> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().next()?;
    let fields: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    let &[user, nice, system, idle, waiting, interrupts, soft, stolen] = fields.as_slice() else { return None };
    let busy = user + nice + system + interrupts + soft;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let after = stat.rsplit_once(')')?.1; // The name may hold spaces.
    // utime, stime, cutime, cstime are the fields 14 to 17; the first one here is the third.
    let own = after.split_whitespace().skip(11).take(4).filter_map(|word| word.parse::<u64>().ok()).sum();
    Some(Ticks { all: busy + idle + waiting + stolen, busy, stolen, own })
}

/// A section being measured.
pub(crate) struct Section {
    name: String,
    trip: f64,
    ticks: Option<Ticks>,
    started: Instant,
}

impl Section {
    pub(crate) fn begin(name: String) -> Self {
        Self { name, trip: round_trip(), ticks: ticks(), started: Instant::now() }
    }
    pub(crate) fn end(self) -> Noise {
        let (mut others, mut stolen) = (f64::NAN, f64::NAN);
        if let (Some(before), Some(after)) = (self.ticks, ticks()) {
            let all = (after.all - before.all).max(1) as f64;
            let own = after.own.saturating_sub(before.own);
            others = (after.busy - before.busy).saturating_sub(own) as f64 / all;
            stolen = (after.stolen - before.stolen) as f64 / all;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        Noise {
            section: self.name,
            round_trip_before_ns: self.trip,
            round_trip_after_ns: round_trip(),
            others,
            stolen,
            seconds,
        }
    }
}

fn pin(core: usize) {
    let mut own = CpuSet::new();
    own.set(core);
    let _ = sched_setaffinity(None, &own); // The figure tells if it was in vain.
}

/// The median round trip between two cores, in nanoseconds, from batches of 100; NaN on one core.
pub(crate) fn round_trip() -> f64 {
    const BATCH: u32 = 100;
    const TIME: Duration = Duration::from_millis(20);
    #[repr(align(128))]
    struct Line(AtomicU32);
    let Ok(allowed) = sched_getaffinity(None) else { return f64::NAN };
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    let (Some(here), Some(there)) = (cores.next(), cores.next()) else { return f64::NAN };
    let (ping, pong) = (Line(AtomicU32::new(0)), Line(AtomicU32::new(0)));
    let wait = |word: &AtomicU32, value: u32| {
        let mut looks = 0u32;
        while word.load(Ordering::Acquire) < value {
            std::hint::spin_loop();
            looks += 1;
            if looks > 100_000 {
                std::thread::yield_now(); // The other side does not have its core.
            }
        }
    };
    let mut batches = vec![];
    std::thread::scope(|scope| {
        let answer = || {
            pin(there);
            for next in 1.. {
                wait(&ping.0, next);
                if ping.0.load(Ordering::Acquire) == u32::MAX {
                    break;
                }
                pong.0.store(next, Ordering::Release);
            }
        };
        let ask = || {
            pin(here);
            let end = Instant::now() + TIME;
            let mut next = 0;
            while Instant::now() < end {
                let start = Instant::now();
                for _ in 0..BATCH {
                    next += 1;
                    ping.0.store(next, Ordering::Release);
                    wait(&pong.0, next);
                }
                batches.push(start.elapsed().as_nanos() as f64 / BATCH as f64);
            }
            ping.0.store(u32::MAX, Ordering::Release);
        };
        scope.spawn(answer);
        scope.spawn(ask);
    });
    batches.sort_by(f64::total_cmp);
    batches.get(batches.len() / 2).copied().unwrap_or(f64::NAN)
}
